//! Creates a vault: header, keyring, first state, built-in policies, the first operator and the certificate authority.
//!
//! Everything except the header is one group commit. If it is killed before that commit, opening the folder says so.
//! The folder can then be removed and initialised again, because it cannot contain anything of value.

use std::sync::Arc;

use crate::api::secret::SecretText;
use crate::api::spiffe::SpiffeId;
use crate::barrier::{Barrier, MountId, Parts, Tx};
use crate::crypto::envelope::Suite;
use crate::crypto::password::Params;
use crate::crypto::random::Random;
use crate::keys::{Header, NewSlot, Unlock, VaultId};
use crate::pki::{AUTHORITY_LIFE_S, Authority, AuthorityId, Bundle, PkiError};
use crate::store::Store;
use crate::store::sidecar::{AnchorFile, HeaderFiles};

use crate::core::error::VaultError;
use crate::core::request::normalised;
use crate::core::state::authorities::{self, AuthorityRecord, Stage};
use crate::core::state::identity::{
    ADMIN_POLICY, ADMIN_TEXT, DEFAULT_POLICY, DEFAULT_TEXT, IDENTITIES, IdentityRecord, LISTENER, POLICIES,
};
use crate::core::state::ledger::{self, How};
use crate::core::state::mount::MountRecord;

/// Where the secrets engine is mounted.
const SECRET_MOUNT: &str = "secret/";

/// Where a new vault is written.
pub struct InitPorts {
    /// An empty store.
    pub store: Arc<dyn Store>,
    /// Header files. None may exist.
    pub header: Arc<dyn HeaderFiles>,
    /// Anchor file.
    pub anchor: Arc<dyn AnchorFile>,
    /// The random source.
    pub random: Arc<dyn Random>,
}

/// Properties of a new vault.
pub struct InitPlan<'a> {
    /// Passphrase of the first key slot, if any.
    pub passphrase: Option<&'a SecretText>,
    /// Key file for another slot, 32 to 65,536 bytes. A vault needs at least one of the two.
    pub key_file: Option<&'a [u8]>,
    /// Cost of the passphrase slot.
    pub params: Params,
    /// Trust domain of the identities.
    pub trust_domain: &'a str,
    /// First operator, who gets the policy `admin`.
    pub operator: SpiffeId,
    /// DNS names and addresses of the server certificate.
    pub server_names: Vec<String>,
    /// Cipher suite of new records.
    pub suite: Suite,
    /// Lifetime of the server certificate, in seconds.
    pub server_life_s: u64,
    /// Lifetime of the operator's certificates, including renewals, in seconds.
    pub operator_life_s: u64,
}

/// What initialisation returns for the operator. The authority's key exists only inside the vault.
pub struct InitOutcome {
    /// Certificate of the authority, which clients must trust.
    pub ca_pem: String,
    /// Certificate and key for the listener.
    pub server: Bundle,
    /// Certificate and key of the first operator.
    pub operator: Bundle,
}

/// Creates a vault. On `Ok` it is complete and durable. Nobody serves it yet.
///
/// # Errors
/// [`VaultError::BadRequest`] when a header exists, or when names, lifetimes or the passphrase are not allowed;
/// [`VaultError::Full`], [`VaultError::Internal`] and [`VaultError::Integrity`] when writing fails. After an error the
/// folder contains no usable vault.
pub fn initialise(ports: InitPorts, plan: &InitPlan<'_>, now_ms: u64) -> Result<InitOutcome, VaultError> {
    let InitPorts { store, header, anchor, random } = ports;
    let existing = header.read().map_err(|_| VaultError::Unavailable("the header files cannot be read"))?;
    if existing.iter().any(Option::is_some) {
        return Err(VaultError::BadRequest("Vault is already initialized".to_owned()));
    }
    // Everything that can be rejected is created first. Nothing is written until the barrier is created below, so a name
    // or a lifetime that is not allowed leaves nothing behind.
    let (ca, server, operator) = certificates(plan, &random, now_ms).map_err(|error| match error {
        PkiError::Random | PkiError::Make | PkiError::Damaged(_) => VaultError::Internal,
        error => VaultError::BadRequest(error.to_string()),
    })?;
    let mut vault_id = [0; 16];
    random.fill(&mut vault_id).map_err(|_| VaultError::Internal)?;
    let vault_id = VaultId(vault_id);
    let (bytes, opened) = {
        let passphrase = plan.passphrase.map(normalised).transpose()?;
        let mut slots = Vec::with_capacity(2);
        if let Some(passphrase) = &passphrase {
            let secret = Unlock::Passphrase(passphrase.reveal());
            slots.push(NewSlot { label: "passphrase", secret, params: plan.params });
        }
        if let Some(key_file) = plan.key_file {
            let secret = Unlock::KeyFile(key_file);
            slots.push(NewSlot { label: "key file", secret, params: plan.params });
        }
        Header::create(vault_id, &slots, &*random, now_ms, plan.suite).map_err(|error| {
            tracing::error!(%error, "creating the header failed");
            VaultError::BadRequest(error.to_string())
        })?
    };
    let mount = MountId::random(&*random).map_err(|_| VaultError::Internal)?;
    let parts = Parts { store, header, anchor, random };
    let barrier = Barrier::create(parts, &bytes, opened, now_ms)?;
    fill(&barrier, plan, &ca, (&server, &operator), &mount, now_ms)?;
    Ok(InitOutcome { ca_pem: ca.cert_pem().to_owned(), server, operator })
}

