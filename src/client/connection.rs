//! One connection to one server: requests, replies, and the mark in both.

use std::sync::{Arc, Mutex, PoisonError};

use ::http::{HeaderMap, Method};
use serde::de::DeserializeOwned;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};
use zeroize::Zeroizing;

use crate::api::error::HEADER;
use crate::api::mark::{Mark, SEEN_HEADER};
use crate::api::reply::{Envelope, ErrorBody};
use crate::wiped::Buffer;

use super::gate::{self, Gate};
#[cfg(feature = "enroll")]
use super::renew::{BUNDLE_HEADER, bundle_header};
use super::settings::{self, Settings};
use super::{ClientError, error, mark, tls};

/// Largest reply in bytes. Only lists of a large folder come near it.
pub const MAX_REPLY_BYTES: u64 = 32 * 1024 * 1024;
/// Largest head of a reply, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// A connection to one server as one identity. Threads can share it; they take turns.
///
/// ```no_run
/// use std::time::Duration;
///
/// use strongroom::api::path::Path;
/// use strongroom::client::{Client, ClientError, Settings};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(Settings {
///     addr: "https://vault.example.org:8200".to_owned(),
///     ca_pem: std::fs::read("ca.pem")?,
///     cert_pem: std::fs::read("cert.pem")?,
///     key_pem: std::fs::read_to_string("key.pem")?.into(),
///     timeout: Duration::from_secs(10),
/// })?;
/// let (secrets, path) = (client.kv("secret"), Path::parse("app/prod")?);
/// secrets.put_pairs(&path, &[("PASSWORD", &"correct horse".into())])?;
/// for (name, value) in secrets.pairs(&path)?.unwrap_or_default() {
///     println!("{name} has {} bytes", value.reveal().len());
/// }
/// match client.sys().policies() {
///     Ok(names) => println!("{}", names.join(" ")),
///     // Programs use the error code, never the server's texts.
///     Err(error) if error.is_sealed() => println!("unseal it first"),
///     Err(ClientError::Refused { status: 403, .. }) => println!("not for this certificate"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(())
/// # }
/// ```
pub struct Client {
    agent: ureq::Agent,
    /// `https://host:port`, no slash at the end.
    base: String,
    /// The authorities that this client trusts, which it tells the server.
    #[cfg(feature = "enroll")]
    bundle: String,
    mark: Mutex<Option<Mark>>,
    gate: Arc<Gate>,
}

/// Path that returns the vault's mark. Older servers answer 404, with the same headers.
const MARK: &str = "sys/strongroom/mark";
/// Paths that are sent without comparing the history first. An operator who suspects a rollback must be able to seal the
/// vault, and a sealed vault cannot say anything about its history.
const NOT_COMPARED: [&str; 2] = ["sys/seal", "sys/unseal"];

/// How often the history is compared for one change. If the connection is closed in between, the change must not go
/// over the next one without another comparison.
const COMPARISONS: usize = 2;

/// One request, as [`Client::request_unless`] takes it.
struct Call<'a> {
    method: Method,
    path: &'a str,
    body: Option<&'a [u8]>,
    etag: Option<&'a str>,
}

/// A reply with any status.
///
/// ```no_run
/// use strongroom::api::kv::Keys;
/// use strongroom::client::{Client, ClientError};
///
/// /// Works for any path of the API, including those for which this client has no method.
/// fn rate_limits(client: &Client) -> Result<Vec<String>, ClientError> {
///     let reply = client.request("LIST", "sys/quotas/rate-limit", None)?;
///     if reply.status == 404 {
///         return Ok(Vec::new());
///     }
///     Ok(reply.content::<Keys>()?.keys)
/// }
/// ```
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Body; wiped on drop.
    pub body: Zeroizing<Vec<u8>>,
    /// Position in the server's history. `None` from a sealed vault and from other servers.
    pub mark: Option<Mark>,
    /// Entity tag of the content, with its quotes.
    pub etag: Option<String>,
    /// The line of `X-Strongroom-Error`, unparsed.
    pub error: Option<String>,
    /// Verb and path of the request, for error messages.
    asked: String,
}

