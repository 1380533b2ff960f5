//! The connector for PostgreSQL against a real server, and against things that are none.

mod pool;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use strongroom::connect::postgres::{Postgres, PostgresTarget, Roles};
use strongroom::connect::{ConnectError, Connector, Credential, Live, Step};

use crate::support::postgres::{HBA, PostgresServer};

/// Password of the administrator of the targets.
const ADMIN: &str = "admin-password-of-the-test";

fn login(user: &str, secret: &str) -> Credential {
    Credential { user: user.to_owned(), secret: secret.into() }
}

fn pair() -> Roles {
    Roles::Pair(["app_a".to_owned(), "app_b".to_owned()])
}

fn single(role: &str) -> Roles {
    Roles::Single(role.to_owned())
}

/// A server with two roles, a group and an administrator.
fn server() -> Option<PostgresServer> {
    let server = PostgresServer::start("")?;
    server.sql(&format!(
        "CREATE ROLE rotator LOGIN CREATEROLE PASSWORD '{ADMIN}'; CREATE ROLE app_rw; \
         CREATE ROLE app_a LOGIN IN ROLE app_rw; CREATE ROLE app_b LOGIN IN ROLE app_rw; GRANT app_a, app_b TO rotator"
    ));
    Some(server)
}

fn target(server: &PostgresServer, roles: Roles) -> PostgresTarget {
    PostgresTarget {
        host: "localhost".to_owned(),
        port: server.port,
        database: "postgres".to_owned(),
        ca_pem: server.ca_pem.clone(),
        roles,
        connect_timeout_s: 5,
        privilege_check: None,
        lock_old: false,
        terminate_old_sessions: false,
    }
}

fn connector(target: PostgresTarget) -> Postgres {
    Postgres::new(target, login("rotator", ADMIN)).unwrap()
}

fn step<'a>(
    staged: Option<&'a Credential>,
    current: Option<&'a Credential>,
    previous: Option<&'a Credential>,
) -> Step<'a> {
    Step { id: "r-1", path: "app/prod", key: "DB_PASSWORD", staged, current, previous }
}

/// Whether a login works, seen by another client.
fn logs_in(server: &PostgresServer, login: &Credential) -> bool {
    server.psql(&login.user, login.secret.reveal(), "SELECT 1").output().unwrap().status.success()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ConnectError>, part: &str) {
    match result {
        Err(ConnectError::Permanent(text)) => assert!(text.contains(part), "{text}"),
        other => panic!("{other:?} instead of a refusal with {part:?}"),
    }
}

#[track_caller]
fn later<T: std::fmt::Debug>(result: Result<T, ConnectError>, part: &str) {
    match result {
        Err(ConnectError::Retry(text)) => assert!(text.contains(part), "{text}"),
        other => panic!("{other:?} instead of a later try with {part:?}"),
    }
}

