//! The KV engine, version 2.

use serde::Serialize;
use zeroize::Zeroizing;

use super::{Client, ClientError};
use crate::api::json::write_str;
use crate::api::kv::{Config, Data, Keys, Metadata, MetadataUpdate, Version, Versions};
use crate::api::path::Path;
use crate::api::secret::SecretText;
use crate::wiped::Buffer;

/// One KV mount for one client.
///
/// ```no_run
/// use strongroom::api::path::Path;
/// use strongroom::client::{Client, ClientError, pairs_of};
///
/// /// Raises a counter. `None`: somebody else was quicker, try again.
/// fn count(client: &Client, path: &Path) -> Result<Option<u64>, ClientError> {
///     let kv = client.kv("counters");
///     let (mut version, mut next) = (0, 1);
///     if let Some(data) = kv.read(path, None)? {
///         version = data.metadata.version;
///         let pairs = pairs_of(&data)?.unwrap_or_default();
///         next += pairs.iter().find_map(|(_, text)| text.reveal().parse::<u64>().ok()).unwrap_or(0);
///     }
///     match kv.write(path, format!("{{\"n\":\"{next}\"}}").as_bytes(), Some(version)) {
///         Err(error) if error.is_cas_mismatch() => Ok(None),
///         written => written.map(|_| Some(next)),
///     }
/// }
/// ```
pub struct Kv<'a> {
    client: &'a Client,
    mount: &'a str,
}

/// The current state of a secret.
///
/// ```no_run
/// use strongroom::api::path::Path;
/// use strongroom::client::{Client, ClientError};
///
/// /// Asks again without fetching what is known already. `None`: nothing has changed.
/// fn changed(client: &Client, path: &Path, tag: &mut Option<String>) -> Result<Option<u64>, ClientError> {
///     let Some(reading) = client.kv("secret").read_unless(path, tag.as_deref())? else { return Ok(None) };
///     *tag = reading.etag;
///     Ok(reading.data.map(|data| data.metadata.version))
/// }
/// ```
pub struct Reading {
    /// Its newest version; `None` if there is no such secret.
    pub data: Option<Data>,
    /// Tag for the next [`Kv::read_unless`].
    pub etag: Option<String>,
}

/// How often a merge is repeated when other writers interfere.
const MERGE_ATTEMPTS: u32 = 5;

impl<'a> Kv<'a> {
    pub(super) fn new(client: &'a Client, mount: &'a str) -> Self {
        Self { client, mount: mount.trim_matches('/') }
    }

    fn target(&self, part: &str, path: &Path) -> String {
        format!("{}/{part}/{path}", self.mount)
    }

