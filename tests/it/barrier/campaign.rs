//! Thousands of damaged vaults: each opens whole, or says by name that something is wrong.
//!
//! A vault of 200 secrets is built, with copies of its folder from earlier in its life. Each case damages a fresh copy in
//! one way, opens it as the daemon would and reads everything. A wrong value, a missing one without an error, and a panic
//! that escapes are failures. `STRONGROOM_SEED` repeats a run, `STRONGROOM_FAST=1` makes it short,
//! `STRONGROOM_FULL=1` twenty times as long.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::*;

/// For each engine: cases of a full and of a fast run. Opening sled takes twice as long.
const CASES: [(&str, usize, usize); 2] = [("redb", 1_600, 120), ("sled", 900, 80)];
const SECRETS: usize = 200;
const PAGE: usize = 4_096;
/// A case takes milliseconds. One that takes this long hangs.
const LONGEST_CASE: Duration = Duration::from_secs(120);

/// The vault to damage.
struct Base {
    engine: &'static str,
    vault: PathBuf,
    /// Copies of the folder from earlier, oldest first.
    older: Vec<PathBuf>,
    truth: Truth,
    generation: u64,
}

/// What a damaged vault did.
#[derive(Debug)]
enum Outcome {
    /// Everything was read, and right.
    Whole,
    /// An error; its name.
    Named(String),
    /// Anything that must not be.
    Failed(String),
}

fn build(engine: &'static str, folder: &Path) -> Base {
    let vault = folder.join("vault");
    let mut barrier = create(engine, &vault);
    let mut dice = Dice::new(1, 0);
    let (mut truth, mut older) = (Truth::new(), Vec::new());
    let path = |n: usize| format!("team-{}/secret-{n}", n % 7);
    for stage in 0..4 {
        for group_of in 0..10 {
            let mut group = barrier.begin();
            for n in (0..SECRETS).filter(|n| n % 10 == group_of && (stage == 0 || n % 4 == stage)) {
                // One in a while is larger than a page of either engine.
                let size = if dice.below(25) == 0 { 6_000 } else { 1 + dice.below(200) };
                let value = dice.bytes(size);
                let version = group.run(|tx| write(tx, &path(n), &value)).unwrap();
                truth.entry(path(n)).or_default().insert(version, value);
            }
            if stage == 2 && group_of == 3 {
                group.run(|tx| tx.remove_secret(MOUNT, &path(3))).unwrap();
                truth.remove(&path(3));
            }
            finish(group);
        }
        if stage < 3 {
            // Closed, so that the copy is one that an operator could have made.
            drop(barrier);
            let copied = folder.join(format!("older-{stage}"));
            copy(&vault, &copied);
            older.push(copied);
            barrier = reopen(engine, &vault).0;
        }
    }
    assert_eq!(read_all(&barrier).unwrap(), truth);
    let generation = barrier.mark().2;
    drop(barrier);
    Base { engine, vault, older, truth, generation }
}

