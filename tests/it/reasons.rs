//! The reasons of `X-Strongroom-Error` that programs act on, each provoked at a real listener. `errors.rs` does the
//! same for the codes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use strongroom::api::error::{ErrorInfo, Reason};
use strongroom::client::{Client, Response};
use strongroom::http::{self, Limits};
use strongroom::pki::{Bundle, KeyType, request};

use crate::support::raw::Raw;
use crate::support::server::{KEY_FILE, Server, identity, now_ms};

fn post(client: &Client, path: &str, body: &Value) -> Response {
    client.request("POST", &format!("sys/strongroom/{path}"), Some(body.to_string().as_bytes())).unwrap()
}

fn done(client: &Client, path: &str, body: &Value) -> Value {
    post(client, path, body).content().unwrap()
}

/// The reply must be of this status, for this reason.
#[track_caller]
fn assert_refused(reply: Response, status: u16, reason: Reason) -> ErrorInfo {
    let refusal = reply.refusal();
    let info = refusal.info().unwrap_or_else(|| panic!("no code: {refusal}")).clone();
    assert_eq!((reply.status, info.reason()), (status, Some(reason)), "{refusal}");
    info
}

#[test]
fn strings_are_for_registered_identities_and_not_without_end() {
    let server = Server::altered(Limits::default(), |_, settings| settings.max_strings_each = 1).unsealed();
    let operator = server.operator();
    let string = || post(&operator, "enrollments/app/web", &json!({ "addresses": ["localhost:8201"] }));
    assert_refused(string(), 400, Reason::NotRegistered);
    operator.sys().put_identity("app/web", &[]).unwrap();
    string().success().unwrap();
    assert_refused(string(), 400, Reason::LimitReached);
}

#[test]
fn steps_of_an_authority_say_why_they_wait() {
    let mut server = Server::start();
    let operator = server.operator();
    operator.sys().put_identity("app/web", &[]).unwrap();
    done(&operator, "enrollments/app/web", &json!({ "addresses": ["localhost:8201"] }));
    let first = operator.identities().authorities().unwrap().authorities[0].id.clone();
    let next = operator.identities().prepare_authority(None).unwrap();
    let step = |client: &Client, id: &str, step: &str, force: bool| {
        post(client, &format!("ca/{id}/{step}"), &json!({ "force": force }))
    };
    // The operator itself has not fetched it.
    assert_refused(step(&operator, &next, "trust", false), 400, Reason::ForceNeeded);
    let both = server.vault.ca_pem().unwrap();
    server.tls.replace_trust(&http::trust_from_pem(both.as_bytes()).unwrap()).unwrap();
    server.ca_pem = both;
    let operator = server.operator();
    operator.sys().policies().unwrap();
    step(&operator, &next, "trust", false).success().unwrap();
    assert_refused(step(&operator, &next, "activate", false), 400, Reason::EnrolmentsOpen);
    step(&operator, &next, "activate", true).success().unwrap();
    assert_refused(step(&operator, &first, "remove", false), 400, Reason::ForceNeeded);
    assert_refused(step(&operator, &first, "revoke", false), 400, Reason::OwnCertificate);
    let made = request(KeyType::P256).unwrap();
    let renewed = operator.renew(&made.csr_pem).unwrap();
    let bundle = Bundle { cert_pem: renewed.certificate, key_pem: made.key_pem };
    step(&server.client(&bundle), &first, "revoke", false).success().unwrap();
    // The listener of this test still takes the old certificate, as one does whose file names its authority; the vault
    // does not.
    let reply = server.operator().request("GET", "sys/policies/acl/default", None).unwrap();
    assert_refused(reply, 403, Reason::AuthorityEnded);
}

#[test]
fn one_share_is_not_enough_and_the_reply_says_how_many_are() {
    let server = Server::start();
    let operator = server.operator();
    let unlock = json!({ "key_file": STANDARD.encode(KEY_FILE) });
    let new = json!({ "type": "shares", "label": "board", "threshold": 2, "total": 3 });
    let made = done(&operator, "slots/add", &json!({ "unlock": unlock, "new": new }));
    let one = json!({ "unlock": { "shares": [made["shares"][0]] } });
    let info = assert_refused(post(&operator, "slots/test", &one), 400, Reason::SharesMissing);
    assert_eq!((info.number("have"), info.number("need")), (Some(1), Some(2)));
}

#[test]
fn a_certificate_that_expires_on_an_open_connection_is_named() {
    let server = Server::start();
    let operator = server.operator();
    operator.sys().put_identity("app/web", &[]).unwrap();
    // The connection of an admitted caller is closed when its certificate expires. Who is not admitted has a moment for
    // a last reply.
    post(&operator, "disable/app/web", &json!({})).success().unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        // Certificates expire with a second: early in one, there is almost a second left.
        while now_ms() % 1_000 > 200 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let bundle = server.vault.issue_client(&identity("app/web"), 1).unwrap();
        let expires_ms = (now_ms() / 1_000 + 1) * 1_000;
        let mut connection = Raw::connect(&server, &bundle);
        let reasons: BTreeSet<_> = std::iter::from_fn(|| {
            std::thread::sleep(Duration::from_millis(50));
            let reply = connection.get("secret/data/a").ok()?;
            let info = ErrorInfo::parse(reply.header("x-strongroom-error")?)?;
            Some((reply.status, info.reason().map(Reason::word)))
        })
        .take_while(|_| now_ms() < expires_ms + 300)
        .collect();
        if reasons.contains(&(403, Some("certificate-expired"))) {
            assert!(reasons.contains(&(403, Some("disabled"))), "{reasons:?}");
            return;
        }
        assert!(Instant::now() < patience, "{reasons:?}");
    }
}

#[test]
fn a_copy_that_is_renewed_again_freezes_and_a_revocation_is_named() {
    let server = Server::start();
    let operator = server.operator();
    operator.sys().put_identity("app/web", &[]).unwrap();
    operator.sys().put_identity("app/db", &[]).unwrap();
    let client = |path: &str| {
        let made = request(KeyType::P256).unwrap();
        let issued = done(&operator, "certificates", &json!({ "identity": path, "csr": made.csr_pem }));
        let bundle = Bundle { cert_pem: issued["certificate"].as_str().unwrap().to_owned(), key_pem: made.key_pem };
        server.client(&bundle)
    };
    let web = client("app/web");
    web.renew(&request(KeyType::P256).unwrap().csr_pem).unwrap();
    let again = json!({ "csr": request(KeyType::P256).unwrap().csr_pem });
    assert_refused(post(&web, "renew", &again), 403, Reason::Frozen);
    let db = client("app/db");
    post(&operator, "revoke/app/db", &json!({})).success().unwrap();
    assert_refused(post(&db, "renew", &again), 403, Reason::Revoked);
}
