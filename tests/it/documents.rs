//! What docs/identities.md says, done from beginning to end with the real daemon and command; and that each row of the threat
//! model has tests.

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

/// The rows of the first table below `heading` whose first cell is a number: that number, and the rest.
fn numbered(text: &str, heading: &str) -> Vec<(u32, String)> {
    let (_, below) = text.split_once(heading).unwrap();
    let below = below.split("\n## ").next().unwrap();
    let cells = below.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    cells.filter_map(|(number, rest)| Some((number.parse().ok()?, rest.to_owned()))).collect()
}

fn sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn each_row_of_the_threat_model_has_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = |name: &str| std::fs::read_to_string(root.join("docs").join(name)).unwrap();
    let promised = numbered(&document("threat-model.md"), "# Threat model");
    let shown = numbered(&document("testing.md"), "## What shows the promises of the threat model");
    assert!(promised.len() >= 26, "the table is not where this test looks");
    let numbers = |rows: &[(u32, String)]| rows.iter().map(|(number, _)| *number).collect::<Vec<_>>();
    assert_eq!(numbers(&promised), numbers(&shown), "docs/testing.md must name the tests of each row");
    let mut code = String::new();
    ["src", "cli/src", "tests/it"].iter().for_each(|folder| sources(&root.join(folder), &mut code));
    for (row, tests) in shown {
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "row {row} has no test");
        for name in names {
            let at = code.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("row {row}: no test {name}"));
            let mark = code.get(..at).and_then(|before| before.rfind("#[test]"));
            assert!(mark.is_some_and(|mark| at - mark < 300), "row {row}: {name} is not a test");
        }
    }
}
