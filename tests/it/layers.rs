//! The house's rules, read off the source: which module may use which, and how long a file may be.

#[path = "layers/functions.rs"]
mod functions;
#[path = "layers/imports.rs"]
mod imports;
#[path = "layers/messages.rs"]
mod messages;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use functions::functions;
use imports::{Imports, circles, shipped};
use messages::torn;

/// For each module of the library, the modules of the library it may name. `docs/ARCHITECTURE.md` explains the arrows.
const MAY_USE: &[(&str, &[&str])] = &[
    ("wiped", &[]),
    ("os", &["crypto"]),
    ("api", &["wiped"]),
    // `crypto`, `enroll`, `pki`: a client makes its own key, proves an enrolment and names the authorities it trusts.
    ("client", &["api", "crypto", "enroll", "pki", "wiped"]),
    ("dotenv", &["api", "wiped"]),
    ("exec", &["api", "dotenv"]),
    ("crypto", &["wiped"]),
    ("keys", &["crypto"]),
    ("store", &[]),
    ("policy", &["api"]),
    ("barrier", &["keys", "crypto", "store"]),
    ("audit", &["api", "crypto"]),
    ("pki", &["api", "crypto", "wiped"]),
    ("enroll", &["api", "crypto", "wiped"]),
    ("auth", &["api", "crypto", "pki", "wiped"]),
    ("rotate", &["api", "crypto", "wiped"]),
    ("limits", &["api"]),
    ("engine", &["api", "barrier", "crypto", "wiped"]),
    ("connect", &["api", "crypto", "wiped"]),
    (
        "core",
        &[
            "engine", "policy", "audit", "barrier", "keys", "api", "pki", "crypto", "store", "rotate", "connect",
            "enroll", "limits", "auth", "wiped",
        ],
    ),
    // `client`: both ends of a connection share one definition of the TLS provider.
    ("http", &["core", "api", "pki", "client", "crypto", "enroll", "wiped"]),
    // Not in what is installed: collects what must hold for each reader of outside bytes.
    ("testing", &["api", "policy", "keys", "barrier", "audit", "dotenv", "pki", "enroll", "http", "store"]),
];

/// The floors of `core`, from the ground up: a name, the files below `src/core` that make it up (a folder stands for all in it
/// that no other floor names), and the floors that they may name. A floor names only floors above its own line here, so
/// there is no way back, and every arrow of the table is there in the code; `docs/ARCHITECTURE.md` draws it. `core/mod.rs` is the door and may name everything.
const CORE_FLOORS: &[(&str, &[&str], &[&str])] = &[
    ("base", &["error", "request"], &[]),
    // A caller with a certificate of an outside PKI carries what the roles said of it, and settings name identities as the
    // state does.
    ("state", &["state", "caller", "ports"], &["base"]),
    ("facts", &["pipeline/audited"], &["base", "state"]),
    ("live", &["live"], &["base", "state"]),
    ("commit", &["commit"], &["base", "state", "facts", "live"]),
    // These change records inside a commit and know no vault; the rest of `certificates` answers requests.
    (
        "issuing",
        &["certificates/issue", "certificates/succession", "certificates/cascade"],
        &["base", "state", "commit"],
    ),
    ("rotation", &["rotation"], &["base", "state", "facts", "commit", "issuing"]),
    ("vault", &["vault"], &["base", "state", "live", "commit", "rotation"]),
    // A row says what it runs, with the whole vault at hand, and who may: deciding reads the second half.
    ("route", &["pipeline/route"], &["base", "state", "live", "commit", "rotation", "vault"]),
    ("decide", &["decide"], &["base", "state", "route"]),
    // The guard runs a change in its commit and takes it back, so it stands above the decision.
    ("approvals", &["approvals"], &["base", "state", "facts", "commit", "route", "decide"]),
    ("lifecycle", &["lifecycle"], &["base", "state", "live", "commit", "rotation", "vault", "route", "approvals"]),
    (
        "certificates",
        &["certificates"],
        &["base", "state", "facts", "live", "commit", "issuing", "rotation", "vault", "route", "lifecycle"],
    ),
    ("identities", &["identities"], &["base", "state", "commit", "issuing", "route"]),
    (
        "routes",
        &["routes"],
        &[
            "base",
            "state",
            "live",
            "commit",
            "issuing",
            "rotation",
            "route",
            "decide",
            "approvals",
            "lifecycle",
            "certificates",
            "identities",
        ],
    ),
    (
        "pipeline",
        &["pipeline"],
        &[
            "base",
            "state",
            "facts",
            "live",
            "commit",
            "rotation",
            "vault",
            "route",
            "decide",
            "approvals",
            "lifecycle",
            "routes",
        ],
    ),
];

