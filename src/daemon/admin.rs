//! `strongroomd admin` and the local socket that it uses. The daemon's own user and root can read the state, unseal and
//! seal without a certificate.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::args::{AdminArgs, AdminCommand, OperatorArgs, UnsealArgs};
use super::config::{Config, ConfigError};
use super::input::{self, InputError};
use super::layout::{self, LayoutError};
use super::{init, migrate};
use crate::api::json::write_str;
use crate::api::sys::{CertificateReply, Health, SealStatus};
use crate::core::VaultError;
use crate::pki::{self, Bundle, KeyType};
use crate::wiped::Buffer;

/// Name of the socket inside the data folder.
pub const SOCKET: &str = "admin.sock";

/// Longest wait for the daemon. An unseal derives keys for a second or more, and a seal waits for the last commit.
const PATIENCE: Duration = Duration::from_secs(120);
/// Largest reply that is read, in bytes.
const MAX_REPLY: usize = 1 << 20;

/// Why an admin command failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The configuration does not say where the data folder is.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The secret could not be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Another process listens on the socket, or the path is not a socket.
    #[error("{0} is in use by another process; stop the other daemon, or move the file away if it is not a socket")]
    InUse(PathBuf),
    /// Creating or connecting failed.
    #[error("{action} {path}: {source}")]
    Socket {
        /// The step that failed, as in "listening on".
        action: &'static str,
        /// The path of the socket.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: std::io::Error,
    },
    /// The daemon rejected the request; this is its message.
    #[error("the daemon says: {0}")]
    Refused(String),
    /// The system's random source failed, so no key was generated.
    #[error("no key could be generated because the system's random source failed; try again")]
    Key,
    /// The bundle could not be written.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The bytes that came back are not a reply of the daemon.
    #[error("the daemon's reply cannot be parsed; check that this command and the running daemon are the same version")]
    Reply,
}

