//! One authority after another, and what becomes of certificates meanwhile.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use crate::api::error::Reason;
use crate::api::reply::Reply;
use crate::api::request::Operation;
use crate::api::spiffe::SpiffeId;
use crate::core::{Caller, Origin, VaultError};
use crate::pki::AuthorityId;

use super::identities::{
    CHANNEL, HOUR_MS, Key, alarms, attempt, bundle, enroll, enrolled, holder, late, string, works,
};
use super::support::{DOMAIN, Rig, json, request, wait};

#[test]
fn an_authority_follows_another_and_nobody_is_cut_off_unasked() {
    let rig = Rig::new();
    let operator = rig.operator();
    let (_, first) = enrolled(&rig, "app/web");
    let old = holder(&rig, &first.certificate);
    assert!(works(&rig, &old), "seen with the old bundle");
    let ca = |path: &str, body: &str| rig.write(&operator, &format!("sys/strongroom/ca/{path}"), body);
    let before = rig.read(&operator, "sys/strongroom/ca").expect("public");
    let first_id = before["authorities"][0]["id"].as_str().expect("text").to_owned();
    let id = json(&ca("prepare", "{}").expect("prepared"))["id"].as_str().expect("text").to_owned();
    assert!(matches!(ca("prepare", "{}"), Err(VaultError::BadRequest(_))), "one at a time");
    match ca(&format!("{id}/trust"), "{}") {
        Err(VaultError::Because(Reason::ForceNeeded, text)) => assert!(text.contains("app/web"), "{text}"),
        other => panic!("expected to be held up, got {:?}", other.err()),
    }
    let stragglers = rig.read(&operator, "sys/strongroom/ca/stragglers").expect("shown");
    assert_eq!(stragglers["identities"], serde_json::json!(["app/web", "ops/olga"]));
    let up_to_date = Caller { bundle: bundle(&rig), ..old.clone() };
    rig.clock.advance(2_000);
    assert!(works(&rig, &up_to_date));
    let operator_now = Caller { bundle: bundle(&rig), ..operator.clone() };
    rig.read(&operator_now, "sys/strongroom/ca/stragglers").expect("seen");
    ca(&format!("{id}/trust"), "{}").expect("everybody has it");
    assert!(matches!(ca(&format!("{id}/remove/x"), "{}"), Err(VaultError::NoRoute(_))));
    ca(&format!("{id}/activate"), "{}").expect("everybody has it");
    assert!(works(&rig, &up_to_date), "the old one is good until its end");
    let renewed = json(&rig.write(&up_to_date, "sys/strongroom/renew", &Key::new().body()).expect("renewed"));
    let new = holder(&rig, renewed["certificate"].as_str().expect("PEM"));
    assert_eq!(new.origin, Origin::Vault(AuthorityId::parse(&id).expect("an id")));
    match ca(&format!("{first_id}/remove"), "{}") {
        Err(VaultError::Because(Reason::ForceNeeded, text)) => {
            assert!(text.contains("ops/olga") && text.contains("server") && !text.contains("app/web"), "{text}");
        }
        other => panic!("expected to be held up, got {:?}", other.err()),
    }
    // The listener has moved, as the daemon makes it do.
    rig.vault.issue_server(&["localhost".to_owned()], 3_600).expect("issued");
    match ca(&format!("{first_id}/remove"), "{}") {
        Err(VaultError::Because(Reason::ForceNeeded, text)) => {
            assert!(text.contains("ops/olga") && !text.contains("server"), "{text}");
        }
        other => panic!("expected to be held up, got {:?}", other.err()),
    }
    let due = |caller: &Caller| rig.read(caller, "sys/strongroom/ca").expect("public")["renew"].clone();
    assert_eq!(due(&up_to_date), false);
    ca(&format!("{first_id}/taint"), "{}").expect("tainted");
    assert!(works(&rig, &up_to_date), "tainted is not revoked");
    assert_eq!((due(&up_to_date), due(&new)), (true.into(), false.into()));
    ca(&format!("{first_id}/remove"), r#"{"force":true}"#).expect("forced");
    assert!(works(&rig, &new) && !works(&rig, &old));
    rig.vault.seal();
    rig.unseal().expect("opens");
    assert!(works(&rig, &new) && !works(&rig, &old));
    assert_eq!(rig.vault.trust().borrow().authorities.len(), 1);
}

#[test]
fn after_a_compromise_only_the_caller_is_in() {
    let rig = Rig::new();
    let operator = rig.operator();
    let (_, first) = enrolled(&rig, "app/web");
    let web = holder(&rig, &first.certificate);
    let open = string(&rig, "app/web", "");
    let next = Key::new();
    let reply = json(&rig.write(&operator, "sys/strongroom/ca/compromise", &next.body()).expect("done"));
    let me = holder(&rig, reply["certificate"].as_str().expect("PEM"));
    assert_eq!(*me.identity, SpiffeId::new(DOMAIN, "ops/olga").expect("legal"));
    assert!(!works(&rig, &web));
    assert!(matches!(enroll(&rig, &open, &Key::new()), Err(VaultError::Forbidden)), "it names the old authority");
    rig.read(&me, "sys/mounts").expect("the caller goes on");
    assert!(alarms(&rig).contains(&"authority-compromised".to_owned()));
    let string = string(&rig, "app/web", "");
    let again = enroll(&rig, &string, &Key::new()).expect("enrolled anew");
    assert!(works(&rig, &holder(&rig, &again.certificate)));
    rig.vault.seal();
    rig.unseal().expect("opens");
    assert!(!works(&rig, &web) && works(&rig, &holder(&rig, &again.certificate)));
}

#[test]
fn an_authority_may_stand_under_an_outside_root() {
    use x509_parser::prelude::{FromDer, X509Certificate};

    let rig = Rig::new();
    let operator = rig.operator();
    let ca = |path: &str, body: &str| rig.write(&operator, &format!("sys/strongroom/ca/{path}"), body);
    let csr = json(&ca("request", "{}").expect("made"))["csr"].as_str().expect("PEM").to_owned();
    assert_eq!(json(&ca("request", "{}").expect("the same"))["csr"], csr);
    // The owner of the root signs it.
    let root_key = rcgen::KeyPair::generate().expect("a key");
    let root = |room: u8| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "House Root");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(room));
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        params.not_before = rcgen::date_time_ymd(2025, 1, 1);
        params.not_after = rcgen::date_time_ymd(2035, 1, 1);
        params
    };
    let sign = |room: u8, csr: &str, is_ca: bool| {
        let params = root(room);
        let pem = params.self_signed(&root_key).expect("signed").pem();
        let issuer = rcgen::Issuer::new(params, &root_key);
        let mut request = rcgen::CertificateSigningRequestParams::from_pem(csr).expect("a request");
        request.params.not_before = rcgen::date_time_ymd(2025, 1, 1);
        request.params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        request.params.is_ca = match is_ca {
            true => rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0)),
            false => rcgen::IsCa::ExplicitNoCa,
        };
        request.params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let signed = request.signed_by(&issuer).expect("signed").pem();
        format!("{signed}{pem}")
    };
    let body = |chain: &str| serde_json::json!({ "chain": chain }).to_string();
    let foreign = rcgen::KeyPair::generate().expect("a key");
    let foreign = rcgen::CertificateParams::default().serialize_request(&foreign).expect("made").pem().expect("PEM");
    let good = sign(1, &csr, true);
    let only = good.split_inclusive("-----END CERTIFICATE-----").next().expect("one").to_owned();
    for (bad, why) in [
        (String::new(), "nothing"),
        (only, "no root"),
        (sign(1, &foreign, true), "another key"),
        (sign(0, &csr, true), "no room below the root"),
        (sign(1, &csr, false), "no authority"),
        (good.replace("-----BEGIN", "-----BEGUN"), "no PEM"),
    ] {
        assert!(matches!(ca("import", &body(&bad)), Err(VaultError::BadRequest(_))), "{why}");
    }
    // A role that names the certificate which is about to become ours would make outsiders of everybody.
    let early = good.split_inclusive("-----END CERTIFICATE-----").next().expect("one");
    let role = serde_json::json!({ "certificate": early, "allowed_names": "*", "policies": "none" }).to_string();
    rig.write(&operator, "auth/cert/certs/early", &role).expect("not ours yet");
    match ca("import", &body(&good)) {
        Err(VaultError::BadRequest(text)) => assert!(text.contains("a role of auth/cert"), "{text}"),
        other => panic!("expected a refusal, got {:?}", other.err()),
    }
    rig.ask(&operator, Operation::Delete, "auth/cert/certs/early", "").expect("deleted");
    let id = json(&ca("import", &body(&good)).expect("taken"))["id"].as_str().expect("text").to_owned();
    assert!(matches!(ca("import", &body(&good)), Err(VaultError::BadRequest(_))), "the request is answered");
    for step in ["trust", "activate"] {
        ca(&format!("{id}/{step}"), r#"{"force":true}"#).expect("goes on");
    }
    rig.vault.seal();
    rig.unseal().expect("opens");
    let (_, enrolled) = enrolled(&rig, "app/web");
    assert!(works(&rig, &holder(&rig, &enrolled.certificate)));
    let served = rig.vault.issue_server(&["localhost".to_owned()], 3_600).expect("issued");
    let certificates: Vec<_> =
        x509_parser::pem::Pem::iter_from_buffer(served.cert_pem.as_bytes()).collect::<Result<_, _>>().expect("PEM");
    assert_eq!(certificates.len(), 2, "the leaf and its authority; the root is the verifier's");
    let (leaf, own) = (certificates[0].parse_x509().expect("DER"), certificates[1].parse_x509().expect("DER"));
    let root_pem = root(1).self_signed(&root_key).expect("signed");
    let (_, root) = X509Certificate::from_der(root_pem.der()).expect("DER");
    leaf.verify_signature(Some(own.public_key())).expect("by the authority");
    own.verify_signature(Some(root.public_key())).expect("by the root");
}