/// Crates that only these modules may name.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("axum", &["http"]),
    ("hyper", &["http"]),
    ("tokio_rustls", &["http", "connect"]),
    ("tokio_postgres", &["connect"]),
    ("stringprep", &["connect"]),
    ("redb", &["store"]),
    ("sled", &["store"]),
    ("aes_gcm", &["crypto"]),
    ("chacha20poly1305", &["crypto"]),
    ("argon2", &["crypto"]),
    ("hkdf", &["crypto"]),
    ("ml_kem", &["crypto"]),
    ("x25519_dalek", &["crypto"]),
    ("ureq", &["client"]),
    ("rcgen", &["pki"]),
    // `client` names the module of rustls that is called the same.
    ("aws_lc_rs", &["rotate", "client", "pki"]),
    ("toml", &["daemon"]),
    ("clap", &["daemon"]),
];

const LONGEST_FILE_LINES: usize = 600;

/// A route decodes, calls and encodes. What takes more lines belongs to the room that it calls.
const LONGEST_ROUTE_LINES: usize = 10;

/// What a reader can keep in mind of one folder. `src` and `cli/src` themselves are maps of the house, and not counted.
const LARGEST_ROOM_MODULES: usize = 20;

/// Files that need each other are read together, so there may be a few of them.
const LARGEST_CIRCLE_FILES: usize = 4;

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "cli/src", "tests", "benches"] {
        sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 20, "the source is not where this test looks");
    files
}

/// The module of the library a file belongs to, or `None` for `lib.rs`, `main.rs` and files outside `src`.
fn module_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).ok()?;
    let mut parts = inside.components();
    let first = parts.next()?.as_os_str().to_str()?.to_owned();
    if parts.next().is_some() {
        return Some(first);
    }
    // A module that is one file.
    first.strip_suffix(".rs").filter(|name| !matches!(*name, "lib" | "main")).map(str::to_owned)
}

/// Names that stand behind `prefix` in code; comments are cut off.
fn names_after(text: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or_default();
        for part in code.split(prefix).skip(1) {
            let name: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if !name.is_empty() {
                names.push(name);
            }
            if let Some(group) = part.strip_prefix('{') {
                let inside = group.split('}').next().unwrap_or_default();
                names.extend(inside.split(',').filter_map(|item| item.trim().split("::").next()).map(str::to_owned));
            }
        }
    }
    names
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let table: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let modules: Vec<&str> = table.keys().copied().chain(["daemon"]).collect();
    let mut wrong = Vec::new();
    for file in all_sources() {
        let Some(module) = module_of(&file) else { continue };
        let Some(allowed) = table.get(module.as_str()) else {
            assert_eq!(module, "daemon", "{} has no row in the table", file.display());
            continue;
        };
        // Files for tests and fuzzers may reach for a neighbour to build their subject; what ships may not.
        let for_tests = |name: &str| name.starts_with("tests") || name == "fuzz" || name == "fuzz.rs";
        if file.components().any(|part| for_tests(&part.as_os_str().to_string_lossy())) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let shipped = shipped(&text);
        for name in names_after(&shipped, "crate::") {
            if modules.contains(&name.as_str()) && name != module && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{}: {module} must not use {name}", file.display()));
            }
        }
        for (library, homes) in ONLY_IN {
            let used = names_after(&shipped, "use ").iter().any(|name| name == library)
                || shipped.contains(&format!(" {library}::")) && !shipped.contains(&format!("crate::{library}::"));
            if used && !homes.contains(&module.as_str()) {
                wrong.push(format!("{}: only {homes:?} may use {library}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = all_sources()
        .into_iter()
        .filter_map(|file| {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            (lines > LONGEST_FILE_LINES).then(|| format!("{}: {lines} lines", file.display()))
        })
        .collect();
    assert!(long.is_empty(), "split these by responsibility:\n{}", long.join("\n"));
}

/// The helpers of a handler are counted as well, so that its logic does not only move to the next function.
#[test]
fn routes_decode_call_and_encode() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core/routes");
    let mut files = Vec::new();
    for folder in ["sys", "auth"] {
        sources(&root.join(folder), &mut files);
    }
    let (mut counted, mut long) = (0, Vec::new());
    for file in files {
        for (name, lines) in functions(&std::fs::read_to_string(&file).unwrap()) {
            counted += 1;
            if lines > LONGEST_ROUTE_LINES {
                let file = file.strip_prefix(&root).unwrap_or(&file).display();
                long.push(format!("{file}: {name} has {lines} lines"));
            }
        }
    }
    assert!(counted > 90, "the routes are not where this test looks: {counted} functions");
    assert!(long.is_empty(), "move the logic to where it belongs:\n{}", long.join("\n"));
}

#[test]
fn no_room_is_crowded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut rooms: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for file in all_sources() {
        let Ok(inside) = file.strip_prefix(root) else { continue };
        let for_tests = |part: &Path| ["tests", "fuzz", "benches"].iter().any(|name| part.ends_with(name));
        // A file and the folder of that name are one module.
        let module = inside.with_extension("");
        let modules: Vec<&Path> = module.ancestors().collect();
        if modules.iter().any(|part| for_tests(part)) {
            continue;
        }
        for pair in modules.windows(2).filter(|pair| !pair[0].ends_with("mod") && !pair[1].ends_with("src")) {
            rooms.entry(pair[1].to_path_buf()).or_default().insert(pair[0].to_path_buf());
        }
    }
    assert!(
        rooms.keys().filter(|room| room.starts_with("cli")).count() > 5,
        "the command is not where this test looks"
    );
    assert!(
        rooms.keys().filter(|room| room.starts_with("src")).count() > 20,
        "the source is not where this test looks"
    );
    let crowded: Vec<String> = rooms
        .into_iter()
        .filter(|(_, modules)| modules.len() > LARGEST_ROOM_MODULES)
        .map(|(room, modules)| format!("{}: {} modules", room.display(), modules.len()))
        .collect();
    assert!(crowded.is_empty(), "give what belongs together a folder:\n{}", crowded.join("\n"));
}

#[test]
fn no_message_has_a_run_of_blanks_inside_a_sentence() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ships = |file: &&PathBuf| {
        let inside = file.strip_prefix(root).unwrap();
        let for_tests = |part: &Path| ["tests", "fuzz", "testing"].iter().any(|name| part.ends_with(name));
        let shipped = inside.starts_with("src") || inside.starts_with("cli/src");
        shipped && !inside.with_extension("").ancestors().any(for_tests)
    };
    let mut found = Vec::new();
    for file in all_sources().iter().filter(ships) {
        let lines = torn(&std::fs::read_to_string(file).unwrap());
        found.extend(lines.iter().map(|line| format!("{}: {line:?}", file.display())));
    }
    assert!(found.is_empty(), "is there a `\\` missing at the end of a line?\n{}", found.join("\n"));
}

