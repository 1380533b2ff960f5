//! Requests that wait for other operators.

use super::sys::below;
use super::{Client, ClientError};
use crate::api::approvals::{Approval, Approvals as Listing};

const APPROVALS: &str = "sys/strongroom/approvals";

/// `sys/strongroom/approvals` for one client.
///
/// ```no_run
/// use strongroom::client::{Client, ClientError};
///
/// /// Shows what waits for this operator.
/// fn waiting(client: &Client) -> Result<(), ClientError> {
///     for request in client.approvals().list()?.iter().filter(|request| request.state == "open") {
///         println!("{}: {} by {}, {} more needed", request.id, request.operation, request.asked_by, request.missing);
///     }
///     Ok(())
/// }
/// ```
pub struct Approvals<'a> {
    client: &'a Client,
}

impl<'a> Approvals<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// Returns all requests on record, newest first.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn list(&self) -> Result<Vec<Approval>, ClientError> {
        let Listing { keys, mut key_info } = self.client.find::<Listing>("LIST", APPROVALS, None)?.unwrap_or_default();
        Ok(keys.iter().filter_map(|id| key_info.remove(id)).collect())
    }

    /// Returns one request.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request;
    /// [`ClientError::Settings`] for an invalid id.
    pub fn show(&self, id: &str) -> Result<Option<Approval>, ClientError> {
        self.client.find("GET", &below(APPROVALS, id)?, None)
    }

    /// Approves a request of another operator.
    ///
    /// # Errors
    /// As [`Approvals::show`].
    ///
    /// ```no_run
    /// # fn example(client: &strongroom::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// // A change that needs a second operator is rejected with the id of the request.
    /// if let Err(error) = client.identities().delete_group("builders") {
    ///     let Some(id) = error.approval() else { return Err(error.into()) };
    ///     println!("ask another operator: strongroom approvals approve {id}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn approve(&self, id: &str) -> Result<(), ClientError> {
        self.client.tell("POST", &format!("{}/approve", below(APPROVALS, id)?), None)
    }

    /// Rejects a request of another operator, or withdraws the caller's own.
    ///
    /// # Errors
    /// As [`Approvals::show`].
    pub fn reject(&self, id: &str) -> Result<(), ClientError> {
        self.client.tell("POST", &format!("{}/reject", below(APPROVALS, id)?), None)
    }
}
