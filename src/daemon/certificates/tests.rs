use std::os::unix::fs::PermissionsExt;

use super::supplied::FilesCheck;
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
    trust_from_pem(pem.as_bytes()).unwrap().authorities
}

fn tls(authority: &Authority, shown: &Bundle) -> Tls {
    let trust = Trust { authorities: anchors(&[authority]), ..Trust::default() };
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
        Supplied {
            certificate: self.path("cert"),
            key: self.path("key"),
            ca: None,
            roots: Vec::new(),
            watch: Watch::default(),
        }
    }
}

#[test]
fn a_pair_is_tried_once_and_shown_when_it_fits() {
    let (files, authority) = (Files::new(), authority());
    let (old, new) = (server(&authority), server(&authority));
    let tls = tls(&authority, &old);
    let mut supplied = files.supplied();
    assert_eq!(supplied.look(&tls), FilesCheck::Same, "there are no files yet");
    files.put("cert", new.cert_pem.as_bytes());
    assert_eq!(supplied.look(&tls), FilesCheck::Same, "half of the pair");
    files.put("key", old.key_pem.reveal().as_bytes());
    assert_eq!(supplied.look(&tls), FilesCheck::Kept, "another one's key");
    assert_eq!(supplied.look(&tls), FilesCheck::Same);
    // Touched, with the same content: it is not complained about again.
    files.put("key", old.key_pem.reveal().as_bytes());
    assert_eq!(supplied.look(&tls), FilesCheck::Same);
    files.put("key", new.key_pem.reveal().as_bytes());
    assert_eq!(supplied.look(&tls), FilesCheck::Replaced);
    assert_eq!(supplied.look(&tls), FilesCheck::Same);
    files.put("cert", &new.cert_pem.as_bytes()[..new.cert_pem.len() / 2]);
    assert_eq!(supplied.look(&tls), FilesCheck::Kept, "half a file");
    files.put("cert", old.cert_pem.as_bytes());
    files.put("key", old.key_pem.reveal().as_bytes());
    assert_eq!(supplied.look(&tls), FilesCheck::Replaced);
    std::fs::set_permissions(files.path("key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(supplied.look(&tls), FilesCheck::Kept, "a key that others can read");
}

fn managed(file: PathBuf) -> Authorities {
    Authorities::Managed { file, unsaved: None }
}

fn saved(file: &Path) -> Vec<Anchor> {
    trust_from_pem(&layout::read(file).unwrap()).unwrap().authorities
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
        tell: Box::new(|_| {}),
        told: None,
    };
    let following = tokio::spawn(certificates.follow(trust));
    let tell = |authorities: &[&Authority]| {
        told.send_replace(Arc::new(Trust { authorities: anchors(authorities), ..Trust::default() }));
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
    authorities.accept(&Trust { authorities: anchors(&[&first, &second]), ..Trust::default() }, &tls);
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
    authorities.accept(&Trust { authorities: anchors(&[&ours]), ..Trust::default() }, &tls);
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

#[test]
fn roots_are_authorities_and_few() {
    let (one, two) = (authority(), authority());
    let shown = server(&one);
    let der = |authority: &Authority| anchors(&[authority])[0].der.clone();
    let roots = |certificate: Option<&str>, ca: Option<&str>| {
        server_roots(certificate.map(str::as_bytes), ca.map(str::as_bytes)).map_err(|error| error.to_string())
    };
    let both = format!("{}{}{}", one.cert_pem(), two.cert_pem(), one.cert_pem());
    assert_eq!(roots(Some(&shown.cert_pem), Some(&both)).unwrap(), [der(&one), der(&two)]);
    assert_eq!(roots(None, None).unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(roots(Some(&shown.cert_pem), None).unwrap(), Vec::<Vec<u8>>::new(), "nothing at the end of the chain");
    let whole = format!("{}{}", shown.cert_pem, one.cert_pem());
    assert_eq!(roots(Some(&whole), None).unwrap(), [der(&one)]);
    let nine: String = (0..9).map(|_| authority().cert_pem().to_owned()).collect();
    for (ca, problem) in [("", "not a PEM"), (&*shown.cert_pem, "not an authority's"), (&nine, "more than eight")] {
        let said = roots(Some(&whole), Some(ca)).unwrap_err();
        assert!(said.contains(problem), "{said}");
    }
}

proptest::proptest! {
    #[test]
    fn roots_are_read_from_anything(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let pem = pki::pem(&bytes);
        for file in [&*bytes, pem.as_bytes()] {
            let _ = server_roots(Some(file), None);
            proptest::prop_assert!(server_roots(None, Some(file)).is_err());
        }
    }
}
