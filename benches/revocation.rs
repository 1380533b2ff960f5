//! How long a revoked certificate is good for: `cargo bench --bench revocation`. Each trial has a new certificate with an
//! idle connection and one that asks all the time. `STRONGROOM_BENCH_TRIALS` (1000) sets how many.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement needs the clock")]

mod common;

use std::time::{Duration, Instant};

use common::{Connection, Server, get, issue, order, row};
use serde_json::json;

const READ: &str = "secret/data/app/settings";

fn main() {
    match common::role() {
        Some(_) => common::serve_vault(),
        None => measure(),
    }
}

struct Trial {
    /// Of the order to revoke.
    answer: Duration,
    /// From the order to the first request that began then or later and was refused.
    refused: Duration,
    /// From the answer to the close of the idle connection; zero if it came first.
    closed: Duration,
    /// From the order to that.
    closed_in_all: Duration,
    /// Requests that began after the answer and were served.
    late: u64,
}

fn trial(server: &Server, operator: &mut Connection, number: u64) -> Trial {
    let identity = format!("app/n{}", number % 50);
    order(operator, &format!("sys/strongroom/identities/{identity}"), &json!({ "policies": ["app"] }));
    let (certificate, holder) = issue(server, operator, &identity);
    let ask = get(READ);
    let (mut idle, mut busy) = (server.connect(&holder), server.connect(&holder));
    assert_eq!(idle.ask(&ask).unwrap().0, 200);
    assert_eq!(busy.ask(&ask).unwrap().0, 200);
    let named = leaf_fingerprint(&certificate);
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| {
            idle.wait_for_end();
            Instant::now()
        });
        let asking = scope.spawn(|| {
            // When each request that was served began, the last alone; and the first that was not.
            let mut last = Instant::now();
            loop {
                let began = Instant::now();
                match busy.ask(&ask) {
                    Ok((200, _)) => last = began,
                    Ok((403, _)) | Err(_) => return (last, Instant::now()),
                    Ok((status, _)) => panic!("{status}"),
                }
            }
        });
        std::thread::sleep(Duration::from_millis(2));
        let sent = Instant::now();
        order(operator, &format!("sys/strongroom/revoke/{identity}"), &json!({ "certificate": named }));
        let answered = Instant::now();
        let (last, refused) = asking.join().unwrap();
        let closed = closing.join().unwrap();
        Trial {
            answer: answered - sent,
            refused: refused.saturating_duration_since(sent),
            closed: closed.saturating_duration_since(answered),
            closed_in_all: closed.saturating_duration_since(sent),
            late: u64::from(last > answered),
        }
    })
}

fn leaf_fingerprint(pem: &str) -> String {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    use strongroom::api::hex::hex;
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    hex(&strongroom::crypto::hash::sha256(&[&der]))
}

fn measure() {
    let trials = common::number("STRONGROOM_BENCH_TRIALS", 1000);
    let server = Server::start("vault");
    let mut operator = server.connect(&server.operator);
    let policy = r#"path "secret/data/app/*" { capabilities = ["read"] }"#;
    order(&mut operator, "sys/policies/acl/app", &json!({ "policy": policy }));
    order(&mut operator, READ, &json!({ "data": { "KEY": "value" } }));
    let all: Vec<Trial> = (0..trials).map(|number| trial(&server, &mut operator, number)).collect();
    println!("{trials} revocations, microseconds");
    println!("{:<44}{:>10}{:>10}{:>10}", "", "median", "p99", "max");
    let times = |of: fn(&Trial) -> Duration| all.iter().map(of).collect::<Vec<_>>();
    row("order to answer", times(|trial| trial.answer));
    row("order to first refusal", times(|trial| trial.refused));
    row("order to close of the idle connection", times(|trial| trial.closed_in_all));
    row("answer to close of the idle connection", times(|trial| trial.closed));
    println!("requests begun after the answer and served: {}", all.iter().map(|trial| trial.late).sum::<u64>());
}