    /// Reads the given version of a secret, or the newest one. `None` means that there is no such secret or version.
    /// For a deleted or destroyed version, [`Data::data`] is `None`.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn read(&self, path: &Path, version: Option<u64>) -> Result<Option<Data>, ClientError> {
        let mut target = self.target("data", path);
        if let Some(version) = version {
            target.push_str(&format!("?version={version}"));
        }
        let reply = self.client.request("GET", &target, None)?;
        match reply.status {
            404 => Ok(reply.envelope().ok()),
            _ => reply.content().map(Some),
        }
    }

    /// Reads a secret's newest version unless it still has the tag `etag`. Returns the content and its tag, or `None`
    /// if it is unchanged. Without a tag, or if the secret expires by itself, it is always read.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn read_unless(&self, path: &Path, etag: Option<&str>) -> Result<Option<Reading>, ClientError> {
        let reply = self.client.request_unless("GET", &self.target("data", path), None, etag)?;
        let etag = reply.etag.clone();
        match reply.status {
            304 => Ok(None),
            404 => Ok(Some(Reading { data: reply.envelope().ok(), etag: None })),
            _ => Ok(Some(Reading { data: Some(reply.content()?), etag })),
        }
    }

    /// Writes a new version with exactly these fields, a JSON object. With `cas`, only if that is the newest version
    /// (0: the secret does not exist).
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    /// [`is_cas_mismatch`](ClientError::is_cas_mismatch) tells whether another writer was faster.
    pub fn write(&self, path: &Path, fields: &[u8], cas: Option<u64>) -> Result<Version, ClientError> {
        self.client.ask("POST", &self.target("data", path), Some(&body(fields, cas)))
    }

    /// Merges fields into the newest version (RFC 7396: null removes). `None` means that there is nothing to merge
    /// into.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    ///
    /// ```no_run
    /// # fn example(client: &strongroom::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// # use strongroom::api::path::Path;
    ///
    /// // Removes one field and leaves the others.
    /// if client.kv("secret").patch(&Path::parse("app/prod")?, br#"{"OLD":null}"#, None)?.is_none() {
    ///     println!("there is no such secret");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn patch(&self, path: &Path, fields: &[u8], cas: Option<u64>) -> Result<Option<Version>, ClientError> {
        self.client.find("PATCH", &self.target("data", path), Some(&body(fields, cas)))
    }

    /// Sets text fields and leaves the others unchanged. Creates the secret if it does not exist or has only deleted
    /// versions.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn put_pairs(&self, path: &Path, pairs: &[(&str, &SecretText)]) -> Result<Version, ClientError> {
        let fields = object(pairs);
        let mut attempt = 1;
        loop {
            if let Some(version) = self.patch(path, &fields, None)? {
                return Ok(version);
            }
            let current = self.metadata(path)?.map_or(0, |metadata| metadata.current_version);
            match self.write(path, &fields, Some(current)) {
                Err(error) if error.is_cas_mismatch() && attempt < MERGE_ATTEMPTS => attempt += 1,
                done => return done,
            }
        }
    }

    /// Returns all fields of the newest version as texts, in the server's order: strings unchanged, other values as
    /// JSON. `None` means that there is no such secret or that its newest version is deleted.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn pairs(&self, path: &Path) -> Result<Option<Vec<(String, SecretText)>>, ClientError> {
        self.read(path, None)?.map_or(Ok(None), |data| pairs_of(&data))
    }

    /// Marks the newest version as deleted. Does nothing if there is none.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn delete(&self, path: &Path) -> Result<(), ClientError> {
        self.client.tell("DELETE", &self.target("data", path), None)
    }

    /// Marks versions as deleted.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn delete_versions(&self, path: &Path, versions: &[u64]) -> Result<(), ClientError> {
        self.versions("delete", path, versions)
    }

    /// Undeletes versions.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn undelete(&self, path: &Path, versions: &[u64]) -> Result<(), ClientError> {
        self.versions("undelete", path, versions)
    }

    /// Permanently removes the content of versions.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    ///
    /// ```no_run
    /// # fn example(client: &strongroom::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// # use strongroom::api::path::Path;
    ///
    /// // Every version but the newest is removed for good.
    /// let (kv, path) = (client.kv("secret"), Path::parse("app/prod")?);
    /// if let Some(metadata) = kv.metadata(&path)? {
    ///     let old: Vec<u64> = metadata.versions.into_keys().filter(|n| *n < metadata.current_version).collect();
    ///     kv.destroy(&path, &old)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn destroy(&self, path: &Path, versions: &[u64]) -> Result<(), ClientError> {
        self.versions("destroy", path, versions)
    }

    fn versions(&self, verb: &str, path: &Path, versions: &[u64]) -> Result<(), ClientError> {
        let body = json(&Versions { versions: versions.to_vec() })?;
        self.client.tell("POST", &self.target(verb, path), Some(&body))
    }

    /// Returns the names in a folder, sorted. Folders end in `/`. Empty if there is no such folder.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    ///
    /// ```no_run
    /// # fn example(client: &strongroom::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// # use strongroom::api::path::Path;
    ///
    /// for name in client.kv("secret").list(&Path::parse("app/")?)? {
    ///     println!("{name}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list(&self, folder: &Path) -> Result<Vec<String>, ClientError> {
        let found: Option<Keys> = self.client.find("LIST", &self.target("metadata", &folder.to_folder()), None)?;
        Ok(found.map(|found| found.keys).unwrap_or_default())
    }

    /// Returns a page of [`Kv::list`]: at most `limit` names (0: all) after `after`, which need not exist (empty: from
    /// the start).
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request;
    /// [`ClientError::Settings`] for an `after` that cannot be a name.
    ///
    /// ```no_run
    /// # fn example(client: &strongroom::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// # use strongroom::api::path::Path;
    ///
    /// let (kv, folder) = (client.kv("secret"), Path::parse("app/")?);
    /// let mut after = String::new();
    /// loop {
    ///     let names = kv.list_page(&folder, &after, 500)?;
    ///     let Some(last) = names.last() else { break };
    ///     println!("{}", names.join("\n"));
    ///     after = last.trim_end_matches('/').to_owned();
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list_page(&self, folder: &Path, after: &str, limit: u64) -> Result<Vec<String>, ClientError> {
        let mut target = format!("{}?limit={limit}", self.target("metadata", &folder.to_folder()));
        if !after.is_empty() {
            let after = Path::parse(after)
                .map_err(|_| ClientError::Settings("the page cannot start after this name: it is not valid"))?;
            target.push_str(&format!("&after={after}"));
        }
        let found: Option<Keys> = self.client.find("LIST", &target, None)?;
        Ok(found.map(|found| found.keys).unwrap_or_default())
    }

    /// Returns the metadata of a secret and its versions.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn metadata(&self, path: &Path) -> Result<Option<Metadata>, ClientError> {
        self.client.find("GET", &self.target("metadata", path), None)
    }

    /// Changes the settings of a secret.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    ///
    /// ```no_run
    /// # fn example(client: &strongroom::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// # use strongroom::api::path::Path;
    ///
    /// use strongroom::api::kv::MetadataUpdate;
    ///
    /// // Writers of this secret must say which version they replace.
    /// let update = MetadataUpdate { cas_required: Some(true), ..MetadataUpdate::default() };
    /// client.kv("secret").put_metadata(&Path::parse("app/prod")?, &update)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn put_metadata(&self, path: &Path, update: &MetadataUpdate) -> Result<(), ClientError> {
        self.client.tell("POST", &self.target("metadata", path), Some(&json(update)?))
    }

    /// Removes a secret with all its versions.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn delete_metadata(&self, path: &Path) -> Result<(), ClientError> {
        self.client.tell("DELETE", &self.target("metadata", path), None)
    }

    /// Returns the settings of the mount.
    ///
    /// # Errors
    /// As [`Client::request`]; [`ClientError::Refused`] when the vault rejects the request.
    pub fn config(&self) -> Result<Config, ClientError> {
        self.client.ask("GET", &format!("{}/config", self.mount), None)
    }
}

