//! The listener for machines without a certificate, with a vault behind it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConnection, StreamOwned};
use strongroom::api::error::{ErrorCode, ErrorInfo};
use strongroom::api::identities::EnrollmentOrder;
use strongroom::api::path::Path;
use strongroom::client::{Client, Settings};
use strongroom::core::{Opener, UnsealKey};
use strongroom::enroll::EnrollString;
use strongroom::http::Limits;
use strongroom::http::enroll;
use strongroom::pki;
use tokio::sync::watch;

use crate::flood::{BEGUN, allow_many_files, connect_from};
use crate::support::raw::{Raw, Reply, config};
use crate::support::server::{KEY_FILE, Server};

const ENROLL: &str = "/v1/sys/strongroom/enroll";
/// An id of nothing.
const NOTHING: &str = "000102030405060708090a0b0c0d0e0f";
/// Port of the API as machines are told.
const PORT: u16 = 8200;

/// A vault with a listener for enrolment, and a string for one of its identities.
struct Desk {
    server: Server,
    string: EnrollString,
    /// Of the machine.
    csr: String,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Desk {
    fn open(limits: Limits) -> Self {
        let server = Server::start();
        let operator = server.operator();
        operator.sys().put_policy("app", r#"path "secret/data/app/*" { capabilities = ["read"] }"#).unwrap();
        operator.sys().put_identity("app/new", &["app"]).unwrap();
        let order =
            EnrollmentOrder { addresses: Some(vec!["localhost:8201".to_owned()]), ..EnrollmentOrder::default() };
        let made = operator.identities().enrollment("app/new", &order).unwrap();
        let string = EnrollString::parse(made.string.reveal()).unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&rcgen::KeyPair::generate().unwrap());
        let csr = csr.unwrap().pem().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let (tls, vault) = (Arc::clone(&server.tls), (Arc::clone(&server.vault), PORT));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(enroll::serve(listener, tls, limits, vault, stopped)).unwrap();
        });
        Self { server, string, csr, address, stop, thread: Some(thread) }
    }

    /// What a machine with the string sends over the connection with this exporter.
    fn good(&self, exporter: &[u8; 32]) -> String {
        let proof = self.string.proof_key().proof(exporter, &pki::csr_der(&self.csr).unwrap());
        self.with(&self.csr, &proof)
    }

    /// The same with a request and a proof of one's own.
    fn with(&self, csr: &str, proof: &[u8]) -> String {
        let id = strongroom::api::hex::hex(self.string.id());
        serde_json::json!({ "id": id, "csr": csr, "proof": STANDARD.encode(proof) }).to_string()
    }

    /// A connection without a client certificate, its handshake done, and its exporter.
    fn connect(&self) -> std::io::Result<(Raw, [u8; 32])> {
        let tcp = TcpStream::connect(self.address)?;
        tcp.set_read_timeout(Some(Duration::from_secs(15)))?;
        self.over(tcp)
    }

    /// As [`Desk::connect`], over this connection.
    fn over(&self, mut tcp: TcpStream) -> std::io::Result<(Raw, [u8; 32])> {
        let config = config(&self.server, None, &[&TLS13]);
        let mut tls = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        let exporter = tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).unwrap();
        Ok((Raw(StreamOwned::new(tls, tcp)), exporter))
    }

    /// A machine elsewhere enrols, and how long that took.
    fn honest(&self) -> Duration {
        let start = Instant::now();
        let (mut raw, exporter) = self.over(connect_from("127.0.0.2", self.address)).unwrap();
        assert_eq!(raw.ask(&post(ENROLL, &self.good(&exporter))).unwrap().status, 200);
        start.elapsed()
    }

    fn post(&self, path: &str, body: &str) -> Reply {
        self.connect().unwrap().0.ask(&post(path, body)).unwrap()
    }
}

/// The reply to a request that belongs to the API.
pub fn stray() -> Reply {
    Desk::open(Limits::default()).post("/v1/secret/data/a", "{}")
}

