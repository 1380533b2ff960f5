//! The listener against strangers, slow peers and greedy peers. After each, another client is served as before.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::TLS13;
use strongroom::api::secret::SecretText;
use strongroom::client::{Client, ClientError, Settings as ClientSettings};
use strongroom::http::Limits;
use strongroom::pki::{Authority, Bundle};

use crate::support::raw::{Raw, Reply, config};
use crate::support::server::{DOMAIN, Server, identity, now_ms, other_authority};

/// A limit in time that a test can wait for.
const SHORT: Duration = Duration::from_millis(400);
/// When something limited to [`SHORT`] must be over, on a busy machine.
const SOON: Duration = Duration::from_secs(5);

fn short() -> Limits {
    Limits { handshake: SHORT, head: SHORT, body: SHORT, idle: Duration::from_secs(20), ..Limits::default() }
}

/// The server still serves the operator.
fn assert_serves(server: &Server) {
    let reply = Raw::connect(server, &server.operator).get("sys/strongroom/identities?list=true").unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// No reply comes over TLS as `bundle`.
fn assert_refused(server: &Server, bundle: Option<&Bundle>) {
    let reply = Raw::with(server, config(server, bundle, &[&TLS13])).get("sys/health");
    assert!(reply.is_err(), "{reply:?}");
    assert_serves(server);
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    assert_refused(&Server::start(), None);
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let server = Server::start();
    let bundle = other_authority(DOMAIN).issue_client(&identity("ops/alice"), now_ms(), 3600).unwrap();
    assert_refused(&server, Some(&bundle));
}

#[test]
fn a_client_takes_no_server_but_that_of_its_profile() {
    let server = Server::start();
    let settings = |ca_pem: &str| ClientSettings {
        addr: format!("https://{}", server.address),
        ca_pem: ca_pem.as_bytes().to_vec(),
        cert_pem: server.operator.cert_pem.clone().into_bytes(),
        key_pem: SecretText::new(server.operator.key_pem.reveal().to_owned()),
        timeout: Duration::from_secs(20),
    };
    let asked = |ca_pem: &str| Client::connect(settings(ca_pem)).unwrap().request("GET", "sys/health", None);
    assert_eq!(asked(&server.ca_pem).unwrap().status, 200);
    // Of the same trust domain, and good for the same names, but not the one of the profile.
    let refused = asked(other_authority(DOMAIN).cert_pem()).err().expect("a server of nobody's");
    assert!(!matches!(refused, ClientError::Refused { .. }), "it was asked something: {refused}");
}

#[test]
fn keys_are_agreed_on_against_quantum_computers_too() {
    let server = Server::start();
    let usual = config(&server, Some(&server.operator), &[&TLS13]);
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // What the client of this library offers, in its order.
    provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.ca_pem.as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(&[&TLS13]).unwrap().with_root_certificates(roots);
    let config = builder.with_client_cert_resolver(Arc::clone(&usual.client_auth_cert_resolver));
    let mut raw = Raw::with(&server, Arc::new(config));
    assert_eq!(raw.get("sys/health").unwrap().status, 200);
    let group = raw.0.conn.negotiated_key_exchange_group().expect("agreed").name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[test]
fn a_certificate_is_refused_after_its_time() {
    let authority = other_authority(DOMAIN);
    let server = Server::trusting(Limits::default(), &authority);
    let valid = authority.issue_client(&identity("ops/alice"), now_ms(), 3600).unwrap();
    assert_eq!(Raw::connect(&server, &valid).get("sys/seal-status").unwrap().status, 200);
    let expired = authority.issue_client(&identity("ops/alice"), now_ms() - 7_200_000, 3600).unwrap();
    assert_refused(&server, Some(&expired));
}

#[test]
fn an_open_connection_does_not_outlive_its_certificate() {
    let authority = other_authority(DOMAIN);
    let server = Server::trusting(Limits::default(), &authority);
    let bundle = authority.issue_client(&identity("ops/alice"), now_ms(), 2).unwrap();
    let mut connection = Raw::connect(&server, &bundle);
    assert_eq!(connection.get("sys/seal-status").unwrap().status, 200);
    // It is closed without being asked anything; and not before its time.
    let lived = connection.wait_for_end();
    assert!(lived > Duration::from_millis(900) && lived < Duration::from_millis(3_500), "{lived:?}");
    assert_refused(&server, Some(&bundle));
}

/// A certificate with any URI names, signed by `authority`.
fn with_names(authority: &Authority, names: &[&str]) -> Bundle {
    let key = authority.key_pkcs8();
    let key = rcgen::KeyPair::try_from(key.reveal()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(authority.cert_pem(), key).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = names.iter().map(|name| rcgen::SanType::URI((*name).try_into().unwrap())).collect();
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let own = rcgen::KeyPair::generate().unwrap();
    let cert_pem = params.signed_by(&own, &issuer).unwrap().pem();
    Bundle { cert_pem, key_pem: SecretText::new(own.serialize_pem()) }
}

#[test]
fn a_certificate_that_names_no_identity_may_do_nothing() {
    let authority = other_authority(DOMAIN);
    let server = Server::trusting(Limits::default(), &authority);
    for names in [
        &["spiffe://example.org/ops/alice", "spiffe://example.org/ops/bob"][..],
        &["spiffe://other.org/ops/alice"],
        &["https://example.org/ops/alice"],
        &["spiffe://example.org/../ops/alice"],
        &[],
    ] {
        let bundle = with_names(&authority, names);
        for path in ["secret/data/a", "sys/strongroom/identities?list=true", "sys/seal-status", "sys/init"] {
            if let Ok(reply) = Raw::connect(&server, &bundle).get(path) {
                assert_eq!((reply.status, &*reply.body), (403, r#"{"errors":["permission denied"]}"#), "{names:?}");
            }
        }
    }
    let good = with_names(&authority, &["spiffe://example.org/ops/alice"]);
    assert_eq!(Raw::connect(&server, &good).get("sys/strongroom/identities?list=true").unwrap().status, 200);
}

#[test]
fn a_connection_of_nobody_ends_soon() {
    let authority = other_authority(DOMAIN);
    let server = Server::trusting(Limits::default(), &authority);
    let nobody = with_names(&authority, &[]);
    let mut asking = Raw::connect(&server, &nobody);
    assert_eq!(asking.get("sys/mounts").unwrap().status, 403, "it is told so");
    let mut silent = Raw::connect(&server, &nobody);
    while silent.0.conn.is_handshaking() {
        silent.0.conn.complete_io(&mut silent.0.sock).unwrap();
    }
    for connection in [&mut asking, &mut silent] {
        let lived = connection.wait_for_end();
        assert!(lived < Duration::from_secs(5), "{lived:?}");
    }
    // Asking again and again keeps nothing open.
    let mut busy = Raw::connect(&server, &nobody);
    let start = Instant::now();
    while busy.get("sys/mounts").is_ok() {
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn tls_1_2_is_refused() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // RFC 5246 section 7.4.1.2: version 3.3, one cipher suite, the extensions a TLS 1.2 server needs, no
    // supported_versions.
    let extensions: &[u8] = &[0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3, 0, 11, 0, 2, 1, 0];
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    hello.extend(extensions);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    stream.write_all(&record).unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).unwrap();
    // A fatal alert, protocol_version.
    assert_eq!((answer[0], answer[5], answer[6]), (21, 2, 70));
    assert_serves(&server);
}

#[test]
fn no_session_is_resumed() {
    let server = Server::start();
    let config = config(&server, Some(&server.operator), &[&TLS13]);
    for _ in 0..3 {
        let mut connection = Raw::with(&server, Arc::clone(&config));
        assert_eq!(connection.get("sys/health").unwrap().status, 200);
        assert_eq!(connection.0.conn.tls13_tickets_received(), 0);
        assert!(!matches!(connection.handshake(), None | Some(HandshakeKind::Resumed)));
    }
}

#[test]
fn plaintext_is_told_to_use_tls() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
    assert_serves(&server);
}

#[test]
fn slow_peers_are_cut() {
    let server = Server::with(short());
    // A handshake that does not begin, and one that stops.
    for first in [&b""[..], &[22, 3, 1, 0, 200, 1]] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(first).unwrap();
        let start = Instant::now();
        let _ = stream.read(&mut [0; 16]);
        assert!(start.elapsed() < SOON, "the handshake may last");
    }
    // A head that stops.
    let mut connection = Raw::connect(&server, &server.operator);
    connection.send(b"GET /v1/sys/health HTTP/1.1\r\nHo").unwrap();
    assert!(connection.wait_for_end() < SOON);
    // A head at one byte at a time, also as the second request of a connection.
    let mut connection = Raw::connect(&server, &server.operator);
    assert_eq!(connection.get("sys/health").unwrap().status, 200);
    let start = Instant::now();
    while connection.send(b"G").is_ok() {
        assert!(start.elapsed() < SOON, "a drip of bytes goes on for ever");
        sleep(Duration::from_millis(50));
    }
    // A body that stops.
    let mut connection = Raw::connect(&server, &server.operator);
    let start = Instant::now();
    let reply = connection.ask("POST /v1/secret/data/a HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n{");
    assert_eq!(reply.unwrap().status, 408);
    assert!(connection.wait_for_end() < SOON && start.elapsed() < 2 * SOON);
    assert_serves(&server);
}

#[test]
fn an_idle_connection_outlives_the_limit_of_a_head() {
    let server = Server::with(short());
    let mut connection = Raw::connect(&server, &server.operator);
    for _ in 0..2 {
        assert_eq!(connection.get("sys/health").unwrap().status, 200);
        sleep(SHORT * 3);
    }
    assert_eq!(connection.get("sys/health").unwrap().status, 200);
}

/// A whole body of this size is refused in words, and the words arrive.
fn assert_too_large(reply: std::io::Result<Reply>) {
    let reply = reply.unwrap();
    assert_eq!(reply.status, 413, "{reply:?}");
    assert_eq!(reply.body, r#"{"errors":["request body too large"]}"#);
}

#[test]
fn large_requests_are_refused_in_words() {
    let server = Server::with(Limits { body_bytes: 64 << 10, ..Limits::default() });
    let body = "x".repeat(300_000);
    let head = "POST /v1/secret/data/a HTTP/1.1\r\nHost: a\r\n";
    let mut connection = Raw::connect(&server, &server.operator);
    assert_too_large(connection.ask(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())));
    connection.wait_for_end();
    let mut connection = Raw::connect(&server, &server.operator);
    let size = body.len();
    assert_too_large(
        connection.ask(&format!("{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n")),
    );
    connection.wait_for_end();
    // One that is only announced.
    let mut connection = Raw::connect(&server, &server.operator);
    assert_too_large(connection.ask(&format!("{head}Content-Length: 9999999999\r\nExpect: 100-continue\r\n\r\n")));
    let mut connection = Raw::connect(&server, &server.operator);
    let header = "h".repeat(17 << 10);
    let reply = connection.ask(&format!("GET /v1/sys/health HTTP/1.1\r\nHost: a\r\nX: {header}\r\n\r\n"));
    assert!(reply.is_err() || reply.is_ok_and(|reply| reply.status == 431));
    assert_serves(&server);
}

#[test]
fn one_identity_cannot_take_all_connections() {
    let limit = Limits::default().connections_per_identity;
    let server = Server::start();
    let greedy = server.certificate("app/greedy");
    let mut open = Vec::new();
    for _ in 0..limit {
        let mut connection = Raw::connect(&server, &greedy);
        assert_eq!(connection.get("sys/health").unwrap().status, 200);
        open.push(connection);
    }
    let refused = Raw::connect(&server, &greedy).get("sys/health").unwrap();
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.header("retry-after").is_some());
    assert_serves(&server);
    drop(open);
    let start = Instant::now();
    while Raw::connect(&server, &greedy).get("sys/health").unwrap().status != 200 {
        assert!(start.elapsed() < SOON, "closed connections still count");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn shutdown_finishes_the_request_in_work() {
    let server = Server::start();
    let mut connection = Raw::connect(&server, &server.operator);
    let body = r#"{"data":{"a":"b"}}"#;
    let (first, rest) = body.split_at(5);
    let head = format!("POST /v1/secret/data/a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{first}", body.len());
    connection.send(head.as_bytes()).unwrap();
    sleep(Duration::from_millis(200));
    let mut idle = Raw::connect(&server, &server.operator);
    assert_eq!(idle.get("sys/health").unwrap().status, 200);
    server.ask_to_stop();
    assert!(idle.wait_for_end() < SOON);
    sleep(Duration::from_millis(200));
    assert!(TcpStream::connect(server.address).is_err());
    connection.send(rest.as_bytes()).unwrap();
    assert_eq!(connection.reply().unwrap().status, 200);
    assert!(connection.wait_for_end() < SOON);
}
