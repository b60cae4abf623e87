//! A cluster of private servers: who answers for a key before, while and after its slot moves.
#![cfg(unix)]

use anthill_test_support::redis::{Cluster, Options, Persistence, Raw, Step, Value, slot_of};
use anthill_test_support::{set_alarm, skip_unless};

/// What the server answers, an error too.
fn told(raw: &mut Raw, request: &[&str]) -> Value {
    let parts: Vec<_> = request.iter().map(|part| part.as_bytes()).collect();
    raw.call(&parts).unwrap()
}

#[track_caller]
fn refuses(raw: &mut Raw, request: &[&str], how: &str) {
    let told = told(raw, request);
    let refused = matches!(&told, Value::Error(text) if text.starts_with(how));
    assert!(refused, "{request:?}: {told:?} is not {how}");
}

#[test]
fn each_key_is_of_one_node_and_all_others_say_of_which() {
    set_alarm();
    let cluster = skip_unless!(Cluster::start(3));
    assert_eq!(cluster.urls().len(), 3);
    let keys = [
        "",
        "a",
        "b",
        "c",
        "{",
        "}",
        "{}",
        "{}a",
        "{a}",
        "x{a}y",
        "{{a}}",
        "a}{b}",
        "{a",
        "123456789",
        "{anthill:mail}:jobs",
    ];
    let mut owners = Vec::new();
    for key in keys {
        let slot = slot_of(key);
        let mut first = cluster.nodes()[0].raw();
        let server = first.run(&["CLUSTER", "KEYSLOT", key]).integer();
        assert_eq!(i64::from(slot), server, "{key:?}");
        let owner = cluster.owner(slot);
        for (number, node) in cluster.nodes().iter().enumerate() {
            let mut raw = node.raw();
            if number == owner {
                raw.run(&["SET", key, "1"]);
            } else {
                let port = cluster.nodes()[owner].port();
                let moved = format!("MOVED {slot} 127.0.0.1:{port}");
                refuses(&mut raw, &["SET", key, "2"], &moved);
            }
        }
        owners.push(owner);
    }
    assert!((0..3).all(|node| owners.contains(&node)), "{owners:?}");
    assert_eq!(slot_of("123456789"), 0x31c3);
}

#[test]
fn a_slot_moves_with_its_keys_step_by_step() {
    set_alarm();
    let cluster = skip_unless!(Cluster::start(3));
    let slot = slot_of("{a}");
    let from = cluster.owner(slot);
    let (to, third) = ((from + 1) % 3, (from + 2) % 3);
    let keys: Vec<_> = (0..5).map(|number| format!("{{a}}\r\n{number}")).collect();
    let raw = |node: usize| cluster.nodes()[node].raw();
    for key in &keys {
        raw(from).run(&["SET", key, key]);
    }
    let late = "{a}late";
    let mut steps = Vec::new();
    cluster.move_slot_in_steps(slot, from, to, 2, |step| {
        steps.push(step);
        let (mut old, mut new) = (raw(from), raw(to));
        let all: Vec<_> = std::iter::once("MGET")
            .chain(keys.iter().map(String::as_str))
            .collect();
        match step {
            Step::Importing => {
                assert!(!told(&mut old, &all).is_error());
                refuses(&mut new, &all, "MOVED");
            }
            Step::Migrating => {
                assert!(!told(&mut old, &all).is_error());
                refuses(&mut old, &["SET", late, "1"], "ASK");
                new.run(&["ASKING"]);
                new.run(&["SET", late, "1"]);
            }
            Step::Moved(number)
                if steps.iter().filter(|one| **one == Step::Moved(2)).count() == 1 =>
            {
                assert_eq!(number, 2);
                refuses(&mut old, &all, "TRYAGAIN");
                new.run(&["ASKING"]);
                refuses(&mut new, &all, "TRYAGAIN");
            }
            Step::Moved(_) => (),
            Step::Told(node) if node == to => assert!(!told(&mut new, &all).is_error()),
            Step::Told(node) => {
                let moved = format!("MOVED {slot} 127.0.0.1:{}", cluster.nodes()[to].port());
                refuses(&mut raw(node), &all, &moved);
            }
        }
    });
    let expected = [
        Step::Importing,
        Step::Migrating,
        Step::Moved(2),
        Step::Moved(2),
        Step::Moved(1),
        Step::Told(to),
        Step::Told(from),
        Step::Told(third),
    ];
    assert_eq!(steps, expected);
    assert_eq!(cluster.owner(slot), to);
    for key in &keys {
        assert_eq!(&raw(to).run(&["GET", key]).text(), key);
    }
    assert_eq!(raw(to).run(&["GET", late]).text(), "1");
    assert_eq!(raw(from).run(&["DBSIZE"]).integer(), 0);

    for _ in 0..5 {
        cluster.move_slot(slot, to, from);
        cluster.move_slot(slot, from, to);
    }
    assert_eq!(raw(to).run(&["DBSIZE"]).integer(), 6);
}

#[test]
fn a_node_that_was_killed_comes_back_with_its_slots() {
    set_alarm();
    let options = Options::new(Persistence::AofAlways).password("of all");
    let cluster = skip_unless!(Cluster::start_with(3, &options));
    let owner = cluster.owner(slot_of("a"));
    let node = &cluster.nodes()[owner];
    node.raw().run(&["SET", "a", "1"]);
    node.kill();
    // The rest still says whose it is.
    assert_eq!(cluster.owner(slot_of("a")), owner);
    node.start_again();
    cluster.wait_until_ok();
    assert_eq!(node.raw().run(&["GET", "a"]).text(), "1");
    assert_eq!(node.password(), Some("of all"));
}

#[test]
#[should_panic(expected = "slot 0")]
fn a_slot_does_not_move_from_who_has_not_got_it() {
    set_alarm();
    let Ok(cluster) = Cluster::start(3) else {
        panic!("there is no Redis that has slot 0");
    };
    cluster.move_slot(0, 1, 2);
}
