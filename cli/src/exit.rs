//! Exit codes, and the error that carries one. `docs/cli.md` has the table.

use serde::Serialize;
use strongroom::api::error::{ErrorCode, Reason};
use strongroom::client::ClientError;
use strongroom::dotenv::{DotenvError, WriteError};
use strongroom::exec::ExecError;

/// Why the command failed, as an exit code and a machine-readable word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 1: rejected, or the answer to a question is no.
    Refused,
    /// 2: wrong usage or settings.
    Usage,
    /// 3: the vault is sealed.
    Sealed,
    /// 4: no such path, key or version.
    NotFound,
    /// 5: the policies of this certificate do not allow it.
    Denied,
    /// 6: the server cannot be reached, or not securely.
    Unreachable,
    /// 7: someone else changed it first.
    Conflict,
    /// 8: other operators must approve it first.
    Approval,
    /// Exit code of `run` before the program is started: 125, 126 or 127.
    Exec(u8),
}

impl Code {
    /// The number for the shell.
    pub fn number(self) -> u8 {
        match self {
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Sealed => 3,
            Self::NotFound => 4,
            Self::Denied => 5,
            Self::Unreachable => 6,
            Self::Conflict => 7,
            Self::Approval => 8,
            Self::Exec(code) => code,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Usage => "usage",
            Self::Sealed => "sealed",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Unreachable => "unreachable",
            Self::Conflict => "conflict",
            Self::Approval => "approval",
            Self::Exec(_) => "exec",
        }
    }
}

/// A failed command: what happened, and what to try next. Never contains a secret.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub code: Code,
    /// What happened.
    pub message: String,
    /// What to try; may be empty.
    pub hint: String,
    /// Id of the request that waits for approval.
    pub approval: Option<String>,
}

impl Failure {
    /// A failure with a next step.
    pub fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into(), approval: None }
    }

    /// Wrong usage.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Code::Usage, message, hint)
    }

    /// Converts the failure for `run`: nothing was started, so the code is one that `env(1)` uses.
    pub fn before_exec(mut self) -> Self {
        if !matches!(self.code, Code::Exec(_)) {
            self.code = Code::Exec(125);
        }
        self
    }

    /// Writes the failure to standard error, as text or as one JSON object.
    pub fn report(&self, json: bool) {
        if json {
            let error = ErrorObject {
                code: self.code.word(),
                message: &self.message,
                hint: &self.hint,
                approval: self.approval.as_deref(),
            };
            eprintln!("{}", serde_json::to_string(&ErrorReport { error }).unwrap_or_default());
        } else if self.hint.is_empty() {
            eprintln!("strongroom: {}", self.message);
        } else {
            eprintln!("strongroom: {}\n  {}", self.message, self.hint.replace('\n', "\n  "));
        }
    }
}

#[derive(Serialize)]
struct ErrorReport<'a> {
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    code: &'static str,
    message: &'a str,
    hint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<&'a str>,
}

/// Hint when a certificate cannot be renewed.
pub const NEW_STRING: &str = "ask for a new enrolment string, then: strongroom enroll - --replace";

/// Hints for operators, and how to avoid it next time.
pub const ANOTHER_WAY: &str =
    "operators can get a new one on the vault's machine: strongroomd admin operator (docs/identities.md)
to allow late renewal next time: strongroom identity set PATH --grace 3d";

/// Hint after a rollback, for the user of a host and for the operator of the vault.
const ROLLED_BACK: &str = "Nothing was changed, and the reply was discarded.
Tell an operator of the vault, and do not use the vault until they answer.
Operators: restore the newest data. If it is lost, stop the daemon and declare the restore on the vault's machine:
  strongroomd storage accept-loss --restored --data DIR
where DIR is the data folder of the vault.";

/// Hint when the address is that of the enrolment listener.
const API_PORT: &str = "this is the enrolment port; the vault's API is on another port, 8200 by default
check --addr, STRONGROOM_ADDR, and the profile: strongroom profile show";

/// Hint for an invalid address.
const ADDRESS: &str = "write https://HOST:PORT in --addr, STRONGROOM_ADDR or the profile (strongroom profile show)";

fn is_enrolment_listener(error: &ClientError) -> bool {
    error.info().is_some_and(|info| info.code() == ErrorCode::EnrolmentListener)
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            _ if error.is_sealed() => Code::Sealed,
            _ if error.is_cas_mismatch() => Code::Conflict,
            _ if error.approval().is_some() => Code::Approval,
            _ if is_enrolment_listener(&error) => Code::Unreachable,
            ClientError::Settings(_) | ClientError::Address(_) => Code::Usage,
            ClientError::Refused { status: 403, .. } => Code::Denied,
            ClientError::Refused { status: 404, .. } => Code::NotFound,
            ClientError::Refused { .. } => Code::Refused,
            _ => Code::Unreachable,
        };
        // The texts of the first two end with a hint, which is on a separate line here.
        let message = match &error {
            ClientError::Transport { address, problem, .. } => format!("{address}: {problem}"),
            ClientError::Certificate { address, problem } => format!("{address}: {problem}"),
            _ if code == Code::Sealed => "the vault is sealed".to_owned(),
            other => other.to_string(),
        };
        let approval = error.approval().map(str::to_owned);
        Self { approval, ..Self::new(code, message, hint(&error, code)) }
    }
}

/// What to try after an error of the client; may be empty.
fn hint(error: &ClientError, code: Code) -> String {
    let fixed = match error {
        _ if error.is_certificate_expired() => return format!("{NEW_STRING}\n{ANOTHER_WAY}"),
        _ if is_enrolment_listener(error) => API_PORT,
        ClientError::Transport { hint: "", .. } => "see which address is in use: strongroom profile show",
        ClientError::Transport { hint, .. } => {
            return format!("{hint}\nsee which address is in use: strongroom profile show");
        }
        ClientError::Certificate { problem, .. } => problem.hint(),
        ClientError::RolledBack { .. } => ROLLED_BACK,
        ClientError::Address(_) => ADDRESS,
        _ => match code {
            Code::Sealed => "open it: strongroom unseal",
            Code::Denied
                if matches!(
                    error.reason(),
                    Some(Reason::Frozen | Reason::Disabled | Reason::Revoked | Reason::AuthorityEnded)
                ) =>
            {
                "ask an operator to check it: strongroom identity show PATH; if you are the only operator, run on the vault's \
                 machine: strongroomd admin operator (docs/identities.md)"
            }
            Code::Denied => "ask an operator to check your policies: strongroom identity show PATH",
            Code::Approval => {
                "when another operator has approved it, repeat the same command; see: strongroom approvals show ID"
            }
            Code::Refused if error.reason() == Some(Reason::LastAdministrator) => {
                "nothing was changed; first make another identity an administrator: strongroom identity set PATH --policy admin"
            }
            Code::Conflict => "read it again and repeat the change",
            // Only errors about files arrive here.
            Code::Usage => "see which files are in use: strongroom profile list; to get new ones: docs/identities.md",
            _ => "",
        },
    };
    fixed.to_owned()
}

impl From<ExecError> for Failure {
    fn from(error: ExecError) -> Self {
        Self::new(Code::Exec(error.exit_code()), error.to_string(), "")
    }
}

impl From<DotenvError> for Failure {
    fn from(error: DotenvError) -> Self {
        Self::new(Code::Usage, error.to_string(), "")
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::new(Code::Refused, error.to_string(), "")
    }
}
