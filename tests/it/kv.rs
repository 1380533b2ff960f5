//! KV v2 over a barrier in memory: stories of steps, each with the exact answer. The clock is part of the step.

use strongroom::api::json::Limits;
use strongroom::api::path::Path;
use strongroom::api::reply::{Reply, ReplyStatus};
use strongroom::api::request::{Body, Operation};
use strongroom::barrier::MountId;
use strongroom::engine::kv::Kv;
use strongroom::engine::{Engine, EngineError, Request};
use zeroize::Zeroizing;

use fixture::Bench;

const MOUNT: MountId = MountId([7; 16]);

mod fixture {
    use std::sync::Arc;

    use strongroom::barrier::{AuditHead, Barrier, Parts, Tx};
    use strongroom::crypto::envelope::Suite;
    use strongroom::crypto::password::WRITE_FLOOR;
    use strongroom::crypto::random::SeededRandom;
    use strongroom::engine::EngineError;
    use strongroom::keys::{Header, NewSlot, Unlock, VaultId};
    use strongroom::store::sidecar::{MemAnchor, MemHeader};

    pub struct Bench(pub Barrier);

    impl Bench {
        /// A new vault in memory; a key-file slot needs no Argon2.
        pub fn new() -> Self {
            let random = Arc::new(SeededRandom::new(7));
            let slot = NewSlot { label: "key", secret: Unlock::KeyFile(&[9; 32]), params: WRITE_FLOOR };
            let (header, opened) =
                Header::create(VaultId([1; 16]), &[slot], random.as_ref(), 1, Suite::Aes256Gcm).expect("a header");
            let parts = Parts {
                store: strongroom::store::open("memory", std::path::Path::new(""), true).expect("a store"),
                header: Arc::new(MemHeader::default()),
                anchor: Arc::new(MemAnchor::default()),
                random,
            };
            Self(Barrier::create(parts, &header, opened, 1).expect("a barrier"))
        }

        /// One group with one closure, durable and published when the closure succeeds.
        pub fn commit<T>(
            &self,
            now_ms: u64,
            run: impl FnOnce(&mut Tx<'_>) -> Result<T, EngineError>,
        ) -> Result<T, EngineError> {
            let mut group = self.0.begin();
            let out = group.run(run)?;
            if !group.is_empty() {
                let durable = group.store(AuditHead { seq: 0, hash: [0; 32] }, now_ms)?;
                durable.anchor()?;
                durable.publish();
            }
            Ok(out)
        }
    }
}

fn parse(verb: &str) -> Operation {
    match verb {
        "GET" => Operation::Read,
        "LIST" => Operation::List,
        "POST" => Operation::Write,
        "PATCH" => Operation::Patch,
        "DELETE" => Operation::Delete,
        _ => panic!("{verb}"),
    }
}

/// Runs one request as the core would: plan, then read view or group.
fn call(bench: &Bench, now_ms: u64, verb: &str, path: &str, body: &str) -> String {
    let path = Path::parse(path).expect(path);
    let operation = parse(verb);
    let body = Body::from_json(Zeroizing::new(body.as_bytes().to_vec()), &Limits::default()).expect("json");
    let request = Request { operation, path, body, if_none_match: None };
    let answer = Kv::new().plan(operation, &request.path).and_then(|plan| {
        if plan.mutates {
            bench.commit(now_ms, |tx| Kv::new().write(tx, MOUNT, &request, now_ms))
        } else {
            Kv::new().read(&bench.0.view(MOUNT), &request, now_ms)
        }
    });
    show(answer)
}

fn show(answer: Result<Reply, EngineError>) -> String {
    match answer {
        Ok(Reply { status: ReplyStatus::Ok, data: None, .. }) => "204".to_owned(),
        Ok(reply) => {
            let text = String::from_utf8(reply.data.expect("a body").to_vec()).expect("utf-8");
            serde_json::from_str::<&serde_json::value::RawValue>(&text).expect("well-formed");
            match (reply.status, reply.lists_keys && text == r#"{"keys":[]}"#) {
                (_, true) => "404".to_owned(),
                (ReplyStatus::NotFoundWithBody, _) => format!("404 {text}"),
                _ if reply.warnings.is_empty() => format!("200 {text}"),
                _ => format!("200 {text} warned"),
            }
        }
        Err(EngineError::BadRequest(text)) => format!("400 {text}"),
        Err(EngineError::CheckAndSet(text)) => format!("400 {text}"),
        Err(EngineError::NotFound) => "404".to_owned(),
        Err(EngineError::NotFoundWith(hint)) if hint.contains("data/") => "404 hint".to_owned(),
        Err(EngineError::Unsupported) => "405".to_owned(),
        Err(error) => format!("500 {error}"),
    }
}

fn time(second: &str) -> String {
    if second == "-" {
        String::new()
    } else {
        format!(
            "1970-01-01T00:{:0>2}:{:0>2}Z",
            second.parse::<u32>().unwrap() / 60,
            second.parse::<u32>().unwrap() % 60
        )
    }
}

/// `<1 5 - f>` stands for version 1, written at second 5, not deleted, not destroyed, without labels;
/// `<5 - f>` for the same without number and labels, `@5` for a time.
fn expand(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        let (inside, after) = after.split_once('>').expect("closed");
        let words: Vec<_> = inside.split(' ').collect();
        let (head, tail, state) = match words.as_slice() {
            [version, state @ ..] if words.len() == 4 => {
                (format!("\"version\":{version},"), ",\"custom_metadata\":null", state)
            }
            state => (String::new(), "", state),
        };
        let destroyed = state[2] == "t";
        out += before;
        out += &format!(
            "{head}\"created_time\":\"{}\",\"deletion_time\":\"{}\",\"destroyed\":{destroyed}{tail}",
            time(state[0]),
            time(state[1])
        );
        rest = after;
    }
    out + rest
}

