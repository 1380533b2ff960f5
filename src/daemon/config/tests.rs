use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/srv/vault")).map_err(|error| error.to_string())
}

#[test]
fn the_starter_file_parses_to_the_defaults() {
    let text = Config::starter("example.org", "127.0.0.1:8200".parse().unwrap(), "redb", None, None);
    let config = parse(&text).unwrap();
    assert_eq!(config.data, Path::new("/srv/vault/."));
    assert_eq!(config.anchor, Path::new("/srv/vault/./anchor"));
    assert_eq!(config.unseal, None);
    assert_eq!(config.unseal_identities, ["operator/*"]);
    assert_eq!(config.limits, Limits::default());
    assert!(!config.audit_sync_always && !config.audit_hashed_paths && !config.log_json);
}

#[test]
fn a_starter_file_with_key_file_names_it() {
    let text = Config::starter("example.org", "127.0.0.1:8200".parse().unwrap(), "sled", Some("unseal.key"), None);
    let config = parse(&text).unwrap();
    assert_eq!(config.engine, "sled");
    assert_eq!(config.unseal, Some(UnsealSource::KeyFile("/srv/vault/unseal.key".into())));
}

#[test]
fn a_starter_file_with_an_enrolment_listener_names_it() {
    let listen = "0.0.0.0:8201".parse().unwrap();
    for addresses in [vec![], vec!["vault.example.org:8201".to_owned(), "[::1]:8201".to_owned()]] {
        let enroll = StarterEnroll { listen, addresses: addresses.clone() };
        let text = Config::starter("example.org", "127.0.0.1:8200".parse().unwrap(), "redb", None, Some(&enroll));
        let config = parse(&text).unwrap();
        assert_eq!((config.enroll_listen, config.enroll_addresses), (Some(listen), addresses));
    }
}

#[test]
fn one_source_has_an_eighth_of_the_places_unless_told_otherwise() {
    let limits = |text: &str| {
        let limits = parse(&format!("trust_domain = 'a.b'\n[limits]\n{text}")).expect("legal").limits;
        (limits.connections, limits.handshakes_per_source)
    };
    assert_eq!(limits(""), (4096, 256));
    assert_eq!(limits("connections = 1024"), (1024, 128));
    assert_eq!(limits("connections = 4"), (4, 1));
    assert_eq!(limits("connections = 1024\nhandshakes_per_source = 1000"), (1024, 1000));
    for http in [crate::http::Limits::default(), crate::http::Limits::enrolment()] {
        assert!(http.handshakes_per_source * 8 <= http.connections, "{http:?}");
    }
}

#[test]
fn bad_values_are_refused_by_name() {
    for (text, expected) in [
        ("", "trust_domain"),
        ("trust_domain = 'a.b'\nlissten = '1.2.3.4:5'", "unknown field `lissten`"),
        ("trust_domain = 'a.b'\nlisten = 'everywhere'", "listen must be an address"),
        ("trust_domain = 'a.b'\n[storage]\nengine = 'paper'", "storage.engine must be redb or sled"),
        ("trust_domain = 'a.b'\n[audit]\nsync = 'never'", "audit.sync must be batch or always"),
        ("trust_domain = 'a.b'\n[limits]\nbody_bytes = 99999999", "limits.body_bytes must be between"),
        ("trust_domain = 'a.b'\n[unseal]\nkey_file = 'a'\npassphrase_credential = 'b'", "unseal must name only one of"),
        ("trust_domain = 'a.b'\n[kdf]\nmemory_mib = 8\npasses = 3", "kdf.memory_mib must be between"),
        ("trust_domain = 'a.b'\n[rotation]\nrewrap_per_second = 1", "rotation.rewrap_per_second must be between"),
        ("trust_domain = 'a.b'\n[unseal]\npassphrase = 'x'", "unknown field `passphrase`"),
        ("trust_domain = 'a.b'\n[limits]\nhandshakes_per_source = 0", "limits.handshakes_per_source must be between"),
        (
            "trust_domain = 'a.b'\n[limits]\nhandshake_rate_per_source = 0",
            "limits.handshake_rate_per_source must be between",
        ),
        ("trust_domain = 'a.b'\n[enroll]\nlisten = '8201'", "enroll.listen must be an address"),
        (
            "trust_domain = 'a.b'\nlisten = '0.0.0.0:82'\n[enroll]\nlisten = '0.0.0.0:82'",
            "enroll.listen must differ from listen",
        ),
        ("trust_domain = ", "string"),
    ] {
        let message = parse(text).expect_err(text);
        assert!(message.contains(expected), "{text:?}: {message}");
    }
}

#[test]
fn what_is_supplied_from_outside_is_known() {
    let config = parse("trust_domain = 'a.b'\n[tls]\nkey = 'k'\n[enroll]\nlisten = '0.0.0.0:8201'").unwrap();
    assert!(config.tls_certificate_supplied && !config.tls_client_ca_supplied);
    assert_eq!(config.enroll_listen, Some("0.0.0.0:8201".parse().unwrap()));
    assert_eq!(config.tls_ca, None);
    let config = parse("trust_domain = 'a.b'\n[tls]\nclient_ca = 'c'\nca = 'r'").unwrap();
    assert_eq!(config.tls_ca, Some("/srv/vault/r".into()));
    assert!(!config.tls_certificate_supplied && config.tls_client_ca_supplied);
    assert_eq!((config.enroll_listen, config.tls_client_ca), (None, "/srv/vault/c".into()));
}

proptest! {
    #[test]
    fn parsing_is_total(text in ".{0,200}") {
        let _ = parse(&text);
    }
}
