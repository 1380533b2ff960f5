//! A listener with a certificate of an outside PKI: hosts enrol, read and renew as with the vault's own, and nobody gets
//! in by that PKI.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};
use strongroom::api::secret::SecretText;
use strongroom::enroll::EnrollString;
use strongroom::pki;

use super::town::{Holder, Machine, Town};
use crate::support::process::{daemon, text};

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) type Ca = CertifiedIssuer<'static, KeyPair>;

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

pub(super) fn authority(name: &str, above: Option<&Ca>) -> Ca {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    match above {
        Some(above) => Ca::signed_by(params, key, above).unwrap(),
        None => Ca::self_signed(params, key).unwrap(),
    }
}

/// A leaf for the listener and its key, PEM.
fn leaf(by: &Ca) -> (String, String) {
    let mut params = named("vault");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

/// The files that somebody else looks after.
struct Files(PathBuf);

impl Files {
    fn new(town: &Town) -> Self {
        let folder = town.house.folder.path().join("outside");
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn put(&self, name: &str, text: &str) {
        use std::io::Write;
        let new = self.0.join("new");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        std::fs::rename(new, self.0.join(name)).unwrap();
    }

    /// A new leaf of `by` with what is above it, and its key.
    fn serve(&self, by: &Ca, above: &str) {
        let (certificate, key) = leaf(by);
        self.put("cert.pem", &(certificate + above));
        self.put("key.pem", &key);
    }

    fn section(&self, names: &[(&str, &str)]) -> String {
        let line = |(key, file): &(&str, &str)| format!("{key} = {:?}\n", self.0.join(file));
        format!("\n[tls]\n{}", names.iter().map(line).collect::<String>())
    }
}

const SUPPLIED: [(&str, &str); 2] = [("certificate", "cert.pem"), ("key", "key.pem")];

/// Stops the daemon, and starts it with this section in its configuration.
fn restart(town: &Town, plain: &str, section: &str) {
    town.house.stop();
    std::fs::write(town.house.data.join("strongroom.toml"), format!("{plain}{section}")).unwrap();
    town.house.start();
}

fn configuration(town: &Town) -> String {
    std::fs::read_to_string(town.house.data.join("strongroom.toml")).unwrap()
}

/// The operator's CA file as the vault names it now.
fn learn(town: &Town) -> String {
    let bundle = town.get("sys/strongroom/ca")["bundle"].as_str().unwrap().to_owned();
    std::fs::write(town.house.bundle.join("ca.pem"), &bundle).unwrap();
    bundle
}

fn ca_of(machine: &Machine) -> String {
    std::fs::read_to_string(machine.profile("default").join("ca.pem")).unwrap()
}

#[track_caller]
fn until(what: &str, reached: impl Fn() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < PATIENCE, "{what} does not happen");
        sleep(Duration::from_millis(50));
    }
}

fn bundle_is(town: &Town, roots: &[&Ca]) -> bool {
    let told = town.get("sys/strongroom/ca")["server_ca"].as_str().unwrap_or_default().to_owned();
    let count = told.matches("BEGIN").count();
    count == roots.len() && roots.iter().all(|root| told.contains(&pki::pem(root.der())))
}

/// The own authorities of a bundle.
fn own_of(bundle: &str, roots: &[&Ca]) -> String {
    roots.iter().fold(bundle.to_owned(), |left, root| left.replace(&pki::pem(root.der()), ""))
}

