//! A key and its request that are kept until the certificate for them is there: a reply that is lost is asked for again
//! with the same key.

use std::io;
use std::path::{Path, PathBuf};

use strongroom::api::secret::SecretText;
use strongroom::pki::{self, KeyType, Request};

use super::disk::{Disk, aside};
use super::failed;
use crate::exit::{Code, Failure};
use crate::files::read_file;

/// File beside a key that is in use and waits for its next certificate: fingerprint of the one that it has.
const KEPT: &str = "kept";

/// Whether a waiting key is not to be taken, by its fingerprint and the content of the file [`KEPT`].
pub type IsUsed<'a> = &'a dyn Fn(&[u8; 32], Option<&str>) -> bool;

/// A folder for one key that waits for its certificate.
pub struct Pending(PathBuf);

impl Pending {
    /// For the enrolment of `folder` with the string of this id: beside the folder, which is not there yet.
    pub fn of_enrolment(folder: &Path, id: &[u8; 16]) -> Self {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        Self(folder.with_file_name(format!(".{name}.enroll-{}", hex(id))))
    }

    /// For the renewal of the bundle in `folder`.
    pub fn of_renewal(folder: &Path) -> Self {
        Self(folder.join(".pending"))
    }

    /// The key that waits, or a new one of this kind, which is on disk when this returns. A key that `is_used` says is in
    /// use already is not taken again; it is told the key's fingerprint, and the certificate that [`Pending::keep`] named
    /// with it.
    ///
    /// # Errors
    /// No key can be made or written.
    pub fn request(&self, kind: KeyType, is_used: IsUsed<'_>) -> Result<Request, Failure> {
        if let Some(waiting) = self.read(is_used) {
            return Ok(waiting);
        }
        let made = pki::request(kind).map_err(|error| Failure::new(Code::Refused, error.to_string(), ""))?;
        self.write(&made, None)?;
        Ok(made)
    }

    /// The key that waits, or this one again, which `certificate` (its fingerprint) is for. What the next try asks with is on
    /// disk when this returns: with any other key it would look like a copy of the certificate.
    ///
    /// # Errors
    /// The key cannot ask for a certificate, or nothing can be written.
    pub fn keep(&self, key_pem: SecretText, certificate: &[u8; 32], is_used: IsUsed<'_>) -> Result<Request, Failure> {
        if let Some(waiting) = self.read(is_used) {
            return Ok(waiting);
        }
        let csr_pem = pki::request_for(&key_pem).map_err(|_| {
            Failure::usage("the key is of a kind that cannot ask for a certificate", "leave out --reuse-key")
        })?;
        let kept = Request { key_pem, csr_pem };
        self.write(&kept, Some(certificate))?;
        Ok(kept)
    }

    /// Forgets the key here. A failure leaves a key that will not be taken again.
    pub fn done(&self) {
        let _ = Disk::probed(&mut || Ok(())).remove(&self.0);
    }

    fn read(&self, is_used: IsUsed<'_>) -> Option<Request> {
        let key = read_file(&self.0.join("key.pem")).ok()?;
        let csr = read_file(&self.0.join("csr.pem")).ok()?;
        let key_pem = SecretText::from_utf8_lossy(key.as_slice());
        let csr_pem = String::from_utf8(csr.to_vec()).ok()?;
        let of_key = pki::read_csr(&pki::request_for(&key_pem).ok()?).ok()?.key_fingerprint;
        let kept = read_file(&self.0.join(KEPT)).ok().and_then(|text| String::from_utf8(text.to_vec()).ok());
        let fits = pki::read_csr(&csr_pem).ok()?.key_fingerprint == of_key && !is_used(&of_key, kept.as_deref());
        fits.then_some(Request { key_pem, csr_pem })
    }

    fn write(&self, request: &Request, kept_of: Option<&[u8; 32]>) -> Result<(), Failure> {
        self.put(request, kept_of, &mut Disk::probed(&mut || Ok(()))).map_err(|error| failed(&self.0, &error))
    }

    fn put(&self, request: &Request, kept_of: Option<&[u8; 32]>, disk: &mut Disk<'_>) -> io::Result<()> {
        let making = aside(&self.0);
        disk.fresh_folder(&making)?;
        disk.write(&making.join("key.pem"), request.key_pem.reveal().as_bytes())?;
        disk.write(&making.join("csr.pem"), request.csr_pem.as_bytes())?;
        if let Some(certificate) = kept_of {
            disk.write(&making.join(KEPT), hex(certificate).as_bytes())?;
        }
        disk.sync(&making)?;
        disk.remove(&self.0)?;
        disk.rename(&making, &self.0)
    }
}

/// Hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a new file with mode 0600; an existing one is left alone.
///
/// # Errors
/// It exists, or cannot be written.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    Disk::probed(&mut || Ok(())).write(path, bytes).map_err(|error| failed(path, &error))
}
