//! The connector for PostgreSQL: sets the password of a role, or by default of two roles in turn.
//!
//! The server never receives a plaintext password: `ALTER ROLE` carries a SCRAM verifier that is computed here, and
//! logins use SCRAM. During a login the client library holds a copy of the password, which it does not wipe.

use std::time::Duration;

use super::ident::{check_role, quote};
use super::session::{Address, LoginError, Session};
use super::tls::Tls;
use super::{ConnectError, Connector, Credential, Live, Step, permanent, retry, scram};
use crate::crypto::random::SystemRandom;

/// Which roles take turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roles {
    /// Two roles with equal rights. The unused one is changed, so the current password never stops working.
    Pair([String; 2]),
    /// One role. The old password fails from the change until readers fetch the new one.
    Single(String),
}

impl Roles {
    fn names(&self) -> &[String] {
        match self {
            Self::Pair(pair) => pair,
            Self::Single(role) => std::slice::from_ref(role),
        }
    }
}

/// The database and the roles to rotate, as configured.
#[derive(Debug, Clone)]
pub struct PostgresTarget {
    /// DNS name or address. The server's certificate must carry it, even for `localhost`.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database to log in to.
    pub database: String,
    /// Authorities that may sign the server's certificate, PEM. Every connection uses TLS.
    pub ca_pem: String,
    /// The roles whose password is rotated.
    pub roles: Roles,
    /// Time limit for one login and for one statement in seconds, 1 to 300.
    pub connect_timeout_s: u64,
    /// Name of a role that the new login must be a member of. Checked after each change.
    pub privilege_check: Option<String>,
    /// After the grace period, remove the password of the role in the pair that the current login does not use.
    /// Otherwise the old password works until the next rotation.
    pub lock_old: bool,
    /// After the grace period, end the sessions of the old role. With one role this ends all its sessions, and the
    /// applications log in again.
    pub terminate_old_sessions: bool,
}

/// The connector for PostgreSQL (12 and later, TLS 1.3, SCRAM-SHA-256 with channel binding).
pub struct Postgres {
    address: Address,
    roles: Roles,
    privilege_check: Option<String>,
    lock_old: bool,
    terminate_old_sessions: bool,
    admin: Credential,
}

impl Postgres {
    /// Checks the target without contacting it. `admin` must be able to change the passwords of the roles, and must not
    /// be one of them.
    ///
    /// # Errors
    /// [`ConnectError::Permanent`]: a role name or CA certificate is unusable, the roles are equal, the administrator
    /// is one of them, or the time limit is outside 1 to 300 seconds.
    pub fn new(target: PostgresTarget, admin: Credential) -> Result<Self, ConnectError> {
        let PostgresTarget { host, port, database, ca_pem, roles, connect_timeout_s, privilege_check, .. } = target;
        for role in roles.names().iter().chain(privilege_check.as_ref()).chain([&admin.user]) {
            check_role(role)?;
        }
        if matches!(&roles, Roles::Pair([a, b]) if a == b) {
            return Err(permanent("the two roles of the target are the same; name two different ones"));
        }
        // After such a rotation the configuration would hold an old password, and no later rotation could log in.
        if roles.names().contains(&admin.user) {
            return Err(permanent(
                "the administrator is one of the rotated roles; give the target its own administrator",
            ));
        }
        if database.is_empty() || database.contains('\0') {
            return Err(permanent("the target has no database; name one in the configuration"));
        }
        if !(1..=300).contains(&connect_timeout_s) {
            return Err(permanent(
                "the time limit of the target must be 1 to 300 seconds; correct it in the configuration",
            ));
        }
        let tls = Tls::new(&host, &ca_pem)?;
        let limit = Duration::from_secs(connect_timeout_s);
        Ok(Self {
            address: Address { host, port, database, tls, limit },
            roles,
            privilege_check,
            lock_old: target.lock_old,
            terminate_old_sessions: target.terminate_old_sessions,
            admin,
        })
    }

    /// Opens a session of the administrator, with settings that no default of the server or role can weaken.
    fn administrator(&self) -> Result<Session, ConnectError> {
        let session = Session::open(&self.address, &self.admin).map_err(|error| match error {
            LoginError::Refused => permanent(
                "the database rejects the administrator's login; correct its name and password in the \
                 configuration, and its line in pg_hba.conf",
            ),
            LoginError::Other(error) => error,
        })?;
        // A statement that outlives this session could undo what follows. An asynchronous commit could be lost after it
        // was reported as done. Settings stricter than "on" are kept.
        let settings = format!(
            "SET search_path = pg_catalog; SET statement_timeout = {0}; SET lock_timeout = {0}; \
             SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
            self.address.limit.as_millis()
        );
        session.batch(&settings, "preparing the session of the administrator")?;
        Ok(session)
    }

