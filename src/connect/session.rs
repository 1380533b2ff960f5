//! One authenticated session with a PostgreSQL server behind blocking calls, and the meaning of its errors.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use rustls::CertificateError;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, Row};

use super::tls::Tls;
use super::{ConnectError, Credential, permanent, retry};

/// How long closing a session may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// The server of a session.
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) tls: Tls,
    /// Time limit of the whole login, and of each statement.
    pub(super) limit: Duration,
}

/// Why there is no session.
pub(super) enum LoginError {
    /// The server itself says that this login does not work (28P01, 28000).
    Refused,
    /// Any error that says nothing about the password.
    Other(ConnectError),
}

/// One session. Dropping it ends it.
pub(super) struct Session {
    // The order matters: dropping the client first lets the driver end.
    client: Option<Client>,
    driver: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
    limit: Duration,
}

impl Session {
    /// Logs in with TLS, SCRAM-SHA-256 and channel binding, and never with anything weaker. So a server that asks for
    /// no password (`trust`) is rejected too: it would not prove that the password works.
    ///
    /// # Errors
    /// [`LoginError::Refused`] when the server rejects the login; [`LoginError::Other`] for anything that says
    /// nothing about the login.
    pub(super) fn open(address: &Address, login: &Credential) -> Result<Self, LoginError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|_| {
            LoginError::Other(retry("a connection could not be started; free memory or file descriptors"))
        })?;
        let mut config = Config::new();
        config
            .user(login.user.as_str())
            .password(login.secret.reveal())
            .dbname(address.database.as_str())
            .application_name("strongroom")
            .ssl_mode(SslMode::Require)
            .channel_binding(ChannelBinding::Require);
        let connecting = async {
            let socket = TcpStream::connect((address.host.as_str(), address.port))
                .await
                .map_err(|error| LoginError::Other(unreachable(address, &error)))?;
            socket.set_nodelay(true).map_err(|error| LoginError::Other(unreachable(address, &error)))?;
            let (client, connection) =
                config.connect_raw(socket, address.tls.clone()).await.map_err(|error| login_error(address, &error))?;
            // An error of the connection reaches the client as the error of its statement.
            let driver = tokio::spawn(async move { drop(connection.await) });
            Ok((client, driver))
        };
        let opened = runtime.block_on(async { timeout(address.limit, connecting).await });
        match opened {
            Ok(Ok((client, driver))) => {
                Ok(Self { client: Some(client), driver: Some(driver), runtime: Some(runtime), limit: address.limit })
            }
            Ok(Err(error)) => {
                runtime.shutdown_background();
                Err(error)
            }
            Err(_) => {
                // Never wait for a name lookup that hangs.
                runtime.shutdown_background();
                Err(LoginError::Other(too_slow(address)))
            }
        }
    }

    /// Runs statements with the simple protocol and drops their rows.
    ///
    /// # Errors
    /// [`ConnectError`] when the server reports an error or does not answer. It names `doing`, what was being done.
    pub(super) fn batch(&self, sql: &str, doing: &str) -> Result<(), ConnectError> {
        self.within(doing, |client| client.batch_execute(sql))
    }

    /// Returns the rows of one statement with parameters.
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub(super) fn rows(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
        doing: &str,
    ) -> Result<Vec<Row>, ConnectError> {
        self.within(doing, |client| client.query(sql, parameters))
    }

    fn within<'a, T, F>(&'a self, doing: &str, statement: impl FnOnce(&'a Client) -> F) -> Result<T, ConnectError>
    where
        F: Future<Output = Result<T, Error>> + 'a,
    {
        let (Some(client), Some(runtime)) = (&self.client, &self.runtime) else {
            return Err(retry(format!("the session ended while {doing}; it will be tried again")));
        };
        let running = statement(client);
        // The server cancels its own statement first (`statement_timeout`), so that none takes effect after we gave up.
        match runtime.block_on(async { timeout(self.limit.saturating_add(GOODBYE), running).await }) {
            Ok(done) => done.map_err(|error| statement_error(&error, doing)),
            Err(_) => {
                Err(retry(format!("the database did not answer in time while {doing}; check it for locks and load")))
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.client.take());
        if let Some(runtime) = self.runtime.take() {
            if let Some(driver) = self.driver.take() {
                let _ended = runtime.block_on(async { timeout(GOODBYE, driver).await });
            }
            runtime.shutdown_background();
        }
    }
}

fn unreachable(address: &Address, error: &io::Error) -> ConnectError {
    retry(format!(
        "the database {}:{} is not reachable ({}); check that it runs, and check host and port of the target",
        address.host,
        address.port,
        error.kind()
    ))
}

fn too_slow(address: &Address) -> ConnectError {
    retry(format!(
        "the database {}:{} did not complete a login in {} s; check that it runs, or raise the time limit of the target",
        address.host,
        address.port,
        address.limit.as_secs()
    ))
}

/// Interprets a failed login.
fn login_error(address: &Address, error: &Error) -> LoginError {
    let Some(code) = error.code() else {
        return LoginError::Other(transport_error(address, error));
    };
    if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        return LoginError::Refused;
    }
    LoginError::Other(if passes_by_itself(code) {
        retry(format!(
            "the database {}:{} accepts no logins now ({}); wait, or check its log",
            address.host,
            address.port,
            code.code()
        ))
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        permanent(format!("the database {:?} does not exist; correct the database of the target", address.database))
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        permanent(format!("the role may not connect to the database {:?}; grant it CONNECT", address.database))
    } else {
        permanent(format!("the database rejected the login ({}); check its log", code.code()))
    })
}

