//! Enrolment and renewal against real TLS servers.

mod server;

use std::net::TcpListener;
use std::sync::Arc;

use rustls::pki_types::alg_id;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::api::request::Body;
use crate::api::spiffe::SpiffeId;
use crate::client::{BUNDLE_HEADER, CertificateProblem, Client, Settings, bundle_header};
use crate::crypto::Key;
use crate::pki::{Authority, KeyType, Request, bundle_id};
use server::{Server, authority, der, local, now_ms, pin, serve};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(10);

fn web() -> SpiffeId {
    SpiffeId::new("example.org", "app/web").unwrap()
}

fn string(pin: [u8; 32], addresses: &[&str]) -> EnrollString {
    let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    EnrollString::new(pin, [9; 16], Key::fill_with(|out| *out = [8; 32]), addresses).unwrap()
}

fn key() -> Request {
    pki::request(KeyType::P256).unwrap()
}

fn reply(authority: &Authority, certificate: String) -> Certified {
    Certified {
        certificate,
        ca: authority.cert_pem().to_owned(),
        identity: web().uri().to_owned(),
        not_after: "2030-01-01T00:00:00Z".to_owned(),
        addresses: vec!["vault.example:8200".to_owned()],
        ..Certified::default()
    }
}

fn signed(authority: &Authority, csr: &str) -> Certified {
    reply(authority, authority.sign_csr(csr, &web(), now_ms(), 3600).unwrap())
}

fn text(reply: &Certified) -> String {
    serde_json::to_string(reply).unwrap()
}

/// What came, as the real server reads it.
fn body(seen: &server::Seen) -> Body {
    Body::of(std::str::from_utf8(&seen.body).unwrap())
}

/// A server that checks the proof as the real one does, and signs.
fn enrolling() -> (Server, [u8; 32]) {
    let authority = authority();
    let (bundle, ca, pin) = (local(&authority), authority.cert_pem().to_owned(), pin(&authority));
    let key = string(pin, &["a:1"]).proof_key();
    let answer = move |seen: &server::Seen| {
        assert_eq!(seen.target, "POST /v1/sys/strongroom/enroll HTTP/1.1");
        let request = EnrollRequest::read(&body(seen)).unwrap();
        let csr = pki::csr_der(&request.csr).unwrap();
        if request.id != [9; 16] || !key.verify(&seen.exporter, &csr, &request.proof) {
            return (403, r#"{"errors":["enrolment refused"]}"#.to_owned());
        }
        (200, text(&signed(&authority, &request.csr)))
    };
    (serve(bundle, &ca, None, Box::new(answer)), pin)
}

/// A server of `authority` that answers `body`.
fn fixed(authority: &Authority, status: u16, body: String) -> Server {
    serve(local(authority), authority.cert_pem(), None, Box::new(move |_| (status, body.clone())))
}

#[test]
fn a_string_becomes_a_certificate() {
    let (server, pin) = enrolling();
    for kind in [KeyType::P256, KeyType::Ed25519] {
        let key = pki::request(kind).unwrap();
        let got = enroll(&string(pin, &[&server.address]), &key.csr_pem, LONG).unwrap();
        assert_eq!(got.identity, "spiffe://example.org/app/web");
        assert_eq!(got.addresses, ["vault.example:8200"]);
        // And again with the same request, as after a reply that was lost.
        enroll(&string(pin, &[&server.address]), &key.csr_pem, LONG).unwrap();
    }
    let exporters: Vec<_> = server.seen.lock().unwrap().iter().map(|seen| seen.exporter).collect();
    assert!(exporters.windows(2).all(|two| two[0] != two[1]));
}

#[test]
fn another_secret_is_refused_and_nobody_else_is_asked() {
    let ((server, pin), (other, _)) = (enrolling(), enrolling());
    let addresses = vec![server.address.clone(), other.address.clone()];
    let wrong = EnrollString::new(pin, [9; 16], Key::fill_with(|out| *out = [7; 32]), addresses).unwrap();
    let error = enroll(&wrong, &key().csr_pem, LONG).unwrap_err();
    assert_eq!(error.status(), Some(403));
    assert_eq!((server.requests(), other.requests()), (1, 0));
}

/// The server must never see a byte of a request.
fn silent(server: &Server, pin: [u8; 32], why: &str) {
    let error = enroll(&string(pin, &[&server.address]), &key().csr_pem, LONG).unwrap_err();
    assert!(error.to_string().contains(why), "{error}");
    assert_eq!(server.requests(), 0);
}

#[test]
fn nothing_is_sent_to_a_server_that_is_not_pinned() {
    let (ours, theirs) = (authority(), authority());
    let never = || -> server::Answer { Box::new(|_| (500, String::new())) };
    let unknown = "not from the given authority";
    silent(&serve(local(&theirs), theirs.cert_pem(), None, never()), pin(&ours), unknown);
    // The right authority is shown, but it is not the one that has signed.
    silent(&serve(local(&theirs), ours.cert_pem(), None, never()), pin(&ours), unknown);
    silent(
        &serve(local(&theirs), &format!("{}{}", theirs.cert_pem(), ours.cert_pem()), None, never()),
        pin(&ours),
        unknown,
    );
    // The authority is not shown at all, or what is pinned is the server's own key.
    silent(&serve(local(&ours), "", None, never()), pin(&ours), unknown);
    let bundle = local(&ours);
    let own = pki::key_fingerprint(&der(&bundle.cert_pem)).unwrap();
    silent(&serve(bundle, ours.cert_pem(), None, never()), own, unknown);
    // Right authority, but another host, a client's certificate, or one whose life has ended.
    let elsewhere = ours.issue_server(&["vault.example".to_owned()], now_ms(), 3600).unwrap();
    silent(&serve(elsewhere, ours.cert_pem(), None, never()), pin(&ours), "does not name this host");
    let client = ours.issue_client(&web(), now_ms(), 3600).unwrap();
    silent(&serve(client, ours.cert_pem(), None, never()), pin(&ours), "not acceptable");
    let old = ours.issue_server(&["127.0.0.1".to_owned()], now_ms() - 7_200_000, 3600).unwrap();
    silent(&serve(old, ours.cert_pem(), None, never()), pin(&ours), "has expired");
}

#[test]
fn addresses_are_tried_in_turn() {
    let (server, pin) = enrolling();
    let stranger = fixed(&authority(), 200, String::new());
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let all = string(pin, &[&closed, &stranger.address, &server.address]);
    enroll(&all, &key().csr_pem, LONG).unwrap();
    let none = string(pin, &[&closed, &stranger.address]);
    let error = enroll(&none, &key().csr_pem, LONG).unwrap_err().to_string();
    assert!(error.contains("connection refused") && error.contains("not from the given authority"), "{error}");
}

#[test]
fn a_silent_server_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let string = string([0; 32], &[&silent.local_addr().unwrap().to_string()]);
    let error = enroll(&string, &key().csr_pem, SECOND / 4).unwrap_err().to_string();
    assert!(error.contains("no answer in time"), "{error}");
}

