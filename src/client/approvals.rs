//! Requests that wait for other operators.

use super::sys::below;
use super::{Client, ClientError};
use crate::api::approvals::{Approval, Approvals as Listing};

const APPROVALS: &str = "sys/strongroom/approvals";

/// `sys/strongroom/approvals` as seen by one client.
pub struct Approvals<'a> {
    client: &'a Client,
}

impl<'a> Approvals<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// Every request on record, newest first.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn list(&self) -> Result<Vec<Approval>, ClientError> {
        let Listing { keys, mut key_info } = self.client.find::<Listing>("LIST", APPROVALS, None)?.unwrap_or_default();
        Ok(keys.iter().filter_map(|id| key_info.remove(id)).collect())
    }

    /// One request.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Settings`] for an impossible id.
    pub fn show(&self, id: &str) -> Result<Option<Approval>, ClientError> {
        self.client.find("GET", &below(APPROVALS, id)?, None)
    }

    /// Agrees to a request of another operator.
    ///
    /// # Errors
    /// As [`Approvals::show`].
    pub fn approve(&self, id: &str) -> Result<(), ClientError> {
        self.client.tell("POST", &format!("{}/approve", below(APPROVALS, id)?), None)
    }

    /// Refuses a request of another operator, or withdraws an own one.
    ///
    /// # Errors
    /// As [`Approvals::show`].
    pub fn reject(&self, id: &str) -> Result<(), ClientError> {
        self.client.tell("POST", &format!("{}/reject", below(APPROVALS, id)?), None)
    }
}
