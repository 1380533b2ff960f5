//! How a rotating value is shown.

use crate::api::reply::Reply;
use crate::api::rotation::ValueInfo;
use crate::api::time::rfc3339_nano;
use crate::rotate::labels::Labels;

use super::record::{Phase, ValueRow};
use crate::core::error::VaultError;
use crate::core::request::data;

/// 200 with the state of one value.
pub(in crate::core) fn reply(row: &ValueRow, now_ms: u64) -> Result<Reply, VaultError> {
    data(&shown(row, now_ms))
}

/// One value as it is shown.
pub(in crate::core) fn shown(row: &ValueRow, now_ms: u64) -> ValueInfo {
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
        stuck: row.phase == Phase::NeedsOperator,
        expires: row.policy.expires_at_ms.map(time).unwrap_or_default(),
        expires_in_days: row.policy.expires_at_ms.map(|at| {
            let left = i128::from(at) - i128::from(now_ms);
            i64::try_from(left.div_euclid(86_400_000)).unwrap_or(i64::MAX)
        }),
        error: row.error.clone(),
        policy: serde_json::to_value(&row.policy).unwrap_or_default(),
    }
}
