//! A key and its request, kept until the certificate arrives. After a lost reply, the certificate is requested again
//! with the same key.

use std::io;
use std::path::{Path, PathBuf};

use strongroom::api::hex::hex;
use strongroom::api::secret::SecretText;
use strongroom::pki::{self, KeyType, Request};

use super::disk::{Disk, aside};
use super::failed;
use crate::exit::{Code, Failure};
use crate::files::read_file;

/// File beside a key that is in use and waits for its next certificate. Contains the fingerprint of its current one.
const KEPT: &str = "kept";

/// Whether a waiting key must not be used, decided by its fingerprint and the content of the file [`KEPT`].
pub type IsUsed<'a> = &'a dyn Fn(&[u8; 32], Option<&str>) -> bool;

/// A folder for one key that waits for its certificate.
pub struct Pending(PathBuf);

impl Pending {
    /// For the enrolment of `folder` with the string of this id. It is placed beside the folder, which does not exist
    /// yet.
    pub fn of_enrolment(folder: &Path, id: &[u8; 16]) -> Self {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        Self(folder.with_file_name(format!(".{name}.enroll-{}", hex(id))))
    }

    /// For the renewal of the bundle in `folder`.
    pub fn of_renewal(folder: &Path) -> Self {
        Self(folder.join(".pending"))
    }

    /// Returns the waiting key, or a new one of this type, which is on disk when this returns. A waiting key is not used
    /// again if `is_used` says that it is already in use. `is_used` gets the key's fingerprint and the certificate
    /// that [`Pending::keep`] recorded with it.
    ///
    /// # Errors
    /// The key cannot be generated or written.
    pub fn request(&self, kind: KeyType, is_used: IsUsed<'_>) -> Result<Request, Failure> {
        if let Some(waiting) = self.read(is_used) {
            return Ok(waiting);
        }
        let made = pki::request(kind).map_err(|error| Failure::new(Code::Refused, error.to_string(), ""))?;
        self.write(&made, None)?;
        Ok(made)
    }

    /// Returns the waiting key, or the given key again, which belongs to `certificate` (its fingerprint). The key that
    /// the next attempt uses is on disk when this returns. With any other key that attempt would look like a copied
    /// certificate.
    ///
    /// # Errors
    /// The key cannot request a certificate, or the file cannot be written.
    pub fn keep(&self, key_pem: SecretText, certificate: &[u8; 32], is_used: IsUsed<'_>) -> Result<Request, Failure> {
        if let Some(waiting) = self.read(is_used) {
            return Ok(waiting);
        }
        let csr_pem = pki::request_for(&key_pem)
            .map_err(|_| Failure::usage("a key of this type cannot request a certificate", "leave out --reuse-key"))?;
        let kept = Request { key_pem, csr_pem };
        self.write(&kept, Some(certificate))?;
        Ok(kept)
    }

    /// Removes the key from here. If that fails, a key is left that will not be used again.
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

/// Writes a new file with mode 0600. Never overwrites an existing one.
///
/// # Errors
/// It exists, or cannot be written.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    Disk::probed(&mut || Ok(())).write(path, bytes).map_err(|error| failed(path, &error))
}