/// Damages the copy at `vault` in one way; gives a description.
fn damage(base: &Base, vault: &Path, dice: &mut Dice) -> String {
    let all = files(vault);
    let large: Vec<&PathBuf> =
        all.iter().filter(|path| path.starts_with("store") && length(&vault.join(path)) > 0).collect();
    // Three of four hit the store, the rest any file, so that header and anchor get their share.
    let name = if dice.below(4) > 0 { large[dice.below(large.len())] } else { &all[dice.below(all.len())] };
    let older = &base.older[dice.below(base.older.len())];
    let file = vault.join(name);
    let mut bytes = std::fs::read(&file).unwrap();
    let pages = bytes.len().div_ceil(PAGE).max(1);
    let what = match dice.below(10) {
        0..=2 if !bytes.is_empty() => {
            let count = 1 + dice.below(3);
            for _ in 0..count {
                let at = dice.below(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
            }
            format!("{count} bits flipped")
        }
        3 => {
            let page = dice.below(pages);
            page_of(&mut bytes, page).fill(0);
            format!("page {page} zeroed")
        }
        4 => {
            let (one, other) = (dice.below(pages), dice.below(pages));
            let held = page_of(&mut bytes, one).to_vec();
            let moved = page_of(&mut bytes, other).to_vec();
            let common = held.len().min(moved.len());
            page_of(&mut bytes, one)[..common].copy_from_slice(&moved[..common]);
            page_of(&mut bytes, other)[..common].copy_from_slice(&held[..common]);
            format!("pages {one} and {other} swapped")
        }
        5 => {
            let end = dice.below(bytes.len() + 1);
            bytes.truncate(end);
            format!("cut to {end} bytes")
        }
        6 => {
            let Ok(old) = std::fs::read(older.join(name)) else { return "no older file: unchanged".to_owned() };
            let count = 1 + dice.below(8);
            for _ in 0..count {
                let start = dice.below(pages) * PAGE;
                let end = (start + PAGE).min(bytes.len()).min(old.len());
                if start < end {
                    bytes[start..end].copy_from_slice(&old[start..end]);
                }
            }
            format!("{count} pages of {} put in", older.display())
        }
        7 => {
            std::fs::remove_dir_all(store_folder(vault)).unwrap();
            copy(&store_folder(older), &store_folder(vault));
            return format!("the store of {} put back", older.display());
        }
        8 => {
            let Ok(old) = std::fs::read(older.join(name)) else { return "no older file: unchanged".to_owned() };
            bytes = old;
            format!("the file of {} put back", older.display())
        }
        _ => {
            std::fs::remove_file(&file).unwrap();
            return format!("{} deleted", name.display());
        }
    };
    std::fs::write(&file, bytes).unwrap();
    format!("{}: {what}", name.display())
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

fn page_of(bytes: &mut [u8], page: usize) -> &mut [u8] {
    let (start, end) = (page * PAGE, ((page + 1) * PAGE).min(bytes.len()));
    &mut bytes[start.min(end)..end]
}

/// Opens and reads everything.
fn judge(base: &Base, vault: &Path) -> Outcome {
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        let store = match store::open(base.engine, &store_folder(vault), false) {
            Ok(store) => store,
            Err(error) => return Outcome::Named(format!("store::open {}", variant(&error))),
        };
        let barrier = match unseal(vault, store) {
            Ok((barrier, _)) => barrier,
            Err(error) => return Outcome::Named(format!("unseal {}", named(&error))),
        };
        match read_all(&barrier) {
            Ok(found) if found != base.truth => Outcome::Failed(difference(&found, &base.truth)),
            Ok(_) if barrier.mark().2 < base.generation => Outcome::Failed("an older generation".to_owned()),
            Ok(_) => Outcome::Whole,
            Err(error) => {
                // Each secret for itself: one bad record must not turn another into a wrong one.
                match wrong_value(&barrier, &base.truth) {
                    Some(path) => Outcome::Failed(format!("{path} is wrong or silently gone")),
                    None => Outcome::Named(format!("read {}", named(&error))),
                }
            }
        }
    }));
    attempt.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Outcome::Failed(format!("a panic escaped: {}", text.unwrap_or_default()))
    })
}

/// Reads every version that must be there; the first that is neither right nor refused.
fn wrong_value(barrier: &Barrier, truth: &Truth) -> Option<String> {
    let view = barrier.view(MOUNT);
    for (path, versions) in truth {
        let node = match view.node(path) {
            Err(_) => continue,
            Ok(None) => return Some(path.clone()),
            Ok(Some(node)) => node,
        };
        for (version, value) in versions {
            match view.value(path, &node, *version) {
                Err(_) => {}
                Ok(Some(found)) if found.reveal() == value.as_slice() => {}
                Ok(_) => return Some(format!("{path} version {version}")),
            }
        }
    }
    None
}

