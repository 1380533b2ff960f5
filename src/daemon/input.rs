//! Sources of a passphrase or key file: a terminal, a file descriptor, a systemd credential or a file. Never argv or
//! the environment, which other processes can read.

use std::fs::File;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::wiped::Buffer;

/// Why no secret could be read. Never contains any part of it.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// There is no terminal, and no other source was given.
    #[error(
        "no terminal to ask for the passphrase; pass it with --passphrase-fd 0 < FILE, or use a systemd credential"
    )]
    NoTerminal,
    /// The passphrase is too short.
    #[error("the passphrase is too short: use 12 characters or more, for example six random words")]
    TooShort,
    /// The two entries differ.
    #[error("the two passphrases differ; nothing was changed. Try again")]
    Mismatch,
    /// The source is empty, not text, or too long.
    #[error("the passphrase from {from} {problem}")]
    Unusable {
        /// The source.
        from: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The source could not be read.
    #[error("cannot read {from}: {source}")]
    Read {
        /// The source.
        from: String,
        /// The error of the system call.
        #[source]
        source: std::io::Error,
    },
    /// Other users can read a file with a secret.
    #[error("{path} can be read by other users; run: chmod 600 {path}")]
    Permissions {
        /// The file.
        path: PathBuf,
    },
    /// The process was started without credentials.
    #[error("there is no credential {name:?}: CREDENTIALS_DIRECTORY is not set; add LoadCredential= to the unit")]
    NoCredentials {
        /// Name of the credential.
        name: String,
    },
}

/// Shortest new passphrase, in characters.
const MIN_PASSPHRASE_CHARS: usize = 12;
/// Longest passphrase, in bytes.
pub const MAX_PASSPHRASE_BYTES: usize = 1024;
/// Longest key file, in bytes. This is a limit of the format.
pub const MAX_KEY_FILE_BYTES: usize = 65_536;

/// Asks for a new passphrase twice on the controlling terminal, without echo.
///
/// # Errors
/// No terminal, the entries differ, or reading fails.
pub fn new_passphrase() -> Result<Zeroizing<String>, InputError> {
    if !std::io::stdin().is_terminal() {
        return Err(InputError::NoTerminal);
    }
    let ask = |text: &str| {
        let entered = rpassword::prompt_password(text);
        entered.map(Zeroizing::new).map_err(|source| InputError::Read { from: "the terminal".into(), source })
    };
    let first = ask("New passphrase (at least 12 characters): ")?;
    long_enough(&first)?;
    let second = ask("Again: ")?;
    if first == second { Ok(first) } else { Err(InputError::Mismatch) }
}

/// Rejects a new passphrase that is too short.
///
/// # Errors
/// [`InputError::TooShort`] when it has fewer than 12 characters.
pub fn long_enough(passphrase: &str) -> Result<(), InputError> {
    if passphrase.chars().count() < MIN_PASSPHRASE_CHARS { Err(InputError::TooShort) } else { Ok(()) }
}

/// Asks for a passphrase once on the controlling terminal, without echo.
///
/// # Errors
/// No terminal, or reading fails.
pub fn passphrase() -> Result<Zeroizing<String>, InputError> {
    if !std::io::stdin().is_terminal() {
        return Err(InputError::NoTerminal);
    }
    let entered = rpassword::prompt_password("Passphrase, recovery code or share: ");
    entered.map(Zeroizing::new).map_err(|source| InputError::Read { from: "the terminal".into(), source })
}

/// Reads a passphrase from the open descriptor `fd`, up to the first line end.
///
/// # Errors
/// The descriptor is not open, or its content is empty, too long, or not UTF-8.
pub fn passphrase_from_fd(fd: u32) -> Result<Zeroizing<String>, InputError> {
    let from = format!("descriptor {fd}");
    // Opened through /proc, so that a wrong number is an error and never closes a file that is in use elsewhere.
    let file = File::open(format!("/proc/self/fd/{fd}"));
    let bytes = read_bounded(file, &from, MAX_PASSPHRASE_BYTES + 2)?;
    first_line(&bytes, &from)
}

