//! What the enrolment listener and the renewal refuse, each over a real connection.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use strongroom::api::hex::hex;
use strongroom::enroll::{EXPORTER_LABEL, EnrollString};
use strongroom::pki::{self, AuthorityId};

use super::town::{Holder, Town};
use crate::rotation::house::ask;
use crate::support::process::text;
use crate::support::raw::{Raw, Reply};

/// A request with whatever `change` makes of it.
fn csr(change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    change(&mut params);
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

fn plain() -> String {
    csr(|_| {})
}

/// A request by an RSA key of 1,024 bits, which is thrown away; nothing here makes such keys.
const WEAK: &str = include_str!("rsa1024.csr.pem");

/// A connection to the enrolment listener from an address of its own: a refusal makes its source wait.
fn connect(town: &Town) -> (Raw, [u8; 32]) {
    static NEXT: AtomicU8 = AtomicU8::new(2);
    let from = SocketAddr::from(([127, 0, 0, NEXT.fetch_add(1, Ordering::SeqCst)], 0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tcp = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(from).unwrap();
        socket.connect(town.enroll).await.unwrap().into_std().unwrap()
    });
    tcp.set_nonblocking(false).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let mut tcp = tcp;
    let mut roots = RootCertStore::empty();
    let ca = std::fs::read(town.house.bundle.join("ca.pem")).unwrap();
    roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let mut tls = ClientConnection::new(config, ServerName::try_from("127.0.0.1").unwrap()).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp).unwrap();
    }
    let exporter = tls.export_keying_material([0; 32], EXPORTER_LABEL, None).unwrap();
    (Raw(StreamOwned::new(tls, tcp)), exporter)
}