/// Returns the fields of a version that was read, as in [`Kv::pairs`]. `None` means that it is deleted or destroyed.
///
/// # Errors
/// [`ClientError::Malformed`] when the secret is not a valid JSON object.
///
/// ```
/// use strongroom::api::kv::Data;
/// use strongroom::client::pairs_of;
///
/// let version = r#"{"version":1,"created_time":"","deletion_time":"","destroyed":false}"#;
/// let data: Data = serde_json::from_str(&format!(r#"{{"data":{{"PORT":8080}},"metadata":{version}}}"#)).unwrap();
/// let pairs = pairs_of(&data).unwrap().unwrap();
/// assert_eq!((pairs[0].0.as_str(), pairs[0].1.reveal()), ("PORT", "8080"));
/// ```
pub fn pairs_of(data: &Data) -> Result<Option<Vec<(String, SecretText)>>, ClientError> {
    let fields = data.fields().map_err(|_| ClientError::Malformed("the secret is not a JSON object"))?;
    let Some(fields) = fields else { return Ok(None) };
    fields
        .object()
        .entries()
        .map(|(name, value)| Ok((name.to_owned(), text(value.raw())?)))
        .collect::<Result<Vec<_>, _>>()
        .map(Some)
}

/// JSON of a body without secrets.
pub(super) fn json<T: Serialize>(body: &T) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(body).map_err(|_| ClientError::Settings("the request cannot be written as JSON"))
}

/// `{"data":<fields>,"options":{"cas":n}}`.
fn body(fields: &[u8], cas: Option<u64>) -> Zeroizing<Vec<u8>> {
    let mut body = Buffer::with_capacity(fields.len() + 64);
    body.put(b"{\"data\":");
    body.put(fields);
    if let Some(cas) = cas {
        body.put(format!(",\"options\":{{\"cas\":{cas}}}").as_bytes());
    }
    body.push(b'}');
    body.into_bytes()
}

/// A JSON object of strings.
fn object(pairs: &[(&str, &SecretText)]) -> Zeroizing<Vec<u8>> {
    let mut out = Buffer::new();
    out.push(b'{');
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_str(&mut out, name);
        out.push(b':');
        write_str(&mut out, value.reveal());
    }
    out.push(b'}');
    out.into_bytes()
}

fn text(raw: &str) -> Result<SecretText, ClientError> {
    if raw.starts_with('"') {
        return serde_json::from_str(raw).map_err(|_| ClientError::Malformed("the secret is not valid JSON"));
    }
    Ok(SecretText::from(raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::json::Parsed;

    #[test]
    fn builds_bodies() {
        assert_eq!(&*body(b"{}", None), b"{\"data\":{}}");
        assert_eq!(&*body(b"{}", Some(3)), b"{\"data\":{},\"options\":{\"cas\":3}}");
        let (a, b) = (SecretText::from("x\"\n\u{1}"), SecretText::from("\u{e9}"));
        let fields = object(&[("A", &a), ("B", &b)]);
        let parsed = Parsed::of(&fields).expect("an object");
        let back = parsed.object();
        assert_eq!(text(back.get("A").expect("there").raw()).expect("text").reveal(), "x\"\n\u{1}");
        assert_eq!(text(back.get("B").expect("there").raw()).expect("text").reveal(), "\u{e9}");
    }
}
