//! A PostgreSQL password that is rotated through the daemon, under a pool of clients and kills.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strongroom::api::path::Path;
use strongroom::client::{Client, ClientError};
use strongroom::connect::postgres::{Postgres, PostgresTarget, Roles};
use strongroom::connect::{Connector, Credential, Live, Step};
use strongroom::store::conformance::Random;

use super::house::{House, amount};
use crate::support::postgres::PostgresServer;

const ADMIN: &str = "admin-password-of-the-test";
const FIRST: &str = "first-password-of-the-test";
const CLIENTS: usize = 8;
const VALUE: &str = "sys/strongroom/values/secret/app/prod";

/// A database with two roles, and a vault that knows it as `db`; not started.
pub struct Site {
    pub server: PostgresServer,
    pub house: House,
}

pub fn login(user: &str, secret: &str) -> Credential {
    Credential { user: user.to_owned(), secret: secret.into() }
}

impl Site {
    /// `more` stands in the target's section.
    pub fn new(more: &str) -> Option<Self> {
        let server = PostgresServer::start("")?;
        server.sql(&format!(
            "CREATE ROLE rotator LOGIN CREATEROLE PASSWORD '{ADMIN}'; CREATE ROLE app_rw; \
             CREATE ROLE app_a LOGIN IN ROLE app_rw; CREATE ROLE app_b LOGIN IN ROLE app_rw; \
             GRANT app_a, app_b TO rotator; GRANT pg_signal_backend TO rotator"
        ));
        let settings = format!(
            "[targets.db]\ntype = \"postgres\"\nhost = \"localhost\"\nport = {}\ndatabase = \"postgres\"\n\
             ca = \"db-ca.pem\"\nroles = [\"app_a\", \"app_b\"]\nadmin = \"secret/infra/db\"\ntimeout = 5\n\
             member_of = \"app_rw\"\n{more}",
            server.port
        );
        let house = House::new("redb", &settings);
        std::fs::write(house.data.join("db-ca.pem"), &server.ca_pem).unwrap();
        let site = Self { server, house };
        site.house.start();
        // The first password reaches the database as the later ones do, or its log would hold it.
        site.connector().apply(&Step { staged: Some(&login("app_a", FIRST)), ..step() }).unwrap();
        let client = site.house.client();
        let put = |path: &str, pairs: [(&str, &str); 2]| {
            let pairs = pairs.map(|(key, value)| (key, strongroom::api::secret::SecretText::from(value)));
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| (*key, value)).collect();
            client.kv("secret").put_pairs(&Path::parse(path).unwrap(), &pairs).unwrap();
        };
        put("infra/db", [("username", "rotator"), ("password", ADMIN)]);
        put("app/prod", [("DB_USER", "app_a"), ("DB_PASSWORD", FIRST)]);
        site.house.post(
            VALUE,
            &json!({ "key": "DB_PASSWORD", "policy": {
                "generator": { "type": "password", "length": 32 },
                "target": "db", "user_key": "DB_USER", "grace": "0s",
            } }),
        );
        Some(site)
    }

    pub fn connector(&self) -> Postgres {
        let target = PostgresTarget {
            host: "localhost".to_owned(),
            port: self.server.port,
            database: "postgres".to_owned(),
            ca_pem: self.server.ca_pem.clone(),
            roles: Roles::Pair(["app_a".to_owned(), "app_b".to_owned()]),
            connect_timeout_s: 5,
            privilege_check: None,
            lock_old: false,
            terminate_old_sessions: false,
        };
        Postgres::new(target, login("rotator", ADMIN)).unwrap()
    }

    /// The login as an application reads it.
    pub fn current(&self) -> Credential {
        credential(&self.house.client()).unwrap()
    }

    pub fn state(&self) -> Value {
        self.house.get(VALUE)["values"][0].clone()
    }

    pub fn order(&self, action: &str) -> Value {
        self.house.post(VALUE, &json!({ "key": "DB_PASSWORD", "action": action }))
    }

    /// Waits until the rotation has come to rest after more than `version`.
    pub fn rest_after(&self, version: u64) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let state = self.state();
            if state["state"] == "idle" && state["current"].as_u64() > Some(version) {
                return state;
            }
            assert!(state["stuck"] == false && Instant::now() < deadline, "it does not come to rest: {state}");
            sleep(Duration::from_millis(10));
        }
    }
}

