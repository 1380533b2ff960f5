//! `[targets.NAME]` of the configuration: where a rotated value is applied. The API can name a target but never create
//! one, because an API that names programs or hosts is a way to run code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::config::ConfigError;
use crate::connect::hook::HookTarget;
use crate::connect::postgres::{PostgresTarget, Roles};
use crate::connect::{AdminPlace, PostgresEntry, Target};
use crate::rotate::is_target_name;

const DEFAULT_TIMEOUT_S: u64 = 30;

/// One target as the file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum RawTarget {
    /// A PostgreSQL database.
    Postgres {
        /// DNS name or address. The server's certificate must contain it.
        host: String,
        /// TCP port.
        port: Option<u16>,
        /// Database to log in to.
        database: String,
        /// PEM file with the authorities that may sign the server's certificate.
        ca: PathBuf,
        /// Two roles that take turns.
        roles: Option<Vec<String>>,
        /// One role, with a short outage at each rotation.
        role: Option<String>,
        /// Secret with the login that may change the roles, for example `secret/infra/orders-admin`.
        admin: String,
        /// Key in that secret that holds the login name.
        admin_user_key: Option<String>,
        /// Key in that secret that holds the password.
        admin_password_key: Option<String>,
        /// Time limit for one login and one statement, in seconds.
        timeout: Option<u64>,
        /// A role that the new login must be a member of.
        member_of: Option<String>,
        /// Remove the old role's password when its grace period ends.
        lock_old: Option<bool>,
        /// End the old role's sessions when its grace period ends.
        terminate_old_sessions: Option<bool>,
    },
    /// Programs that are run as hooks.
    Hook {
        /// Prints a new value: absolute path, then arguments.
        generate: Option<Vec<String>>,
        /// Makes the new value valid.
        apply: Option<Vec<String>>,
        /// Checks the new value by using it.
        verify: Option<Vec<String>>,
        /// Makes the old one valid again.
        revert: Option<Vec<String>>,
        /// Invalidates the old value.
        revoke_old: Option<Vec<String>>,
        /// Time limit of each run, in seconds.
        timeout: Option<u64>,
        /// The old value stays valid after `apply`.
        overlap: Option<bool>,
        /// User id to run as.
        uid: Option<u32>,
        /// Group id to run as.
        gid: Option<u32>,
    },
}

/// Checks the names. Opens nothing.
///
/// # Errors
/// [`ConfigError::Value`] when a name is not allowed.
pub fn check(raw: Option<BTreeMap<String, RawTarget>>) -> Result<BTreeMap<String, RawTarget>, ConfigError> {
    let raw = raw.unwrap_or_default();
    match raw.keys().find(|name| !is_target_name(name)) {
        None => Ok(raw),
        Some(name) => Err(ConfigError::Value {
            key: "targets",
            problem: format!("{name:?}: a name must be 1 to 64 characters of a-z, 0-9, - and _"),
        }),
    }
}

/// Opens the targets of the file. Reads certificates and checks programs now, so that a mistake shows at the start and
/// not at the first rotation.
///
/// # Errors
/// [`ConfigError::Value`] with the target and what is wrong with it.
pub fn open(
    raw: &BTreeMap<String, RawTarget>,
    base: &Path,
) -> Result<BTreeMap<String, std::sync::Arc<dyn Target>>, ConfigError> {
    let mut targets: BTreeMap<String, std::sync::Arc<dyn Target>> = BTreeMap::new();
    for (name, target) in raw {
        let wrong = |problem: String| ConfigError::Value { key: "targets", problem: format!("{name}: {problem}") };
        let opened: std::sync::Arc<dyn Target> = match target.clone() {
            RawTarget::Postgres { roles, role, ca, port, timeout, .. } => {
                let roles = match (roles, role) {
                    (Some(pair), None) => Roles::Pair(pair.try_into().map_err(|_| {
                        wrong("roles must name exactly two roles, for example [\"app_a\", \"app_b\"]".into())
                    })?),
                    (None, Some(role)) => Roles::Single(role),
                    _ => return Err(wrong("name either roles = [two] or role = \"one\"".into())),
                };
                let path = base.join(ca);
                let ca_pem =
                    std::fs::read_to_string(&path).map_err(|error| wrong(format!("ca {}: {error}", path.display())))?;
                std::sync::Arc::new(postgres(target.clone(), roles, ca_pem, port, timeout))
            }
            RawTarget::Hook { generate, apply, verify, revert, revoke_old, timeout, overlap, uid, gid } => {
                std::sync::Arc::new(HookTarget {
                    generate,
                    apply,
                    verify,
                    revert,
                    revoke_old,
                    timeout_s: timeout.unwrap_or(DEFAULT_TIMEOUT_S),
                    overlap: overlap.unwrap_or(false),
                    uid,
                    gid,
                })
            }
        };
        // The login of a database's administrator is in the vault, which is still sealed. Everything else can be
        // checked now.
        if opened.admin().is_none() {
            opened.open(None).map_err(|error| wrong(error.to_string()))?;
        }
        targets.insert(name.clone(), opened);
    }
    Ok(targets)
}

