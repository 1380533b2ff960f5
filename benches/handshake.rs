//! Full mutual handshakes with one read each, beside a bare TLS server that checks the same certificates; requests while
//! the listener's certificate changes; and how fast a fleet is enrolled: `cargo bench --bench handshake`.
//! `STRONGROOM_BENCH_ROUNDS` (6), `STRONGROOM_BENCH_SECONDS` (1), `STRONGROOM_BENCH_SWAP_SECONDS` (5) and
//! `STRONGROOM_BENCH_FLEET` (1000) set how much.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement needs the clock")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Figures, Server, announce, config, get, order, row};
use serde_json::json;
use strongroom::enroll::EnrollString;
use strongroom::http::{self, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

const READ: &str = "secret/data/app/settings";

fn main() {
    match common::role().as_deref() {
        Some("vault") => serve_vault(false),
        Some("swapping") => serve_vault(true),
        Some(_) => serve_bare(),
        None => measure(),
    }
}

/// Both listeners; the certificate of the first is replaced ten times a second if `swapping`.
fn serve_vault(swapping: bool) {
    let folder = common::folder();
    let (vault, made) = common::make(folder.path());
    let ((listener, address), (second, enroll)) = (common::listen(), common::listen());
    let tls = common::tls(&made);
    let (_stop, stopped) = watch::channel(false);
    announce([address, enroll], &made.ca_pem, &made.operator);
    if swapping {
        let (vault, tls) = (Arc::clone(&vault), Arc::clone(&tls));
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(100));
                let next = vault.issue_server(&["localhost".to_owned()], 3600).unwrap();
                tls.replace_server(next.cert_pem.as_bytes(), next.key_pem.reveal().as_bytes()).unwrap();
            }
        });
    }
    let enrolling = (Arc::clone(&vault), address.port());
    let (limits, for_enrolment) = (common::limits(Limits::default()), common::limits(Limits::enrolment()));
    common::runtime().block_on(async {
        let enrolment =
            tokio::spawn(http::enroll::serve(second, Arc::clone(&tls), for_enrolment, enrolling, stopped.clone()));
        http::serve_with(listener, tls, "example.org".to_owned(), limits, vault, stopped).await.unwrap();
        enrolment.await.unwrap().unwrap();
    });
}

/// Accepts, checks the certificate, reads until the head ends, writes a reply of the size of the vault's.
fn serve_bare() {
    let folder = common::folder();
    let (_vault, made) = common::make(folder.path());
    let (listener, address) = common::listen();
    let acceptor = common::plain_tls(&made);
    let body = "x".repeat(400);
    let reply =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let reply: Arc<[u8]> = reply.into_bytes().into();
    listener.set_nonblocking(true).unwrap();
    announce([address, address], &made.ca_pem, &made.operator);
    common::runtime().block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (acceptor, reply) = (acceptor.clone(), Arc::clone(&reply));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let (mut bytes, mut filled) = ([0; 4096], 0);
                while let Ok(read @ 1..) = stream.read(&mut bytes[filled..]).await {
                    filled += read;
                    if bytes[..filled].ends_with(b"\r\n\r\n") {
                        filled = 0;
                        if stream.write_all(&reply).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
}

/// Connections one after the other by each of `clients` threads, a read on each.
fn round(server: &Server, clients: usize, time: Duration) -> Figures {
    let ask = get(READ);
    let (cpu, start) = (server.cpu(), Instant::now());
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let work = || {
            let mut times = Vec::new();
            while start.elapsed() < time {
                let began = Instant::now();
                assert_eq!(server.connect(&server.operator).ask(&ask).unwrap().0, 200);
                times.push(began.elapsed());
            }
            times
        };
        let running: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let elapsed = start.elapsed().as_secs_f64();
    Figures::new(times, elapsed, server.cpu() - cpu)
}

fn prepared(role: &str) -> Server {
    let server = Server::start(role);
    let mut operator = server.connect(&server.operator);
    order(&mut operator, READ, &json!({ "data": { "KEY": "v".repeat(100) } }));
    server
}

fn measure() {
    let rounds = common::number("STRONGROOM_BENCH_ROUNDS", 6);
    let time = Duration::from_secs(common::number("STRONGROOM_BENCH_SECONDS", 1));
    let (vault, bare) = (prepared("vault"), Server::start("bare"));
    println!("handshake and read, medians of {rounds} rounds of {} s", time.as_secs());
    for clients in [1, 8] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(round(&vault, clients, time));
            theirs.push(round(&bare, clients, time));
        }
        println!("{clients} at a time");
        common::compare("conn", ["vault", "bare"], [&ours, &theirs]);
    }
    drop(bare);
    swap();
    fleet(&vault);
}

