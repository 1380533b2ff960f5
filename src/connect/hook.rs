//! The connector for everything else: programs of the operator, one for each step.
//!
//! A program is started without a shell, in `/`, in its own process group, with a cleared environment (`PATH`,
//! `STRONGROOM_ROTATION_ID`, `STRONGROOM_STEP`). It reads one JSON object from its standard input, the only place where
//! values appear:
//! ```json
//! {"id":"…","path":"app/prod","key":"DB_PASSWORD","staged":{"user":"","secret":"…"},"current":null,"previous":null}
//! ```
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 65 | refused: the same again changes nothing (`EX_DATAERR`); from `verify`: the value does not work |
//! | 75 | not now, again later (`EX_TEMPFAIL`) |
//! | other | broken: for the operator |
//! | by signal, time limit | again later |
//!
//! `generate` prints a new value as one line on its standard output, and gets no value in its input. Its output is
//! never shown.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::api::secret::SecretText;
use crate::wiped::Buffer;

use super::child::{self, Ending, Finished, Output, Program};
use super::redact::redact;
use super::{ConnectError, Connector, Credential, Live, Step, permanent, retry};

/// Longest value that a command may print, in bytes.
const MAX_VALUE: usize = 8 * 1024;

/// The programs of a target as configured: absolute path, then arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookTarget {
    /// Prints a new value. This or `apply` is required.
    pub generate: Option<Vec<String>>,
    /// Makes the staged value valid.
    pub apply: Option<Vec<String>>,
    /// Checks the staged value by using it. Also finds out what works after a crash.
    pub verify: Option<Vec<String>>,
    /// Makes the current value valid again.
    pub revert: Option<Vec<String>>,
    /// Invalidates the previous value.
    pub revoke_old: Option<Vec<String>>,
    /// Time limit of each run in seconds, 1 to 3600.
    pub timeout_s: u64,
    /// Whether the old value stays valid after `apply`. Only the operator knows this.
    pub overlap: bool,
    /// User id to run as. Set both ids or none. Changing them needs the right to do so.
    pub uid: Option<u32>,
    /// Group id to run as; see `uid`.
    pub gid: Option<u32>,
}

/// The connector for programs.
pub struct Hook {
    target: HookTarget,
    owner: Option<(u32, u32)>,
    stop: Arc<AtomicBool>,
}

/// The program's answer.
enum Answer {
    Done,
    /// Exit code 65.
    No(ConnectError),
    Failed(ConnectError),
}

#[derive(Serialize)]
struct Login<'a> {
    user: &'a str,
    secret: &'a str,
}

#[derive(Serialize)]
struct Input<'a> {
    id: &'a str,
    path: &'a str,
    key: &'a str,
    staged: Option<Login<'a>>,
    current: Option<Login<'a>>,
    previous: Option<Login<'a>>,
}

impl Hook {
    /// Checks the target without running anything.
    ///
    /// # Errors
    /// [`ConnectError::Permanent`]: there is neither `apply` nor `generate`, a command is empty, a program has no
    /// absolute path, a NUL, a time limit outside 1 to 3600 seconds, or only one of user and group.
    pub fn new(target: HookTarget) -> Result<Self, ConnectError> {
        if target.apply.is_none() && target.generate.is_none() {
            return Err(permanent(
                "the hook has neither an apply nor a generate command; add one to the target in the configuration",
            ));
        }
        for (name, command) in commands(&target) {
            let Some(command) = command else { continue };
            if !command.first().is_some_and(|program| program.starts_with('/')) {
                return Err(permanent(format!(
                    "the {name} command must start with the absolute path of a program, because no shell and no search \
                     path are used"
                )));
            }
            if command.iter().any(|argument| argument.contains('\0')) {
                return Err(permanent(format!("the {name} command contains a NUL; correct it in the configuration")));
            }
        }
        if !(1..=3600).contains(&target.timeout_s) {
            return Err(permanent(
                "the time limit of the hook must be 1 to 3600 seconds; correct it in the configuration",
            ));
        }
        let owner = match (target.uid, target.gid) {
            (Some(uid), Some(gid)) => Some((uid, gid)),
            (None, None) => None,
            _ => return Err(permanent("the hook has only one of uid and gid; set both or none")),
        };
        Ok(Self { target, owner, stop: Arc::default() })
    }