#[test]
fn two_roles_take_turns_and_no_login_is_refused_meanwhile() {
    let Some(server) = server() else { return };
    let postgres = connector(PostgresTarget { privilege_check: Some("app_rw".to_owned()), ..target(&server, pair()) });
    assert!(postgres.overlap() && postgres.kind() == "postgres");
    let (mut current, mut previous): (Option<Credential>, Option<Credential>) = (None, None);
    let mut values = Vec::new();
    for round in 0..6 {
        let user = postgres.next_user(current.as_ref().map(|login| login.user.as_str())).unwrap();
        assert_eq!(user, if round % 2 == 0 { "app_a" } else { "app_b" });
        let value = format!("value-{round}-\u{e4}'\"\\$-of-the-pair");
        let staged = login(&user, &value);
        values.push(value);
        let now = step(Some(&staged), current.as_ref(), previous.as_ref());
        assert_eq!(postgres.probe(&now), Ok(if current.is_some() { Live::Current } else { Live::Nothing }));
        refused(postgres.verify(&now), "rejects the new password");
        let done = AtomicBool::new(false);
        let (seen, results) = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut logins = 0;
                while !done.load(Ordering::Relaxed) {
                    assert!(current.as_ref().is_none_or(|login| logs_in(&server, login)), "a login was refused");
                    logins += 1;
                }
                logins
            });
            // Twice, as after a lost reply.
            let results = [(); 2].map(|()| postgres.apply(&now).and_then(|()| postgres.verify(&now)));
            done.store(true, Ordering::Relaxed);
            (reader.join().unwrap(), results)
        });
        assert_eq!(results, [Ok(()), Ok(())]);
        assert!(seen > 0);
        assert_eq!(postgres.probe(&now), Ok(Live::Staged));
        previous = current.replace(staged);
        let after = step(None, current.as_ref(), previous.as_ref());
        postgres.revoke_old(&after).unwrap();
        assert!(previous.as_ref().is_none_or(|login| logs_in(&server, login)), "revoked without being asked");
    }
    // The role in use is never touched by a pair.
    let staged = login("app_b", "another-value-for-the-role-in-use");
    refused(postgres.apply(&step(Some(&staged), current.as_ref(), None)), "in use");
    let staged = login("super", "another-value-for-the-superuser");
    refused(postgres.apply(&step(Some(&staged), current.as_ref(), None)), "not a role of the target");
    // The check of the privilege fails once it is gone.
    server.sql("REVOKE app_rw FROM app_a");
    let staged = login("app_a", "value-without-the-privilege");
    let now = step(Some(&staged), current.as_ref(), previous.as_ref());
    postgres.apply(&now).unwrap();
    refused(postgres.verify(&now), "not a member of \"app_rw\"");

    values.extend([staged.secret.reveal().to_owned(), ADMIN.to_owned()]);
    let traces = server.traces();
    assert!(traces.contains("ALTER ROLE \"app_a\" PASSWORD"), "the log does not hold what was done");
    // The administrator's own password stands in the statement that made it, and nowhere else.
    let traces = traces.replace(&format!("PASSWORD '{ADMIN}'"), "");
    for value in values {
        assert!(!traces.contains(&value), "a value stands in the log or the statistics");
    }
}

#[test]
fn the_old_role_is_locked_and_its_sessions_end_when_asked() {
    let Some(server) = server() else { return };
    server.sql("GRANT pg_signal_backend TO rotator");
    let asked = PostgresTarget { lock_old: true, terminate_old_sessions: true, ..target(&server, pair()) };
    let postgres = connector(asked);
    let (old, new) = (login("app_a", "value-of-the-old-role"), login("app_b", "value-of-the-new-role"));
    postgres.apply(&step(Some(&old), None, None)).unwrap();
    postgres.apply(&step(Some(&new), Some(&old), None)).unwrap();
    let mut session = server.psql("app_a", "value-of-the-old-role", "SELECT pg_sleep(60)").spawn().unwrap();
    while server.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_a'") != "1" {
        thread::sleep(Duration::from_millis(20));
    }
    let start = Instant::now();
    // A value staged for the old role by the next round is not taken away.
    let next = login("app_a", "value-of-the-old-role");
    postgres.revoke_old(&step(Some(&next), Some(&new), Some(&old))).unwrap();
    assert!(!session.wait().unwrap().success() && start.elapsed() < Duration::from_secs(30));
    assert!(logs_in(&server, &old));
    for _ in 0..2 {
        postgres.revoke_old(&step(None, Some(&new), Some(&old))).unwrap();
        assert!(!logs_in(&server, &old) && logs_in(&server, &new));
    }
    assert_eq!(postgres.probe(&step(None, Some(&new), Some(&old))), Ok(Live::Current));
}

