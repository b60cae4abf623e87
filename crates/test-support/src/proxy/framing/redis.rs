//! Redis' protocol: each value has a first line, of a kind and a number or a text; after it come a text of that many bytes or
//! that many values.
//!
//! A value in which others are nested ends with the last of them, so it is enough to count how many are still to come,
//! however deep they are: there is no stack, and no byte of a value is kept.

/// A connection.
#[derive(Debug)]
pub(in crate::proxy) struct Redis {
    client: Values,
    server: Values,
}

impl Redis {
    pub(super) fn new() -> Self {
        Self {
            client: Values::new(Side::Client),
            server: Values::new(Side::Server),
        }
    }

    pub(super) fn of_client(&mut self, bytes: &[u8]) -> Vec<usize> {
        self.client.ends(bytes)
    }

    pub(super) fn of_server(&mut self, bytes: &[u8]) -> Vec<usize> {
        self.server.ends(bytes)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// A list of texts, or a line; what is empty is not answered.
    Client,
    /// A value.
    Server,
}

/// The values of one side.
#[derive(Clone, Copy, Debug)]
struct Values {
    side: Side,
    /// How many are to come until the one that is being read is whole, itself and those in it; 0 between two.
    due: u64,
    place: Place,
}

/// Within a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before its first byte.
    Start,
    /// In the number of its first line.
    Number(Number),
    /// In a first line that is all of it.
    Line,
    /// So many bytes before its end.
    Text(u64),
    /// In a request that is a line.
    Request { is_empty: bool },
    /// Of something that is not of the protocol, such as an encrypted connection: nothing ends from here on.
    Nowhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number {
    /// Of the value.
    kind: u8,
    negative: bool,
    /// What its digits have said.
    size: Option<u64>,
}

impl Values {
    fn new(side: Side) -> Self {
        Self {
            side,
            due: 0,
            place: Place::Start,
        }
    }

    /// Where values that are not within others end.
    fn ends(&mut self, bytes: &[u8]) -> Vec<usize> {
        let mut ends = Vec::new();
        let mut at = 0;
        while at < bytes.len() && self.place != Place::Nowhere {
            let (taken, is_end) = self.take(&bytes[at..]);
            at += taken;
            if is_end {
                ends.push(at);
            }
        }
        ends
    }

    /// Takes one byte or more; says how many, and whether a value ends with them.
    fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        match self.place {
            Place::Start => {
                self.place = self.start(bytes[0]);
                // The first byte of a line may be its last.
                let taken = usize::from(!matches!(self.place, Place::Request { .. }));
                (taken, false)
            }
            Place::Number(number) => (1, self.number(number, bytes[0])),
            Place::Line => {
                let (taken, is_over) = rest_of_line(bytes);
                (taken, is_over && self.end_one())
            }
            Place::Text(left) => {
                let rest = usize::try_from(left).unwrap_or(usize::MAX);
                let taken = rest.min(bytes.len());
                self.place = Place::Text(left - taken as u64);
                (taken, taken == rest && self.end_one())
            }
            Place::Request { is_empty } => {
                let (taken, is_over) = rest_of_line(bytes);
                let is_empty = is_empty && bytes[..taken].iter().all(u8::is_ascii_whitespace);
                self.place = Place::Request { is_empty };
                if is_over {
                    self.place = Place::Start;
                }
                (taken, is_over && !is_empty)
            }
            Place::Nowhere => (bytes.len(), false),
        }
    }

    fn start(&mut self, kind: u8) -> Place {
        let is_first = self.due == 0;
        let number = Place::Number(Number {
            kind,
            negative: false,
            size: None,
        });
        if self.side == Side::Client {
            return match kind {
                b'*' if is_first => number,
                b'$' if !is_first => number,
                // Printed, or the blanks before it: not the first byte of TLS.
                b' '..=b'~' | b'\t' | b'\r' | b'\n' if is_first => {
                    Place::Request { is_empty: true }
                }
                _ => Place::Nowhere,
            };
        }
        if is_first {
            self.due = 1;
        }
        match kind {
            // Statuses, errors, numbers, nulls, truths.
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => Place::Line,
            // Texts and errors; lists, sets, messages; maps and attributes.
            b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => number,
            _ => Place::Nowhere,
        }
    }

