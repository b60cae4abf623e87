//! Whether a batch fits in a queue that is bounded by [`Limits::max_ready`](crate::Limits::max_ready).

use crate::job::NewJob;
use std::collections::HashSet;

/// Whether more of these jobs would be ready than there is room for. Duplicates do not count: neither of stored jobs, as
/// `is_duplicate` says, nor of jobs before them in the batch.
pub(super) fn exceeds_room<E>(
    jobs: &[NewJob],
    room: u64,
    mut is_duplicate: impl FnMut(&NewJob) -> Result<bool, E>,
) -> Result<bool, E> {
    if jobs.len() as u64 <= room {
        return Ok(false);
    }
    let (mut ids, mut keys) = (HashSet::new(), HashSet::new());
    let mut room = room;
    for job in jobs {
        let once_per = job.once_per.as_ref().map(|once| &once.key);
        let own = job.unique.iter().chain(once_per);
        // A job before it in the batch waits: this one is a duplicate of it, or debounces it.
        let is_again = ids.contains(&job.id) || own.clone().any(|key| keys.contains(key));
        if is_again || is_duplicate(job)? {
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
