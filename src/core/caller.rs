//! The caller: facts about the peer, which the TLS layer takes from its certificate, never from the request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::api::hex::hex;
use crate::api::secret::SecretText;
use crate::api::spiffe::SpiffeId;
use crate::pki::AuthorityId;
use crate::pki::outside::OutsideFacts;

use crate::core::state::identity::OUTSIDE;
use crate::core::state::roles::Outside;

/// One authenticated peer with one of its requests.
#[derive(Clone)]
pub struct Caller {
    /// The single SPIFFE identity in the peer's certificate.
    pub identity: Arc<SpiffeId>,
    /// Who vouches for its certificate.
    pub origin: Origin,
    /// SHA-256 of the certificate's DER.
    pub fingerprint: [u8; 32],
    /// Start of the certificate's validity, milliseconds since 1970.
    pub not_before_ms: u64,
    /// Expiry of the certificate, milliseconds since 1970. Checked again at each request, because a connection may
    /// outlive the certificate that opened it.
    pub not_after_ms: u64,
    /// Peer address as text, for the audit log.
    pub remote: String,
    /// Identifier of this request, in the reply and in the audit log.
    pub request_id: String,
    /// The bundle of authorities that the client says it trusts: see `sys/strongroom/ca`.
    pub bundle: Option<[u8; 16]>,
    /// The token of `X-Vault-Token`, if present. It works only for the identity that it was created for.
    pub token: Option<Arc<SecretText>>,
}

impl Caller {
    /// Returns the peer with this certificate of an outside PKI, at `remote` (`host:port`), without a request yet. Its
    /// identity is `spiffe://<trust domain>/cert/<64 hexadecimal digits of the certificate's SHA-256>`. `None` when
    /// that is not a valid identity.
    #[must_use]
    pub fn outside(facts: OutsideFacts, trust_domain: &str, remote: String) -> Option<Self> {
        let identity = SpiffeId::new(trust_domain, &format!("{OUTSIDE}{}", hex(&facts.fingerprint))).ok()?;
        Some(Self {
            identity: Arc::new(identity),
            fingerprint: facts.fingerprint,
            not_before_ms: facts.not_before_ms,
            not_after_ms: facts.not_after_ms,
            origin: Origin::Outside(Arc::new(Outside::new(facts))),
            remote,
            request_id: String::new(),
            bundle: None,
            token: None,
        })
    }

    /// Whether its certificate belongs to an outside PKI. One person can have any number of such certificates.
    #[must_use]
    pub fn is_outsider(&self) -> bool {
        matches!(self.origin, Origin::Outside(_))
    }

    /// The peer's network address, if it is connected over a network.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.remote.parse::<SocketAddr>().ok().map(|address| address.ip().to_canonical())
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Caller({}, {})", self.identity.uri(), self.request_id)
    }
}

/// Who vouches for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// One of the vault's own authorities. The chain was verified against those alone.
    Vault(AuthorityId),
    /// A PKI that a role of `auth/cert` names. The certificate's only name here is its fingerprint.
    Outside(Arc<Outside>),
    /// The vault itself. There is no certificate.
    Internal,
}

/// Who unseals a vault.
#[derive(Clone, Copy, Debug)]
pub enum Opener<'a> {
    /// The daemon itself or its local socket. Anyone who can reach it can read the data folder anyway.
    Local,
    /// A peer over mutual TLS; must match [`super::Settings::unseal_identities`].
    Remote(&'a Caller),
}

impl Opener<'_> {
    /// The name under which failures are counted.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Local => "local",
            Self::Remote(caller) => caller.identity.uri(),
        }
    }
}

/// Identities that may unseal: one identity, or every identity below a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityPattern {
    trust_domain: String,
    path: String,
    below: bool,
}

impl IdentityPattern {
    /// Parses `ops/alice`, `ops/*`, or either with `spiffe://<trust domain>/` in front. The star stands for everything
    /// below a folder. It is allowed only at the end, after a slash: `ops/*` matches `ops/a` and `ops/a/b`, but never
    /// `opsx`.
    ///
    /// # Errors
    /// A text that says what is wrong when the pattern has another form or names another trust domain.
    pub fn parse(text: &str, trust_domain: &str) -> Result<Self, &'static str> {
        let path = match text.strip_prefix("spiffe://") {
            Some(rest) => rest
                .strip_prefix(trust_domain)
                .and_then(|rest| rest.strip_prefix('/'))
                .ok_or("the pattern names another trust domain")?,
            None => text,
        };
        let (path, below) = match path.strip_suffix("/*") {
            Some(folder) => (folder, true),
            None => (path, false),
        };
        SpiffeId::new(trust_domain, path).map_err(|_| "the pattern is not an identity path")?;
        Ok(Self { trust_domain: trust_domain.to_owned(), path: path.to_owned(), below })
    }

    /// Whether `identity` matches.
    #[must_use]
    pub fn matches(&self, identity: &SpiffeId) -> bool {
        if identity.trust_domain() != self.trust_domain {
            return false;
        }
        if self.below {
            identity.path().strip_prefix(self.path.as_str()).is_some_and(|rest| rest.starts_with('/'))
        } else {
            identity.path() == self.path
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_end_at_segment_borders() {
        let check = |pattern: &str, identity: &str, want: bool| {
            let pattern = IdentityPattern::parse(pattern, "example.org").expect("valid pattern");
            let identity = SpiffeId::parse(identity).expect("valid identity");
            assert_eq!(pattern.matches(&identity), want, "{pattern:?} {identity:?}");
        };
        check("ops/alice", "spiffe://example.org/ops/alice", true);
        check("ops/alice", "spiffe://example.org/ops/alice2", false);
        check("ops/alice", "spiffe://example.org/ops/alice/x", false);
        check("ops/alice", "spiffe://elsewhere.org/ops/alice", false);
        check("ops/*", "spiffe://example.org/ops/a/b", true);
        check("ops/*", "spiffe://example.org/ops", false);
        check("ops/*", "spiffe://example.org/opsx/a", false);
        check("spiffe://example.org/ops/*", "spiffe://example.org/ops/a", true);
    }

    #[test]
    fn other_patterns_are_refused() {
        for text in ["", "*", "ops*", "o*s/x", "/ops", "ops/", "ops//x", "ops/**", "spiffe://elsewhere.org/ops/*"] {
            assert!(IdentityPattern::parse(text, "example.org").is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total(text in "\\PC{0,40}") {
            let _ = IdentityPattern::parse(&text, "example.org");
        }
    }
}
