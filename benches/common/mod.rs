//! A vault served in a process of its own, and connections to it byte by byte.
#![allow(dead_code, clippy::disallowed_methods, reason = "each measurement uses a part of this, and needs the clock")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use strongroom::api::spiffe::SpiffeId;
use strongroom::audit::FileDevice;
use strongroom::core::lifecycle::init::{InitOutcome, InitPlan, InitPorts, initialise};
use strongroom::core::{Clock, Opener, Ports, Settings, SystemClock, UnsealKey, Vault};
use strongroom::crypto::envelope::Suite;
use strongroom::crypto::password::WRITE_FLOOR;
use strongroom::crypto::random::{Random, SystemRandom};
use strongroom::http::{self, Limits, Tls};
use strongroom::pki::Bundle;
use strongroom::store::sidecar::{AnchorFile, HeaderFiles, MemAnchor, MemHeader};
use tokio::sync::watch;

/// Which part of the measurement a process plays.
pub const ROLE: &str = "STRONGROOM_BENCH_ROLE";
const KEY_FILE: [u8; 32] = [9; 32];
/// Clock ticks per second of `/proc/PID/stat`; 100 on every Linux there is.
const TICKS: f64 = 100.0;

pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

pub fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

pub fn folder() -> tempfile::TempDir {
    let root = std::env::var_os("STRONGROOM_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    tempfile::tempdir_in(root).unwrap()
}

/// A new open vault with its store and audit log in `folder`.
pub fn make(folder: &Path) -> (Arc<Vault>, InitOutcome) {
    let store = strongroom::store::open("redb", folder, true).unwrap();
    let header: Arc<dyn HeaderFiles> = Arc::new(MemHeader::default());
    let anchor: Arc<dyn AnchorFile> = Arc::new(MemAnchor::default());
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let plan = InitPlan {
        passphrase: None,
        key_file: Some(&KEY_FILE),
        params: WRITE_FLOOR,
        trust_domain: "example.org",
        operator: SpiffeId::new("example.org", "ops/alice").unwrap(),
        server_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        suite: Suite::Aes256Gcm,
        server_life_s: 86_400,
        operator_life_s: 86_400,
    };
    let ports = InitPorts {
        store: Arc::clone(&store),
        header: Arc::clone(&header),
        anchor: Arc::clone(&anchor),
        random: Arc::clone(&random),
    };
    let made = initialise(ports, &plan, SystemClock.now_ms()).unwrap();
    let log = folder.join("audit.log");
    let ports = Ports {
        store,
        header,
        anchor,
        random,
        clock: Arc::new(SystemClock),
        audit: Box::new(FileDevice::opener(log)),
        on_fatal: Box::new(|why| panic!("fatal: {why}")),
    };
    let vault = Vault::new(ports, Settings::new("example.org"));
    vault.unseal(Opener::Local, &UnsealKey::KeyFile(&KEY_FILE)).unwrap();
    (vault, made)
}

pub fn tls(made: &InitOutcome) -> Arc<Tls> {
    let trust = http::trust_from_pem(made.ca_pem.as_bytes()).unwrap();
    Arc::new(Tls::new(made.server.cert_pem.as_bytes(), made.server.key_pem.reveal().as_bytes(), &trust).unwrap())
}

/// One source with more connections than any limit is made for.
pub fn limits(limits: Limits) -> Limits {
    Limits { handshakes_per_source: 100_000, handshake_rate_per_source: 100_000, connections: 10_000, ..limits }
}

pub fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// Tells the parent where to connect and with what, and ends when the parent goes.
pub fn announce(addresses: [SocketAddr; 2], ca_pem: &str, client: &Bundle) {
    let [first, second] = addresses.map(|address| address.to_string());
    let lines = [&first, &second, ca_pem, &client.cert_pem, client.key_pem.reveal()];
    println!("{}", serde_json::to_string(&lines).unwrap());
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}

/// Serves a new vault until the parent goes.
pub fn serve_vault() {
    let folder = folder();
    let (vault, made) = make(folder.path());
    let (listener, address) = listen();
    let (_stop, stopped) = watch::channel(false);
    announce([address, address], &made.ca_pem, &made.operator);
    let limits = limits(Limits::default());
    let serving = http::serve_with(listener, tls(&made), "example.org".to_owned(), limits, vault, stopped);
    runtime().block_on(serving).unwrap();
}

/// TLS with the vault's settings and rustls' own check of client certificates, for what the vault is compared with.
pub fn plain_tls(made: &InitOutcome) -> tokio_rustls::TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(made.ca_pem.as_bytes()).unwrap()).unwrap();
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let mut settings = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(made.server.cert_pem.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(made.server.key_pem.reveal().as_bytes()).unwrap(),
        )
        .unwrap();
    settings.send_tls13_tickets = 0;
    tokio_rustls::TlsAcceptor::from(Arc::new(settings))
}

