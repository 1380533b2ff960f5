//! `X-Strongroom-Error`: every failure has its code on the wire, and the client goes by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use strongroom::api::error::{ErrorCode, ErrorInfo, Reason};
use strongroom::api::path::Path;
use strongroom::client::ClientError;
use strongroom::core::{ApprovalRules, Guarded, IdentityPattern};
use strongroom::http::Limits;
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
    // These take a second operator or a fault below the vault. Their replies are made by the same function, which has a
    // test of its own beside it.
    let elsewhere = ["approval-rejected", "audit-unavailable", "integrity", "internal", "storage-full", "unavailable"];
    let missing: Vec<&str> =
        ErrorCode::ALL.iter().map(|code| code.word()).filter(|word| !seen.0.contains_key(word)).collect();
    assert!(missing.iter().all(|word| elsewhere.contains(word)), "not seen: {missing:?}");
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
