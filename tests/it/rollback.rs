//! A vault that was put back to an older copy, and clients that have seen it newer: nothing is changed for them.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use strongroom::api::mark::Mark;
use strongroom::api::path::Path;
use strongroom::client::{Client, ClientError, Settings};
use strongroom::crypto::random::SystemRandom;
use strongroom::http::Limits;
use strongroom::pki::{Authority, Bundle};

use crate::cli::{Desk, copy};
use crate::support::process::{PASSPHRASE, Running, client, text, with_input};
use crate::support::raw::Raw;
use crate::support::server::{Server, identity, now_ms};

const POLICY: &str = r#"path "secret/data/app/*" { capabilities = ["read"] }"#;

#[test]
fn no_command_changes_a_vault_that_was_rolled_back() {
    let mut desk = Desk::new();
    desk.set("app/prod", "KEY", "one");
    desk.set("app/prod", "OTHER", "two");
    desk.ok(&["delete", "-y", "app/prod"]);
    desk.ok(&["delete", "--versions", "2", "--undelete", "app/prod"]);
    desk.ok(&["rotation", "set", "app/prod", "KEY", "--generator", "token"]);
    std::fs::write(desk.path("web.hcl"), POLICY).unwrap();
    std::fs::write(desk.path("app.env"), "A=1\nB=2\n").unwrap();
    desk.ok(&["policy", "write", "web", "web.hcl"]);
    desk.ok(&["identity", "set", "app/web", "--policy", "web"]);
    assert_eq!(desk.running.take().unwrap().stop(), Some(0));
    let (data, old) = (desk.path("data"), desk.path("old"));
    copy(&data, &old);
    let start = |desk: &mut Desk| {
        let running = Running::start(&data);
        client(&running.address, &desk.path("operator")).sys().unseal(&PASSPHRASE.into()).unwrap();
        let address = running.address.clone();
        desk.running = Some(running);
        address
    };
    let address = start(&mut desk);
    for _ in 0..3 {
        desk.ok(&["--addr", &address, "set", "app/prod", "LATER", "--generate"]);
    }
    assert_eq!(desk.running.take().unwrap().stop(), Some(0));
    std::fs::remove_dir_all(&data).unwrap();
    copy(&old, &data);
    let address = start(&mut desk);
    // A renewal goes by the profile's own address.
    std::fs::write(desk.path(".config/strongroom/profiles/p/profile.toml"), format!("addr = \"{address}\"\n")).unwrap();

    // Somebody who has seen nothing yet is served, and sees where the vault stands.
    let fresh = client(&address, &desk.path("operator"));
    let generation = || {
        fresh.sys().policies().unwrap();
        fresh.mark().unwrap().generation
    };
    let before = generation();
    for arguments in [
        &["set", "app/prod", "KEY", "--generate"][..],
        &["set", "app/prod", "KEY", "--generate"],
        &["set", "app/prod", "KEY", "--generate"],
        &["set", "app/prod", "KEY", "--generate"],
        &["set", "app/new", "KEY", "--generate"],
        &["unset", "app/prod", "KEY"],
        &["import", "-y", "app.env", "app/prod"],
        &["delete", "-y", "app/prod"],
        &["delete", "-y", "--all", "app/prod"],
        &["delete", "--versions", "1", "--undelete", "app/prod"],
        &["shred", "-y", "app/prod"],
        &["policy", "write", "evil", "web.hcl"],
        &["policy", "delete", "-y", "web"],
        &["identity", "set", "app/evil", "--policy", "web"],
        &["identity", "disable", "app/web"],
        &["identity", "revoke", "-y", "app/web"],
        &["identity", "remove", "-y", "app/web"],
        &["enroll", "create", "app/web"],
        &["rotate", "app/prod", "KEY"],
        &["rotate", "data-key"],
        &["rotation", "set", "app/prod", "OTHER", "--generator", "token"],
        &["renew"],
        &["ca", "prepare"],
        &["verify"],
        &["get", "app/prod"],
        &["run", "app/prod", "--", "true"],
    ] {
        let output = desk.run(&[&["--addr", &address], arguments].concat());
        let code = if arguments[0] == "run" { 125 } else { 6 };
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains("rolled back"), "{arguments:?}: {output:?}");
        assert!(said.contains("accept-loss --restored --data DIR"), "{said}");
        assert!(said.lines().all(|line| line.len() <= 160), "{said}");
    }
    let value = with_input(desk.command(&["--addr", &address, "set", "app/prod", "KEY", "-"]), b"value");
    assert_eq!(value.status.code(), Some(6), "{value:?}");
    // The daemon itself commits once a minute who was seen. Each of the commands would have raised it too.
    assert!(generation() <= before + 2, "nothing of this was committed");
    assert_eq!(fresh.sys().policies().unwrap(), ["admin", "default", "web"]);
    assert_eq!(fresh.kv("secret").list(&Path::parse("").unwrap()).unwrap(), ["app/"]);

    // Its status can be seen, and says so.
    let status = desk.run(&["--addr", &address, "status"]);
    assert!(status.status.code() == Some(6) && text(&status.stdout).contains("unsealed"), "{status:?}");

    // Whoever suspects a rollback can close the vault.
    desk.ok(&["--addr", &address, "seal", "-y"]);
    assert!(client(&address, &desk.path("operator")).sys().seal_status().unwrap().sealed);
}