/// Second, request, body, answer.
type Step = (u64, &'static str, &'static str, &'static str);

#[track_caller]
fn story(steps: &[Step]) {
    let bench = Bench::new();
    for (second, request, body, want) in steps {
        let (verb, path) = request.split_once(' ').expect("verb and path");
        let got = call(&bench, second * 1_000, verb, path, body);
        assert_eq!(got, expand(want), "at {second}: {request} {body}");
    }
}

const SET: &str = r#"{"data":{"k":1}}"#;

#[test]
fn writes_make_versions_and_reads_find_them() {
    story(&[
        (1, "GET data/a", "", "404"),
        (1, "POST data/a", r#"{"data":{"k": 1.00, "s":"\u00e9"}}"#, "200 {<1 1 - f>}"),
        (2, "GET data/a", "", r#"200 {"data":{"k": 1.00, "s":"\u00e9"},"metadata":{<1 1 - f>}}"#),
        (2, "POST data/a", r#"{"data":{},"other":1}"#, "200 {<2 2 - f>}"),
        (3, "GET data/a", "", r#"200 {"data":{},"metadata":{<2 2 - f>}}"#),
        (3, "GET data/a", r#"{"version":"0"}"#, r#"200 {"data":{},"metadata":{<2 2 - f>}}"#),
        (3, "GET data/a", r#"{"version":"-3"}"#, r#"200 {"data":{},"metadata":{<2 2 - f>}}"#),
        (3, "GET data/a", r#"{"version":"1"}"#, r#"200 {"data":{"k": 1.00, "s":"\u00e9"},"metadata":{<1 1 - f>}}"#),
        (3, "GET data/a", r#"{"version":"3"}"#, "404"),
        (3, "GET data/a", r#"{"version":"x"}"#, "400 version must be a whole number"),
        (3, "GET data/a/b", "", "404"),
        (3, "POST data/a/b", SET, "200 {<1 3 - f>}"),
    ]);
}

#[test]
fn bad_writes_change_nothing() {
    story(&[
        (1, "POST data/a", "", "400 no data provided"),
        (1, "POST data/a", r#"{"data":null}"#, "400 no data provided"),
        (1, "POST data/a", r#"{"k":1}"#, "400 no data provided"),
        (1, "POST data/a", r#"{"data":[1]}"#, "400 data must be an object"),
        (1, "POST data/a", r#"{"data":{},"options":1}"#, "400 options must be an object"),
        (1, "POST data/a", r#"{"data":{},"options":{"cas":"x"}}"#, "400 cas must be a whole number"),
        (1, "GET metadata/a", "", "404"),
    ]);
    let bench = Bench::new();
    let fits = format!("{{\"data\":{{\"k\":\"{}\"}}}}", "x".repeat((1 << 20) - 8));
    let over = format!("{{\"data\":{{\"k\":\"{}\"}}}}", "x".repeat((1 << 20) - 7));
    assert!(call(&bench, 1, "POST", "data/a", &fits).starts_with("200"));
    assert_eq!(call(&bench, 1, "POST", "data/a", &over), "400 the secret is larger than 1 MiB");
    assert_eq!(call(&bench, 1, "PATCH", "data/a", r#"{"data":{"z":1}}"#), "400 the secret is larger than 1 MiB");
}

#[test]
fn check_and_set() {
    const MISMATCH: &str = "400 check-and-set parameter did not match the current version";
    const REQUIRED: &str = "400 check-and-set parameter required for this call";
    story(&[
        (1, "POST data/a", r#"{"data":{},"options":{"cas":1}}"#, MISMATCH),
        (1, "POST data/a", r#"{"data":{},"options":{"cas":0}}"#, "200 {<1 1 - f>}"),
        (1, "POST data/a", r#"{"data":{},"options":{"cas":0}}"#, MISMATCH),
        (1, "POST data/a", r#"{"data":{},"options":{"cas":-1}}"#, MISMATCH),
        (1, "POST data/a", r#"{"data":{},"options":{"cas":"1"}}"#, "200 {<2 1 - f>}"),
        (1, "POST data/a", r#"{"data":{},"options":{}}"#, "200 {<3 1 - f>}"),
        (2, "DELETE data/a", "", "204"),
        (2, "POST data/a", r#"{"data":{},"options":{"cas":0}}"#, MISMATCH),
        (2, "POST data/a", r#"{"data":{},"options":{"cas":3}}"#, "200 {<4 2 - f>}"),
        (2, "PATCH data/a", r#"{"data":{},"options":{"cas":3}}"#, MISMATCH),
        (2, "PATCH data/a", r#"{"data":{},"options":{"cas":4}}"#, "200 {<5 2 - f>}"),
        (3, "POST metadata/a", r#"{"cas_required":true}"#, "204"),
        (3, "POST data/a", SET, REQUIRED),
        (3, "PATCH data/a", SET, REQUIRED),
        (3, "POST data/b", SET, "200 {<1 3 - f>}"),
        (3, "POST config", r#"{"cas_required":true}"#, "204"),
        (3, "POST data/b", SET, REQUIRED),
        (3, "POST data/c", r#"{"data":{},"options":{"cas":null}}"#, REQUIRED),
        (3, "POST metadata/b", r#"{"cas_required":false}"#, "200 null warned"),
        (3, "POST metadata/b", r#"{"max_versions":3}"#, "204"),
    ]);
}

#[test]
fn patches_merge_into_the_latest() {
    story(&[
        (1, "PATCH data/a", SET, "404"),
        (1, "POST metadata/a", r#"{"max_versions":2}"#, "204"),
        (1, "PATCH data/a", SET, "404"),
        (1, "POST data/a", r#"{"data":{"a":1e400,"b":{"c":1,"d":2}}}"#, "200 {<1 1 - f>}"),
        (2, "PATCH data/a", r#"{"data":{"b":{"c":null},"e":"x"}}"#, "200 {<2 2 - f>}"),
        (2, "GET data/a", "", r#"200 {"data":{"a":1e400,"b":{"d":2},"e":"x"},"metadata":{<2 2 - f>}}"#),
        (2, "PATCH data/a", "{}", "400 no data provided"),
        (3, "DELETE data/a", "", "204"),
        (4, "PATCH data/a", SET, "404 {<2 2 3 f>}"),
        (4, "POST destroy/a", r#"{"versions":[2]}"#, "204"),
        (4, "PATCH data/a", SET, "404 {<2 2 3 t>}"),
    ]);
}

#[test]
fn versions_are_deleted_brought_back_and_destroyed() {
    story(&[
        (1, "DELETE data/a", "", "204"),
        (1, "POST delete/a", r#"{"versions":[1]}"#, "204"),
        (1, "POST undelete/a", r#"{"versions":[1]}"#, "204"),
        (1, "POST destroy/a", r#"{"versions":[1]}"#, "204"),
        (1, "POST data/a", SET, "200 {<1 1 - f>}"),
        (1, "POST data/a", SET, "200 {<2 1 - f>}"),
        (1, "POST data/a", SET, "200 {<3 1 - f>}"),
        (2, "DELETE data/a", "", "204"),
        (3, "DELETE data/a", "", "204"),
        (3, "GET data/a", "", r#"404 {"data":null,"metadata":{<3 1 2 f>}}"#),
        (3, "GET data/a", r#"{"version":2}"#, r#"200 {"data":{"k":1},"metadata":{<2 1 - f>}}"#),
        (3, "POST delete/a", r#"{"versions":"1, 2,9"}"#, "204"),
        (3, "GET data/a", r#"{"version":1}"#, r#"404 {"data":null,"metadata":{<1 1 3 f>}}"#),
        (4, "POST undelete/a", r#"{"versions":["1",3]}"#, "204"),
        (4, "GET data/a", "", r#"200 {"data":{"k":1},"metadata":{<3 1 - f>}}"#),
        (4, "GET data/a", r#"{"version":2}"#, r#"404 {"data":null,"metadata":{<2 1 3 f>}}"#),
        (5, "POST destroy/a", r#"{"versions":[1,2]}"#, "204"),
        (5, "POST undelete/a", r#"{"versions":[1,2]}"#, "204"),
        (5, "POST delete/a", r#"{"versions":[1]}"#, "204"),
        (5, "GET data/a", r#"{"version":1}"#, r#"404 {"data":null,"metadata":{<1 1 - t>}}"#),
        (5, "GET data/a", r#"{"version":2}"#, r#"404 {"data":null,"metadata":{<2 1 3 t>}}"#),
        (5, "POST delete/a", "", "400 No version number provided"),
        (5, "POST delete/a", r#"{"versions":[]}"#, "400 No version number provided"),
        (5, "POST destroy/a", r#"{"versions":""}"#, "400 No version number provided"),
        (5, "POST undelete/a", r#"{"versions":[1,"x"]}"#, "400 versions must be a list of version numbers"),
        (5, "POST undelete/a", r#"{"versions":[-1]}"#, "400 versions must be a list of version numbers"),
        (6, "DELETE metadata/a", "", "204"),
        (6, "DELETE metadata/a", "", "204"),
        (6, "GET data/a", "", "404"),
        (6, "GET metadata/a", "", "404"),
        (6, "POST data/a", r#"{"data":{},"options":{"cas":0}}"#, "200 {<1 6 - f>}"),
    ]);
}

#[test]
fn old_versions_are_pruned() {
    story(&[
        (1, "POST config", r#"{"max_versions":2}"#, "204"),
        (1, "POST data/a", SET, "200 {<1 1 - f>}"),
        (1, "POST data/a", SET, "200 {<2 1 - f>}"),
        (1, "POST data/a", SET, "200 {<3 1 - f>}"),
        (1, "GET data/a", r#"{"version":1}"#, "404"),
        (
            1,
            "GET metadata/a",
            "",
            r#"200 {"versions":{"2":{<1 - f>},"3":{<1 - f>}},"current_version":3,"oldest_version":2,"created_time":"1970-01-01T00:00:01Z","updated_time":"1970-01-01T00:00:01Z","max_versions":0,"cas_required":false,"delete_version_after":"0s","custom_metadata":null}"#,
        ),
        // The larger of mount and secret counts.
        (1, "POST metadata/a", r#"{"max_versions":1}"#, "204"),
        (1, "POST data/a", SET, "200 {<4 1 - f>}"),
        (1, "GET data/a", r#"{"version":3}"#, r#"200 {"data":{"k":1},"metadata":{<3 1 - f>}}"#),
        (1, "POST metadata/a", r#"{"max_versions":3}"#, "204"),
        (1, "POST data/a", SET, "200 {<5 1 - f>}"),
        (1, "GET data/a", r#"{"version":3}"#, r#"200 {"data":{"k":1},"metadata":{<3 1 - f>}}"#),
        (1, "GET data/a", r#"{"version":2}"#, "404"),
    ]);
    let bench = Bench::new();
    for _ in 0..12 {
        call(&bench, 1_000, "POST", "data/a", SET);
    }
    assert_eq!(call(&bench, 1_000, "GET", "data/a", r#"{"version":2}"#), "404");
    assert!(call(&bench, 1_000, "GET", "data/a", r#"{"version":3}"#).starts_with("200"), "ten are kept by default");
}

#[test]
fn versions_expire() {
    story(&[
        (1, "POST config", r#"{"delete_version_after":"10s"}"#, "204"),
        (1, "POST data/a", SET, "200 {<1 1 11 f>}"),
        (10, "GET data/a", "", r#"200 {"data":{"k":1},"metadata":{<1 1 11 f>}}"#),
        (11, "GET data/a", "", r#"404 {"data":null,"metadata":{<1 1 11 f>}}"#),
        (20, "POST undelete/a", r#"{"versions":[1]}"#, "204"),
        (20, "GET data/a", "", r#"200 {"data":{"k":1},"metadata":{<1 1 30 f>}}"#),
        // The smaller span counts, and it is fixed when the version is written.
        (20, "POST metadata/a", r#"{"delete_version_after":"5s"}"#, "204"),
        (20, "POST data/a", SET, "200 {<2 20 25 f>}"),
        (20, "POST metadata/a", r#"{"delete_version_after":60}"#, "204"),
        (20, "POST data/a", SET, "200 {<3 20 30 f>}"),
        (21, "DELETE data/a", "", "204"),
        (21, "GET data/a", "", r#"404 {"data":null,"metadata":{<3 20 21 f>}}"#),
        (21, "POST config", r#"{"delete_version_after":"-1s"}"#, "204"),
        (21, "POST data/a", SET, "200 {<4 21 - f>}"),
        (21, "GET config", "", r#"200 {"max_versions":0,"cas_required":false,"delete_version_after":"0s"}"#),
        (21, "POST config", r#"{"delete_version_after":"0"}"#, "204"),
        (21, "POST data/a", SET, "200 {<5 21 81 f>}"),
        (21, "POST metadata/a", r#"{"delete_version_after":"-1s"}"#, "400 delete_version_after must not be negative"),
    ]);
}

#[test]
fn settings_of_the_mount() {
    story(&[
        (1, "GET config", "", r#"200 {"max_versions":0,"cas_required":false,"delete_version_after":"0s"}"#),
        (1, "POST config", r#"{"max_versions":"5","cas_required":true,"delete_version_after":"768h"}"#, "204"),
        (1, "GET config", "", r#"200 {"max_versions":5,"cas_required":true,"delete_version_after":"768h0m0s"}"#),
        (1, "POST config", r#"{"cas_required":false}"#, "204"),
        (1, "GET config", "", r#"200 {"max_versions":5,"cas_required":false,"delete_version_after":"768h0m0s"}"#),
        (1, "POST config", r#"{"max_versions":99999999999}"#, "204"),
        (1, "GET config", "", r#"200 {"max_versions":1024,"cas_required":false,"delete_version_after":"768h0m0s"}"#),
        (1, "POST config", r#"{"max_versions":-1}"#, "400 max_versions must not be negative"),
        (1, "POST config", r#"{"max_versions":{}}"#, "400 max_versions must be a whole number"),
        (1, "POST config", r#"{"cas_required":1}"#, "400 cas_required must be true or false"),
        (1, "POST config", "", "204"),
        (1, "DELETE config", "", "405"),
        (1, "GET data/config", "", "404"),
        (1, "LIST metadata/", "", "404"),
    ]);
}

#[test]
fn metadata_stands_on_its_own() {
    const TAIL: &str = "custom_metadata validation failed";
    story(&[
        (1, "PATCH metadata/a", r#"{"max_versions":1}"#, "404"),
        (1, "POST metadata/a", "{}", "204"),
        (1, "GET metadata/a", "", "404"),
        (1, "POST metadata/a", r#"{"custom_metadata":{"b":"2","a":"1"},"delete_version_after":"1h"}"#, "204"),
        (1, "GET data/a", "", "404"),
        (
            2,
            "GET metadata/a",
            "",
            r#"200 {"versions":{},"current_version":0,"oldest_version":0,"created_time":"1970-01-01T00:00:01Z","updated_time":"1970-01-01T00:00:01Z","max_versions":0,"cas_required":false,"delete_version_after":"1h0m0s","custom_metadata":{"a":"1","b":"2"}}"#,
        ),
        (
            2,
            "PATCH metadata/a",
            r#"{"custom_metadata":{"a":null,"c":"3"},"delete_version_after":null,"max_versions":4}"#,
            "204",
        ),
        (3, "PATCH metadata/a", r#"{"other":1}"#, "204"),
        (
            3,
            "GET metadata/a",
            "",
            r#"200 {"versions":{},"current_version":0,"oldest_version":0,"created_time":"1970-01-01T00:00:01Z","updated_time":"1970-01-01T00:00:02Z","max_versions":4,"cas_required":false,"delete_version_after":"0s","custom_metadata":{"b":"2","c":"3"}}"#,
        ),
        (
            3,
            "POST data/a",
            r#"{"data":{},"options":{"cas":0}}"#,
            r#"200 {"version":1,<3 - f>,"custom_metadata":{"b":"2","c":"3"}}"#,
        ),
        (4, "POST metadata/a", r#"{"custom_metadata":{"z":"\"quoted\\"}}"#, "204"),
        (
            4,
            "GET data/a",
            "",
            r#"200 {"data":{},"metadata":{"version":1,<3 - f>,"custom_metadata":{"z":"\"quoted\\"}}}"#,
        ),
        (4, "PATCH metadata/a", r#"{"custom_metadata":null}"#, "204"),
        (4, "GET data/a", "", r#"200 {"data":{},"metadata":{<1 3 - f>}}"#),
        (
            4,
            "POST metadata/a",
            r#"{"custom_metadata":{"a":1}}"#,
            "400 custom_metadata validation failed: values must be strings",
        ),
        (
            4,
            "POST metadata/a",
            r#"{"custom_metadata":{"a":null}}"#,
            "400 custom_metadata validation failed: values must be strings",
        ),
        (4, "POST metadata/a", r#"{"custom_metadata":[]}"#, "400 custom_metadata must be an object of strings"),
        (
            4,
            "POST metadata/a",
            r#"{"custom_metadata":{"a":""}}"#,
            "400 custom_metadata validation failed: a value must have 1 to 512 bytes",
        ),
        (
            4,
            "POST metadata/a",
            r#"{"custom_metadata":{"":"a"}}"#,
            "400 custom_metadata validation failed: a key must have 1 to 128 bytes",
        ),
        (
            4,
            "POST metadata/a",
            r#"{"custom_metadata":{"a":"\n"}}"#,
            "400 custom_metadata validation failed: keys and values must be printable",
        ),
    ]);
    let bench = Bench::new();
    for (count, key, value, fits) in [(64, 120, 512, true), (65, 1, 1, false), (1, 130, 1, false), (1, 1, 513, false)] {
        let pairs: Vec<_> = (0..count).map(|i| format!("\"{i:0>key$}\":\"{}\"", "v".repeat(value))).collect();
        let body = format!("{{\"custom_metadata\":{{{}}}}}", pairs.join(","));
        let answer = call(&bench, 1, "POST", "metadata/a", &body);
        assert!(if fits { answer == "204" } else { answer.contains(TAIL) }, "{count} {key} {value}: {answer}");
    }
}

#[test]
fn lists_show_one_level() {
    story(&[
        (1, "LIST metadata/", "", "404"),
        (1, "POST data/b", SET, "200 {<1 1 - f>}"),
        (1, "POST data/b/c/d", SET, "200 {<1 1 - f>}"),
        (1, "POST data/a", SET, "200 {<1 1 - f>}"),
        (1, "POST metadata/z", r#"{"max_versions":1}"#, "204"),
        (1, "DELETE data/a", "", "204"),
        (1, "LIST metadata/", "", r#"200 {"keys":["a","b","b/","z"]}"#),
        (1, "LIST metadata/b/", "", r#"200 {"keys":["c/"]}"#),
        (1, "LIST metadata/b/c/", "", r#"200 {"keys":["d"]}"#),
        (1, "LIST metadata/a/", "", "404"),
        (1, "LIST metadata/b/c/d/", "", "404"),
        (1, "LIST data/b/", "", "405"),
        (1, "LIST data/", "", "404 hint"),
        (1, "DELETE metadata/b/c/d", "", "204"),
        (1, "LIST metadata/", "", r#"200 {"keys":["a","b","z"]}"#),
    ]);
}

#[test]
fn subkeys_show_names_only() {
    story(&[
        (1, "GET subkeys/a", "", "404"),
        (1, "POST data/a", r#"{"data":{"a":1,"b":{"c":{"d":"x"},"e":[{"f":1}]},"g":{}}}"#, "200 {<1 1 - f>}"),
        (
            1,
            "GET subkeys/a",
            "",
            r#"200 {"subkeys":{"a":null,"b":{"c":{"d":null},"e":null},"g":{}},"metadata":{<1 1 - f>}}"#,
        ),
        (
            1,
            "GET subkeys/a",
            r#"{"depth":"1"}"#,
            r#"200 {"subkeys":{"a":null,"b":null,"g":null},"metadata":{<1 1 - f>}}"#,
        ),
        (
            1,
            "GET subkeys/a",
            r#"{"depth":2,"version":"1"}"#,
            r#"200 {"subkeys":{"a":null,"b":{"c":null,"e":null},"g":{}},"metadata":{<1 1 - f>}}"#,
        ),
        (1, "GET subkeys/a", r#"{"depth":"-1"}"#, "400 depth must not be negative"),
        (1, "GET subkeys/a", r#"{"version":"2"}"#, "404"),
        (2, "DELETE data/a", "", "204"),
        (2, "GET subkeys/a", "", r#"404 {"subkeys":null,"metadata":{<1 1 2 f>}}"#),
    ]);
}

#[test]
fn other_paths_get_a_hint_or_a_refusal() {
    story(&[
        (1, "GET a", "", "404 hint"),
        (1, "POST a/b", SET, "404 hint"),
        (1, "LIST a/", "", "404 hint"),
        (1, "GET data", "", "404 hint"),
        (1, "GET data/a/", "", "404"),
        (1, "POST data/a/", SET, "404"),
        (1, "GET metadata/a/", "", "404"),
        (1, "GET delete/a", "", "405"),
        (1, "DELETE destroy/a", "", "405"),
        (1, "POST subkeys/a", "{}", "405"),
        (1, "PATCH undelete/a", "{}", "405"),
        (1, "PATCH config", "{}", "405"),
    ]);
}

#[test]
fn existence_is_that_of_the_metadata() {
    let bench = Bench::new();
    let path = Path::parse("data/a").unwrap();
    let exists = |bench: &Bench| Kv::new().exists(&bench.0.view(MOUNT), &path).expect("readable");
    assert!(!exists(&bench));
    call(&bench, 1, "POST", "metadata/a", r#"{"max_versions":1}"#);
    assert!(exists(&bench));
    call(&bench, 1, "DELETE", "metadata/a", "");
    assert!(!exists(&bench));
    let plan = |verb, text| Kv::new().plan(parse(verb), &Path::parse(text).unwrap()).expect("planned");
    assert!(plan("POST", "data/a").checks_existence && plan("POST", "metadata/a").checks_existence);
    for (verb, text) in [("PATCH", "data/a"), ("POST", "delete/a"), ("DELETE", "data/a"), ("GET", "data/a")] {
        assert!(!plan(verb, text).checks_existence, "{verb} {text}");
    }
    assert!(!plan("GET", "data/a").mutates && plan("POST", "config").mutates && !plan("LIST", "metadata/").mutates);
}
