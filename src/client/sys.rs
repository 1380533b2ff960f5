//! The vault itself: the paths below `sys/`.

use std::collections::BTreeMap;

use super::kv::json;
use super::{Client, ClientError};
use crate::api::json::write_str;
use crate::api::kv::Keys;
use crate::api::path::Path;
use crate::api::secret::SecretText;
use crate::api::sys::{
    CapabilitiesReply, CapabilitiesRequest, CertificateReply, CertificateRequest, Events, Health, Identity, KeyStatus,
    Leader, Losses, Mount, PolicyReply, PolicyWrite, SealStatus, Verification,
};
use crate::wiped::Buffer;

/// `sys/` for one client.
///
/// ```no_run
/// use strongroom::client::{Client, ClientError};
///
/// /// Prints what this certificate may do, and waits until the secret changes.
/// fn watch(client: &Client) -> Result<(), ClientError> {
///     let sys = client.sys();
///     let path = "secret/data/app/prod".to_owned();
///     let may = sys.capabilities_self(&[&path])?;
///     println!("{}", may.paths.get(&path).map_or_else(String::new, |verbs| verbs.join(" ")));
///     let mut cursor = None;
///     loop {
///         let events = sys.events(&["secret/app/prod".to_owned()], cursor.as_deref(), 30)?;
///         if events.resync || !events.changed.is_empty() {
///             return Ok(());
///         }
///         cursor = Some(events.cursor);
///     }
/// }
/// ```
pub struct Sys<'a> {
    client: &'a Client,
}

