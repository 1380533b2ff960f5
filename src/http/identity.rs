//! Who is at the other end of a connection, found out once per connection.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use uuid::Uuid;

use super::verifier::Proof;
use crate::api::secret::SecretText;
use crate::api::spiffe::SpiffeId;
use crate::core::{Caller, Origin};
use crate::pki::peer;

/// Facts about the peer that hold for the whole connection.
pub(super) struct Peer(Arc<Caller>);

/// What a request says about its sender besides the certificate.
#[derive(Default)]
pub(super) struct Claims {
    /// Id of the authorities that the client trusts.
    pub bundle: Option<[u8; 16]>,
    /// A token.
    pub token: Option<Arc<SecretText>>,
}

impl Peer {
    /// Reads the certificate that TLS has taken and `proof` has placed. `None`: it names nobody here. `chain` is not
    /// empty on a connection that TLS has let through.
    pub(super) fn inspect(
        chain: &[CertificateDer<'_>],
        proof: Proof,
        trust_domain: &str,
        remote: SocketAddr,
    ) -> Option<Self> {
        let origin = match proof {
            Proof::Own(authority) => Origin::Own(authority),
            // An outside certificate has no identity of its own accord, whatever names are written in it.
            Proof::Outside(chain) => {
                tracing::warn!(%remote, certificates = chain.len(), "client certificate of an outside authority");
                return None;
            }
        };
        match peer::inspect(chain.first()?, trust_domain) {
            Ok(found) => Some(Self(Arc::new(Caller {
                identity: Arc::new(found.identity),
                origin,
                fingerprint: found.fingerprint,
                not_before_ms: found.not_before_ms,
                not_after_ms: found.not_after_ms,
                remote: remote.to_string(),
                request_id: String::new(),
                bundle: None,
                token: None,
            }))),
            Err(error) => {
                tracing::warn!(%remote, %error, "client certificate without a usable identity");
                None
            }
        }
    }

    /// Stands for every request of the connection.
    pub(super) fn facts(&self) -> &Arc<Caller> {
        &self.0
    }

    pub(super) fn identity(&self) -> &Arc<SpiffeId> {
        &self.0.identity
    }

    /// TLS checked the dates at the handshake only; an open connection must not outlive its certificate.
    pub(super) fn expired(&self, now_ms: u64) -> bool {
        now_ms > self.0.not_after_ms
    }

    /// The caller of one request.
    pub(super) fn caller(&self, claims: Claims) -> Caller {
        Caller {
            request_id: Uuid::new_v4().to_string(),
            bundle: claims.bundle,
            token: claims.token,
            ..Caller::clone(&self.0)
        }
    }
}
