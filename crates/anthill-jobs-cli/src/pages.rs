//! Lists of jobs page by page, so that no list is in memory as a whole.

use anthill_jobs::{JobId, JobInfo, ListRequest, Queue, QueueError};
use std::collections::HashSet;

/// How many jobs a page has.
const PAGE: usize = 100;

pub(crate) struct Pages<'q> {
    queue: &'q Queue,
    /// Those behind the last page, as many as a page has.
    request: ListRequest,
    seen: HashSet<JobId>,
    limit: usize,
}

impl Pages<'_> {
    /// Lists the jobs that the request asks for.
    pub(crate) fn new(queue: &Queue, request: ListRequest) -> Pages<'_> {
        let limit = request.limit;
        Pages {
            queue,
            request,
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
        self.request.limit = PAGE.min(left);
        self.request.data = data;
        loop {
            // If another process removes `after` this starts from the first job again.
            let mut page = self.queue.list_by(&self.request)?;
            let Some(last) = page.last() else {
                return Ok(page);
            };
            self.request.after = Some(last.id);
            page.retain(|job| self.seen.insert(job.id));
            if !page.is_empty() {
                return Ok(page);
            }
        }
    }
}
