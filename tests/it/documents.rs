//! What docs/identities.md says, done from beginning to end with the real daemon and command.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::process::{DAEMON, text};

/// A port that is free like the one after it.
fn two_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

#[test]
fn ten_hosts_are_enrolled_from_nothing_and_every_way_back_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/ten-hosts.sh");
    let programs = Path::new(DAEMON).parent().unwrap();
    let output = Command::new("bash")
        .arg(script)
        .arg(folder.path().join("all"))
        .arg(two_ports().to_string())
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", programs.display()))
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert_eq!(said.matches(" has its secret\n").count(), 10, "{said}");
    assert!(said.trim_end().ends_with("== done: every step did what docs/identities.md says"), "{said}");
}
