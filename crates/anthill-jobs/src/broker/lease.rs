//! Leases: the right to run a job and to settle it, with the broker's own token in them.

use crate::id::JobId;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The right to run a job and to settle it (B3, B4): the job's id, and the *token* of one claim.
///
/// The token is the broker's own: bytes by which it recognises the claim. Nobody else reads them.
///
/// ```
/// use anthill_jobs::{JobId, Lease};
///
/// let (id, claim) = (JobId::new(), 7_u64);
/// let lease = Lease::new(id, &claim.to_be_bytes());
/// assert_eq!((lease.id(), lease.token()), (id, &7_u64.to_be_bytes()[..]));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Lease {
    id: JobId,
    token: Token,
}

/// A short token is stored in place.
#[derive(Clone)]
enum Token {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Arc<[u8]>),
}

const SHORT: usize = 22;

impl Lease {
    /// Makes the lease of a claim.
    pub fn new(id: JobId, token: &[u8]) -> Lease {
        let token = match u8::try_from(token.len()) {
            Ok(length) if token.len() <= SHORT => {
                let mut bytes = [0; SHORT];
                bytes[..token.len()].copy_from_slice(token);
                Token::Short { length, bytes }
            }
            _ => Token::Long(token.into()),
        };
        Lease { id, token }
    }

    /// Returns the id of the job.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Returns the token of the claim.
    pub fn token(&self) -> &[u8] {
        self.token.bytes()
    }
}

impl Token {
    fn bytes(&self) -> &[u8] {
        match self {
            Token::Short { length, bytes } => &bytes[..usize::from(*length)],
            Token::Long(bytes) => bytes,
        }
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Token) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Token {}

impl Hash for Lease {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Leases of one job are few.
        self.id.hash(state);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({}, ", self.id)?;
        self.token()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_each_length_come_back_and_differ() {
        let id = JobId::new();
        let bytes: Vec<u8> = (0..100).collect();
        let leases: Vec<Lease> = (0..=100)
            .map(|length| Lease::new(id, &bytes[..length]))
            .collect();
        for (length, lease) in leases.iter().enumerate() {
            assert_eq!(lease.token(), &bytes[..length]);
            assert_eq!(leases.iter().filter(|other| *other == lease).count(), 1);
        }
        assert_ne!(leases[3], Lease::new(JobId::new(), &bytes[..3]));
    }
}