#[test]
fn a_vault_does_nothing_for_a_request_with_a_later_mark() {
    let server = Server::with(Limits::default());
    let operator = server.operator();
    operator.sys().put_policy("one", POLICY).unwrap();
    let now = operator.mark().unwrap();
    let ask = |seen: &str, path: &str| {
        let body = serde_json::json!({ "policy": POLICY }).to_string();
        let request = format!(
            "POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nX-Strongroom-Seen: {seen}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Raw::connect(&server, &server.operator).ask(&request).unwrap()
    };
    let later = Mark { generation: now.generation + 1, ..now.clone() };
    let refused = ask(&later.to_string(), "sys/policies/acl/two");
    assert_eq!(refused.status, 412, "{refused:?}");
    let line = format!("rolled-back; epoch=1; incarnation={}; generation={}", now.incarnation, now.generation);
    assert_eq!(refused.header("x-strongroom-error"), Some(line.as_str()));
    assert_eq!(ask("7", "sys/policies/acl/two").status, 400);
    assert!(!operator.sys().policies().unwrap().contains(&"two".to_owned()));
    assert_eq!(ask(&now.to_string(), "sys/policies/acl/two").status, 204);

    // The client understands it, and its mark stays where it was.
    let client = server.operator();
    let later = Mark { generation: now.generation + 100, ..now };
    client.set_mark(later.clone());
    for _ in 0..2 {
        assert!(matches!(client.sys().put_policy("x", POLICY), Err(ClientError::RolledBack { .. })));
        assert!(matches!(client.sys().policies(), Err(ClientError::RolledBack { .. })));
    }
    assert_eq!(client.mark(), Some(later));
    client.sys().seal().unwrap();
    assert!(server.vault.is_sealed());
}

/// A server that knows nothing of the header: it answers 204 to every request, with a mark of the generation set here.
struct Older {
    address: String,
    authority: Authority,
    operator: Bundle,
    generation: AtomicU64,
    /// Request lines, in order.
    asked: Mutex<Vec<String>>,
    /// Requests that are answered on one connection.
    of_each: AtomicU64,
    /// Generation from the second connection on, if not 0.
    then: AtomicU64,
}

impl Older {
    fn start() -> Arc<Self> {
        let authority = Authority::create("example.org", Arc::new(SystemRandom), now_ms(), 86_400).unwrap();
        let operator = authority.issue_client(&identity("ops/alice"), now_ms(), 3600).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let (generation, asked, of_each) = (AtomicU64::new(10), Mutex::default(), AtomicU64::new(u64::MAX));
        let then = AtomicU64::new(0);
        let older = Arc::new(Self { address, authority, operator, generation, asked, of_each, then });
        let (served, config) = (Arc::clone(&older), older.config());
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), tcp);
                let requests = served.of_each.load(Ordering::SeqCst);
                for n in 1..=requests {
                    // Said in the reply, so that no request is on its way when the connection is closed.
                    if served.answer(&mut stream, requests == 1 && n == requests).is_none() {
                        break;
                    }
                }
                match served.then.swap(0, Ordering::SeqCst) {
                    0 => {}
                    then => served.generation.store(then, Ordering::SeqCst),
                }
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        older
    }

    fn config(&self) -> Arc<ServerConfig> {
        let bundle = self.authority.issue_server(&["127.0.0.1".to_owned()], now_ms(), 3600).unwrap();
        let chain = CertificateDer::pem_slice_iter(bundle.cert_pem.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(bundle.key_pem.reveal().as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.cert_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let builder = builder.with_client_cert_verifier(verifier.build().unwrap());
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }

    fn answer(&self, stream: &mut StreamOwned<ServerConnection, std::net::TcpStream>, last: bool) -> Option<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        stream.read_exact(&mut vec![0; length.unwrap_or(0)]).ok()?;
        self.asked.lock().unwrap().push(head.lines().next().unwrap().trim_end_matches(" http/1.1").to_owned());
        let reply = format!(
            "HTTP/1.1 204 No Content\r\nX-Strongroom-Epoch: 1\r\nX-Strongroom-Incarnation: {}\r\nX-Strongroom-Generation: {}\r\n{}\r\n",
            "0a".repeat(16),
            self.generation.load(Ordering::SeqCst),
            if last { "Connection: close\r\n" } else { "" }
        );
        stream.write_all(reply.as_bytes()).ok()?;
        stream.flush().ok()
    }

    fn client(&self) -> Client {
        Client::connect(Settings {
            addr: self.address.clone(),
            ca_pem: self.authority.cert_pem().as_bytes().to_vec(),
            cert_pem: self.operator.cert_pem.as_bytes().to_vec(),
            key_pem: self.operator.key_pem.reveal().into(),
            timeout: Duration::from_secs(10),
        })
        .unwrap()
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

const ASK: &str = "get /v1/sys/strongroom/mark";

#[test]
fn an_older_server_that_was_rolled_back_is_sent_no_change() {
    let older = Older::start();
    let mark = |generation| Mark { epoch: 1, incarnation: "0a".repeat(16), generation };
    let client = older.client();
    client.set_mark(mark(11));
    for _ in 0..3 {
        assert!(matches!(client.sys().put_policy("x", ""), Err(ClientError::RolledBack { .. })));
    }
    assert!(older.asked().iter().all(|line| line == ASK));
    assert_eq!(client.mark(), Some(mark(11)));
    // A write that took the generation up to the mark, by somebody else, hides the rollback. That is not this client's doing.
    older.generation.store(11, Ordering::SeqCst);
    client.sys().put_policy("x", "").unwrap();
}

#[test]
fn the_history_is_compared_once_for_each_connection_and_not_for_reads() {
    let older = Older::start();
    // Without a mark there is nothing to compare; with the first reply there is.
    let client = older.client();
    client.sys().put_policy("x", "").unwrap();
    client.sys().put_policy("x", "").unwrap();
    let put = "put /v1/sys/policies/acl/x";
    assert_eq!(older.asked(), [put, put]);
    // A read compares by itself.
    let reads = older.client();
    reads.set_mark(client.mark().unwrap());
    drop(client);
    reads.request("GET", "secret/data/x", None).unwrap();
    reads.sys().put_policy("x", "").unwrap();
    assert_eq!(older.asked(), ["get /v1/secret/data/x", put]);
    drop(reads);
    let writes = older.client();
    writes.set_mark(Mark { epoch: 1, incarnation: "0a".repeat(16), generation: 10 });
    older.of_each.store(3, Ordering::SeqCst);
    writes.sys().put_policy("x", "").unwrap();
    writes.sys().put_policy("x", "").unwrap();
    assert_eq!(older.asked(), [ASK, put, put]);
    // The server has closed that connection: what answers on the next one may be an older copy.
    older.generation.store(9, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(200));
    assert!(matches!(writes.sys().put_policy("x", ""), Err(ClientError::RolledBack { .. })));
    assert_eq!(older.asked(), [ASK]);
}

#[test]
fn a_change_goes_only_over_the_connection_on_which_the_history_was_compared() {
    let older = Older::start();
    let client = older.client();
    let held = Mark { epoch: 1, incarnation: "0a".repeat(16), generation: 10 };
    client.set_mark(held.clone());
    // The connection is closed with the reply, and the older copy answers on the next one.
    older.of_each.store(1, Ordering::SeqCst);
    older.then.store(9, Ordering::SeqCst);
    assert!(matches!(client.sys().put_policy("x", "secret"), Err(ClientError::RolledBack { .. })));
    assert_eq!(older.asked(), [ASK, ASK]);
    // Where every connection is closed so, nothing can be sent. Reads go on.
    older.generation.store(10, Ordering::SeqCst);
    let error = client.sys().put_policy("x", "secret").unwrap_err();
    assert!(
        matches!(error, ClientError::Transport { .. }) && error.to_string().contains("nothing was changed"),
        "{error}"
    );
    assert_eq!(older.asked(), [ASK, ASK]);
    client.request("GET", "secret/data/x", None).unwrap();
    assert_eq!((older.asked().len(), client.mark()), (1, Some(held)));
}

#[test]
fn who_is_not_admitted_does_not_learn_how_much_is_written() {
    let server = Server::with(Limits::default());
    drop(server.application("app/web", POLICY));
    let bundle = server.certificate("app/web");
    // Malformed, so the vault is not asked.
    let paths = ["sys/strongroom/mark", "secret/data/app/x%2"];
    let asked = || {
        paths.map(|path| {
            let reply = Raw::connect(&server, &bundle).get(path).unwrap();
            (reply.status, reply.header("x-strongroom-generation").is_some())
        })
    };
    assert_eq!(asked(), [(200, true), (400, true)]);
    server.operator().request("POST", "sys/strongroom/disable/app/web", Some(b"{}")).unwrap().success().unwrap();
    assert_eq!(asked(), [(403, false), (400, false)]);
}