#[test]
fn a_reply_must_fit_the_request() {
    let (ours, theirs) = (authority(), authority());
    let mine = key();
    let good = signed(&ours, &mine.csr_pem);
    let other = |change: &dyn Fn(&mut Certified)| {
        let mut reply = good.clone();
        change(&mut reply);
        text(&reply)
    };
    let cases = [
        (other(&|_| {}), None),
        (text(&signed(&ours, &key().csr_pem)), Some("for another key")),
        (other(&|reply| reply.identity = "spiffe://example.org/app/admin".into()), Some("another identity")),
        (other(&|reply| reply.ca = theirs.cert_pem().into()), Some("not from the authorities")),
        (other(&|reply| reply.ca = String::new()), Some("no usable certificate")),
        // A root for the listener stands beside the authorities, and is none.
        (
            other(&|reply| {
                reply.ca.push_str(theirs.cert_pem());
                reply.server_ca = theirs.cert_pem().into();
            }),
            None,
        ),
        (other(&|reply| reply.server_ca = ours.cert_pem().into()), Some("not from the authorities")),
        (other(&|reply| reply.server_ca = "x".into()), Some("no usable certificate")),
        (other(&|reply| reply.enroll = vec!["nowhere".into()]), Some("not host:port")),
        (other(&|reply| reply.certificate = "x".into()), Some("no usable certificate")),
        (other(&|reply| reply.addresses = vec!["https://x".into()]), Some("not host:port")),
        ("[]".to_owned(), Some("not the expected JSON")),
    ];
    for (body, problem) in cases {
        let server = fixed(&ours, 200, body);
        let got = enroll(&string(pin(&ours), &[&server.address]), &mine.csr_pem, LONG);
        match (got, problem) {
            (Ok(_), None) => {}
            (Err(error), Some(problem)) => assert!(error.to_string().contains(problem), "{error}"),
            (got, problem) => panic!("{:?} instead of {problem:?}", got.err()),
        }
    }
}

