//! The stage between the supervisor and the program: this binary once more. It ties its life to the supervisor's and
//! becomes the program.
//!
//! A program must not outlive its supervisor (not even after `kill -9`): nobody would forward signals to it or tell it
//! about changed values. Linux ends a process with its parent if the process requests it (`PR_SET_PDEATHSIG`,
//! prctl(2)). The request survives `execve` of an ordinary program, but not of a set-uid program or one with file
//! capabilities.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use strongroom::exec::exec_as_is;

use super::signals::{self, Inherited};
use crate::exit::{Code, Failure};

/// First argument of a stage process. No command has this name, and none can: commands have no underscores.
const MARK: &str = "__become";
/// The running binary, even if its file was replaced or removed in the meantime.
const THIS_BINARY: &str = "/proc/self/exe";

/// The command line that runs `command` with the signals in `inherited` blocked, and ends it with the calling process.
/// The calling thread must live as long as the process, because for the kernel the end of the thread that forked is the
/// end of the parent.
pub fn tied(command: &[OsString], inherited: Inherited, json: bool) -> Vec<OsString> {
    let form = if json { "json" } else { "text" };
    let parent = getpid().as_raw_nonzero().to_string();
    let blocked = inherited.to_string();
    let mut argv: Vec<OsString> = vec![THIS_BINARY.into(), MARK.into(), parent.into(), blocked.into(), form.into()];
    argv.extend_from_slice(command);
    argv
}

/// Becomes the command if this process was started by [`tied`]. Returns the exit code of a failed start, or `None` for
/// an ordinary call.
pub fn enter(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if arguments.nth(1).as_deref() != Some(OsStr::new(MARK)) {
        return None;
    }
    let parent = arguments.next().and_then(|text| text.to_str()?.parse().ok()).and_then(Pid::from_raw);
    let inherited = arguments.next().and_then(|text| text.to_str()?.parse().ok());
    let json = arguments.next().as_deref() == Some(OsStr::new("json"));
    let command: Vec<OsString> = arguments.collect();
    let failure = match (parent, inherited) {
        (Some(parent), Some(inherited)) => become_program(parent, inherited, &command),
        _ => Failure::usage("this first argument is internal", "").before_exec(),
    };
    failure.report(json);
    Some(ExitCode::from(failure.code.number()))
}

fn become_program(parent: Pid, inherited: Inherited, command: &[OsString]) -> Failure {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return Failure::new(Code::Exec(125), format!("tying the program to its supervisor: {error}"), "");
    }
    // The parent must be checked only now: if it had ended before the request was set, no signal would come.
    if getppid() != Some(parent) {
        return Failure::new(Code::Exec(125), "the supervisor ended before the program was started", "");
    }
    if let Err(error) = signals::let_through(inherited) {
        return Failure::new(Code::Exec(125), format!("unblocking signals for the program: {error}"), "");
    }
    exec_as_is(command).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_call_is_no_stage() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>().into_iter();
        assert!(enter(words(&[])).is_none());
        assert!(enter(words(&["strongroom"])).is_none());
        assert!(enter(words(&["strongroom", "run", MARK])).is_none());
        assert_eq!(enter(words(&["strongroom", MARK, "x", "0", "text", "true"])), Some(ExitCode::from(125)));
        assert_eq!(enter(words(&["strongroom", MARK, "1", "x", "text", "true"])), Some(ExitCode::from(125)));
    }

    #[test]
    fn a_tied_command_names_this_process_and_keeps_its_arguments() {
        let argv = tied(&["a b".into(), "--json".into()], Inherited::default(), false);
        let parent = std::process::id().to_string();
        let expected = [THIS_BINARY, MARK, &parent, "0000000000000000", "text", "a b", "--json"];
        assert_eq!(argv, expected.map(OsString::from));
    }
}
