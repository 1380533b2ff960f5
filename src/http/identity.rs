//! Finds the identity at the other end of a connection, once per connection.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use uuid::Uuid;

use super::verifier::Proof;
use crate::api::secret::SecretText;
use crate::api::spiffe::SpiffeId;
use crate::core::{Caller, Origin};
use crate::pki::outside::OutsideFacts;
use crate::pki::{AuthorityId, peer};

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
    /// Reads the certificate that TLS has accepted and `proof` has classified. `None` when it names no identity of this
    /// vault. `chain` is not empty on a connection that TLS has accepted.
    pub(super) fn inspect(
        chain: &[CertificateDer<'_>],
        proof: Proof,
        trust_domain: &str,
        remote: SocketAddr,
    ) -> Option<Self> {
        match proof {
            Proof::Vault(authority) => Self::of_vault(chain.first()?, authority, trust_domain, remote),
            Proof::Outside(chain) => Self::outside(&chain, trust_domain, remote),
        }
    }

    fn of_vault(
        leaf: &CertificateDer<'_>,
        authority: AuthorityId,
        trust_domain: &str,
        remote: SocketAddr,
    ) -> Option<Self> {
        let found = match peer::inspect(leaf, trust_domain) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%remote, %error, "client certificate without a usable identity");
                return None;
            }
        };
        Some(Self(Arc::new(Caller {
            identity: Arc::new(found.identity),
            origin: Origin::Vault(authority),
            fingerprint: found.fingerprint,
            not_before_ms: found.not_before_ms,
            not_after_ms: found.not_after_ms,
            remote: remote.to_string(),
            request_id: String::new(),
            bundle: None,
            token: None,
        })))
    }

    /// An outside certificate has no identity of its own, whatever names it contains. Its fingerprint is its name, and
    /// a role decides what it may do.
    fn outside(chain: &[CertificateDer<'_>], trust_domain: &str, remote: SocketAddr) -> Option<Self> {
        let (leaf, above) = chain.split_first()?;
        let above: Vec<&[u8]> = above.iter().map(AsRef::as_ref).collect();
        let facts = match OutsideFacts::read(leaf, &above) {
            Ok(facts) => facts,
            Err(error) => {
                tracing::warn!(%remote, %error, "rejected a client certificate of an outside authority");
                return None;
            }
        };
        Caller::outside(facts, trust_domain, remote.to_string()).map(|caller| Self(Arc::new(caller)))
    }

    /// Facts that hold for every request of the connection.
    pub(super) fn facts(&self) -> &Arc<Caller> {
        &self.0
    }

    pub(super) fn identity(&self) -> &Arc<SpiffeId> {
        &self.0.identity
    }

    /// TLS checked the dates only at the handshake. An open connection must not outlive its certificate.
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
