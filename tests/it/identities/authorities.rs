//! One authority after the other, with clients that ask all the time; and the day on which its key is out.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strongroom::client::Client;
use strongroom::enroll::EnrollString;
use strongroom::pki;

use super::town::{Holder, Town};
use crate::rotation::house::ask;
use crate::support::process;

const READ: &str = "secret/data/app/prod";
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends the load also when the test panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A client in use, replaced whenever its holder has another certificate or other authorities.
struct Load {
    holder: Mutex<(u64, Holder)>,
    requests: AtomicU64,
}

impl Load {
    fn new(holder: Holder) -> Self {
        Self { holder: Mutex::new((0, holder)), requests: AtomicU64::new(0) }
    }

    /// Reads until told to stop, every tenth time over a new connection; panics at the first refusal or broken connection.
    fn run(&self, stop: &AtomicBool) {
        let connect = || {
            let held = self.holder.lock().unwrap();
            (held.0, held.1.client())
        };
        let mut client: (u64, Client) = connect();
        while !stop.load(Ordering::SeqCst) {
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            if number % 10 == 9 || self.holder.lock().unwrap().0 != client.0 {
                client = connect();
            }
            let reply = client.1.request("GET", READ, None);
            let reply = reply.unwrap_or_else(|error| panic!("request {number}: {error}"));
            assert_eq!(reply.status, 200, "request {number}");
            sleep(Duration::from_millis(3));
        }
    }

    fn change(&self, change: impl FnOnce(&mut Holder)) {
        let mut held = self.holder.lock().unwrap();
        change(&mut held.1);
        held.0 += 1;
    }

    /// Trusts what the vault names from now on.
    fn learn(&self) {
        self.change(|holder| holder.ca = holder.client().ca().unwrap().bundle);
    }
}

/// The operator of `town` as a holder, who is at the new authorities like everybody else.
fn operator(town: &Town) -> Holder {
    bundle(&town.house.bundle, town)
}

fn bundle(folder: &Path, town: &Town) -> Holder {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    Holder { ca: read("ca.pem"), cert: read("cert.pem"), key: read("key.pem").as_str().into(), address: town.address }
}

#[track_caller]
fn order(holder: &Holder, path: &str, body: &Value) -> Value {
    let (status, reply) = ask(&holder.client(), "POST", path, body).unwrap();
    assert!(matches!(status, 200 | 204), "{path}: {status} {reply}");
    reply["data"].clone()
}

fn authority_of(cert: &str) -> [u8; 32] {
    use rustls::pki_types::pem::PemObject;
    let der = rustls::pki_types::CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    strongroom::crypto::hash::sha256(&[parsed.issuer().as_raw()])
}

