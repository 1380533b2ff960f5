//! One request with everything that the audit log may learn about it.

mod fields;

use std::sync::Arc;

use crate::api::hex::hex;
use crate::api::path::Path;
use crate::api::reply::{Reply, ReplyStatus};
use crate::api::request::{Body, Operation};
use crate::api::spiffe::SpiffeId;
use crate::audit::{AuditError, Broker, Outcome, ReplyFacts, RequestFacts};
use crate::crypto::random::Random;
use crate::engine;

use crate::core::caller::{Caller, Origin};
use crate::core::error::VaultError;

pub(in crate::core) use fields::Fields;

/// A request in progress: its caller, its content, and the decision.
pub(in crate::core) struct Facts {
    pub caller: Caller,
    /// The full path for which the decision was made.
    pub full: Path,
    /// The request for the engine. For `sys` the path is the full one.
    pub inner: engine::Request,
    /// Type of the mount (`kv`, `system`), if there is one.
    pub mount_kind: Option<&'static str>,
    /// Names of the caller's policies at the time of the decision.
    pub policies: Arc<[String]>,
    /// `allow`, `deny` or `open`.
    pub decision: &'static str,
    /// The rule that decided.
    pub rule: Option<String>,
    /// When it was decided.
    pub time_ms: u64,
    /// Whether the fields of the body are kept out of the log.
    pub secret_body: bool,
}

impl Facts {
    /// Facts of something that the vault does by itself. `rule` says what.
    ///
    /// # Errors
    /// [`VaultError::Internal`] when the random source fails.
    pub(in crate::core) fn by_vault(
        trust_domain: &str,
        path: &str,
        rule: String,
        time_ms: u64,
        random: &dyn Random,
    ) -> Result<Self, VaultError> {
        let mut id = [0; 16];
        random.fill(&mut id).map_err(|_| VaultError::Internal)?;
        let identity = SpiffeId::new(trust_domain, "strongroomd").map_err(|_| VaultError::Internal)?;
        let full = Path::parse(path).map_err(|_| VaultError::Internal)?;
        let caller = Caller {
            identity: Arc::new(identity),
            origin: Origin::Internal,
            fingerprint: [0; 32],
            not_before_ms: 0,
            not_after_ms: u64::MAX,
            remote: "internal".to_owned(),
            request_id: hex(&id),
            bundle: None,
            token: None,
        };
        Ok(Self::for_caller(caller, full, "system", rule, time_ms))
    }

    /// A change that the vault makes by itself on behalf of `caller`; `rule` says what it is.
    pub(in crate::core) fn for_caller(
        caller: Caller,
        full: Path,
        mount_kind: &'static str,
        rule: String,
        time_ms: u64,
    ) -> Self {
        let (path, body) = (full.clone(), Body::empty());
        Self {
            caller,
            inner: engine::Request { operation: Operation::Write, path, body, if_none_match: None },
            full,
            mount_kind: Some(mount_kind),
            policies: Arc::from([]),
            decision: "own",
            rule: Some(rule),
            time_ms,
            secret_body: false,
        }
    }

    /// Whether the vault does this by itself.
    pub(in crate::core) fn is_by_vault(&self) -> bool {
        self.decision == "own"
    }

    /// Writes one line with request and outcome.
    ///
    /// # Errors
    /// [`AuditError`] when the line cannot be written. The outcome must not be sent then.
    pub(in crate::core) fn exchange(
        &self,
        audit: &Broker,
        generation: u64,
        result: &Result<Reply, VaultError>,
    ) -> Result<(), AuditError> {
        let (asked, answered) = (self.request_fields(), Self::reply_fields(result));
        let (asked, answered) = (asked.borrow(), answered.borrow());
        audit.exchange(&self.request(&asked), &self.reply(result, Some(generation), &answered))
    }

    /// Fields of the request. Those of a secret are listed one by one, so that the log shows which of its keys were
    /// written.
    pub(in crate::core) fn request_fields(&self) -> Fields<'_> {
        let mut fields = Fields::default();
        if self.secret_body {
            return fields;
        }
        for (name, value) in self.inner.body.object().entries() {
            match value.object() {
                Some(secret) if self.of_kv() && name == "data" => fields.secret(secret),
                _ => fields.push(name.into(), value.raw()),
            }
        }
        fields
    }

    /// The keys of the secret in the reply to a read. Lists contain only names, and the folder is in the request.
    pub(in crate::core) fn reply_fields(result: &Result<Reply, VaultError>) -> Fields<'_> {
        let mut fields = Fields::default();
        if let Some(secret) = result.as_ref().ok().and_then(Reply::secret) {
            fields.secret(secret);
        }
        fields
    }

    /// The request in the form for the audit module.
    pub(in crate::core) fn request<'a>(&'a self, fields: &'a [(&'a str, &'a [u8])]) -> RequestFacts<'a> {
        RequestFacts {
            time_ms: self.time_ms,
            request_id: &self.caller.request_id,
            operation: self.inner.operation.as_str(),
            path: self.full.as_str(),
            mount_kind: self.mount_kind,
            identity: Some(&self.caller.identity),
            fingerprint: Some(&self.caller.fingerprint),
            remote: &self.caller.remote,
            policies: &self.policies,
            decision: self.decision,
            rule: self.rule.as_deref(),
            fields,
        }
    }

    /// The outcome in the form for the audit module. `generation` is the state that a read saw or a change made.
    pub(in crate::core) fn reply<'a>(
        &self,
        result: &Result<Reply, VaultError>,
        generation: Option<u64>,
        fields: &'a [(&'a str, &'a [u8])],
    ) -> ReplyFacts<'a> {
        match result {
            Ok(reply) => {
                let status = match (reply.status, reply.data.is_some() || reply.auth.is_some()) {
                    (ReplyStatus::NotFoundWithBody, _) => 404,
                    (ReplyStatus::NotModified, _) => 304,
                    (ReplyStatus::Accepted, _) => 202,
                    (ReplyStatus::Ok, true) => 200,
                    (ReplyStatus::Ok, false) => 204,
                };
                ReplyFacts { outcome: Outcome::Ok, status, generation, fields, error: None, version: reply.version }
            }
            Err(error) => ReplyFacts {
                outcome: outcome_of(error),
                status: error.status(),
                generation,
                fields,
                error: Some(error.code()),
                version: None,
            },
        }
    }

    fn of_kv(&self) -> bool {
        self.mount_kind == Some("kv")
    }
}

fn outcome_of(error: &VaultError) -> Outcome {
    match error {
        VaultError::Forbidden
        | VaultError::NotAdmitted(_)
        | VaultError::Preflight(_)
        | VaultError::RateLimited { .. }
        | VaultError::RenewedTooOften { .. }
        | VaultError::NeedsApproval { .. }
        | VaultError::ApprovalRejected { .. } => Outcome::Denied,
        VaultError::BadRequest(_)
        | VaultError::Because(..)
        | VaultError::SharesMissing { .. }
        | VaultError::Unsupported => Outcome::Invalid,
        VaultError::NotFound | VaultError::NotFoundWith(_) | VaultError::NoRoute(_) => Outcome::NotFound,
        _ => Outcome::Failed,
    }
}
