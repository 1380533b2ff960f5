//! `sys/capabilities-self`: what the caller may do on the given paths.

use std::collections::BTreeMap;

use crate::api::fields::Fields;
use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::sys::CapabilitiesReply;

use super::{Inquiry, data};
use crate::core::decide::canonical;
use crate::core::error::VaultError;

/// Largest number of paths in one request.
const MAX_PATHS: usize = 256;

pub(super) fn of_caller(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let asked = asked(inquiry.body.fields())?;
    let paths: BTreeMap<_, _> = asked.iter().map(|raw| (raw.clone(), verbs(inquiry, raw))).collect();
    // Older clients expect the answer for a single path at the top level.
    let capabilities = asked.first().filter(|_| asked.len() == 1).and_then(|only| paths.get(only).cloned());
    data(&CapabilitiesReply { capabilities, paths })
}

/// The requested paths.
fn asked(fields: Fields<'_>) -> Result<Vec<String>, VaultError> {
    let paths = fields.texts("paths")?.map_or_else(|| fields.texts("path"), |paths| Ok(Some(paths)))?;
    let paths = paths.unwrap_or_default();
    if paths.is_empty() {
        return Err(VaultError::BadRequest("paths must be supplied".to_owned()));
    }
    if paths.len() > MAX_PATHS {
        return Err(VaultError::BadRequest(format!("at most {MAX_PATHS} paths at once")));
    }
    Ok(paths)
}

/// The capabilities that the caller has on a path.
fn verbs(inquiry: &Inquiry<'_>, raw: &str) -> Vec<String> {
    let verbs = match Path::parse(raw.trim_start_matches('/')) {
        // Decided like a request for it. With a slash it may be a list.
        Ok(path) => inquiry.subject.capabilities(&canonical::in_lower_case(inquiry.tables, &path).unwrap_or(path)),
        // No request for such a path reaches the policies.
        Err(_) => vec!["deny"],
    };
    verbs.into_iter().map(str::to_owned).collect()
}
