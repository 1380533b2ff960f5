//! Reads files with a size limit into memory that is wiped. Keys are read only if no other user can read them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use strongroom::api::secret::SecretText;
use strongroom::wiped::Buffer;
use zeroize::Zeroizing;

use crate::exit::{Code, Failure};

/// Reads a file of at most 1 MiB into memory that is wiped.
///
/// # Errors
/// The file cannot be read or is larger.
pub fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::usage(format!("{}: {error}", path.display()), "check the path and its permissions")
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > MAX_FILE_BYTES {
        return Err(Failure::usage(format!("{} is larger than 1 MiB", path.display()), ""));
    }
    let mut bytes = Buffer::new();
    // The file may have grown since, or may have no length at all.
    if !bytes.read_from(file, usize::try_from(MAX_FILE_BYTES).unwrap_or(usize::MAX)).map_err(failed)? {
        return Err(Failure::usage(format!("{} is larger than 1 MiB", path.display()), ""));
    }
    Ok(bytes.into_bytes())
}

/// Reads a private key, if no other user can read it.
///
/// # Errors
/// The file cannot be read, or other users can read it.
pub fn read_key(path: &Path) -> Result<SecretText, Failure> {
    let mode = std::fs::metadata(path).map(|metadata| metadata.mode());
    if let Ok(mode) = mode
        && mode & 0o077 != 0
    {
        let message = format!("{} can be read by other users", path.display());
        return Err(Failure::new(Code::Usage, message, format!("run: chmod 600 {}", path.display())));
    }
    Ok(SecretText::from_utf8_lossy(read_file(path)?.as_slice()))
}

const MAX_FILE_BYTES: u64 = 1024 * 1024;