impl Client {
    /// Prepares a client. The first request opens the connection.
    ///
    /// # Errors
    /// [`ClientError::Address`] when the address is not `https://host[:port]`; [`ClientError::Settings`] when a certificate or
    /// key cannot be read.
    pub fn connect(settings: Settings) -> Result<Self, ClientError> {
        let base = settings.base()?;
        let gate = Arc::new(Gate::default());
        let tls = tls::TlsConnector::new(&settings, Arc::clone(&gate))?;
        let connector = ().chain(TcpConnector::default()).chain(tls);
        let config = ureq::Agent::config_builder()
            .allow_non_standard_methods(true) // LIST
            .http_status_as_error(false)
            .https_only(true)
            .max_redirects(0) // a redirect could send secrets elsewhere
            .max_redirects_will_error(false)
            .proxy(None) // and the environment must not choose a proxy
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .max_response_header_size(MAX_HEAD_BYTES)
            .timeout_connect(Some(settings.timeout.min(settings::CONNECT_TIMEOUT)))
            .timeout_global(Some(settings.timeout))
            .user_agent(concat!("strongroom/", env!("CARGO_PKG_VERSION")))
            .build();
        let agent = ureq::Agent::with_parts(config, connector, DefaultResolver::default());
        Ok(Self {
            agent,
            base,
            #[cfg(feature = "enroll")]
            bundle: bundle_header(&settings.ca_pem)?,
            mark: Mutex::new(None),
            gate,
        })
    }