#[test]
fn certificates_are_rotations_like_others() {
    let rig = Rig::new();
    let (_, first) = enrolled(&rig, "app/web");
    let old = holder(&rig, &first.certificate);
    let operator = Caller { not_after_ms: u64::MAX, ..rig.operator() };
    let list = || rig.read(&operator, "sys/strongroom/rotations").expect("listed")["certificates"].clone();
    let find = |id: &str| {
        let rows = list();
        rows.as_array().expect("a list").iter().find(|row| row["id"] == id).cloned()
    };
    assert_eq!(find("client-certificates").expect("there")["state"], "current");
    assert_eq!(find("server-certificate").expect("there")["state"], "current");
    assert_eq!(list()[0]["state"], "active");
    rig.clock.advance(20 * HOUR_MS);
    let clients = find("client-certificates").expect("there");
    assert_eq!((clients["state"].as_str(), clients["done"].as_u64()), (Some("due"), Some(0)));
    let late: Vec<_> = list()
        .as_array()
        .expect("a list")
        .iter()
        .filter(|row| row["target"].as_str().is_some_and(|t| t.starts_with("app/web")))
        .cloned()
        .collect();
    assert_eq!(late.len(), 1);
    let id = late[0]["id"].as_str().expect("text");
    assert_eq!(
        rig.read(&operator, &format!("sys/strongroom/rotations/{id}")).expect("one")["error"],
        "its renewal is late"
    );
    rig.write(&old, "sys/strongroom/renew", &Key::new().body()).expect("renewed");
    assert_eq!(find("client-certificates").expect("there")["done"], 1);
}