    /// Takes the next byte of a number; says whether a value ends with it.
    fn number(&mut self, mut number: Number, byte: u8) -> bool {
        let next = match byte {
            b'-' if number.size.is_none() && !number.negative => {
                number.negative = true;
                Some(number)
            }
            b'0'..=b'9' => {
                let digits = number.size.unwrap_or(0).checked_mul(10);
                let size = digits.and_then(|size| size.checked_add(u64::from(byte - b'0')));
                size.map(|size| Number {
                    size: Some(size),
                    ..number
                })
            }
            b'\r' if number.size.is_some() => Some(number),
            b'\n' if number.size.is_some() => return self.first_line(number),
            _ => None,
        };
        self.place = next.map_or(Place::Nowhere, Place::Number);
        false
    }

    /// Says whether a value ends with its first line.
    fn first_line(&mut self, number: Number) -> bool {
        // Nothing, where it is negative.
        let size = match number.size {
            Some(size) if !number.negative => size,
            _ => 0,
        };
        if self.side == Side::Client && self.due == 0 {
            self.due = size;
            self.place = Place::Start;
            return false;
        }
        let inner = match number.kind {
            b'$' | b'=' | b'!' if number.negative => Some(0),
            b'$' | b'=' | b'!' => {
                self.place = size.checked_add(2).map_or(Place::Nowhere, Place::Text);
                return false;
            }
            b'%' => size.checked_mul(2),
            // Attributes stand before a value and are a part of it, and are none themselves.
            b'|' => size.checked_mul(2).and_then(|size| size.checked_add(1)),
            _ => Some(size),
        };
        if let Some(due) = inner.and_then(|inner| self.due.checked_add(inner)) {
            self.due = due;
            self.end_one()
        } else {
            self.place = Place::Nowhere;
            false
        }
    }

    /// One of those that were due is there; says whether it was the last.
    fn end_one(&mut self) -> bool {
        self.place = Place::Start;
        self.due -= 1;
        self.due == 0
    }
}

