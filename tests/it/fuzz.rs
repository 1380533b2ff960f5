//! The fuzz targets of `fuzz/` as bounded property tests: the same bodies, fed with valid examples and seeded damage.
//!
//! `STRONGROOM_SEED` repeats a run, `STRONGROOM_FAST=1` makes it short, `STRONGROOM_FULL=1` long. An input on which a target
//! once failed is kept as a file in `tests/fuzz/NAME/` and checked first.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use strongroom::testing::{Random, TARGETS, Target, mutated};

/// Inputs of a fast, a usual and a full run.
const CASES: [u64; 3] = [200, 2_000, 200_000];

fn cases() -> u64 {
    match (std::env::var_os("STRONGROOM_FAST"), std::env::var_os("STRONGROOM_FULL")) {
        (_, Some(_)) => CASES[2],
        (Some(_), None) => CASES[0],
        (None, None) => CASES[1],
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether the input was accepted. A property that does not hold fails the test with the input.
fn check(target: &Target, input: &[u8], what: &str) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.check)(input))).unwrap_or_else(|_| {
        let hex = strongroom::api::hex::hex(input);
        panic!("{}: {what}: {:?}\nas hexadecimal: {hex}", target.name, String::from_utf8_lossy(input));
    })
}

fn campaign(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let examples = (target.examples)();
    let accepted = examples.iter().filter(|example| check(target, example, "an example")).count();
    assert!(accepted > 0, "no example of {name} is valid");
    for file in files(&root().join("tests/fuzz").join(name)) {
        check(target, &std::fs::read(&file).unwrap(), &file.display().to_string());
    }
    let given = std::env::var("STRONGROOM_SEED").ok().map(|text| text.parse().expect("STRONGROOM_SEED is a number"));
    let seed: u64 = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("STRONGROOM_SEED={seed}");
    let mut random = Random::new(seed);
    let cases = cases();
    let accepted = (0..cases)
        .filter(|case| check(target, &mutated(&examples, &mut random), &format!("STRONGROOM_SEED={seed}, case {case}")))
        .count();
    println!("{name}: {cases} inputs, {accepted} accepted");
    assert!(accepted > 0, "the damage leaves nothing that is accepted");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

macro_rules! campaigns {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            campaign(stringify!($name));
        })*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

campaigns!(
    path,
    json,
    policy,
    header,
    slot,
    record,
    anchor,
    state,
    audit_line,
    dotenv,
    crl,
    enroll_string,
    http_request
);

#[test]
fn every_target_is_a_test_and_a_fuzz_target() {
    let here: BTreeSet<&str> = NAMES.iter().copied().collect();
    let library: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(here, library);
    let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    for name in here {
        let source = std::fs::read_to_string(root().join(format!("fuzz/fuzz_targets/{name}.rs"))).unwrap();
        assert!(source.contains(&format!("target!({name})")), "{name}");
        assert!(manifest.contains(&format!("fuzz_targets/{name}.rs")), "{name}");
    }
}