impl<'a> Sys<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// Returns whether the vault is sealed.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn seal_status(&self) -> Result<SealStatus, ClientError> {
        self.client.request("GET", "sys/seal-status", None)?.success()?.raw()
    }

    /// Returns the vault's health. A sealed or missing vault is not an error here.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn health(&self) -> Result<Health, ClientError> {
        let reply = self.client.request("GET", "sys/health", None)?;
        match reply.status {
            200 | 429 | 472 | 473 | 474 | 501 | 503 | 530 => reply.raw(),
            _ => Err(reply.refusal()),
        }
    }

    /// Returns the node that serves.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn leader(&self) -> Result<Leader, ClientError> {
        self.client.request("GET", "sys/leader", None)?.success()?.raw()
    }

    /// Unseals the vault with a passphrase.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request, with status 400 for a wrong
    /// passphrase.
    pub fn unseal(&self, passphrase: &SecretText) -> Result<SealStatus, ClientError> {
        self.unseal_with(Some(passphrase), None)
    }

    /// Unseals the vault with typed text (a passphrase, a recovery code, or one of several shares), with a key file in
    /// base64, or with a passphrase and a key file. After a share, the reply contains the number of shares so far.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request, with status 400 for a wrong
    /// secret.
    pub fn unseal_with(
        &self,
        typed: Option<&SecretText>,
        key_file: Option<&SecretText>,
    ) -> Result<SealStatus, ClientError> {
        let given = [("\"key\":", typed), ("\"key_file\":", key_file)];
        let size: usize = given.iter().filter_map(|(_, text)| *text).map(|text| 6 * text.reveal().len() + 16).sum();
        let mut body = Buffer::with_capacity(size + 16);
        body.push(b'{');
        for (name, text) in given {
            if let Some(text) = text {
                if body.len() > 1 {
                    body.push(b',');
                }
                body.put(name.as_bytes());
                write_str(&mut body, text.reveal());
            }
        }
        body.push(b'}');
        self.client.request("PUT", "sys/unseal", Some(&body))?.success()?.raw()
    }

    /// Forgets the shares that were entered so far.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn reset_unseal(&self) -> Result<SealStatus, ClientError> {
        self.client.request("PUT", "sys/unseal", Some(b"{\"reset\":true}"))?.success()?.raw()
    }

    /// Seals the vault.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn seal(&self) -> Result<(), ClientError> {
        self.client.tell("PUT", "sys/seal", None)
    }

    /// Waits up to `wait_s` seconds (at most 60, and less than the client's timeout) for a change of one of `paths`
    /// (with their mounts) after the cursor. Without a cursor, waits for changes from now on.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn events(&self, paths: &[String], after: Option<&str>, wait_s: u64) -> Result<Events, ClientError> {
        let after = after.map(|cursor| format!("&after={cursor}")).unwrap_or_default();
        let query = format!("sys/strongroom/events?path={}&wait={wait_s}{after}", paths.join(","));
        self.client.ask("GET", &query, None)
    }

    /// Starts a check of every record, or joins a running one. Without `records_per_second` the server uses its default.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn verify(&self, records_per_second: Option<u64>) -> Result<Verification, ClientError> {
        let body =
            records_per_second.map_or_else(|| "{}".to_owned(), |rate| format!(r#"{{"records_per_second":{rate}}}"#));
        self.client.ask("POST", "sys/strongroom/verify", Some(body.as_bytes()))
    }

    /// Returns the progress of the current check, or the result of the last one.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn verification(&self) -> Result<Verification, ClientError> {
        self.client.ask("GET", "sys/strongroom/verify", None)
    }

    /// Returns all accepted losses, with the records removed by a salvage.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn losses(&self) -> Result<Losses, ClientError> {
        self.client.ask("GET", "sys/strongroom/losses", None)
    }

    /// Returns the state of the data keys.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn key_status(&self) -> Result<KeyStatus, ClientError> {
        self.client.ask("GET", "sys/key-status", None)
    }

    /// Returns the mounts by folder.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn mounts(&self) -> Result<BTreeMap<String, Mount>, ClientError> {
        self.client.ask("GET", "sys/mounts", None)
    }

    /// Returns the names of the policies.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn policies(&self) -> Result<Vec<String>, ClientError> {
        self.keys("sys/policies/acl")
    }

    /// Returns a policy.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request;
    /// [`ClientError::Settings`] for an invalid name.
    pub fn policy(&self, name: &str) -> Result<Option<PolicyReply>, ClientError> {
        self.client.find("GET", &below("sys/policies/acl", name)?, None)
    }

    /// Writes a policy.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request;
    /// [`ClientError::Settings`] for an invalid name.
    pub fn put_policy(&self, name: &str, text: &str) -> Result<(), ClientError> {
        let body = json(&PolicyWrite { policy: text.to_owned() })?;
        self.client.tell("PUT", &below("sys/policies/acl", name)?, Some(&body))
    }

    /// Removes a policy.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request;
    /// [`ClientError::Settings`] for an invalid name.
    pub fn delete_policy(&self, name: &str) -> Result<(), ClientError> {
        self.client.tell("DELETE", &below("sys/policies/acl", name)?, None)
    }

    /// Returns what this certificate may do on the given paths.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn capabilities_self(&self, paths: &[&str]) -> Result<CapabilitiesReply, ClientError> {
        let body = json(&CapabilitiesRequest { paths: paths.iter().map(|path| (*path).to_owned()).collect() })?;
        self.client.ask("POST", "sys/capabilities-self", Some(&body))
    }

    /// Returns the registered identities by SPIFFE path.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn identities(&self) -> Result<Vec<String>, ClientError> {
        self.keys("sys/strongroom/identities")
    }

    /// Returns an identity with its policies and certificates.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request;
    /// [`ClientError::Settings`] for an invalid path.
    pub fn identity(&self, path: &str) -> Result<Option<Identity>, ClientError> {
        self.client.find("GET", &below("sys/strongroom/identities", path)?, None)
    }

    /// Registers an identity, or replaces its policies.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request;
    /// [`ClientError::Settings`] for an invalid path.
    pub fn put_identity(&self, path: &str, policies: &[&str]) -> Result<(), ClientError> {
        let body = json(&serde_json::json!({ "policies": policies }))?;
        self.client.tell("POST", &below("sys/strongroom/identities", path)?, Some(&body))
    }

    /// Removes an identity. Its certificates are rejected from then on.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request;
    /// [`ClientError::Settings`] for an invalid path.
    pub fn delete_identity(&self, path: &str) -> Result<(), ClientError> {
        self.client.tell("DELETE", &below("sys/strongroom/identities", path)?, None)
    }

    /// Requests a certificate for an identity.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn issue_certificate(&self, request: &CertificateRequest) -> Result<CertificateReply, ClientError> {
        self.client.ask("POST", "sys/strongroom/certificates", Some(&json(request)?))
    }

    fn keys(&self, path: &str) -> Result<Vec<String>, ClientError> {
        let found: Option<Keys> = self.client.find("LIST", path, None)?;
        Ok(found.map(|found| found.keys).unwrap_or_default())
    }
}

/// The path of a name below a fixed path. Names that the server would parse as a different path are rejected.
pub(super) fn below(folder: &str, name: &str) -> Result<String, ClientError> {
    let legal = Path::parse(name).ok().filter(|path| !path.is_root() && !path.is_folder());
    legal.map(|path| format!("{folder}/{path}")).ok_or(ClientError::Settings("not a valid name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_below_its_folder() {
        assert_eq!(below("a", "b/c").expect("legal"), "a/b/c");
        for bad in ["", "/", "../x", "a?b", "a#b", "a%2f", "a/"] {
            assert!(below("a", bad).is_err(), "{bad}");
        }
    }
}