fn post(raw: &mut Raw, path: &str, body: &Value) -> Reply {
    let body = body.to_string();
    let head = format!("POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    raw.ask(&(head + &body)).unwrap()
}

/// Enrols with `string` and a request, all of it in order unless the request is not.
fn attempt(town: &Town, string: &EnrollString, csr: &str) -> Reply {
    let (mut raw, exporter) = connect(town);
    let der = pki::csr_der(csr).unwrap_or_default();
    let proof = STANDARD.encode(string.proof_key().proof(&exporter, &der));
    post(&mut raw, "sys/strongroom/enroll", &json!({ "id": hex(string.id()), "csr": csr, "proof": proof }))
}

const REFUSED: &str = r#"{"errors":["enrolment refused"]}"#;

#[track_caller]
fn assert_refused(reply: &Reply, what: &str) {
    assert_eq!((reply.status, &*reply.body), (403, REFUSED), "{what}");
}

#[test]
fn strings_that_are_used_old_foreign_or_stolen_are_one_refusal() {
    let (town, other) = (Town::open(), Town::open());
    town.register("app/web", &Value::Null);
    other.register("app/web", &Value::Null);
    let parse = |text: String| EnrollString::parse(&text).unwrap();
    let string = |more: Value| parse(town.string("app/web", &more));

    let used = string(Value::Null);
    assert_eq!(attempt(&town, &used, &plain()).status, 200);
    assert_refused(&attempt(&town, &used, &plain()), "used before, by another key");
    let short = string(json!({ "ttl": "1s" }));
    std::thread::sleep(Duration::from_millis(1_100));
    assert_refused(&attempt(&town, &short, &plain()), "expired");
    let foreign = parse(other.string("app/web", &Value::Null));
    assert_refused(&attempt(&town, &foreign, &plain()), "of another vault");
    let elsewhere = string(json!({ "cidr": ["192.0.2.0/24"] }));
    assert_refused(&attempt(&town, &elsewhere, &plain()), "from a place that it is not for");

    // The proof of one connection in another, with the wrong request, and none at all.
    let good = string(Value::Null);
    let request = plain();
    let der = pki::csr_der(&request).unwrap();
    let id = hex(good.id());
    let proof = |exporter: &[u8; 32]| STANDARD.encode(good.proof_key().proof(exporter, &der));
    let enroll = |raw: &mut Raw, csr: &str, proof: String| {
        post(raw, "sys/strongroom/enroll", &json!({ "id": id, "csr": csr, "proof": proof }))
    };
    let (_, earlier) = connect(&town);
    assert_refused(&enroll(&mut connect(&town).0, &request, proof(&earlier)), "replayed from another connection");
    let (mut raw, exporter) = connect(&town);
    assert_refused(&enroll(&mut raw, &plain(), proof(&exporter)), "another request than was proved");
    let nothing = STANDARD.encode([0; 32]);
    assert_refused(&enroll(&mut connect(&town).0, &request, nothing), "no proof");
    // None of these used it up.
    assert_eq!(attempt(&town, &good, &request).status, 200);
    let gone = town.string("app/web", &Value::Null);
    for id in town.get("sys/strongroom/enrollments?list=true")["keys"].as_array().unwrap() {
        let path = format!("sys/strongroom/enrollments/{}", id.as_str().unwrap());
        assert_eq!(town.house.ask("DELETE", &path, &Value::Null).0, 204);
    }
    assert_refused(&attempt(&town, &parse(gone), &plain()), "taken back");
    let frozen = string(Value::Null);
    town.post("sys/strongroom/disable/app/web", &json!({}));
    assert_refused(&attempt(&town, &frozen, &plain()), "of an identity that is disabled");
    for code in ["enrolment-string-used-again", "enrolment-from-foreign-network", "enrolment-proof-wrong"] {
        assert!(town.alarms().contains(&code.to_owned()), "{code} is not in {:?}", town.alarms());
    }
}

#[test]
fn a_damaged_string_is_not_sent_anywhere() {
    let town = Town::open();
    town.register("app/web", &Value::Null);
    let machine = town.machine("web");
    let good = town.string("app/web", &Value::Null);
    let middle = good.len() / 2;
    // Upper and lower case mean the same.
    let other = if good[middle..=middle].eq_ignore_ascii_case("a") { "B" } else { "A" };
    for (what, bad) in [
        ("truncated", good[..good.len() - 5].to_owned()),
        ("half of it", good[..middle].to_owned()),
        ("the front alone", good[..5].to_owned()),
        ("a letter changed", format!("{}{other}{}", &good[..middle], &good[middle + 1..])),
        ("twice", format!("{good}{good}")),
        ("too long", "sre1".to_owned() + &"A".repeat(100_000)),
        ("another kind", good.replacen("sre1", "srs1", 1)),
        ("nothing", String::new()),
    ] {
        let output = machine.try_enroll(&bad, &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{what}: {said}");
        assert!(bad.len() < 60 || !said.contains(&bad[10..50]), "{what}: it is shown");
    }
    assert!(!town.house.log().contains("enrolment rejected"), "it reached the vault");
    machine.enroll(&good, &[]);
}

/// An extension of this many bytes.
fn with_extension(bytes: usize) -> String {
    csr(|params| {
        let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 1], vec![4; bytes]);
        params.custom_extensions = vec![extension];
    })
}

