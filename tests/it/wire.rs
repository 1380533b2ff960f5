//! The v1 protocol on the wire: exact statuses, headers and bodies, against a running server.

use std::io::Read;

use strongroom::api::path::Path;
use strongroom::http::Limits;
use strongroom::pki::Bundle;

use crate::support::raw::{Raw, Reply};
use crate::support::server::Server;

const JSON: &str = "Content-Type: application/json\r\n";
const MERGE: &str = "Content-Type: application/merge-patch+json\r\n";
const DENIED: &str = r#"{"errors":["permission denied"]}"#;

/// One identity at one server; a connection for each request.
struct As<'a>(&'a Server, &'a Bundle);

impl As<'_> {
    fn send(&self, verb: &str, path: &str, headers: &str, body: &str) -> Reply {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!("{verb} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n{body}");
        Raw::connect(self.0, self.1).ask(&request).unwrap_or_else(|error| panic!("{verb} {path}: {error}"))
    }

    /// Status and body of a request below `/v1/`.
    fn ask(&self, verb: &str, path: &str, body: &str) -> (u16, String) {
        let media = if verb == "PATCH" { MERGE } else { JSON };
        let reply = self.send(verb, &format!("/v1/{path}"), media, body);
        (reply.status, reply.body)
    }
}

/// Values of `names`, which differ between runs, are replaced by `*`, so that bodies can be compared whole.
fn masked(body: &str, names: &[&str]) -> String {
    let mut body = body.to_owned();
    for name in names {
        let key = format!("\"{name}\":");
        let mut from = 0;
        while let Some(at) = body[from..].find(&key) {
            let start = from + at + key.len();
            let quoted = body[start..].starts_with('"');
            let end = match quoted {
                true => start + 2 + body[start + 1..].find('"').unwrap(),
                false => start + body[start..].find([',', '}']).unwrap(),
            };
            body.replace_range(start..end, "*");
            from = start;
        }
    }
    body
}

fn envelope(data: &str) -> String {
    format!(
        r#"{{"request_id":*,"lease_id":"","renewable":false,"lease_duration":0,"data":{data},"wrap_info":null,"warnings":null,"auth":null,"mount_type":""}}"#
    )
}

