//! Key pairs. The value is PKCS#8 in PEM (RFC 5958, RFC 7468), the public half SPKI in PEM.

use std::net::IpAddr;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{GenerateError, Generated};
use crate::api::duration::Ttl;
use crate::api::secret::SecretText;
use crate::api::spiffe::SpiffeId;
use crate::crypto::random::Random;
use crate::rotate::span;
use crate::wiped::Buffer;

/// Options of `ed25519`: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ed25519 {}

/// A curve of FIPS 186-5.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Curve {
    /// secp256r1.
    #[default]
    P256,
    /// secp384r1.
    P384,
}

/// Options of `ecdsa`: one curve, P-256 by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ecdsa {
    /// The curve.
    pub curve: Curve,
}

/// Size of an RSA modulus. In JSON it is a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum RsaBits {
    /// 2,048 bits.
    Bits2048,
    /// 3,072 bits.
    #[default]
    Bits3072,
    /// 4,096 bits.
    Bits4096,
}

impl TryFrom<u32> for RsaBits {
    type Error = &'static str;

    fn try_from(bits: u32) -> Result<Self, Self::Error> {
        match bits {
            2_048 => Ok(Self::Bits2048),
            3_072 => Ok(Self::Bits3072),
            4_096 => Ok(Self::Bits4096),
            _ => Err("generator.bits: an rsa key has 2048, 3072 or 4096 bits"),
        }
    }
}

impl From<RsaBits> for u32 {
    fn from(bits: RsaBits) -> Self {
        match bits {
            RsaBits::Bits2048 => 2_048,
            RsaBits::Bits3072 => 3_072,
            RsaBits::Bits4096 => 4_096,
        }
    }
}

/// Options of `rsa`: one size, 3,072 bits by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rsa {
    /// Size of the modulus.
    pub bits: RsaBits,
}

/// Options of `certificate`: what to request from the vault's own authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Common name, for clients that still use it; at most 64 characters (RFC 5280, `ub-common-name`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// Alternative names: DNS names (`*.` is allowed in front), IP addresses, SPIFFE URIs; at most 100.
    #[serde(default)]
    pub sans: Vec<String>,
    /// Life of the certificate, 60 seconds to 10 years.
    #[serde(with = "span")]
    pub ttl: Ttl,
}

impl Certificate {
    /// See [`Generator::check`](super::Generator::check).
    pub(super) fn check(&self) -> Result<(), GenerateError> {
        if self.common_name.is_none() && self.sans.is_empty() {
            return Err(GenerateError::Nameless);
        }
        let common =
            |name: &String| (1..=64).contains(&name.len()) && name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !self.common_name.as_ref().is_none_or(common) {
            return Err(GenerateError::Name("common_name"));
        }
        if self.sans.len() > 100 || !self.sans.iter().all(|name| is_alternative_name(name)) {
            return Err(GenerateError::Name("sans"));
        }
        if !(60..=10 * 366 * 86_400).contains(&self.ttl.0) {
            return Err(GenerateError::Ttl);
        }
        Ok(())
    }
}

fn is_alternative_name(name: &str) -> bool {
    if name.contains("://") {
        return SpiffeId::parse(name).is_ok();
    }
    name.parse::<IpAddr>().is_ok() || is_dns_name(name.strip_prefix("*.").unwrap_or(name))
}

/// RFC 1123 section 2.1: labels of letters, digits and inner hyphens. Some clients would read a last label of digits
/// only as an address.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253
        && name.split('.').all(label)
        && name.rsplit('.').next().is_some_and(|last| !last.bytes().all(|byte| byte.is_ascii_digit()))
}

/// RFC 7468: base64 in lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> Result<Zeroizing<String>, GenerateError> {
    let mut body = Zeroizing::new(vec![0u8; der.len().div_ceil(3) * 4]);
    let length = STANDARD.encode_slice(der, &mut body).map_err(|_| GenerateError::KeyPair)?;
    let body = body.get(..length).ok_or(GenerateError::KeyPair)?;
    let mut text = Buffer::with_capacity(length + length / 64 + 2 * label.len() + 64);
    text.text("-----BEGIN ").text(label).text("-----\n");
    for line in body.chunks(64) {
        text.put(line).push(b'\n');
    }
    text.text("-----END ").text(label).text("-----\n");
    Ok(text.into_text())
}

fn generated(private: &[u8], public: &[u8]) -> Result<Generated, GenerateError> {
    let value = SecretText::from(pem("PRIVATE KEY", private)?.as_str());
    let public = String::from(pem("PUBLIC KEY", public)?.as_str());
    Ok(Generated { value, public: Some(public) })
}

/// Generates a pair from a seed drawn from `random` (RFC 8032 section 5.1.5). The PKCS#8 has version 1, which every
/// reader understands.
pub(super) fn ed25519(random: &dyn Random) -> Result<Generated, GenerateError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    random.fill(&mut *seed).map_err(|_| GenerateError::Random)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| GenerateError::KeyPair)?;
    let private = pair.to_pkcs8v1().map_err(|_| GenerateError::KeyPair)?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| GenerateError::KeyPair)?;
    let mut made = generated(private.as_ref(), public.as_ref())?;
    if let Some(text) = &mut made.public {
        text.push_str(&openssh_line(pair.public_key().as_ref()));
    }
    Ok(made)
}

/// The public key as a line for `authorized_keys` (RFC 8709 section 4: two strings, each after its length).
fn openssh_line(key: &[u8]) -> String {
    const NAME: &str = "ssh-ed25519";
    let mut blob = Vec::with_capacity(8 + NAME.len() + key.len());
    for part in [NAME.as_bytes(), key] {
        blob.extend_from_slice(&u32::try_from(part.len()).expect("a name and a key of 32 bytes").to_be_bytes());
        blob.extend_from_slice(part);
    }
    format!("{NAME} {}\n", STANDARD.encode(blob))
}

pub(super) fn ecdsa(curve: Curve) -> Result<Generated, GenerateError> {
    let algorithm = match curve {
        Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
        Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
    };
    let pair = EcdsaKeyPair::generate(algorithm).map_err(|_| GenerateError::KeyPair)?;
    let private = pair.to_pkcs8v1().map_err(|_| GenerateError::KeyPair)?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| GenerateError::KeyPair)?;
    generated(private.as_ref(), public.as_ref())
}

pub(super) fn rsa(bits: RsaBits) -> Result<Generated, GenerateError> {
    let size = match bits {
        RsaBits::Bits2048 => KeySize::Rsa2048,
        RsaBits::Bits3072 => KeySize::Rsa3072,
        RsaBits::Bits4096 => KeySize::Rsa4096,
    };
    let pair = aws_lc_rs::rsa::KeyPair::generate(size).map_err(|_| GenerateError::KeyPair)?;
    let private: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| GenerateError::KeyPair)?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| GenerateError::KeyPair)?;
    generated(private.as_ref(), public.as_ref())
}
