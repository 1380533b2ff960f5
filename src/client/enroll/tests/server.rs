//! A small real TLS server with certificates of a real authority.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::client::tls::{certificates, provider, roots};
use crate::crypto::random::SystemRandom;
use crate::enroll::EXPORTER_LABEL;
use crate::pki::{Authority, Bundle};

/// What the server saw of one request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub exporter: [u8; 32],
    pub body: Vec<u8>,
}

pub type Answer = Box<dyn Fn(&Seen) -> (u16, String) + Send>;

pub struct Server {
    pub address: String,
    /// Requests, and bytes that came from clients after the handshake.
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

#[allow(clippy::disallowed_methods)] // rustls looks at the real clock
pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

pub fn authority() -> Authority {
    Authority::create("example.org", Arc::new(SystemRandom), now_ms(), 86_400).unwrap()
}

pub fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

pub fn pin(authority: &Authority) -> [u8; 32] {
    crate::pki::key_fingerprint(&der(authority.cert_pem())).unwrap()
}

pub fn local(authority: &Authority) -> Bundle {
    authority.issue_server(&["127.0.0.1".to_owned()], now_ms(), 3600).unwrap()
}

/// Chain of `bundle` and the certificate in `ca`, the key of `bundle`; client certificates of `clients` when given.
pub fn serve(bundle: Bundle, ca: &str, clients: Option<&str>, answer: Answer) -> Server {
    let chain = certificates(format!("{}{ca}", bundle.cert_pem).as_bytes(), "").unwrap();
    let key = PrivateKeyDer::from_pem_slice(bundle.key_pem.reveal().as_bytes()).unwrap();
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots(ca.as_bytes()).unwrap().into(), provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let Ok(tcp) = tcp else { return };
            tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let _ = one(&config, tcp, &log, &answer);
        }
    });
    Server { address, seen }
}

fn one(config: &Arc<ServerConfig>, tcp: TcpStream, log: &Mutex<Vec<Seen>>, answer: &Answer) -> std::io::Result<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    let mut exporter = [0; 32];
    stream.conn.export_keying_material(&mut exporter, EXPORTER_LABEL, Some(&[])).unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let target = line.trim().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let request = Seen { target, headers, exporter, body };
        log.lock().unwrap().push(request.clone());
        let (status, text) = answer(&request);
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", text.len());
        reader.get_mut().write_all(head.as_bytes())?;
        reader.get_mut().write_all(text.as_bytes())?;
        reader.get_mut().flush()?;
    }
}

impl Server {
    pub fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}
