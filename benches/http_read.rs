//! Reads of a secret over mutual TLS with the audit log on, beside the same stack answering a fixed body of the same
//! size: `cargo bench --bench http_read`. `STRONGROOM_BENCH_ROUNDS` (4) and `STRONGROOM_BENCH_SECONDS` (2) set how long.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement needs the clock")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig as TlsConfig, StreamOwned};
use strongroom::api::spiffe::SpiffeId;
use strongroom::audit;
use strongroom::core::init::{InitOutcome, InitPlan, InitPorts, initialise};
use strongroom::core::{Clock, Opener, Ports, Settings, SystemClock, UnsealKey, Vault};
use strongroom::crypto::envelope::Suite;
use strongroom::crypto::password::WRITE_FLOOR;
use strongroom::crypto::random::{Random, SystemRandom};
use strongroom::http::{self, Limits};
use strongroom::pki::Bundle;
use strongroom::store::sidecar::{AnchorFile, HeaderFiles, MemAnchor, MemHeader};
use tokio::sync::watch;
use zeroize::Zeroizing;

const ROLE: &str = "STRONGROOM_BENCH_ROLE";
const KEY_FILE: [u8; 32] = [9; 32];
const REQUEST: &[u8] = b"GET /v1/secret/data/app/settings HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Clock ticks per second of `/proc/PID/stat`; 100 on every Linux there is.
const TICKS: f64 = 100.0;

fn main() {
    match std::env::var(ROLE).ok().as_deref() {
        Some("vault") => serve_vault(),
        Some("fixed") => serve_fixed(),
        _ => measure(),
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

// --- the two servers, each in a process of its own ---

fn make(folder: &Path) -> (Arc<Vault>, InitOutcome) {
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
        server_names: vec!["localhost".to_owned()],
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
    let paths = [folder.join("audit.log")];
    let ports = Ports {
        store,
        header,
        anchor,
        random,
        clock: Arc::new(SystemClock),
        audit: Box::new(move |keys, head, now_ms| audit::recover_all(&paths, keys, head, now_ms)),
        on_fatal: Box::new(|why| panic!("fatal: {why}")),
    };
    let vault = Vault::new(ports, Settings::new("example.org"));
    vault.unseal(Opener::Local, &UnsealKey::KeyFile(&KEY_FILE)).unwrap();
    (vault, made)
}

/// Tells the parent where to connect and with what, and ends when the parent goes.
fn announce(address: SocketAddr, ca_pem: &str, client: &Bundle) {
    let lines = [&address.to_string(), ca_pem, &client.cert_pem, client.key_pem.reveal()];
    println!("{}", serde_json::to_string(&lines).unwrap());
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn tls(made: &InitOutcome) -> (Vec<u8>, Zeroizing<Vec<u8>>) {
    (made.server.cert_pem.clone().into_bytes(), Zeroizing::new(made.server.key_pem.reveal().as_bytes().to_vec()))
}

fn serve_vault() {
    let folder = folder();
    let (vault, made) = make(folder.path());
    let (listener, address) = listen();
    let (certificate_pem, key_pem) = tls(&made);
    let config = http::ServerConfig {
        listener,
        certificate_pem,
        key_pem,
        client_ca_pem: made.ca_pem.clone().into_bytes(),
        trust_domain: "example.org".to_owned(),
        limits: Limits::default(),
    };
    let (_stop, stopped) = watch::channel(false);
    announce(address, &made.ca_pem, &made.operator);
    runtime().block_on(http::serve(config, vault, stopped)).unwrap();
}

fn folder() -> tempfile::TempDir {
    let root = std::env::var_os("STRONGROOM_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    tempfile::tempdir_in(root).unwrap()
}

/// axum on hyper on rustls with the vault's TLS settings, and nothing else.
fn serve_fixed() {
    let folder = folder();
    let (_vault, made) = make(folder.path());
    let (listener, address) = listen();
    let (certificate, key) = tls(&made);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(made.ca_pem.as_bytes()).unwrap()).unwrap();
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let mut config = TlsConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(&certificate).unwrap()],
            PrivateKeyDer::from_pem_slice(&key).unwrap(),
        )
        .unwrap();
    config.send_tls13_tickets = 0;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let length = number("STRONGROOM_BENCH_BODY", 600);
    let body = axum::body::Bytes::from(vec![b'x'; usize::try_from(length).unwrap()]);
    let answer = move || {
        std::future::ready(([("content-type", "application/json"), ("cache-control", "no-store")], body.clone()))
    };
    let router = axum::Router::new().route("/v1/{*path}", axum::routing::any(answer));
    listener.set_nonblocking(true).unwrap();
    announce(address, &made.ca_pem, &made.operator);
    runtime().block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let service = hyper_util::service::TowerToHyperService::new(router);
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    });
}

