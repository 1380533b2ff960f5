//! A small vault that enrols and renews: real TLS and real certificates, without policies and without secrets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use strongroom::api::enroll::{Certified, EnrollRequest, GraceRequest, RenewRequest};
use strongroom::api::json::Limits;
use strongroom::api::request::Body;
use strongroom::api::secret::SecretText;
use strongroom::api::spiffe::SpiffeId;
use strongroom::crypto::Key;
use strongroom::crypto::random::SystemRandom;
use strongroom::enroll::{EXPORTER_LABEL, EnrollString, ProofKey};
use strongroom::pki::{self, Authority};
use zeroize::Zeroizing;

use crate::support::server::now_ms;

fn fields(body: &[u8]) -> Body {
    Body::from_json(Zeroizing::new(body.to_vec()), &Limits::default()).unwrap()
}

/// What happened, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A certificate was issued for this key.
    Issued { by: &'static str, key: [u8; 32] },
    /// A request came with this certificate's key.
    Asked { target: String, key: [u8; 32] },
}

pub struct Vault {
    pub authority: Authority,
    proof: ProofKey,
    pub string: SecretText,
    pub address: String,
    /// Life of what is issued, in seconds.
    pub life_s: AtomicU64,
    /// How far back certificates are issued, in milliseconds.
    pub issued_ago_ms: AtomicU64,
    /// Certificates that clients are to trust besides.
    pub more_trust: Mutex<String>,
    /// The next reply to an enrolment or a renewal is lost.
    pub lose: AtomicBool,
    pub events: Mutex<Vec<Event>>,
}

impl Vault {
    pub fn start() -> Arc<Self> {
        let authority = Authority::create("example.org", Arc::new(SystemRandom), now_ms(), 86_400).unwrap();
        let (enrolment, api) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let der = CertificateDer::from_pem_slice(authority.cert_pem().as_bytes()).unwrap();
        let addresses = vec![enrolment.local_addr().unwrap().to_string()];
        let secret = Key::fill_with(|out| *out = [5; 32]);
        let string = EnrollString::new(pki::key_fingerprint(&der).unwrap(), [6; 16], secret, addresses).unwrap();
        let vault = Arc::new(Self {
            proof: string.proof_key(),
            string: string.print(),
            address: api.local_addr().unwrap().to_string(),
            life_s: AtomicU64::new(3600),
            issued_ago_ms: AtomicU64::new(0),
            more_trust: Mutex::default(),
            lose: AtomicBool::new(false),
            events: Mutex::default(),
            authority,
        });
        for (listener, config) in [(enrolment, vault.config(None)), (api, vault.config(Some(der)))] {
            let vault = Arc::clone(&vault);
            std::thread::spawn(move || {
                for tcp in listener.incoming().flatten() {
                    let (vault, config) = (Arc::clone(&vault), Arc::clone(&config));
                    std::thread::spawn(move || vault.connection(config, tcp));
                }
            });
        }
        vault
    }

    fn config(&self, clients: Option<CertificateDer<'static>>) -> Arc<ServerConfig> {
        let bundle = self.authority.issue_server(&["127.0.0.1".to_owned()], now_ms(), 3600).unwrap();
        let chain = format!("{}{}", bundle.cert_pem, self.authority.cert_pem());
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(bundle.key_pem.reveal().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(der) => {
                let mut roots = RootCertStore::empty();
                roots.add(der).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }

    fn connection(&self, config: Arc<ServerConfig>, tcp: TcpStream) -> Option<()> {
        tcp.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        let mut stream = StreamOwned::new(ServerConnection::new(config).ok()?, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).ok()?;
        }
        let mut exporter = [0; 32];
        stream.conn.export_keying_material(&mut exporter, EXPORTER_LABEL, Some(&[])).ok()?;
        let peer = stream.conn.peer_certificates().and_then(|chain| pki::key_fingerprint(chain.first()?));
        let mut reader = BufReader::new(stream);
        loop {
            let mut target = String::new();
            if reader.read_line(&mut target).ok()? == 0 {
                return None;
            }
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                if line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().ok()?;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let (status, text) = self.answer(target.trim(), &body, &exporter, peer);
            if target.starts_with("POST") && self.lose.swap(false, Ordering::SeqCst) {
                return None;
            }
            let stream = reader.get_mut();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                text.len()
            );
            stream.write_all(&[head.as_bytes(), text.as_bytes()].concat()).ok()?;
            stream.flush().ok()?;
        }
    }