#[test]
fn requests_for_more_get_no_more_and_broken_ones_get_nothing() {
    let town = Town::open();
    town.register("app/web", &Value::Null);
    let own = town.holder("app/own");
    let string = || EnrollString::parse(&town.string("app/web", &Value::Null)).unwrap();
    let ca = csr(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let names = csr(|params| {
        let uri = "spiffe://strongroom.internal/operator/admin".try_into().unwrap();
        params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    });
    for (what, request) in [("an authority", &ca), ("another identity", &names)] {
        let reply = attempt(&town, &string(), request);
        assert_eq!(reply.status, 200, "{what}: {reply:?}");
        let reply: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(reply["identity"], "spiffe://strongroom.internal/app/web", "{what}");
        let der = CertificateDer::from_pem_slice(reply["certificate"].as_str().unwrap().as_bytes()).unwrap();
        let found = pki::peer::inspect(&der, "strongroom.internal").unwrap();
        assert_eq!(found.identity.path(), "app/web", "{what}");
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert!(!parsed.is_ca(), "{what}");
    }
    let good = plain();
    let mut der = pki::csr_der(&good).unwrap();
    let last = der.len() - 1;
    der[last] ^= 1;
    let unsigned =
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", STANDARD.encode(&der));
    for (what, request) in [
        ("a weak key", WEAK.to_owned()),
        ("a huge extension", with_extension(64 << 10)),
        ("a signature of nobody", unsigned),
        ("half", good[..good.len() / 2].to_owned()),
        ("a certificate", own.cert.clone()),
        ("nothing", String::new()),
    ] {
        let reply = attempt(&town, &string(), &request);
        assert!(matches!(reply.status, 400 | 413), "{what} at enrolment: {reply:?}");
        let (status, reply) = ask(&own.client(), "POST", "sys/strongroom/renew", &json!({ "csr": request })).unwrap();
        assert!(matches!(status, 400 | 413), "{what} at renewal: {status} {reply}");
    }
    assert_eq!(attempt(&town, &string(), &good).status, 200);
}

#[test]
fn nobody_renews_for_another() {
    let town = Town::open();
    let mut own = town.holder("app/own");
    let other = town.holder("app/other");
    for body in [
        json!({ "csr": plain(), "identity": "app/other" }),
        json!({ "csr": plain(), "certificate": other.cert }),
        json!({ "csr": plain(), "ttl": "100d" }),
        json!({}),
    ] {
        let (status, reply) = ask(&own.client(), "POST", "sys/strongroom/renew", &body).unwrap();
        assert_eq!(status, 400, "{body}: {reply}");
    }
    let order = json!({ "csr": plain(), "identity": "app/other" });
    for path in ["sys/strongroom/certificates", "sys/strongroom/enrollments/app/other", "sys/strongroom/ca/prepare"] {
        assert_eq!(ask(&own.client(), "POST", path, &order).unwrap().0, 403, "{path}");
    }
    // The certificate of another on the listener for those that have expired, with one's own key.
    let (mut raw, exporter) = connect(&town);
    let csr = plain();
    let message = strongroom::enroll::grace_message(&exporter, &pki::csr_der(&csr).unwrap());
    let key = KeyPair::from_pem(own.key.reveal()).unwrap();
    let proof = STANDARD.encode(rcgen::SigningKey::sign(&key, &message).unwrap());
    let body = json!({ "certificate": other.cert, "csr": csr, "proof": proof, "scheme": 0x0403 });
    assert_refused(&post(&mut raw, "sys/strongroom/enroll/renew", &body), "another's certificate");
    let before = own.cert.clone();
    own.renew();
    assert_ne!(own.cert, before);
    let read = |holder: &Holder| holder.client().request("GET", "secret/data/app/prod", None).unwrap().status;
    assert_eq!((read(&own), read(&other)), (200, 200), "and nothing happened to the other");
    assert!(town.alarms().is_empty());
}

/// The status, and what comes after the head.
fn get(town: &Town, path: &str) -> (u16, Vec<u8>) {
    let (mut raw, _) = connect(town);
    raw.send(format!("GET /v1/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let _ = raw.0.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let status = String::from_utf8_lossy(&bytes[9..12]).parse().unwrap();
    (status, bytes.split_off(end))
}

#[test]
fn a_stranger_reads_the_lists_of_the_revoked_and_renews_nothing() {
    use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};
    let town = Town::open();
    let ca = std::fs::read(town.house.bundle.join("ca.pem")).unwrap();
    let ca = CertificateDer::from_pem_slice(&ca).unwrap();
    let (_, authority) = X509Certificate::from_der(&ca).unwrap();
    for path in ["sys/strongroom/crl".to_owned(), format!("sys/strongroom/crl/{}", AuthorityId::of(&ca).hex())] {
        let (status, list) = get(&town, &path);
        assert_eq!(status, 200, "{path}");
        let (_, list) = CertificateRevocationList::from_der(&list).unwrap();
        list.verify_signature(authority.public_key()).unwrap();
    }
    let (status, body) = get(&town, &format!("sys/strongroom/crl/{}", AuthorityId([7; 16]).hex()));
    assert_eq!((status, &*text(&body)), (404, r#"{"errors":["no such authority"]}"#));

    let mut renewal = json!({ "certificate": "x", "csr": plain(), "proof": "AAAA", "scheme": 0x0403 });
    let from = |raw: &mut Raw, renewal: &Value| post(raw, "sys/strongroom/enroll/renew", renewal);
    assert_eq!(from(&mut connect(&town).0, &renewal).status, 400);
    renewal["certificate"] = json!(text(&std::fs::read(town.house.bundle.join("cert.pem")).unwrap()));
    assert_refused(&from(&mut connect(&town).0, &renewal), "another key signed");
}