    /// Sets the password of a role by its verifier.
    fn set_password(&self, admin: &Session, login: &Credential) -> Result<(), ConnectError> {
        self.check_ours(&login.user)?;
        if login.secret.reveal().is_empty() {
            return Err(permanent("the password is empty; correct the generator of the policy"));
        }
        let verifier = scram::verifier(login.secret.reveal(), &SystemRandom)
            .map_err(|_| retry("the system's random source failed; check the system"))?;
        // The verifier consists of base64 characters and `-$:`, so it needs no escaping.
        let sql = format!("ALTER ROLE {} PASSWORD '{verifier}'", quote(&login.user));
        admin.batch(&sql, &format!("setting the password of the role {:?}", login.user))
    }

    /// Removes the password of a role, which then cannot log in with any.
    fn remove_password(&self, admin: &Session, role: &str) -> Result<(), ConnectError> {
        self.check_ours(role)?;
        let sql = format!("ALTER ROLE {} PASSWORD NULL", quote(role));
        admin.batch(&sql, &format!("removing the password of the role {role:?}"))
    }

    /// Rejects every role that the configuration does not list. The error does not name it: it is read from the secret, and
    /// the rotation policy may name any field as the login.
    fn check_ours(&self, role: &str) -> Result<(), ConnectError> {
        if self.roles.names().iter().any(|name| name == role) {
            return Ok(());
        }
        Err(permanent(
            "the login in the secret is not a role of the target; correct the roles in the configuration, or the login",
        ))
    }

    /// The role with the old login: of a pair, the role that the current login does not use. `None` when the current
    /// login uses neither.
    fn old_role(&self, step: &Step<'_>) -> Option<&String> {
        match (&self.roles, step.current) {
            (Roles::Single(role), _) => Some(role),
            (Roles::Pair([a, b]), Some(current)) if current.user == *a => Some(b),
            (Roles::Pair([a, b]), Some(current)) if current.user == *b => Some(a),
            (Roles::Pair(_), _) => None,
        }
    }

    /// Whether a login works.
    fn works(&self, login: &Credential) -> Result<bool, ConnectError> {
        match Session::open(&self.address, login) {
            Ok(_session) => Ok(true),
            Err(LoginError::Refused) => Ok(false),
            Err(LoginError::Other(error)) => Err(error),
        }
    }

    /// Rejects a role that could not log in with any password, before anything is changed.
    fn check_can_log_in(admin: &Session, role: &str) -> Result<(), ConnectError> {
        let sql = "SELECT rolcanlogin, coalesce(rolvaliduntil <= now(), false) FROM pg_roles WHERE rolname::text = $1";
        let rows = admin.rows(sql, &[&role], &format!("looking up the role {role:?}"))?;
        let Some(row) = rows.first() else {
            return Err(permanent(format!("the role {role:?} does not exist; create it or correct the configuration")));
        };
        match (row.try_get::<_, bool>(0), row.try_get::<_, bool>(1)) {
            (Ok(true), Ok(false)) => Ok(()),
            (Ok(false), _) => Err(permanent(format!("the role {role:?} may not log in; run ALTER ROLE with LOGIN"))),
            (_, Ok(true)) => Err(permanent(format!(
                "the password of the role {role:?} has expired; run ALTER ROLE with VALID UNTIL"
            ))),
            _ => Err(permanent(
                "the table pg_roles has an unknown form; check whether this PostgreSQL version is supported",
            )),
        }
    }

    /// The staged credential, if this target may set it.
    fn staged<'a>(&self, step: &Step<'a>) -> Result<&'a Credential, ConnectError> {
        let staged = step.staged.ok_or_else(|| permanent("there is no staged value; start the rotation again"))?;
        self.check_ours(&staged.user)?;
        let live = step.current.is_some_and(|current| current.user == staged.user);
        if live && matches!(self.roles, Roles::Pair(_)) {
            return Err(permanent(format!(
                "the staged value is for the role {:?}, which is in use; abort this rotation and start a new one",
                staged.user
            )));
        }
        Ok(staged)
    }
}

