//! Tokens of the real daemon: what is on the disk of a vault whose clients have them.

use crate::support::process::snapshot;
use serde_json::{Value, json};

use super::town::Town;

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn no_file_holds_the_text_of_a_token() {
    let town = Town::open();
    let maker = r#"path "auth/token/create" { capabilities = ["update"] }
        path "secret/data/app/*" { capabilities = ["create", "read", "update"] }"#;
    town.post("sys/policies/acl/app", &json!({ "policy": maker }));
    let mut web = town.holder("app/web").raw();
    let mut texts = Vec::new();
    for path in ["auth/cert/login", "auth/token/create"] {
        let request = format!(
            "POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        let reply = web.ask(&request).unwrap();
        assert_eq!((reply.status, reply.header("set-cookie")), (200, None), "{reply:?}");
        let body: Value = serde_json::from_str(&reply.body).unwrap();
        texts.push(body["auth"]["client_token"].as_str().unwrap().to_owned());
    }
    // The tokens are on record and serve their holder, and the daemon has seen their texts once more.
    for text in &texts {
        let request =
            format!("GET /v1/secret/data/app/prod HTTP/1.1\r\nHost: localhost\r\nX-Vault-Token: {text}\r\n\r\n");
        assert_eq!(web.ask(&request).unwrap().status, 200);
    }
    let running = snapshot(&town.house.data);
    town.house.kill();
    let killed = snapshot(&town.house.data);
    assert!(running.iter().any(|(_, bytes)| holds(bytes, "auth/token/create")), "the audit log is among the files");
    for text in &texts {
        let random = text.strip_prefix("hvs.").unwrap();
        assert!(random.len() >= 24);
        let found: Vec<_> = running.iter().chain(&killed).filter(|(_, bytes)| holds(bytes, random)).collect();
        let names: Vec<_> = found.iter().map(|(path, _)| path).collect();
        assert!(names.is_empty(), "{names:?}");
        assert!(!town.house.log().contains(random), "the daemon's log");
    }
}