/// A server of this measurement as a child.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// The second listener, if it has one.
    pub second: SocketAddr,
    pub ca: String,
    pub operator: Arc<ClientConfig>,
    pub operator_pem: (String, String),
}

impl Server {
    pub fn start(role: &str) -> Self {
        Self::start_with(role, &[])
    }

    /// With more variables in its environment, for [`number`].
    pub fn start_with(role: &str, variables: &[(&str, String)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let variables = variables.iter().map(|(name, value)| (name, value));
        let mut child =
            command.env(ROLE, role).envs(variables).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let [address, second, ca, cert, key]: [String; 5] = serde_json::from_str(&line).unwrap();
        let operator = config(&ca, &cert, &key);
        let (address, second) = (address.parse().unwrap(), second.parse().unwrap());
        Self { child, address, second, ca, operator, operator_pem: (cert, key) }
    }

    pub fn connect(&self, config: &Arc<ClientConfig>) -> Connection {
        connect(self.address, config)
    }

    /// Resident memory, as the kernel writes it.
    pub fn resident(&self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned()
    }

    /// User and system time so far, seconds.
    pub fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Settings of a client; every handshake is a full one.
pub fn config(ca: &str, cert: &str, key: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

pub fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Connection {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_nodelay(true).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    Connection(StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), tcp))
}

/// One connection; the handshake happens with the first request.
pub struct Connection(pub StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    /// Sends, and reads exactly one reply: its status and body.
    pub fn ask(&mut self, request: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
        self.0.write_all(request)?;
        let mut bytes = vec![0; 65_536];
        let mut filled = 0;
        loop {
            if filled == bytes.len() {
                bytes.resize(2 * filled, 0);
            }
            let read = self.0.read(&mut bytes[filled..])?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            let Some(end) = bytes[..filled].windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&bytes[..end]).unwrap().to_ascii_lowercase();
            let length = head
                .split_once("content-length: ")
                .map_or(0, |(_, rest)| rest.lines().next().unwrap().parse::<usize>().unwrap());
            if filled >= end + 4 + length {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return Ok((status, bytes[end + 4..end + 4 + length].to_vec()));
            }
        }
    }

    /// Waits until the server closes.
    pub fn wait_for_end(&mut self) {
        while matches!(self.0.read(&mut [0; 4096]), Ok(read) if read > 0) {}
    }
}

