//! Whoever is revoked has no request served after the answer, and no connection soon after it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::town::Town;
use crate::support::raw::Raw;

/// All that a connection may outlive its revocation.
const LIMIT: Duration = Duration::from_secs(1);
const READ: &str = "secret/data/app/prod";

fn served(connection: &mut Raw) -> bool {
    connection.get(READ).is_ok_and(|reply| reply.status == 200)
}

/// What of the holder's is ended, and how the operator says so.
#[derive(Clone, Copy)]
enum Way {
    Everything,
    OneCertificate,
    Disabled,
    Deleted,
}

impl Way {
    fn take(self, town: &Town, identity: &str) -> Instant {
        let (path, body) = match self {
            Self::Everything => (format!("sys/strongroom/revoke/{identity}"), json!({ "reason": "drill" })),
            Self::OneCertificate => {
                let shown = town.get(&format!("sys/strongroom/identities/{identity}"));
                let serial = shown["certificates"][0]["serial"].clone();
                (format!("sys/strongroom/revoke/{identity}"), json!({ "certificate": serial }))
            }
            Self::Disabled => (format!("sys/strongroom/disable/{identity}"), json!({ "reason": "drill" })),
            Self::Deleted => {
                town.house.ask("DELETE", &format!("sys/strongroom/identities/{identity}"), &Value::Null);
                return Instant::now();
            }
        };
        town.post(&path, &body);
        Instant::now()
    }
}

/// Ends the loop of another thread also when this one panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn drill(town: &Town, identity: &str, way: Way) {
    let holder = town.holder(identity);
    let mut idle = holder.raw();
    assert!(served(&mut idle));
    let mut polling = holder.raw();
    assert!(served(&mut polling));
    let poll = "GET /v1/sys/strongroom/events?path=secret/data/app/prod&wait=30 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    polling.send(poll.as_bytes()).unwrap();
    let (stop, revoked) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let ends = Ends(&stop);
        // Comes back with a new connection whenever the old one ends, until it is stopped.
        let looping = scope.spawn(|| {
            let (mut count, mut late, mut connection) = (0_u64, 0_u64, holder.raw());
            while !stop.load(Ordering::SeqCst) {
                let known = revoked.load(Ordering::SeqCst);
                match connection.get(READ) {
                    Ok(reply) if reply.status == 200 => {
                        count += 1;
                        late += u64::from(known);
                    }
                    Ok(reply) => assert_eq!(reply.status, 403, "{reply:?}"),
                    Err(_) => connection = holder.raw(),
                }
            }
            (count, late)
        });
        std::thread::sleep(Duration::from_millis(150));
        let answered = way.take(town, identity);
        revoked.store(true, Ordering::SeqCst);
        if let Way::Deleted = way {
            // It is a stranger now, which may be connected and do nothing.
            assert!(!served(&mut idle));
        } else {
            idle.wait_for_end();
            let idle_for = answered.elapsed();
            polling.wait_for_end();
            let polled_for = answered.elapsed();
            assert!(idle_for < LIMIT && polled_for < LIMIT, "open for {idle_for:?} and {polled_for:?}");
        }
        std::thread::sleep(Duration::from_millis(150));
        drop(ends);
        let (count, late) = looping.join().unwrap();
        assert!(count > 3, "it had been served before: {count}");
        assert_eq!(late, 0, "requests that began after the answer and were served");
    });
    assert!(!served(&mut holder.raw()), "a new connection");
    town.post(READ, &json!({ "data": { "KEY": "one" } }));
}

#[test]
fn nothing_is_served_after_the_answer_and_all_connections_close() {
    let town = Town::open();
    let mut other = town.holder("app/stays").raw();
    assert!(served(&mut other));
    let ways = [Way::Everything, Way::OneCertificate, Way::Disabled, Way::Deleted];
    for (number, way) in ways.into_iter().cycle().take(8).enumerate() {
        drill(&town, &format!("app/n{number}"), way);
    }
    assert!(served(&mut other), "nobody else was cut off");
    // The answer is a promise also when the daemon is killed in the same moment.
    let holder = town.holder("app/last");
    assert!(served(&mut holder.raw()));
    Way::OneCertificate.take(&town, "app/last");
    town.kill();
    assert!(!served(&mut holder.raw()), "after a restart");
}
