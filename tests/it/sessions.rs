//! Open connections whose holder may not be there any more, or that have been there for long enough.

use std::thread::sleep;
use std::time::{Duration, Instant};

use strongroom::core::Caller;
use strongroom::http::Limits;

use crate::support::raw::Raw;
use crate::support::server::{Server, identity, now_ms};

/// When something that happens at once must have happened, on a busy machine.
const SOON: Duration = Duration::from_secs(2);

/// Everybody but the one whose path this is.
fn all_but(path: &str) -> impl Fn(&Caller) -> bool {
    move |caller| caller.identity.path() != path
}

/// An open connection that has been served.
fn open(server: &Server, path: &str) -> Raw {
    let mut connection = Raw::connect(server, &server.certificate(path));
    assert_eq!(connection.get("sys/health").unwrap().status, 200);
    connection
}

#[test]
fn idle_connections_of_a_dismissed_identity_close_at_once() {
    let server = Server::start();
    let mut used = open(&server, "app/out");
    let mut other = open(&server, "app/stays");
    // One that has never asked anything, and one that stopped in the middle of a head.
    let mut fresh = Raw::connect(&server, &server.certificate("app/out"));
    while fresh.0.conn.is_handshaking() {
        fresh.0.conn.complete_io(&mut fresh.0.sock).unwrap();
    }
    let mut begun = open(&server, "app/out");
    begun.send(b"GET /v1/sys/health HT").unwrap();
    let start = Instant::now();
    let wait_for = |count| {
        while server.vault.sessions().count("app/out") != count {
            assert!(start.elapsed() < 2 * SOON, "the server does not see that connections come and go");
            sleep(Duration::from_millis(5));
        }
    };
    wait_for(3);
    assert_eq!(server.vault.sessions().review(all_but("app/out")), 3);
    for connection in [&mut used, &mut fresh, &mut begun] {
        assert!(connection.wait_for_end() < SOON);
    }
    wait_for(0);
    assert_eq!(other.get("sys/health").unwrap().status, 200);
    assert_eq!(server.vault.sessions().count("app/stays"), 1);
}

#[test]
fn a_request_that_waits_is_cut_soon() {
    let server = Server::start();
    server.application("app/out", r#"path "secret/data/*" { capabilities = ["read"] }"#);
    let mut waiting = open(&server, "app/out");
    waiting
        .send(b"GET /v1/sys/strongroom/events?path=secret/data/a&wait=30 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    // One that sends its body for ever.
    let mut slow = open(&server, "app/out");
    slow.send(b"POST /v1/secret/data/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{").unwrap();
    sleep(Duration::from_millis(300));
    server.vault.sessions().review(all_but("app/out"));
    for connection in [&mut waiting, &mut slow] {
        let lived = connection.wait_for_end();
        assert!(lived < SOON, "{lived:?}");
    }
}

#[test]
fn a_connection_ends_at_its_age_between_two_requests() {
    let server = Server::with(Limits { age: Duration::from_secs(2), ..Limits::default() });
    let mut idle = open(&server, "app/idle");
    let mut busy = open(&server, "app/busy");
    let start = Instant::now();
    while let Ok(reply) = busy.get("sys/health") {
        assert_eq!(reply.status, 200);
        assert!(start.elapsed() < 2 * SOON, "a busy connection goes on for ever");
    }
    assert!(start.elapsed() > Duration::from_millis(1_500), "too early: {:?}", start.elapsed());
    assert!(idle.wait_for_end() < SOON);
    assert_eq!(open(&server, "app/busy").get("sys/health").unwrap().status, 200);
}

#[test]
fn neither_a_busy_connection_nor_one_that_waits_outlives_its_certificate() {
    let server = Server::start();
    let bundle = server.vault.issue_client(&identity("app/short"), 3).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(bundle.cert_pem.as_bytes()).unwrap();
    let end_s = pem.parse_x509().unwrap().validity().not_after.timestamp();
    let end_ms = u64::try_from(end_s).unwrap() * 1_000;
    server.application("app/short", r#"path "secret/data/*" { capabilities = ["read"] }"#);
    let (mut busy, mut waiting) = (Raw::connect(&server, &bundle), Raw::connect(&server, &bundle));
    waiting
        .send(b"GET /v1/sys/strongroom/events?path=secret/data/a&wait=30 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut stays = open(&server, "app/stays");
    while let Ok(reply) = busy.get("sys/health") {
        assert_eq!(reply.status, 200);
        assert!(now_ms() < end_ms + 1_000, "answered after the end");
        sleep(Duration::from_millis(5));
    }
    assert!(now_ms() >= end_ms, "ended before the certificate");
    waiting.wait_for_end();
    assert!(now_ms() < end_ms + 3_000, "{} ms after the end", now_ms() - end_ms);
    assert_eq!(stays.get("sys/health").unwrap().status, 200);
}