/// A thousand requests a second, each twentieth on a new connection, while the certificate changes ten times a second.
fn swap() {
    let server = prepared("swapping");
    let time = Duration::from_secs(common::number("STRONGROOM_BENCH_SWAP_SECONDS", 5));
    let (sent, failed, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let ask = get(READ);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let start = Instant::now();
                let mut connection = server.connect(&server.operator);
                for number in 1_u32.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    if number % 20 == 0 {
                        connection = server.connect(&server.operator);
                    }
                    sent.fetch_add(1, Ordering::SeqCst);
                    if !connection.ask(&ask).is_ok_and(|(status, _)| status == 200) {
                        failed.fetch_add(1, Ordering::SeqCst);
                        connection = server.connect(&server.operator);
                    }
                    // 250 a second by each thread.
                    let due = Duration::from_millis(4) * number;
                    std::thread::sleep(due.saturating_sub(start.elapsed()));
                }
            });
        }
        std::thread::sleep(time);
        stop.store(true, Ordering::SeqCst);
    });
    let rate = sent.load(Ordering::SeqCst) as f64 / time.as_secs_f64();
    println!("certificate swapped 10 times a second: {rate:.0} requests/s, {} failed", failed.load(Ordering::SeqCst));
}

/// Identities that are registered, given a string and enrolled, one after the other and by eight at a time.
fn fleet(server: &Server) {
    let count = common::number("STRONGROOM_BENCH_FLEET", 1000);
    println!("enrolment of {count} identities, microseconds");
    println!("{:<44}{:>10}{:>10}{:>10}", "", "median", "p99", "max");
    for threads in [1_u64, 8] {
        let strings: Vec<String> = {
            let mut operator = server.connect(&server.operator);
            let (mut times, mut strings) = (Vec::new(), Vec::new());
            for number in 0..count {
                let identity = format!("fleet{threads}/n{number}");
                let began = Instant::now();
                order(&mut operator, &format!("sys/strongroom/identities/{identity}"), &json!({ "policies": ["app"] }));
                let body = json!({ "addresses": [local(server.second)] });
                let made = order(&mut operator, &format!("sys/strongroom/enrollments/{identity}"), &body);
                times.push(began.elapsed());
                strings.push(made["string"].as_str().unwrap().to_owned());
            }
            row("registered, with a string", times);
            strings
        };
        let next = AtomicU64::new(0);
        let start = Instant::now();
        let times: Vec<Duration> = std::thread::scope(|scope| {
            let work = || {
                let mut times = Vec::new();
                while let Some(string) = strings.get(usize::try_from(next.fetch_add(1, Ordering::SeqCst)).unwrap()) {
                    let began = Instant::now();
                    let request = strongroom::pki::request(strongroom::pki::KeyType::default()).unwrap();
                    let string = EnrollString::parse(string).unwrap();
                    let patience = Duration::from_secs(20);
                    let got = strongroom::client::enroll::enroll(&string, &request.csr_pem, patience).unwrap();
                    times.push(began.elapsed());
                    drop(config(&server.ca, &got.certificate, request.key_pem.reveal()));
                }
                times
            };
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let (elapsed, count) = (start.elapsed().as_secs_f64(), times.len() as f64);
        row(&format!("enrolled, {threads} at a time"), times);
        println!("    {count:.0} in {elapsed:.1} s: {:.0} a second", count / elapsed);
    }
}

/// The name that the server certificate has, with the port of `address`.
fn local(address: SocketAddr) -> String {
    format!("localhost:{}", address.port())
}