fn step<'a>() -> Step<'a> {
    Step { id: "r-0", path: "app/prod", key: "DB_PASSWORD", staged: None, current: None, previous: None }
}

/// Whether the database takes a login: with one candidate a probe is one login.
pub fn logs_in(connector: &Postgres, login: &Credential) -> bool {
    connector.probe(&Step { current: Some(login), ..step() }) == Ok(Live::Current)
}

fn credential(client: &Client) -> Result<Credential, ClientError> {
    let pairs = client.kv("secret").pairs(&Path::parse("app/prod").unwrap())?.expect("the secret is there");
    let field = |name: &str| {
        let (_, value) = pairs.iter().find(|(key, _)| key == name).expect("the key is there");
        value.reveal().to_owned()
    };
    Ok(login(&field("DB_USER"), &field("DB_PASSWORD")))
}

#[derive(Default)]
struct Pool {
    stop: AtomicBool,
    /// For each client how many logins it has ended.
    ended: [AtomicU64; CLIENTS],
    refused: AtomicUsize,
    values: Mutex<BTreeSet<String>>,
}

fn application(site: &Site, pool: &Pool, number: usize) {
    let own = site.connector();
    let mut client = site.house.client();
    while !pool.stop.load(Ordering::Relaxed) {
        if !site.house.is_at(&client) {
            client = site.house.client();
        }
        let read = match credential(&client) {
            Ok(read) => read,
            Err(error) if matches!(error, ClientError::Transport { .. }) || error.is_sealed() => {
                sleep(Duration::from_millis(2));
                continue;
            }
            Err(error) => panic!("a read was refused: {error}"),
        };
        if !logs_in(&own, &read) {
            pool.refused.fetch_add(1, Ordering::SeqCst);
        }
        pool.values.lock().unwrap().insert(read.secret.reveal().to_owned());
        pool.ended[number].fetch_add(1, Ordering::SeqCst);
    }
}

