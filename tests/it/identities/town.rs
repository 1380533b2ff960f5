//! A daemon with both listeners at ports that it keeps, and machines that have homes of their own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use strongroom::api::secret::SecretText;
use strongroom::client::{Client, Settings};
use strongroom::enroll::EnrollString;

use crate::rotation::house::House;
use crate::support::process::{DAEMON, text, with_input};
use crate::support::raw::Raw;

/// What every application of these tests may do.
const POLICY: &str = r#"path "secret/data/app/*" { capabilities = ["create", "read", "update"] }"#;

/// The vault with its machines.
pub struct Town {
    pub house: House,
    /// Of the API.
    pub address: SocketAddr,
    /// Of the listener for enrolment.
    pub enroll: SocketAddr,
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Town {
    /// Started and unsealed, with a policy `app` and the secret `app/prod`, `KEY=one`.
    pub fn open() -> Self {
        let (address, enroll) = (free_port(), free_port());
        let limits = "[limits]\nhandshakes_per_source = 1000\nhandshake_rate_per_source = 1000\n";
        let house = House::new("redb", &format!("{limits}[enroll]\nlisten = \"{enroll}\"\n"));
        let file = house.data.join("strongroom.toml");
        let settings = std::fs::read_to_string(&file).unwrap();
        let kept = settings.replacen("\"127.0.0.1:0\"", &format!("\"{address}\""), 1);
        assert_ne!(kept, settings);
        std::fs::write(&file, kept).unwrap();
        let town = Self { house, address, enroll };
        town.house.start();
        town.post("sys/policies/acl/app", &json!({ "policy": POLICY }));
        town.post("secret/data/app/prod", &json!({ "data": { "KEY": "one" } }));
        town
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.house.post(path, body)
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.house.get(path)
    }

    /// Registers an identity with the policy `app`; `more` are further fields, or null.
    #[track_caller]
    pub fn register(&self, identity: &str, more: &Value) {
        let mut body = json!({ "policies": ["app"] });
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        self.post(&format!("sys/strongroom/identities/{identity}"), &body);
    }

    /// A new string for a registered identity.
    #[track_caller]
    pub fn string(&self, identity: &str, more: &Value) -> String {
        let body = if more.is_null() { json!({}) } else { more.clone() };
        let made = self.post(&format!("sys/strongroom/enrollments/{identity}"), &body);
        made["string"].as_str().unwrap().to_owned()
    }

    /// Registers an identity and enrols a machine of that name.
    pub fn enrolled(&self, identity: &str, more: &Value) -> Machine {
        self.register(identity, more);
        let machine = self.machine(identity);
        machine.enroll(&self.string(identity, &Value::Null), &[]);
        machine
    }

    /// A machine with an empty home.
    pub fn machine(&self, name: &str) -> Machine {
        let home = self.house.folder.path().join("homes").join(name.replace('/', "-"));
        std::fs::create_dir_all(&home).unwrap();
        Machine { home }
    }

    /// Registers an identity and enrols it inside this process, for what the command does not do.
    pub fn holder(&self, identity: &str) -> Holder {
        self.register(identity, &Value::Null);
        Holder::of_string(&self.string(identity, &Value::Null), self.address)
    }

    /// Lines of the audit log, the oldest first.
    pub fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.house.data.join("audit/audit.log")).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Codes of the alarms in the audit log.
    pub fn alarms(&self) -> Vec<String> {
        let lines = self.log().into_iter().filter(|line| line["kind"] == "alarm");
        lines.map(|line| line["code"].as_str().unwrap().to_owned()).collect()
    }

    /// kill -9, and a new daemon on the same data and ports.
    pub fn kill(&self) {
        self.house.kill();
        self.house.start();
    }
}

/// A machine that uses the real command, with its profile.
pub struct Machine {
    pub home: PathBuf,
}

impl Machine {
    fn command(&self, arguments: &[&str]) -> Command {
        let path = Path::new(DAEMON).with_file_name("strongroom");
        assert!(path.exists(), "build the command first: cargo build --workspace");
        let mut command = Command::new(path);
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &self.home);
        command.env("STRONGROOM_PROFILE", "default");
        command.current_dir(&self.home).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// `enroll -` with the string on standard input.
    pub fn try_enroll(&self, string: &str, more: &[&str]) -> Output {
        with_input(self.command(&[&["enroll", "-"], more].concat()), format!("{string}\n").as_bytes())
    }

    /// The same with success; every test comes from one address, so it may have to wait for another's refusal.
    #[track_caller]
    pub fn enroll(&self, string: &str, more: &[&str]) {
        let start = Instant::now();
        loop {
            let output = self.try_enroll(string, more);
            let said = text(&output.stderr);
            if output.status.success() {
                return;
            }
            assert!(said.contains("too many attempts") && start.elapsed() < Duration::from_secs(30), "{said}");
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Whether it is served, which is not the same as whether there is somebody who answers.
    #[track_caller]
    pub fn is_served(&self, more: &[&str]) -> bool {
        let output = self.run(&[more, &["get", "app/prod", "KEY"]].concat());
        match output.status.code() {
            Some(0) => text(&output.stdout).trim() == "one",
            Some(5 | 6) => false,
            other => panic!("exit code {other:?}: {}", text(&output.stderr)),
        }
    }

    /// A folder of a profile.
    pub fn profile(&self, name: &str) -> PathBuf {
        self.home.join(".config/strongroom/profiles").join(name)
    }

    /// A copy of the profile `default`, as a thief or a backup makes one.
    pub fn copy_profile(&self, name: &str) {
        crate::rotation::house::copy(&self.profile("default"), &self.profile(name));
    }
}

/// A certificate with its key, and where it is good for.
pub struct Holder {
    pub ca: String,
    pub cert: String,
    pub key: SecretText,
    pub address: SocketAddr,
}

impl Holder {
    /// What a string gives, with a key of the most usual kind.
    pub fn of_string(string: &str, address: SocketAddr) -> Self {
        let request = strongroom::pki::request(strongroom::pki::KeyType::default()).unwrap();
        let string = EnrollString::parse(string).unwrap();
        let got = strongroom::client::enroll::enroll(&string, &request.csr_pem, Duration::from_secs(20)).unwrap();
        Self { ca: got.ca, cert: got.certificate, key: request.key_pem, address }
    }

    pub fn client(&self) -> Client {
        let settings = Settings {
            addr: format!("https://{}", self.address),
            ca_pem: self.ca.clone().into_bytes(),
            cert_pem: self.cert.clone().into_bytes(),
            key_pem: SecretText::new(self.key.reveal().to_owned()),
            timeout: Duration::from_secs(20),
        };
        Client::connect(settings).unwrap()
    }

    /// Renews itself over its own connection.
    pub fn renew(&mut self) {
        let request = strongroom::pki::request(strongroom::pki::KeyType::default()).unwrap();
        let got = self.client().renew(&request.csr_pem).unwrap();
        (self.ca, self.cert, self.key) = (got.ca, got.certificate, request.key_pem);
    }

    /// A connection byte by byte.
    pub fn raw(&self) -> Raw {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(self.ca.as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        let chain = CertificateDer::pem_slice_iter(self.cert.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.reveal().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
        let config = config.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        Raw(StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp))
    }
}