#[test]
fn hosts_enrol_read_and_renew_at_a_listener_of_an_outside_pki() {
    let town = Town::open();
    let early = town.enrolled("app/early", &Value::Null);
    let own = learn(&town);
    let files = Files::new(&town);
    let (root, other) = (authority("outside root", None), authority("another root", None));
    let (first, second) = (authority("first issuer", Some(&root)), authority("second issuer", Some(&root)));
    files.put("root.pem", &root.pem());

    // The root first: whoever is enrolled already learns of it while the vault shows its own certificate.
    let plain = configuration(&town);
    restart(&town, &plain, &files.section(&[("ca", "root.pem")]));
    assert!(bundle_is(&town, &[&root]));
    assert!(early.ok(&["renew", "--if-due"]).contains("authorities to trust are renewed"));
    assert_eq!(own_of(&learn(&town), &[&root]), own);
    assert_eq!(ca_of(&early), learn(&town));

    // Then the certificate.
    files.serve(&first, &first.pem());
    restart(&town, &plain, &files.section(&[&SUPPLIED[..], &[("ca", "root.pem")]].concat()));
    assert!(early.is_served(&[]));
    town.register("app/web", &json!({ "grace": "1h" }));
    let web = town.machine("web");
    let later = town.string("app/web", &Value::Null);
    web.enroll(&town.string("app/web", &json!({ "certificate_ttl": "3s" })), &[]);
    assert!(web.is_served(&[]));
    assert_eq!(own_of(&ca_of(&web), &[&root]), own);
    sleep(Duration::from_secs(4));
    assert!(!web.is_served(&[]), "its certificate has ended");
    web.ok(&["renew"]); // at the enrolment listener, with the old key
    assert!(web.is_served(&[]));
    web.ok(&["renew"]); // over its own connection
    assert!(web.is_served(&[]));
    assert_eq!(ca_of(&web), ca_of(&early));

    // A new certificate, by another issuer below the same root: the string from before is good.
    let pinned = *EnrollString::parse(&later).unwrap().pin();
    assert_eq!(pinned, pki::key_fingerprint(root.der()).unwrap());
    let said = town.house.log().matches("server certificate renewed").count();
    files.serve(&second, &second.pem());
    until("the new certificate", || town.house.log().matches("server certificate renewed").count() > said);
    let twin = town.machine("twin");
    twin.enroll(&later, &[]);
    assert!(twin.is_served(&[]) && web.is_served(&[]));

    // Another pin, also that of the vault's own authority, and nothing is sent.
    let before = (town.log().len(), town.house.log().len());
    for pin in [own_pin(&own), pki::key_fingerprint(other.der()).unwrap(), pki::key_fingerprint(second.der()).unwrap()]
    {
        let made = strongroom::crypto::Key::fill_with(|out| *out = [5; 32]);
        let wrong = EnrollString::new(pin, [7; 16], made, vec![town.enroll.to_string()]).unwrap();
        let refused = town.machine("stranger").try_enroll(wrong.print().reveal(), &[]);
        let said = text(&refused.stderr);
        if pin == pki::key_fingerprint(second.der()).unwrap() {
            // It is on the way, and everything below it is what was pinned.
            assert!(said.contains("rejected"), "{said}");
        } else {
            assert!(refused.status.code() == Some(6) && said.contains("not from the given authority"), "{said}");
            assert_eq!(town.log().len(), before.0, "the vault has heard of it");
        }
    }

    // The root vouches for no client, whatever it signs.
    nobody_gets_in_by(&root, &town, &ca_of(&web));
}

fn own_pin(own: &str) -> [u8; 32] {
    use rustls::pki_types::pem::PemObject;
    let der = rustls::pki_types::CertificateDer::from_pem_slice(own.as_bytes()).unwrap();
    pki::key_fingerprint(&der).unwrap()
}

pub(super) fn nobody_gets_in_by(root: &Ca, town: &Town, ca: &str) {
    let mut params = named("client");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![SanType::URI("spiffe://strongroom.internal/app/web".try_into().unwrap())];
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, root).unwrap().pem();
    let holder = Holder { ca: ca.to_owned(), cert, key: SecretText::new(key.serialize_pem()), address: town.address };
    let error = holder.client().request("GET", "secret/data/app/prod", None).err();
    assert!(error.is_some(), "a client of the outside root is served");
}

