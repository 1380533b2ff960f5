//! What a read notices of listings of a large folder beside it: `cargo bench --bench listing`. Over mutual TLS, with the
//! audit log on; the vault runs in a process of its own. `STRONGROOM_BENCH_CHILDREN` (300,000), `STRONGROOM_BENCH_ROUNDS` (5)
//! and `STRONGROOM_BENCH_SECONDS` (3) set how much.
//!
//! Two states, interleaved: the reader alone, and beside four identities that list the folder without a pause, each with no
//! limit but the vault's places. `sys/health` is asked besides, on a connection of its own.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement needs the clock")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Server, fill, issue, middle, number, order, paced, percentile, unlimited};
use rustls::ClientConfig;
use serde_json::json;

const READ: &str = "secret/data/app/settings";
const LISTERS: usize = 4;
/// The reader asks this often.
const EVERY: Duration = Duration::from_millis(2);

fn main() {
    match common::role() {
        Some(_) => common::serve_vault(),
        None => measure(),
    }
}

#[derive(Default)]
struct Figures {
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    health_us: Vec<f64>,
    lists: Vec<f64>,
}

/// A list of the large folder. Whoever does not read the body is not done.
fn list() -> Vec<u8> {
    b"LIST /v1/secret/metadata/big/ HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()
}

fn round(
    server: &Server,
    reader: &Arc<ClientConfig>,
    listers: &[Arc<ClientConfig>],
    time: Duration,
    into: &mut Figures,
) {
    let (stop, lists) = (AtomicBool::new(false), AtomicU64::new(0));
    let (times, health) = std::thread::scope(|scope| {
        for lister in listers {
            scope.spawn(|| {
                let mut connection = server.connect(lister);
                while !stop.load(Ordering::Relaxed) {
                    let (status, _) = connection.ask(&list()).unwrap();
                    assert_eq!(status, 200);
                    lists.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let reads = scope.spawn(|| paced(server, reader, READ, EVERY, &stop));
        let healths = scope.spawn(|| paced(server, reader, "sys/health", EVERY, &stop));
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        (reads.join().unwrap(), healths.join().unwrap())
    });
    let micros = |times: &[Duration], part| percentile(times, part).as_secs_f64() * 1e6;
    into.p50_us.push(micros(&times, 50));
    into.p99_us.push(micros(&times, 99));
    into.health_us.push(micros(&health, 100));
    into.lists.push(lists.into_inner() as f64 / time.as_secs_f64());
}

fn measure() {
    let rounds = number("STRONGROOM_BENCH_ROUNDS", 5);
    let time = Duration::from_secs(number("STRONGROOM_BENCH_SECONDS", 3));
    // Under `cargo test --benches` a small folder shows that it runs.
    let usual = if std::env::args().any(|text| text == "--bench") { 300_000 } else { 2_000 };
    let children = number("STRONGROOM_BENCH_CHILDREN", usual);
    let server = Server::start("vault");
    let mut operator = server.connect(&server.operator);
    unlimited(&mut operator);
    let policy = r#"path "secret/*" { capabilities = ["read", "list"] }"#;
    order(&mut operator, "sys/policies/acl/app", &json!({ "policy": policy }));
    let identities = (0..=LISTERS).map(|n| {
        let identity = format!("app/n{n}");
        order(&mut operator, &format!("sys/strongroom/identities/{identity}"), &json!({ "policies": ["app"] }));
        issue(&server, &mut operator, &identity).1
    });
    let mut identities: Vec<Arc<ClientConfig>> = identities.collect();
    let reader = identities.pop().unwrap();
    order(&mut operator, READ, &json!({ "data": { "DATABASE_URL": "postgres://db", "TOKEN": "abc" } }));
    let start = Instant::now();
    fill(&server, "big", children);
    println!("{children} secrets in one folder, written in {:.0} s", start.elapsed().as_secs_f64());
    let mut alone = server.connect(&identities[0]);
    let mut single: Vec<f64> = (0..3)
        .map(|_| {
            let sent = Instant::now();
            assert_eq!(alone.ask(&list()).unwrap().0, 200);
            sent.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    single.sort_by(f64::total_cmp);
    println!("one list alone: {:.0} ms (median of 3)", single[1]);
    let mut figures = [Figures::default(), Figures::default()];
    for _ in 0..rounds {
        for (listers, into) in [&[][..], &identities].into_iter().zip(&mut figures) {
            round(&server, &reader, listers, time, into);
        }
    }
    println!("a read each {} ms, medians of {rounds} rounds of {} s", EVERY.as_millis(), time.as_secs());
    println!(
        "{:<24}{:>10}{:>10}{:>18}{:>10}{:>12}",
        "", "p50 us", "p99 us", "health, worst us", "lists/s", "p99 ratio"
    );
    let idle_us = middle(figures[0].p99_us.clone());
    for (name, figures) in ["alone", "beside four listings"].iter().zip(&figures) {
        let p99_us = middle(figures.p99_us.clone());
        println!(
            "{name:<24}{:>10.0}{p99_us:>10.0}{:>18.0}{:>10.1}{:>12.2}",
            middle(figures.p50_us.clone()),
            middle(figures.health_us.clone()),
            middle(figures.lists.clone()),
            p99_us / idle_us
        );
    }
}
