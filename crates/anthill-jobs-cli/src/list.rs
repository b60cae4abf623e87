//! The commands `list` and `dead`: a table for people, or JSON with all details for scripts.

use crate::out::{Out, cell, remark};
use crate::outcome::{Ended, Fallible};
use crate::pages::Pages;
use crate::show::{Document, missed, size, span};
use anthill_jobs::{JobId, JobInfo, JobState, ListRequest, Queue, QueueError};
use std::fmt::Write;

/// How much of each job's data a page has; a larger job is read by itself.
const WHOLE: usize = 16 << 10;

pub(crate) fn list(queue: &Queue, request: ListRequest, out: &mut Out) -> Fallible<Ended> {
    if let Some(id) = request.after {
        // The library would list from the first job.
        match queue.get(id)? {
            Some(job) if job.state == request.state => {}
            job => return Ok(missed(id, job.as_ref())),
        }
    }
    if out.is_json() {
        documents(queue, Pages::new(queue, request), out)?;
        return Ok(Ended::Done);
    }
    let limit = request.limit;
    // One more, to know whether there are more.
    let more = request.clone().limit(limit.saturating_add(1));
    if let Some(last) = table(Pages::new(queue, more), limit, out)? {
        out.flush()?;
        remark(&format!(
            "there are more: {} --after {last}",
            same(&request)
        ));
    }
    Ok(Ended::Done)
}

/// The command that lists the same jobs.
fn same(request: &ListRequest) -> String {
    let mut command = format!("list {}", request.state.name());
    for (option, value) in [("kind", &request.kind), ("error", &request.error)] {
        if let Some(value) = value {
            let quoted = value.replace('\'', r"'\''");
            let _ = write!(command, " --{option} '{quoted}'");
        }
    }
    command
}

fn documents(queue: &Queue, mut pages: Pages<'_>, out: &mut Out) -> Fallible<()> {
    loop {
        let page = pages.next(WHOLE)?;
        if page.is_empty() || out.is_closed() {
            return Ok(());
        }
        for job in page {
            if let Some(job) = whole(queue, job)? {
                out.document(&Document::of(&job))?;
            }
        }
    }
}

/// The job with all its data; `None` if it is gone, or in another state by now.
fn whole(queue: &Queue, job: JobInfo) -> Result<Option<JobInfo>, QueueError> {
    let is_cut = job.payload_size > job.payload.len() as u64;
    // A list leaves out large ones.
    let may_have_result = job.state == JobState::Done && job.result.is_none();
    let may_have_progress = job.attempt > 0 && job.progress.is_none();
    if !(is_cut || may_have_result || may_have_progress) {
        return Ok(Some(job));
    }
    let there = queue.get(job.id)?;
    Ok(there.filter(|there| there.state == job.state))
}

/// Prints a table. Returns the last job in it, if there are more.
fn table(mut pages: Pages<'_>, limit: usize, out: &mut Out) -> Fallible<Option<JobId>> {
    let columns = columns();
    let mut shown = 0;
    let mut widths = None;
    let mut last = None;
    loop {
        let page = pages.next(MOST_DATA * 4)?;
        let (Some(_), false) = (page.first(), out.is_closed()) else {
            return Ok(None);
        };
        let is_first = widths.is_none();
        let widths = widths.get_or_insert_with(|| Widths::of(&page, columns));
        if is_first {
            out.line(&widths.line(["ID", "KIND", "ATTEMPT", "AGE", "DUE", "DATA", "ERROR"]))?;
        }
        for job in page {
            if shown == limit {
                return Ok(last);
            }
            let attempt = format!("{}/{}", job.attempt, job.attempts);
            out.line(&widths.line([
                &job.id.to_string(),
                &cut(&cell(&job.kind), MOST_KIND),
                &attempt,
                &span(job.age),
                &job.due_in.map_or_else(|| "-".to_owned(), span),
                &preview(&job, widths.data),
                &cut(&error(&job), widths.error),
            ]))?;
            shown += 1;
            last = Some(job.id);
        }
    }
}

/// The widths of the columns that depend on their contents.
struct Widths {
    kind: usize,
    data: usize,
    error: usize,
}

const MOST_KIND: usize = 40;
const MOST_DATA: usize = 100;
const ID: usize = 36;

impl Widths {
    fn of(page: &[JobInfo], columns: Option<usize>) -> Widths {
        let kinds = page.iter().map(|job| cell(&job.kind).chars().count());
        let kind = kinds.max().unwrap_or(0).clamp("KIND".len(), MOST_KIND);
        let Some(columns) = columns else {
            return Widths {
                kind,
                data: 40,
                error: usize::MAX,
            };
        };
        let left = columns.saturating_sub(ID + kind + "  ".len() * 5 + "ATTEMPT".len() + 6 * 2);
        let has_errors = page.iter().any(|job| job.error.is_some());
        let data = if has_errors {
            left / 2
        } else {
            left.saturating_sub("  ERROR".len())
        };
        let data = data.clamp(16, MOST_DATA);
        Widths {
            kind,
            data,
            error: left.saturating_sub(data + 2).max(16),
        }
    }

    fn line(&self, cells: [&str; 7]) -> String {
        let (kind, data) = (self.kind, self.data);
        let [id, its_kind, attempt, age, due, its_data, error] = cells;
        let line = format!(
            "{id:ID$}  {its_kind:kind$}  {attempt:>7}  {age:>6}  {due:>6}  {its_data:data$}  {error}"
        );
        line.trim_end().to_owned()
    }
}

/// The width of the terminal, or of `COLUMNS`; `None` if neither is known.
fn columns() -> Option<usize> {
    let set = std::env::var("COLUMNS").ok();
    set.and_then(|set| set.parse().ok())
        .or_else(of_terminal)
        .filter(|&columns| columns > 0)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn of_terminal() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn of_terminal() -> Option<usize> {
    None
}

/// The beginning of the data, with the size if that is not all.
fn preview(job: &JobInfo, width: usize) -> String {
    let is_cut = job.payload_size > job.payload.len() as u64;
    let text = String::from_utf8_lossy(&job.payload);
    // The last character may be incomplete.
    let text = if is_cut {
        text.trim_end_matches('\u{fffd}')
    } else {
        &text
    };
    let text = cell(text);
    if !is_cut && text.chars().count() <= width {
        return text;
    }
    let size = format!(" {}", size(job.payload_size));
    let room = width.saturating_sub(size.len() + 1);
    let begin: String = text.chars().take(room).collect();
    format!("{begin}…{size}")
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let begin: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{begin}…")
}

/// The first line of the job's error.
fn error(job: &JobInfo) -> String {
    let error = job.error.as_deref().unwrap_or_default();
    cell(error.lines().next().unwrap_or_default())
}
