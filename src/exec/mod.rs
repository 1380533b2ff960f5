//! Builds the environment of a program that runs with secrets, and starts the program.
//!
//! Pure up to the last step: the child's environment is computed from values, so every rejection happens before
//! anything is started. [`ChildEnv::exec`] replaces this process, so the program has the original pid, terminal,
//! signals and exit status. The vault's own credentials never reach the child.

mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

pub use names::danger;

use crate::api::secret::SecretText;
use crate::dotenv::is_portable_name;

/// Longest `NAME=value` that Linux accepts for one variable, including its NUL (`MAX_ARG_STRLEN`).
pub const MAX_VARIABLE_BYTES: usize = 128 * 1024;

/// Choices of the caller.
#[derive(Debug, Clone, Default)]
pub struct ExecPolicy {
    /// Dangerous names that are allowed nevertheless.
    pub allow: Vec<String>,
    /// Start with an empty environment (except for [`names::BASIC`]) instead of ours.
    pub pristine: bool,
    /// Names for which the environment of this process takes precedence over the vault.
    pub keep: Vec<String>,
    /// Prefix of every name from the vault.
    pub prefix: String,
}

/// Why the program was not started. Never contains a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// A key that is not a portable name of a variable.
    #[error("{0:?} is not a variable name; rename the key, or leave it out with --only")]
    Name(String),
    /// A name that changes how programs load code.
    #[error("{name} {reason}; start it nevertheless with --allow {name}")]
    Dangerous {
        /// The name.
        name: String,
        /// What it does.
        reason: &'static str,
    },
    /// A value with a NUL byte.
    #[error(
        "the value of {0} contains a NUL byte, which an environment variable cannot hold; store it as base64, or remove the byte"
    )]
    Nul(String),
    /// A value larger than the system's limit.
    #[error("the value of {0} is larger than 128 KiB, the most one variable can hold; write it to a file instead")]
    TooLarge(String),
    /// No program was given.
    #[error("no program to run; write it after --")]
    NoProgram,
    /// The program does not exist.
    #[error("{0}: not found; check the spelling and PATH")]
    NotFound(String),
    /// The program cannot be executed.
    #[error("{0}: cannot be executed; check its mode (chmod +x) and its first line")]
    NotExecutable(String),
    /// The environment and the arguments together are too large.
    #[error("arguments and environment are larger than the system allows; select fewer keys with --only")]
    TooMuch,
    /// Another failure of the system.
    #[error("starting {program}: {source}")]
    System {
        /// The program.
        program: String,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
}

impl Value {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Inherited(value) => value.as_bytes(),
            Self::Secret(value) => value.reveal().as_bytes(),
        }
    }
}

/// Replaces this process with `argv`, keeping its environment. Returns only if that failed.
pub fn exec_as_is(argv: &[OsString]) -> ExecError {
    match argv.split_first() {
        Some((program, arguments)) => starting(argv, Command::new(program).args(arguments).exec()),
        None => ExecError::NoProgram,
    }
}

impl ExecError {
    /// The exit code that `env(1)` would use: 127 not found, 126 not executable, 125 rejected by us.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound(_) => 127,
            Self::NotExecutable(_) => 126,
            _ => 125,
        }
    }
}

/// The complete environment of a child, checked.
pub struct ChildEnv {
    variables: BTreeMap<OsString, Value>,
    warnings: Vec<String>,
}

enum Value {
    Inherited(OsString),
    Secret(SecretText),
}

impl ChildEnv {
    /// Merges the environment `parent` with `secrets`. The vault takes precedence, except for [`ExecPolicy::keep`].
    ///
    /// # Errors
    /// The name or value of a secret cannot be passed to a program; see [`ExecError`].
    pub fn build(
        parent: impl Iterator<Item = (OsString, OsString)>,
        secrets: &[(String, SecretText)],
        policy: &ExecPolicy,
    ) -> Result<Self, ExecError> {
        let mut variables = BTreeMap::new();
        for (name, value) in parent {
            let wanted = !policy.pristine || names::BASIC.iter().any(|basic| name == OsStr::new(basic));
            if wanted && !names::is_own_credential(&name) {
                variables.insert(name, Value::Inherited(value));
            }
        }
        let mut warnings = Vec::new();
        for (key, value) in secrets {
            let name = format!("{}{key}", policy.prefix);
            check(&name, value, policy)?;
            let place = OsString::from(&name);
            if let Some(Value::Inherited(before)) = variables.get(&place) {
                if policy.keep.contains(&name) {
                    continue;
                }
                if before.as_bytes() != value.reveal().as_bytes() {
                    warnings
                        .push(format!("{name} was set already; the vault's value is used (--keep {name} keeps yours)"));
                }
            }
            variables.insert(place, Value::Secret(SecretText::from(value.reveal())));
        }
        Ok(Self { variables, warnings })
    }

    /// Warnings for the user. They contain names but no values.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The names of the child's variables, sorted. For tests and for showing names.
    pub fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.variables.keys().map(OsString::as_os_str)
    }

    /// Replaces this process with `argv`. Returns only if that failed.
    pub fn exec(self, argv: &[OsString]) -> ExecError {
        match self.command(argv) {
            Ok(mut command) => starting(argv, command.exec()),
            Err(error) => error,
        }
    }

    /// Whether a child would get the same names and values from `other`.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let mine = self.variables.iter().map(|(name, value)| (name, value.bytes()));
        mine.eq(other.variables.iter().map(|(name, value)| (name, value.bytes())))
    }

    /// Starts `argv` as a child, for a caller that has to clean up afterwards.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(&self, argv: &[OsString]) -> Result<Child, ExecError> {
        let mut command = self.command(argv)?;
        command.spawn().map_err(|error| starting(argv, error))
    }

    fn command(&self, argv: &[OsString]) -> Result<Command, ExecError> {
        let (program, arguments) = argv.split_first().ok_or(ExecError::NoProgram)?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear();
        for (name, value) in &self.variables {
            match value {
                Value::Inherited(value) => command.env(name, value),
                Value::Secret(value) => command.env(name, value.reveal()),
            };
        }
        Ok(command)
    }
}

fn check(name: &str, value: &SecretText, policy: &ExecPolicy) -> Result<(), ExecError> {
    if !is_portable_name(name) {
        return Err(ExecError::Name(name.to_owned()));
    }
    if let Some(reason) = danger(name)
        && !policy.allow.iter().any(|allowed| allowed == name)
    {
        return Err(ExecError::Dangerous { name: name.to_owned(), reason });
    }
    if value.reveal().contains('\0') {
        return Err(ExecError::Nul(name.to_owned()));
    }
    if name.len() + value.reveal().len() + 2 > MAX_VARIABLE_BYTES {
        return Err(ExecError::TooLarge(name.to_owned()));
    }
    Ok(())
}

fn starting(argv: &[OsString], source: io::Error) -> ExecError {
    let program = argv.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
    match source.kind() {
        io::ErrorKind::NotFound => ExecError::NotFound(program),
        io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory => ExecError::NotExecutable(program),
        io::ErrorKind::ArgumentListTooLong => ExecError::TooMuch,
        _ if source.raw_os_error() == Some(ENOEXEC) => ExecError::NotExecutable(program),
        _ => ExecError::System { program, source },
    }
}

/// "Exec format error". std has no kind for it.
const ENOEXEC: i32 = 8;
