//! Whether a batch fits in a queue that is bounded by [`Limits::max_ready`](super::Limits::max_ready).

use super::job::NewJob;
use std::collections::HashSet;

/// Whether more of these jobs would be ready than there is room for. Only those count that would be added: not those
/// that a stored job keeps out by its id or a key, as `is_kept_out` says, nor those that one of the batch does.
pub(super) fn is_too_many<E>(
    jobs: &[NewJob],
    room: u64,
    mut is_kept_out: impl FnMut(&NewJob) -> Result<bool, E>,
) -> Result<bool, E> {
    if jobs.len() as u64 <= room {
        return Ok(false);
    }
    let (mut ids, mut keys) = (HashSet::new(), HashSet::new());
    let mut room = room;
    for job in jobs {
        let once_per = job.once_per.as_ref().map(|once| &once.key);
        let own = job.unique.iter().chain(once_per);
        // One that is before it in the batch waits: it keeps this one out, or is put off by it.
        let is_again = ids.contains(&job.id) || own.clone().any(|key| keys.contains(key));
        if is_again || is_kept_out(job)? {
            continue;
        }
        ids.insert(job.id);
        keys.extend(own);
        if !job.delay.is_zero() {
            continue;
        }
        if room == 0 {
            return Ok(true);
        }
        room -= 1;
    }
    Ok(false)
}