pub fn get(path: &str) -> Vec<u8> {
    format!("GET /v1/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

pub fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// An order that is taken; its data.
pub fn order(operator: &mut Connection, path: &str, body: &Value) -> Value {
    let (status, reply) = operator.ask(&post(path, &body.to_string())).unwrap();
    assert!(matches!(status, 200 | 204), "{path}: {status} {}", String::from_utf8_lossy(&reply));
    serde_json::from_slice::<Value>(&reply).map(|reply| reply["data"].clone()).unwrap_or_default()
}

/// Takes the limits of all identities away, so that they do not slow what is measured.
pub fn unlimited(operator: &mut Connection) {
    order(operator, "sys/quotas/rate-limit/default", &json!({ "read": 0, "write": 0, "list": 0, "bytes": 0 }));
}

/// What a registered identity connects with: its certificate as PEM, and all of it for TLS.
pub fn issue(server: &Server, operator: &mut Connection, identity: &str) -> (String, Arc<ClientConfig>) {
    let request = strongroom::pki::request(strongroom::pki::KeyType::default()).unwrap();
    let body = json!({ "identity": identity, "csr": request.csr_pem });
    let made = order(operator, "sys/strongroom/certificates", &body);
    let certificate = made["certificate"].as_str().unwrap().to_owned();
    let holder = config(&server.ca, &certificate, request.key_pem.reveal());
    (certificate, holder)
}

/// How long each of the requests to `path` takes that are sent at this interval on one connection until `stop` is set.
pub fn paced(
    server: &Server,
    caller: &Arc<ClientConfig>,
    path: &str,
    interval: Duration,
    stop: &AtomicBool,
) -> Vec<Duration> {
    let (mut connection, request, mut times) = (server.connect(caller), get(path), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(interval);
        let sent = Instant::now();
        assert_eq!(connection.ask(&request).unwrap().0, 200);
        times.push(sent.elapsed());
    }
    times.sort_unstable();
    times
}

/// Writes this many small secrets into one folder, by sixteen writers, which share their commits.
pub fn fill(server: &Server, folder: &str, secrets: u64) {
    std::thread::scope(|scope| {
        for writer in 0..16 {
            scope.spawn(move || {
                let mut connection = server.connect(&server.operator);
                for n in (writer..secrets).step_by(16) {
                    let path = format!("secret/data/{folder}/child-{n:06}");
                    order(&mut connection, &path, &json!({ "data": { "A": "1" } }));
                }
            });
        }
    });
}

/// Rates, times and processor time of one round.
pub struct Figures {
    pub rate: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub cpu_us: f64,
}

impl Figures {
    /// Of what was done in `times`, `elapsed` and `cpu` of the server, both in seconds.
    pub fn new(mut times: Vec<Duration>, elapsed: f64, cpu: f64) -> Self {
        times.sort_unstable();
        let micros = |part| percentile(&times, part).as_secs_f64() * 1e6;
        let count = times.len() as f64;
        Self { rate: count / elapsed, p50_us: micros(50), p99_us: micros(99), cpu_us: cpu * 1e6 / count }
    }
}

pub fn median(rounds: &[Figures], of: fn(&Figures) -> f64) -> f64 {
    middle(rounds.iter().map(of).collect())
}

pub fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    f64::midpoint(all[(all.len() - 1) / 2], all[all.len() / 2])
}

/// Two lines of figures, and how they compare. `what` is what `cpu_us` is counted by.
pub fn compare(what: &str, names: [&str; 2], rounds: [&[Figures]; 2]) {
    println!("{:<14}{:>10}{:>10}{:>10}{:>14}", "", format!("{what}/s"), "p50 us", "p99 us", format!("cpu us/{what}"));
    for (name, rounds) in names.iter().zip(rounds) {
        let of = |of| median(rounds, of);
        let (rate, p50, p99, cpu) = (of(|f| f.rate), of(|f| f.p50_us), of(|f| f.p99_us), of(|f| f.cpu_us));
        println!("{name:<14}{rate:>10.0}{p50:>10.0}{p99:>10.0}{cpu:>14.1}");
    }
    let ratio = |of: fn(&Figures) -> f64| median(rounds[0], of) / median(rounds[1], of);
    println!("{}: rate {:.2}, cpu {:.2}", names.join(" / "), ratio(|f| f.rate), ratio(|f| f.cpu_us));
}

/// The value below which this part of all lies, in per cent.
pub fn percentile(sorted: &[Duration], part: usize) -> Duration {
    sorted[(sorted.len() - 1) * part / 100]
}

/// One line of figures, in microseconds.
pub fn row(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let micros = |part| percentile(&times, part).as_secs_f64() * 1e6;
    println!("{name:<44}{:>10.0}{:>10.0}{:>10.0}", micros(50), micros(99), micros(100));
}
