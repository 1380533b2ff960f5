//! What one commit holds is bounded by bytes, not only by number. Bytes are counted, nothing is timed.

use std::sync::Arc;

use serde_json::json;

use super::support::{Rig, json as data_of};
use crate::api::request::Operation;
use crate::core::commit::committer::GROUP_BYTES;

/// A value near the largest.
const VALUE: usize = 1_000_000;
/// The bound, the one mutation that may go beyond it, and what sealing and padding add.
const LARGEST: usize = GROUP_BYTES + GROUP_BYTES / 4;

fn body(n: usize) -> String {
    let value = format!("{n:06}").repeat(VALUE / 6);
    json!({ "data": { "K": value } }).to_string()
}

#[test]
fn a_group_closes_when_its_bodies_pass_the_bound() {
    const WRITERS: usize = 40;
    let rig = Arc::new(Rig::new());
    rig.spy.largest_commit();
    rig.spy.hold_anchor();
    std::thread::scope(|scope| {
        for n in 0..WRITERS {
            let rig = Arc::clone(&rig);
            scope.spawn(move || {
                rig.write(&rig.operator(), &format!("secret/data/k{n}"), &body(n)).expect("written");
            });
        }
        // The first stands at its anchor; the others have time to queue behind it. There is no signal for that.
        rig.spy.await_held();
        std::thread::sleep(std::time::Duration::from_secs(2));
        rig.spy.release();
    });
    let largest = rig.spy.largest_commit();
    assert!(largest > VALUE * 4, "the writers did not meet, so this proves nothing: {largest} bytes");
    assert!(largest <= LARGEST, "{largest} bytes in one commit");
    // Every request is in the log once, and answered once, in the order of the log.
    let log = rig.log();
    let count = |kind: &str| log.iter().filter(|line| line["type"] == kind).count();
    assert_eq!((count("request"), count("reply")), (WRITERS, WRITERS));
    for n in 0..WRITERS {
        let found = rig.read(&rig.operator(), &format!("secret/data/k{n}")).expect("there");
        assert!(found["data"]["K"].as_str().is_some_and(|text| text.starts_with(&format!("{n:06}"))));
    }
}

#[test]
fn a_deep_rotation_of_large_values_goes_in_bounded_commits() {
    let rig = Rig::new();
    let operator = rig.operator();
    // Ten versions of a secret are kept. Each of these alone is larger than two thirds of the bound.
    for n in 0..40 {
        rig.write(&operator, &format!("secret/data/large{}", n / 10), &body(n)).expect("written");
    }
    rig.spy.largest_commit();
    let reply = rig.ask(&operator, Operation::Write, "sys/rotate", r#"{"full_speed":true,"deep":true}"#);
    let id = data_of(&reply.expect("begins"))["id"].as_str().expect("an id").to_owned();
    let path = format!("sys/strongroom/rotations/{id}");
    while rig.read(&operator, &path).expect("shown")["state"] != "done" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let run = rig.read(&operator, &path).expect("shown");
    assert!(run["done"].as_u64() >= Some(44), "nodes and versions: {run}");
    let largest = rig.spy.largest_commit();
    assert!(largest > VALUE * 4 && largest <= LARGEST, "{largest} bytes in one commit");
    for n in 0..40 {
        let request = format!(r#"{{"version":{}}}"#, n % 10 + 1);
        let reply = rig.ask(&operator, Operation::Read, &format!("secret/data/large{}", n / 10), &request);
        let found = data_of(&reply.expect("there"));
        assert!(found["data"]["K"].as_str().is_some_and(|text| text.starts_with(&format!("{n:06}"))), "{n}");
    }
}