    /// Runs one command with the values of `step`.
    fn execute(&self, name: &'static str, command: &[String], step: &Step<'_>) -> Result<Finished, ConnectError> {
        let Some(input) = input(step) else {
            return Err(permanent("the values cannot be written as JSON; report it"));
        };
        let environment = [("PATH", "/usr/bin:/bin"), ("STRONGROOM_ROTATION_ID", step.id), ("STRONGROOM_STEP", name)];
        let outcome = child::run(&Program {
            argv: command,
            environment: &environment,
            owner: self.owner,
            input: &input,
            limit: Duration::from_secs(self.target.timeout_s),
            stop: &self.stop,
        });
        outcome.map_err(|kind| {
            permanent(format!("the {name} command cannot be started ({kind}); check its path and rights"))
        })
    }

    /// Interprets how the program ended. `said` goes into the middle of the sentence.
    fn judge(&self, name: &'static str, ending: &Ending, said: &str) -> Answer {
        match ending {
            Ending::Code(0) => Answer::Done,
            Ending::Code(75) => Answer::Failed(retry(format!(
                "the {name} command asks to be run later (exit code 75){said}; see what it waits for"
            ))),
            Ending::Code(65) => Answer::No(permanent(format!(
                "the {name} command refused the value (exit code 65){said}; correct the cause, then try again or abort"
            ))),
            Ending::Code(code) => Answer::Failed(permanent(format!(
                "the {name} command failed (exit code {code}){said}; fix the command: it must exit with 0, 65 or 75"
            ))),
            Ending::Signal(signal) => Answer::Failed(retry(format!(
                "the {name} command was killed by signal {signal}{said}; look for the reason in the system log"
            ))),
            Ending::TimedOut => Answer::Failed(retry(format!(
                "the {name} command did not end within {} s and was killed{said}; raise its time limit or fix the command",
                self.target.timeout_s
            ))),
            Ending::Stopped => Answer::Failed(retry(format!(
                "the {name} command was killed with its children because the vault is closing{said}; unseal the vault: \
                 the rotation probes the target and continues"
            ))),
        }
    }

    /// Runs one command with the values of `step`. No value in `known` may appear in the error.
    fn run(&self, name: &'static str, command: &[String], step: &Step<'_>, known: &Step<'_>) -> Answer {
        match self.execute(name, command, step) {
            Ok(outcome) => {
                let known = [known.staged, known.current, known.previous].into_iter().flatten();
                let values: Vec<&str> = known.map(|login| login.secret.reveal()).collect();
                self.judge(name, &outcome.ending, &said(&outcome.stdout, &outcome.stderr, &values))
            }
            Err(error) => Answer::Failed(error),
        }
    }
}

/// Returns the value that a command printed. The errors say nothing about its content.
pub(super) fn printed(output: &Output) -> Result<SecretText, ConnectError> {
    let wrong = |what: &str| {
        Err(permanent(format!("the generate command {what}; fix it: it must print the value as one line of text")))
    };
    let line = output.bytes.strip_suffix(b"\n").unwrap_or(&output.bytes);
    if output.cut || line.len() > MAX_VALUE {
        return wrong("printed more than 8192 bytes");
    }
    let Ok(text) = std::str::from_utf8(line) else { return wrong("printed something that is not UTF-8") };
    match text {
        "" => wrong("printed nothing"),
        _ if text.contains('\n') => wrong("printed more than one line"),
        _ if text.contains(char::is_control) => wrong("printed a control character"),
        _ => Ok(SecretText::from(text)),
    }
}

/// The commands with their names in the configuration and in the environment.
fn commands(target: &HookTarget) -> [(&'static str, Option<&Vec<String>>); 5] {
    [
        ("generate", target.generate.as_ref()),
        ("apply", target.apply.as_ref()),
        ("verify", target.verify.as_ref()),
        ("revert", target.revert.as_ref()),
        ("revoke-old", target.revoke_old.as_ref()),
    ]
}

/// Builds the JSON object for standard input in a buffer that is wiped.
fn input(step: &Step<'_>) -> Option<Zeroizing<Vec<u8>>> {
    fn login(credential: Option<&Credential>) -> Option<Login<'_>> {
        credential.map(|known| Login { user: &known.user, secret: known.secret.reveal() })
    }
    let input = Input {
        id: step.id,
        path: step.path,
        key: step.key,
        staged: login(step.staged),
        current: login(step.current),
        previous: login(step.previous),
    };
    let mut json = Buffer::new();
    serde_json::to_writer(&mut json, &input).ok()?;
    // A trailing line feed, for programs that read lines.
    json.push(b'\n');
    Some(json.into_bytes())
}

