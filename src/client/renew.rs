//! Renewal with a certificate that is still valid, and the authorities to trust.

use super::enroll::check;
use super::kv::json;
use super::tls::certificates;
use super::{Client, ClientError};
use crate::api::enroll::{CaBundle, Certified, RenewRequest};
use crate::api::hex::hex;
use crate::pki;

/// Tells the server in each request which authorities the client trusts, so that it knows who still needs a new one.
pub const BUNDLE_HEADER: &str = "X-Strongroom-Bundle";

impl Client {
    /// Requests a certificate for the key of `csr_pem`, with the identity of this client's certificate.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request;
    /// [`ClientError::Malformed`] when the reply is not a certificate for this key.
    ///
    /// ```no_run
    /// # fn renew(client: &strongroom::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let request = std::fs::read_to_string("request.pem")?;
    /// let certified = client.renew(&request)?;
    /// println!("valid until {}", certified.not_after);
    /// # Ok(())
    /// # }
    /// ```
    pub fn renew(&self, csr_pem: &str) -> Result<Certified, ClientError> {
        let body = json(&RenewRequest { csr: csr_pem.to_owned() })?;
        let reply: Certified = self.ask("POST", "sys/strongroom/renew", Some(&body))?;
        check(&reply, csr_pem)?;
        Ok(reply)
    }

    /// Returns the authorities to trust from now on.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request;
    /// [`ClientError::Malformed`] when the bundle does not match its id.
    ///
    /// ```no_run
    /// # fn example(client: &strongroom::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// // While an authority is replaced, a client must trust both the old one and the new one.
    /// std::fs::write("ca.pem", client.ca()?.bundle)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn ca(&self) -> Result<CaBundle, ClientError> {
        let bundle: CaBundle = self.ask("GET", "sys/strongroom/ca", None)?;
        match bundle_header(bundle.bundle.as_bytes()) {
            Ok(id) if id == bundle.id => Ok(bundle),
            _ => Err(ClientError::Malformed("the server's bundle of authorities is damaged")),
        }
    }
}

/// Id of the bundle in a CA file (PEM) for the header: 32 hexadecimal digits.
///
/// # Errors
/// [`ClientError::Settings`] when the file is not PEM.
pub fn bundle_header(ca_pem: &[u8]) -> Result<String, ClientError> {
    let found = certificates(ca_pem, "the CA certificate is not PEM")?;
    let id = pki::bundle_id(found.iter().map(|der| der.as_ref()));
    Ok(hex(&id))
}
