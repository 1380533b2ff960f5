use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::api::spiffe::SpiffeId;
use crate::core::{Clock, SystemClock};
use crate::crypto::random::SystemRandom;
use crate::pki::{Authority, Bundle};

fn authority() -> Authority {
    Authority::create("example.org", Arc::new(SystemRandom), SystemClock.now_ms(), 86_400).unwrap()
}

fn server(authority: &Authority) -> Bundle {
    authority.issue_server(&["localhost".to_owned()], SystemClock.now_ms(), 3600).unwrap()
}

fn anchors(authorities: &[&Authority]) -> Vec<Anchor> {
    let pem: String = authorities.iter().map(|authority| authority.cert_pem()).collect();
    trust_from_pem(pem.as_bytes()).unwrap().own
}

fn tls(authority: &Authority, shown: &Bundle) -> Tls {
    let trust = Trust { own: anchors(&[authority]), ..Trust::default() };
    Tls::new(shown.cert_pem.as_bytes(), shown.key_pem.reveal().as_bytes(), &trust).unwrap()
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn supplied(&self) -> Supplied {
        Supplied { certificate: self.path("cert"), key: self.path("key"), seen: None, tried: None }
    }
}

#[test]
fn a_pair_is_tried_once_and_shown_when_it_fits() {
    let (files, authority) = (Files::new(), authority());
    let (old, new) = (server(&authority), server(&authority));
    let tls = tls(&authority, &old);
    let mut supplied = files.supplied();
    assert_eq!(supplied.look(&tls), Outcome::Same, "there are no files yet");
    files.put("cert", new.cert_pem.as_bytes());
    assert_eq!(supplied.look(&tls), Outcome::Same, "half of the pair");
    files.put("key", old.key_pem.reveal().as_bytes());
    assert_eq!(supplied.look(&tls), Outcome::Kept, "another one's key");
    assert_eq!(supplied.look(&tls), Outcome::Same);
    // Touched, with the same content: it is not complained about again.
    files.put("key", old.key_pem.reveal().as_bytes());
    assert_eq!(supplied.look(&tls), Outcome::Same);
    files.put("key", new.key_pem.reveal().as_bytes());
    assert_eq!(supplied.look(&tls), Outcome::Replaced);
    assert_eq!(supplied.look(&tls), Outcome::Same);
    files.put("cert", &new.cert_pem.as_bytes()[..new.cert_pem.len() / 2]);
    assert_eq!(supplied.look(&tls), Outcome::Kept, "half a file");
    files.put("cert", old.cert_pem.as_bytes());
    files.put("key", old.key_pem.reveal().as_bytes());
    assert_eq!(supplied.look(&tls), Outcome::Replaced);
    std::fs::set_permissions(files.path("key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(supplied.look(&tls), Outcome::Kept, "a key that others can read");
}

fn managed(file: PathBuf) -> Authorities {
    Authorities::Managed { file, unsaved: None }
}

fn saved(file: &Path) -> Vec<Anchor> {
    trust_from_pem(&layout::read(file).unwrap()).unwrap().own
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    for _ in 0..400 {
        if reached() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} does not happen");
}

#[tokio::test]
async fn the_authorities_of_the_vault_are_followed_and_saved() {
    let files = Files::new();
    let (first, second) = (authority(), authority());
    let shown = server(&first);
    let tls = Arc::new(tls(&first, &shown));
    let file = files.path("ca.pem");
    // Written by another program, with other line ends.
    std::fs::write(&file, first.cert_pem().replace('\n', "\r\n")).unwrap();
    let before = std::fs::read(&file).unwrap();
    let (told, trust) = watch::channel(Arc::<Trust>::default());
    let reload: Arc<Notify> = Arc::default();
    let certificates = Certificates {
        tls: Arc::clone(&tls),
        server: Server::Supplied(files.supplied()),
        authorities: managed(file.clone()),
        reload,
    };
    let following = tokio::spawn(certificates.follow(trust));
    let tell = |authorities: &[&Authority]| {
        told.send_replace(Arc::new(Trust { own: anchors(authorities), ..Trust::default() }));
    };
    tell(&[&first]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(std::fs::read(&file).unwrap(), before, "the same authorities are not written again");
    tell(&[&first, &second]);
    until("saving", || saved(&file).len() == 2).await;
    assert_eq!(saved(&file), anchors(&[&first, &second]));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    // A vault that knows none yet changes nothing.
    told.send_replace(Arc::default());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(saved(&file).len(), 2);
    tell(&[&second]);
    until("removing", || saved(&file) == anchors(&[&second])).await;
    following.abort();
}

#[test]
fn a_folder_that_cannot_be_written_is_tried_again() {
    let files = Files::new();
    let (first, second) = (authority(), authority());
    let tls = tls(&first, &server(&first));
    let file = files.path("later/ca.pem");
    let mut authorities = managed(file.clone());
    authorities.accept(&Trust { own: anchors(&[&first, &second]), ..Trust::default() }, &tls);
    authorities.save();
    std::fs::create_dir(files.path("later")).unwrap();
    authorities.save();
    assert_eq!(saved(&file).len(), 2);
    std::fs::remove_file(&file).unwrap();
    authorities.save();
    assert!(!file.exists(), "what is saved is saved once");
}

#[test]
fn authorities_supplied_by_others_are_kept_and_not_written() {
    let (ours, theirs) = (authority(), authority());
    let tls = tls(&theirs, &server(&ours));
    let mut authorities = Authorities::Supplied(anchors(&[&theirs]));
    authorities.accept(&Trust { own: anchors(&[&ours]), ..Trust::default() }, &tls);
    let id = SpiffeId::new("example.org", "ops/a").unwrap();
    for authority in [&ours, &theirs] {
        let client = authority.issue_client(&id, SystemClock.now_ms(), 3600).unwrap();
        assert!(tls.accepts(client.cert_pem.as_bytes()), "one of the two is not accepted");
    }
    let other = authority_client(&id);
    assert!(!tls.accepts(other.cert_pem.as_bytes()));
}

fn authority_client(id: &SpiffeId) -> Bundle {
    authority().issue_client(id, SystemClock.now_ms(), 3600).unwrap()
}

proptest::proptest! {
    #[test]
    fn pem_is_read_back(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..300)) {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;
        let text = pem(&bytes);
        let read = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
        proptest::prop_assert_eq!(&*read, &*bytes);
        proptest::prop_assert!(text.lines().all(|line| line.len() <= 64));
    }
}
