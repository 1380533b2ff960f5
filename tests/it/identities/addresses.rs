//! Where hosts find the enrolment listener: from `init`, and from every renewal.

use std::net::TcpListener;

use serde_json::json;

use super::town::{Machine, Town};
use crate::support::process::{Init, PASSPHRASE, Running, client, text};

fn enroll_of(machine: &Machine) -> Vec<String> {
    let file = std::fs::read_to_string(machine.profile("default").join("profile.toml")).unwrap();
    let list = file.lines().find_map(|line| line.strip_prefix("enroll = ")).unwrap_or("[]");
    serde_json::from_str(list).unwrap()
}

#[test]
fn the_first_operator_renews_in_the_grace_without_being_told_anything() {
    let folder = tempfile::tempdir().unwrap();
    let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (address, enroll) = (port(), port());
    let (listen, at) = (address.to_string(), enroll.to_string());
    let refused = Init::in_folder(folder.path()).with(&["--listen", &listen, "--enroll-listen", &listen]).output();
    assert!(text(&refused.stderr).contains("enroll.listen must differ from listen"), "{}", text(&refused.stderr));
    assert!(!folder.path().join("data").exists() && !folder.path().join("operator").exists());
    let made = Init::in_folder(folder.path())
        .with(&["--listen", &listen, "--enroll-listen", &at, "--server-name", "127.0.0.1"])
        .output();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let data = folder.path().join("data");
    let _running = Running::start(&data);
    let operator = Machine { home: folder.path().to_owned() };
    operator.ok(&["profile", "add", "default", "--bundle", "operator"]);
    assert_eq!(enroll_of(&operator), [at]);
    let client = client(&format!("https://{address}"), &folder.path().join("operator"));
    client.sys().unseal(&PASSPHRASE.into()).unwrap();
    let body = json!({ "certificate_ttl": "2s", "grace": "1h" }).to_string();
    let path = "sys/strongroom/identities/operator/admin";
    assert_eq!(client.request("POST", path, Some(body.as_bytes())).unwrap().status, 204);
    operator.ok(&["renew"]);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(text(&operator.run(&["list"]).stderr).contains("expired"));
    operator.ok(&["renew"]);
    // Without a listener there is nothing to say.
    let plain = tempfile::tempdir().unwrap();
    Init::in_folder(plain.path()).run();
    assert!(!std::fs::read_to_string(plain.path().join("operator/profile.toml")).unwrap().contains("enroll"));
}

#[test]
fn a_renewal_says_where_the_listener_is_now() {
    let town = Town::open();
    let at = town.enroll.to_string();
    let machine = town.enrolled("app/web", &json!({ "grace": "1h" }));
    assert_eq!(enroll_of(&machine), [at.as_str()]);
    machine.ok(&["renew"]);
    assert_eq!(enroll_of(&machine), [at.as_str()]);

    town.house.stop();
    let file = town.house.data.join("strongroom.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let local = format!("localhost:{}", town.enroll.port());
    let addresses = format!("\n[enroll]\naddresses = [{local:?}]\n");
    std::fs::write(&file, before.replacen("\n[enroll]\n", &addresses, 1)).unwrap();
    town.house.start();
    machine.ok(&["renew", "--if-due"]);
    assert_eq!(enroll_of(&machine), [at.as_str()], "it is not due");
    machine.ok(&["renew"]);
    assert_eq!(enroll_of(&machine), [local.as_str(), &at]);
    assert!(machine.is_served(&[]));

    // One that knows of no listener, as a bundle that was signed by hand; and one in its grace.
    let plain = format!("addr = \"https://{}\"\n", town.address);
    std::fs::write(machine.profile("default").join("current/profile.toml"), plain).unwrap();
    machine.ok(&["renew"]);
    assert_eq!(enroll_of(&machine), [local.as_str()]);
    let short = town.machine("short");
    town.register("app/short", &json!({ "grace": "1h" }));
    let string = town.string("app/short", &json!({ "certificate_ttl": "1s", "addresses": [at] }));
    short.enroll(&string, &[]);
    assert_eq!(enroll_of(&short), [at.as_str()]);
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    short.ok(&["renew"]);
    assert_eq!(enroll_of(&short), [local.as_str(), &at], "in its grace, by the listener itself");
    assert!(short.is_served(&[]));
}