/// Runs all of `requests` in one commit, in this order; a path that does not begin with `sys/` is below `ca/`.
fn in_one_commit(rig: &Rig, requests: &[(&Caller, String, &str)]) -> Vec<Result<Reply, VaultError>> {
    let asked = requests.iter().map(|(caller, path, body)| -> Asked<'_> {
        let path = if path.starts_with("sys/") { path.clone() } else { format!("sys/strongroom/ca/{path}") };
        Box::pin(rig.vault.handle(caller, request(Operation::Write, &path, body)))
    });
    together(rig, asked.collect())
}

/// The same for whatever waits for a commit once it is polled.
fn together(rig: &Rig, mut asked: Vec<Asked<'_>>) -> Vec<Result<Reply, VaultError>> {
    let operator = rig.operator();
    rig.spy.hold_anchor();
    let poll = |future: &mut Asked<'_>| {
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    };
    let mut before: Asked<'_> =
        Box::pin(rig.vault.handle(&operator, request(Operation::Write, "secret/data/held", r#"{"data":{}}"#)));
    poll(&mut before);
    rig.spy.await_held();
    asked.iter_mut().for_each(poll);
    rig.spy.clear();
    rig.spy.release();
    wait(before).expect("written");
    let answers = asked.into_iter().map(wait).collect();
    assert!(rig.spy.count("commit") <= 1, "they were not together");
    answers
}

type Asked<'a> = Pin<Box<dyn Future<Output = Result<Reply, VaultError>> + 'a>>;

/// Every authority that has not ended, by its state.
fn stages(rig: &Rig) -> Vec<String> {
    let all = rig.read(&rig.operator(), "sys/strongroom/ca").expect("public")["authorities"].clone();
    let stages = all.as_array().expect("a list").iter().map(|one| one["state"].as_str().expect("text").to_owned());
    stages.filter(|stage| !matches!(stage.as_str(), "removed" | "revoked")).collect()
}

/// A vault with an authority that follows, up to the step `trust`; its id.
fn with_next() -> (Rig, String, String) {
    let rig = Rig::new();
    let operator = rig.operator();
    let ca = |path: &str| rig.write(&operator, &format!("sys/strongroom/ca/{path}"), FORCE);
    let first = rig.read(&operator, "sys/strongroom/ca").expect("public")["authorities"][0]["id"].clone();
    let reply = rig.write(&operator, "sys/strongroom/ca/prepare", "{}").expect("prepared");
    let next = json(&reply)["id"].as_str().expect("text").to_owned();
    ca(&format!("{next}/trust")).expect("trusted");
    (rig, first.as_str().expect("text").to_owned(), next)
}

const FORCE: &str = r#"{"force":true}"#;

/// Two administrators with certificates of the authority that signs.
fn administrators(rig: &Rig) -> [Caller; 2] {
    ["ops/one", "ops/two"].map(|path| {
        rig.write(&rig.operator(), &format!("sys/strongroom/identities/{path}"), r#"{"policies":["admin"]}"#)
            .expect("registered");
        holder(rig, &enroll(rig, &string(rig, path, ""), &Key::new()).expect("enrolled").certificate)
    })
}

#[test]
fn an_authority_that_has_just_ended_does_not_come_to_sign() {
    let (rig, first, next) = with_next();
    let operator = rig.operator();
    for (ends, goes_on) in [("remove", "activate"), ("revoke", "activate")] {
        let (rig, _, next) = with_next();
        let operator = rig.operator();
        let both = [(&operator, format!("{next}/{ends}"), FORCE), (&operator, format!("{next}/{goes_on}"), FORCE)];
        let answers = in_one_commit(&rig, &both);
        assert!(answers[0].is_ok(), "{ends}");
        assert!(matches!(answers[1], Err(VaultError::Unavailable(_))), "{ends} and {goes_on}");
        assert_eq!(stages(&rig), ["active"]);
        enrolled(&rig, "app/web");
        let again = rig.write(&operator, &format!("sys/strongroom/ca/{next}/{goes_on}"), FORCE).err();
        assert!(matches!(again, Some(VaultError::BadRequest(_))), "{again:?}");
    }
    // What one step counts on the other has changed.
    let both = [(&operator, format!("{next}/activate"), FORCE), (&operator, format!("{first}/remove"), "{}")];
    let answers = in_one_commit(&rig, &both);
    assert!(answers[0].is_ok() && matches!(answers[1], Err(VaultError::Unavailable(_))));
    assert_eq!(stages(&rig), ["retiring", "active"]);
}

#[test]
fn two_who_make_an_authority_at_once_make_one() {
    let rig = Rig::new();
    let operator = rig.operator();
    let answers =
        in_one_commit(&rig, &[(&operator, "prepare".to_owned(), "{}"), (&operator, "prepare".to_owned(), "{}")]);
    assert!(answers[0].is_ok() && matches!(answers[1], Err(VaultError::BadRequest(_))));
    assert_eq!(stages(&rig), ["active", "prepared"]);
}

#[test]
fn a_compromise_leaves_one_authority_whatever_comes_with_it() {
    let (key, other) = (Key::new(), Key::new());
    let (body, other) = (key.body(), other.body());
    let rig = Rig::new();
    let [one, two] = administrators(&rig);
    // The second asks with a certificate that the first has ended.
    let answers =
        in_one_commit(&rig, &[(&one, "compromise".to_owned(), &body), (&two, "compromise".to_owned(), &other)]);
    assert!(matches!(answers[1], Err(VaultError::Forbidden)));
    assert_eq!(stages(&rig), ["active"]);
    let me = holder(&rig, json(answers[0].as_ref().expect("done"))["certificate"].as_str().expect("PEM"));
    rig.read(&me, "sys/mounts").expect("the one who was told so is in");
    // Nor does anything else follow on the word of somebody who is out.
    for (path, rest) in [("prepare", "{}"), ("request", "{}"), ("import", r#"{"chain":"x"}"#)] {
        let [one, two] = administrators(&rig);
        let answers = in_one_commit(&rig, &[(&one, "compromise".to_owned(), &body), (&two, path.to_owned(), rest)]);
        assert!(answers[0].is_ok() && matches!(answers[1], Err(VaultError::Forbidden)), "{path}");
    }
    // An authority that was prepared a moment before may be the thief's.
    let rig = Rig::new();
    let operator = rig.operator();
    let answers =
        in_one_commit(&rig, &[(&operator, "prepare".to_owned(), "{}"), (&operator, "compromise".to_owned(), &body)]);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(stages(&rig), ["active"]);
    enrolled(&rig, "app/web");
}

#[test]
fn a_certificate_is_of_the_authority_that_signs_at_its_place_in_the_commit() {
    let (rig, _, next) = with_next();
    let operator = rig.operator();
    let (_, first) = enrolled(&rig, "app/web");
    let web = holder(&rig, &first.certificate);
    let (renewal, order) = (Key::new().body(), Key::new());
    let order = serde_json::json!({ "identity": "app/other", "csr": order.csr }).to_string();
    let answers = in_one_commit(
        &rig,
        &[
            (&operator, format!("{next}/activate"), FORCE),
            (&web, "sys/strongroom/renew".to_owned(), &renewal),
            (&operator, "sys/strongroom/certificates".to_owned(), &order),
        ],
    );
    assert!(answers[0].is_ok());
    for answer in &answers[1..] {
        let reply = json(answer.as_ref().expect("issued"));
        let new = holder(&rig, reply["certificate"].as_str().expect("PEM"));
        assert_eq!(new.origin, Origin::Vault(AuthorityId::parse(&next).expect("an id")), "the other one retires");
        // On record under the authority that signed it, too.
        assert_eq!(authority_on_record(&rig, &new), next);
        let told = reply["ca"].as_str().expect("PEM").to_owned();
        assert_eq!(told, rig.read(&operator, "sys/strongroom/ca").expect("public")["bundle"]);
    }
    assert!(works(
        &rig,
        &holder(&rig, json(answers[1].as_ref().expect("issued"))["certificate"].as_str().expect("PEM"))
    ));
}

/// Which authority the ledger names for the certificate of `caller`.
fn authority_on_record(rig: &Rig, caller: &Caller) -> String {
    let live = rig.vault.live().expect("open");
    let snapshot = live.snapshot.load_full();
    let all = snapshot.ledger.of(caller.identity.path());
    let (_, facts) = all.iter().find(|(fingerprint, _)| *fingerprint == caller.fingerprint).expect("on record");
    facts.authority.hex()
}

#[test]
fn nobody_gets_a_certificate_on_the_word_of_an_authority_that_ends_in_the_same_commit() {
    let rig = Rig::new();
    let [one, two] = administrators(&rig);
    let (key, first) = enrolled(&rig, "app/web");
    let web = holder(&rig, &first.certificate);
    rig.write(&one, "sys/strongroom/identities/app/web", r#"{"grace":"3d"}"#).expect("allowed");
    let open = string(&rig, "app/web", "");
    let (mine, renewal, fresh, late_key) = (Key::new().body(), Key::new().body(), Key::new(), Key::new());
    let order = serde_json::json!({ "identity": "app/thief", "csr": fresh.csr }).to_string();
    let ask = |caller, path: &str, body| rig.vault.handle(caller, request(Operation::Write, path, body));
    let answers = together(
        &rig,
        vec![
            Box::pin(ask(&one, "sys/strongroom/ca/compromise", &mine)),
            Box::pin(ask(&web, "sys/strongroom/renew", &renewal)),
            Box::pin(ask(&two, "sys/strongroom/certificates", &order)),
            Box::pin(async { rig.vault.enroll(attempt(&open, &fresh), CHANNEL).await.map(|_| Reply::none()) }),
            Box::pin(async {
                rig.vault.renew_expired(late(&first.certificate, &key, &late_key), CHANNEL).await.map(|_| Reply::none())
            }),
        ],
    );
    assert!(answers[0].is_ok());
    for (answer, what) in answers[1..].iter().zip(["a renewal", "an order", "a string", "a late renewal"]) {
        assert!(matches!(answer, Err(VaultError::Forbidden)), "{what}: {:?}", answer.as_ref().err());
    }
    // The same with one authority that ends while another goes on signing.
    let (rig, first_id, next) = with_next();
    let (_, first) = enrolled(&rig, "app/web");
    let (web, operator) = (holder(&rig, &first.certificate), rig.operator());
    rig.write(&operator, &format!("sys/strongroom/ca/{next}/activate"), FORCE).expect("active");
    let answers = in_one_commit(
        &rig,
        &[
            (&operator, format!("{first_id}/revoke"), FORCE),
            (&web, "sys/strongroom/renew".to_owned(), &Key::new().body()),
        ],
    );
    assert!(answers[0].is_ok() && matches!(answers[1], Err(VaultError::Forbidden)));
}