/// Waits until every client has read and used what is current now. That is the grace: with none at all a client may hold
/// a value for longer than two rotations take.
fn everybody_follows(pool: &Pool) {
    let from: Vec<u64> = pool.ended.iter().map(|ended| ended.load(Ordering::SeqCst)).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    // The login that is under way may be with the value before; the one after it is not.
    while pool.ended.iter().zip(&from).any(|(ended, from)| ended.load(Ordering::SeqCst) < from + 2) {
        assert!(Instant::now() < deadline && !pool.stop.load(Ordering::SeqCst), "a client has stopped");
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn no_login_is_refused_while_a_pair_is_rotated_and_the_daemon_is_killed() {
    let Some(site) = Site::new("") else { return };
    let rounds = amount(5, 30, 200);
    let kills = 5;
    let seed = std::env::var("STRONGROOM_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("STRONGROOM_SEED={seed}");
    let (mut random, pool) = (Random::new(seed), Pool::default());
    let mut killed_in = Vec::new();
    thread::scope(|scope| {
        struct Stop<'a>(&'a Pool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.stop.store(true, Ordering::SeqCst);
            }
        }
        let (site, pool) = (&site, &pool);
        let stop = Stop(pool);
        for number in 0..CLIENTS {
            scope.spawn(move || application(site, pool, number));
        }
        let mut version = 1;
        for round in 0..rounds {
            everybody_follows(pool);
            let before = site.current();
            site.order("rotate");
            // Kills come in the middle of rotations that are spread over the rounds.
            if (round + 1) * kills / rounds > round * kills / rounds {
                sleep(Duration::from_millis(random.below(120).into()));
                killed_in.push(site.state()["state"].as_str().unwrap().to_owned());
                site.house.kill();
                assert!(logs_in(&site.connector(), &before), "a kill took the login away that was current before");
                site.house.start();
            }
            version = site.rest_after(version)["current"].as_u64().unwrap();
            let now = site.current();
            assert!(now.user != before.user && now.secret.reveal() != before.secret.reveal(), "round {round}");
        }
        everybody_follows(pool);
        drop(stop);
    });
    assert_eq!(killed_in.len(), 5);
    assert_eq!(pool.refused.into_inner(), 0, "refused logins");
    let current = site.current();
    assert!(logs_in(&site.connector(), &current));
    let mut values = pool.values.into_inner().unwrap();
    values.insert(current.secret.reveal().to_owned());
    assert!(values.len() as u64 > rounds, "{} values for {rounds} rotations", values.len());
    let logins: u64 = pool.ended.iter().map(|ended| ended.load(Ordering::SeqCst)).sum();
    println!("{rounds} rotations, killed in {killed_in:?}, {logins} logins, none refused");
    // The administrator's own password was set by the test, in the clear.
    let traces = site.server.traces().replace(&format!("PASSWORD '{ADMIN}'"), "");
    let (audit, log) = (std::fs::read_to_string(site.house.data.join("audit/audit.log")).unwrap(), site.house.log());
    for value in values.iter().map(String::as_str).chain([ADMIN, FIRST]) {
        assert!(!traces.contains(value), "a value stands in the database's log or statistics");
        assert!(!audit.contains(value) && !log.contains(value), "a value stands in a log of the vault");
    }
}

/// Sets the policy again with this grace, in seconds.
fn grace(site: &Site, seconds: u64) {
    let policy = json!({
        "generator": { "type": "password", "length": 32 },
        "target": "db", "user_key": "DB_USER", "grace": format!("{seconds}s"),
    });
    site.house.post(VALUE, &json!({ "key": "DB_PASSWORD", "policy": policy }));
}

#[test]
fn the_leaked_password_ends_although_its_version_is_gone() {
    let Some(site) = Site::new("lock_old = true") else { return };
    grace(&site, 3);
    for (version, call) in [(1, "destroy"), (2, "delete")] {
        let leaked = site.current();
        site.order("rotate");
        while site.state()["state"] != "promoted" {
            sleep(Duration::from_millis(10));
        }
        assert!(logs_in(&site.connector(), &leaked), "within its grace");
        site.house.post(&format!("secret/{call}/app/prod"), &json!({ "versions": [version] }));
        let state = site.rest_after(version);
        assert_eq!(state["error"], Value::Null, "{call}");
        assert!(!logs_in(&site.connector(), &leaked), "{call}: the leaked login still works");
        assert!(logs_in(&site.connector(), &site.current()));
    }
}

#[test]
fn the_first_rotation_leaves_a_login_outside_the_pair_alone() {
    let Some(site) = Site::new("lock_old = true\nterminate_old_sessions = true") else { return };
    site.server.sql("CREATE ROLE outsider LOGIN PASSWORD 'password-of-the-outsider'");
    let outsider = login("outsider", "password-of-the-outsider");
    let data = json!({ "DB_USER": "outsider", "DB_PASSWORD": "password-of-the-outsider" });
    site.house.post("secret/data/app/prod", &json!({ "data": data }));
    site.order("rotate");
    let state = site.rest_after(2);
    // Without the login: it comes from the secret, and the state is shown to others than its readers.
    let error = state["error"].as_str().unwrap_or_default();
    assert!(error.contains("is not one of the target's roles") && !error.contains("outsider"), "{state}");
    assert!(logs_in(&site.connector(), &site.current()) && logs_in(&site.connector(), &outsider));
    site.order("rotate");
    let state = site.rest_after(3);
    assert_eq!(state["error"], Value::Null, "{state}");
    assert_eq!(site.current().user, "app_b");
}
