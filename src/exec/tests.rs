//! What a child sees, and what is refused before it starts.

use super::*;

fn secrets(pairs: &[(&str, &str)]) -> Vec<(String, SecretText)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), SecretText::from(*value))).collect()
}

fn parent(pairs: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
    pairs.iter().map(|(key, value)| (OsString::from(key), OsString::from(value))).collect::<Vec<_>>().into_iter()
}

/// What `env` prints in the child.
fn seen(env: ChildEnv) -> Vec<String> {
    let mut command = env.command(&["/usr/bin/env".into()]).unwrap();
    let output = command.output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_vault_wins_unless_a_name_is_kept() {
    let before = [("A", "old"), ("B", "old"), ("C", "same")];
    let policy = ExecPolicy { keep: vec!["B".into()], ..ExecPolicy::default() };
    let env =
        ChildEnv::build(parent(&before), &secrets(&[("A", "new"), ("B", "new"), ("C", "same")]), &policy).unwrap();
    assert_eq!(env.warnings().len(), 1, "{:?}", env.warnings());
    assert!(env.warnings()[0].starts_with("A was set"));
    assert_eq!(seen(env), ["A=new", "B=old", "C=same"]);
}

#[test]
fn own_credentials_are_stripped_and_pristine_keeps_the_basics() {
    let before = [("STRONGROOM_CLIENT_KEY", "x"), ("VAULT_TOKEN", "x"), ("PATH", "/bin"), ("OTHER", "1")];
    let env = ChildEnv::build(parent(&before), &[], &ExecPolicy::default()).unwrap();
    assert_eq!(seen(env), ["OTHER=1", "PATH=/bin"]);
    let policy = ExecPolicy { pristine: true, ..ExecPolicy::default() };
    let env = ChildEnv::build(parent(&before), &secrets(&[("K", "v")]), &policy).unwrap();
    assert_eq!(seen(env), ["K=v", "PATH=/bin"]);
}

#[test]
fn refusals_name_the_variable_and_never_the_value() {
    let large = "x".repeat(MAX_VARIABLE_BYTES);
    for (name, value, expected) in [
        ("LD_PRELOAD", "secret", "--allow LD_PRELOAD"),
        ("PATH", "secret", "--allow PATH"),
        ("NODE_OPTIONS", "secret", "makes Node load code"),
        ("BASH_FUNC_x", "secret", "function"),
        ("1A", "secret", "not a variable name"),
        ("A-B", "secret", "not a variable name"),
        ("", "secret", "not a variable name"),
        ("N", "sec\0ret", "NUL"),
        ("L", large.as_str(), "128 KiB"),
    ] {
        let error = ChildEnv::build(parent(&[]), &secrets(&[(name, value)]), &ExecPolicy::default()).err().unwrap();
        assert_eq!(error.exit_code(), 125);
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_dangerous_name_can_be_allowed_and_prefixes_apply_before_the_check() {
    let policy = ExecPolicy { allow: vec!["NODE_OPTIONS".into()], ..ExecPolicy::default() };
    assert!(ChildEnv::build(parent(&[]), &secrets(&[("NODE_OPTIONS", "v")]), &policy).is_ok());
    let policy = ExecPolicy { prefix: "APP_".into(), ..ExecPolicy::default() };
    let env = ChildEnv::build(parent(&[]), &secrets(&[("PATH", "v")]), &policy).unwrap();
    assert_eq!(seen(env), ["APP_PATH=v"]);
    let policy = ExecPolicy { prefix: "LD_".into(), ..ExecPolicy::default() };
    assert!(ChildEnv::build(parent(&[]), &secrets(&[("PRELOAD", "v")]), &policy).is_err());
}

#[test]
fn a_program_that_cannot_start_has_the_usual_exit_code() {
    let code = |program: &str| {
        let env = ChildEnv::build(parent(&[]), &[], &ExecPolicy::default()).unwrap();
        env.spawn(&[program.into()]).err().unwrap().exit_code()
    };
    assert_eq!(code("/nonexistent/program"), 127);
    assert_eq!(code("/etc/passwd"), 126);
    let env = ChildEnv::build(parent(&[]), &[], &ExecPolicy::default()).unwrap();
    assert_eq!(env.spawn(&[]).err().unwrap().exit_code(), 125);
}

#[test]
fn the_table_is_sorted_for_its_search() {
    for name in ["BASH_ENV", "PATH", "_JAVA_OPTIONS", "LD_AUDIT", "GIT_CONFIG_COUNT"] {
        assert!(danger(name).is_some(), "{name}");
    }
    for name in ["DATABASE_URL", "PATHS", "ENVIRONMENT", "LDAP_URL", "DOTNET_ENVIRONMENT", "GIT_TOKEN", "AWS_REGION"] {
        assert!(danger(name).is_none(), "{name}");
    }
    assert!(names::DANGEROUS.is_sorted_by_key(|(name, _)| name), "a name out of order is not found");
}

#[test]
fn names_that_run_code_in_each_language_are_refused() {
    let run_code = [
        "PERLLIB",
        "PYTHONWARNINGS",
        "PYTHONUSERBASE",
        "DOTNET_STARTUP_HOOKS",
        "CORECLR_PROFILER_PATH",
        "CLASSPATH",
        "LUA_INIT",
        "LUA_INIT_5_4",
        "ERL_FLAGS",
        "GEM_PATH",
        "PHP_INI_SCAN_DIR",
        "R_PROFILE_USER",
        "OPENSSL_CONF",
        "GIT_EXTERNAL_DIFF",
        "EDITOR",
        "LESSOPEN",
        "SHELL",
        "HOME",
        "XDG_CONFIG_HOME",
        "KUBECONFIG",
        "PS4",
    ];
    let elsewhere = ["HTTPS_PROXY", "https_proxy", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "STRONGROOM_ADDR"];
    for name in run_code.into_iter().chain(elsewhere) {
        assert!(danger(name).is_some(), "{name}");
    }
}

#[test]
fn environments_are_the_same_when_names_and_values_are() {
    let build = |inherited: &[(&str, &str)], secrets: &[(&str, &str)]| {
        let inherited = inherited.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let secrets: Vec<_> =
            secrets.iter().map(|(name, value)| ((*name).to_owned(), SecretText::from(*value))).collect();
        ChildEnv::build(inherited, &secrets, &ExecPolicy::default()).unwrap()
    };
    let first = build(&[("HOME", "/")], &[("A", "1"), ("B", "2")]);
    assert!(first.same_as(&build(&[("HOME", "/")], &[("B", "2"), ("A", "1")])), "order is nothing");
    assert!(first.same_as(&build(&[("HOME", "/"), ("A", "1")], &[("B", "2")])), "nor is where it comes from");
    for (inherited, secrets) in [
        (&[("HOME", "/")], &[("A", "1"), ("B", "3")][..]),
        (&[("HOME", "/")], &[("A", "1")]),
        (&[("HOME", "/")], &[("A", "1"), ("B", "2"), ("C", "")]),
        (&[("HOME", "/x")], &[("A", "1"), ("B", "2")]),
    ] {
        assert!(!first.same_as(&build(inherited, secrets)), "{secrets:?}");
    }
}