#[test]
fn a_client_of_the_api_does_not_take_it_for_a_vault_without_the_secret() {
    let desk = Desk::open(Limits::default());
    let client = Client::connect(Settings {
        addr: format!("https://localhost:{}", desk.address.port()),
        ca_pem: desk.server.ca_pem.clone().into_bytes(),
        cert_pem: desk.server.operator.cert_pem.clone().into_bytes(),
        key_pem: desk.server.operator.key_pem.reveal().into(),
        timeout: Duration::from_secs(10),
    })
    .unwrap();
    let path = Path::parse("app/prod").unwrap();
    for error in [
        client.kv("secret").pairs(&path).map(drop).unwrap_err(),
        client.kv("secret").list(&path).map(drop).unwrap_err(),
        client.sys().policy("app").map(drop).unwrap_err(),
        client.sys().put_policy("app", "").unwrap_err(),
    ] {
        assert_eq!(error.info().map(ErrorInfo::code), Some(ErrorCode::EnrolmentListener), "{error}");
        assert!(error.to_string().contains("enrolment listener"), "{error}");
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the listener panicked");
    }
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn a_machine_without_a_certificate_gets_one_over_its_own_channel() {
    let desk = Desk::open(Limits::enrolment());
    let (mut raw, exporter) = desk.connect().unwrap();
    let shown = raw.0.conn.peer_certificates().unwrap();
    assert_eq!(shown.len(), 2, "the authority is shown besides the leaf");
    let reply = raw.ask(&post(ENROLL, &desk.good(&exporter))).unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    let given: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(given["identity"], "spiffe://example.org/app/new");
    assert_eq!(
        given["addresses"],
        serde_json::json!(["localhost:8200"]),
        "the host of the string, the port of the API"
    );
    assert_eq!(given["ca"].as_str(), Some(&*desk.server.ca_pem));
    assert!(given["certificate"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    let names: Vec<&String> = given.as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 5, "no envelope and nothing empty: {names:?}");
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("connection"), Some("close"), "one request a connection");
    assert!(raw.wait_for_end() < Duration::from_secs(2));
    // The proof of another connection is worth nothing.
    let stolen = desk.post(ENROLL, &desk.good(&exporter));
    assert_eq!((stolen.status, &*stolen.body), (403, r#"{"errors":["enrolment refused"]}"#));
}

#[test]
fn a_refused_source_waits_longer_each_time() {
    let desk = Desk::open(Limits::enrolment());
    let wrong = desk.with(&desk.csr, &[0; 32]);
    assert_eq!(desk.post(ENROLL, &wrong).status, 403);
    let early = desk.post(ENROLL, &wrong);
    assert_eq!((early.status, early.header("retry-after")), (429, Some("1")), "{early:?}");
    // So does one that sends what the vault cannot read.
    let other = Desk::open(Limits::enrolment());
    assert_eq!(other.post(ENROLL, &other.with("malformed", &[0; 32])).status, 400);
    assert_eq!(other.post(ENROLL, &other.with("malformed", &[0; 32])).status, 429);
    // The list of the revoked may still be read.
    assert_eq!(desk.connect().unwrap().0.get("sys/strongroom/crl").unwrap().status, 200);
    let start = Instant::now();
    while desk.post(ENROLL, &wrong).status == 429 {
        assert!(start.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(100));
    }
    let early = desk.post(ENROLL, &wrong);
    assert_eq!((early.status, early.header("retry-after")), (429, Some("2")), "{early:?}");
}

#[test]
fn what_is_malformed_does_not_reach_the_vault() {
    let desk = Desk::open(Limits::enrolment());
    let proof = STANDARD.encode([0; 32]);
    let from = |source: &str, body: &str| {
        let mut raw = desk.over(connect_from(source, desk.address)).unwrap().0;
        raw.ask(&post(ENROLL, body)).unwrap().status
    };
    for (n, bad) in [
        "",
        "[]",
        "{",
        r#"{"id":"00","csr":"a","proof":"AA=="}"#,
        &format!(r#"{{"id":"{NOTHING}","csr":"a","proof":"{proof}","more":1}}"#),
        &format!(r#"{{"id":"{NOTHING}","id":"{NOTHING}","csr":"a","proof":"{proof}"}}"#),
    ]
    .into_iter()
    .enumerate()
    {
        // It costs work, so its source waits like any other that is rejected.
        let source = format!("127.0.1.{}", n + 1);
        assert_eq!((from(&source, bad), from(&source, bad)), (400, 429), "{bad}");
    }
    let large = |bytes, source| from(source, &desk.with(&"x".repeat(bytes), &[0; 32]));
    assert_eq!((large(17 << 10, "127.0.2.1"), large(70 << 10, "127.0.2.2")), (400, 413));
    desk.server.vault.seal();
    assert_eq!(desk.post(ENROLL, &desk.with(&desk.csr, &[0; 32])).status, 503);
    desk.server.vault.unseal(Opener::Local, &UnsealKey::KeyFile(&KEY_FILE)).unwrap();
    for path in ["/v1/sys/health", "/v1/secret/data/a", "/", "/v1/sys/strongroom/enroll/more"] {
        let reply = desk.post(path, "{}");
        assert_eq!((reply.status, reply.header("x-strongroom-error")), (421, Some("enrolment-listener")), "{path}");
    }
    assert_eq!(desk.connect().unwrap().0.get("sys/strongroom/enroll").unwrap().status, 405);
    let page = post(ENROLL, "{}").replace("\r\n\r\n", "\r\nOrigin: null\r\n\r\n");
    assert_eq!(desk.connect().unwrap().0.ask(&page).unwrap().status, 403);
    // Nothing else makes anybody wait.
    let (mut raw, exporter) = desk.connect().unwrap();
    assert_eq!(raw.ask(&post(ENROLL, &desk.good(&exporter))).unwrap().status, 200);
}

#[test]
fn renewals_and_the_list_of_the_revoked_are_passed_on() {
    let desk = Desk::open(Limits::enrolment());
    // The proofs of renewals that the vault grants are in `identities::life`: this one is of nobody.
    let renewal = serde_json::json!({
        "certificate": desk.server.operator.cert_pem, "csr": desk.csr, "proof": "AQID", "scheme": 1027,
    });
    let reply = desk.post(&format!("{ENROLL}/renew"), &renewal.to_string());
    assert_eq!((reply.status, &*reply.body), (403, r#"{"errors":["enrolment refused"]}"#));
    let mut raw = desk.connect().unwrap().0;
    raw.send(b"HEAD /v1/sys/strongroom/crl HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = String::new();
    let _ = raw.0.read_to_string(&mut head);
    let head = head.to_lowercase();
    assert!(head.contains("200 ok") && head.contains("application/pkix-crl") && head.contains("content-length: "));
    assert!(!head.contains("content-length: 0"), "{head}");
    let of = |rest: &str| desk.connect().unwrap().0.get(&format!("sys/strongroom/crl{rest}")).unwrap();
    let signing = desk.server.operator().ca().unwrap().authorities[0].id.clone();
    let one = of(&format!("/{signing}"));
    assert_eq!((one.status, one.header("content-type")), (200, Some("application/pkix-crl")));
    assert!(!one.body.is_empty(), "the list of that authority");
    let unknown = of(&format!("/{NOTHING}"));
    assert_eq!((unknown.status, &*unknown.body), (404, r#"{"errors":["no such authority"]}"#));
    for bad in ["/", "/x", &format!("/{}", NOTHING.to_uppercase()), &format!("/{signing}/"), &format!("//{signing}")] {
        // What is no path of this listener is taken for one of the API.
        assert!(matches!(of(bad).status, 404 | 421), "{bad}");
    }
}

#[test]
fn one_source_cannot_take_every_place() {
    let desk = Desk::open(Limits { handshakes_per_source: 4, ..Limits::enrolment() });
    let held: Vec<_> = (0..4).map(|_| desk.connect().unwrap()).collect();
    assert!(desk.connect().is_err(), "a fifth connection");
    drop(held);
    let start = Instant::now();
    while desk.connect().is_err() {
        assert!(start.elapsed() < Duration::from_secs(5), "closed connections still count");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn half_open_handshakes_of_one_source_leave_room_to_enrol() {
    allow_many_files();
    let desk = Desk::open(Limits::enrolment());
    desk.honest();
    let (mut open, mut slowest) = (Vec::with_capacity(1_000), Duration::ZERO);
    while open.len() < 1_000 {
        let mut stream = TcpStream::connect(desk.address).unwrap();
        let _ = stream.write_all(&BEGUN);
        open.push(stream);
        if open.len() % 100 == 0 {
            slowest = slowest.max(desk.honest());
        }
    }
    println!("1000 half-open handshakes: the other source waited {slowest:?} at most");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

#[test]
fn seven_sources_together_leave_room_to_enrol() {
    let desk = Desk::open(Limits::enrolment());
    // Each begins more than it may hold. Eight could hold every place.
    let begin = |n: usize| {
        let mut stream = connect_from(&format!("127.0.0.{}", 3 + n % 7), desk.address);
        let _ = stream.write_all(&BEGUN);
        stream
    };
    let open: Vec<_> = (0..7 * 20).map(begin).collect();
    let waited = desk.honest();
    assert!(waited < Duration::from_secs(2), "{waited:?}");
    drop(open);
}

#[test]
fn a_byte_a_second_holds_no_place_for_long() {
    let desk = Desk::open(Limits::enrolment());
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let head = format!("POST {ENROLL} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\nX-Filler: ");
    std::thread::scope(|scope| {
        // In the handshake, in the head and in the body of a request: when the place is free again, at the latest.
        let handshake = scope.spawn(|| {
            let mut stream = connect_from("127.0.0.3", desk.address);
            stream.set_read_timeout(Some(second)).unwrap();
            let mut hello = BEGUN.iter().chain(std::iter::repeat(&0));
            while stream.write_all(&[*hello.next().unwrap()]).is_ok() && !matches!(stream.read(&mut [0; 8]), Ok(0)) {
                assert!(start.elapsed() < 20 * second, "a handshake goes on for ever");
            }
            start.elapsed()
        });
        let drip = |source: &'static str, first: String| {
            let desk = &desk;
            move || {
                let (mut raw, _) = desk.over(connect_from(source, desk.address)).unwrap();
                raw.send(first.as_bytes()).unwrap();
                raw.0.sock.set_read_timeout(Some(second)).unwrap();
                // What is read is a refusal (408) or the end.
                while raw.send(b"x").is_ok() && raw.0.read(&mut [0; 64]).is_err_and(|error| waits(&error)) {
                    assert!(start.elapsed() < 30 * second, "a request goes on for ever");
                }
                start.elapsed()
            }
        };
        let slow_head = scope.spawn(drip("127.0.0.4", head.clone()));
        let slow_body = scope.spawn(drip("127.0.0.5", format!("{head}a\r\n\r\n")));
        while !(handshake.is_finished() && slow_head.is_finished() && slow_body.is_finished()) {
            let waited = desk.honest();
            assert!(waited < 2 * second, "{waited:?}");
            std::thread::sleep(second / 2);
        }
        for (thread, most, what) in [(handshake, 8, "handshake"), (slow_head, 8, "head"), (slow_body, 13, "body")] {
            let lived = thread.join().unwrap();
            assert!(lived > 3 * second && lived < most * second, "{what}: {lived:?}");
        }
    });
}

/// Whether nothing came in time.
fn waits(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
