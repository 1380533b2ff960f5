//! `sys/strongroom/values`: rotation policies of values, their state, and orders for the rotator.

use serde::Deserialize;

use crate::api::path::Path;
use crate::api::rotation::{ValueInfo, ValueList};
use crate::api::time::rfc3339_nano;
use crate::barrier::MountId;
use crate::engine::Reply;
use crate::policy::{Ask, Capability, Decision};
use crate::rotate::labels::Labels;
use crate::rotate::policy::Policy;

use super::{Inquiry, data, rotation::parse};
use crate::core::error::VaultError;
use crate::core::rotation::values::record;
use crate::core::rotation::{Order, ValueOrder, ValueRow};

/// Whether the caller may do `capability` to the data of a secret: an order for a value needs that besides the right to
/// give the order, or it would be a way around.
pub(in crate::core) fn may(inquiry: &Inquiry<'_>, full: &str, capability: Capability) -> bool {
    let Ok(path) = Path::parse(full) else { return false };
    // Where nothing is mounted the path itself is asked for: only those who might see it learn that there is nothing.
    let data = match inquiry.snapshot.mounts.route(&path) {
        Some((mount, relative)) => format!("{}data/{}", mount.path, relative.as_str()),
        None => full.to_owned(),
    };
    let Ok(path) = Path::parse(&data) else { return false };
    let ask = Ask { path: &path, capability, sudo: false, parameters: None, wrap_ttl: None };
    matches!(inquiry.subject.decide(&ask), Decision::Allow { .. })
}

/// `POST values/<path>`: `{key, policy}` stores a policy, `{key, action}` gives an order.
pub(super) fn order(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        key: String,
        #[serde(default)]
        policy: Option<serde_json::Value>,
        #[serde(default)]
        action: Option<String>,
    }
    let Body { key, policy, action } = parse(inquiry.body)?;
    let path = inquiry.tail.clone();
    if key.is_empty() || key.len() > 256 {
        return Err(VaultError::BadRequest("field \"key\" must name a key of the secret, 1 to 256 bytes".to_owned()));
    }
    if !may(inquiry, &path, Capability::Update) {
        return Err(VaultError::Forbidden);
    }
    let order = match (policy, action.as_deref()) {
        (Some(policy), None) => {
            let text = serde_json::to_string(&policy).map_err(|_| VaultError::Internal)?;
            let policy = Policy::parse(text.as_bytes()).map_err(|error| VaultError::BadRequest(error.to_string()))?;
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
    let rows = record::all(&inquiry.live.barrier.view(MountId::ROTATION))?;
    let seen = rows.iter().filter(|row| may(inquiry, &row.path, Capability::Read));
    data(&ValueList { values: seen.map(|row| shown(row, inquiry.now_ms)).collect() })
}

/// The rotating keys of one secret.
pub(super) fn one(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    if !may(inquiry, &inquiry.tail, Capability::Read) {
        return Err(VaultError::Forbidden);
    }
    let rows = record::all(&inquiry.live.barrier.view(MountId::ROTATION))?;
    let values: Vec<ValueInfo> =
        rows.iter().filter(|row| row.path == inquiry.tail).map(|row| shown(row, inquiry.now_ms)).collect();
    if values.is_empty() {
        return Err(VaultError::NotFound);
    }
    data(&ValueList { values })
}

/// 200 with one value's state.
pub(in crate::core) fn reply(row: &ValueRow, now_ms: u64) -> Result<Reply, VaultError> {
    data(&shown(row, now_ms))
}

fn shown(row: &ValueRow, now_ms: u64) -> ValueInfo {
    let time = |ms: u64| if ms == 0 { String::new() } else { rfc3339_nano(ms) };
    let previous = row.previous();
    ValueInfo {
        path: row.path.clone(),
        key: row.key.clone(),
        state: row.phase.as_str().to_owned(),
        paused: row.paused,
        id: row.run.clone(),
        target: row.policy.target.clone(),
        staged: row.candidate.is_some(),
        current: row.labels.as_ref().map_or(0, Labels::current),
        previous: previous.map(|previous| previous.version),
        previous_until: previous.map(|previous| time(previous.grace_until_ms)).unwrap_or_default(),
        retired: row.labels.as_ref().map(|labels| labels.retired().to_vec()).unwrap_or_default(),
        rotated: time(row.rotated_ms),
        next: row.next_ms.map(time).unwrap_or_default(),
        overdue: row.policy.schedule.as_ref().is_some_and(|schedule| schedule.overdue(row.rotated_ms, now_ms))
            || row.next_ms.is_some_and(|next| next <= now_ms),
        stuck: row.phase == crate::core::rotation::Phase::NeedsOperator,
        expires: row.policy.expires_at_ms.map(time).unwrap_or_default(),
        expires_in_days: row.policy.expires_at_ms.map(|at| {
            let left = i128::from(at) - i128::from(now_ms);
            i64::try_from(left.div_euclid(86_400_000)).unwrap_or(i64::MAX)
        }),
        error: row.error.clone(),
        policy: serde_json::to_value(&row.policy).unwrap_or_default(),
    }
}