// --- the measurement ---

struct Server {
    child: Child,
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

impl Server {
    fn start(role: &str, body: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(ROLE, role)
            .env("STRONGROOM_BENCH_BODY", body.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let [address, ca, cert, key]: [String; 4] = serde_json::from_str(&line).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        Self { child, address: address.parse().unwrap(), config: Arc::new(config) }
    }

    fn connect(&self) -> Connection {
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        Connection(StreamOwned::new(ClientConnection::new(Arc::clone(&self.config), name).unwrap(), tcp))
    }

    /// User and system time so far, seconds.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
    }

    fn resident_kib(&self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().to_owned()
    }

    fn round(&self, connections: usize, time: Duration) -> Figures {
        let mut open: Vec<_> = (0..connections).map(|_| self.connect()).collect();
        for connection in &mut open {
            connection.ask(REQUEST);
        }
        let (cpu, start) = (self.cpu(), Instant::now());
        let mut times: Vec<Duration> = std::thread::scope(|scope| {
            let work = |mut connection: Connection| {
                let mut times = Vec::new();
                while start.elapsed() < time {
                    let sent = Instant::now();
                    connection.ask(REQUEST);
                    times.push(sent.elapsed());
                }
                times
            };
            let running: Vec<_> = open.into_iter().map(|connection| scope.spawn(move || work(connection))).collect();
            running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let elapsed = start.elapsed().as_secs_f64();
        times.sort_unstable();
        let count = times.len();
        let micros = |part: usize| times[count * part / 100].as_secs_f64() * 1e6;
        let cpu_us = (self.cpu() - cpu) * 1e6 / count as f64;
        Figures { rate: count as f64 / elapsed, p50_us: micros(50), p99_us: micros(99), cpu_us }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Connection(StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    /// Sends, and reads exactly one reply of status 200; its body's length.
    fn ask(&mut self, request: &[u8]) -> usize {
        self.0.write_all(request).unwrap();
        let mut bytes = [0; 8192];
        let mut filled = 0;
        loop {
            filled += self.0.read(&mut bytes[filled..]).unwrap();
            let Some(end) = bytes[..filled].windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&bytes[..end]).unwrap().to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200 "), "{head}");
            let length = head.split_once("content-length: ").unwrap().1.lines().next().unwrap().parse().unwrap();
            if filled >= end + 4 + length {
                return length;
            }
        }
    }
}

struct Figures {
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
}

fn median(rounds: &[Figures], of: fn(&Figures) -> f64) -> f64 {
    let mut all: Vec<f64> = rounds.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2.0
}

fn measure() {
    let rounds = number("STRONGROOM_BENCH_ROUNDS", 4);
    let time = Duration::from_secs(number("STRONGROOM_BENCH_SECONDS", 2));
    let vault = Server::start("vault", 0);
    let body = format!(r#"{{"data":{{"DATABASE_URL":"{}","TOKEN":"{}"}}}}"#, "d".repeat(80), "t".repeat(40));
    let head = "POST /v1/secret/data/app/settings HTTP/1.1\r\nHost: localhost\r\nContent-Length: ";
    vault.connect().ask(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes());
    let length = vault.connect().ask(REQUEST);
    let fixed = Server::start("fixed", length);
    println!("reply of {length} bytes, medians of {rounds} rounds of {} s", time.as_secs());
    println!("{:<14}{:>10}{:>10}{:>10}{:>14}", "", "req/s", "p50 us", "p99 us", "cpu us/req");
    for connections in [1, 16] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(vault.round(connections, time));
            theirs.push(fixed.round(connections, time));
        }
        for (name, rounds) in [("vault", &ours), ("fixed", &theirs)] {
            println!(
                "{:<14}{:>10.0}{:>10.0}{:>10.0}{:>14.1}",
                format!("{name} c={connections}"),
                median(rounds, |f| f.rate),
                median(rounds, |f| f.p50_us),
                median(rounds, |f| f.p99_us),
                median(rounds, |f| f.cpu_us)
            );
        }
        let ratio = |of: fn(&Figures) -> f64| median(&ours, of) / median(&theirs, of);
        println!("vault/fixed: rate {:.2}, cpu {:.2}", ratio(|f| f.rate), ratio(|f| f.cpu_us));
    }
    println!("resident: vault {}, fixed {}", vault.resident_kib(), fixed.resident_kib());
}
