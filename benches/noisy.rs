//! What a quiet identity notices of a noisy one that is over its limit: `cargo bench --bench noisy`. Over mutual TLS,
//! with the audit log on; the vault runs in a process of its own and may use every processor, like its clients.
//! `STRONGROOM_BENCH_ROUNDS` (4), `STRONGROOM_BENCH_SECONDS` (2) and `STRONGROOM_BENCH_NOISE` (8 connections) set how
//! long and how much.
//!
//! Three states, interleaved: the quiet one alone; beside a noisy one that sends without a pause and is answered 429;
//! beside one that is refused and waits as long as `Retry-After` says, as a well-behaved client does.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement needs the clock")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use strongroom::api::spiffe::SpiffeId;
use strongroom::audit;
use strongroom::core::init::{InitPlan, InitPorts, initialise};
use strongroom::core::{Clock, Opener, Ports, Settings, SystemClock, UnsealKey, Vault};
use strongroom::crypto::envelope::Suite;
use strongroom::crypto::password::WRITE_FLOOR;
use strongroom::crypto::random::{Random, SystemRandom};
use strongroom::http::{self, Limits};
use strongroom::store::sidecar::{AnchorFile, HeaderFiles, MemAnchor, MemHeader};
use tokio::sync::watch;
use zeroize::Zeroizing;

const ROLE: &str = "STRONGROOM_BENCH_ROLE";
const KEY_FILE: [u8; 32] = [9; 32];
const DOMAIN: &str = "example.org";
const READ: &str = "GET /v1/secret/data/app/settings HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// The quiet one asks this often.
const EVERY: Duration = Duration::from_millis(2);