#[test]
fn status_endpoints_have_the_known_bodies() {
    let server = Server::start();
    let operator = As(&server, &server.operator);
    let hidden = ["server_time_utc", "cluster_id", "version"];
    let (status, body) = operator.ask("GET", "sys/health", "");
    let known = r#"{"initialized":true,"sealed":false,"standby":false,"performance_standby":false,"replication_performance_mode":"disabled","replication_dr_mode":"disabled","server_time_utc":*,"version":*,"enterprise":false,"cluster_name":"strongroom","cluster_id":*"#;
    assert_eq!(status, 200);
    assert!(masked(&body, &hidden).starts_with(known), "{body}");
    let (status, body) = operator.ask("GET", "sys/seal-status", "");
    let known =
        r#"{"type":"shamir","initialized":true,"sealed":false,"t":1,"n":1,"progress":0,"nonce":"","version":*,"#;
    assert_eq!(status, 200);
    assert!(masked(&body, &hidden).starts_with(known), "{body}");
    assert_eq!(operator.ask("GET", "sys/init", ""), (200, r#"{"initialized":true}"#.to_owned()));
    let (status, body) = operator.ask("GET", "sys/leader", "");
    assert_eq!(status, 200);
    assert!(body.starts_with(r#"{"ha_enabled":false,"is_self":"#), "{body}");
    assert_eq!(operator.ask("GET", "sys/health?activecode=299", "").0, 299);
    assert_eq!(operator.ask("GET", "sys/health?activecode=abc", "").0, 400);
    assert_eq!(operator.ask("PUT", "sys/init", "{}").0, 400);
    for path in ["sys/health", "sys/seal-status", "sys/leader"] {
        assert_eq!(operator.ask("DELETE", path, "").0, 405, "{path}");
    }
}

#[test]
fn a_secret_through_its_life() {
    let server = Server::start();
    let operator = As(&server, &server.operator);
    let hidden = ["request_id", "created_time", "deletion_time", "updated_time"];
    let ask = |verb: &str, path: &str, body: &str| {
        let (status, body) = operator.ask(verb, path, body);
        (status, masked(&body, &hidden))
    };
    let version = |number: u32| {
        envelope(&format!(
            r#"{{"version":{number},"created_time":*,"deletion_time":*,"destroyed":false,"custom_metadata":null}}"#
        ))
    };
    let data = "secret/data/app/a";
    assert_eq!(ask("GET", data, ""), (404, r#"{"errors":[]}"#.to_owned()));
    assert_eq!(ask("POST", data, r#"{"data":{"n":1.50,"k":"v"}}"#), (200, version(1)));
    let metadata = r#"{"version":1,"created_time":*,"deletion_time":*,"destroyed":false,"custom_metadata":null}"#;
    let read = envelope(&format!(r#"{{"data":{{"n":1.50,"k":"v"}},"metadata":{metadata}}}"#));
    assert_eq!(ask("GET", data, ""), (200, read));
    assert_eq!(ask("PUT", data, r#"{"data":{"k":"w"},"options":{"cas":1}}"#), (200, version(2)));
    let (status, body) = ask("POST", data, r#"{"data":{},"options":{"cas":1}}"#);
    assert!(status == 400 && body.contains("check-and-set parameter did not match"), "{body}");
    assert_eq!(ask("PATCH", data, r#"{"data":{"x":"y"}}"#), (200, version(3)));
    assert!(ask("GET", "secret/data/app/a?version=1", "").1.contains(r#""n":1.50"#));
    for (verb, path) in [
        ("LIST", "secret/metadata/app"),
        ("LIST", "secret/metadata/app/"),
        ("GET", "secret/metadata/app?list=true"),
        ("GET", "secret/metadata/app/?list=1"),
    ] {
        assert_eq!(ask(verb, path, ""), (200, envelope(r#"{"keys":["a"]}"#)), "{verb} {path}");
    }
    assert_eq!(ask("LIST", "secret/metadata/none", ""), (404, r#"{"errors":[]}"#.to_owned()));
    assert_eq!(ask("GET", "secret/metadata/app?list=banana", "").0, 400);
    assert_eq!(ask("DELETE", data, ""), (204, String::new()));
    let (status, body) = ask("GET", data, "");
    assert!(status == 404 && body.contains(r#""data":null"#), "{body}");
    assert_eq!(ask("POST", "secret/undelete/app/a", r#"{"versions":[3]}"#), (204, String::new()));
    assert_eq!(ask("GET", data, "").0, 200);
    assert_eq!(ask("POST", "secret/destroy/app/a", r#"{"versions":[3]}"#), (204, String::new()));
    assert_eq!(ask("GET", data, "").0, 404);
    assert_eq!(ask("DELETE", "secret/metadata/app/a", ""), (204, String::new()));
    assert_eq!(ask("GET", "secret/metadata/app/a", ""), (404, r#"{"errors":[]}"#.to_owned()));
}

#[test]
fn every_reply_has_the_headers() {
    let server = Server::start();
    let operator = As(&server, &server.operator);
    let write = operator.send("POST", "/v1/secret/data/a", JSON, r#"{"data":{"k":"v"}}"#);
    let delete = operator.send("DELETE", "/v1/secret/data/a", "", "");
    let missing = operator.send("GET", "/v1/secret/data/none", "", "");
    let bad = operator.send("GET", "/v1/secret/data//a", "", "");
    let page = operator.send("GET", "/v1/secret/data/a", "Origin: https://elsewhere.org\r\n", "");
    let health = operator.send("GET", "/v1/sys/health", "", "");
    let nothing = operator.send("GET", "/elsewhere", "", "");
    // Whoever sends a cookie gets none, and neither does whoever is given a token.
    let cookie = operator.send("GET", "/v1/sys/health", "Cookie: session=1\r\n", "");
    let token = operator.send("POST", "/v1/auth/token/create", JSON, r#"{"ttl":"1h"}"#);
    assert!(token.status == 200 && token.body.contains("\"client_token\":\""), "{token:?}");
    let own = operator.send("GET", "/v1/auth/token/lookup-self", "", "");
    let closed = Server::sealed(Limits::default());
    let sealed = As(&closed, &closed.operator).send("GET", "/v1/secret/data/a", "", "");
    assert_eq!(sealed.status, 503);
    for reply in [&write, &delete, &missing, &bad, &page, &health, &nothing, &cookie, &token, &own, &sealed] {
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{reply:?}");
        }
        for never in ["access-control-", "set-cookie"] {
            assert!(!reply.head.to_lowercase().contains(never), "{reply:?}");
        }
        let media = (!reply.body.is_empty()).then_some("application/json");
        assert_eq!(reply.header("content-type"), media, "{reply:?}");
    }
    assert_eq!((delete.status, &*delete.body), (204, ""));
    let generation = |reply: &Reply| reply.header("x-strongroom-generation").unwrap().parse::<u64>().unwrap();
    assert!(generation(&write) < generation(&delete));
    assert!(write.header("x-strongroom-epoch").is_some() && write.header("x-strongroom-incarnation").is_some());
}

#[test]
fn requests_of_web_pages_are_refused() {
    let server = Server::start();
    let operator = As(&server, &server.operator);
    operator.send("POST", "/v1/secret/data/a", JSON, r#"{"data":{"k":"v"}}"#);
    let preflight = "Origin: https://elsewhere.org\r\nAccess-Control-Request-Method: GET\r\n";
    for (verb, path, headers) in [
        ("GET", "/v1/secret/data/a", "Origin: https://localhost\r\n"),
        ("GET", "/v1/secret/data/a", "Cookie: a=b\r\n"),
        ("GET", "/v1/secret/data/a", "Sec-Fetch-Site: cross-site\r\n"),
        ("GET", "/v1/sys/health", "Sec-Fetch-Site: same-site\r\n"),
        ("OPTIONS", "/v1/secret/data/a", preflight),
        ("OPTIONS", "/v1/secret/data/a", "Access-Control-Request-Method: GET\r\n"),
    ] {
        let reply = operator.send(verb, path, headers, "");
        assert_eq!(reply.status, 403, "{headers}: {reply:?}");
        assert!(reply.body.contains("web pages are not answered"), "{reply:?}");
    }
    let posted = operator.send("POST", "/v1/secret/data/a", "Origin: null\r\n", r#"{"data":{"k":"w"}}"#);
    assert_eq!(posted.status, 403);
    let typed = operator.send("GET", "/v1/secret/data/a", "Sec-Fetch-Site: none\r\n", "");
    assert!(typed.status == 200 && typed.body.contains(r#""k":"v""#), "{typed:?}");
}

#[test]
fn requests_that_are_not_the_protocol_are_refused() {
    let server = Server::start();
    let operator = As(&server, &server.operator);
    let deep = format!(r#"{{"data":{}1{}}}"#, r#"{"a":"#.repeat(600), "}".repeat(600));
    for (verb, path, headers, body, status) in [
        ("GET", "/v1/secret/data/%2e%2e/a", "", "", 400),
        ("GET", "/v1/secret/data/../sys/seal-status", "", "", 400),
        ("GET", "/v1/secret//data/a", "", "", 400),
        ("GET", "/v1/secret/data/a%2fb", "", "", 400),
        ("GET", "/v1/secret/data/a%00", "", "", 400),
        ("GET", "/v1/secret/data/%zz", "", "", 400),
        ("POST", "/v1/secret/data/a", JSON, "{", 400),
        ("POST", "/v1/secret/data/a", JSON, "[]", 400),
        ("POST", "/v1/secret/data/a", JSON, r#"{"data":{"a":1,"a":2}}"#, 400),
        ("POST", "/v1/secret/data/a", JSON, &deep, 400),
        ("POST", "/v1/secret/data/a", "Content-Type: multipart/form-data; boundary=x\r\n", "--x--", 400),
        ("PATCH", "/v1/secret/data/a", JSON, r#"{"data":{}}"#, 415),
        ("PATCH", "/v1/secret/data/a", "", r#"{"data":{}}"#, 400),
        ("BREW", "/v1/secret/data/a", "", "", 405),
        ("PATCH", "/v1/secret/data/none", MERGE, r#"{"data":"text"}"#, 400),
        ("PATCH", "/v1/secret/data/none", MERGE, r#"{"data":{},"options":{"cas":"x"}}"#, 400),
        ("PATCH", "/v1/secret/metadata/none", MERGE, r#"{"max_versions":"many"}"#, 400),
        ("PATCH", "/v1/secret/metadata/none", MERGE, r#"{"custom_metadata":{"":"x"}}"#, 400),
        ("OPTIONS", "/v1/secret/data/a", "", "", 405),
        ("GET", "/v1/sys/auth", "X-Vault-Token: s.abc\r\n", "", 403),
        ("GET", "/v1/sys/auth", "Authorization: Bearer s.abc\r\n", "", 403),
        ("GET", "/v1/sys/auth", "X-Vault-Token: \r\n", "", 200),
        ("GET", "/v1/sys/auth", "X-Vault-Namespace: team/\r\n", "", 400),
        ("GET", "/v1/sys/auth", "X-Vault-Namespace: /\r\n", "", 200),
        ("GET", "/v1/secret/data/a", "X-Vault-Wrap-TTL: 60\r\n", "", 400),
        ("GET", "/v1/secret/data/a", "X-Vault-Wrap-TTL: soon\r\n", "", 400),
        ("GET", "/v1/secret/data/a?version=x", "", "", 400),
    ] {
        let reply = operator.send(verb, path, headers, body);
        assert_eq!(reply.status, status, "{verb} {path} {headers}: {reply:?}");
        assert!(status == 200 || reply.body.starts_with(r#"{"errors":["#), "{reply:?}");
    }
    for (path, body) in [("data/none", r#"{"data":{"x":"y"}}"#), ("metadata/none", r#"{"max_versions":1}"#)] {
        let reply = operator.send("PATCH", &format!("/v1/secret/{path}"), MERGE, body);
        assert_eq!((reply.status, &*reply.body), (404, ""), "{path}: a status alone, as Vault answers");
    }
    operator.send("POST", "/v1/secret/data/a", JSON, r#"{"data":{"k":"v"}}"#);
    for (path, status) in [
        ("secret/data/a", 405),
        ("secret/data/none", 405),
        ("secret/metadata/a", 405),
        ("sys/policies/acl/default", 405),
        ("sys/health", 200),
    ] {
        let mut raw = Raw::connect(operator.0, operator.1);
        raw.send(format!("HEAD /v1/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut reply = String::new();
        let _ = raw.0.read_to_string(&mut reply);
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")) && reply.ends_with("\r\n\r\n"), "{path}: {reply}");
    }
    for path in ["/", "/ui/", "/v2/secret", "/v1"] {
        let reply = operator.send("GET", path, "", "");
        assert_eq!((reply.status, &*reply.body), (404, r#"{"errors":[]}"#), "{path}");
    }
    let (status, body) = operator.ask("GET", "nothing/here", "");
    assert_eq!(
        (status, &*body),
        (404, r#"{"errors":["no handler for route \"nothing/here\". route entry not found."]}"#)
    );
    let large = format!(r#"{{"data":{{"a":"{}"}}}}"#, "x".repeat(Limits::default().body_bytes));
    assert_eq!(operator.ask("POST", "secret/data/a", &large).0, 413);
}

#[test]
fn old_endpoints_repeat_their_keys() {
    let server = Server::start();
    let operator = As(&server, &server.operator);
    for (verb, path, key, repeated) in [
        ("GET", "sys/mounts", r#""secret/":"#, true),
        ("GET", "sys/policy", r#""policies":"#, true),
        ("GET", "sys/key-status", r#""term":"#, true),
        ("LIST", "sys/policies/acl", r#""keys":"#, false),
    ] {
        let (status, body) = operator.ask(verb, path, "");
        assert_eq!(status, 200, "{path}: {body}");
        let (before, after) = body.split_once(r#""wrap_info""#).unwrap();
        assert!(before.contains(key), "{path}: {body}");
        assert_eq!(after.contains(key), repeated, "{path}: {body}");
    }
}

#[test]
fn a_rule_holds_however_its_path_is_written() {
    let server = Server::start();
    let rules = r#"path "sys/*" { capabilities = ["read", "update", "sudo"] }
                   path "sys/audit" { capabilities = ["deny"] }
                   path "sys/policies/acl/admin" { capabilities = ["deny"] }"#;
    server.application("app/most", rules);
    let bundle = server.certificate("app/most");
    let app = As(&server, &bundle);
    for path in
        ["sys/audit", "sys/audit/", "sys/policies/acl/admin", "sys/policies/acl/ADMIN", "sys/policies/acl/Admin/"]
    {
        assert_eq!(app.ask("GET", path, ""), (403, DENIED.to_owned()), "{path}");
    }
    let weak = r#"{"policy":"path \"*\" { capabilities = [\"sudo\"] }"}"#;
    assert_eq!(app.ask("PUT", "sys/policies/acl/ADMIN", weak), (403, DENIED.to_owned()));
    assert_eq!(app.ask("GET", "sys/mounts/", "").0, 200);
    // As in Vault, whoever may is told what became of the name.
    let (status, body) = As(&server, &server.operator).ask("PUT", "sys/policies/acl/New", weak);
    assert!(status == 200 && body.contains("policy name was converted to lower case"), "{status} {body}");
}

#[test]
fn a_sealed_vault_says_only_that() {
    let server = Server::start();
    let app = server.certificate("app/a");
    server.vault.seal();
    let (operator, app) = (As(&server, &server.operator), As(&server, &app));
    let sealed = r#"{"errors":["Vault is sealed"]}"#;
    for caller in [&operator, &app] {
        for (verb, path) in [("GET", "secret/data/a"), ("LIST", "sys/policies/acl"), ("GET", "x"), ("PUT", "sys/seal")]
        {
            assert_eq!(
                caller.ask(verb, path, if verb == "PUT" { "{}" } else { "" }),
                (503, sealed.to_owned()),
                "{path}"
            );
        }
        assert_eq!(caller.ask("GET", "sys/health", "").0, 503);
        assert_eq!(caller.ask("GET", "sys/health?sealedcode=200", "").0, 200);
        assert!(caller.ask("GET", "sys/seal-status", "").1.contains(r#""sealed":true"#));
    }
    assert_eq!(app.ask("PUT", "sys/unseal", r#"{"key":"x"}"#), (403, DENIED.to_owned()));
    assert_eq!(app.ask("PUT", "sys/unseal", r#"{"reset":true}"#), (403, DENIED.to_owned()));
    assert_eq!(operator.ask("PUT", "sys/unseal", r#"{"reset":true}"#).0, 200);
    assert_eq!(operator.ask("PUT", "sys/unseal", "{}").0, 400);
    let (status, body) = operator.ask("PUT", "sys/unseal", r#"{"key":"a wrong passphrase"}"#);
    assert!(status == 400 && body.contains("unseal failed"), "{status} {body}");
    assert!(server.vault.is_sealed());
    let (status, body) = operator.ask("PUT", "sys/unseal", r#"{"key":"a wrong passphrase"}"#);
    assert!(status == 429, "{status} {body}");
}

/// Verb, path, body of every route, with names that exist.
const ROUTES: &[(&str, &str, &str)] = &[
    ("GET", "secret/data/own/a", ""),
    ("GET", "secret/data/hidden", ""),
    ("POST", "secret/data/hidden", r#"{"data":{"k":"v2"}}"#),
    ("PATCH", "secret/data/hidden", r#"{"data":{"k":"v2"}}"#),
    ("DELETE", "secret/data/hidden", ""),
    ("GET", "secret/metadata/hidden", ""),
    ("LIST", "secret/metadata", ""),
    ("POST", "secret/delete/hidden", r#"{"versions":[1]}"#),
    ("POST", "secret/undelete/hidden", r#"{"versions":[1]}"#),
    ("POST", "secret/destroy/hidden", r#"{"versions":[1]}"#),
    ("GET", "secret/subkeys/hidden", ""),
    ("GET", "secret/config", ""),
    ("LIST", "sys/policies/acl", ""),
    ("GET", "sys/policies/acl/admin", ""),
    ("PUT", "sys/policies/acl/admin", r#"{"policy":""}"#),
    ("DELETE", "sys/policies/acl/app-a", ""),
    ("GET", "sys/policy", ""),
    ("GET", "sys/policy/admin", ""),
    ("GET", "sys/mounts", ""),
    ("GET", "sys/mounts/secret", ""),
    ("GET", "sys/auth", ""),
    ("GET", "sys/audit", ""),
    ("GET", "sys/key-status", ""),
    ("LIST", "sys/strongroom/identities", ""),
    ("GET", "sys/strongroom/identities/ops/alice", ""),
    ("POST", "sys/strongroom/identities/app/a", r#"{"policies":["admin"]}"#),
    ("DELETE", "sys/strongroom/identities/ops/alice", ""),
    ("POST", "sys/strongroom/certificates", r#"{"identity":"ops/alice","csr":"x"}"#),
    ("GET", "sys/strongroom/audit-head", ""),
    ("GET", "sys/strongroom/audit-key", ""),
    ("PUT", "sys/seal", "{}"),
];

#[test]
fn nobody_learns_what_the_policies_do_not_allow() {
    let server = Server::start();
    let narrow = r#"path "secret/data/own/*" { capabilities = ["read"] }"#;
    server.application("app/a", narrow);
    let operator = As(&server, &server.operator);
    for path in ["own/a", "hidden"] {
        assert_eq!(operator.ask("POST", &format!("secret/data/{path}"), r#"{"data":{"k":"v"}}"#).0, 200);
    }
    let (app, unknown) = (server.certificate("app/a"), server.certificate("app/nobody"));
    for (name, bundle) in [("app", &app), ("unknown", &unknown)] {
        let caller = As(&server, bundle);
        for (verb, path, body) in ROUTES {
            let allowed = name == "app" && path.contains("own/");
            let (status, reply) = caller.ask(verb, path, body);
            match allowed {
                true => assert_eq!(status, 200, "{name} {verb} {path}: {reply}"),
                false => assert_eq!((status, &*reply), (403, DENIED), "{name} {verb} {path}"),
            }
            // What does not exist looks the same as what must not be seen.
            let missing = path.replace("hidden", "none").replace("admin", "none").replace("alice", "none");
            if !allowed {
                assert_eq!(caller.ask(verb, &missing, body), (403, DENIED.to_owned()), "{name} {verb} {missing}");
            }
        }
        assert_eq!(caller.ask("GET", "nowhere/at/all", ""), (403, DENIED.to_owned()));
        assert_eq!(caller.ask("GET", "sys/nothing", ""), (403, DENIED.to_owned()));
    }
    assert_eq!(As(&server, &app).ask("GET", "secret/data/own/none", "").0, 404);
    for (verb, path, body) in ROUTES.iter().filter(|(verb, path, _)| !path.ends_with("seal") && *verb != "DELETE") {
        let (status, reply) = operator.ask(verb, path, body);
        let expected = match *path {
            "sys/policies/acl/admin" if *verb == "PUT" => 400,
            "sys/strongroom/certificates" => 400,
            _ => status,
        };
        assert!(status == expected && status != 403 && status < 500, "{verb} {path}: {status} {reply}");
    }
}

#[test]
fn a_secret_that_has_not_changed_is_not_sent_again() {
    let server = Server::start();
    let operator = server.operator();
    let (kv, path) = (operator.kv("secret"), Path::parse("app/a").unwrap());
    kv.put_pairs(&path, &[("K", &"one".into())]).unwrap();
    let first = kv.read_unless(&path, None).unwrap().expect("without a tag it is always read");
    assert_eq!(first.data.map(|data| data.metadata.version), Some(1));
    let tag = first.etag.as_deref();
    assert!(tag.is_some() && kv.read_unless(&path, tag).unwrap().is_none(), "{tag:?}");
    kv.put_pairs(&path, &[("K", &"two".into())]).unwrap();
    let second = kv.read_unless(&path, tag).unwrap().expect("changed");
    assert_eq!(second.data.map(|data| data.metadata.version), Some(2));
    assert_ne!(second.etag, first.etag);
    let none = kv.read_unless(&Path::parse("app/none").unwrap(), tag).unwrap().expect("not unchanged");
    assert!(none.data.is_none() && none.etag.is_none());
}