/// Interprets a login that failed without an answer from the server.
fn transport_error(address: &Address, error: &Error) -> ConnectError {
    let mut io_error = None;
    let mut cause = error.source();
    while let Some(found) = cause {
        io_error = io_error.or_else(|| found.downcast_ref::<io::Error>());
        cause = found.source();
    }
    let tls = io_error.and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(tls) = tls {
        return tls_error(address, tls);
    }
    // The crate does not publish the kind of its errors, so these are the texts of the pinned version.
    match (error.to_string().as_str(), io_error) {
        ("authentication error", _) => permanent(
            "the server does not authenticate with SCRAM-SHA-256 with channel binding; set password_encryption to \
             scram-sha-256, set the password again, and use scram-sha-256 in pg_hba.conf",
        ),
        ("error performing TLS handshake", None) => permanent(format!(
            "the server {}:{} does not offer TLS, which is required; set ssl = on there",
            address.host, address.port
        )),
        (_, Some(io_error)) if io_error.kind() != io::ErrorKind::InvalidData => unreachable(address, io_error),
        ("connection closed", _) => unreachable(address, &io::Error::from(io::ErrorKind::UnexpectedEof)),
        _ => permanent(format!(
            "the server at {}:{} does not speak the PostgreSQL protocol; correct host and port of the target",
            address.host, address.port
        )),
    }
}

fn tls_error(address: &Address, error: &rustls::Error) -> ConnectError {
    let why = match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "is not signed by the authority of the target; correct the CA certificate of the target"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "names another host; correct the host of the target or issue a certificate with its name"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired; issue a new one",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "is not valid yet; check the clocks"
            }
            _ => "is rejected; issue one for server authentication with the host as alternative name",
        },
        rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(_) => {
            return permanent(format!(
                "{}:{} does not offer TLS 1.3; allow it there (ssl_max_protocol_version)",
                address.host, address.port
            ));
        }
        _ => {
            return permanent(format!(
                "the server at {}:{} violates the TLS protocol; correct host and port of the target",
                address.host, address.port
            ));
        }
    };
    permanent(format!("the certificate of {}:{} {why}", address.host, address.port))
}

/// Interprets a failed statement. The server's own text is left out, because an extension could quote anything in it.
fn statement_error(error: &Error, doing: &str) -> ConnectError {
    let Some(code) = error.code() else {
        return retry(format!("the connection broke while {doing}; check that the database runs"));
    };
    let text = code.code();
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        retry(format!("the database is a read-only standby ({text}); let the host of the target name the primary"))
    } else if passes_by_itself(code) {
        retry(format!("the database could not finish {doing} ({text}); check it for locks and load, and check its log"))
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        permanent(format!(
            "the administrator lacks the right for {doing} ({text}); grant it CREATEROLE (since PostgreSQL 16 with \
             ADMIN OPTION on the role), and pg_signal_backend for ending sessions"
        ))
    } else if *code == SqlState::UNDEFINED_OBJECT {
        permanent(format!("the role for {doing} does not exist ({text}); create it or correct the configuration"))
    } else if *code == SqlState::INVALID_PARAMETER_VALUE || text.starts_with("28") {
        permanent(format!(
            "the database rejects the new password while {doing} ({text}); check its password rules (passwordcheck \
             or similar) and adapt the generator"
        ))
    } else {
        permanent(format!("the database rejected {doing} ({text}); check its log"))
    }
}

/// Connection problems, lack of resources, shutting down, cancelled, locked, rolled back, system error.
fn passes_by_itself(code: &SqlState) -> bool {
    let text = code.code();
    ["08", "40", "53", "57", "58"].iter().any(|class| text.starts_with(class)) || *code == SqlState::LOCK_NOT_AVAILABLE
}