#[test]
fn an_old_key_renews_its_expired_certificate() {
    let authority = authority();
    let old = authority.issue_client(&web(), now_ms() - 7_200_000, 3600).unwrap();
    let (bundle, ca) = (local(&authority), authority.cert_pem().to_owned());
    let expected = old.cert_pem.clone();
    let answer = move |seen: &server::Seen| {
        assert_eq!(seen.target, "POST /v1/sys/strongroom/enroll/renew HTTP/1.1");
        let request = GraceRequest::read(&body(seen)).unwrap();
        assert_eq!(request.certificate, expected);
        let message = grace_message(&seen.exporter, &pki::csr_der(&request.csr).unwrap());
        let der = der(&request.certificate);
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        let provider = provider();
        let schemes = provider.signature_verification_algorithms.mapping;
        let (_, algorithms) = schemes.iter().find(|(scheme, _)| u16::from(*scheme) == request.scheme).unwrap();
        let key = &parsed.public_key().subject_public_key.data;
        let algorithm =
            algorithms.iter().find(|algorithm| algorithm.public_key_alg_id() == alg_id::ECDSA_P256).unwrap();
        algorithm.verify_signature(key, &message, &request.proof).unwrap();
        (200, text(&signed(&authority, &request.csr)))
    };
    let server = serve(bundle, &ca, None, Box::new(answer));
    let addresses = [server.address.clone()];
    let expired = Expired {
        addresses: &addresses,
        ca_pem: ca.as_bytes(),
        cert_pem: old.cert_pem.as_bytes(),
        key_pem: &old.key_pem,
    };
    let new = key();
    let got = expired.renew(&new.csr_pem, LONG).unwrap();
    assert_eq!(got.identity, "spiffe://example.org/app/web");
    // The authority that is trusted already is the only one that counts.
    let stranger = server::authority();
    let misled = Expired { ca_pem: stranger.cert_pem().as_bytes(), ..expired };
    let error = misled.renew(&new.csr_pem, LONG).unwrap_err();
    assert!(error.to_string().contains("not from the given authority"), "{error}");
    assert_eq!(server.requests(), 1);
}

fn client(server: &Server, authority: &Authority, issued_ms: u64) -> Client {
    let own = authority.issue_client(&web(), issued_ms, 3600).unwrap();
    let settings = Settings {
        addr: format!("https://{}", server.address),
        ca_pem: authority.cert_pem().as_bytes().to_vec(),
        cert_pem: own.cert_pem.into_bytes(),
        key_pem: own.key_pem,
        timeout: LONG,
    };
    Client::connect(settings).unwrap()
}

#[test]
fn a_certificate_renews_itself_and_names_its_bundle() {
    let authority = Arc::new(authority());
    let (signer, ca) = (Arc::clone(&authority), authority.cert_pem().to_owned());
    let answer = move |seen: &server::Seen| {
        let data = match seen.target.as_str() {
            "POST /v1/sys/strongroom/renew HTTP/1.1" => {
                let request: RenewRequestText = serde_json::from_slice(&seen.body).unwrap();
                serde_json::to_value(signed(&signer, &request.csr)).unwrap()
            }
            _ => {
                serde_json::json!({"bundle": signer.cert_pem(), "id": bundle_header(signer.cert_pem().as_bytes()).unwrap(),
                "authorities": [{"id": "00", "state": "active", "not_after": "x", "fingerprint": "y"}]})
            }
        };
        (200, serde_json::json!({"data": data}).to_string())
    };
    let server = serve(local(&authority), &ca, Some(&ca), Box::new(answer));
    let client = client(&server, &authority, now_ms());
    let new = key();
    assert_eq!(client.renew(&new.csr_pem).unwrap().identity, "spiffe://example.org/app/web");
    assert_eq!(client.ca().unwrap().authorities[0].state, "active");
    let seen = server.seen.lock().unwrap();
    let id = data_encoding::HEXLOWER.encode(&bundle_id(std::iter::once(der(&ca).as_ref())));
    assert!(seen.len() == 2 && seen.iter().all(|seen| seen.headers[&BUNDLE_HEADER.to_ascii_lowercase()] == id));
}

/// The body as a strict server reads it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RenewRequestText {
    csr: String,
}

#[test]
fn an_expired_certificate_is_named() {
    let (ours, theirs) = (authority(), authority());
    let ca = ours.cert_pem().to_owned();
    let server = serve(local(&ours), &ca, Some(&ca), Box::new(|_| (200, "{}".to_owned())));
    let error = client(&server, &ours, now_ms() - 7_200_000).sys().seal_status().unwrap_err();
    assert!(error.is_certificate_expired(), "{error}");
    assert!(error.to_string().contains("your certificate has expired: ask for a new enrolment string"));
    // A server that does not know the authority of the certificate.
    let server = serve(local(&ours), &ca, Some(theirs.cert_pem()), Box::new(|_| (200, "{}".to_owned())));
    let error = client(&server, &ours, now_ms()).sys().seal_status().unwrap_err();
    assert!(
        matches!(&error, ClientError::Certificate { problem, .. } if *problem != CertificateProblem::Expired),
        "{error}"
    );
}

#[test]
fn a_bundle_that_is_not_its_id_is_refused() {
    let authority = authority();
    let (ca, other) = (authority.cert_pem().to_owned(), server::authority().cert_pem().to_owned());
    let id = bundle_header(other.as_bytes()).unwrap();
    let data = serde_json::json!({"data": {"bundle": ca, "id": id}}).to_string();
    let server = serve(local(&authority), &ca, Some(&ca), Box::new(move |_| (200, data.clone())));
    let error = client(&server, &authority, now_ms()).ca().unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    // Order and repetition do not matter, and a text that is no bundle has no id.
    assert_eq!(
        bundle_header(format!("{ca}{other}").as_bytes()).ok(),
        bundle_header(format!("{other}{ca}{ca}").as_bytes()).ok()
    );
    assert!(bundle_header(b"").is_err());
}
