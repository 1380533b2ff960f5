use std::sync::Arc;

use strongroom::api::spiffe::SpiffeId;
use strongroom::crypto::random::SystemRandom;
use strongroom::pki::{self, Authority, KeyType, Request};

use super::*;

/// A bundle whose certificate and key belong together.
struct Made {
    addr: String,
    ca: String,
    cert: String,
    key: SecretText,
}

impl Made {
    fn new(addr: &str) -> Self {
        let now_ms = 1_800_000_000_000;
        let authority = Authority::create("example.org", Arc::new(SystemRandom), now_ms, 86_400).unwrap();
        let web = SpiffeId::new("example.org", "app/web").unwrap();
        let bundle = authority.issue_client(&web, now_ms, 3600).unwrap();
        Self { addr: addr.into(), ca: authority.cert_pem().into(), cert: bundle.cert_pem, key: bundle.key_pem }
    }

    fn content(&self) -> Content<'_> {
        let (ca, cert) = (self.ca.as_bytes(), self.cert.as_bytes());
        Content { addr: &self.addr, enroll: &[], ca, cert, key: &self.key }
    }

    fn write_old_form(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        for (name, text) in [("ca.pem", &*self.ca), ("cert.pem", &*self.cert), ("key.pem", self.key.reveal())] {
            fs::write(folder.join(name), text).unwrap();
        }
        fs::write(folder.join("profile.toml"), format!("addr = {:?}\n", self.addr)).unwrap();
    }
}

/// Which of `made` is in effect, by every way of reading it. Panics on a mixture.
fn in_effect(folder: &Folder, made: &[&Made]) -> usize {
    let files = folder.files().unwrap();
    let by_files = [files.ca, files.cert, files.key].map(|path| fs::read_to_string(path).unwrap());
    let by_name = ["ca.pem", "cert.pem", "key.pem"].map(|name| fs::read_to_string(folder.path().join(name)).unwrap());
    let which = |texts: &[String; 3]| {
        let mut found = made.iter().enumerate().filter(|(_, made)| {
            [made.ca.as_str(), made.cert.as_str(), made.key.reveal()] == texts.each_ref().map(String::as_str)
        });
        found.next().unwrap_or_else(|| panic!("a mixture")).0
    };
    let index = which(&by_files);
    assert_eq!(index, which(&by_name), "the names say something else");
    assert_eq!(files.addr, made[index].addr);
    index
}

/// A disk that dies at its `last` operation.
fn dying<T>(last: usize, act: impl FnOnce(&mut Disk<'_>) -> io::Result<T>) -> bool {
    let mut count = 0;
    let mut probe = || {
        count += 1;
        if count > last { Err(io::Error::other("killed")) } else { Ok(()) }
    };
    act(&mut Disk::probed(&mut probe)).is_ok()
}

#[test]
fn a_kill_at_any_moment_leaves_one_bundle_whole() {
    let (old, new, newer) = (Made::new("https://old:1"), Made::new("https://new:2"), Made::new("https://newer:3"));
    for old_form in [true, false] {
        let mut step = 0;
        let mut seen = [false; 2];
        loop {
            let home = tempfile::tempdir().unwrap();
            let folder = Folder::at(home.path().join("prod"));
            if old_form {
                old.write_old_form(folder.path())
            } else {
                folder.create(&old.content()).unwrap()
            }
            assert_eq!(in_effect(&folder, &[&old, &new]), 0);
            let survived = dying(step, |disk| folder.replace_on(&new.content(), disk));
            let now = in_effect(&folder, &[&old, &new]);
            seen[now] = true;
            assert!(!survived || now == 1);
            // Killed once more at each moment of the next try, and then let alone.
            for again in 0..step.min(5) {
                dying(again * 5, |disk| folder.replace_on(&newer.content(), disk));
                in_effect(&folder, &[&old, &new, &newer]);
            }
            folder.replace(&folder.hold().unwrap(), &newer.content()).unwrap();
            assert_eq!(in_effect(&folder, &[&old, &new, &newer]), 2);
            let versions = fs::read_dir(folder.path())
                .unwrap()
                .flatten()
                .filter(|entry| !entry.file_type().unwrap().is_symlink() && entry.file_name() != ".lock");
            assert_eq!(versions.count(), 1, "nothing is left over");
            if survived {
                break;
            }
            step += 1;
        }
        assert!(step > 15 && seen == [true; 2], "{step} {seen:?}");
    }
}

#[test]
fn a_new_folder_is_there_whole_or_not_at_all() {
    let made = Made::new("https://a:1");
    let mut step = 0;
    loop {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::at(home.path().join("prod"));
        let survived = dying(step, |disk| folder.create_on(&made.content(), disk));
        if folder.path().exists() {
            assert_eq!(in_effect(&folder, &[&made]), 0);
        } else {
            assert!(!survived);
            folder.create(&made.content()).unwrap();
        }
        assert!(folder.create(&made.content()).is_err(), "nothing is written over");
        if survived {
            break;
        }
        step += 1;
    }
    assert!(step > 10);
}

#[test]
fn keys_are_for_their_owner_alone() {
    use std::os::unix::fs::MetadataExt;
    let home = tempfile::tempdir().unwrap();
    let folder = Folder::at(home.path().join("prod"));
    let made = Made::new("https://a:1");
    folder.create(&made.content()).unwrap();
    folder.replace(&folder.hold().unwrap(), &made.content()).unwrap();
    let key = folder.files().unwrap().key;
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(key.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn the_enrolment_listener_is_remembered() {
    let home = tempfile::tempdir().unwrap();
    let folder = Folder::at(home.path().join("prod"));
    let made = Made::new("https://a:1");
    let enroll = ["a:8202".to_owned(), "[::1]:8202".to_owned()];
    folder.create(&Content { enroll: &enroll, ..made.content() }).unwrap();
    assert_eq!(folder.files().unwrap().enroll, enroll);
}

#[test]
fn a_key_waits_for_its_certificate() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("prod");
    let pending = Pending::of_enrolment(&folder, &[1; 16]);
    let unused = |_: &[u8; 32], _: Option<&str>| false;
    let csr = |request: Request| request.csr_pem;
    let first = csr(pending.request(KeyType::P256, &unused).unwrap());
    assert_eq!(csr(pending.request(KeyType::Ed25519, &unused).unwrap()), first, "the same key, whatever is asked for");
    let other = Pending::of_enrolment(&folder, &[2; 16]);
    assert_ne!(csr(other.request(KeyType::P256, &unused).unwrap()), first);
    // A key that has its certificate, a damaged file, and one that is done.
    let second = csr(pending.request(KeyType::P256, &|_, _| true).unwrap());
    assert_ne!(second, first);
    fs::write(folder.with_file_name(format!(".prod.enroll-{}", "01".repeat(16))).join("csr.pem"), &first).unwrap();
    let third = csr(pending.request(KeyType::P256, &unused).unwrap());
    assert!(third != first && third != second, "a request of another key is not used");
    pending.done();
    assert_ne!(csr(pending.request(KeyType::P256, &unused).unwrap()), third);
    assert!(pki::read_csr(&third).is_ok());
}