#[test]
fn the_old_role_is_locked_although_nothing_tells_of_the_value_before() {
    let Some(server) = server() else { return };
    server.sql("CREATE ROLE outsider LOGIN PASSWORD 'password-of-the-outsider'; GRANT outsider TO rotator");
    let postgres = connector(PostgresTarget { lock_old: true, ..target(&server, pair()) });
    let (old, new) = (login("app_a", "value-of-the-old-role"), login("app_b", "value-of-the-new-role"));
    let outsider = login("outsider", "password-of-the-outsider");
    postgres.apply(&step(Some(&old), None, None)).unwrap();
    postgres.apply(&step(Some(&new), Some(&old), None)).unwrap();
    // Nobody knows which role is current: none is locked.
    for current in [None, Some(&outsider)] {
        postgres.revoke_old(&step(None, current, Some(&old))).unwrap();
        assert!(logs_in(&server, &old) && logs_in(&server, &new));
    }
    // The version before was pruned, deleted or destroyed. Twice, as after a lost reply.
    for _ in 0..2 {
        postgres.revoke_old(&step(None, Some(&new), None)).unwrap();
        assert!(!logs_in(&server, &old) && logs_in(&server, &new));
    }
    // The login before is none of the pair: it is left alone, the idle role is locked.
    postgres.apply(&step(Some(&old), Some(&new), None)).unwrap();
    for _ in 0..2 {
        let note = postgres.revoke_old(&step(None, Some(&new), Some(&outsider))).unwrap().expect("it is said");
        assert!(!note.contains("outsider"), "what the secret holds as a login may be anything: {note}");
        assert!(!logs_in(&server, &old) && logs_in(&server, &new) && logs_in(&server, &outsider));
    }
}

#[test]
fn one_role_is_rotated_reverted_and_found_after_an_old_snapshot() {
    let Some(mut server) = server() else { return };
    let postgres = connector(target(&server, single("app_a")));
    assert!(!postgres.overlap());
    assert_eq!(postgres.next_user(Some("app_a")), Ok("app_a".to_owned()));
    let [one, two, three] = ["value-one", "value-two", "value-three"].map(|value| login("app_a", value));
    postgres.apply(&step(Some(&one), None, None)).unwrap();
    let now = step(Some(&two), Some(&one), None);
    // Reverted before anything was applied, and after; each twice.
    for applied in [false, true] {
        if applied {
            postgres.apply(&now).unwrap();
            postgres.verify(&now).unwrap();
            assert_eq!(postgres.probe(&now), Ok(Live::Staged));
            assert!(!logs_in(&server, &one), "one role has one password");
        }
        for _ in 0..2 {
            postgres.revert(&now).unwrap();
            assert_eq!(postgres.probe(&now), Ok(Live::Current));
            assert!(logs_in(&server, &one) && !logs_in(&server, &two));
        }
    }
    server.stop();
    later(postgres.probe(&now), "not reachable");
    later(postgres.apply(&now), "not reachable");
    later(postgres.revert(&now), "not reachable");
    server.copy("data", "snapshot");
    server.run();
    postgres.apply(&now).unwrap();
    let promoted = step(Some(&three), Some(&two), Some(&one));
    assert_eq!(postgres.probe(&promoted), Ok(Live::Current));
    server.stop();
    server.copy("snapshot", "data");
    server.run();
    assert_eq!(postgres.probe(&promoted), Ok(Live::Previous));
    assert_eq!(postgres.probe(&step(Some(&three), Some(&two), None)), Ok(Live::Nothing));
    // From here abort leads to a working credential too.
    postgres.revert(&promoted).unwrap();
    assert_eq!(postgres.probe(&promoted), Ok(Live::Current));
    let traces = server.traces();
    assert!(!["value-one", "value-two", "value-three"].iter().any(|value| traces.contains(value)));
}

