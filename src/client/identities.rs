//! Identities, groups, enrolment strings and authorities, for an operator.

use serde::Serialize;

use super::kv::json;
use super::sys::below;
use super::{Client, ClientError};
use crate::api::identities::{
    AuthorityList, EnrollmentList, EnrollmentMade, EnrollmentOrder, Group, GroupChange, IdentityChange, IdentityReport,
    RevocationLists, Stragglers,
};
use crate::api::kv::Keys;
use crate::api::sys::CertificateReply;

/// Identities for one client. Paths and names that the server would parse as a different path are rejected here with
/// [`ClientError::Settings`].
///
/// ```no_run
/// use strongroom::api::identities::{EnrollmentOrder, IdentityChange};
/// use strongroom::api::secret::SecretText;
/// use strongroom::client::{Client, ClientError};
///
/// /// Registers a host and returns the string with which it gets its certificate.
/// fn admit(client: &Client, host: &str) -> Result<SecretText, ClientError> {
///     let identities = client.identities();
///     let change = IdentityChange { policies: Some(vec!["web".to_owned()]), ..IdentityChange::default() };
///     for warning in identities.change(host, &change)? {
///         eprintln!("{warning}");
///     }
///     let order = EnrollmentOrder { ttl: Some(600), ..EnrollmentOrder::default() };
///     Ok(identities.enrollment(host, &order)?.string)
/// }
/// ```
pub struct Identities<'a> {
    client: &'a Client,
}

