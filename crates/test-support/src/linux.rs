//! Threads as Linux shows them in /proc, and where they may run.

use std::{fs, io, mem};

use super::eventually;

/// The system's id of the calling thread.
pub fn thread_id() -> u32 {
    let link = fs::read_link("/proc/thread-self").expect("/proc is mounted");
    link.file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.parse().ok())
        .expect("/proc/thread-self ends in the thread's id")
}

/// The processors that the calling thread may run on.
pub fn affinity() -> Vec<usize> {
    // SAFETY: a set of no processors is all zeroes.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the pointer is valid for a write of that size.
    let got = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    assert_eq!(got, 0, "{}", io::Error::last_os_error());
    (0..usize::try_from(libc::CPU_SETSIZE).unwrap())
        // SAFETY: within the set.
        .filter(|processor| unsafe { libc::CPU_ISSET(*processor, &set) })
        .collect()
}

/// Pins a thread; 0 is the calling one.
pub fn pin(thread: libc::pid_t, processors: &[usize]) {
    // SAFETY: a set of no processors is all zeroes.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for processor in processors {
        // SAFETY: within the set, where it was found.
        unsafe { libc::CPU_SET(*processor, &mut set) };
    }
    // SAFETY: the pointer is valid for a read of that size.
    let pinned = unsafe { libc::sched_setaffinity(thread, size_of_val(&set), &raw const set) };
    assert_eq!(pinned, 0, "{}", io::Error::last_os_error());
}

/// The ids of this process's threads.
pub fn threads() -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is mounted");
    tasks
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The threads of this process whose name starts with `prefix` (of which the system keeps 15 bytes).
pub fn threads_with_name(prefix: &str) -> Vec<u32> {
    let has_name = |id: &u32| {
        let name = fs::read_to_string(format!("/proc/self/task/{id}/comm"));
        name.is_ok_and(|name| name.starts_with(prefix))
    };
    threads().into_iter().filter(has_name).collect()
}

/// How many they are.
pub fn threads_named(prefix: &str) -> usize {
    threads_with_name(prefix).len()
}

/// A field of `/proc/self/task/<id>/status`; none if the thread has ended.
fn status_field(id: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/self/task/{id}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
}

/// Whether the thread sleeps now.
pub fn is_asleep(id: u32) -> bool {
    status_field(id, "State").is_some_and(|state| state.starts_with('S'))
}

/// How often the thread has been switched out, of its own accord or not.
pub fn context_switches(id: u32) -> u64 {
    voluntary_switches(id) + switches(id, "nonvoluntary_ctxt_switches")
}

/// How often the thread has gone to sleep.
pub fn voluntary_switches(id: u32) -> u64 {
    switches(id, "voluntary_ctxt_switches")
}

fn switches(id: u32, field: &str) -> u64 {
    status_field(id, field)
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {field} of thread {id}"))
}

/// The processor time the thread has used, in clock ticks.
pub fn cpu_ticks(id: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/self/task/{id}/stat")).expect("the thread lives");
    // The name is in parentheses and may hold spaces; what follows it starts with field 3.
    let (_, fields) = stat.rsplit_once(')').expect("the name is in parentheses");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    [14, 15]
        .into_iter()
        .map(|number: usize| {
            fields[number - 3]
                .parse::<u64>()
                .expect("ticks are a number")
        })
        .sum()
}

/// Waits until the thread sleeps and goes on sleeping: parked, not merely between two steps.
#[track_caller]
pub fn eventually_asleep(id: u32) {
    let mut seen = None;
    let mut turns = 0;
    eventually(format_args!("thread {id} sleeps"), || {
        let now = is_asleep(id).then(|| context_switches(id));
        turns = if now.is_some() && now == seen {
            turns + 1
        } else {
            0
        };
        seen = now;
        turns >= 20
    });
}
