//! TLS connections byte by byte, for what a well-behaved client does not send.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion};
use strongroom::pki::Bundle;

use super::server::Server;

/// Longest wait for a server that keeps its promises.
const PATIENCE: Duration = Duration::from_secs(15);

/// Settings of a client with `bundle` and the given versions; resumption as far as the server offers it.
pub fn config(
    server: &Server,
    bundle: Option<&Bundle>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match bundle {
        None => builder.with_no_client_auth(),
        Some(bundle) => {
            let chain = vec![CertificateDer::from_pem_slice(bundle.cert_pem.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(bundle.key_pem.reveal().as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

/// One connection.
pub struct Raw(pub StreamOwned<ClientConnection, TcpStream>);

impl Raw {
    /// Connects as `bundle`, TLS 1.3.
    pub fn connect(server: &Server, bundle: &Bundle) -> Self {
        Self::with(server, config(server, Some(bundle), &[&rustls::version::TLS13]))
    }

    /// Connects with any settings; the handshake happens with the first bytes.
    pub fn with(server: &Server, config: Arc<ClientConfig>) -> Self {
        let tcp = TcpStream::connect(server.address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        Self(StreamOwned::new(ClientConnection::new(config, name).unwrap(), tcp))
    }

    /// Sends bytes; an error is the server's right.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }

    /// Reads one reply: status, head, body. An error when the server closes instead.
    pub fn reply(&mut self) -> std::io::Result<Reply> {
        let mut bytes = Vec::new();
        let mut chunk = [0_u8; 4096];
        loop {
            if let Some(reply) = Reply::parse(&bytes) {
                return Ok(reply);
            }
            match self.0.read(&mut chunk)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => bytes.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// Sends a request and reads the reply.
    pub fn ask(&mut self, request: &str) -> std::io::Result<Reply> {
        self.send(request.as_bytes())?;
        self.reply()
    }

    /// A GET of a path below `/v1/`.
    pub fn get(&mut self, path: &str) -> std::io::Result<Reply> {
        self.ask(&format!("GET /v1/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Waits for the end of the connection, and how long it took. Panics if it stays open.
    pub fn wait_for_end(&mut self) -> Duration {
        let start = Instant::now();
        let mut chunk = [0_u8; 4096];
        loop {
            match self.0.read(&mut chunk) {
                Ok(0) => return start.elapsed(),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("the server did not close the connection")
                }
                Err(_) => return start.elapsed(),
            }
        }
    }

    /// How the handshake went.
    pub fn handshake(&self) -> Option<HandshakeKind> {
        self.0.conn.handshake_kind()
    }
}

/// A reply as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let mut reply = Self { status, head, body: String::new() };
        let length: usize = reply.header("content-length").map_or(0, |text| text.parse().unwrap());
        reply.body = String::from_utf8_lossy(bytes.get(end..end + length)?).into_owned();
        Some(reply)
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}