fn postgres(raw: RawTarget, roles: Roles, ca_pem: String, port: Option<u16>, timeout: Option<u64>) -> PostgresEntry {
    let RawTarget::Postgres {
        host,
        database,
        admin,
        admin_user_key,
        admin_password_key,
        member_of,
        lock_old,
        terminate_old_sessions,
        ..
    } = raw
    else {
        unreachable!("called for databases only")
    };
    PostgresEntry {
        target: PostgresTarget {
            host,
            port: port.unwrap_or(5432),
            database,
            ca_pem,
            roles,
            connect_timeout_s: timeout.unwrap_or(DEFAULT_TIMEOUT_S),
            privilege_check: member_of,
            lock_old: lock_old.unwrap_or(false),
            terminate_old_sessions: terminate_old_sessions.unwrap_or(false),
        },
        admin: AdminPlace {
            path: admin,
            user_key: admin_user_key.unwrap_or_else(|| "username".to_owned()),
            password_key: admin_password_key.unwrap_or_else(|| "password".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BTreeMap<String, RawTarget>, String> {
        let raw: BTreeMap<String, RawTarget> = toml::from_str(text).map_err(|error| error.to_string())?;
        check(Some(raw)).map_err(|error| error.to_string())
    }

    #[test]
    fn targets_are_read_and_bad_ones_named() {
        let hook = parse("[pager]\ntype = 'hook'\napply = ['/bin/true']\ntimeout = 5").expect("read");
        assert!(open(&hook, Path::new("/")).is_ok());
        let maker = parse("[mint]\ntype = 'hook'\ngenerate = ['/bin/mint', '-1']").expect("read");
        let mint = open(&maker, Path::new("/")).expect("opened").remove("mint").expect("listed");
        assert!(mint.generates() && !mint.applies());
        let pair = "[orders]\ntype = 'postgres'\nhost = 'db'\ndatabase = 'orders'\nca = 'ca.pem'\nadmin = 'secret/x'\n";
        for (text, part) in [
            ("[Orders]\ntype = 'hook'\napply = ['/bin/true']".to_owned(), "a name must be"),
            ("[x]\ntype = 'shell'".to_owned(), "shell"),
            ("[x]\ntype = 'hook'\napply = ['/bin/true']\ncolour = 1".to_owned(), "colour"),
        ] {
            let error = parse(&text).expect_err(&text);
            assert!(error.contains(part), "{error}");
        }
        for (text, part) in [
            (pair.to_owned(), "name either roles"),
            ("[x]\ntype = 'hook'".to_owned(), "neither an apply nor a generate"),
            ("[x]\ntype = 'hook'\ngenerate = ['x']".to_owned(), "generate command must start with the absolute path"),
            (format!("{pair}roles = ['a']"), "exactly two"),
            (format!("{pair}roles = ['a', 'b']"), "ca.pem"),
            ("[x]\ntype = 'hook'\napply = ['true']".to_owned(), "absolute path"),
            ("[x]\ntype = 'hook'\napply = ['/bin/true']\ntimeout = 0".to_owned(), "time limit"),
        ] {
            let error = open(&parse(&text).expect("read"), Path::new("/nowhere")).err().expect("refused").to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
