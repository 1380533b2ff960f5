//! A data key that is rotated while clients read and write and the daemon is killed again and again.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use serde_json::{Value, json};
use strongroom::api::path::Path;
use strongroom::audit::{AuditKeys, verify};
use strongroom::client::{Client, ClientError};
use strongroom::store::conformance::Random;

use super::house::{House, amount};

const READERS: u64 = 4;
const WRITERS: u64 = 2;
/// Secrets that one writer goes round over.
const OWN: u64 = 50;
/// Requests that fill the vault at the same time: they share commits.
const FILLERS: u64 = 16;

fn secret(n: u64) -> Path {
    Path::parse(&format!("load/f{}/s{n}", n / 500)).unwrap()
}

fn own(writer: u64, n: u64) -> Path {
    Path::parse(&format!("own/w{writer}/s{}", n % OWN)).unwrap()
}

/// Told by clients, over all daemons.
#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    reads: AtomicU64,
    /// Highest write of each writer that was acknowledged, and that was sent.
    acknowledged: [AtomicU64; 2],
    sent: [AtomicU64; 2],
    away: AtomicU64,
}

/// A client that follows the daemon, with the newest mark it has seen: a daemon that came back with an older state is
/// an error.
struct Follower<'a> {
    house: &'a House,
    client: Client,
}

impl<'a> Follower<'a> {
    fn new(house: &'a House) -> Self {
        Self { house, client: house.client() }
    }

    /// What was answered; `None` while there is no daemon or it is not open yet.
    fn ask<T>(&mut self, counts: &Counts, call: impl Fn(&Client) -> Result<T, ClientError>) -> Option<T> {
        if !self.house.is_at(&self.client) {
            let next = self.house.client();
            if let Some(mark) = self.client.mark() {
                next.set_mark(mark);
            }
            self.client = next;
        }
        match call(&self.client) {
            Ok(value) => Some(value),
            Err(ClientError::Transport { .. }) => {
                counts.away.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(2));
                None
            }
            Err(error) if error.is_sealed() => {
                sleep(Duration::from_millis(2));
                None
            }
            Err(error) => panic!("a client was refused: {error}"),
        }
    }
}

fn reads(house: &House, counts: &Counts, seed: u64, total: u64) {
    let (mut random, mut follower) = (Random::new(seed), Follower::new(house));
    while !counts.stop.load(Ordering::Relaxed) {
        let n = u64::from(random.below(u32::try_from(total).unwrap()));
        let Some(pairs) = follower.ask(counts, |client| client.kv("secret").pairs(&secret(n))) else { continue };
        let pairs = pairs.unwrap_or_else(|| panic!("secret {n} is missing"));
        assert_eq!((pairs.len(), pairs[0].1.reveal()), (1, format!("value of {n}").as_str()), "secret {n}");
        counts.reads.fetch_add(1, Ordering::Relaxed);
    }
}

fn writes(house: &House, counts: &Counts, writer: u64) {
    let at = usize::try_from(writer).unwrap();
    let mut follower = Follower::new(house);
    for n in 1.. {
        if counts.stop.load(Ordering::Relaxed) {
            return;
        }
        counts.sent[at].store(n, Ordering::SeqCst);
        let text = n.to_string();
        let path = own(writer, n);
        let put = |client: &Client| client.kv("secret").put_pairs(&path, &[("N", &text.as_str().into())]);
        // Without an answer nobody knows whether it was done: it is written until somebody does.
        while follower.ask(counts, put).is_none() {
            if counts.stop.load(Ordering::Relaxed) {
                return;
            }
        }
        counts.acknowledged[at].store(n, Ordering::SeqCst);
        if let Some(pairs) = follower.ask(counts, |client| client.kv("secret").pairs(&path)) {
            assert_eq!(pairs.expect("written a moment ago")[0].1.reveal(), text);
        }
    }
}

fn fill(house: &House, total: u64) {
    thread::scope(|scope| {
        for filler in 0..FILLERS {
            scope.spawn(move || {
                let client = house.client();
                for n in (filler..total).step_by(usize::try_from(FILLERS).unwrap()) {
                    let text = format!("value of {n}");
                    client.kv("secret").put_pairs(&secret(n), &[("K", &text.as_str().into())]).unwrap();
                }
            });
        }
    });
}

/// The rotation that is under way.
fn under_way(house: &House) -> Option<Value> {
    let runs = house.get("sys/strongroom/rotations")["rotations"].as_array().unwrap().clone();
    runs.into_iter().find(|run| !matches!(run["state"].as_str(), Some("done" | "aborted")))
}

