//! Certificates that are not the vault's: the running daemon follows the roles that name them.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};
use strongroom::api::secret::SecretText;

use super::town::{Holder, Town};
use crate::support::raw::Raw;

const READ: &str = "secret/data/app/prod";
/// When the listener must have taken over what was answered before.
const SOON: Duration = Duration::from_secs(5);

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn holder(town: &Town, cert: String, key: &KeyPair) -> Holder {
    let ca = std::fs::read_to_string(town.house.bundle.join("ca.pem")).unwrap();
    Holder { ca, cert, key: SecretText::new(key.serialize_pem()), address: town.address }
}

fn served(connection: &mut Raw) -> bool {
    connection.get(READ).is_ok_and(|reply| reply.status == 200)
}

/// Whether TLS itself says no.
fn is_turned_away(holder: &Holder) -> bool {
    holder.raw().get(READ).is_err()
}

#[track_caller]
fn soon(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < SOON, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A role comes and goes; `certificate` is what it names.
fn follow(town: &Town, holder: &Holder, certificate: &str, names: &Value) {
    assert!(is_turned_away(holder), "before the role");
    let mut role = json!({ "certificate": certificate, "token_policies": "app" });
    role.as_object_mut().unwrap().extend(names.as_object().cloned().unwrap_or_default());
    town.post("auth/cert/certs/theirs", &role);
    soon("the listener does not take the certificate", || served(&mut holder.raw()));

    let (mut idle, mut busy) = (holder.raw(), holder.raw());
    assert!(served(&mut idle) && served(&mut busy));
    // A change of something else leaves them where they are.
    town.post("sys/strongroom/identities/app/other", &json!({ "policies": ["app"] }));
    town.post("sys/strongroom/disable/app/other", &json!({}));
    assert!(served(&mut idle));
    let (status, reply) = town.house.ask("DELETE", "auth/cert/certs/theirs", &Value::Null);
    assert_eq!(status, 204, "{reply}");
    let deleted = Instant::now();
    match busy.get(READ) {
        Ok(reply) => assert_eq!(reply.status, 403, "{reply:?}"),
        Err(error) => assert_ne!(error.kind(), ErrorKind::WouldBlock, "{error}"),
    }
    assert!(!served(&mut holder.raw()), "a new connection");
    idle.wait_for_end();
    assert!(deleted.elapsed() < Duration::from_secs(2), "idle for {:?}", deleted.elapsed());
    soon("the listener still takes the certificate", || is_turned_away(holder));
}

#[test]
fn the_listener_follows_the_roles_while_it_runs() {
    let town = Town::open();
    let pid = town.house.pid();
    let mut own = town.holder("app/own").raw();
    assert!(served(&mut own));

    let mut params = named("a root of another house");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages.clear();
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = named("web-1").signed_by(&key, &root).unwrap();
    follow(&town, &holder(&town, leaf.pem(), &key), &root.pem(), &json!({ "allowed_common_names": "web-*" }));

    let key = KeyPair::generate().unwrap();
    let pinned = named("one machine").self_signed(&key).unwrap();
    follow(&town, &holder(&town, pinned.pem(), &key), &pinned.pem(), &Value::Null);

    assert!(served(&mut own), "nobody else was cut off");
    assert_eq!(town.house.pid(), pid);
}
