//! The jobs in a state, page by page, so that no list is ever in memory as a whole.

use anthill_jobs::{JobId, JobInfo, JobState, ListRequest, Queue, QueueError};
use std::collections::HashSet;

/// How many are read at once.
const PAGE: usize = 100;

pub(crate) struct Pages<'q> {
    queue: &'q Queue,
    state: JobState,
    after: Option<JobId>,
    seen: HashSet<JobId>,
    most: usize,
}

impl Pages<'_> {
    /// No more than `most` jobs, behind the job `after`.
    pub(crate) fn new(
        queue: &Queue,
        state: JobState,
        after: Option<JobId>,
        most: usize,
    ) -> Pages<'_> {
        Pages {
            queue,
            state,
            after,
            seen: HashSet::new(),
            most,
        }
    }

    /// The next ones, each once, with so many bytes of their data; none at the end.
    pub(crate) fn next(&mut self, data: usize) -> Result<Vec<JobInfo>, QueueError> {
        let left = self.most - self.seen.len();
        if left == 0 {
            return Ok(Vec::new());
        }
        loop {
            let request = ListRequest::new(self.state).after(self.after);
            let request = request.most(PAGE.min(left)).data(data);
            // If another process takes `after` away this begins anew.
            let mut page = self.queue.as_broker().list(&request)?;
            let Some(last) = page.last() else {
                return Ok(page);
            };
            self.after = Some(last.id);
            page.retain(|job| self.seen.insert(job.id));
            if !page.is_empty() {
                return Ok(page);
            }
        }
    }
}