/// The program's output without values, for the middle of a sentence.
fn said(stdout: &Output, stderr: &Output, values: &[&str]) -> String {
    let mut text = String::new();
    for (name, output) in [("stderr", stderr), ("stdout", stdout)] {
        let clean = redact(&output.bytes, output.cut, values);
        if !clean.is_empty() {
            text.push_str(&format!(", {name}: {clean}"));
        }
    }
    text
}

impl From<Answer> for Result<(), ConnectError> {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Done => Ok(()),
            Answer::No(error) | Answer::Failed(error) => Err(error),
        }
    }
}

impl Connector for Hook {
    fn kind(&self) -> &'static str {
        "hook"
    }

    fn overlap(&self) -> bool {
        self.target.overlap
    }

    fn stop_with(&mut self, stop: &Arc<AtomicBool>) -> bool {
        self.stop = Arc::clone(stop);
        true
    }

    fn next_user(&self, _current: Option<&str>) -> Result<String, ConnectError> {
        Ok(String::new())
    }

    fn generate(&self, step: &Step<'_>) -> Result<SecretText, ConnectError> {
        let command = self.target.generate.as_ref();
        let command = command.ok_or_else(|| permanent("the hook has no generate command; add one to the target"))?;
        let outcome = self.execute("generate", command, step)?;
        // Either output may contain the value, and its form is unknown, so neither is shown.
        Result::from(self.judge("generate", &outcome.ending, " (what it wrote may hold the value and is not shown)"))?;
        printed(&outcome.stdout)
    }

    fn apply(&self, step: &Step<'_>) -> Result<(), ConnectError> {
        let command = self.target.apply.as_ref();
        let command = command.ok_or_else(|| permanent("the hook has no apply command; add one to the target"))?;
        self.run("apply", command, step, step).into()
    }

    /// Without a `verify` command only the result of `apply` is known, and this succeeds.
    fn verify(&self, step: &Step<'_>) -> Result<(), ConnectError> {
        self.target.verify.as_ref().map_or(Ok(()), |command| self.run("verify", command, step, step).into())
    }

    /// Runs `verify` with each candidate as the staged value, and nothing else in its input. Exit code 65 means that
    /// this candidate does not work. Any other failure ends the probe with an error.
    fn probe(&self, step: &Step<'_>) -> Result<Live, ConnectError> {
        let Some(command) = &self.target.verify else {
            return Err(permanent(
                "the hook has no verify command, so it is unknown which value works; check the target by hand, \
                 and add a verify command",
            ));
        };
        let candidates = [(step.staged, Live::Staged), (step.current, Live::Current), (step.previous, Live::Previous)];
        for (candidate, live) in candidates {
            if candidate.is_none() {
                continue;
            }
            let question = Step { staged: candidate, current: None, previous: None, ..*step };
            match self.run("verify", command, &question, step) {
                Answer::Done => return Ok(live),
                Answer::No(_) => {}
                Answer::Failed(error) => return Err(error),
            }
        }
        Ok(Live::Nothing)
    }

    /// Without a `revert` command this succeeds only if `verify` finds that the current value works.
    fn revert(&self, step: &Step<'_>) -> Result<(), ConnectError> {
        if let Some(command) = &self.target.revert {
            return self.run("revert", command, step, step).into();
        }
        if let (Some(command), Some(_)) = (&self.target.verify, step.current) {
            let question = Step { staged: step.current, current: None, previous: None, ..*step };
            match self.run("verify", command, &question, step) {
                Answer::Done => return Ok(()),
                Answer::Failed(error) => return Err(error),
                Answer::No(_) => {}
            }
        }
        Err(permanent(
            "the hook has no revert command; set the current value at the target by hand, and add a revert command",
        ))
    }

    fn revoke_old(&self, step: &Step<'_>) -> Result<Option<String>, ConnectError> {
        let done: Result<(), ConnectError> = self
            .target
            .revoke_old
            .as_ref()
            .map_or(Ok(()), |command| self.run("revoke-old", command, step, step).into());
        done.map(|()| None)
    }
}
