//! The enrolment listener from the client's side: the first certificate, and the renewal of an expired one.
//!
//! Uses TLS 1.3 without a client certificate. Nothing is sent before the server has proved that it belongs to the
//! vault: its chain contains the authority that the enrolment string pins, or it comes from an authority that is
//! trusted already. The client's proof covers the connection, so a server in between could not forward it.

mod exchange;
mod verify;

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme};
use zeroize::Zeroizing;

use super::error::{ClientError, transport};
use super::settings::CONNECT_TIMEOUT;
use super::tls::{certificates, provider, roots};
use crate::api::enroll::{Certified, EnrollRequest, GraceRequest};
use crate::api::reply::ErrorBody;
use crate::api::secret::SecretText;
use crate::enroll::string::split_address;
use crate::enroll::{EXPORTER_LABEL, EnrollString, grace_message};
use crate::pki;
use exchange::Line;

const ENROLL_PATH: &str = "/v1/sys/strongroom/enroll";
const GRACE_PATH: &str = "/v1/sys/strongroom/enroll/renew";

/// Requests the first certificate, for the key of `csr_pem`. Tries the addresses in the string in order until one
/// answers; `timeout` applies to each. If a reply is lost, the same request can be sent again.
///
/// # Errors
/// [`ClientError::Settings`] when `csr_pem` is not a request. [`ClientError::Transport`] when no address answers, or
/// none with the pinned authority. [`ClientError::Refused`] with 403 when the string is used up, expired or unknown,
/// and with 429 after too many attempts. [`ClientError::Malformed`] when the reply is not a certificate for this key.
///
/// ```no_run
/// use std::time::Duration;
///
/// use strongroom::client::enroll::enroll;
/// use strongroom::enroll::EnrollString;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let string = EnrollString::parse(&std::fs::read_to_string("enroll.txt")?)?;
/// // A certificate request for a key that was made here and never leaves this machine.
/// let request = std::fs::read_to_string("request.pem")?;
/// let certified = enroll(&string, &request, Duration::from_secs(10))?;
/// std::fs::write("cert.pem", &certified.certificate)?;
/// std::fs::write("ca.pem", &certified.ca)?;
/// # Ok(())
/// # }
/// ```
pub fn enroll(string: &EnrollString, csr_pem: &str, timeout: Duration) -> Result<Certified, ClientError> {
    let csr = csr_der(csr_pem)?;
    let key = string.proof_key();
    let verifier = verify::Pinned::new(*string.pin(), provider());
    let listener = Listener::new(Arc::new(verifier), timeout)?;
    let ask = |exporter: &[u8; 32]| {
        let proof = key.proof(exporter, &csr);
        let request = EnrollRequest { id: *string.id(), csr: csr_pem.to_owned(), proof };
        serde_json::to_vec(&request).map_err(|_| ClientError::Malformed("the request cannot be written"))
    };
    listener.certified(string.addresses(), ENROLL_PATH, csr_pem, &ask)
}

/// What is needed to renew an expired certificate.
///
/// ```no_run
/// use std::time::Duration;
///
/// use strongroom::client::enroll::Expired;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = std::fs::read_to_string("key.pem")?.into();
/// let expired = Expired {
///     addresses: &["vault.example.org:8201".to_owned()],
///     ca_pem: &std::fs::read("ca.pem")?,
///     cert_pem: &std::fs::read("cert.pem")?,
///     key_pem: &key,
/// };
/// let certified = expired.renew(&std::fs::read_to_string("request.pem")?, Duration::from_secs(10))?;
/// println!("valid until {}", certified.not_after);
/// # Ok(())
/// # }
/// ```
pub struct Expired<'a> {
    /// Addresses of the enrolment listener, each `host:port`.
    pub addresses: &'a [String],
    /// Certificates of the authorities to trust, PEM.
    pub ca_pem: &'a [u8],
    /// The expired certificate, PEM.
    pub cert_pem: &'a [u8],
    /// Its private key, PEM.
    pub key_pem: &'a SecretText,
}