#[test]
fn a_pair_is_reverted_from_every_state() {
    let Some(server) = server() else { return };
    let postgres = connector(target(&server, pair()));
    let (first, second) = (login("app_a", "value-of-a-before"), login("app_b", "value-of-b"));
    let staged = login("app_a", "value-of-a-after");
    postgres.apply(&step(Some(&first), None, None)).unwrap();
    postgres.apply(&step(Some(&second), Some(&first), None)).unwrap();
    let now = step(Some(&staged), Some(&second), Some(&first));
    for applied in [false, true] {
        if applied {
            postgres.apply(&now).unwrap();
            assert!(!logs_in(&server, &first));
        }
        for _ in 0..2 {
            postgres.revert(&now).unwrap();
            assert_eq!(postgres.probe(&now), Ok(Live::Current));
            assert!(logs_in(&server, &first) && logs_in(&server, &second) && !logs_in(&server, &staged));
        }
    }
    // Without a known password before, the role gets none: the aborted value is worth nothing.
    postgres.apply(&now).unwrap();
    postgres.revert(&step(Some(&staged), Some(&second), None)).unwrap();
    assert!(logs_in(&server, &second) && !logs_in(&server, &first) && !logs_in(&server, &staged));
    // Somebody changed the current password by hand.
    server.sql("ALTER ROLE app_b PASSWORD 'by-hand'");
    assert_eq!(postgres.probe(&now), Ok(Live::Nothing));
    postgres.revert(&now).unwrap();
    assert_eq!(postgres.probe(&now), Ok(Live::Current));
    // It cannot be made to work: said, not hidden.
    server.sql("ALTER ROLE app_b NOLOGIN");
    refused(postgres.revert(&now), "cannot log in although");
}

#[test]
fn each_refusal_is_named() {
    let Some(server) = server() else { return };
    let postgres = connector(PostgresTarget { connect_timeout_s: 2, ..target(&server, pair()) });
    let staged = login("app_a", "value-for-refusals");
    let now = step(Some(&staged), None, None);
    let with = |admin: Credential, roles: Roles| Postgres::new(target(&server, roles), admin).unwrap();
    refused(with(login("rotator", "wrong"), pair()).apply(&now), "administrator's login");
    refused(with(login("nobody_here", ADMIN), pair()).apply(&now), "administrator's login");
    server.sql(&format!("CREATE ROLE weak LOGIN PASSWORD '{ADMIN}'"));
    refused(with(login("weak", ADMIN), pair()).apply(&now), "lacks the right");
    let absent = login("absent", "value-for-refusals");
    refused(
        with(login("rotator", ADMIN), single("absent")).apply(&step(Some(&absent), None, None)),
        "the role \"absent\" does not exist",
    );
    refused(postgres.apply(&step(None, None, None)), "no staged value");
    refused(postgres.apply(&step(Some(&login("app_a", "")), None, None)), "password is empty");
    let elsewhere = PostgresTarget { database: "nowhere".to_owned(), ..target(&server, pair()) };
    refused(connector(elsewhere).apply(&now), "the database \"nowhere\" does not exist");

    server.sql("ALTER ROLE app_a NOLOGIN");
    refused(postgres.apply(&now), "may not log in");
    server.sql("ALTER ROLE app_a LOGIN VALID UNTIL '2001-01-01'");
    refused(postgres.apply(&now), "has expired");
    server.sql("ALTER ROLE app_a VALID UNTIL 'infinity'");

    // Another transaction holds the role: the statement is cancelled by the server and nothing happens later.
    let holding = "BEGIN; ALTER ROLE app_a CONNECTION LIMIT 50; SELECT pg_sleep(6); ROLLBACK";
    let mut holder = server.psql("super", crate::support::postgres::SUPER, holding).spawn().unwrap();
    while server.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") != "1" {
        thread::sleep(Duration::from_millis(20));
    }
    later(postgres.apply(&now), "check it for locks");
    holder.wait().unwrap();
    assert_eq!(postgres.probe(&now), Ok(Live::Nothing));

    if server.has("passwordcheck") {
        server.set("session_preload_libraries = 'passwordcheck'");
        refused(postgres.apply(&step(Some(&login("app_a", "app_a")), None, None)), "rejects the new password");
    }
    server.set("default_transaction_read_only = on");
    later(postgres.apply(&now), "read-only standby");
}

