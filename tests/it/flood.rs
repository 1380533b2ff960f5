//! Many peers that begin a handshake and do not go on, against the daemon as a process.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use strongroom::http::Limits;

use crate::support::process::{Init, Running};
use crate::support::raw::Raw;
use crate::support::server::Server;

/// A TLS record with the first bytes of a ClientHello.
pub const BEGUN: [u8; 6] = [22, 3, 1, 0, 200, 1];

/// Connects from one of the machine's own addresses.
pub fn connect_from(source: &str, to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    stream
}

fn operator_config(bundle: &Path) -> Arc<ClientConfig> {
    let read = |name: &str| std::fs::read(bundle.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&read("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let chain = CertificateDer::pem_slice_iter(&read("cert.pem")).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(&read("key.pem")).unwrap();
    Arc::new(config.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap())
}

/// Resident memory in KiB, and open files, of a process.
fn burden(process: u32) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident = resident.split_whitespace().next().unwrap().parse().unwrap();
    (resident, std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count())
}

pub fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(16_384, |most| most.min(16_384));
    let current = limit.current.map_or(wanted, |current| current.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum }).unwrap();
}

#[test]
fn half_open_handshakes_of_one_source_leave_room_for_others() {
    allow_many_files();
    let folder = tempfile::tempdir().unwrap();
    let data = Init::in_folder(folder.path()).run();
    let daemon = Running::start(&data);
    let address: SocketAddr = daemon.address.strip_prefix("https://").unwrap().parse().unwrap();
    let config = operator_config(&folder.path().join("operator"));
    let honest = || {
        let start = Instant::now();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut raw = Raw(StreamOwned::new(connection, connect_from("127.0.0.2", address)));
        assert_eq!(raw.get("sys/seal-status").unwrap().status, 200);
        start.elapsed()
    };
    honest();
    let before = burden(daemon.id());
    let mut open = Vec::with_capacity(5_000);
    let mut slowest = Duration::ZERO;
    let (mut most_memory, mut most_files) = before;
    let start = Instant::now();
    while open.len() < 5_000 {
        let mut stream = TcpStream::connect(address).unwrap();
        let _ = stream.write_all(&BEGUN);
        open.push(stream);
        if open.len() % 500 == 0 {
            slowest = slowest.max(honest());
            let (memory, files) = burden(daemon.id());
            (most_memory, most_files) = (most_memory.max(memory), most_files.max(files));
        }
    }
    println!(
        "5000 half-open handshakes in {:?}: the other source waited {slowest:?} at most; {} KiB and {} files more",
        start.elapsed(),
        most_memory - before.0,
        most_files - before.1,
    );
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(most_files - before.1 <= 256 + 16, "{most_files} files after {}", before.1);
    assert!(most_memory - before.0 < 64 << 10, "{most_memory} KiB after {}", before.0);
    drop(open);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn handshakes_a_second_are_limited_by_source() {
    let limits = Limits { handshake_rate_per_source: 2, ..Limits::default() };
    let server = Server::with(limits);
    // The burst is ten.
    let served = (0..20).filter(|_| Raw::connect(&server, &server.operator).get("sys/health").is_ok()).count();
    assert!((10..15).contains(&served), "{served} of 20");
    std::thread::sleep(Duration::from_millis(1_200));
    assert!(Raw::connect(&server, &server.operator).get("sys/health").is_ok());
}

#[test]
fn connections_that_are_only_turned_away_count_for_their_source() {
    let server = Server::with(Limits { handshakes_per_source: 4, ..Limits::default() });
    server.application("app/out", r#"path "secret/data/*" { capabilities = ["read"] }"#);
    server.operator().identities().disable("app/out", None).unwrap();
    let bundle = server.certificate("app/out");
    // Each may ask once and hears that it may not; until then it is there.
    let open = (0..12).filter_map(|_| {
        let mut connection = Raw::connect(&server, &bundle);
        while connection.0.conn.is_handshaking() {
            connection.0.conn.complete_io(&mut connection.0.sock).ok()?;
        }
        std::thread::sleep(Duration::from_millis(30));
        Some(connection)
    });
    let mut open: Vec<Raw> = open.collect();
    let is_there = |connection: &mut Raw| {
        connection.0.sock.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let read = connection.0.read(&mut [0; 1]);
        read.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    };
    let there = open.iter_mut().filter_map(|connection| is_there(connection).then_some(())).count();
    assert!((1..=4).contains(&there), "{there} places for a certificate that counts for nothing");
    drop(open);
    std::thread::sleep(Duration::from_millis(500));
    let mut told = Raw::connect(&server, &bundle);
    assert_eq!(told.get("secret/data/a").unwrap().status, 403, "it is told why");
    assert_eq!(Raw::connect(&server, &server.operator).get("sys/health").unwrap().status, 200);
}

#[test]
fn a_handshake_at_a_byte_a_time_ends() {
    let server = Server::with(Limits { handshake: Duration::from_secs(2), ..Limits::default() });
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let start = Instant::now();
    let mut hello = BEGUN.iter().chain(std::iter::repeat(&0));
    // Either it cannot be written to any more, or its end is read.
    while stream.write_all(&[*hello.next().unwrap()]).is_ok() && !matches!(stream.read(&mut [0; 8]), Ok(0)) {
        assert!(start.elapsed() < Duration::from_secs(6), "a drip of bytes goes on for ever");
    }
    assert!(start.elapsed() > Duration::from_millis(1_500), "{:?}", start.elapsed());
}