impl Expired<'_> {
    /// Requests a certificate for the key of `csr_pem`, which may be the old key. The old key signs the request.
    ///
    /// # Errors
    /// As [`enroll`]. The server allows this only for a limited time after the expiry, and only if that is configured.
    pub fn renew(&self, csr_pem: &str, timeout: Duration) -> Result<Certified, ClientError> {
        let csr = csr_der(csr_pem)?;
        let certificate = std::str::from_utf8(self.cert_pem)
            .map_err(|_| ClientError::Settings("the client certificate is not PEM"))?;
        let unusable = ClientError::Settings("the client key is not a PEM private key");
        let Ok(key) = PrivateKeyDer::from_pem_slice(self.key_pem.reveal().as_bytes()) else { return Err(unusable) };
        let Ok(key) = provider().key_provider.load_private_key(key) else { return Err(unusable) };
        let Some(signer) = key.choose_scheme(SCHEMES) else {
            return Err(ClientError::Settings("the client key is of a type that cannot sign this"));
        };
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(roots(self.ca_pem)?.into(), provider())
                .build()
                .map_err(|_| ClientError::Settings("the CA certificate cannot be used"))?;
        let listener = Listener::new(verifier, timeout)?;
        let ask = |exporter: &[u8; 32]| {
            let signature = signer.sign(&grace_message(exporter, &csr));
            let signature = signature.map_err(|_| ClientError::Settings("signing with the client key failed"))?;
            let request = GraceRequest {
                certificate: certificate.to_owned(),
                csr: csr_pem.to_owned(),
                proof: signature,
                scheme: signer.scheme().into(),
            };
            serde_json::to_vec(&request).map_err(|_| ClientError::Malformed("the request cannot be written"))
        };
        listener.certified(self.addresses, GRACE_PATH, csr_pem, &ask)
    }
}

/// Signature schemes for an old key: those of TLS 1.3 for the key types that are certified.
const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
];

fn csr_der(csr_pem: &str) -> Result<Vec<u8>, ClientError> {
    pki::csr_der(csr_pem).map_err(|_| ClientError::Settings("the signing request is not PEM"))
}

/// Builds the body of a request for the connection with this exporter.
type Ask<'a> = &'a dyn Fn(&[u8; 32]) -> Result<Vec<u8>, ClientError>;

/// How to reach the listener.
struct Listener {
    config: Arc<ClientConfig>,
    timeout: Duration,
}

impl Listener {
    fn new(verifier: Arc<dyn ServerCertVerifier>, timeout: Duration) -> Result<Self, ClientError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| ClientError::Settings("TLS 1.3 is not available"))?
            .dangerous() // every verifier used here checks chain, dates, usage and name
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), timeout })
    }

    /// Asks each address until one answers, and accepts the answer only if it is valid.
    fn certified(
        &self,
        addresses: &[String],
        path: &str,
        csr_pem: &str,
        ask: Ask<'_>,
    ) -> Result<Certified, ClientError> {
        let mut failures = Vec::new();
        for address in addresses {
            match self.answer(address, path, ask) {
                Ok(body) => return accept(&body, csr_pem),
                // Another address may work. A rejection, however, is the vault's answer.
                Err(error @ (ClientError::Transport { .. } | ClientError::Malformed(_))) => {
                    failures.push((address, error));
                }
                Err(error) => return Err(error),
            }
        }
        match failures.len() {
            0 => Err(ClientError::Settings("no address of the enrolment listener is known")),
            1 => Err(failures.remove(0).1),
            _ => {
                let texts = failures.iter().map(|(address, error)| match error {
                    ClientError::Malformed(problem) => format!("{address}: {problem}"),
                    error => error.to_string(),
                });
                let problem = texts.collect::<Vec<_>>().join("; ");
                Err(ClientError::Transport { address: "no address answers".to_owned(), problem, hint: "" })
            }
        }
    }

    fn answer(&self, address: &str, path: &str, ask: Ask<'_>) -> Result<Zeroizing<Vec<u8>>, ClientError> {
        let failed = |error: std::io::Error| transport(error.into(), address);
        let (host, _) = split_address(address).ok_or(ClientError::Settings("an address is not host:port"))?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| ClientError::Settings("an address has an invalid host name"))?;
        // The time of the real network.
        #[allow(clippy::disallowed_methods)]
        let deadline = Instant::now() + self.timeout;
        let tcp = connect(address, deadline).map_err(failed)?;
        let tls = ClientConnection::new(Arc::clone(&self.config), name)
            .map_err(|error| transport(ureq::Error::Rustls(error), address))?;
        let mut line = Line::new(tls, tcp, deadline);
        line.handshake().map_err(failed)?;
        let mut exporter = Zeroizing::new([0; 32]);
        line.export(exporter.as_mut_slice(), EXPORTER_LABEL)
            .map_err(|_| ClientError::Malformed("the TLS connection provides no keying material"))?;
        let body = Zeroizing::new(ask(&exporter)?);
        let reply = line.post(address, path, &body).map_err(|error| error.words(address))?;
        if reply.status == 200 {
            return Ok(reply.body);
        }
        let errors = serde_json::from_slice::<ErrorBody>(&reply.body).map(|body| body.errors).unwrap_or_default();
        Err(ClientError::refusal(reply.status, errors, reply.error.as_deref()))
    }
}