/// Waits until the listener shows a certificate that comes from the authority of `cert`.
#[track_caller]
fn wait_for_listener(holder: &Holder) {
    let start = Instant::now();
    loop {
        let mut raw = holder.raw();
        raw.get("sys/health").unwrap();
        let shown = raw.0.conn.peer_certificates().unwrap()[0].clone();
        let (_, parsed) = x509_parser::parse_x509_certificate(&shown).unwrap();
        if strongroom::crypto::hash::sha256(&[parsed.issuer().as_raw()]) == authority_of(&holder.cert) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "the listener keeps its certificate");
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_authority_is_replaced_under_load_without_a_refused_request() {
    let town = Town::open();
    let loads = ["app/a", "app/b"].map(|name| Load::new(town.holder(name)));
    let machine = town.enrolled("app/host", &Value::Null);
    let mut operator = operator(&town);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ends = Ends(&stop);
        let running: Vec<_> = loads.iter().map(|load| scope.spawn(|| load.run(&stop))).collect();
        sleep(Duration::from_millis(200));
        let first = order_id(&town);
        let next = order(&operator, "sys/strongroom/ca/prepare", &json!({}))["id"].as_str().unwrap().to_owned();
        let trust = format!("sys/strongroom/ca/{next}/trust");
        let (status, reply) = ask(&operator.client(), "POST", &trust, &json!({})).unwrap();
        assert_eq!(status, 400, "{reply}");
        assert!(reply.to_string().contains("app/a"), "who has not heard of it is named: {reply}");

        // Everybody learns of it, each in its own way.
        loads.iter().for_each(Load::learn);
        machine.ok(&["renew", "--if-due"]);
        operator.ca = operator.client().ca().unwrap().bundle;
        assert!(machine.is_served(&[]));
        let start = Instant::now();
        while town_stragglers(&operator) != json!([]) {
            assert!(start.elapsed() < PATIENCE, "{}", town_stragglers(&operator));
            sleep(Duration::from_millis(50));
        }
        order(&operator, &trust, &json!({}));
        order(&operator, &format!("sys/strongroom/ca/{next}/activate"), &json!({}));
        let old_certificate = operator.cert.clone();
        operator.renew();
        assert_ne!(authority_of(&operator.cert), authority_of(&old_certificate));
        wait_for_listener(&operator);

        let held_up =
            ask(&operator.client(), "POST", &format!("sys/strongroom/ca/{first}/remove"), &json!({})).unwrap();
        assert!(held_up.0 == 400 && held_up.1.to_string().contains("app/host"), "{held_up:?}");
        loads.iter().for_each(|load| load.change(Holder::renew));
        machine.ok(&["renew"]);
        sleep(Duration::from_millis(300));
        // Renewing leaves the certificate before good until its end; taking the authority away is said to be meant.
        order(&operator, &format!("sys/strongroom/ca/{first}/remove"), &json!({ "force": true }));
        sleep(Duration::from_millis(500));
        loads.iter().for_each(Load::learn);
        sleep(Duration::from_millis(300));
        assert!(machine.is_served(&[]));
        drop(ends);
        for thread in running {
            thread.join().expect("no request was refused");
        }
    });
    let requests: u64 = loads.iter().map(|load| load.requests.load(Ordering::SeqCst)).sum();
    assert!(requests > 100, "too few requests to say anything: {requests}");
    let left = ask(&operator.client(), "GET", "sys/strongroom/ca", &Value::Null).unwrap().1;
    let active: Vec<_> =
        left["data"]["authorities"].as_array().unwrap().iter().filter(|a| a["state"] == "active").collect();
    assert_eq!(active.len(), 1);
    town.kill();
    assert!(machine.is_served(&[]), "after a restart");
    loads[0].holder.lock().unwrap().1.client().request("GET", READ, None).unwrap();
}

fn order_id(town: &Town) -> String {
    town.get("sys/strongroom/ca")["authorities"][0]["id"].as_str().unwrap().to_owned()
}

fn town_stragglers(operator: &Holder) -> Value {
    ask(&operator.client(), "GET", "sys/strongroom/ca/stragglers", &Value::Null).unwrap().1["data"]["identities"]
        .clone()
}

/// What the vault says to a read of `holder`: `None` when there is no connection.
fn says(holder: &Holder) -> Option<u16> {
    match holder.client().request("GET", "sys/mounts", None) {
        Ok(reply) => Some(reply.status),
        // Either of the two does not take the other's certificate.
        Err(_) => None,
    }
}

/// The operator's order, and what he is from then on.
fn compromise(operator: &Holder) -> Holder {
    let request = pki::request(pki::KeyType::default()).unwrap();
    let reply = order(operator, "sys/strongroom/ca/compromise", &json!({ "csr": request.csr_pem }));
    let text = |name: &str| reply[name].as_str().unwrap().to_owned();
    Holder { ca: text("ca"), cert: text("certificate"), key: request.key_pem, address: operator.address }
}