#[test]
fn unsafe_code_stands_in_one_file() {
    for file in all_sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        let allows = text.contains("allow(unsafe_code)") && !file.ends_with("tests/it/layers.rs");
        assert!(!allows || file.ends_with("src/os.rs"), "{} allows unsafe code", file.display());
    }
}

#[test]
fn the_reader_of_names_sees_through_groups_and_comments() {
    let text = "use crate::{api, core::x};\n// crate::hidden\nlet a = crate::store::open();";
    assert_eq!(names_after(text, "crate::"), ["api", "core", "store"]);
}

/// The floor of a file of `core`: the one that names it, or else its nearest folder.
fn core_floor(file: &str) -> Option<&'static str> {
    let inside = file.strip_prefix("src/core/")?.strip_suffix(".rs")?;
    let mut best: Option<(&str, &str)> = None;
    for (floor, places, _) in CORE_FLOORS {
        for place in *places {
            let holds = inside.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            if holds && best.is_none_or(|(nearest, _)| nearest.len() < place.len()) {
                best = Some((place, floor));
            }
        }
    }
    best.map(|(_, floor)| floor)
}

#[test]
fn the_floors_of_core_name_only_what_is_below_them() {
    let mut below: Vec<&str> = Vec::new();
    for (floor, _, may_use) in CORE_FLOORS {
        for named in *may_use {
            assert!(below.contains(named), "{floor} names {named}, which is not below it");
        }
        below.push(floor);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let imports = Imports::read(&[("strongroom", root.join("src"))]);
    let short = |file: &Path| file.strip_prefix(root).unwrap_or(file).display().to_string();
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for (file, uses) in imports.arrows() {
        let file = short(file);
        if !file.starts_with("src/core/") || file == "src/core/mod.rs" {
            continue;
        }
        let Some(floor) = core_floor(&file) else {
            wrong.push(format!("{file} is on no floor"));
            continue;
        };
        let may_use = CORE_FLOORS.iter().find(|(name, ..)| *name == floor).map_or(&[][..], |(_, _, may_use)| may_use);
        for used in uses.into_iter().map(short) {
            if !used.starts_with("src/core/") {
                continue;
            }
            let other = core_floor(&used).unwrap_or("the door");
            seen.insert((floor, other));
            if other != floor && !may_use.contains(&other) {
                wrong.push(format!("{file} ({floor}) must not use {used} ({other})"));
            }
        }
    }
    for (floor, _, may_use) in CORE_FLOORS {
        let idle = may_use.iter().filter(|named| !seen.contains(&(*floor, **named)));
        wrong.extend(idle.map(|named| format!("the table lets {floor} use {named}, and it does not")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_circle_is_large() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let imports = Imports::read(&[("strongroom", root.join("src")), ("cli", root.join("cli/src"))]);
    let arrows = imports.arrows();
    assert!(arrows.len() > 200, "the source is not where this test looks: {} files", arrows.len());
    let mut wrong = String::new();
    for circle in circles(&arrows).into_iter().filter(|circle| circle.len() > LARGEST_CIRCLE_FILES) {
        wrong.push_str(&format!("a circle of {} files:\n", circle.len()));
        for file in &circle {
            let short = |file: &Path| file.strip_prefix(root).unwrap_or(file).display().to_string();
            let onward: Vec<String> =
                arrows[file].iter().filter(|next| circle.contains(next)).map(|next| short(next)).collect();
            wrong.push_str(&format!("  {} -> {}\n", short(file), onward.join(", ")));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