fn difference(found: &Truth, truth: &Truth) -> String {
    let lost = truth.keys().filter(|path| !found.contains_key(*path)).count();
    let invented = found.keys().filter(|path| !truth.contains_key(*path)).count();
    let wrong =
        truth.iter().filter(|(path, versions)| found.get(*path).is_some_and(|found| found != *versions)).count();
    format!("silently: {lost} lost, {invented} invented, {wrong} wrong")
}

fn named(error: &BarrierError) -> String {
    match error {
        BarrierError::Store(source) => format!("Store({})", variant(source)),
        other => variant(other),
    }
}

/// Name of an error without its details.
fn variant(error: &impl std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    text.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
}

/// Case `number`: a copy, one damage, one judgement.
fn case(base: &Base, seed: u64, number: usize, scratch: &Path) -> (String, Outcome) {
    let vault = scratch.join(number.to_string());
    copy(&base.vault, &vault);
    let mut dice = Dice::new(seed, u64::try_from(number).unwrap());
    let damage = damage(base, &vault, &mut dice);
    let outcome = judge(base, &vault);
    std::fs::remove_dir_all(&vault).unwrap();
    (damage, outcome)
}

fn campaign(engine: &'static str) {
    quiet_panics();
    let fast = std::env::var_os("STRONGROOM_FAST").is_some_and(|value| value == "1");
    let (_, full, few) = CASES.into_iter().find(|(name, ..)| *name == engine).unwrap();
    let longer = if std::env::var_os("STRONGROOM_FULL").is_some() { 20 } else { 1 };
    let cases = if fast { few } else { full * longer };
    let seed = seed();
    let folder = folder();
    let base = build(engine, folder.path());
    assert!(matches!(judge(&base, &base.vault), Outcome::Whole), "the undamaged vault opens");

    let next = AtomicUsize::new(0);
    let (tell, told) = mpsc::channel();
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    std::thread::scope(|scope| {
        for worker in 0..2 * std::thread::available_parallelism().map_or(1, usize::from).min(4) {
            let (next, base, folder, tell) = (&next, &base, &folder, tell.clone());
            let work = move || {
                let scratch = folder.path().join(format!("worker-{worker}"));
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= cases {
                        return;
                    }
                    let (damage, outcome) = case(base, seed, number, &scratch);
                    tell.send((number, damage, outcome)).unwrap();
                }
            };
            std::thread::Builder::new().name(QUIET.to_owned()).spawn_scoped(scope, work).unwrap();
        }
        drop(tell);
        for _ in 0..cases {
            let Ok((number, damage, outcome)) = told.recv_timeout(LONGEST_CASE) else {
                // The hanging thread cannot be joined, so the process ends here.
                println!("{engine}, seed {seed}: a case near {} hangs", next.load(Ordering::SeqCst));
                std::process::abort();
            };
            let name = match outcome {
                Outcome::Whole => "whole".to_owned(),
                Outcome::Named(name) => name,
                Outcome::Failed(why) => {
                    failures.push(format!("case {number}: {damage}: {why}"));
                    "FAILED".to_owned()
                }
            };
            *outcomes.entry(name).or_default() += 1;
        }
    });
    println!("{engine}, {cases} cases: {outcomes:#?}");
    let shown = failures.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{engine}, seed {seed}: {} of {cases} failed\n{shown}", failures.len());
    assert!(outcomes.len() > 3, "the damage is of too few kinds to mean anything");
}

const QUIET: &str = "campaign";

/// Engines assert over damaged files thousands of times; those messages would hide everything else.
fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() != Some(QUIET) {
                before(info);
            }
        }));
    });
}

#[test]
fn damaged_redb_stores_open_whole_or_say_why() {
    campaign("redb");
}

#[test]
fn damaged_sled_stores_open_whole_or_say_why() {
    campaign("sled");
}
