//! Lists of jobs page by page, so that no list is in memory as a whole.

use anthill_jobs::{JobId, JobInfo, JobState, ListRequest, Queue, QueueError};
use std::collections::HashSet;

/// How many jobs a page has.
const PAGE: usize = 100;

pub(crate) struct Pages<'q> {
    queue: &'q Queue,
    state: JobState,
    after: Option<JobId>,
    seen: HashSet<JobId>,
    limit: usize,
}

impl Pages<'_> {
    /// Lists up to `limit` jobs behind the job `after`.
    pub(crate) fn new(
        queue: &Queue,
        state: JobState,
        after: Option<JobId>,
        limit: usize,
    ) -> Pages<'_> {
        Pages {
            queue,
            state,
            after,
            seen: HashSet::new(),
            limit,
        }
    }

    /// The next page, each job once, with so many bytes of its data; empty at the end.
    pub(crate) fn next(&mut self, data: usize) -> Result<Vec<JobInfo>, QueueError> {
        let left = self.limit - self.seen.len();
        if left == 0 {
            return Ok(Vec::new());
        }
        loop {
            let request = ListRequest::new(self.state).after(self.after);
            let request = request.limit(PAGE.min(left)).data(data);
            // If another process removes `after` this starts from the first job again.
            let mut page = self.queue.list_by(&request)?;
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
