//! Tests of the parts without a database; `tests/it/connect.rs` has those with one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::child::Output;
use super::hook::{self, Hook, HookTarget};
use super::postgres::{Postgres, PostgresTarget, Roles};
use super::redact::redact;
use super::{ConnectError, Connector, Credential, Live, Step, ident, scram, tls};
use crate::wiped::Buffer;

fn login(user: &str, secret: &str) -> Credential {
    Credential { user: user.to_owned(), secret: secret.into() }
}

fn shell(script: &str) -> Option<Vec<String>> {
    Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec())
}

fn made(target: HookTarget) -> Hook {
    let timeout_s = if target.timeout_s == 0 { 10 } else { target.timeout_s };
    Hook::new(HookTarget { timeout_s, ..target }).expect("a target that is in order")
}

fn applies(script: &str, secret: &str) -> Result<(), ConnectError> {
    applies_within(30, script, secret)
}

fn applies_within(timeout_s: u64, script: &str, secret: &str) -> Result<(), ConnectError> {
    let staged = login("", secret);
    let step = Step { id: "r-1", path: "app/prod", key: "K", staged: Some(&staged), current: None, previous: None };
    made(HookTarget { apply: shell(script), timeout_s, ..HookTarget::default() }).apply(&step)
}

fn text(result: Result<(), ConnectError>) -> String {
    match result.expect_err("a failure") {
        ConnectError::Retry(text) => format!("retry: {text}"),
        ConnectError::Permanent(text) => format!("permanent: {text}"),
    }
}