    fn answer(&self, target: &str, body: &[u8], exporter: &[u8; 32], peer: Option<[u8; 32]>) -> (u16, String) {
        let target = target.trim_end_matches(" HTTP/1.1");
        if let Some(key) = peer {
            self.events.lock().unwrap().push(Event::Asked { target: target.to_owned(), key });
        }
        match (peer, target) {
            (None, "POST /v1/sys/strongroom/enroll") => {
                let request = EnrollRequest::read(&fields(body)).unwrap();
                if !self.proof.verify(exporter, &pki::csr_der(&request.csr).unwrap(), &request.proof) {
                    return (403, r#"{"errors":["enrolment refused"]}"#.to_owned());
                }
                (200, serde_json::to_string(&self.issue("enrolment", &request.csr)).unwrap())
            }
            (None, "POST /v1/sys/strongroom/enroll/renew") => {
                let request = GraceRequest::read(&fields(body)).unwrap();
                assert!(pki::leaf(request.certificate.as_bytes()).unwrap().not_after_ms <= now_ms());
                (200, serde_json::to_string(&self.issue("grace", &request.csr)).unwrap())
            }
            (Some(_), "POST /v1/sys/strongroom/renew") => {
                let request: RenewRequest = serde_json::from_slice(body).unwrap();
                let data = self.issue("renewal", &request.csr);
                (200, serde_json::json!({ "data": data }).to_string())
            }
            (Some(_), "GET /v1/sys/strongroom/ca") => {
                let bundle = format!("{}{}", self.authority.cert_pem(), self.more_trust.lock().unwrap());
                let id = strongroom::client::bundle_header(bundle.as_bytes()).unwrap();
                (200, serde_json::json!({"data": {"bundle": bundle, "id": id, "authorities": []}}).to_string())
            }
            (Some(_), "POST /v1/sys/strongroom/certificates") => {
                let request: serde_json::Value = serde_json::from_slice(body).unwrap();
                let reply = self.issue("operator", request["csr"].as_str().unwrap());
                (200, serde_json::json!({"data": {"certificate": reply.certificate, "ca": reply.ca}}).to_string())
            }
            (Some(_), "GET /v1/secret/data/app") => {
                let metadata = serde_json::json!({"version": 1, "created_time": "2026-01-01T00:00:00Z",
                    "deletion_time": "", "destroyed": false, "custom_metadata": null});
                (200, serde_json::json!({"data": {"data": {"WORD": "value"}, "metadata": metadata}}).to_string())
            }
            (Some(_), target) if target.starts_with("GET /v1/sys/strongroom/events?") => {
                std::thread::sleep(Duration::from_millis(200));
                (200, r#"{"data":{"cursor":"1","changed":[],"resync":false}}"#.to_owned())
            }
            _ => (404, r#"{"errors":[]}"#.to_owned()),
        }
    }

    fn issue(&self, by: &'static str, csr: &str) -> Certified {
        let identity = SpiffeId::new("example.org", "app/web").unwrap();
        let at = now_ms() - self.issued_ago_ms.load(Ordering::SeqCst);
        let certificate = self.authority.sign_csr(csr, &identity, at, self.life_s.load(Ordering::SeqCst)).unwrap();
        let leaf = pki::leaf(certificate.as_bytes()).unwrap();
        self.events.lock().unwrap().push(Event::Issued { by, key: leaf.key_fingerprint });
        Certified {
            certificate,
            ca: self.authority.cert_pem().to_owned(),
            identity: identity.uri().to_owned(),
            not_after: strongroom::api::time::rfc3339_nano(leaf.not_after_ms),
            addresses: vec![self.address.clone()],
            ..Certified::default()
        }
    }

    /// Who issued what so far.
    pub fn issued(&self) -> Vec<(&'static str, [u8; 32])> {
        let events = self.events.lock().unwrap();
        events
            .iter()
            .filter_map(|event| if let Event::Issued { by, key } = event { Some((*by, *key)) } else { None })
            .collect()
    }
}