#[track_caller]
fn wait_until_served(holder: &Holder) {
    let start = Instant::now();
    while says(holder) != Some(200) {
        assert!(start.elapsed() < PATIENCE, "the operator is locked out: {:?}", says(holder));
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn after_a_compromise_the_operator_goes_on_and_all_others_are_enrolled_anew() {
    let town = Town::open();
    let operator = operator(&town);
    let machine = town.enrolled("app/host", &Value::Null);
    let mut idle = town.holder("app/idle").raw();
    assert_eq!(idle.get(READ).unwrap().status, 200);
    let open = town.string("app/host", &Value::Null);
    let me = compromise(&operator);
    assert!(idle.wait_for_end() < Duration::from_secs(1));
    wait_until_served(&me);
    assert_ne!(says(&operator), Some(200), "the certificate of the operator himself ends as well");
    assert!(!machine.is_served(&[]));
    let refused = machine.try_enroll(&open, &["--profile", "late"]);
    assert!(!refused.status.success(), "the string names the old authority");

    let made = order(&me, "sys/strongroom/enrollments/app/host", &json!({}));
    let string = made["string"].as_str().unwrap();
    assert_ne!(EnrollString::parse(string).unwrap().pin(), EnrollString::parse(&open).unwrap().pin());
    machine.enroll(string, &["--profile", "new"]);
    assert!(machine.is_served(&["--profile", "new"]) && !machine.is_served(&[]));
    assert!(town.alarms().contains(&"authority-compromised".to_owned()));

    // Killed right after an answer: what was answered is in force, and the listener fits it.
    let me = compromise(&me);
    town.kill();
    wait_until_served(&me);
    assert!(!machine.is_served(&["--profile", "new"]));
}

#[test]
fn a_compromise_that_is_killed_is_done_or_not_begun() {
    let town = Town::open();
    let mut me = operator(&town);
    let (mut done, mut not_begun) = (0, 0);
    // Until it was hit on both sides; how long the order takes depends on what else the machine does.
    for round in 0_u64..40 {
        if round >= 8 && done > 0 && not_begun > 0 {
            break;
        }
        let delay_us = [0, 1, 2, 3, 4, 6, 10, 30][usize::try_from(round % 8).unwrap()] * 500 * (1 + round / 8);
        let host = town_host(&me, &format!("app/k{round}"));
        let before = authority_ids(&me);
        let request = pki::request(pki::KeyType::default()).unwrap();
        let answer = std::thread::scope(|scope| {
            let (client, body) = (me.client(), json!({ "csr": request.csr_pem }));
            // So that the kill hits the order and not the handshake.
            client.request("GET", "sys/mounts", None).unwrap();
            let asked = scope.spawn(move || ask(&client, "POST", "sys/strongroom/ca/compromise", &body));
            sleep(Duration::from_micros(delay_us));
            town.house.kill();
            asked.join().unwrap()
        });
        town.house.start();
        if says(&me) == Some(200) {
            assert!(answer.is_err(), "an answer that is not in force");
            assert_eq!((authority_ids(&me), says(&host)), (before, Some(403)), "nothing of it");
            assert_eq!(host.client().request("GET", READ, None).unwrap().status, 200);
            not_begun += 1;
            continue;
        }
        done += 1;
        // All of it: nobody is in, but whoever has the answer, or stands at the machine with what opens the vault.
        assert_ne!(says(&host), Some(403));
        me = match answer {
            Ok((200, reply)) => {
                let text = |name: &str| reply["data"][name].as_str().unwrap().to_owned();
                let (ca, cert) = (text("ca"), text("certificate"));
                Holder { ca, cert, key: request.key_pem, address: town.address }
            }
            _ => rescued(&town, &format!("rescue-{round}")),
        };
        wait_until_served(&me);
        let now = authority_ids(&me);
        assert!(now.len() == 1 && !before.contains(&now[0]), "{before:?}, {now:?}");
    }
    assert!(done > 0 && not_begun > 0, "killed too early or too late each time: {done} and {not_begun}");
}

/// Authorities that are not at their end.
fn authority_ids(holder: &Holder) -> Vec<String> {
    let reply = ask(&holder.client(), "GET", "sys/strongroom/ca", &Value::Null).unwrap().1;
    let all = reply["data"]["authorities"].as_array().unwrap().iter();
    let living = all.filter(|authority| !matches!(authority["state"].as_str(), Some("revoked" | "removed")));
    living.map(|authority| authority["id"].as_str().unwrap().to_owned()).collect()
}

/// An application that is enrolled by somebody else than the first operator.
fn town_host(operator: &Holder, identity: &str) -> Holder {
    order(operator, &format!("sys/strongroom/identities/{identity}"), &json!({ "policies": ["app"] }));
    let made = order(operator, &format!("sys/strongroom/enrollments/{identity}"), &json!({}));
    Holder::of_string(made["string"].as_str().unwrap(), operator.address)
}

/// The operator's certificate from the machine itself.
fn rescued(town: &Town, name: &str) -> Holder {
    let out = town.house.folder.path().join(name);
    let mut command = process::daemon(&["admin", "operator", "--passphrase-fd", "0", "--identity", "operator/admin"]);
    command.arg("--out").arg(&out).arg("--data").arg(&town.house.data);
    let output = process::with_input(command, process::PASSPHRASE.as_bytes());
    assert!(output.status.success(), "{}", process::text(&output.stderr));
    bundle(&out, town)
}