/// Reads one quoted identifier as the lexer of PostgreSQL does; answers with its meaning and what follows it.
fn lexed(sql: &str) -> Option<(String, &str)> {
    let mut rest = sql.strip_prefix('"')?;
    let mut name = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

proptest! {
    #[test]
    fn a_quoted_identifier_is_one_token_that_means_the_name(name in "[^\0]{0,80}|[\"\\\\';a ]{0,20}") {
        let quoted = ident::quote(&name);
        prop_assert_eq!(lexed(&quoted), Some((name, "")));
    }

    #[test]
    fn no_eight_bytes_of_a_value_come_through(
        value in "[ -~\u{e4}\n]{8,60}", before in "[ -~]{0,40}", after in "[ -~]{0,40}", form in 0..5_usize, cut: bool,
    ) {
        use base64::Engine as _;
        prop_assume!(value.split_whitespace().collect::<String>().len() >= 8);
        let shown = match form {
            0 => value.clone(),
            1 => base64::engine::general_purpose::STANDARD.encode(format!("{before}{value}{after}")),
            2 => value.bytes().map(|byte| format!("{byte:02X}")).collect(),
            3 => value.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>().to_lowercase(),
            _ => serde_json::to_string(&value).expect("a text"),
        };
        let clean = redact(format!("{before}{shown}{after}").as_bytes(), cut, &[&value]);
        let squeezed: String = clean.split_whitespace().collect::<String>().to_lowercase();
        let secret: Vec<u8> = value.split_whitespace().collect::<String>().to_lowercase().into_bytes();
        // Percent-encoding every byte is more than a URL does; its hexadecimal digits are separated. The others count.
        if form != 3 {
            prop_assert!(clean.contains("[redacted]"), "{clean}");
        }
        for window in secret.windows(8) {
            prop_assert!(!squeezed.as_bytes().windows(8).any(|seen| seen == window), "{clean}");
        }
    }

    #[test]
    fn redaction_takes_all_output(output in prop::collection::vec(any::<u8>(), 0..400), cut: bool, value in ".{0,40}") {
        let clean = redact(&output, cut, &[&value]);
        prop_assert!(!clean.chars().any(char::is_control));
    }

    #[test]
    fn a_printed_value_is_one_line_or_none(bytes in prop::collection::vec(any::<u8>(), 0..40), cut: bool) {
        let mut output = Output { bytes: Buffer::new(), cut };
        output.bytes.put(&bytes);
        if let Ok(value) = hook::printed(&output) {
            let value = value.reveal();
            prop_assert!(!cut && !value.is_empty() && !value.contains(char::is_control));
            prop_assert_eq!(bytes.strip_suffix(b"\n").unwrap_or(&bytes), value.as_bytes());
        }
    }

    #[test]
    fn channel_binding_takes_all_certificates(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(tls::end_point(&bytes), None);
    }

    #[test]
    fn scram_takes_all_passwords(password in ".{0,40}", salt in prop::collection::vec(any::<u8>(), 0..20)) {
        let verifier = scram::verifier_with(&password, &salt, 2);
        prop_assert!(verifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-$:+/=".contains(&byte)));
    }
}

#[test]
fn the_scram_verifier_is_that_of_the_rfc() {
    // User, password, salt and count of the example in RFC 7677, section 3.
    use base64::Engine as _;
    let salt = base64::engine::general_purpose::STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
    assert_eq!(
        scram::verifier_with("pencil", &salt, 4096),
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
         wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    );
    // SASLprep: a soft hyphen is nothing, a Roman numeral is letters (RFC 4013, section 3).
    assert_eq!(scram::verifier_with("I\u{ad}X", b"s", 2), scram::verifier_with("\u{2168}", b"s", 2));
}

#[test]
fn channel_binding_hashes_as_the_signature_does() {
    use sha2::{Digest, Sha256, Sha384};
    for (algorithm, length) in [(&rcgen::PKCS_ECDSA_P256_SHA256, 32), (&rcgen::PKCS_ECDSA_P384_SHA384, 48)] {
        let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
        let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate");
        let expected = match length {
            32 => Sha256::digest(certificate.der()).to_vec(),
            _ => Sha384::digest(certificate.der()).to_vec(),
        };
        assert_eq!(tls::end_point(certificate.der()), Some(expected));
    }
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate");
    assert_eq!(tls::end_point(certificate.der()), None);
}

#[test]
fn targets_that_cannot_work_are_refused() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let ca_pem = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate").pem();
    let target = |roles| PostgresTarget {
        host: "localhost".to_owned(),
        port: 5432,
        database: "app".to_owned(),
        ca_pem: ca_pem.clone(),
        roles,
        connect_timeout_s: 5,
        privilege_check: None,
        lock_old: false,
        terminate_old_sessions: false,
    };
    let single = |role: &str| target(Roles::Single(role.to_owned()));
    let refused = |target, user: &str| match Postgres::new(target, login(user, "admin secret")) {
        Err(ConnectError::Permanent(text)) => text,
        _ => panic!("taken"),
    };
    let known = Postgres::new(single("app"), login("admin", "x")).expect("a target");
    // The policy of a rotation says which field is the login: it may be any.
    let (staged, id) = (login("what-another-field-holds", "new"), "r-1");
    let step = Step { id, path: "app/prod", key: "K", staged: Some(&staged), current: None, previous: None };
    let said = text(known.apply(&step));
    assert!(said.contains("not a role of the target") && !said.contains("another-field"), "{said}");
    assert!(refused(single(""), "admin").contains("empty"));
    assert!(refused(single("a\0b"), "admin").contains("NUL"));
    assert!(refused(single(&"\u{e4}".repeat(32)), "admin").contains("63 bytes"));
    assert!(refused(single("admin"), "admin").contains("one of the rotated roles"));
    let pair = target(Roles::Pair(["a".to_owned(), "a".to_owned()]));
    assert!(refused(pair, "admin").contains("are the same"));
    assert!(refused(PostgresTarget { ca_pem: "none".to_owned(), ..single("a") }, "admin").contains("CA certificate"));
    assert!(refused(PostgresTarget { host: "a b".to_owned(), ..single("a") }, "admin").contains("host"));
    assert!(refused(PostgresTarget { connect_timeout_s: 0, ..single("a") }, "admin").contains("seconds"));
    assert!(refused(PostgresTarget { database: String::new(), ..single("a") }, "admin").contains("database"));
}

#[test]
fn a_hook_gets_the_values_on_its_input_and_nowhere_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("seen");
    let script = format!("cat >{0}; env | sort >>{0}; tr '\\0' ' ' </proc/$$/cmdline >>{0}; pwd >>{0}", file.display());
    let (staged, current) = (login("b", "new \"value\""), login("a", "old"));
    let step =
        Step { id: "r-7", path: "app/prod", key: "K", staged: Some(&staged), current: Some(&current), previous: None };
    made(HookTarget { apply: shell(&script), ..HookTarget::default() }).apply(&step).expect("it exits with 0");
    let seen = std::fs::read_to_string(&file).expect("what it saw");
    let (json, rest) = seen.split_once('\n').expect("lines");
    assert_eq!(
        json,
        r#"{"id":"r-7","path":"app/prod","key":"K","staged":{"user":"b","secret":"new \"value\""},"current":{"user":"a","secret":"old"},"previous":null}"#
    );
    assert!(
        rest.starts_with("PATH=/usr/bin:/bin\nPWD=/\nSTRONGROOM_ROTATION_ID=r-7\nSTRONGROOM_STEP=apply\n"),
        "{rest}"
    );
    assert!(!rest.contains("value") && rest.ends_with("/\n"), "{rest}");
}