/// How many of these bytes are of the line, and whether it ends with them.
fn rest_of_line(bytes: &[u8]) -> (usize, bool) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (end + 1, true),
        None => (bytes.len(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each value of a side, as it is written, and whether it counts.
    fn check(side: Side, values: &[(&[u8], bool)]) {
        let mut all = Vec::new();
        let mut expected = Vec::new();
        for (value, counts) in values {
            all.extend_from_slice(value);
            if *counts {
                expected.push(all.len());
            }
        }
        // Cut into pieces of each size, and into two at each place.
        let sizes = (1..50).map(|size| all.chunks(size).collect());
        let halves = (0..all.len()).map(|at| vec![&all[..at], &all[at..]]);
        for pieces in sizes.chain(halves) {
            let mut side = Values::new(side);
            let (mut found, mut before) = (Vec::new(), 0);
            for piece in &pieces {
                found.extend(side.ends(piece).into_iter().map(|end| before + end));
                before += piece.len();
            }
            assert_eq!(found, expected, "{:?}", pieces[0].escape_ascii());
            assert_eq!((side.due, side.place), (0, Place::Start));
        }
    }

    #[test]
    fn requests_end_where_they_do_however_the_bytes_are_cut() {
        check(
            Side::Client,
            &[
                (b"*1\r\n$4\r\nPING\r\n", true),
                (b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n", true),
                // A text that looks like an end, and like a beginning.
                (b"*2\r\n$4\r\nECHO\r\n$14\r\n\r\n*1\r\n$4\r\nQUIT\r\n", true),
                (b"PING\r\n", true),
                (b"  GET a\n", true),
                // What is empty is not answered.
                (b"\r\n", false),
                (b" \n", false),
                (b"*0\r\n", false),
                (b"*-1\r\n", false),
                (b"*1\r\n$4\r\nQUIT\r\n", true),
            ],
        );
    }

    #[test]
    fn replies_end_where_they_do_however_the_bytes_are_cut() {
        check(
            Side::Server,
            &[
                (b"+OK\r\n", true),
                (b"-ERR $9\r\n", true),
                (b":-12\r\n", true),
                (b"$-1\r\n", true),
                (b"$0\r\n\r\n", true),
                (b"$7\r\n+OK\r\n\r\n\r\n", true),
                (b"*-1\r\n", true),
                (b"*0\r\n", true),
                (b"*3\r\n*0\r\n*2\r\n$-1\r\n*1\r\n:1\r\n$1\r\n*\r\n", true),
                (b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n*1\r\n", true),
                // Version 3.
                (b"_\r\n", true),
                (b"#t\r\n", true),
                (b",1.5e3\r\n", true),
                (b"(12345678901234567890\r\n", true),
                (b"=7\r\ntxt:a\r\n\r\n", true),
                (b"!5\r\nERR a\r\n", true),
                (b"%2\r\n+a\r\n*1\r\n:1\r\n+b\r\n%0\r\n", true),
                (b"~2\r\n:1\r\n_\r\n", true),
                (b">2\r\n+message\r\n~1\r\n#f\r\n", true),
                (b"|1\r\n+a\r\n*2\r\n:1\r\n:2\r\n$1\r\nv\r\n", true),
                (b"*2\r\n|1\r\n+a\r\n|0\r\n:1\r\n:2\r\n:3\r\n", true),
                (b"+\r\n", true),
            ],
        );
    }

    /// So nothing of it is on the heap.
    fn is_copied<T: Copy>(_: &T) {}

    #[test]
    fn what_is_deep_and_what_is_long_is_not_kept() {
        let mut values = Values::new(Side::Server);
        is_copied(&values);
        for _ in 0..1_000_000 {
            assert_eq!(values.ends(b"*2\r\n:1\r\n"), []);
        }
        assert_eq!(values.ends(b":1\r\n+"), [4]);
        for _ in 0..1000 {
            assert_eq!(values.ends(&[b'x'; 1000]), []);
        }
        assert_eq!(values.ends(b"\r\n$1000000\r\n"), [2]);
        for _ in 0..1000 {
            assert_eq!(values.ends(&[b'\n'; 1000]), []);
        }
        assert_eq!(values.ends(b"\r\n:1\r\n"), [2, 6]);
    }

    #[test]
    fn what_is_not_of_the_protocol_has_no_ends() {
        let lists: [&[u8]; 5] = [
            b"*1\r\n:1\r\n",
            b"*1\r\n*1\r\n",
            b"*\r\n",
            b"*--1\r\n",
            b"*99999999999999999999\r\n",
        ];
        for wrong in lists.into_iter().chain([&b"\x16\x03\x01"[..], b"\0"]) {
            let mut values = Values::new(Side::Client);
            assert_eq!(values.ends(wrong), []);
            assert_eq!(
                values.ends(b"\r\nPING\r\n"),
                [],
                "{:?}",
                wrong.escape_ascii()
            );
        }
        let values: [&[u8]; 6] = [
            b"\x16\x03",
            b"OK\r\n",
            b"$?\r\n",
            b"$18446744073709551615\r\n",
            b"%18446744073709551615\r\n",
            b"*2\r\n*18446744073709551615\r\n",
        ];
        for wrong in values {
            let mut values = Values::new(Side::Server);
            assert_eq!(values.ends(wrong), []);
            assert_eq!(
                values.ends(b"\r\n+OK\r\n"),
                [],
                "{:?}",
                wrong.escape_ascii()
            );
        }
    }
}