fn certificates(
    plan: &InitPlan<'_>,
    random: &Arc<dyn Random>,
    now_ms: u64,
) -> Result<(Authority, Bundle, Bundle), PkiError> {
    let ca = Authority::create(plan.trust_domain, Arc::clone(random), now_ms, AUTHORITY_LIFE_S)?;
    let server = ca.issue_server(&plan.server_names, now_ms, plan.server_life_s)?;
    let operator = ca.issue_client(&plan.operator, now_ms, plan.operator_life_s)?;
    Ok((ca, server, operator))
}

/// The one group that turns an empty barrier into a vault.
fn fill(
    barrier: &Barrier,
    plan: &InitPlan<'_>,
    ca: &Authority,
    (server, operator): (&Bundle, &Bundle),
    mount: &MountId,
    now_ms: u64,
) -> Result<(), VaultError> {
    let json = |value: Result<Vec<u8>, serde_json::Error>| value.map_err(|_| VaultError::Internal);
    let record = json(serde_json::to_vec(&MountRecord::kv2(mount, "key/value secret storage")))?;
    let listener = SpiffeId::new(plan.trust_domain, LISTENER).map_err(|_| VaultError::Internal)?;
    let issued = [(server, &listener, How::Server), (operator, &plan.operator, How::Init)];
    // One group: a vault without its policies, operator or authority must never exist.
    let mut group = barrier.begin();
    group.run(|tx| -> Result<(), VaultError> {
        tx.put_entry(MountId::MOUNTS, SECRET_MOUNT, &record, 0)?;
        let id = grant_first(tx, &plan.operator, plan.operator_life_s, ca, now_ms)?;
        for (bundle, identity, how) in issued {
            let (fingerprint, row) = ledger::Row::of(&bundle.cert_pem, identity, id, now_ms, how)?;
            ledger::put(tx, &fingerprint, &row)?;
        }
        Ok(())
    })?;
    let durable = group.store(barrier.audit_head(), now_ms)?;
    durable.anchor()?;
    durable.publish();
    Ok(())
}

/// What a vault needs so that somebody has rights in it: the policies, one operator, and an authority that signs.
pub(super) fn grant_first(
    tx: &mut Tx<'_>,
    operator: &SpiffeId,
    certificate_life_s: u64,
    ca: &Authority,
    now_ms: u64,
) -> Result<AuthorityId, VaultError> {
    let policies = vec![ADMIN_POLICY.to_owned()];
    let certificate_life_s = Some(certificate_life_s);
    let admin = IdentityRecord { policies, certificate_life_s, ..IdentityRecord::default() };
    let admin = serde_json::to_vec(&admin).map_err(|_| VaultError::Internal)?;
    let authority = AuthorityRecord {
        v: 1,
        stage: Stage::Active,
        tainted: false,
        certificate: ca.cert_pem().to_owned(),
        chain: String::new(),
        domain: None,
        created_ms: now_ms,
        changed_ms: now_ms,
    };
    tx.put_entry(POLICIES, DEFAULT_POLICY, DEFAULT_TEXT.as_bytes(), 0)?;
    tx.put_entry(POLICIES, ADMIN_POLICY, ADMIN_TEXT.as_bytes(), 0)?;
    tx.put_entry(IDENTITIES, operator.path(), &admin, 0)?;
    authorities::put(tx, ca, &authority)
}
