//! TLS of the client: version 1.3 only, only the given authorities, always with a certificate, never resumed.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport, TransportAdapter};

use super::error::ClientError;
use super::gate::{Compared, Gate};
use super::settings::Settings;
use super::wiped::WipedBuffers;

/// The cryptography of every TLS connection: aws-lc-rs, hybrid post-quantum key exchange first. Set explicitly, so that
/// nothing depends on a process-wide default.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
        ],
        ..aws_lc_rs::default_provider()
    })
}

/// Makes TLS connections from TCP connections.
pub(super) struct TlsConnector {
    config: Arc<ClientConfig>,
    gate: Arc<Gate>,
}

impl TlsConnector {
    /// `gate` decides which connections may be opened.
    ///
    /// # Errors
    /// [`ClientError::Settings`] when a certificate or the key cannot be parsed, or they do not belong together.
    pub(super) fn new(settings: &Settings, gate: Arc<Gate>) -> Result<Self, ClientError> {
        Ok(Self { config: Arc::new(client_config(settings)?), gate })
    }
}

fn client_config(settings: &Settings) -> Result<ClientConfig, ClientError> {
    let chain = certificates(&settings.cert_pem, "the client certificate is not PEM")?;
    let key = PrivateKeyDer::from_pem_slice(settings.key_pem.reveal().as_bytes())
        .map_err(|_| ClientError::Settings("the client key is not a PEM private key"))?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| ClientError::Settings("TLS 1.3 is not available"))?
        .with_root_certificates(roots(&settings.ca_pem)?)
        .with_client_auth_cert(chain, key)
        .map_err(|_| ClientError::Settings("the client certificate and its key do not belong together"))?;
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Parses the authorities in a CA file, PEM.
pub(super) fn roots(ca_pem: &[u8]) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(ca_pem, "the CA certificate is not PEM")? {
        roots.add(root).map_err(|_| ClientError::Settings("the CA certificate cannot be used"))?;
    }
    Ok(roots)
}

pub(super) fn certificates(pem: &[u8], problem: &'static str) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| ClientError::Settings(problem))?;
    if found.is_empty() { Err(ClientError::Settings(problem)) } else { Ok(found) }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = TlsTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<TlsTransport>, ureq::Error> {
        let Some(tcp) = chained else { return Err(ureq::Error::ConnectionFailed) };
        let Some(compared) = self.gate.opens() else { return Err(ureq::Error::ConnectionFailed) };
        let host = details.uri.host().ok_or(ureq::Error::HostNotFound)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ureq::Error::Tls("not a server name"))?;
        let mut connection = ClientConnection::new(Arc::clone(&self.config), name).map_err(ureq::Error::Rustls)?;
        connection.set_buffer_limit(Some(64 * 1024));
        let mut socket = TransportAdapter::new(Box::new(tcp) as Box<dyn Transport>, Arc::clone(&details.current_time));
        socket.set_timeout(details.timeout);
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let buffers = WipedBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(TlsTransport { buffers, stream: StreamOwned::new(connection, socket), compared }))
    }
}

/// One TLS connection.
pub(super) struct TlsTransport {
    buffers: WipedBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    compared: Compared,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        if !self.compared.may_send() {
            return Err(ureq::Error::ConnectionFailed);
        }
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        let sent = self.stream.write_all(output).and_then(|()| self.stream.flush());
        self.buffers.sent(amount);
        // A server that rejects the connection gives its reason before it closes. That reason is more useful than
        // "broken pipe".
        sent.map_err(|error| match self.stream.conn.process_new_packets() {
            Err(reason) => ureq::Error::Rustls(reason),
            Ok(_) => error.into(),
        })
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConnector")
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}
