//! `sys/strongroom/values`: rotation policies of values, their state, and orders for the rotator.

use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::rotation::{ValueInfo, ValueList};
use crate::barrier::MountId;
use crate::policy::{Ask, Capability, Decision};
use crate::rotate::generate::Generator;
use crate::rotate::policy::Policy;

use super::{Inquiry, data};
use crate::core::error::VaultError;
use crate::core::rotation::orders::{Order, ValueOrder};
use crate::core::rotation::values::record;
use crate::core::rotation::values::view::shown;

/// Whether the caller has `capability` on the data of a secret.
fn may(inquiry: &Inquiry<'_>, full: &str, capability: Capability) -> bool {
    inquiry.subject.may(&inquiry.snapshot.mounts, full, capability)
}

/// Whether the caller may use every target in the policy. A target acts with its own rights, not the caller's. A caller
/// who could name any target could set the password of somebody else's database to a value that the caller can read.
fn may_use_targets(inquiry: &Inquiry<'_>, policy: &Policy) -> bool {
    let maker = match &policy.generator {
        Generator::Command(command) => Some(&command.target),
        _ => None,
    };
    let may = |name: &String| {
        let Ok(path) = Path::parse(&format!("sys/strongroom/targets/{name}")) else { return false };
        let ask = Ask { path: &path, capability: Capability::Update, sudo: false, parameters: None, wrap_ttl: None };
        matches!(inquiry.subject.decide(&ask), Decision::Allow { .. })
    };
    maker.into_iter().chain(&policy.target).all(may)
}

/// `POST values/<path>`: `{key, policy}` stores a policy, `{key, action}` gives an order.
pub(super) fn order(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    let fields = inquiry.body.only(&["key", "policy", "action"])?;
    let (key, policy, action) = (fields.required("key")?, fields.value("policy"), fields.text("action")?);
    let path = inquiry.tail.clone();
    if key.is_empty() || key.len() > 256 {
        return Err(VaultError::BadRequest("field \"key\" must name a key of the secret, 1 to 256 bytes".to_owned()));
    }
    if !may(inquiry, &path, Capability::Update) {
        return Err(VaultError::Forbidden);
    }
    let order = match (policy, action.as_deref()) {
        (Some(policy), None) => {
            let policy =
                Policy::parse(policy.raw().as_bytes()).map_err(|error| VaultError::BadRequest(error.to_string()))?;
            if !may_use_targets(inquiry, &policy) {
                return Err(VaultError::Forbidden);
            }
            ValueOrder::Set { path, key, policy: Box::new(policy) }
        }
        (None, Some("rotate")) => ValueOrder::Rotate { path, key },
        (None, Some("abort")) => ValueOrder::Abort { path, key },
        (None, Some("pause")) => ValueOrder::Pause { path, key },
        (None, Some("resume")) => ValueOrder::Resume { path, key },
        (None, Some("forget")) => ValueOrder::Forget { path, key },
        _ => {
            return Err(VaultError::BadRequest(
                "give either a policy, or an action: rotate, abort, pause, resume, forget".to_owned(),
            ));
        }
    };
    Ok(Order::Value(order))
}

/// All rotating values that the caller may read.
pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let rows = record::all(&inquiry.view(MountId::ROTATION))?;
    let seen = rows.iter().filter(|row| may(inquiry, &row.path, Capability::Read));
    data(&ValueList { values: seen.map(|row| shown(row, inquiry.now_ms)).collect() })
}

/// The rotating keys of one secret.
pub(super) fn one(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    if !may(inquiry, &inquiry.tail, Capability::Read) {
        return Err(VaultError::Forbidden);
    }
    let rows = record::all(&inquiry.view(MountId::ROTATION))?;
    let values: Vec<ValueInfo> =
        rows.iter().filter(|row| row.path == inquiry.tail).map(|row| shown(row, inquiry.now_ms)).collect();
    if values.is_empty() {
        return Err(VaultError::NotFound);
    }
    data(&ValueList { values })
}
