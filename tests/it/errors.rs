//! `X-Strongroom-Error`: every failure has its code on the wire, and the client goes by it. Each code is provoked at a real
//! listener: those of faults with a store that fails or lies, an audit log that takes nothing, and a random source that fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use strongroom::api::error::{ErrorCode, ErrorInfo, Reason};
use strongroom::api::path::Path;
use strongroom::audit::{Device, Syncer};
use strongroom::client::ClientError;
use strongroom::core::{ApprovalRules, Guarded, IdentityPattern};
use strongroom::crypto::CryptoError;
use strongroom::crypto::random::Random;
use strongroom::http::Limits;
use strongroom::store::Store as _;
use strongroom::store::faulty::{Failure, FaultyStore, Lie};
use strongroom::store::sidecar::MemHeader;

use crate::support::raw::{Raw, Reply};
use crate::support::server::{DOMAIN, Server};

const JSON: &str = "Content-Type: application/json\r\n";
const MERGE: &str = "Content-Type: application/merge-patch+json\r\n";
const ALL: &str = r#"path "*" { capabilities = ["create","read","update","patch","delete","list","sudo"] }"#;

/// What was seen of each code.
#[derive(Default)]
struct Seen(BTreeMap<&'static str, ErrorInfo>);

impl Seen {
    /// Sends a request on a connection of its own; its reply must carry `code`, and the status of it.
    fn ask(
        &mut self,
        server: &Server,
        code: ErrorCode,
        verb: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> ErrorInfo {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!("{verb} /v1/{path} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n{body}");
        let reply = Raw::connect(server, &server.operator).ask(&request).unwrap();
        self.take(code, &reply)
    }

    fn take(&mut self, code: ErrorCode, reply: &Reply) -> ErrorInfo {
        let line = reply.header("x-strongroom-error").unwrap_or_else(|| panic!("no code in {reply:?}"));
        let info = ErrorInfo::parse(line).unwrap_or_else(|| panic!("{line:?} is no code"));
        assert_eq!((info.code(), reply.status), (code, code.status()), "{reply:?}");
        self.0.insert(code.word(), info.clone());
        info
    }
}

#[test]
fn codes_come_over_the_wire() {
    let mut seen = Seen::default();
    sealed_and_empty(&mut seen);
    requests(&mut seen);
    approvals(&mut seen);
    rejected(&mut seen);
    faults(&mut seen);
    seen.take(ErrorCode::EnrolmentListener, &crate::enroll_listener::stray());
    let missing: Vec<&str> =
        ErrorCode::ALL.iter().map(|code| code.word()).filter(|word| !seen.0.contains_key(word)).collect();
    assert!(missing.is_empty(), "not seen: {missing:?}");
}

fn sealed_and_empty(seen: &mut Seen) {
    let server = Server::sealed(Limits::default());
    seen.ask(&server, ErrorCode::Sealed, "GET", "secret/data/a", "", "");
    let wrong = r#"{"key":"another passphrase of six words"}"#;
    seen.ask(&server, ErrorCode::WrongKey, "PUT", "sys/unseal", JSON, wrong);
    let info = seen.ask(&server, ErrorCode::TooMany, "PUT", "sys/unseal", JSON, wrong);
    assert!(info.number("retry-after").is_some_and(|seconds| seconds > 0), "{info}");
    let empty = Server::altered(Limits::default(), |ports, _| ports.header = Arc::new(MemHeader::default()));
    seen.ask(&empty, ErrorCode::NotInitialised, "PUT", "sys/unseal", JSON, wrong);
}

fn requests(seen: &mut Seen) {
    let server = Server::with(Limits { body: Duration::from_millis(300), ..Limits::default() });
    let put =
        |path: &str, body: &str| server.operator().request("POST", path, Some(body.as_bytes())).unwrap().success();
    put("secret/data/a", r#"{"data":{"k":"v"}}"#).unwrap();
    seen.ask(&server, ErrorCode::NotFound, "GET", "secret/data/none", "", "");
    seen.ask(&server, ErrorCode::NotFound, "LIST", "secret/metadata/none", "", "");
    seen.ask(&server, ErrorCode::NotFound, "PATCH", "secret/data/none", MERGE, r#"{"data":{}}"#);
    put("secret/delete/a", r#"{"versions":[1]}"#).unwrap();
    seen.ask(&server, ErrorCode::NotFound, "GET", "secret/data/a", "", "");
    seen.ask(&server, ErrorCode::NoRoute, "GET", "nowhere/a", "", "");
    seen.ask(&server, ErrorCode::BadRequest, "GET", "secret/data/a%2", "", "");
    seen.ask(&server, ErrorCode::BadRequest, "POST", "sys/policies/acl/x", JSON, r#"{"policy":1}"#);
    let late =
        seen.ask(&server, ErrorCode::BadRequest, "POST", "secret/data/a", JSON, r#"{"options":{"cas":9},"data":{}}"#);
    assert_eq!(late.reason(), Some(Reason::CheckAndSet));
    let newer = "X-Strongroom-Seen: 9.000102030405060708090a0b0c0d0e0f.1\r\n";
    let info = seen.ask(&server, ErrorCode::RolledBack, "GET", "secret/data/a", newer, "");
    assert_eq!((info.number("epoch"), info.number("generation").is_some()), (Some(1), true), "{info}");
    seen.ask(&server, ErrorCode::Unsupported, "POST", "sys/mounts", JSON, "{}");
    seen.ask(&server, ErrorCode::Unsupported, "BREW", "secret/data/a", "", "");
    seen.ask(&server, ErrorCode::MediaType, "PATCH", "secret/data/a", JSON, r#"{"data":{}}"#);
    seen.ask(&server, ErrorCode::TooLarge, "POST", "secret/data/a", "Content-Length: 99999999\r\n", "");
    seen.ask(&server, ErrorCode::TooSlow, "POST", "secret/data/a", "Content-Length: 9\r\n", "");
    let page = seen.ask(&server, ErrorCode::Denied, "GET", "secret/data/a", "Origin: https://example.org\r\n", "");
    assert_eq!(page.reason(), Some(Reason::WebPage));
    let mut nobody = Raw::connect(&server, &server.certificate("app/nobody"));
    assert_eq!(seen.take(ErrorCode::Denied, &nobody.get("secret/data/a").unwrap()).reason(), None);
    put("sys/quotas/rate-limit/noisy", r#"{"identity":"app/noisy","class":"read","rate":1,"burst":1}"#).unwrap();
    drop(server.application("app/noisy", ALL));
    let mut noisy = Raw::connect(&server, &server.certificate("app/noisy"));
    let refused = (0..500).map(|_| noisy.get("secret/metadata/a").unwrap()).find(|reply| reply.status == 429);
    let info = seen.take(ErrorCode::RateLimited, &refused.expect("one a second is less than a connection can ask"));
    assert!(info.number("retry-after").is_some(), "{info}");
}

fn approvals(seen: &mut Seen) {
    let server = Server::altered(Limits::default(), |_, settings| {
        let approvers = vec![IdentityPattern::parse("ops/*", DOMAIN).unwrap()];
        settings.approvals =
            Some(ApprovalRules::new(2, approvers, BTreeSet::from(Guarded::ALL), 3_600).unwrap().into());
    })
    .unsealed();
    let put = |path: &str, body: &str| server.operator().request("POST", path, Some(body.as_bytes())).unwrap();
    put("secret/data/a", r#"{"data":{"k":"v"}}"#).success().unwrap();
    let guarded = ("secret/destroy/a", r#"{"versions":[1]}"#);
    let info = seen.ask(&server, ErrorCode::ApprovalNeeded, "POST", guarded.0, JSON, guarded.1);
    let id = info.fact("id").unwrap().to_owned();
    assert_eq!((id.len(), info.number("missing")), (16, Some(1)), "{info}");
    assert_eq!(put(guarded.0, guarded.1).refusal().approval(), Some(id.as_str()));
}

/// Somebody who may not approve asks, and an operator says no.
fn rejected(seen: &mut Seen) {
    let server = Server::altered(Limits::default(), |_, settings| {
        let approvers = vec![IdentityPattern::parse("ops/*", DOMAIN).unwrap()];
        settings.approvals =
            Some(ApprovalRules::new(2, approvers, BTreeSet::from(Guarded::ALL), 3_600).unwrap().into());
    })
    .unsealed();
    let secrets = r#"path "secret/*" { capabilities = ["create","read","update","delete"] }"#;
    let web = server.application("app/web", secrets);
    web.request("POST", "secret/data/a", Some(br#"{"data":{"k":"v"}}"#)).unwrap().success().unwrap();
    let destroy = || web.request("POST", "secret/destroy/a", Some(br#"{"versions":[1]}"#)).unwrap();
    let id = destroy().refusal().approval().unwrap().to_owned();
    let reject = format!("sys/strongroom/approvals/{id}/reject");
    server.operator().request("POST", &reject, Some(b"{}")).unwrap().success().unwrap();
    let body = r#"{"versions":[1]}"#;
    let length = body.len();
    let request = format!(
        "POST /v1/secret/destroy/a HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: {length}\r\n\r\n{body}"
    );
    let reply = Raw::connect(&server, &server.certificate("app/web")).ask(&request).unwrap();
    assert_eq!(seen.take(ErrorCode::ApprovalRejected, &reply).fact("id"), Some(id.as_str()));
}

/// What makes the faults.
struct Faulty {
    server: Server,
    store: Arc<FaultyStore>,
    /// The audit log takes nothing.
    full: Arc<AtomicBool>,
    /// The random source fails.
    dry: Arc<AtomicBool>,
}

struct FullLog(Box<dyn Device>, Arc<AtomicBool>);

impl Device for FullLog {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        if self.1.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("takes nothing"));
        }
        self.0.append(lines)
    }

    fn syncer(&self) -> Arc<dyn Syncer> {
        self.0.syncer()
    }

    fn reopen(&mut self) -> std::io::Result<bool> {
        self.0.reopen()
    }
}

struct DryRandom(Arc<dyn Random>, Arc<AtomicBool>);

impl Random for DryRandom {
    fn fill(&self, out: &mut [u8]) -> Result<(), CryptoError> {
        if self.1.load(Ordering::SeqCst) { Err(CryptoError::Random) } else { self.0.fill(out) }
    }
}

impl Faulty {
    fn new() -> Self {
        let (full, dry): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
        let mut store = None;
        let server = Server::altered(Limits::default(), |ports, _| {
            let faulty = Arc::new(FaultyStore::new(Arc::clone(&ports.store)));
            store = Some(Arc::clone(&faulty));
            ports.store = faulty;
            ports.random = Arc::new(DryRandom(Arc::clone(&ports.random), Arc::clone(&dry)));
            let (inner, full) =
                (std::mem::replace(&mut ports.audit, Box::new(|_, _, _| unreachable!())), Arc::clone(&full));
            ports.audit = Box::new(move |keys, expected, now_ms| {
                let (device, resume) = inner(keys, expected, now_ms)?;
                Ok((Box::new(FullLog(device, Arc::clone(&full))) as Box<dyn Device>, resume))
            });
            // The process would end here.
            ports.on_fatal = Box::new(|_| ());
        })
        .unsealed();
        let written = server.operator().request("POST", "secret/data/a", Some(br#"{"data":{"k":"v"}}"#)).unwrap();
        written.success().unwrap();
        Self { server, store: store.unwrap(), full, dry }
    }
}

fn faults(seen: &mut Seen) {
    let Faulty { server, store, full, dry } = Faulty::new();
    let write = ("secret/data/a", r#"{"data":{"k":"w"}}"#);
    store.fail_commit(1, Failure::Full);
    seen.ask(&server, ErrorCode::StorageFull, "POST", write.0, JSON, write.1);
    full.store(true, Ordering::SeqCst);
    seen.ask(&server, ErrorCode::AuditUnavailable, "GET", "secret/data/a", "", "");
    seen.ask(&server, ErrorCode::AuditUnavailable, "POST", write.0, JSON, write.1);
    full.store(false, Ordering::SeqCst);
    dry.store(true, Ordering::SeqCst);
    seen.ask(&server, ErrorCode::Internal, "POST", "auth/token/create", JSON, "{}");
    dry.store(false, Ordering::SeqCst);
    // None of that was done, and all of it is over.
    let read = server.operator().request("GET", "secret/data/a", None).unwrap().success().unwrap();
    assert!(String::from_utf8_lossy(&read.body).contains(r#""k":"v""#), "the first value");
    let mut keys = Vec::new();
    let each = &mut |key: &[u8], _: &[u8]| {
        keys.push(key.to_vec());
        std::ops::ControlFlow::Continue(())
    };
    store.scan(b"", each).unwrap();
    keys.into_iter().for_each(|key| store.lie(key, Lie::Altered));
    seen.ask(&server, ErrorCode::Integrity, "GET", "secret/data/a", "", "");
    store.stop_lying();
    // It is unknown whether a commit that fails is on the disk.
    let Faulty { server, store, .. } = Faulty::new();
    store.fail_commit(1, Failure::After);
    seen.ask(&server, ErrorCode::Unavailable, "POST", write.0, JSON, write.1);
}

/// The enrolment listener and the local socket answer by the same functions; what the command does with codes is tried with it.
#[test]
fn the_client_reads_codes_and_not_texts() {
    let sealed = Server::sealed(Limits::default());
    let error = sealed.operator().kv("secret").read(&Path::parse("a").unwrap(), None).err().unwrap();
    assert!(error.is_sealed() && error.to_string().contains("strongroom unseal"), "{error}");
    let server = Server::start();
    let client = server.operator();
    let error = client.kv("secret").write(&Path::parse("a").unwrap(), b"{}", Some(9)).err().unwrap();
    assert!(error.is_cas_mismatch(), "{error}");
    // A text of a caller's own, in the words of another failure, changes nothing.
    let error = client.request("GET", "check-and-set/sealed", None).unwrap().refusal();
    let ClientError::Refused { errors, .. } = &error else { panic!("{error}") };
    assert!(errors[0].contains("check-and-set/sealed"), "{errors:?}");
    assert!(!error.is_sealed() && !error.is_cas_mismatch() && error.info().unwrap().code() == ErrorCode::NoRoute);
}