fn connect(address: &str, deadline: Instant) -> std::io::Result<TcpStream> {
    let found: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for socket in found {
        let left = exchange::left(deadline)?.min(CONNECT_TIMEOUT);
        match TcpStream::connect_timeout(&socket, left) {
            Ok(stream) => {
                // The end of the handshake and the request are sent one after the other. The request must not wait for
                // the peer's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Returns the reply if it is usable: a certificate for the requested key, from an authority in the bundle.
fn accept(body: &[u8], csr_pem: &str) -> Result<Certified, ClientError> {
    let reply: Certified =
        serde_json::from_slice(body).map_err(|_| ClientError::Malformed("the reply is not the expected JSON"))?;
    check(&reply, csr_pem)?;
    Ok(reply)
}

/// Checks that the certificate in `reply` is for the key in `csr_pem`, and that a client can trust the bundle.
///
/// # Errors
/// [`ClientError::Malformed`] when one of these does not hold; [`ClientError::Settings`] when `csr_pem` is malformed.
pub(super) fn check(reply: &Certified, csr_pem: &str) -> Result<(), ClientError> {
    const UNUSABLE: ClientError = ClientError::Malformed("the server's reply contains no usable certificate");
    let leaf = pki::leaf(reply.certificate.as_bytes()).map_err(|_| UNUSABLE)?;
    let asked = pki::read_csr(csr_pem).map_err(|_| ClientError::Settings("the signing request is malformed"))?;
    if leaf.key_fingerprint != asked.key_fingerprint {
        return Err(ClientError::Malformed("the certificate in the reply is for another key"));
    }
    if leaf.identity.as_deref() != Some(reply.identity.as_str()) {
        return Err(ClientError::Malformed(
            "the certificate in the reply names another identity than the reply itself",
        ));
    }
    let chain = certificates(reply.certificate.as_bytes(), "").map_err(|_| UNUSABLE)?;
    // Authorities that only vouch for the listener do not vouch for clients.
    let of_server = match reply.server_ca.is_empty() {
        true => Vec::new(),
        false => certificates(reply.server_ca.as_bytes(), "").map_err(|_| UNUSABLE)?,
    };
    let mut own = RootCertStore::empty();
    for root in certificates(reply.ca.as_bytes(), "").map_err(|_| UNUSABLE)? {
        // Every later connection loads the whole bundle, so all of it must be usable.
        let store = if of_server.contains(&root) { &mut RootCertStore::empty() } else { &mut own };
        store.add(root).map_err(|_| UNUSABLE)?;
    }
    verify::issued_by(&chain, own, leaf.not_before_ms)
        .then_some(())
        .ok_or(ClientError::Malformed("the certificate in the reply is not from the authorities in the reply"))?;
    match reply.addresses.iter().chain(&reply.enroll).all(|address| split_address(address).is_some()) {
        true => Ok(()),
        false => Err(ClientError::Malformed("an address in the reply is not host:port")),
    }
}

#[cfg(test)]
mod tests;
