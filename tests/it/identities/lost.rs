//! Enrolment whose reply never arrives: something between machine and vault cuts the connection after the request.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use strongroom::api::hex::hex;
use strongroom::pki;

use super::town::Town;
use crate::support::process::text;

/// Type of the TLS records that carry what is encrypted: the end of the handshake, and the request.
const APPLICATION_DATA: u8 = 23;

/// Stands before the enrolment listener; gives its address. Of the first connection all that the machine sends arrives, and
/// nothing comes back once it has begun to send what is encrypted, but for the end of the connection; later ones are whole.
fn relay(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, machine) in listener.incoming().map_while(Result::ok).enumerate() {
            let vault = TcpStream::connect(to).unwrap();
            let mute = Arc::new(AtomicBool::new(false));
            let (from, into) = (vault.try_clone().unwrap(), machine.try_clone().unwrap());
            let muted = Arc::clone(&mute);
            std::thread::spawn(move || carry(from, into, |_| !muted.load(Ordering::SeqCst)));
            std::thread::spawn(move || {
                carry(machine, vault, |kind| {
                    // Set before the record goes on: the vault has nothing to answer yet.
                    mute.fetch_or(number == 0 && kind == APPLICATION_DATA, Ordering::SeqCst);
                    true
                });
            });
        }
    });
    address
}

/// Hands on TLS records for which `passes` says so by their type, until one side ends.
fn carry(mut from: TcpStream, mut into: TcpStream, passes: impl Fn(u8) -> bool) {
    let mut head = [0; 5];
    while from.read_exact(&mut head).is_ok() {
        let mut record = head.to_vec();
        record.resize(5 + usize::from(u16::from_be_bytes([head[3], head[4]])), 0);
        if from.read_exact(&mut record[5..]).is_err() || passes(head[0]) && into.write_all(&record).is_err() {
            break;
        }
    }
    let _ = into.shutdown(Shutdown::Both);
}

fn certificates(town: &Town) -> Vec<Value> {
    town.get("sys/strongroom/identities/app/web")["certificates"].as_array().unwrap().clone()
}

#[test]
fn a_reply_that_was_cut_off_is_given_again_to_the_same_key_and_to_no_other() {
    let town = Town::open();
    town.register("app/web", &Value::Null);
    let string = town.string("app/web", &json!({ "addresses": [relay(town.enroll).to_string()] }));
    let machine = town.machine("web");
    let lost = machine.try_enroll(&string, &[]);
    assert!(!lost.status.success(), "{}", text(&lost.stdout));
    assert!(!machine.profile("default").exists(), "{}", text(&lost.stderr));
    let issued = certificates(&town);
    assert_eq!(issued.len(), 1, "{}", text(&lost.stderr));

    // The same command again.
    machine.enroll(&string, &[]);
    let leaf = pki::leaf(&std::fs::read(machine.profile("default").join("cert.pem")).unwrap()).unwrap();
    assert_eq!(issued[0]["fingerprint"], hex(&leaf.fingerprint), "another certificate");
    assert_eq!(certificates(&town), issued, "one more was issued");
    assert!(machine.is_served(&[]));
    assert_eq!(town.alarms(), Vec::<String>::new());

    // Whoever has read the string has not the key.
    let refused = town.machine("other").try_enroll(&string, &[]);
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("used up"), "{}", text(&refused.stderr));
    assert_eq!(town.alarms(), ["enrolment-string-used-again"]);
    assert_eq!(certificates(&town), issued);
    assert!(machine.is_served(&[]));
}