    /// The address of the server.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.base
    }

    /// The latest mark that was seen or set. Save it, and pass it to [`set_mark`](Self::set_mark) in the next process.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets a mark that was seen earlier. Ignored if it is older than the current one.
    ///
    /// ```no_run
    /// # fn example(client: &strongroom::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// // A program that runs for a short time keeps the mark in a file. Without it, a rollback between two runs goes unnoticed.
    /// if let Ok(text) = std::fs::read("vault.mark") {
    ///     client.set_mark(serde_json::from_slice(&text)?);
    /// }
    /// client.sys().health()?;
    /// if let Some(mark) = client.mark() {
    ///     std::fs::write("vault.mark", serde_json::to_vec(&mark)?)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_mark(&self, mark: Mark) {
        mark::raise(&mut self.mark.lock().unwrap_or_else(PoisonError::into_inner), mark);
    }

    /// Requests the vault's mark and compares it with the one that this client holds. Leaves no line in the audit log. A
    /// request that may change something does this by itself, once for each connection.
    ///
    /// # Errors
    /// [`ClientError::RolledBack`] when the vault does not continue the history that this client has seen;
    /// [`ClientError::Refused`] while it is sealed; otherwise as [`request`](Self::request).
    pub fn compare_history(&self) -> Result<(), ClientError> {
        let reply = self.exchange(&Call { method: Method::GET, path: MARK, body: None, etag: None })?;
        if reply.mark.is_some() {
            return Ok(());
        }
        reply.success()?;
        Err(ClientError::Malformed("the reply does not contain the vault's mark"))
    }

    /// Sends one request. `path` is the part after `/v1/` with the query, if any. Characters that a request target
    /// cannot contain must be percent-encoded. A body is sent as JSON; with `PATCH` as a merge patch. A failure status
    /// is not an error here.
    ///
    /// If this client holds a mark, a request that may change something (all but `GET`, `HEAD` and `LIST`) is sent only over a
    /// connection on which the vault has shown that it continues that history. The request carries the mark too, and a
    /// vault that does not continue it rejects the request. If each connection is closed before the request can follow,
    /// it is not sent. `sys/seal` and `sys/unseal` are exempt.
    ///
    /// # Errors
    /// [`ClientError::Transport`] or [`ClientError::Certificate`] when there is no answer; [`ClientError::Malformed`]
    /// when it is not HTTP or larger than [`MAX_REPLY_BYTES`]; [`ClientError::RolledBack`] when the vault does not
    /// continue the history that this client has seen; [`ClientError::Settings`] for an invalid path.
    pub fn request(&self, method: &str, path: &str, body: Option<&[u8]>) -> Result<Response, ClientError> {
        self.request_unless(method, path, body, None)
    }

    /// As [`request`](Self::request). With the tag of an earlier reply, status 304 means that nothing has changed.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn request_unless(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        etag: Option<&str>,
    ) -> Result<Response, ClientError> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| ClientError::Settings("not an HTTP method"))?;
        let reads = matches!(method.as_str(), "GET" | "HEAD" | "LIST");
        let call = Call { method, path, body, etag };
        if !reads && !NOT_COMPARED.contains(&path) && self.mark().is_some() {
            return self.change(&call);
        }
        self.exchange(&call)
    }

    /// Sends a request that may change something, over a connection on which the history was compared.
    fn change(&self, call: &Call<'_>) -> Result<Response, ClientError> {
        let send = || self.gate.over_compared(|| self.exchange(call));
        for _ in 0..COMPARISONS {
            if let Some(outcome) = send() {
                return outcome;
            }
            self.compare_history()?;
        }
        send().unwrap_or_else(|| {
            let problem = "every connection was closed before the change could be sent".to_owned();
            let hint =
                "nothing was changed; does something between here and the vault close connections after one request?";
            Err(ClientError::Transport { address: self.base.clone(), problem, hint })
        })
    }

    /// Sends one request, checks the mark of the reply, and keeps it.
    fn exchange(&self, call: &Call<'_>) -> Result<Response, ClientError> {
        let Call { method, path, body, etag } = call;
        // The mark at the time of sending, because replies of parallel requests overtake each other.
        let held = self.mark();
        let asked = asked(method.as_str(), path);
        let media = if *method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let builder = ::http::Request::builder()
            .method(method.clone())
            .uri(format!("{}/v1/{path}", self.base))
            .header("X-Vault-Request", "true");
        #[cfg(feature = "enroll")]
        let builder = builder.header(BUNDLE_HEADER, &self.bundle);
        let builder = match etag {
            Some(etag) => builder.header("If-None-Match", *etag),
            None => builder,
        };
        let builder = match &held {
            // The vault compares too: other threads may have taken the connection on which this one compared.
            Some(held) if !NOT_COMPARED.contains(path) => builder.header(SEEN_HEADER, held.to_string()),
            _ => builder,
        };
        let illegal = |_| ClientError::Settings("the path contains characters that are not allowed in a URL");
        gate::begin();
        let sent = match body {
            None => self.agent.run(builder.body(()).map_err(illegal)?),
            Some(bytes) => self.agent.run(builder.header("Content-Type", media).body(*bytes).map_err(illegal)?),
        };
        let mut reply = sent.map_err(|error| error::transport(error, &self.base))?;
        let status = reply.status().as_u16();
        let mark = mark::from_headers(reply.headers())?;
        let text = |name| reply.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (etag, error) = (text("etag"), text(HEADER));
        let body = read_body(&mut reply, &self.base)?;
        // All of this comes before the mark is kept and before the caller gets the reply. A different history must not
        // become the mark, even if its generation is higher by now.
        let refused = mark::refused_at(error.as_deref(), mark.as_ref());
        let outcome = match (&held, refused, &mark) {
            (Some(held), Some(seen), _) => Err(ClientError::RolledBack { held: held.clone(), seen }),
            (None, Some(_), _) | (_, None, None) => Ok(()),
            (held, None, Some(mark)) => mark::check(held.as_ref(), mark).map(|()| {
                self.set_mark(mark.clone());
                self.gate.note(true);
            }),
        };
        outcome.inspect_err(|_| self.gate.note(false))?;
        Ok(Response { status, body, mark, etag, error, asked })
    }

    /// Returns the content of a 200, or `None` for a 404 without content.
    pub(super) fn find<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Option<T>, ClientError> {
        let reply = self.request(method, path, body)?;
        match reply.status {
            404 => Ok(None),
            _ => reply.content().map(Some),
        }
    }

    /// Returns the content of a 200.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<T, ClientError> {
        self.request(method, path, body)?.content()
    }

    /// Accepts any successful status.
    pub(super) fn tell(&self, method: &str, path: &str, body: Option<&[u8]>) -> Result<(), ClientError> {
        self.request(method, path, body)?.success().map(drop)
    }
}