#[test]
fn exit_codes_mean_what_the_contract_says() {
    assert_eq!(applies("exit 0", "the secret"), Ok(()));
    assert!(text(applies("exit 75", "the secret")).starts_with("retry: the apply command asks"));
    assert!(text(applies("exit 65", "the secret")).starts_with("permanent: the apply command refused"));
    assert!(text(applies("exit 3", "the secret")).contains("permanent: the apply command failed (exit code 3)"));
    assert!(text(applies("kill -9 $$", "the secret")).contains("retry: the apply command was killed by signal 9"));
    let missing = HookTarget { apply: Some(vec!["/does/not/exist".to_owned()]), ..HookTarget::default() };
    let step = Step { id: "r", path: "p", key: "k", staged: None, current: None, previous: None };
    assert!(text(made(missing).apply(&step)).contains("permanent: the apply command cannot be started"));
    for command in [vec![], vec!["true".to_owned()], vec!["/bin/true".to_owned(), "a\0".to_owned()]] {
        assert!(Hook::new(HookTarget { apply: Some(command), timeout_s: 1, ..HookTarget::default() }).is_err());
    }
    assert!(Hook::new(HookTarget { verify: shell("true"), timeout_s: 1, ..HookTarget::default() }).is_err());
}

fn generates(timeout_s: u64, script: &str) -> Result<String, String> {
    let step = Step { id: "r-1", path: "app/prod", key: "K", staged: None, current: None, previous: None };
    let value = made(HookTarget { generate: shell(script), timeout_s, ..HookTarget::default() }).generate(&step);
    match value {
        Ok(value) => Ok(value.reveal().to_owned()),
        Err(error) => Err(text(Err(error))),
    }
}

#[test]
fn a_generated_value_is_one_line_of_text() {
    assert_eq!(generates(10, "echo new-value").as_deref(), Ok("new-value"));
    assert_eq!(
        generates(10, "printf 'w\\303\\244rme und \\\\'").as_deref(),
        Ok("w\u{e4}rme und \\"),
        "without line end"
    );
    assert_eq!(generates(10, "head -c 8192 /dev/zero | tr '\\0' x").map(|value| value.len()), Ok(8192));
    let input = "read -r line; test \"$line\" = '{\"id\":\"r-1\",\"path\":\"app/prod\",\"key\":\"K\",\"staged\":null,\
                 \"current\":null,\"previous\":null}' && test $STRONGROOM_STEP = generate && env | wc -l | tr -d ' '";
    assert_eq!(generates(10, input).as_deref(), Ok("4"), "PATH, PWD and two of ours");
    for (script, part) in [
        ("exit 0", "permanent: the generate command printed nothing"),
        ("echo", "printed nothing"),
        ("printf 'one-secret\\ntwo-secret\\n'", "printed more than one line"),
        ("printf 'one-secret\\n\\n'", "printed more than one line"),
        ("printf 'one-secret\\r\\n'", "printed a control character"),
        ("printf 'one-secret\\0'", "printed a control character"),
        ("printf 'one-secret\\377'", "not UTF-8"),
        ("head -c 8193 /dev/zero | tr '\\0' x", "more than 8192 bytes"),
        ("yes one-secret | head -c 400000", "more than 8192 bytes"),
        (
            "echo one-secret; echo one-secret >&2; exit 3",
            "permanent: the generate command failed (exit code 3) (what it",
        ),
        ("echo one-secret; exit 65", "permanent: the generate command refused"),
        ("echo one-secret; exit 75", "retry: the generate command asks"),
        ("echo one-secret; kill -9 $$", "retry: the generate command was killed by signal 9"),
    ] {
        let error = generates(10, script).expect_err(script);
        assert!(error.contains(part) && !error.contains("secret"), "{script}: {error}");
    }
    for script in ["echo one-secret; sleep 60", "yes one-secret", "trap '' TERM INT; while :; do :; done"] {
        let error = generates(1, script).expect_err(script);
        assert!(error.starts_with("retry: the generate command did not end") && !error.contains("secret"), "{error}");
    }
    let none = made(HookTarget { apply: shell("true"), ..HookTarget::default() });
    let step = Step { id: "r", path: "p", key: "k", staged: None, current: None, previous: None };
    assert!(matches!(none.generate(&step), Err(ConnectError::Permanent(text)) if text.contains("no generate command")));
}

