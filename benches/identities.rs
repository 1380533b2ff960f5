//! What identities cost by their number: `cargo bench --bench identities [-- COUNT...]` (1,000 and 100,000 if not given).
//! `STRONGROOM_BENCH_CERTIFICATES` (1) is how many certificates each of them has had: a host that renews one of 24 hours keeps
//! four to six rows in the ledger.
//!
//! Through the pipeline and the committer with redb on the disk, without the network: registering all of them by sixteen
//! callers at a time; then one change, registration, certificate, renewal and revocation at a time; the report; and the start
//! of a vault that has them, each with its certificates.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement needs the clock"
)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strongroom::api::json::Limits;
use strongroom::api::path::Path as ApiPath;
use strongroom::api::request::{Body, Operation};
use strongroom::api::spiffe::SpiffeId;
use strongroom::core::{Caller, Opener, Origin, Request, UnsealKey, Vault};
use zeroize::Zeroizing;

/// Changes of each kind that are timed.
const EACH: usize = 40;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut counts: Vec<usize> = arguments.iter().filter_map(|text| text.parse().ok()).collect();
    if counts.is_empty() {
        // Under `cargo test --benches` a few show that it runs.
        counts = if arguments.iter().any(|text| text == "--bench") { vec![1_000, 100_000] } else { vec![100] };
    }
    for count in counts {
        measure(count);
    }
}

fn caller(path: &str) -> Caller {
    Caller {
        identity: Arc::new(SpiffeId::new("example.org", path).unwrap()),
        origin: Origin::Internal,
        fingerprint: [0; 32],
        not_before_ms: 0,
        not_after_ms: u64::MAX,
        remote: "192.0.2.1:4711".to_owned(),
        request_id: "bench".to_owned(),
        bundle: None,
        token: None,
    }
}

async fn ask(vault: &Vault, caller: &Caller, operation: Operation, path: &str, body: &Value) -> Value {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let body = Body::from_json(Zeroizing::new(bytes), &Limits::default()).unwrap();
    let path = ApiPath::parse(path).unwrap();
    let request = Request { operation, path: path.clone(), body, wrap_ttl: None, if_none_match: None, seen: None };
    let reply = vault.handle(caller, request).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    reply.data.map(|data| serde_json::from_slice(&data).unwrap()).unwrap_or_default()
}

fn measure(count: usize) {
    let certificates = common::number("STRONGROOM_BENCH_CERTIFICATES", 1);
    let folder = common::folder();
    let runtime = common::runtime();
    let (vault, _) = common::make(folder.path());
    let operator = caller("ops/alice");
    let write = |path: &str, body: Value| {
        let start = Instant::now();
        let reply = runtime.block_on(ask(&vault, &operator, Operation::Write, path, &body));
        (start.elapsed(), reply)
    };
    write("sys/quotas/rate-limit/default", json!({ "read": 0, "write": 0, "list": 0, "bytes": 0 }));
    write("sys/policies/acl/app", json!({ "policy": r#"path "secret/*" { capabilities = ["read"] }"# }));
    let start = Instant::now();
    let csr = strongroom::pki::request(strongroom::pki::KeyType::default()).unwrap().csr_pem;
    runtime.block_on(async {
        let tasks = (0..16).map(|worker| {
            let (vault, operator, csr) = (Arc::clone(&vault), operator.clone(), csr.clone());
            tokio::spawn(async move {
                for n in (worker..count).step_by(16) {
                    let body = json!({ "policies": ["app"] });
                    ask(&vault, &operator, Operation::Write, &identity(n), &body).await;
                    let body = json!({ "identity": format!("app/n{n}"), "csr": csr });
                    for _ in 0..certificates {
                        ask(&vault, &operator, Operation::Write, "sys/strongroom/certificates", &body).await;
                    }
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "\n{count} identities with {certificates} certificates each, made in {seconds:.0} s ({:.0}/s)",
        count as f64 / seconds
    );
    println!("{:<44}{:>10}{:>10}{:>10}", "microseconds", "median", "p99", "max");
    let each = |name: &str, work: &dyn Fn(usize) -> Duration| common::row(name, (0..EACH).map(work).collect());
    each("register", &|n| write(&identity(count + n), json!({ "policies": ["app"] })).0);
    each("change", &|n| write(&identity(n), json!({ "policies": ["app", "more"] })).0);
    each("issue a certificate", &|n| {
        write("sys/strongroom/certificates", json!({ "identity": format!("app/n{n}"), "csr": csr })).0
    });
    each("revoke", &|n| write(&format!("sys/strongroom/revoke/app/n{n}"), json!({})).0);
    each("change a policy", &|_| {
        write("sys/policies/acl/app", json!({ "policy": r#"path "secret/*" { capabilities = ["read"] }"# })).0
    });
    let read = |path: &str| {
        let start = Instant::now();
        runtime.block_on(ask(&vault, &operator, Operation::Read, path, &Value::Null));
        start.elapsed()
    };
    common::row("read by one of them", (0..EACH).map(|n| read_by(&runtime, &vault, n)).collect());
    for (name, path) in [("identity report", "sys/strongroom/identity-report"), ("metrics", "sys/metrics")] {
        common::row(name, (0..3).map(|_| read(path)).collect());
    }
    vault.seal();
    let key = [9; 32];
    let starts = (0..3).map(|_| {
        let start = Instant::now();
        vault.unseal(Opener::Local, &UnsealKey::KeyFile(&key)).unwrap();
        let time = start.elapsed();
        vault.seal();
        time
    });
    common::row("start (unseal with a key file)", starts.collect());
    println!("resident: {} KiB; store: {} MiB", resident_kib(), size_mib(folder.path()));
}

fn identity(n: usize) -> String {
    format!("sys/strongroom/identities/app/n{n}")
}

/// The first one after the policy was changed compiles it anew for itself.
fn read_by(runtime: &tokio::runtime::Runtime, vault: &Vault, n: usize) -> Duration {
    let caller = caller(&format!("app/n{}", EACH + n));
    let body = Body::from_json(Zeroizing::new(Vec::new()), &Limits::default()).unwrap();
    let path = ApiPath::parse("secret/data/nothing").unwrap();
    let request = Request { operation: Operation::Read, path, body, wrap_ttl: None, if_none_match: None, seen: None };
    let start = Instant::now();
    let _not_found = runtime.block_on(vault.handle(&caller, request));
    start.elapsed()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

fn size_mib(folder: &Path) -> u64 {
    let sizes = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    sizes.sum::<u64>() >> 20
}
