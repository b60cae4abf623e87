//! What lists and errors cost.

use super::*;
use crate::sqlite::list::Listing;

#[test]
fn a_list_by_error_reads_in_parts_and_one_without_in_one() {
    let folder = Folder::new();
    let broker = folder.open();
    broker.enqueue(&jobs(12_000)).unwrap();
    let reads = |request: &ListRequest| {
        let mut listing = Listing::new(broker.queue, request);
        let mut reads = 1;
        while broker
            .read(|connection, now| listing.go_on(connection, now))
            .unwrap()
        {
            reads += 1;
        }
        (reads, listing.found.len())
    };
    let all = ListRequest::new(JobState::Ready).data(0);
    assert_eq!(reads(&all), (1, 12_000));
    assert_eq!(reads(&all.clone().error("no")), (3, 0));
    assert_eq!(reads(&all.clone().kind("kind")), (3, 12_000));
    assert_eq!(
        reads(&all.kind("kind").limit(100)),
        (1, 100),
        "it ends early"
    );
}

#[test]
fn errors_take_little_room() {
    let folder = Folder::new();
    let broker = folder.open();
    add(&broker, &job());
    let error = "x".repeat(16 << 10);
    for _ in 0..20 {
        let delay = Duration::ZERO;
        let error = error.clone();
        let retry = Settle::Retry { delay, error };
        assert_eq!(settle(&broker, &[(claim_one(&broker), retry)]), [true]);
    }
    let size = "SELECT length(error), length(errors) FROM anthill_jobs";
    let size = folder
        .connect()
        .query_row(size, [], |row| Ok((row.get(0)?, row.get(1)?)));
    let (last, all): (usize, usize) = size.unwrap();
    assert_eq!(last, error.len());
    assert!((10 << 10..11 << 10).contains(&all), "{all}");
}
