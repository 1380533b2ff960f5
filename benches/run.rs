//! What `strongroom run` adds to a program's start: `cargo build --release --workspace && cargo bench --bench run`.
//!
//! A vault is created and served by the built daemon; `strongroom run PATH -- true` and `true` are started in turns, and the
//! medians compared. Also prints the daemon's resident memory, sealed and serving.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const DAEMON: &str = env!("CARGO_BIN_EXE_strongroomd");

fn main() {
    let measured = std::env::args().any(|text| text == "--bench");
    let rounds = if measured { 60 } else { 3 };
    let command = Path::new(DAEMON).with_file_name("strongroom");
    if !command.exists() {
        println!("build the command first: cargo build --release --workspace");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("pass");
    std::fs::write(&secret, "six random words for a bench\n").unwrap();
    let at = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder.path()).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("HOME", folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        command.stdin(std::fs::File::open(&secret).unwrap());
        command
    };
    let ok = |program: &Path, arguments: &[&str]| assert!(at(program, arguments).status().unwrap().success());
    let daemon = Path::new(DAEMON);
    let init = ["init", "--data", "data", "--bundle", "operator", "--passphrase-fd", "0", "--kdf-time", "100"];
    ok(daemon, &[&init[..], &["--listen", "127.0.0.1:0"]].concat());
    let mut serving = at(daemon, &["server", "--data", "data"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(serving.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.split_once("serving on ").map(|(_, address)| address.to_owned())).unwrap();
    println!("resident, sealed: {} KiB", resident_kib(serving.id()));
    ok(&command, &["profile", "add", "p", "--bundle", "operator", "--address", &address]);
    ok(&command, &["unseal", "--fd", "0"]);
    ok(&command, &["set", "app/prod", "KEY", "--generate", "32"]);
    println!("resident, serving: {} KiB", resident_kib(serving.id()));

    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let programs = [(command.as_path(), &["run", "app/prod", "--", "true"][..]), (Path::new("/bin/true"), &[])];
        for ((program, arguments), times) in programs.into_iter().zip(times.iter_mut()) {
            let start = Instant::now();
            ok(program, arguments);
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    let [run, bare] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    println!(
        "strongroom run -- true: {run:.2} ms, true: {bare:.2} ms, {:.2} ms more (medians of {rounds})",
        run - bare
    );
    let _ = serving.kill();
    let _ = serving.wait();
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
