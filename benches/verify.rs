//! What `strongroom verify` reads in a second, and what a read notices of it: `cargo bench --bench verify`. Over mutual TLS,
//! with the audit log on; the vault runs in a process of its own. `STRONGROOM_BENCH_SECRETS` (30,000),
//! `STRONGROOM_BENCH_ROUNDS` (5) and `STRONGROOM_BENCH_SECONDS` (3) set how much.
//!
//! Three states, interleaved: the reader alone, beside a check at the usual rate, and beside one at the highest rate that may
//! be asked for. A check that is done before its round begins again.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement needs the clock")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Connection, Server, fill, get, issue, middle, number, order, paced, percentile, unlimited};
use serde_json::{Value, json};

const READ: &str = "secret/data/app/settings";
const CHECK: &str = "sys/strongroom/verify";
/// The reader asks this often.
const EVERY: Duration = Duration::from_millis(2);
/// Records per second of the three states; none is no check.
const RATES: [(&str, Option<u64>); 3] =
    [("alone", None), ("beside a check, usual rate", Some(5_000)), ("beside a check, highest rate", Some(HIGHEST))];
const HIGHEST: u64 = 1_000_000;

fn main() {
    match common::role() {
        Some(_) => common::serve_vault(),
        None => measure(),
    }
}

fn shown(operator: &mut Connection) -> Value {
    let (status, reply) = operator.ask(&get(CHECK)).unwrap();
    assert_eq!(status, 200);
    serde_json::from_slice::<Value>(&reply).unwrap()["data"].clone()
}

/// Starts a check, and waits until it is done or `stop` is set. Records that it opened in each second.
fn check(operator: &mut Connection, rate: u64, stop: &AtomicBool) -> f64 {
    let start = Instant::now();
    order(operator, CHECK, &json!({ "records_per_second": rate }));
    loop {
        std::thread::sleep(Duration::from_millis(20));
        let now = shown(operator);
        if now["state"] != "running" || stop.load(Ordering::Relaxed) {
            assert_eq!(now["failed"], 0);
            return now["records"].as_f64().unwrap() / start.elapsed().as_secs_f64();
        }
    }
}

fn measure() {
    let rounds = number("STRONGROOM_BENCH_ROUNDS", 5);
    let time = Duration::from_secs(number("STRONGROOM_BENCH_SECONDS", 3));
    // Under `cargo test --benches` a few show that it runs.
    let usual = if std::env::args().any(|text| text == "--bench") { 30_000 } else { 500 };
    let secrets = number("STRONGROOM_BENCH_SECRETS", usual);
    let server = Server::start("vault");
    let mut operator = server.connect(&server.operator);
    unlimited(&mut operator);
    let policy = r#"path "secret/*" { capabilities = ["read"] }"#;
    order(&mut operator, "sys/policies/acl/app", &json!({ "policy": policy }));
    order(&mut operator, "sys/strongroom/identities/app/reader", &json!({ "policies": ["app"] }));
    let reader = issue(&server, &mut operator, "app/reader").1;
    order(&mut operator, READ, &json!({ "data": { "DATABASE_URL": "postgres://db", "TOKEN": "abc" } }));
    fill(&server, "many", secrets);
    let never = AtomicBool::new(false);
    let whole: Vec<f64> = (0..3).map(|_| check(&mut operator, HIGHEST, &never)).collect();
    let total = shown(&mut operator)["total"].clone();
    println!("{total} records; a whole check at the highest rate: {:.0} records/s (median of 3)", middle(whole));
    let mut figures = [const { (Vec::new(), Vec::new(), Vec::new()) }; RATES.len()];
    for _ in 0..rounds {
        for ((_, rate), into) in RATES.into_iter().zip(&mut figures) {
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let reads = scope.spawn(|| paced(&server, &reader, READ, EVERY, &stop));
                let before = server.cpu();
                let checking = rate.map(|rate| {
                    let (server, stop) = (&server, &stop);
                    scope.spawn(move || {
                        let (mut operator, mut last) = (server.connect(&server.operator), 0.0);
                        while !stop.load(Ordering::Relaxed) {
                            last = check(&mut operator, rate, stop);
                        }
                        last
                    })
                });
                std::thread::sleep(time);
                into.2.push((server.cpu() - before) / time.as_secs_f64() * 100.0);
                stop.store(true, Ordering::Relaxed);
                into.1.push(checking.map_or(0.0, |checking| checking.join().unwrap()));
                into.0.push(reads.join().unwrap());
            });
            // The next state begins without a check.
            while shown(&mut operator)["state"] == "running" {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
    println!("a read each {} ms, medians of {rounds} rounds of {} s", EVERY.as_millis(), time.as_secs());
    println!("{:<30}{:>10}{:>10}{:>12}{:>12}{:>14}", "", "p50 us", "p99 us", "p99 ratio", "records/s", "server cpu %");
    let micros = |times: &[Vec<Duration>], part| {
        middle(times.iter().map(|times| percentile(times, part).as_secs_f64() * 1e6).collect())
    };
    let alone_us = micros(&figures[0].0, 99);
    for ((name, _), (times, rates, cpu)) in RATES.iter().zip(&figures) {
        let p99_us = micros(times, 99);
        println!(
            "{name:<30}{:>10.0}{p99_us:>10.0}{:>12.2}{:>12.0}{:>14.0}",
            micros(times, 50),
            p99_us / alone_us,
            middle(rates.clone()),
            middle(cpu.clone()),
        );
    }
}