fn socket(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> AdminError {
    let path = path.to_owned();
    move |source| AdminError::Socket { action, path, source }
}

/// The socket's file. Dropping this removes it.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Creates the socket in the data folder with mode 0600. A socket that an earlier daemon left behind is replaced.
///
/// # Errors
/// [`AdminError::InUse`] when another process listens there. [`AdminError::Socket`] when a system call fails, for
/// example because the path is too long for a socket (108 bytes).
pub fn listen(data: &Path) -> Result<(UnixListener, SocketFile), AdminError> {
    let path = data.join(SOCKET);
    if let Ok(found) = std::fs::symlink_metadata(&path) {
        let refused = || UnixStream::connect(&path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        if !found.file_type().is_socket() || !refused() {
            return Err(AdminError::InUse(path));
        }
        std::fs::remove_file(&path).map_err(socket("removing", &path))?;
    }
    let listener = UnixListener::bind(&path).map_err(socket("listening on", &path))?;
    let file = SocketFile(path);
    // Until this call only the mode of the data folder keeps other users out.
    std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(0o600)).map_err(socket("closing", &file.0))?;
    Ok((listener, file))
}

/// Runs the command and prints its result.
///
/// # Errors
/// [`AdminError`] when no daemon answers, the daemon rejects the request, or the bundle cannot be written.
pub fn run(args: &AdminArgs) -> Result<(), AdminError> {
    let (target, json) = match &args.command {
        AdminCommand::Status(target) | AdminCommand::Seal(target) => (target, target.json),
        AdminCommand::Unseal(args) => (&args.target, args.target.json),
        AdminCommand::Operator(args) => (&args.unseal.target, args.unseal.target.json),
    };
    let config = Config::load(&migrate::config_path(target.config.as_deref(), target.data.as_deref()))?;
    let path = config.data.join(SOCKET);
    let body = match &args.command {
        AdminCommand::Status(_) => ask(&path, "GET", "seal-status", b"")?,
        AdminCommand::Seal(_) => ask(&path, "PUT", "seal", b"")?,
        AdminCommand::Unseal(args) => {
            not_too_early(&path)?;
            ask(&path, "PUT", "unseal", &unseal_body(args)?)?
        }
        AdminCommand::Operator(args) => return operator(args, &config, &path, json),
    };
    if json {
        println!("{}", String::from_utf8_lossy(&body));
        return Ok(());
    }
    let status: SealStatus = serde_json::from_slice(&body).map_err(|_| AdminError::Reply)?;
    println!("{}", describe(&status));
    // A sealed vault knows nothing about its records.
    if matches!(args.command, AdminCommand::Status(_)) && !status.sealed {
        let health = ask(&path, "GET", "health", b"")?;
        let health: Health = serde_json::from_slice(&health).map_err(|_| AdminError::Reply)?;
        if let Some(damage) = health.damage {
            let writes = if damage.writes_stopped { "; writes are stopped until a restart" } else { "" };
            println!(
                "stored records are damaged{writes}; find them: strongroom verify; then restore a backup, or remove them: \
                 strongroomd storage salvage"
            );
        }
    }
    Ok(())
}

/// Generates a key here, has the daemon certify it, and writes the bundle.
fn operator(args: &OperatorArgs, config: &Config, path: &Path, json: bool) -> Result<(), AdminError> {
    if args.out.exists() {
        return Err(AdminError::InUse(args.out.clone()));
    }
    not_too_early(path)?;
    let request = pki::request(KeyType::P256).map_err(|_| AdminError::Key)?;
    let secret = unseal_body(&args.unseal)?;
    let asked = serde_json::json!({ "identity": args.identity, "csr": request.csr_pem });
    let asked = asked.to_string();
    // Merges the fields of both objects: `{"a":1}` and `{"b":2}` become `{"a":1,"b":2}`.
    let mut body = Buffer::with_capacity(asked.len() + secret.len() + 1);
    body.put(asked.strip_suffix('}').unwrap_or_default().as_bytes());
    body.push(b',');
    body.put(secret.get(1..).unwrap_or_default());
    let reply = ask(path, "PUT", "strongroom/certificate", &body)?;
    let certified: CertificateReply = serde_json::from_slice(&reply).map_err(|_| AdminError::Reply)?;
    let bundle = Bundle { cert_pem: certified.certificate, key_pem: request.key_pem };
    let staging = layout::staging(&args.out);
    let _ = std::fs::remove_dir_all(&staging);
    layout::create_private_dir(&staging)?;
    init::write_identity(&staging, &certified.ca, &bundle)?;
    let profile = format!("addr = \"https://{}\"\n", config.listen);
    layout::write_new(&staging.join("profile.toml"), profile.as_bytes(), false)?;
    layout::publish_dir(&staging, &args.out)?;
    let out = args.out.display();
    if json {
        let shown =
            serde_json::json!({ "identity": certified.identity, "not_after": certified.not_after, "bundle": args.out });
        println!("{shown}");
    } else {
        println!("certificate of {} in {out}, valid until {}", certified.identity, certified.not_after);
        println!("next:\n  strongroom profile add rescue --bundle {out} --move\n  strongroom profile use rescue");
    }
    Ok(())
}

fn describe(status: &SealStatus) -> String {
    match (status.initialized, status.sealed, status.progress) {
        (false, ..) => "not initialised".to_owned(),
        (_, false, _) => "unsealed".to_owned(),
        (_, true, 0) => "sealed".to_owned(),
        (_, true, given) => format!("sealed; {given} of {} shares entered", status.t),
    }
}

/// Fails if the daemon would reject a secret because of earlier ones, before anybody types it.
fn not_too_early(path: &Path) -> Result<(), AdminError> {
    let body = ask(path, "GET", "seal-status", b"")?;
    let status: SealStatus = serde_json::from_slice(&body).map_err(|_| AdminError::Reply)?;
    match status.retry_after_s {
        0 => Ok(()),
        retry_after_s => Err(AdminError::Refused(VaultError::TooMany { retry_after_s }.to_string())),
    }
}

/// Builds the body of `unseal`.
fn unseal_body(args: &UnsealArgs) -> Result<Zeroizing<Vec<u8>>, AdminError> {
    let file = args.key_file.as_deref().map(input::key_file).transpose()?;
    let key = match (args.passphrase_fd, &file) {
        (Some(fd), _) => Some(input::passphrase_from_fd(fd)?),
        (None, Some(_)) => None,
        (None, None) => Some(input::passphrase()?),
    };
    let file = file.map(|bytes| Zeroizing::new(STANDARD.encode(&*bytes)));
    let mut body = Buffer::new();
    for (name, value) in [("key", key.as_ref()), ("key_file", file.as_ref())] {
        let Some(value) = value else { continue };
        let mark = if body.is_empty() { b'{' } else { b',' };
        body.push(mark);
        write_str(&mut body, name);
        body.push(b':');
        write_str(&mut body, value);
    }
    body.push(b'}');
    Ok(body.into_bytes())
}

/// Sends one request over the socket and returns the body of the reply.
fn ask(path: &Path, verb: &str, what: &str, body: &[u8]) -> Result<Vec<u8>, AdminError> {
    let failed = |action| socket(action, path);
    let mut stream =
        UnixStream::connect(path).map_err(failed("no daemon answers (start it with: strongroomd server) at"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed("using"))?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed("using"))?;
    let head = format!(
        "{verb} /v1/sys/{what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).map_err(failed("writing to"))?;
    let mut reply = Buffer::new();
    if !reply.read_from(stream, MAX_REPLY).map_err(failed("reading from"))? {
        return Err(AdminError::Reply);
    }
    let (status, body) = parse(&reply).ok_or(AdminError::Reply)?;
    if status == 200 { Ok(body.to_vec()) } else { Err(AdminError::Refused(reason(status, body))) }
}

/// Splits a whole reply into status and body.
fn parse(reply: &[u8]) -> Option<(u16, &[u8])> {
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, rest) = reply.split_at_checked(end)?;
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let status = line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, rest.get(4..)?))
}

fn reason(status: u16, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let said = serde_json::from_slice::<Errors>(body).map(|body| body.errors.join("; ")).unwrap_or_default();
    if said.is_empty() { format!("status {status}") } else { said }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_dead_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET);
        let (listener, file) = listen(folder.path()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(listen(folder.path()), Err(AdminError::InUse(_))));
        assert!(UnixStream::connect(&path).is_ok(), "the first one was disturbed");
        drop(listener);
        assert!(path.exists(), "a daemon that was killed leaves it");
        drop(listen(folder.path()).unwrap());
        drop(file);
        assert!(!path.exists());
        std::fs::write(&path, b"precious").unwrap();
        assert!(matches!(listen(folder.path()), Err(AdminError::InUse(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn replies_are_read() {
        let reply = b"HTTP/1.1 403 Forbidden\r\na: b\r\n\r\n{\"errors\":[\"no\"]}";
        let (status, body) = parse(reply).unwrap();
        assert_eq!((status, &*reason(status, body)), (403, "no"));
        assert_eq!(reason(500, b"?"), "status 500");
        for bad in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 2\r\n\r\n", b"hello\r\n\r\n"] {
            assert!(parse(bad).is_none());
        }
    }

    proptest! {
        #[test]
        fn reading_is_total(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let _ = parse(&[b"HTTP/1.1 ", &*bytes, b"\r\n\r\n"].concat());
            let _ = reason(1, &bytes);
        }
    }
}
