//! Limits over the wire: who asks too much is told when to come back, and nobody else notices.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::support::raw::Raw;
use super::support::server::Server;

const READ: &str = r#"path "secret/*" { capabilities = ["read"] }"#;
const CONNECTIONS: usize = 8;

fn limited() -> Server {
    let server = Server::start();
    let operator = server.operator();
    let put =
        |path: &str, body: &[u8]| operator.request("POST", path, Some(body)).unwrap().success().map(drop).unwrap();
    put("secret/data/x", br#"{"data":{"a":"b"}}"#);
    put("sys/quotas/rate-limit/noisy", br#"{"identity":"app/noisy","class":"read","rate":50,"burst":50}"#);
    server
}

#[test]
fn a_noisy_identity_is_refused_and_a_quiet_one_is_not() {
    let server = limited();
    drop(server.application("app/noisy", READ));
    let quiet = server.application("app/quiet", READ);
    let (certificate, quiet_is_done) = (server.certificate("app/noisy"), AtomicBool::new(false));
    let (passed, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let client = server.client(&certificate);
                // At least some of each, however slow the machine is.
                for n in 0.. {
                    if n >= 20 && quiet_is_done.load(Ordering::SeqCst) {
                        break;
                    }
                    let reply = client.request("GET", "secret/data/x", None).unwrap();
                    match reply.status {
                        200 => passed.fetch_add(1, Ordering::SeqCst),
                        429 => refused.fetch_add(1, Ordering::SeqCst),
                        other => panic!("status {other}"),
                    };
                }
            });
        }
        for _ in 0..200 {
            assert_eq!(quiet.request("GET", "secret/data/x", None).unwrap().status, 200);
        }
        quiet_is_done.store(true, Ordering::SeqCst);
    });
    let (passed, refused) = (passed.into_inner(), refused.into_inner());
    assert!(passed >= 50 && refused > 0, "{passed} passed, {refused} refused");
}

#[test]
fn a_refusal_names_the_path_and_the_time() {
    let server = limited();
    drop(server.application("app/noisy", READ));
    let mut raw = Raw::connect(&server, &server.certificate("app/noisy"));
    let refused = (0..5_000).find_map(|_| {
        let reply = raw.get("secret/data/x").unwrap();
        (reply.status != 200).then_some(reply)
    });
    let refused = refused.expect("fifty a second are less than a connection can ask");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{}", refused.head);
    assert_eq!(refused.body, "{\"errors\":[\"request path \\\"secret/data/x\\\": rate limit quota exceeded\"]}");
}
