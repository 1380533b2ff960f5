use super::*;
use crate::api::spiffe::SpiffeId;
use crate::core::lifecycle::init::{InitPlan, InitPorts, initialise};
use crate::core::{Clock, FixedClock, Opener, Ports, Settings, SystemClock, UnsealKey};
use crate::crypto::envelope::Suite;
use crate::crypto::password::WRITE_FLOOR;
use crate::crypto::random::{Random, SystemRandom};
use crate::http::trust_from_pem;
use crate::pki::{Authority, BACKDATE_MS, Bundle};
use crate::store::MemoryStore;
use crate::store::sidecar::{MemAnchor, MemHeader};

const KEY_FILE: &[u8] = &[7; 32];
const DAY_MS: u64 = 86_400_000;

/// An open vault whose clock can be moved, and the pair of its listener.
struct Daemon {
    folder: tempfile::TempDir,
    clock: Arc<FixedClock>,
    tls: Tls,
    own: VaultIssued,
}

impl Daemon {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(FixedClock::new(SystemClock.now_ms()));
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let (store, header, anchor) =
            (Arc::new(MemoryStore::default()), Arc::new(MemHeader::default()), Arc::new(MemAnchor::default()));
        let plan = InitPlan {
            passphrase: None,
            key_file: Some(KEY_FILE),
            params: WRITE_FLOOR,
            trust_domain: "example.org",
            operator: SpiffeId::new("example.org", "operator/alice").expect("legal"),
            server_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            suite: Suite::Aes256Gcm,
            server_life_s: SERVER_LIFE_S,
            operator_life_s: 3_600,
        };
        let ports = InitPorts {
            store: store.clone(),
            header: header.clone(),
            anchor: anchor.clone(),
            random: Arc::clone(&random),
        };
        let made = initialise(ports, &plan, clock.now_ms()).expect("made");
        let log = folder.path().join("audit.log");
        let ports = Ports {
            store,
            header,
            anchor,
            random,
            clock: clock.clone(),
            audit: Box::new(crate::audit::FileDevice::opener(log)),
            on_fatal: Box::new(|why| panic!("fatal: {why}")),
        };
        let vault = Vault::new(ports, Settings::new("example.org"));
        vault.unseal(Opener::Local, &UnsealKey::KeyFile(KEY_FILE)).expect("opens");
        let (certificate, key) = (folder.path().join("server.pem"), folder.path().join("server.key"));
        layout::write_new(&certificate, made.server.cert_pem.as_bytes(), false).expect("written");
        layout::write_new(&key, made.server.key_pem.reveal().as_bytes(), true).expect("written");
        let trust = trust_from_pem(made.ca_pem.as_bytes()).expect("readable");
        let tls = Tls::new(made.server.cert_pem.as_bytes(), made.server.key_pem.reveal().as_bytes(), &trust);
        let own = VaultIssued::new(&certificate, &key, vault);
        Self { folder, clock, tls: tls.expect("usable"), own }
    }

    /// Moves the clock, back too, and looks once.
    fn look(&mut self, days: i64) {
        let by_ms = days.unsigned_abs() * DAY_MS;
        self.clock.advance(if days < 0 { by_ms.wrapping_neg() } else { by_ms });
        self.own.look(&self.tls, self.clock.now_ms());
    }

    /// When the certificate in the file was issued.
    fn issued_ms(&self) -> u64 {
        let pem = std::fs::read(self.folder.path().join("server.pem")).expect("there");
        let facts = pki::server_facts(&pem).expect("readable");
        assert_eq!(facts.names, ["localhost", "127.0.0.1"]);
        facts.not_before_ms + BACKDATE_MS
    }

    /// Whether it was issued at the last look.
    fn is_new(&self) -> bool {
        self.clock.now_ms().abs_diff(self.issued_ms()) < 1_000
    }
}

#[test]
fn it_is_replaced_at_two_thirds_of_its_life_and_not_before() {
    let mut daemon = Daemon::new();
    let first_ms = daemon.issued_ms();
    daemon.look(19);
    assert_eq!(daemon.issued_ms(), first_ms, "too early");
    daemon.look(2);
    assert!(daemon.is_new(), "21 of 30 days have gone");
    // Also when it has ended: the daemon was not running.
    daemon.look(40);
    assert!(daemon.is_new());
}

#[test]
fn a_clock_that_was_ahead_leaves_no_certificate_of_the_future() {
    let mut daemon = Daemon::new();
    daemon.look(365);
    assert!(daemon.is_new());
    daemon.look(-365);
    assert!(daemon.is_new(), "the one from then would be valid in a year");
}

#[test]
fn a_failure_of_a_clock_that_was_ahead_is_not_waited_for() {
    let mut daemon = Daemon::new();
    let first_ms = daemon.issued_ms();
    // Past the end of the authority, so that nothing can be issued.
    daemon.look(20 * 365);
    assert_eq!(daemon.issued_ms(), first_ms);
    daemon.look(21 - 20 * 365);
    assert!(daemon.is_new());
}

fn bundle() -> Bundle {
    let now_ms = SystemClock.now_ms();
    let authority = Authority::create("example.org", Arc::new(SystemRandom), now_ms, 86_400).expect("made");
    authority.issue_server(&["localhost".to_owned()], now_ms, 3_600).expect("issued")
}

#[test]
fn every_prefix_of_the_steps_leaves_one_whole_pair() {
    let (old, new) = (bundle(), bundle());
    let bytes = |bundle: &Bundle| (bundle.cert_pem.clone().into_bytes(), bundle.key_pem.reveal().as_bytes().to_vec());
    for steps in 0..=3 {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = (folder.path().join("server.pem"), folder.path().join("server.key"));
        layout::write_new(&certificate, &bytes(&old).0, false).expect("written");
        layout::write_new(&key, &bytes(&old).1, true).expect("written");
        if steps > 0 {
            layout::replace(&aside(&certificate), &bytes(&new).0).expect("written");
        }
        if steps > 1 {
            layout::replace_private(&key, &bytes(&new).1).expect("written");
        }
        if steps > 2 {
            layout::rename(&aside(&certificate), &certificate).expect("renamed");
        }
        recover(&certificate, &key).expect("recovers");
        let want = if steps > 1 { &new } else { &old };
        let found = (std::fs::read(&certificate).expect("there"), std::fs::read(&key).expect("there"));
        assert_eq!(found, bytes(want), "killed after step {steps}");
        assert!(!aside(&certificate).exists());
    }
}
