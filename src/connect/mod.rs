//! Connectors: they apply a rotated value outside the vault, and find out afterwards which value works there.
//!
//! The rotation machine stores a value durably before any call here, and records the result durably afterwards. A call
//! may be interrupted at any point. So every step can be repeated, and [`Connector::probe`] asks the target itself what
//! works instead of guessing. All calls block: make them on a thread that may block (`spawn_blocking`), never inside an
//! async task.

pub(crate) mod hook;
pub mod postgres;

mod child;
mod ident;
mod redact;
mod scram;
mod session;
mod step;
mod tls;

#[cfg(test)]
mod tests;

pub use step::{ConnectError, Connector, Credential, Live, Step};

use step::{permanent, retry};

/// Where the vault stores the login that may change other logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminPlace {
    /// Full path of the secret with its mount: `secret/infra/orders-admin`.
    pub path: String,
    /// Key in the secret that holds the login name.
    pub user_key: String,
    /// Key in the secret that holds the password.
    pub password_key: String,
}

/// A target in the configuration. Nothing else can be reached.
pub trait Target: Send + Sync {
    /// The login that is needed to open it.
    fn admin(&self) -> Option<&AdminPlace>;

    /// How many logins take turns: two, one, or none when its values have no login.
    fn logins(&self) -> usize;

    /// Whether new values can be applied to it.
    fn applies(&self) -> bool {
        true
    }

    /// Whether it generates new values.
    fn generates(&self) -> bool {
        false
    }

    /// Creates the connector for one rotation without contacting the target.
    ///
    /// # Errors
    /// [`ConnectError::Permanent`] when the configuration is wrong or `admin` is missing.
    fn open(&self, admin: Option<Credential>) -> Result<Box<dyn Connector>, ConnectError>;
}

/// A database and the place of its administrator's login.
pub struct PostgresEntry {
    /// The database.
    pub target: postgres::PostgresTarget,
    /// The place of its administrator's login.
    pub admin: AdminPlace,
}

impl Target for PostgresEntry {
    fn logins(&self) -> usize {
        match self.target.roles {
            postgres::Roles::Pair(_) => 2,
            postgres::Roles::Single(_) => 1,
        }
    }

    fn admin(&self) -> Option<&AdminPlace> {
        Some(&self.admin)
    }

    fn open(&self, admin: Option<Credential>) -> Result<Box<dyn Connector>, ConnectError> {
        let place = &self.admin.path;
        let admin =
            admin.ok_or_else(|| permanent(format!("there is no administrator's login at {place}; store it there")))?;
        Ok(Box::new(postgres::Postgres::new(self.target.clone(), admin)?))
    }
}

impl Target for hook::HookTarget {
    fn logins(&self) -> usize {
        0
    }

    fn applies(&self) -> bool {
        self.apply.is_some()
    }

    fn generates(&self) -> bool {
        self.generate.is_some()
    }

    fn admin(&self) -> Option<&AdminPlace> {
        None
    }

    fn open(&self, _: Option<Credential>) -> Result<Box<dyn Connector>, ConnectError> {
        Ok(Box::new(hook::Hook::new(self.clone())?))
    }
}