impl Client {
    /// Accepts any successful status and returns the server's warnings.
    pub(super) fn warned(&self, method: &str, path: &str, body: &[u8]) -> Result<Vec<String>, ClientError> {
        let reply = self.request(method, path, Some(body))?.success()?;
        if reply.body.is_empty() {
            return Ok(Vec::new());
        }
        let envelope: Envelope<serde::de::IgnoredAny> = reply.raw()?;
        Ok(envelope.warnings.unwrap_or_default())
    }
}

impl Response {
    /// Returns the reply if it is a success.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's messages for any other status.
    pub fn success(self) -> Result<Self, ClientError> {
        if (200..300).contains(&self.status) { Ok(self) } else { Err(self.refusal()) }
    }

    /// Returns `data` of the envelope of a successful reply.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for a failure; [`ClientError::Malformed`] when the body has an unexpected form.
    pub fn content<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        self.success()?.envelope()
    }

    /// Returns `data` of the envelope, whatever the status.
    pub(super) fn envelope<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        let envelope: Envelope<T> = serde_json::from_slice(&self.body)
            .map_err(|_| ClientError::Malformed("the reply is not the expected JSON"))?;
        envelope.data.ok_or(ClientError::Malformed("the reply has no data"))
    }

    /// Returns a body without an envelope, whatever the status.
    pub(super) fn raw<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|_| ClientError::Malformed("the reply is not the expected JSON"))
    }

    /// The error for this failed reply.
    #[must_use]
    pub fn refusal(&self) -> ClientError {
        let errors = serde_json::from_slice::<ErrorBody>(&self.body).map(|body| body.errors).unwrap_or_default();
        ClientError::refusal(self.status, errors, self.error.as_deref()).of_request(&self.asked)
    }
}

/// A request in the words of a policy: the capability and the path, without the query.
fn asked(method: &str, path: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let verb = match method {
        "GET" | "HEAD" if query.split('&').any(|part| part == "list=true") => "list",
        "GET" | "HEAD" => "read",
        "LIST" => "list",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "write",
    };
    format!("{verb} {path}")
}

/// Reads the whole body.
fn read_body(reply: &mut ::http::Response<ureq::Body>, base: &str) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    const TOO_LARGE: ClientError = ClientError::Malformed("the reply is larger than 32 MiB");
    let announced = content_length(reply.headers());
    if announced.is_some_and(|length| length > MAX_REPLY_BYTES) {
        return Err(TOO_LARGE);
    }
    let first = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(4096).min(1 << 20);
    let mut body = Buffer::with_capacity(first + 1);
    let reader = reply.body_mut().with_config().limit(MAX_REPLY_BYTES).reader();
    body.read_from(reader, usize::MAX).map_err(|error| error::transport(error.into(), base))?;
    Ok(body.into_bytes())
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(::http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_as_a_policy_names_it() {
        for (method, path, words) in [
            ("GET", "secret/data/app?version=3", "read secret/data/app"),
            ("LIST", "secret/metadata/app/", "list secret/metadata/app/"),
            ("GET", "secret/metadata/?a=b&list=true", "list secret/metadata/"),
            ("POST", "secret/data/app", "write secret/data/app"),
            ("PATCH", "secret/data/app", "patch secret/data/app"),
            ("DELETE", "sys/policies/acl/x", "delete sys/policies/acl/x"),
        ] {
            assert_eq!(asked(method, path), words);
        }
    }
}