/// Reads a passphrase from the systemd credential `name` in `folder` (the value of `CREDENTIALS_DIRECTORY`).
///
/// # Errors
/// There is no credentials folder, or `name` is not a plain file name. Otherwise as [`passphrase_from_fd`].
pub fn passphrase_from_credential(folder: Option<&Path>, name: &str) -> Result<Zeroizing<String>, InputError> {
    let bytes = credential(folder, name, MAX_PASSPHRASE_BYTES + 2)?;
    first_line(&bytes, &format!("credential {name:?}"))
}

/// Reads the bytes of the systemd credential `name`.
///
/// # Errors
/// As [`passphrase_from_credential`]; also when the credential is longer than `most` bytes.
pub fn credential(folder: Option<&Path>, name: &str, most: usize) -> Result<Zeroizing<Vec<u8>>, InputError> {
    let folder = folder.ok_or_else(|| InputError::NoCredentials { name: name.to_owned() })?;
    let from = format!("credential {name:?}");
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(InputError::Unusable { from, problem: "is not named by a plain file name" });
    }
    read_bounded(File::open(folder.join(name)), &from, most)
}

/// Reads a key file. It must not be readable by group or others.
///
/// # Errors
/// The file cannot be read, others can read it, or it is longer than 64 KiB.
pub fn key_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, InputError> {
    let from = format!("key file {}", path.display());
    let file = File::open(path).map_err(|source| InputError::Read { from: from.clone(), source })?;
    let mode = file.metadata().map_err(|source| InputError::Read { from: from.clone(), source })?.mode();
    if mode & 0o077 != 0 {
        return Err(InputError::Permissions { path: path.to_owned() });
    }
    read_bounded(Ok(file), &from, MAX_KEY_FILE_BYTES)
}

fn read_bounded(file: std::io::Result<File>, from: &str, most: usize) -> Result<Zeroizing<Vec<u8>>, InputError> {
    let read = |source| InputError::Read { from: from.to_owned(), source };
    let file = file.map_err(read)?;
    let mut bytes = Buffer::new();
    if !bytes.read_from(file, most).map_err(read)? {
        return Err(InputError::Unusable { from: from.to_owned(), problem: "is too long" });
    }
    Ok(bytes.into_bytes())
}

fn first_line(bytes: &[u8], from: &str) -> Result<Zeroizing<String>, InputError> {
    let problem = |problem| InputError::Unusable { from: from.to_owned(), problem };
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|_| problem("is not UTF-8 text"))?;
    match text.len() {
        0 => Err(problem("is empty")),
        length if length > MAX_PASSPHRASE_BYTES => Err(problem("is longer than 1,024 bytes")),
        _ => Ok(Zeroizing::new(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(name: &str, content: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), content).unwrap();
        folder
    }

    #[test]
    fn a_credential_is_read_to_its_first_line() {
        let folder = credentials("unseal", b"correct horse battery staple\r\nignored\n");
        let passphrase = passphrase_from_credential(Some(folder.path()), "unseal").unwrap();
        assert_eq!(passphrase.as_str(), "correct horse battery staple");
    }

    #[test]
    fn unusable_sources_are_named_without_content() {
        let long = vec![b'x'; MAX_PASSPHRASE_BYTES + 1];
        for (content, expected) in [(&b""[..], "is empty"), (b"\xff\xfe", "is not UTF-8"), (&long, "is longer")] {
            let folder = credentials("unseal", content);
            let error = passphrase_from_credential(Some(folder.path()), "unseal").unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("unseal"), "{error}");
        }
        assert!(matches!(passphrase_from_credential(None, "unseal"), Err(InputError::NoCredentials { .. })));
        let folder = credentials("unseal", b"x");
        assert!(passphrase_from_credential(Some(folder.path()), "../unseal").is_err());
    }

    #[test]
    fn a_key_file_open_to_others_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = credentials("key", &[7; 32]);
        let path = folder.path().join("key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(key_file(&path), Err(InputError::Permissions { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(key_file(&path).unwrap().as_slice(), &[7; 32]);
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_an_error() {
        assert!(matches!(passphrase_from_fd(9_999), Err(InputError::Read { .. })));
    }
}