#[test]
fn the_root_is_exchanged_in_steps_and_a_half_change_is_not_taken() {
    let town = Town::open();
    let files = Files::new(&town);
    let (old, new) = (authority("old root", None), authority("new root", None));
    files.put("root.pem", &old.pem());
    let plain = configuration(&town);
    restart(&town, &plain, &files.section(&[("ca", "root.pem")]));
    learn(&town);
    files.serve(&old, "");
    restart(&town, &plain, &files.section(&[&SUPPLIED[..], &[("ca", "root.pem")]].concat()));
    let (quick, slow) = (town.enrolled("app/quick", &Value::Null), town.enrolled("app/slow", &Value::Null));
    assert!(quick.is_served(&[]) && slow.is_served(&[]));

    // A certificate whose root nobody was told of is not shown.
    let said = || town.house.log().matches("does not lead to a root of tls.ca").count();
    files.serve(&new, "");
    until("the complaint", || said() == 1);
    assert!(quick.is_served(&[]) && slow.is_served(&[]));
    files.serve(&old, "");

    // Both roots for a while: who has fetched them is seen, and the authorities are another matter.
    files.put("root.pem", &(old.pem() + &new.pem()));
    until("both roots", || bundle_is(&town, &[&old, &new]));
    quick.ok(&["renew", "--if-due"]);
    assert!(quick.is_served(&[]));
    let old_bundle = std::fs::read_to_string(town.house.bundle.join("ca.pem")).unwrap();
    learn(&town);
    let report = town.get("sys/strongroom/identity-report")["identities"].clone();
    assert_eq!(
        (&report["app/quick"]["bundle_current"], &report["app/slow"]["bundle_current"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(town.get("sys/strongroom/ca/stragglers")["identities"], json!([]), "all have the vault's own");

    // Files in the wrong order: the certificate of the new root, and then the root alone.
    files.serve(&new, "");
    until("the new certificate", || !slow_is_at(&slow));
    assert!(quick.is_served(&[]));
    files.put("root.pem", &new.pem());
    until("the new root alone", || bundle_is(&town, &[&new]));
    quick.ok(&["renew"]);
    assert!(!ca_of(&quick).contains(&pki::pem(old.der())) && quick.is_served(&[]));
    // Who missed it: the file of somebody else helps, as any CA file that has the root.
    std::fs::write(slow.profile("default").join("current/ca.pem"), old_bundle + &new.pem()).unwrap();
    slow.ok(&["renew", "--if-due"]);
    assert_eq!(ca_of(&slow), ca_of(&quick));
    assert!(slow.is_served(&[]));
}

/// Whether a machine believes the listener, which is not the same as whether it is served.
fn slow_is_at(machine: &Machine) -> bool {
    machine.run(&["get", "app/prod", "KEY"]).status.code() == Some(0)
}

#[test]
fn a_chain_that_ends_in_its_root_is_enough_and_one_that_does_not_is_said() {
    let town = Town::open();
    let files = Files::new(&town);
    let root = authority("outside root", None);
    let issuer = authority("issuer", Some(&root));
    let plain = configuration(&town);
    let own = learn(&town);
    std::fs::write(town.house.bundle.join("ca.pem"), own + &root.pem()).unwrap();
    files.serve(&issuer, &(issuer.pem() + &root.pem()));
    restart(&town, &plain, &files.section(&SUPPLIED));
    assert!(bundle_is(&town, &[&root]));
    let web = town.enrolled("app/web", &Value::Null);
    web.ok(&["renew"]);
    assert!(web.is_served(&[]));

    files.serve(&issuer, &issuer.pem());
    until("the complaint", || town.house.log().contains("name the root in tls.ca"));
    let (status, reply) = town.house.ask("POST", "sys/strongroom/enrollments/app/web", &json!({}));
    assert!(status == 400 && reply.to_string().contains("tls.ca"), "{reply}");

    // What leads nowhere does not start, and `--check` says it before.
    town.house.stop();
    files.put("root.pem", &authority("another root", None).pem());
    let section = files.section(&[&SUPPLIED[..], &[("ca", "root.pem")]].concat());
    check(&town.house.data, &format!("{plain}{section}"), Some("does not lead to a root of tls.ca"));
    files.put("root.pem", &leaf(&root).0);
    check(&town.house.data, &format!("{plain}{section}"), Some("not an authority's"));
    files.put("root.pem", &root.pem());
    check(&town.house.data, &format!("{plain}{section}"), None);
    town.house.start();
    assert!(web.is_served(&[]));
}

#[track_caller]
fn check(data: &Path, configuration: &str, problem: Option<&str>) {
    std::fs::write(data.join("strongroom.toml"), configuration).unwrap();
    let output = daemon(&["server", "--check", "--data", data.to_str().unwrap()]).output().unwrap();
    let said = text(&output.stderr);
    match problem {
        Some(problem) => assert!(!output.status.success() && said.contains(problem), "{said}"),
        None => assert!(output.status.success(), "{said}"),
    }
}
