//! A blocking call: the thread that makes it waits for its socket, and for no other thread. (The only test of its process, for it
//! counts what the others' threads do.)

mod support;

use anthill_jobs::{Broker, ClaimRequest};
use anthill_test_support::linux::{context_switches, threads_with_name};
use anthill_test_support::postgres;
use anthill_test_support::skip_unless;
use support::{LEASE, fresh, open};

#[test]
fn a_blocking_call_goes_through_no_other_thread() {
    let server = skip_unless!(postgres::shared());
    let broker = open(&fresh(server));
    let request = ClaimRequest::new(1, LEASE);
    broker.claim(&request).unwrap();
    let drivers = threads_with_name("anthill-postgre");
    assert_eq!(drivers.len(), 1);
    let before = context_switches(drivers[0]);
    for _ in 0..300 {
        broker.claim(&request).unwrap();
    }
    let switches = context_switches(drivers[0]) - before;
    assert!(switches < 100, "{switches} for 300 calls");
}
