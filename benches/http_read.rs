//! Reads of a secret over mutual TLS with the audit log on, beside the same stack answering a fixed body of the same
//! size: `cargo bench --bench http_read`. `STRONGROOM_BENCH_ROUNDS` (4) and `STRONGROOM_BENCH_SECONDS` (2) set how long.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement needs the clock")]

mod common;

use std::time::{Duration, Instant};

use common::{Connection, Figures, Server, announce, get, order};
use serde_json::json;

const READ: &str = "secret/data/app/settings";
const BODY: &str = "STRONGROOM_BENCH_BODY";

fn main() {
    match common::role().as_deref() {
        Some("vault") => common::serve_vault(),
        Some(_) => serve_fixed(),
        None => measure(),
    }
}

/// axum on hyper on rustls with the vault's TLS settings, and nothing else.
fn serve_fixed() {
    let folder = common::folder();
    let (_vault, made) = common::make(folder.path());
    let (listener, address) = common::listen();
    let acceptor = common::plain_tls(&made);
    let length = usize::try_from(common::number(BODY, 600)).unwrap();
    let body = axum::body::Bytes::from(vec![b'x'; length]);
    let answer = move || {
        std::future::ready(([("content-type", "application/json"), ("cache-control", "no-store")], body.clone()))
    };
    let router = axum::Router::new().route("/v1/{*path}", axum::routing::any(answer));
    listener.set_nonblocking(true).unwrap();
    announce([address, address], &made.ca_pem, &made.operator);
    common::runtime().block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let service = hyper_util::service::TowerToHyperService::new(router);
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    });
}

/// The length of the body of one reply.
fn read(connection: &mut Connection, request: &[u8]) -> usize {
    let (status, body) = connection.ask(request).unwrap();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    body.len()
}

fn round(server: &Server, connections: usize, time: Duration) -> Figures {
    let request = get(READ);
    let mut open: Vec<_> = (0..connections).map(|_| server.connect(&server.operator)).collect();
    for connection in &mut open {
        read(connection, &request);
    }
    let (cpu, start) = (server.cpu(), Instant::now());
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let work = |mut connection: Connection| {
            let mut times = Vec::new();
            while start.elapsed() < time {
                let sent = Instant::now();
                read(&mut connection, &request);
                times.push(sent.elapsed());
            }
            times
        };
        let running: Vec<_> = open.into_iter().map(|connection| scope.spawn(move || work(connection))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let elapsed = start.elapsed().as_secs_f64();
    Figures::new(times, elapsed, server.cpu() - cpu)
}

fn measure() {
    let rounds = common::number("STRONGROOM_BENCH_ROUNDS", 4);
    let time = Duration::from_secs(common::number("STRONGROOM_BENCH_SECONDS", 2));
    let vault = Server::start("vault");
    let mut operator = vault.connect(&vault.operator);
    order(&mut operator, "sys/quotas/rate-limit/default", &json!({ "read": 0, "bytes": 0 }));
    order(&mut operator, READ, &json!({ "data": { "DATABASE_URL": "d".repeat(80), "TOKEN": "t".repeat(40) } }));
    let length = read(&mut operator, &get(READ));
    let fixed = Server::start_with("fixed", &[(BODY, length.to_string())]);
    println!("reply of {length} bytes, medians of {rounds} rounds of {} s", time.as_secs());
    for connections in [1, 16] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(round(&vault, connections, time));
            theirs.push(round(&fixed, connections, time));
        }
        println!("{connections} at a time");
        common::compare("req", ["vault", "fixed"], [&ours, &theirs]);
    }
    println!("resident: vault {}, fixed {}", vault.resident(), fixed.resident());
}
