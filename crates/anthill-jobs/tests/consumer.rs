//! What a consumer does with jobs, over the broker in memory: the same for every broker, as `brokers.rs` holds them to
//! the same.
#[path = "consumer/beats.rs"]
mod beats;
#[path = "consumer/bench.rs"]
mod bench;
#[path = "consumer/clocks.rs"]
mod clocks;
#[path = "consumer/data.rs"]
mod data;
#[path = "consumer/ends.rs"]
mod ends;
#[path = "consumer/fragile.rs"]
mod fragile;
#[path = "consumer/given_back.rs"]
mod given_back;
#[path = "consumer/kinds.rs"]
mod kinds;
#[path = "consumer/leases.rs"]
mod leases;
#[path = "consumer/load.rs"]
mod load;
#[path = "consumer/mishaps.rs"]
mod mishaps;
#[path = "consumer/queues.rs"]
mod queues;
#[path = "consumer/states.rs"]
mod states;
#[path = "consumer/stops.rs"]
mod stops;
#[path = "consumer/times.rs"]
mod times;
#[path = "support/watched.rs"]
mod watched;
