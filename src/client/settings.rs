//! Settings of a client.

use std::time::Duration;

use ::http::Uri;

use super::error::ClientError;
use crate::api::secret::SecretText;

/// Longest wait for a connection, including TLS.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to connect, whom to trust, and which identity to use.
///
/// ```
/// use std::time::Duration;
///
/// use strongroom::client::{Client, ClientError, Settings};
///
/// let settings = |addr: &str| Settings {
///     addr: addr.to_owned(),
///     ca_pem: Vec::new(),
///     cert_pem: Vec::new(),
///     key_pem: String::new().into(),
///     timeout: Duration::from_secs(10),
/// };
/// // Rejected before anything is sent: plaintext, and settings that name no authority to trust.
/// assert!(matches!(Client::connect(settings("http://127.0.0.1:8200")), Err(ClientError::Address(_))));
/// assert!(matches!(Client::connect(settings("https://127.0.0.1:8200")), Err(ClientError::Settings(_))));
/// ```
pub struct Settings {
    /// `https://host:port`. The host must be a name or address in the server's certificate. The default port is 443.
    pub addr: String,
    /// Certificates of the authorities to trust, PEM. Nothing else is trusted.
    pub ca_pem: Vec<u8>,
    /// The client's certificate chain, PEM.
    pub cert_pem: Vec<u8>,
    /// The client's private key, PEM: PKCS#8, SEC1 or PKCS#1.
    pub key_pem: SecretText,
    /// Time limit of one request, from the name lookup to the last byte. Connecting may take at most 10 s of it.
    pub timeout: Duration,
}

impl Settings {
    /// The address as the prefix of request targets.
    ///
    /// # Errors
    /// [`ClientError::Address`] unless it is `https://host[:port][/]`.
    pub(super) fn base(&self) -> Result<String, ClientError> {
        base_of(&self.addr)
    }
}

/// Checks the address of a vault.
///
/// # Errors
/// [`ClientError::Address`] unless it is `https://host[:port][/]`.
///
/// ```
/// assert!(strongroom::client::check_address("https://vault.example.org:8200").is_ok());
/// assert!(strongroom::client::check_address("http://vault.example.org:8200").is_err());
/// ```
pub fn check_address(addr: &str) -> Result<(), ClientError> {
    base_of(addr).map(|_| ())
}

fn base_of(addr: &str) -> Result<String, ClientError> {
    let uri: Uri = addr.trim().parse().map_err(|_| ClientError::Address("the address is not a URL"))?;
    if uri.scheme_str() != Some("https") {
        return Err(ClientError::Address("the address must begin with https://"));
    }
    let authority = uri.authority().ok_or(ClientError::Address("the address has no host"))?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(ClientError::Address("the address must be https://host:port"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(ClientError::Address("the address must end after the port"));
    }
    Ok(format!("https://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(addr: &str) -> Result<String, ClientError> {
        let settings = Settings {
            addr: addr.to_owned(),
            ca_pem: Vec::new(),
            cert_pem: Vec::new(),
            key_pem: SecretText::new(String::new()),
            timeout: CONNECT_TIMEOUT,
        };
        settings.base()
    }

    #[test]
    fn takes_only_an_https_host() {
        assert_eq!(base("https://vault.example:8200/").expect("legal"), "https://vault.example:8200");
        assert_eq!(base("https://[::1]:8200").expect("legal"), "https://[::1]:8200");
        for bad in [
            "",
            "vault:8200",
            "http://vault:8200",
            "https://u:p@vault",
            "https://vault/v1",
            "https://vault?x=1",
            "https://",
        ] {
            assert!(base(bad).is_err(), "{bad}");
        }
    }
}
