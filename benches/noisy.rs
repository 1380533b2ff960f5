//! What a quiet identity notices of a noisy one that is over its limit: `cargo bench --bench noisy`. Over mutual TLS,
//! with the audit log on; the vault runs in a process of its own and may use every processor, like its clients.
//! `STRONGROOM_BENCH_ROUNDS` (4), `STRONGROOM_BENCH_SECONDS` (2) and `STRONGROOM_BENCH_NOISE` (8 connections) set how
//! long and how much.
//!
//! Three states, interleaved: the quiet one alone; beside a noisy one that sends without a pause and is answered 429;
//! beside one that is refused and waits as long as `Retry-After` says, as a well-behaved client does.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement needs the clock")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Server, get, issue, middle, number, order, percentile};
use rustls::ClientConfig;
use serde_json::json;

const READ: &str = "secret/data/app/settings";
/// The quiet one asks this often.
const EVERY: Duration = Duration::from_millis(2);

fn main() {
    match common::role() {
        Some(_) => common::serve_vault(),
        None => measure(),
    }
}

/// Who asks.
struct Clients {
    noisy: Arc<ClientConfig>,
    quiet: Arc<ClientConfig>,
}

#[derive(Clone, Copy, PartialEq)]
enum Noise {
    None,
    Endless,
    Waiting,
}

#[derive(Default)]
struct Figures {
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    refused: Vec<f64>,
}

/// Times of the quiet one's requests, and refusals of the noisy one a second.
fn round(server: &Server, clients: &Clients, noise: Noise, connections: u64, time: Duration, into: &mut Figures) {
    let ask = get(READ);
    let (stop, refused) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut times = std::thread::scope(|scope| {
        for _ in 0..if noise == Noise::None { 0 } else { connections } {
            scope.spawn(|| {
                let mut connection = server.connect(&clients.noisy);
                while !stop.load(Ordering::Relaxed) {
                    if connection.ask(&ask).unwrap().0 == 429 {
                        refused.fetch_add(1, Ordering::Relaxed);
                        let end = Instant::now() + Duration::from_secs(u64::from(noise == Noise::Waiting));
                        while Instant::now() < end && !stop.load(Ordering::Relaxed) {
                            std::thread::sleep(Duration::from_millis(20));
                        }
                    }
                }
            });
        }
        let mut quiet = server.connect(&clients.quiet);
        // Until the noisy one has used up its burst.
        std::thread::sleep(Duration::from_millis(300));
        refused.store(0, Ordering::Relaxed);
        let (start, mut times) = (Instant::now(), Vec::new());
        while start.elapsed() < time {
            std::thread::sleep(EVERY);
            let sent = Instant::now();
            assert_eq!(quiet.ask(&ask).unwrap().0, 200);
            times.push(sent.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        times
    });
    times.sort_unstable();
    let micros = |part| percentile(&times, part).as_secs_f64() * 1e6;
    into.p50_us.push(micros(50));
    into.p99_us.push(micros(99));
    into.refused.push(refused.into_inner() as f64 / time.as_secs_f64());
}

fn measure() {
    let rounds = number("STRONGROOM_BENCH_ROUNDS", 4);
    let time = Duration::from_secs(number("STRONGROOM_BENCH_SECONDS", 2));
    let connections = number("STRONGROOM_BENCH_NOISE", 8);
    let server = Server::start("vault");
    let mut operator = server.connect(&server.operator);
    let policy = r#"path "secret/*" { capabilities = ["read"] }"#;
    order(&mut operator, "sys/policies/acl/app", &json!({ "policy": policy }));
    let [noisy, quiet] = ["app/noisy", "app/quiet"].map(|identity| {
        order(&mut operator, &format!("sys/strongroom/identities/{identity}"), &json!({ "policies": ["app"] }));
        issue(&server, &mut operator, identity).1
    });
    let clients = Clients { noisy, quiet };
    order(&mut operator, READ, &json!({ "data": { "DATABASE_URL": "postgres://db", "TOKEN": "abc" } }));
    let limit = json!({ "identity": "app/noisy", "rate": 100, "burst": 100 });
    order(&mut operator, "sys/quotas/rate-limit/noisy", &limit);
    let states = [("alone", Noise::None), ("noisy, endless", Noise::Endless), ("noisy, waits", Noise::Waiting)];
    let mut figures = [Figures::default(), Figures::default(), Figures::default()];
    for _ in 0..rounds {
        for ((_, noise), into) in states.iter().zip(&mut figures) {
            round(&server, &clients, *noise, connections, time, into);
        }
    }
    println!("a read each {} ms, noise on {connections} connections, medians of {rounds} rounds", EVERY.as_millis());
    println!("{:<16}{:>10}{:>10}{:>14}{:>12}", "quiet one", "p50 us", "p99 us", "refusals/s", "p99 ratio");
    let alone_us = middle(figures[0].p99_us.clone());
    for ((name, _), figures) in states.iter().zip(&figures) {
        let p99_us = middle(figures.p99_us.clone());
        println!(
            "{name:<16}{:>10.0}{p99_us:>10.0}{:>14.0}{:>12.2}",
            middle(figures.p50_us.clone()),
            middle(figures.refused.clone()),
            p99_us / alone_us
        );
    }
}
