//! A command that waits for longer than its certificate lives.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use strongroom::api::path::Path as SecretPath;
use strongroom::api::sys::CertificateRequest;
use strongroom::pki::{KeyType, leaf, request};

use super::house::House;
use crate::support::process::{DAEMON, text};

const SECRETS: u32 = 1_400;
const LIFE: Duration = Duration::from_secs(11);

#[test]
fn a_command_that_waits_renews_its_certificate() {
    let house = House::new("redb", "");
    let file = house.data.join("strongroom.toml");
    let settings = std::fs::read_to_string(&file).unwrap();
    let slow = settings.replacen("# rewrap_per_second = 2000", "rewrap_per_second = 100", 1);
    assert_ne!(slow, settings);
    std::fs::write(&file, slow).unwrap();
    house.start();
    let client = house.client();
    for number in 0..SECRETS {
        let path = SecretPath::parse(&format!("app/n{number}")).unwrap();
        client.kv("secret").put_pairs(&path, &[("KEY", &"value".into())]).unwrap();
    }
    let life = format!("{}s", LIFE.as_secs());
    house.post("sys/strongroom/identities/operator/second", &json!({ "policies": ["admin"], "certificate_ttl": life }));
    let made = request(KeyType::P256).unwrap();
    let order = CertificateRequest { identity: "operator/second".into(), csr: made.csr_pem, ttl: None };
    let reply = client.sys().issue_certificate(&order).unwrap();
    let folder = house.folder.path();
    let bundle = folder.join("second");
    std::fs::create_dir(&bundle).unwrap();
    for (name, content) in [("ca.pem", reply.ca.as_str()), ("cert.pem", &reply.certificate)] {
        std::fs::write(bundle.join(name), content).unwrap();
    }
    std::fs::write(bundle.join("key.pem"), made.key_pem.reveal()).unwrap();
    let strongroom = |arguments: &[&str]| {
        let mut command = Command::new(Path::new(DAEMON).with_file_name("strongroom"));
        command.args(arguments).env_clear().env("HOME", folder);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    };
    strongroom(&["profile", "add", "p", "--bundle", bundle.to_str().unwrap(), "--address", &house.address()]);

    let began = Instant::now();
    strongroom(&["rotate", "data-key"]);
    assert!(began.elapsed() > LIFE, "it was over before the certificate was: {:?}", began.elapsed());
    let now = std::fs::read(folder.join(".config/strongroom/profiles/p/current/cert.pem")).unwrap();
    assert_ne!(leaf(&now).unwrap().fingerprint, leaf(reply.certificate.as_bytes()).unwrap().fingerprint);
}