#[test]
fn only_the_right_certificate_and_scram_are_good_enough() {
    let Some(server) = server() else { return };
    let staged = login("app_a", "value-that-never-leaves");
    let now = step(Some(&staged), None, None);
    let other_key = rcgen::KeyPair::generate().unwrap();
    let other_ca = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&other_key).unwrap();
    let wrong_ca = PostgresTarget { ca_pem: other_ca.pem(), ..target(&server, pair()) };
    refused(connector(wrong_ca).apply(&now), "is not signed by the authority");
    let wrong_name = PostgresTarget { host: "127.0.0.2".to_owned(), ..target(&server, pair()) };
    refused(connector(wrong_name).apply(&now), "names another host");
    let postgres = connector(PostgresTarget { host: "127.0.0.1".to_owned(), ..target(&server, pair()) });
    postgres.apply(&now).unwrap();
    let active = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'strongroom'";
    assert_eq!(server.sql(active), "0", "a session stayed open");
    // A server that lets everybody in proves nothing; one that asks for the password itself does not get it.
    for method in ["trust", "password"] {
        server.hba(&HBA.replace("127.0.0.0/8 scram-sha-256", &format!("127.0.0.0/8 {method}")));
        refused(postgres.verify(&now), "SCRAM-SHA-256 with channel binding");
        refused(postgres.probe(&step(Some(&login("app_a", "wrong")), None, None)), "channel binding");
    }
    server.hba(HBA);
    postgres.verify(&now).unwrap();
    assert!(!server.traces().contains("value-that-never-leaves"));
}

#[test]
fn there_is_no_connection_without_tls() {
    let Some(server) = server() else { return };
    server.set("ssl = off");
    server.hba(&HBA.replace("hostssl", "host"));
    let postgres = connector(target(&server, pair()));
    let staged = login("app_a", "value-that-never-leaves");
    let now = step(Some(&staged), None, None);
    refused(postgres.apply(&now), "does not offer TLS");
    refused(postgres.probe(&now), "does not offer TLS");
    assert!(!server.log().contains("connection authorized: user=rotator"));

    // Something in between that answers in each way it likes and looks at what comes.
    for answer in [&b"N"[..], b"E", b"SSSSSSSSSSSS", b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let between = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 8];
            socket.read_exact(&mut request).unwrap();
            socket.write_all(answer).unwrap();
            let mut rest = Vec::new();
            let _closed = socket.read_to_end(&mut rest);
            rest
        });
        let target = PostgresTarget { host: "127.0.0.1".to_owned(), port, ..target(&server, pair()) };
        assert!(matches!(connector(target).apply(&now), Err(ConnectError::Permanent(_))));
        let rest = between.join().unwrap();
        assert!(!rest.windows(7).any(|bytes| bytes == b"rotator"), "the login went out without TLS");
        assert!(answer[0] == b'S' || rest.is_empty(), "something went out without TLS");
    }
    // Something that never answers, and something that hangs up.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = PostgresTarget { host: "127.0.0.1".to_owned(), port, connect_timeout_s: 1, ..target(&server, pair()) };
    let start = Instant::now();
    later(connector(silent.clone()).apply(&now), "did not complete a login in 1 s");
    assert!(start.elapsed() < Duration::from_secs(5));
    let closer = thread::spawn(move || drop((listener.accept(), listener.accept())));
    later(connector(silent).apply(&now), "not reachable");
    closer.join().unwrap();
}

#[test]
fn hostile_names_of_roles_are_only_names() {
    let Some(server) = server() else { return };
    server.sql("CREATE ROLE x LOGIN");
    let longest = "\u{20ac}".repeat(21);
    let names =
        ["a\"b; drop role x", "\"; DROP ROLE x; --", "x'y\\z", "$1 %I {0}", " ", "A b", "\n\t", longest.as_str()];
    for (round, name) in names.into_iter().enumerate() {
        server.sql(&format!("CREATE ROLE \"{}\" LOGIN", name.replace('"', "\"\"")));
        let postgres = connector(target(&server, single(name)));
        let old = login(name, &format!("hostile-value-{round}-old"));
        let new = login(name, &format!("hostile-value-{round}-new"));
        postgres.apply(&step(Some(&old), None, None)).unwrap();
        let now = step(Some(&new), Some(&old), None);
        postgres.apply(&now).unwrap();
        postgres.verify(&now).unwrap();
        postgres.revert(&now).unwrap();
        assert_eq!(postgres.probe(&now), Ok(Live::Current), "{name:?}");
    }
    assert_eq!(server.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'x'"), "1");
    assert!(!server.traces().contains("hostile-value"));
}
