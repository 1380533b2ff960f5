//! The server's certificate, renewed by somebody else while clients come and go.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use strongroom::pki::{Authority, Bundle};

use crate::support::process::{Init, Running};
use crate::support::raw::Raw;
use crate::support::server::{DOMAIN, now_ms, other_authority};

const SWAPS: usize = 50;

fn config(authority: &Authority, bundle: &Path) -> Arc<ClientConfig> {
    let read = |name: &str| std::fs::read(bundle.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.cert_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let chain = CertificateDer::pem_slice_iter(&read("cert.pem")).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(&read("key.pem")).unwrap();
    Arc::new(config.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap())
}

fn connect(config: &Arc<ClientConfig>, address: SocketAddr) -> Raw {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    Raw(StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), tcp))
}

fn issue(authority: &Authority) -> Bundle {
    authority.issue_server(&["localhost".to_owned()], now_ms(), 3600).unwrap()
}

fn der(bundle: &Bundle) -> Vec<u8> {
    CertificateDer::from_pem_slice(bundle.cert_pem.as_bytes()).unwrap().to_vec()
}

/// As certificate managers do it: a new file, then a rename.
fn put(folder: &Path, name: &str, bytes: &[u8]) {
    use std::io::Write;
    let new = folder.join("new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new).unwrap();
    file.write_all(bytes).unwrap();
    std::fs::rename(new, folder.join(name)).unwrap();
}

/// A daemon that shows what lies in `FOLDER/tls`, made by `authority`.
fn start(folder: &Path, authority: &Authority) -> (Running, SocketAddr) {
    use std::io::Write;
    let data = Init::in_folder(folder).run();
    let tls = folder.join("tls");
    std::fs::create_dir(&tls).unwrap();
    let first = issue(authority);
    put(&tls, "cert.pem", first.cert_pem.as_bytes());
    put(&tls, "key.pem", first.key_pem.reveal().as_bytes());
    let mut file = std::fs::OpenOptions::new().append(true).open(data.join("strongroom.toml")).unwrap();
    let tls = tls.display();
    write!(
        file,
        "\n[tls]\ncertificate = \"{tls}/cert.pem\"\nkey = \"{tls}/key.pem\"\n[limits]\nhandshake_rate_per_source = 5000\n"
    )
    .unwrap();
    let daemon = Running::start(&data);
    let address = daemon.address.strip_prefix("https://").unwrap().parse().unwrap();
    (daemon, address)
}

#[test]
fn no_request_fails_while_the_certificate_is_exchanged() {
    let folder = tempfile::tempdir().unwrap();
    let authority = other_authority(DOMAIN);
    let (daemon, address) = start(folder.path(), &authority);
    let config = config(&authority, &folder.path().join("operator"));
    let (done, seen) = (AtomicBool::new(false), Mutex::new(HashSet::new()));
    let begin = Instant::now();
    let (served, last) = std::thread::scope(|scope| {
        let load = || {
            let mut served = 0_u32;
            while !done.load(Ordering::Relaxed) {
                let mut connection = connect(&config, address);
                for _ in 0..5 {
                    assert_eq!(connection.get("sys/health").unwrap().status, 503);
                    served += 1;
                }
                let shown = connection.0.conn.peer_certificates().unwrap()[0].to_vec();
                seen.lock().unwrap().insert(shown);
            }
            served
        };
        let threads = [scope.spawn(load), scope.spawn(load), scope.spawn(load)];
        let mut last = Vec::new();
        for _ in 0..SWAPS {
            let next = issue(&authority);
            put(&folder.path().join("tls"), "cert.pem", next.cert_pem.as_bytes());
            put(&folder.path().join("tls"), "key.pem", next.key_pem.reveal().as_bytes());
            strongroom::os::send_signal(daemon.id(), libc::SIGHUP);
            last = der(&next);
            sleep(Duration::from_millis(60));
        }
        sleep(Duration::from_millis(300));
        done.store(true, Ordering::Relaxed);
        (threads.map(|thread| thread.join().unwrap()).iter().sum::<u32>(), last)
    });
    let rate = f64::from(served) / begin.elapsed().as_secs_f64();
    let seen = seen.into_inner().unwrap();
    println!("{served} requests, {rate:.0} a second, none failed; {} certificates seen", seen.len());
    assert!(seen.contains(&last), "the last certificate was not shown");
    assert!(seen.len() > SWAPS / 2, "{} certificates of {SWAPS}", seen.len());
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn what_does_not_fit_is_not_shown_and_what_fits_is_without_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let authority = other_authority(DOMAIN);
    let (daemon, address) = start(folder.path(), &authority);
    let config = config(&authority, &folder.path().join("operator"));
    let shown = || {
        let mut connection = connect(&config, address);
        connection.get("sys/health").unwrap();
        connection.0.conn.peer_certificates().unwrap()[0].to_vec()
    };
    let (first, next) = (shown(), issue(&authority));
    let tls = folder.path().join("tls");
    let stays = |what: &str| {
        strongroom::os::send_signal(daemon.id(), libc::SIGHUP);
        sleep(Duration::from_millis(300));
        assert_eq!(shown(), first, "{what}");
    };
    put(&tls, "cert.pem", next.cert_pem.as_bytes());
    stays("a certificate without its key");
    put(&tls, "cert.pem", &next.cert_pem.as_bytes()[..200]);
    stays("half a file");
    std::fs::remove_file(tls.join("key.pem")).unwrap();
    stays("no key");
    put(&tls, "key.pem", next.key_pem.reveal().as_bytes());
    stays("half a certificate and the new key");
    put(&tls, "cert.pem", next.cert_pem.as_bytes());
    let start = Instant::now();
    while shown() != der(&next) {
        assert!(start.elapsed() < Duration::from_secs(10), "the files are not looked at");
        sleep(Duration::from_millis(50));
    }
    assert_eq!(daemon.stop(), Some(0));
}
