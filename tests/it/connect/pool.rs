//! Many rotations of a pair under clients that log in all the time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;

use strongroom::connect::{ConnectError, Connector, Credential, Live};

use super::{ADMIN, connector, login, pair, server, step, target};

/// Clients that log in all the time.
const CLIENTS: usize = 8;

/// What readers of the vault get, and which round it is of.
struct Shared {
    current: RwLock<(usize, Arc<Credential>)>,
    /// For each client the round of the last value it logged in with.
    seen: [AtomicUsize; CLIENTS],
    logins: AtomicUsize,
    refused: AtomicUsize,
    stop: AtomicBool,
}

#[test]
fn no_login_of_a_pool_is_refused_while_two_roles_are_rotated() {
    let Some(server) = server() else { return };
    let rounds = if std::env::var_os("STRONGROOM_FAST").is_some() { 10 } else { 200 };
    let postgres = connector(target(&server, pair()));
    let value = |round: usize| format!("pool-value-of-round-{round}-{}", round * 7919);
    let first = login("app_a", &value(0));
    postgres.apply(&step(Some(&first), None, None)).unwrap();
    let shared = Shared {
        current: RwLock::new((0, Arc::new(first))),
        seen: [(); CLIENTS].map(|()| AtomicUsize::new(0)),
        logins: AtomicUsize::new(0),
        refused: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    };
    let result = thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (shared, server) = (&shared, &server);
            scope.spawn(move || {
                let own = connector(target(server, pair()));
                while !shared.stop.load(Ordering::Relaxed) {
                    let (round, value) = shared.current.read().unwrap().clone();
                    // With one candidate a probe is one login.
                    if own.probe(&step(None, Some(&value), None)) == Ok(Live::Current) {
                        shared.logins.fetch_add(1, Ordering::Relaxed);
                    } else {
                        shared.refused.fetch_add(1, Ordering::Relaxed);
                    }
                    shared.seen[client].store(round, Ordering::Relaxed);
                }
            });
        }
        let result = (1..=rounds).try_for_each(|round| {
            let (_, current) = shared.current.read().unwrap().clone();
            let staged = Arc::new(login(&postgres.next_user(Some(&current.user))?, &value(round)));
            let now = step(Some(&staged), Some(&current), None);
            postgres.apply(&now)?;
            postgres.verify(&now)?;
            *shared.current.write().unwrap() = (round, staged);
            // The grace: it ends when every client has the new value.
            while shared.seen.iter().any(|seen| seen.load(Ordering::Relaxed) < round) {
                thread::sleep(Duration::from_millis(1));
            }
            Ok::<(), ConnectError>(())
        });
        shared.stop.store(true, Ordering::Relaxed);
        result
    });
    assert_eq!(result, Ok(()));
    assert_eq!(shared.refused.into_inner(), 0, "refused logins");
    assert!(shared.logins.into_inner() >= rounds * CLIENTS);
    let traces = server.traces().replace(&format!("PASSWORD '{ADMIN}'"), "");
    assert!(!traces.contains("pool-value") && !traces.contains(ADMIN), "a value stands in the log or the statistics");
}
