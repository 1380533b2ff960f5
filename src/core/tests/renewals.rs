//! How often a certificate is renewed, and what strangers cost.

use super::identities::{CHANNEL, HOUR_MS, Key, alarms, enroll, enrolled, holder, string};
use super::support::{Rig, json, wait};
use crate::api::enroll::{Certified, EnrollRequest, GraceRequest};
use crate::core::{Caller, VaultError};
use crate::enroll::grace_message;
use crate::pki;

/// Renews, and who the certificate is for then.
fn renew(rig: &Rig, caller: &Caller, key: &Key) -> Result<Caller, VaultError> {
    let reply = rig.write(caller, "sys/strongroom/renew", &key.body())?;
    Ok(holder(rig, json(&reply)["certificate"].as_str().expect("PEM")))
}

/// Renews until it is refused. How often that went, the certificate and key before the last one, and the last one.
fn exhaust(rig: &Rig, first: Caller) -> (usize, Caller, Key, Caller) {
    let (mut before, mut now, mut key) = (first.clone(), first, Key::new());
    for times in 0..500 {
        let next = Key::new();
        match renew(rig, &now, &next) {
            Ok(caller) => (before, now, key) = (now, caller, next),
            Err(error) => {
                assert_eq!((error.status(), error.code()), (429, "too-many"), "{error}");
                return (times, before, key, now);
            }
        }
    }
    panic!("one certificate was renewed five hundred times in a second");
}

#[test]
fn renewals_without_end_are_slowed_and_honest_ones_are_not() {
    let rig = Rig::new();
    rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["create", "update"] }"#);
    let shared = string(&rig, "app/web", r#","uses":2"#);
    let (greedy, honest) = (Key::new(), Key::new());
    let greedy = enroll(&rig, &shared, &greedy).expect("enrolled");
    let honest = enroll(&rig, &shared, &honest).expect("enrolled");
    let (greedy, honest) = (holder(&rig, &greedy.certificate), holder(&rig, &honest.certificate));
    let (times, before, key, last) = exhaust(&rig, greedy);
    assert_eq!(times, 64 + 4 * 2, "two hosts");
    // A lost reply costs nothing, and the other host goes on when it is due.
    assert_eq!(renew(&rig, &before, &key).expect("the same once more").fingerprint, last.fingerprint);
    rig.clock.advance(15 * HOUR_MS);
    renew(&rig, &honest, &Key::new()).expect("a renewal that is due");
    // So does the one that had too many, at the pace of honest ones.
    let mut now = renew(&rig, &last, &Key::new()).expect("after a sixth of its life");
    for _ in 0..2 {
        match renew(&rig, &now, &Key::new()) {
            Err(error) => assert_eq!((error.status(), error.code()), (429, "too-many")),
            Ok(_) => panic!("the day is not over"),
        }
        rig.clock.advance(8 * HOUR_MS);
        now = renew(&rig, &now, &Key::new()).expect("after a sixth of its life");
    }
    // Everything was counted in the store: a restart forgives nothing.
    let (times, _, _, last) = exhaust(&rig, now);
    assert!((1..80).contains(&times), "{times} after a day");
    rig.vault.seal();
    rig.unseal().expect("opens");
    assert!(matches!(renew(&rig, &last, &Key::new()), Err(error) if error.status() == 429));
    assert!(alarms(&rig).is_empty(), "no copy, no freeze");
}

fn grace(certificate: &str, signer: &Key, next: &str) -> GraceRequest {
    let proof = pki::read_csr(next).map_or(Vec::new(), |csr| {
        rcgen::SigningKey::sign(&signer.pair, &grace_message(&CHANNEL.exporter, &csr.der)).expect("signed")
    });
    GraceRequest { certificate: certificate.to_owned(), csr: next.to_owned(), proof, scheme: 0x0403 }
}

#[test]
fn what_anybody_can_send_is_not_written_down() {
    let rig = Rig::new();
    let (key, first) = enrolled(&rig, "app/web");
    let open = string(&rig, "app/web", "");
    let own = {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = vec![rcgen::SanType::URI("spiffe://example.org/app/web".try_into().expect("text"))];
        params.self_signed(&key.pair).expect("signed").pem()
    };
    let next = Key::new();
    let ends = |result: Result<Certified, VaultError>| match result {
        Err(error) => error.status(),
        Ok(_) => 200,
    };
    let before = rig.log().len();
    let renewal = |asked| ends(wait(rig.vault.renew_expired(asked, CHANNEL)));
    assert_eq!(renewal(grace("x", &key, &next.csr)), 400, "no certificate");
    assert_eq!(renewal(grace(&first.certificate, &key, "x")), 400, "no request");
    assert_eq!(renewal(grace(&own, &key, &next.csr)), 403, "of no authority");
    assert_eq!(renewal(grace(&first.certificate, &next, &next.csr)), 403, "another key signed");
    let attempt = |csr: &str| EnrollRequest { id: *open.id(), csr: csr.to_owned(), proof: [0; 32] };
    assert_eq!(ends(wait(rig.vault.enroll(attempt("x"), CHANNEL))), 400);
    assert_eq!(rig.log().len(), before, "the log grows by what a stranger sends");
    // Who holds the key of a certificate, and who knows of a string, is looked at and written down.
    assert_eq!(renewal(grace(&first.certificate, &key, &next.csr)), 200);
    assert_eq!(ends(wait(rig.vault.enroll(attempt(&next.csr), CHANNEL))), 403);
    assert!(rig.log().len() >= before + 4);
}
