//! The SCRAM-SHA-256 verifier as PostgreSQL stores it (RFC 5802, RFC 7677), so that a password is never sent to a
//! server.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::crypto::hash::{MacKey, sha256};
use crate::crypto::{CryptoError, Random};

/// Iterations of PBKDF2: the minimum of RFC 7677 and the default of PostgreSQL. Generated passwords need no more, and
/// every login pays for them.
const ITERATIONS: u32 = 4096;
const SALT_LEN: usize = 16;

/// Returns `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>` of `password` with a new salt. ASCII without
/// quotes.
///
/// # Errors
/// [`CryptoError::Random`] when the random source fails.
pub(super) fn verifier(password: &str, random: &dyn Random) -> Result<String, CryptoError> {
    let mut salt = [0; SALT_LEN];
    random.fill(&mut salt)?;
    Ok(verifier_with(password, &salt, ITERATIONS))
}

/// The same with the given salt.
pub(super) fn verifier_with(password: &str, salt: &[u8], iterations: u32) -> String {
    let salted = Zeroizing::new(pbkdf2(normalized(password).as_bytes(), salt, iterations));
    let salted = MacKey::from_bytes(&salted[..]);
    let client_key = Zeroizing::new(salted.mac(&[b"Client Key"]));
    let stored_key = sha256(&[&client_key[..]]);
    let server_key = salted.mac(&[b"Server Key"]);
    format!(
        "SCRAM-SHA-256${iterations}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored_key),
        STANDARD.encode(server_key)
    )
}

/// SASLprep (RFC 4013). A password that it forbids is used unchanged, as PostgreSQL does on both sides.
fn normalized(password: &str) -> Zeroizing<String> {
    Zeroizing::new(match stringprep::saslprep(password) {
        Ok(prepared) => Cow::into_owned(prepared),
        Err(_) => password.to_owned(),
    })
}

/// PBKDF2-HMAC-SHA-256 (RFC 8018), first block.
fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let key = MacKey::from_bytes(password);
    let mut block = Zeroizing::new(key.mac(&[salt, &1_u32.to_be_bytes()]));
    let mut sum = *block;
    for _ in 1..iterations {
        *block = key.mac(&[&block[..]]);
        for (sum, byte) in sum.iter_mut().zip(block.iter()) {
            *sum ^= byte;
        }
    }
    sum
}