fn main() {
    if std::env::var(ROLE).is_ok() {
        serve();
    } else {
        measure();
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn serve() {
    let root = std::env::var_os("STRONGROOM_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(root).unwrap();
    let store = strongroom::store::open("memory", folder.path(), true).unwrap();
    let header: Arc<dyn HeaderFiles> = Arc::new(MemHeader::default());
    let anchor: Arc<dyn AnchorFile> = Arc::new(MemAnchor::default());
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let plan = InitPlan {
        passphrase: None,
        key_file: Some(&KEY_FILE),
        params: WRITE_FLOOR,
        trust_domain: DOMAIN,
        operator: SpiffeId::new(DOMAIN, "ops/alice").unwrap(),
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
    let paths = [folder.path().join("audit.log")];
    let ports = Ports {
        store,
        header,
        anchor,
        random,
        clock: Arc::new(SystemClock),
        audit: Box::new(move |keys, head, now_ms| audit::recover_all(&paths, keys, head, now_ms)),
        on_fatal: Box::new(|why| panic!("fatal: {why}")),
    };
    let vault = Vault::new(ports, Settings::new(DOMAIN));
    vault.unseal(Opener::Local, &UnsealKey::KeyFile(&KEY_FILE)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = http::ServerConfig {
        listener,
        certificate_pem: made.server.cert_pem.clone().into_bytes(),
        key_pem: Zeroizing::new(made.server.key_pem.reveal().as_bytes().to_vec()),
        client_ca_pem: made.ca_pem.clone().into_bytes(),
        trust_domain: DOMAIN.to_owned(),
        limits: Limits::default(),
    };
    let mut lines = vec![address.to_string(), made.ca_pem.clone()];
    lines.extend([made.operator.cert_pem.clone(), made.operator.key_pem.reveal().to_owned()]);
    for name in ["app/noisy", "app/quiet"] {
        let bundle = vault.issue_client(&SpiffeId::new(DOMAIN, name).unwrap(), 3_600).unwrap();
        lines.extend([bundle.cert_pem.clone(), bundle.key_pem.reveal().to_owned()]);
    }
    println!("{}", serde_json::to_string(&lines).unwrap());
    // Ends when the parent goes.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let (_stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(http::serve(config, vault, stopped)).unwrap();
}

struct Server {
    child: Child,
    address: SocketAddr,
    /// Of the operator, the noisy and the quiet one.
    configs: [Arc<ClientConfig>; 3],
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(ROLE, "vault")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let lines: Vec<String> = serde_json::from_str(&line).unwrap();
        let config = |n: usize| {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(lines[1].as_bytes()).unwrap()).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_root_certificates(roots)
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(lines[2 + 2 * n].as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(lines[3 + 2 * n].as_bytes()).unwrap(),
                );
            Arc::new(config.unwrap())
        };
        Self { child, address: lines[0].parse().unwrap(), configs: [config(0), config(1), config(2)] }
    }

    fn connect(&self, who: usize) -> Connection {
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        Connection(StreamOwned::new(ClientConnection::new(Arc::clone(&self.configs[who]), name).unwrap(), tcp))
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
    /// Sends, reads exactly one reply, gives its status.
    fn ask(&mut self, request: &str) -> u16 {
        self.0.write_all(request.as_bytes()).unwrap();
        let mut bytes = [0; 8192];
        let mut filled = 0;
        loop {
            filled += self.0.read(&mut bytes[filled..]).unwrap();
            let Some(end) = bytes[..filled].windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&bytes[..end]).unwrap().to_ascii_lowercase();
            let status = head[9..12].parse().unwrap();
            let length = head
                .split_once("content-length: ")
                .map_or(0, |(_, rest)| rest.lines().next().unwrap().parse::<usize>().unwrap());
            if filled >= end + 4 + length {
                return status;
            }
        }
    }

    fn post(&mut self, path: &str, body: &str) {
        let head = format!("POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        let status = self.ask(&format!("{head}{body}"));
        assert!(matches!(status, 200 | 204), "{path}: {status}");
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Noise {
    None,
    Endless,
    Waiting,
}

#[derive(Default)]
struct Figures {
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    refused: Vec<f64>,
}

/// Times of the quiet one's requests, and refusals of the noisy one a second.
fn round(server: &Server, noise: Noise, connections: u64, time: Duration, into: &mut Figures) {
    let (stop, refused) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut times = std::thread::scope(|scope| {
        for _ in 0..if noise == Noise::None { 0 } else { connections } {
            scope.spawn(|| {
                let mut connection = server.connect(1);
                while !stop.load(Ordering::Relaxed) {
                    if connection.ask(READ) == 429 {
                        refused.fetch_add(1, Ordering::Relaxed);
                        let end = Instant::now() + Duration::from_secs(u64::from(noise == Noise::Waiting));
                        while Instant::now() < end && !stop.load(Ordering::Relaxed) {
                            std::thread::sleep(Duration::from_millis(20));
                        }
                    }
                }
            });
        }
        let mut quiet = server.connect(2);
        // Until the noisy one has used up its burst.
        std::thread::sleep(Duration::from_millis(300));
        refused.store(0, Ordering::Relaxed);
        let (start, mut times) = (Instant::now(), Vec::new());
        while start.elapsed() < time {
            std::thread::sleep(EVERY);
            let sent = Instant::now();
            assert_eq!(quiet.ask(READ), 200);
            times.push(sent.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        times
    });
    times.sort_unstable();
    let micros = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
    into.p50_us.push(micros(50));
    into.p99_us.push(micros(99));
    into.refused.push(refused.into_inner() as f64 / time.as_secs_f64());
}

fn median(all: &[f64]) -> f64 {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2.0
}

fn measure() {
    let rounds = number("STRONGROOM_BENCH_ROUNDS", 4);
    let time = Duration::from_secs(number("STRONGROOM_BENCH_SECONDS", 2));
    let connections = number("STRONGROOM_BENCH_NOISE", 8);
    let server = Server::start();
    let mut operator = server.connect(0);
    operator.post("sys/policies/acl/app", r#"{"policy":"path \"secret/*\" { capabilities = [\"read\"] }"}"#);
    for name in ["noisy", "quiet"] {
        operator.post(&format!("sys/strongroom/identities/app/{name}"), r#"{"policies":["app"]}"#);
    }
    operator.post("secret/data/app/settings", r#"{"data":{"DATABASE_URL":"postgres://db","TOKEN":"abc"}}"#);
    operator.post("sys/quotas/rate-limit/noisy", r#"{"identity":"app/noisy","rate":100,"burst":100}"#);
    let states = [("alone", Noise::None), ("noisy, endless", Noise::Endless), ("noisy, waits", Noise::Waiting)];
    let mut figures = [Figures::default(), Figures::default(), Figures::default()];
    for _ in 0..rounds {
        for ((_, noise), into) in states.iter().zip(&mut figures) {
            round(&server, *noise, connections, time, into);
        }
    }
    println!("a read each {} ms, noise on {connections} connections, medians of {rounds} rounds", EVERY.as_millis());
    println!("{:<16}{:>10}{:>10}{:>14}{:>12}", "quiet one", "p50 us", "p99 us", "refusals/s", "p99 ratio");
    let alone_us = median(&figures[0].p99_us);
    for ((name, _), figures) in states.iter().zip(&figures) {
        let p99_us = median(&figures.p99_us);
        println!(
            "{name:<16}{:>10.0}{p99_us:>10.0}{:>14.0}{:>12.2}",
            median(&figures.p50_us),
            median(&figures.refused),
            p99_us / alone_us
        );
    }
}