#[derive(Serialize)]
struct Order<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> Identities<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// Returns a report with one line per identity.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn report(&self) -> Result<IdentityReport, ClientError> {
        self.client.ask("GET", "sys/strongroom/identity-report", None)
    }

    /// Registers or changes an identity. Returns the server's warnings, for example about a policy that does not exist.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn change(&self, path: &str, change: &IdentityChange) -> Result<Vec<String>, ClientError> {
        self.client.warned("POST", &below("sys/strongroom/identities", path)?, &json(change)?)
    }

    /// Rejects all requests of an identity from now on, and closes its connections.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn disable(&self, path: &str, reason: Option<&str>) -> Result<(), ClientError> {
        let body = json(&Order { certificate: None, reason })?;
        self.client.tell("POST", &below("sys/strongroom/disable", path)?, Some(&body))
    }

    /// Accepts requests of a disabled identity again.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn enable(&self, path: &str) -> Result<(), ClientError> {
        self.client.tell("POST", &below("sys/strongroom/enable", path)?, Some(b"{}"))
    }

    /// Revokes one certificate (serial number or fingerprint in hexadecimal), or without one all that were issued so
    /// far.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    ///
    /// ```no_run
    /// # fn example(client: &strongroom::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// // The answer comes when requests with the old certificates are no longer served. The host then needs a new string.
    /// client.identities().revoke("app/web", None, Some("laptop stolen"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn revoke(&self, path: &str, certificate: Option<&str>, reason: Option<&str>) -> Result<(), ClientError> {
        let body = json(&Order { certificate, reason })?;
        self.client.tell("POST", &below("sys/strongroom/revoke", path)?, Some(&body))
    }

    /// Returns the names of the groups.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn groups(&self) -> Result<Vec<String>, ClientError> {
        Ok(self.client.find::<Keys>("LIST", "sys/strongroom/groups", None)?.map(|found| found.keys).unwrap_or_default())
    }

    /// Returns a group.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn group(&self, name: &str) -> Result<Option<Group>, ClientError> {
        self.client.find("GET", &below("sys/strongroom/groups", name)?, None)
    }

    /// Creates or changes a group. Returns the server's warnings.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    ///
    /// ```no_run
    /// # fn example(client: &strongroom::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use strongroom::api::identities::GroupChange;
    ///
    /// let change = GroupChange { policies: Some(vec!["ci".into()]), members: Some(vec!["ci/*".into()]) };
    /// client.identities().set_group("builders", &change)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_group(&self, name: &str, change: &GroupChange) -> Result<Vec<String>, ClientError> {
        self.client.warned("POST", &below("sys/strongroom/groups", name)?, &json(change)?)
    }

    /// Removes a group.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn delete_group(&self, name: &str) -> Result<(), ClientError> {
        self.client.tell("DELETE", &below("sys/strongroom/groups", name)?, None)
    }

    /// Creates an enrolment string for a registered identity.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn enrollment(&self, path: &str, order: &EnrollmentOrder) -> Result<EnrollmentMade, ClientError> {
        self.client.ask("POST", &below("sys/strongroom/enrollments", path)?, Some(&json(order)?))
    }

    /// Returns the enrolment strings on record, without their secrets.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn enrollments(&self) -> Result<EnrollmentList, ClientError> {
        Ok(self.client.find("LIST", "sys/strongroom/enrollments", None)?.unwrap_or_default())
    }

    /// Deletes an enrolment string by its identifier.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn delete_enrollment(&self, id: &str) -> Result<(), ClientError> {
        self.client.tell("DELETE", &below("sys/strongroom/enrollments", id)?, None)
    }

    /// Returns the authorities.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn authorities(&self) -> Result<AuthorityList, ClientError> {
        self.client.ask("GET", "sys/strongroom/ca", None)
    }

    /// Returns the identities that do not trust the current authorities yet.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn stragglers(&self) -> Result<Stragglers, ClientError> {
        self.client.ask("GET", "sys/strongroom/ca/stragglers", None)
    }

    /// Creates the next authority; `life_s` is the lifetime of its certificate in seconds. Returns its identifier.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn prepare_authority(&self, life_s: Option<u64>) -> Result<String, ClientError> {
        #[derive(Serialize)]
        struct Body {
            #[serde(skip_serializing_if = "Option::is_none")]
            ttl: Option<u64>,
        }
        #[derive(serde::Deserialize)]
        struct PreparedAuthority {
            id: String,
        }
        let named: PreparedAuthority =
            self.client.ask("POST", "sys/strongroom/ca/prepare", Some(&json(&Body { ttl: life_s })?))?;
        Ok(named.id)
    }

    /// Performs one step of an authority: `trust`, `activate`, `remove`, `taint` or `revoke`. With `force`, clients that
    /// are not ready lose access.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request. With status 400 it names the
    /// clients that are not ready.
    pub fn authority_step(&self, id: &str, step: &str, force: bool) -> Result<(), ClientError> {
        let path = below("sys/strongroom/ca", &format!("{id}/{step}"))?;
        self.client.tell("POST", &path, Some(format!("{{\"force\":{force}}}").as_bytes()))
    }

    /// Revokes every authority, lets a new one sign at once, and has it certify the request `csr` (PEM).
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn compromise(&self, csr: &str) -> Result<CertificateReply, ClientError> {
        let body = json(&serde_json::json!({ "csr": csr }))?;
        self.client.ask("POST", "sys/strongroom/ca/compromise", Some(&body))
    }

    /// Starts an authority under an outside root. Returns the request (PKCS#10, PEM) for the root's owner. It stays the
    /// same until the signed chain is imported.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn request_authority(&self) -> Result<String, ClientError> {
        #[derive(serde::Deserialize)]
        struct Made {
            csr: String,
        }
        self.client.ask("POST", "sys/strongroom/ca/request", None).map(|made: Made| made.csr)
    }

    /// Imports the signed chain, PEM, with the authority's certificate first and the root last. Returns the authority's
    /// identifier.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn import_authority(&self, chain: &str) -> Result<String, ClientError> {
        #[derive(Serialize)]
        struct Body<'a> {
            chain: &'a str,
        }
        #[derive(serde::Deserialize)]
        struct ImportedAuthority {
            id: String,
        }
        let named: ImportedAuthority =
            self.client.ask("POST", "sys/strongroom/ca/import", Some(&json(&Body { chain })?))?;
        Ok(named.id)
    }

    /// Returns the revocation lists of the authorities, PEM.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn crl(&self) -> Result<String, ClientError> {
        self.client.ask("GET", "sys/strongroom/crl", None).map(|lists: RevocationLists| lists.crl)
    }
}
