//! The token of a lease: the number of the claim, and whether anything follows from its end.

use anthill_jobs::{JobId, Lease};
use uuid::Uuid;

/// What is in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Random, so none is ever given twice: also not by a server that was restored.
    pub(crate) claim: Uuid,
    /// The job has no key of any sort, and no result to keep: when it is done it is just gone.
    pub(crate) is_plain: bool,
}

const PLAIN: u8 = 0x50;
const OTHER: u8 = 0xaf;

impl Token {
    pub(crate) fn lease(self, id: JobId) -> Lease {
        let mut token = [0; 17];
        token[..16].copy_from_slice(self.claim.as_bytes());
        token[16] = if self.is_plain { PLAIN } else { OTHER };
        Lease::new(id, &token)
    }

    /// The token of a lease; one of no claim if it is not one of ours.
    pub(crate) fn of(lease: &Lease) -> Token {
        match <[u8; 17]>::try_from(lease.token()) {
            Ok([claim @ .., flag @ (PLAIN | OTHER)]) => Token {
                claim: Uuid::from_bytes(claim),
                is_plain: flag == PLAIN,
            },
            _ => Token {
                claim: Uuid::nil(),
                is_plain: false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_and_a_foreign_one_is_of_no_claim() {
        let id = JobId::new();
        for is_plain in [false, true] {
            let claim = Uuid::from_bytes(*JobId::new().as_bytes());
            let token = Token { claim, is_plain };
            assert_eq!(Token::of(&token.lease(id)), token);
        }
        for foreign in [&b""[..], &[7; 16], &[7; 17], &[PLAIN; 18]] {
            assert_eq!(Token::of(&Lease::new(id, foreign)).claim, Uuid::nil());
        }
    }
}
