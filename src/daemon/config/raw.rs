//! The configuration file as written: every key by name, and the range of each value. Unknown keys are rejected.

use crate::enroll::is_address;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::targets::RawTarget;
use super::approvals::RawApprovals;
use super::{ConfigError, Kdf, Limits, UnsealSource};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub trust_domain: String,
    pub data: Option<PathBuf>,
    pub listen: Option<String>,
    pub storage: Option<RawStorage>,
    pub unseal: Option<RawUnseal>,
    pub audit: Option<RawAudit>,
    pub tls: Option<RawTls>,
    pub limits: Option<RawLimits>,
    pub enroll: Option<RawEnroll>,
    pub log: Option<RawLog>,
    pub kdf: Option<RawKdf>,
    pub rotation: Option<RawRotation>,
    pub targets: Option<BTreeMap<String, RawTarget>>,
    pub approvals: Option<RawApprovals>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKdf {
    pub memory_mib: u32,
    pub passes: u32,
}

impl RawKdf {
    pub(super) fn check(self) -> Result<Kdf, ConfigError> {
        if !(64..=4096).contains(&self.memory_mib) {
            return Err(ConfigError::Value { key: "kdf.memory_mib", problem: "must be between 64 and 4096".into() });
        }
        if !(3..=64).contains(&self.passes) {
            return Err(ConfigError::Value { key: "kdf.passes", problem: "must be between 3 and 64".into() });
        }
        Ok(Kdf { memory_mib: self.memory_mib, passes: self.passes })
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRotation {
    pub rewrap_per_second: Option<u64>,
}

impl RawRotation {
    pub(super) fn check(self) -> Result<u64, ConfigError> {
        match self.rewrap_per_second {
            None => Ok(2_000),
            Some(rate) if (100..=1_000_000).contains(&rate) => Ok(rate),
            Some(_) => Err(ConfigError::Value {
                key: "rotation.rewrap_per_second",
                problem: "must be between 100 and 1000000".into(),
            }),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStorage {
    pub engine: Option<String>,
    pub anchor: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUnseal {
    pub key_file: Option<PathBuf>,
    pub key_file_credential: Option<String>,
    pub passphrase_credential: Option<String>,
    pub identities: Option<Vec<String>>,
}

impl RawUnseal {
    pub(super) fn source(self, base: &Path) -> Result<Option<UnsealSource>, ConfigError> {
        match (self.key_file, self.key_file_credential, self.passphrase_credential) {
            (None, None, None) => Ok(None),
            (Some(path), None, None) => Ok(Some(UnsealSource::KeyFile(base.join(path)))),
            (None, Some(name), None) => Ok(Some(UnsealSource::KeyFileCredential(name))),
            (None, None, Some(name)) => Ok(Some(UnsealSource::PassphraseCredential(name))),
            _ => Err(ConfigError::Value {
                key: "unseal",
                problem: "must name only one of key_file, key_file_credential, passphrase_credential".into(),
            }),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAudit {
    pub file: Option<PathBuf>,
    pub sync: Option<String>,
    pub paths: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub client_ca: Option<PathBuf>,
    pub ca: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub format: Option<String>,
    pub level: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub connections: Option<usize>,
    pub connections_per_identity: Option<usize>,
    pub body_bytes: Option<usize>,
    pub handshakes_per_source: Option<usize>,
    pub handshake_rate_per_source: Option<u32>,
    pub enrollments_per_identity: Option<usize>,
}

impl RawLimits {
    pub(super) fn check(self) -> Result<Limits, ConfigError> {
        let default = Limits::default();
        let within = |key, given: Option<usize>, default: usize, low: usize, high: usize| match given {
            None => Ok(default),
            Some(value) if (low..=high).contains(&value) => Ok(value),
            Some(_) => Err(ConfigError::Value { key, problem: format!("must be between {low} and {high}") }),
        };
        let rate = self.handshake_rate_per_source.unwrap_or(default.handshake_rate_per_source);
        if !(1..=100_000).contains(&rate) {
            let problem = "must be between 1 and 100000".into();
            return Err(ConfigError::Value { key: "limits.handshake_rate_per_source", problem });
        }
        let connections = within("limits.connections", self.connections, default.connections, 1, 1_000_000)?;
        Ok(Limits {
            connections,
            connections_per_identity: within(
                "limits.connections_per_identity",
                self.connections_per_identity,
                default.connections_per_identity,
                1,
                1_000_000,
            )?,
            body_bytes: within("limits.body_bytes", self.body_bytes, default.body_bytes, 4096, default.body_bytes)?,
            handshakes_per_source: within(
                "limits.handshakes_per_source",
                self.handshakes_per_source,
                default.handshakes_per_source.min(connections / 8).max(1),
                1,
                1_000_000,
            )?,
            handshake_rate_per_source: rate,
            enrollments_per_identity: within(
                "limits.enrollments_per_identity",
                self.enrollments_per_identity,
                default.enrollments_per_identity,
                1,
                100_000,
            )?,
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEnroll {
    pub listen: Option<String>,
    pub addresses: Option<Vec<String>>,
}

impl RawEnroll {
    /// Addresses for the enrolment strings: those given, or the listener's own address if other machines can reach it.
    pub(super) fn addresses(&self, listen: Option<SocketAddr>) -> Result<Vec<String>, ConfigError> {
        let Some(given) = &self.addresses else {
            let own = listen.filter(|address| !address.ip().is_unspecified() && address.port() != 0);
            return Ok(own.iter().map(ToString::to_string).collect());
        };
        if given.is_empty() || given.len() > 8 || !given.iter().all(|address| is_address(address)) {
            let problem = "must list one to eight names with ports, for example vault.example:8201".into();
            return Err(ConfigError::Value { key: "enroll.addresses", problem });
        }
        Ok(given.clone())
    }

    pub(super) fn check(&self, listen: SocketAddr) -> Result<Option<SocketAddr>, ConfigError> {
        let bad = |problem: &str| ConfigError::Value { key: "enroll.listen", problem: problem.into() };
        let Some(text) = &self.listen else { return Ok(None) };
        let address: SocketAddr =
            text.parse().map_err(|_| bad("must be an address with a port, for example 0.0.0.0:8201"))?;
        if address == listen && address.port() != 0 {
            return Err(bad("must differ from listen"));
        }
        Ok(Some(address))
    }
}