#[test]
fn what_a_hook_says_is_shown_without_the_value() {
    let script = "cat; echo; echo 'no such user' >&2; exit 65";
    let said = text(applies(script, "hunter2-hunter2"));
    assert!(said.contains("no such user") && said.contains("[redacted]") && !said.contains("hunter2"), "{said}");
    let wrapped = "tr -d '\\n' | base64 -w 10; exit 1";
    let said = text(applies(wrapped, "correct horse battery staple"));
    assert!(said.contains("[redacted]") && !said.contains("Y29ycmVj"), "{said}");
    let said = text(applies("cat; exit 1", "abc"));
    assert!(said.contains("withheld") && !said.contains("abc"), "{said}");
    // Cut in the middle of the value.
    let said = text(applies("head -c 16381 /dev/zero | tr '\\0' x; printf hunter2-hunter2; exit 1", "hunter2-hunter2"));
    assert!(!said.contains("xhun") && said.contains("[redacted]"), "{said}");
}

#[test]
fn no_hook_blocks_beyond_its_time() {
    // Far above what it takes on a busy machine, far below what the programs ask for.
    let soon = Duration::from_secs(28);
    #[allow(clippy::disallowed_methods)] // measures real programs
    let timed = |timeout_s: u64, script: &str| {
        let start = Instant::now();
        let result = applies_within(timeout_s, script, &"x".repeat(300_000));
        assert!(start.elapsed() < soon, "{script}: {:?}", start.elapsed());
        result
    };
    for script in ["sleep 60", "trap '' TERM INT; while :; do :; done", "yes", "yes >&2 | yes", "exec <&-; sleep 60"] {
        assert!(text(timed(1, script)).starts_with("retry: the apply command did not end within 1 s"), "{script}");
    }
    // Ends at once, though a child in the background holds all pipes, also one in another session.
    for script in ["sleep 60 & exit 0", "setsid sleep 30 & exit 0", "exec <&-; exit 0", "exit 0", "cat >/dev/null"] {
        assert_eq!(timed(60, script), Ok(()), "{script}");
    }
}

#[test]
fn a_hook_runs_as_another_user_where_that_is_allowed() {
    let target = |apply: &str| HookTarget {
        apply: shell(apply),
        uid: Some(65534),
        gid: Some(65534),
        timeout_s: 5,
        ..HookTarget::default()
    };
    let step = Step { id: "r", path: "p", key: "k", staged: None, current: None, previous: None };
    let result = made(target("test \"$(id -u):$(id -G)\" = 65534:65534")).apply(&step);
    if rustix::process::geteuid().is_root() {
        assert_eq!(result, Ok(()));
    } else {
        assert!(text(result).contains("cannot be started"));
    }
    assert!(Hook::new(HookTarget { gid: None, ..target("true") }).is_err());
}

#[test]
#[allow(clippy::disallowed_methods)] // waits for real processes
fn the_whole_group_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pids");
    let script = format!("sleep 61 & echo $! >{0}; exit 0", file.display());
    assert_eq!(applies(&script, "the secret"), Ok(()));
    let pid = std::fs::read_to_string(&file).expect("its number");
    let status = format!("/proc/{}/status", pid.trim());
    let gone = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        std::fs::read_to_string(&status)
            .map_or(true, |status| status.contains("State:\tZ") || !status.contains("sleep"))
    });
    assert!(gone, "a child in the background survived");
}

