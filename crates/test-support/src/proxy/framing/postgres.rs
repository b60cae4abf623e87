//! Postgres' protocol: each message has a header with its length.

/// A request to encrypt the connection, by TLS and by GSSAPI; it is answered by a byte.
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];
/// The end of another connection's query is asked for; it is not answered.
const CANCEL: u32 = 80_877_102;

/// A connection.
#[derive(Debug)]
pub(in crate::proxy) struct Postgres {
    client: Messages,
    server: Messages,
    /// The client's first messages have no type.
    starting: bool,
    /// So many of the server's next messages are a single byte.
    bytes_due: usize,
    /// Nothing is understood from here on.
    encrypted: bool,
}

/// The message that is being read.
#[derive(Debug, Default)]
struct Messages {
    header: Vec<u8>,
    /// How much of its body is to come.
    body: usize,
}

impl Messages {
    /// Takes the bytes of one message, or fewer if there are no more. Returns its header when it is complete, and how many
    /// bytes were taken.
    fn take(&mut self, bytes: &[u8], header: usize, body: fn(&[u8]) -> usize) -> Taken {
        let mut taken = 0;
        if self.header.len() < header {
            let missing = (header - self.header.len()).min(bytes.len());
            self.header.extend(&bytes[..missing]);
            taken += missing;
            if self.header.len() < header {
                return (None, taken);
            }
            self.body = body(&self.header);
        }
        let rest = self.body.min(bytes.len() - taken);
        self.body -= rest;
        taken += rest;
        if self.body == 0 {
            (Some(std::mem::take(&mut self.header)), taken)
        } else {
            (None, taken)
        }
    }
}

type Taken = (Option<Vec<u8>>, usize);

fn number_at(header: &[u8], at: usize) -> u32 {
    let bytes = header[at..at + 4].try_into().expect("a header has it");
    u32::from_be_bytes(bytes)
}

/// The size of a message whose length, which counts itself, is at `at` of a header of `size`.
fn body(header: &[u8], at: usize) -> usize {
    let length = usize::try_from(number_at(header, at)).unwrap_or(usize::MAX);
    length.saturating_sub(header.len() - at)
}

impl Postgres {
    pub(super) fn new() -> Self {
        Self {
            client: Messages::default(),
            server: Messages::default(),
            starting: true,
            bytes_due: 0,
            encrypted: false,
        }
    }

    pub(super) fn of_client(&mut self, bytes: &[u8]) -> Vec<usize> {
        self.messages(bytes, Self::client_message)
    }

    pub(super) fn of_server(&mut self, bytes: &[u8]) -> Vec<usize> {
        self.messages(bytes, Self::server_message)
    }

    fn messages(
        &mut self,
        bytes: &[u8],
        message: fn(&mut Self, &[u8]) -> (bool, usize),
    ) -> Vec<usize> {
        let mut ends = Vec::new();
        let mut at = 0;
        while at < bytes.len() && !self.encrypted {
            let (is_end, taken) = message(self, &bytes[at..]);
            at += taken;
            if is_end {
                ends.push(at);
            }
        }
        ends
    }

    /// Whether a request has ended, and how many bytes were taken.
    fn client_message(&mut self, bytes: &[u8]) -> (bool, usize) {
        if !self.starting {
            let (header, taken) = self.client.take(bytes, 5, |header| body(header, 1));
            let is_end = header.is_some_and(|header| matches!(header[0], b'Q' | b'S' | b'F'));
            return (is_end, taken);
        }
        let (header, taken) = self.client.take(bytes, 8, |header| body(header, 0));
        let Some(header) = header else {
            return (false, taken);
        };
        let code = number_at(&header, 4);
        if ENCRYPTION.contains(&code) {
            self.bytes_due += 1;
            return (false, taken);
        }
        self.starting = false;
        (code != CANCEL, taken)
    }

    fn server_message(&mut self, bytes: &[u8]) -> (bool, usize) {
        if self.bytes_due > 0 {
            self.bytes_due -= 1;
            // Anything else than a no.
            self.encrypted = bytes[0] != b'N';
            return (false, 1);
        }
        let (header, taken) = self.server.take(bytes, 5, |header| body(header, 1));
        (header.is_some_and(|header| header[0] == b'Z'), taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }

    fn untyped(code: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 8).unwrap();
        [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    }

    /// The bytes of both sides, each with the places at which a request or reply ends.
    fn conversation() -> [(Vec<u8>, Vec<usize>); 2] {
        let mut sides = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
        let mut say = |side: usize, bytes: Vec<u8>, is_end: bool| {
            let (said, ends): &mut (Vec<u8>, Vec<usize>) = &mut sides[side];
            said.extend(bytes);
            if is_end {
                ends.push(said.len());
            }
        };
        for code in ENCRYPTION {
            say(0, untyped(code, b""), false);
            say(1, b"N".to_vec(), false);
        }
        say(0, untyped(196_608, b"user\0postgres\0\0"), true);
        say(1, typed(b'R', &[0; 4]), false);
        say(0, typed(b'p', b"password\0"), false);
        // A body that looks like the end of a reply.
        say(1, typed(b'N', &typed(b'Z', b"I")), false);
        say(1, typed(b'Z', b"I"), true);
        say(0, typed(b'Q', b"SELECT 1\0"), true);
        say(1, typed(b'D', b"1"), false);
        say(1, typed(b'Z', b"I"), true);
        for kind in *b"PBDE" {
            say(0, typed(kind, &typed(b'S', b"")), false);
        }
        say(0, typed(b'S', b""), true);
        for kind in *b"12TDC" {
            say(1, typed(kind, b"text"), false);
        }
        say(1, typed(b'Z', b"T"), true);
        say(0, typed(b'X', b""), false);
        sides
    }

    #[test]
    fn requests_and_replies_end_where_they_do_however_the_bytes_are_cut() {
        let [(client, requests), (server, replies)] = conversation();
        assert_eq!((requests.len(), replies.len()), (3, 3));
        for size in (1..40).chain([client.len()]) {
            let mut framing = Postgres::new();
            let mut found = Vec::new();
            for (number, piece) in client.chunks(size).enumerate() {
                let ends = framing.of_client(piece);
                found.extend(ends.into_iter().map(|end| number * size + end));
            }
            assert_eq!(found, requests, "pieces of {size}");
            found.clear();
            for (number, piece) in server.chunks(size).enumerate() {
                let ends = framing.of_server(piece);
                found.extend(ends.into_iter().map(|end| number * size + end));
            }
            assert_eq!(found, replies, "pieces of {size}");
        }
    }

    #[test]
    fn what_is_encrypted_has_no_ends() {
        let mut framing = Postgres::new();
        assert_eq!(framing.of_client(&untyped(ENCRYPTION[0], b"")), []);
        assert_eq!(framing.of_server(b"S"), []);
        assert_eq!(framing.of_client(&typed(b'Q', b"")), []);
        assert_eq!(framing.of_server(&typed(b'Z', b"I")), []);
    }

    #[test]
    fn a_request_to_cancel_is_not_answered() {
        let mut framing = Postgres::new();
        assert_eq!(framing.of_client(&untyped(CANCEL, &[0; 8])), []);
    }
}
