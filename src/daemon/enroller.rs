//! Connects the enrolment listener to the vault.

use std::sync::Arc;

use crate::core::{self, EnrollAttempt, GraceAttempt, Vault, VaultError};
use crate::http::enroll::{Decision, Enroll, EnrollError, Enrolled, Enroller, GraceRenewal};
use crate::pki::AuthorityId;

/// The vault as seen by machines that have no certificate.
pub struct VaultEnroller {
    vault: Arc<Vault>,
    /// Port of the API, which machines use once they have enrolled.
    port: u16,
}

impl VaultEnroller {
    /// `port` is the API's port on the hosts that an enrolment string names.
    #[must_use]
    pub fn new(vault: Arc<Vault>, port: u16) -> Self {
        Self { vault, port }
    }

    fn reply(&self, enrolled: core::Enrolled) -> Enrolled {
        let core::Enrolled { certificate, ca, server_ca, identity, not_after, addresses, enroll } = enrolled;
        let hosts = addresses.iter().filter_map(|address| address.rsplit_once(':'));
        let addresses = hosts.map(|(host, _)| format!("{host}:{}", self.port)).collect();
        Enrolled { certificate, ca, server_ca, identity, not_after, addresses, enroll }
    }
}

/// Maps every problem with strings, certificates and identities to one refusal, so that a stranger learns nothing from
/// it.
fn refusal(error: &VaultError) -> EnrollError {
    match error {
        VaultError::BadRequest(_) => EnrollError::Malformed("the certificate request is malformed or its key too weak"),
        VaultError::TooMany { retry_after_s } | VaultError::RenewedTooOften { retry_after_s } => {
            EnrollError::TooMany { retry_after_s: *retry_after_s }
        }
        VaultError::Sealed => EnrollError::Unavailable("the vault is sealed"),
        VaultError::Forbidden | VaultError::NotFound => EnrollError::Refused,
        other => {
            tracing::error!("enrolment failed: {other}");
            EnrollError::Unavailable("the vault cannot enrol at the moment")
        }
    }
}

impl Enroller for VaultEnroller {
    fn enroll(&self, asked: Enroll) -> Decision<'_, Enrolled> {
        Box::pin(async move {
            let Enroll { id, csr, proof, channel } = asked;
            let attempt = EnrollAttempt { id, csr, proof, exporter: channel.exporter, remote: channel.remote };
            self.vault.enroll(attempt).await.map(|done| self.reply(done)).map_err(|error| refusal(&error))
        })
    }

    fn renew(&self, asked: GraceRenewal) -> Decision<'_, Enrolled> {
        Box::pin(async move {
            let GraceRenewal { certificate, csr, proof: signature, scheme, channel } = asked;
            let (exporter, remote) = (channel.exporter, channel.remote);
            let attempt = GraceAttempt { certificate, csr, signature, scheme, exporter, remote };
            self.vault.renew_expired(attempt).await.map(|done| self.reply(done)).map_err(|error| refusal(&error))
        })
    }

    fn revoked(&self, authority: Option<AuthorityId>) -> Decision<'_, Vec<u8>> {
        Box::pin(async move {
            let vault = Arc::clone(&self.vault);
            let list = tokio::task::spawn_blocking(move || vault.revocation_list(authority)).await;
            list.unwrap_or(Err(VaultError::Internal)).map_err(|error| match error {
                VaultError::NotFound => EnrollError::Unknown,
                error => refusal(&error),
            })
        })
    }
}