fn rewraps_under_load(engine: &str, total: u64, kills: u64) {
    let house = House::open(engine, "");
    fill(&house, total);
    let seed = std::env::var("STRONGROOM_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("STRONGROOM_SEED={seed}");
    let mut random = Random::new(seed);
    let counts = Arc::new(Counts::default());
    let mut in_time = 0;
    thread::scope(|scope| {
        // Whatever fails here ends the clients, or the scope would wait for them.
        struct Stop<'a>(&'a Counts);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.stop.store(true, Ordering::SeqCst);
            }
        }
        let (house, counts) = (&house, &*counts);
        let stop = Stop(counts);
        for reader in 0..READERS {
            scope.spawn(move || reads(house, counts, seed ^ reader, total));
        }
        for writer in 0..WRITERS {
            scope.spawn(move || writes(house, counts, writer));
        }
        // A walk over this many records takes about so long here; kills spread over it.
        let window = u32::try_from(100 + total / 20).unwrap().min(1_500);
        for kill in 0..kills {
            if under_way(house).is_none() {
                house.post("sys/rotate", &json!({ "full_speed": true, "deep": false }));
            }
            sleep(Duration::from_millis(random.below(window).into()));
            let caught = under_way(house);
            house.kill();
            in_time += u64::from(caught.is_some());
            println!(
                "kill {kill}: {:?}",
                caught.map(|run| format!("{} {} of {}", run["state"], run["done"], run["total"]))
            );
            house.start();
        }
        house.settle();
        // At least one rotation from start to end, whatever the last kill hit.
        house.post("sys/rotate", &json!({ "full_speed": true, "deep": false }));
        house.settle();
        let seen = counts.reads.load(Ordering::Relaxed);
        while counts.reads.load(Ordering::Relaxed) < seen + 100 {
            sleep(Duration::from_millis(5));
        }
        drop(stop);
    });
    assert!(in_time > 0, "no kill came while a rotation was under way");
    check(&house, &counts, total);
    println!(
        "{engine}: {total} secrets, {kills} kills ({in_time} of them during a rotation), {:?}",
        (counts.reads.load(Ordering::Relaxed), &counts.acknowledged, counts.away.load(Ordering::Relaxed))
    );
}

/// Every value, the terms, the proof, and the log.
fn check(house: &House, counts: &Counts, total: u64) {
    let client = house.client();
    for n in 0..total {
        let pairs = client.kv("secret").pairs(&secret(n)).unwrap().unwrap_or_else(|| panic!("secret {n} is lost"));
        assert_eq!(pairs[0].1.reveal(), format!("value of {n}"));
    }
    for writer in 0..WRITERS {
        let at = usize::try_from(writer).unwrap();
        let (told, sent) = (counts.acknowledged[at].load(Ordering::SeqCst), counts.sent[at].load(Ordering::SeqCst));
        assert!(told > 0, "writer {writer} did nothing");
        for n in told.saturating_sub(OWN - 1).max(1)..=told {
            let pairs = client.kv("secret").pairs(&own(writer, n)).unwrap();
            let found: u64 = pairs.expect("acknowledged")[0].1.reveal().parse().unwrap();
            assert!(found == n || (found > told && found <= sent), "write {n} of {writer} is lost: {found}");
        }
    }
    let states = house.term_states();
    let (last, old) = states.split_last().unwrap();
    assert!(last == "active" && !old.is_empty() && old.iter().all(|state| state == "destroyed"), "{states:?}");
    let run = house.settle();
    assert_eq!(run["state"], "done");
    let proof = &run["proofs"].as_array().unwrap().last().unwrap().clone();
    assert!(proof["records"].as_u64().unwrap() >= total && proof["opened"].as_u64().unwrap() >= total, "{run}");
    let public = house.get("sys/strongroom/audit-public-key");
    house.stop();

    // Off the host: the file and the public key are all there is.
    let mut keys = AuditKeys::none();
    let hex = public["public_key"].as_str().unwrap();
    let bytes: Vec<u8> = (0..32).map(|n| u8::from_str_radix(&hex[n * 2..n * 2 + 2], 16).unwrap()).collect();
    keys.add_public(u32::try_from(public["id"].as_u64().unwrap()).unwrap(), bytes.try_into().unwrap());
    let log = house.data.join("audit/audit.log");
    let report = verify::verify([("audit.log", File::open(&log).unwrap())], &keys, None);
    assert!(report.is_good() && report.signed, "{:?}", report.findings);
    let proofs: Vec<u64> = std::fs::read_to_string(&log)
        .unwrap()
        .lines()
        .filter(|line| line.contains("\"rule\":\"proof: term "))
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert!(proofs.len() >= old.len(), "{} terms are destroyed, {} proofs are logged", old.len(), proofs.len());
    let last = proofs.last().unwrap();
    assert!(report.signed_to >= *last, "the proof {last} stands under no checkpoint: {}", report.signed_to);
}

#[test]
fn no_read_fails_and_no_write_is_lost_while_everything_is_sealed_anew_on_redb() {
    rewraps_under_load("redb", amount(500, 5_000, 100_000), amount(3, 5, 20));
}

#[test]
fn no_read_fails_and_no_write_is_lost_while_everything_is_sealed_anew_on_sled() {
    rewraps_under_load("sled", amount(200, 1_000, 20_000), amount(3, 5, 20));
}