#[test]
#[allow(clippy::disallowed_methods)] // measures a real program
fn a_hook_is_killed_with_its_children_when_the_vault_closes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pids");
    let script = format!("trap '' TERM; sleep 62 & echo $! $$ >{0}.new; mv {0}.new {0}; sleep 63", file.display());
    let stop = Arc::new(AtomicBool::new(false));
    let mut hook = made(HookTarget { apply: shell(&script), timeout_s: 60, ..HookTarget::default() });
    assert!(hook.stop_with(&stop));
    let (pids, setter) = (file.clone(), Arc::clone(&stop));
    let closer = std::thread::spawn(move || {
        while !pids.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        setter.store(true, Ordering::SeqCst);
        Instant::now()
    });
    let step = Step { id: "r", path: "p", key: "k", staged: None, current: None, previous: None };
    let said = text(hook.apply(&step));
    let ended = Instant::now();
    assert!(
        said.starts_with("retry: the apply command was killed with its children because the vault is closing"),
        "{said}"
    );
    let stopped = closer.join().expect("no panic");
    assert!(ended.saturating_duration_since(stopped) < Duration::from_secs(2));
    for pid in std::fs::read_to_string(&file).expect("two numbers").split_whitespace() {
        let status = format!("/proc/{pid}/status");
        let gone = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            std::fs::read_to_string(&status).map_or(true, |status| status.contains("State:\tZ"))
        });
        assert!(gone, "{pid} survived");
    }
    // Asked before it starts anything, it does nothing.
    std::fs::remove_file(&file).expect("it was there");
    assert!(text(hook.apply(&step)).starts_with("retry:") && !file.exists());
}

#[test]
fn a_probe_asks_for_each_candidate_and_never_guesses() {
    let (staged, current, previous) = (login("", "value-three"), login("", "value-two"), login("", "value-one"));
    let step = Step {
        id: "r",
        path: "p",
        key: "k",
        staged: Some(&staged),
        current: Some(&current),
        previous: Some(&previous),
    };
    let probe = |verify: &str| {
        made(HookTarget { apply: shell("true"), verify: shell(verify), ..HookTarget::default() }).probe(&step)
    };
    assert_eq!(probe("exit 0"), Ok(Live::Staged));
    assert_eq!(probe("grep -q '\"staged\":{\"user\":\"\",\"secret\":\"value-two' || exit 65"), Ok(Live::Current));
    assert_eq!(probe("grep -q 'value-one' || exit 65"), Ok(Live::Previous));
    assert_eq!(probe("exit 65"), Ok(Live::Nothing));
    assert!(matches!(probe("exit 75"), Err(ConnectError::Retry(_))));
    assert!(matches!(probe("exit 1"), Err(ConnectError::Permanent(_))));
    // The other values are kept out of the text too, wherever the program knows them from.
    let Err(ConnectError::Permanent(said)) = probe("echo value-one; exit 1") else { panic!("no failure") };
    assert!(!said.contains("value-one"), "{said}");
}

#[test]
fn a_hook_without_revert_returns_only_to_what_works() {
    let (staged, current) = (login("", "value-two"), login("", "value-one"));
    let step = Step { id: "r", path: "p", key: "k", staged: Some(&staged), current: Some(&current), previous: None };
    let with = |verify: Option<&str>, revert: Option<&str>| {
        let target = HookTarget {
            apply: shell("true"),
            verify: verify.and_then(shell),
            revert: revert.and_then(shell),
            ..HookTarget::default()
        };
        made(target).revert(&step)
    };
    assert_eq!(with(None, Some("grep -q value-one")), Ok(()));
    assert_eq!(with(Some("grep -q value-one || exit 65"), None), Ok(()));
    assert!(text(with(Some("grep -q value-two || exit 65"), None)).starts_with("permanent: the hook has no revert"));
    assert!(text(with(None, None)).starts_with("permanent: the hook has no revert"));
    assert_eq!(made(HookTarget { apply: shell("true"), ..HookTarget::default() }).revoke_old(&step), Ok(None));
}