impl Connector for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn overlap(&self) -> bool {
        matches!(self.roles, Roles::Pair(_))
    }

    fn next_user(&self, current: Option<&str>) -> Result<String, ConnectError> {
        Ok(match &self.roles {
            Roles::Single(role) => role.clone(),
            // On the first rotation the current login may be outside the pair. Then both roles are free.
            Roles::Pair([a, b]) => if current == Some(a) { b } else { a }.clone(),
        })
    }

    fn apply(&self, step: &Step<'_>) -> Result<(), ConnectError> {
        let staged = self.staged(step)?;
        let admin = self.administrator()?;
        Self::check_can_log_in(&admin, &staged.user)?;
        self.set_password(&admin, staged)
    }

    fn verify(&self, step: &Step<'_>) -> Result<(), ConnectError> {
        let staged = self.staged(step)?;
        let session = Session::open(&self.address, staged).map_err(|error| match error {
            LoginError::Refused => permanent(format!(
                "the database rejects the new password of the role {:?}; probe, then apply again or abort",
                staged.user
            )),
            LoginError::Other(error) => error,
        })?;
        let doing = "verifying the new login";
        let rows = session.rows("SELECT 1, current_user::text", &[], doing)?;
        let row = rows.first();
        let one = row.and_then(|row| row.try_get::<_, i32>(0).ok());
        let user = row.and_then(|row| row.try_get::<_, String>(1).ok());
        // A pooler or a map can log in as another role with the right password. Then the value would not do what it is
        // for.
        if one != Some(1) || user.as_deref() != Some(staged.user.as_str()) {
            return Err(permanent(format!(
                "the new login does not become the role {:?}; check connection poolers and pg_ident maps",
                staged.user
            )));
        }
        if let Some(group) = &self.privilege_check {
            let rows = session.rows("SELECT pg_has_role(current_user, $1::text::name, 'MEMBER')", &[group], doing)?;
            if rows.first().and_then(|row| row.try_get::<_, bool>(0).ok()) != Some(true) {
                return Err(permanent(format!(
                    "the role {:?} is not a member of {group:?}; grant it, then try again",
                    staged.user
                )));
            }
        }
        Ok(())
    }

    fn probe(&self, step: &Step<'_>) -> Result<Live, ConnectError> {
        let candidates = [(step.staged, Live::Staged), (step.current, Live::Current), (step.previous, Live::Previous)];
        for (login, live) in candidates {
            if let Some(login) = login
                && self.works(login)?
            {
                return Ok(live);
            }
        }
        Ok(Live::Nothing)
    }

    /// Makes the current credential work, then removes the staged one (in a pair: back to the previous password, or to
    /// none). Without a current credential there is nothing to go back to, and the role stays as it is.
    fn revert(&self, step: &Step<'_>) -> Result<(), ConnectError> {
        let Some(current) = step.current else { return Ok(()) };
        let mut admin = None;
        // The current login comes first: whatever happens afterwards, one login works.
        if !self.works(current)? {
            let session = self.administrator()?;
            self.set_password(&session, current)?;
            if !self.works(current)? {
                return Err(permanent(format!(
                    "the role {:?} cannot log in although its password was restored; check LOGIN, VALID UNTIL and \
                     pg_hba.conf",
                    current.user
                )));
            }
            admin = Some(session);
        }
        let Some(staged) = step.staged.filter(|staged| staged.user != current.user) else { return Ok(()) };
        let admin = match admin {
            Some(session) => session,
            None => self.administrator()?,
        };
        match step.previous.filter(|previous| previous.user == staged.user) {
            Some(previous) => self.set_password(&admin, previous),
            None => self.remove_password(&admin, &staged.user),
        }
    }

    /// Does what the target asks for (`lock_old`, `terminate_old_sessions`) and nothing else. Otherwise the old
    /// password of a pair ends with the next rotation, and that of a single role has ended already.
    ///
    /// The old role of a pair is the one that the current login does not use. The previous version does not decide
    /// this: it may be pruned, deleted or destroyed, and its password would continue to work.
    fn revoke_old(&self, step: &Step<'_>) -> Result<Option<String>, ConnectError> {
        if !self.lock_old && !self.terminate_old_sessions {
            return Ok(None);
        }
        let Some(old) = self.old_role(step) else {
            return Ok(Some(
                "no old role was locked: the current login is not one of the target's roles; lock the leaked role by \
                 hand"
                    .to_owned(),
            ));
        };
        let admin = self.administrator()?;
        // A later rotation may have staged a value for this role already. It must not be removed.
        let staged = step.staged.is_some_and(|staged| staged.user == *old);
        if self.lock_old && !staged && self.overlap() {
            self.remove_password(&admin, old)?;
        }
        if self.terminate_old_sessions {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE usename::text = $1 AND pid <> pg_backend_pid()";
            admin.rows(sql, &[&old], &format!("ending the old sessions of the role {old:?}"))?;
        }
        // A role that the configuration does not list is never changed, and the result says so. Its name comes from the
        // secret, so it stays out of the text.
        let foreign = step.previous.is_some_and(|previous| !self.roles.names().contains(&previous.user));
        Ok(foreign.then(|| {
            "the login in the previous version is not one of the target's roles and was not changed; lock it by hand"
                .to_owned()
        }))
    }
}
