//! The vault's authority under a root of the house, by the commands: whoever knows the root alone believes the listener.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateSigningRequestParams, IsCa, KeyUsagePurpose};
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use strongroom::pki;

use super::outside::{Ca, authority, nobody_gets_in_by};
use super::succession::{desk, list};
use super::town::{Holder, Machine, Town};
use crate::support::process::text;

const PATIENCE: Duration = Duration::from_secs(20);

/// What the owner of `root` makes of a request, as `openssl x509 -req -extfile` does, with the roots that follow it.
fn signed(csr: &str, root: &Ca, is_ca: IsCa) -> String {
    let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
    request.params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    request.params.not_after = rcgen::date_time_ymd(2120, 1, 1);
    request.params.is_ca = is_ca;
    request.params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    request.signed_by(root).unwrap().pem() + &root.pem()
}

/// How many certificates the listener sends to somebody who knows `root` alone, or why that one does not believe it.
fn shown_to(town: &Town, root: &Ca) -> Result<usize, String> {
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1").unwrap()).unwrap();
    let mut tcp = TcpStream::connect(town.address).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp).map_err(|error| error.to_string())?;
    }
    Ok(connection.peer_certificates().unwrap().len())
}

#[track_caller]
fn until_believed(town: &Town, root: &Ca) {
    let start = Instant::now();
    while let Err(error) = shown_to(town, root) {
        assert!(start.elapsed() < PATIENCE, "the listener does not lead to the root: {error}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whose name the first certificate of a text says that it is from.
fn issuer(cert: &str) -> Vec<u8> {
    let der = pki_der(cert);
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    parsed.issuer().as_raw().to_vec()
}

/// Whose it is.
fn subject(cert: &str) -> Vec<u8> {
    let der = pki_der(cert);
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    parsed.subject().as_raw().to_vec()
}

fn pki_der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn file(machine: &Machine, name: &str) -> String {
    std::fs::read_to_string(machine.profile("default").join(name)).unwrap()
}

/// Enrols a machine by the operator's command.
fn enrolled(desk: &Machine, town: &Town, identity: &str) -> Machine {
    let string = desk.ok(&["enroll", "create", identity, "--policy", "app"]);
    let machine = town.machine(identity);
    machine.enroll(string.trim(), &[]);
    machine
}

#[test]
fn an_authority_under_a_root_of_the_house_works_by_the_commands() {
    let town = Town::open();
    let desk = desk(&town);
    let early = enrolled(&desk, &town, "app/early");
    assert!(early.is_served(&[]));
    let (root, other) = (authority("house root", None), authority("another root", None));
    assert!(shown_to(&town, &root).is_err());

    desk.ok(&["ca", "request", "--out", "ca.csr"]);
    let csr = std::fs::read_to_string(desk.home.join("ca.csr")).unwrap();
    // A chain that is none is refused, and the request waits on.
    let leaf = signed(&csr, &root, IsCa::ExplicitNoCa);
    let chain = signed(&csr, &root, IsCa::Ca(BasicConstraints::Constrained(0)));
    let foreign = chain.replace(&root.pem(), &other.pem());
    for (name, bad) in [("leaf.pem", &leaf), ("foreign.pem", &foreign)] {
        std::fs::write(desk.home.join(name), bad).unwrap();
        let refused = desk.run(&["ca", "import", name]);
        assert!(!refused.status.success() && text(&refused.stderr).contains("chain"), "{}", text(&refused.stderr));
    }
    assert_eq!(desk.ok(&["ca", "request"]).trim(), csr.trim(), "the same request again");
    std::fs::write(desk.home.join("chain.pem"), &chain).unwrap();
    let said = desk.ok(&["ca", "import", "chain.pem"]);
    let id = list(&desk)[1].0.clone();
    assert!(said.contains(&id) && said.contains("is prepared"), "{said}");

    // To its end as one of our own making, without force.
    early.ok(&["renew", "--if-due"]);
    assert!(early.is_served(&[]));
    for state in ["trusted", "active"] {
        desk.ok(&["ca", "rotate", "-y"]);
        assert_eq!(list(&desk)[1], (id.clone(), state.to_owned()));
    }
    until_believed(&town, &root);
    early.ok(&["renew"]);
    desk.ok(&["renew"]);
    desk.ok(&["ca", "rotate", "-y"]);
    assert_eq!(list(&desk)[0].1, "removed");

    let own = chain.split_inclusive("-----END CERTIFICATE-----").next().unwrap().to_owned();
    let look = |when: &str| {
        assert_eq!(shown_to(&town, &root), Ok(2), "the leaf and its authority, {when}");
        assert!(shown_to(&town, &other).is_err(), "{when}");
        let host = enrolled(&desk, &town, &format!("app/{}", when.replace(' ', "-")));
        assert!(host.is_served(&[]), "{when}");
        for machine in [&host, &early] {
            let before = file(machine, "cert.pem");
            machine.ok(&["renew"]);
            let after = file(machine, "cert.pem");
            assert_ne!(before, after);
            assert!(issuer(&after) == subject(&own) && machine.is_served(&[]), "{when}");
            // What hosts trust is the vault's authority, not all that the root may sign.
            assert!(!file(machine, "ca.pem").contains(&pki::pem(root.der())), "{when}");
        }
        // A whole client that knows the root alone, with a certificate of the vault.
        let (cert, key) = (file(&host, "cert.pem"), file(&host, "key.pem"));
        let holder = Holder { ca: root.pem(), cert, key: key.as_str().into(), address: town.address };
        assert_eq!(holder.client().request("GET", "secret/data/app/prod", None).unwrap().status, 200, "{when}");
        nobody_gets_in_by(&root, &town, &file(&host, "ca.pem"));
        let lists = desk.ok(&["ca", "crl"]);
        assert_eq!(lists.matches("BEGIN X509 CRL").count(), 1, "{when}");
    };
    look("at once");
    town.kill();
    look("after a kill");
    town.house.stop();
    town.house.start();
    look("after a restart");

    // It ends like one of our own making, and the root with it.
    let compromised = desk.ok(&["ca", "compromise", "-y"]);
    assert!(compromised.contains("has a new certificate"), "{compromised}");
    assert!(shown_to(&town, &root).is_err());
    assert!(!early.is_served(&[]));
}
