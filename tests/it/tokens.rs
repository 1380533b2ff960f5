//! Clients of outside PKIs and their tokens, byte by byte over the wire.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use strongroom::http::Limits;

use crate::support::raw::Raw;
use crate::support::server::Server;

type Ca = CertifiedIssuer<'static, KeyPair>;

const APP: &str = r#"path "secret/data/app/*" { capabilities = ["create", "update", "read"] }"#;

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(above: Option<&Ca>) -> Ca {
    let mut params = named(if above.is_some() { "outside intermediate" } else { "outside root" });
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    match above {
        Some(above) => Ca::signed_by(params, key, above).unwrap(),
        None => Ca::self_signed(params, key).unwrap(),
    }
}

/// A client with a certificate of `ca`; it claims to be the operator, too.
struct Holder {
    key: KeyPair,
    chain: Vec<CertificateDer<'static>>,
}

impl Holder {
    fn new(name: &str, ca: &Ca, above: &[&Ca]) -> Self {
        let mut params = named(name);
        params.serial_number = Some(SerialNumber::from(vec![name.bytes().last().unwrap()]));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI("spiffe://example.org/ops/alice".try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        let mut chain = vec![params.signed_by(&key, ca).unwrap().der().clone()];
        chain.extend(above.iter().map(|ca| ca.der().clone()));
        Self { key, chain }
    }

    fn connect(&self, server: &Server) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(server.ca_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let config = builder.with_root_certificates(roots).with_client_auth_cert(self.chain.clone(), key).unwrap();
        Client(Raw::with(server, Arc::new(config)))
    }
}

struct Client(Raw);

impl Client {
    /// Status and body; `header` with its end of line, or nothing.
    fn ask(&mut self, method: &str, path: &str, header: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        let request = format!(
            "{method} /v1/{path} HTTP/1.1\r\nHost: localhost\r\n{header}Content-Length: {length}\r\n\r\n{body}"
        );
        let reply = self.0.ask(&request).unwrap();
        (reply.status, serde_json::from_str(&reply.body).unwrap_or(Value::Null))
    }

    fn status(&mut self, method: &str, path: &str, header: &str, body: &str) -> u16 {
        self.ask(method, path, header, body).0
    }
}

/// What the daemon does whenever the vault says so.
fn follow(server: &Server) {
    let trust = server.vault.trust().borrow().clone();
    server.tls.replace_trust(&trust).unwrap();
}

fn role(server: &Server, operator: &mut Client, fields: &Value) {
    let (status, reply) = operator.ask("POST", "auth/cert/certs/web", "", &fields.to_string());
    assert_eq!(status, 204, "{reply}");
    follow(server);
}

fn setting() -> (Server, Client) {
    let server = Server::with(Limits::default());
    let mut operator = Client(Raw::connect(&server, &server.operator));
    let policy = json!({ "policy": APP }).to_string();
    assert_eq!(operator.status("POST", "sys/policies/acl/app", "", &policy), 204);
    (server, operator)
}

#[test]
fn a_stock_client_logs_in_uses_its_token_and_gives_it_back() {
    let (server, mut operator) = setting();
    let root = authority(None);
    let between = authority(Some(&root));
    let holder = Holder::new("web-1", &between, &[&between]);
    role(
        &server,
        &mut operator,
        &json!({
            "certificate": root.pem(), "allowed_common_names": ["web-*"], "token_policies": ["app"], "token_ttl": "1h",
        }),
    );
    assert!(operator.ask("GET", "sys/auth", "", "").1["data"]["cert/"].is_object());

    let mut web = holder.connect(&server);
    let (status, reply) = web.ask("POST", "auth/cert/login", "", r#"{"name":"web"}"#);
    assert_eq!(
        (status, &reply["data"], &reply["auth"]["lease_duration"]),
        (200, &Value::Null, &json!(3600)),
        "{reply}"
    );
    assert_eq!(reply["auth"]["metadata"]["cert_name"], "web");
    let text = reply["auth"]["client_token"].as_str().unwrap().to_owned();
    let token = format!("X-Vault-Token: {text}\r\n");
    let bearer = format!("Authorization: Bearer {text}\r\n");

    let (status, shown) = web.ask("GET", "auth/token/lookup-self", &token, "");
    assert_eq!((status, &shown["data"]["id"], &shown["data"]["type"]), (200, &json!(text), &json!("service")));
    assert!(shown["data"]["expire_time"].is_string() && shown["auth"].is_null());
    assert_eq!(web.status("POST", "secret/data/app/x", &token, r#"{"data":{"A":"1"}}"#), 200);
    let (status, read) = web.ask("GET", "secret/data/app/x", &bearer, "");
    assert_eq!((status, &read["data"]["data"]["A"]), (200, &json!("1")));
    let (_, may) = web.ask("POST", "sys/capabilities-self", &token, r#"{"path":"secret/data/app/x"}"#);
    assert_eq!(may["capabilities"], json!(["create", "read", "update"]));
    // The name in the certificate is somebody else's.
    assert_eq!(web.status("GET", "sys/policies/acl/app", &token, ""), 403);
    assert_eq!(web.status("POST", "auth/token/renew-self", &token, r#"{"increment":"10m"}"#), 200);

    // Stolen: the operator's certificate does not make it good, nor another one of the same role.
    assert_eq!(operator.status("GET", "auth/token/lookup-self", &token, ""), 403);
    assert_eq!(operator.status("GET", "sys/policies/acl/app", &token, ""), 403);
    let mut other = Holder::new("web-2", &between, &[&between]).connect(&server);
    assert_eq!(other.status("GET", "secret/data/app/x", &token, ""), 403);
    assert_eq!(other.status("GET", "secret/data/app/x", "", ""), 200, "without it the role counts");
    assert_eq!(other.status("GET", "secret/data/app/x", "X-Vault-Token: s.abc\r\n", ""), 403);

    assert_eq!(web.status("POST", "auth/token/revoke-self", &token, ""), 204);
    assert_eq!(web.status("GET", "secret/data/app/x", &token, ""), 403);
}

#[test]
fn a_certificate_is_nobody_without_a_role() {
    let (server, mut operator) = setting();
    let root = authority(None);
    let holder = Holder::new("web-1", &root, &[]);
    let fields = json!({ "certificate": root.pem(), "allowed_common_names": "web-*", "policies": "app" });
    role(&server, &mut operator, &fields);
    let mut web = holder.connect(&server);
    assert_eq!(web.status("GET", "secret/data/app/x", "", ""), 404);
    // Admitted by TLS, and nobody.
    let mut db = Holder::new("db-1", &root, &[]).connect(&server);
    assert_eq!(db.ask("POST", "auth/cert/login", "", ""), (403, json!({ "errors": ["permission denied"] })));
    assert_eq!(operator.status("DELETE", "auth/cert/certs/web", "", ""), 204);
    follow(&server);
    // The open connection is closed, at once for a request that comes before that.
    let refused = web.0.get("secret/data/app/x");
    assert!(refused.as_ref().map_or(true, |reply| reply.status == 403), "{refused:?}");
    let refused = holder.connect(&server).0.get("secret/data/app/x");
    assert!(refused.is_err(), "{refused:?}");
}

/// A list of `ca` with the certificate of the holder whose name ends so.
fn list(ca: &Ca, end: u8) -> String {
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(vec![end]),
        revocation_time: date_time_ymd(2025, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2025, 1, 1),
        next_update: date_time_ymd(2055, 1, 1),
        crl_number: SerialNumber::from(vec![1]),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(ca).unwrap().pem().unwrap()
}

#[test]
fn a_revocation_list_closes_open_connections() {
    let (server, mut operator) = setting();
    let root = authority(None);
    let fields = json!({ "certificate": root.pem(), "allowed_common_names": "web-*", "policies": "app" });
    role(&server, &mut operator, &fields);
    let (listed, other) = (Holder::new("web-1", &root, &[]), Holder::new("web-2", &root, &[]));
    let (mut closed, mut open) = (listed.connect(&server), other.connect(&server));
    for client in [&mut closed, &mut open] {
        assert_eq!(client.status("GET", "secret/data/app/x", "", ""), 404);
    }
    let body = json!({ "crl": list(&root, b'1') }).to_string();
    assert_eq!(operator.status("PUT", "auth/cert/crls/root", "", &body), 204);
    assert!(closed.0.wait_for_end() < Duration::from_secs(2));
    assert_eq!(open.status("GET", "secret/data/app/x", "", ""), 404);
    // Whoever comes again is told so once.
    let mut again = listed.connect(&server);
    assert_eq!(again.status("GET", "secret/data/app/x", "", ""), 403);
    assert!(again.0.wait_for_end() < Duration::from_secs(5));
    let (status, shown) = operator.ask("GET", "auth/cert/crls/root", "", "");
    assert_eq!((status, &shown["data"]["serials"]["49"].is_object()), (200, &true), "{shown}");
    assert_eq!(operator.ask("LIST", "auth/cert/crls", "", "").1["data"]["keys"], json!(["root"]));
    assert_eq!(operator.status("DELETE", "auth/cert/crls/root", "", ""), 204);
    assert_eq!(listed.connect(&server).status("GET", "secret/data/app/x", "", ""), 404);
    let (status, reply) = operator.ask("POST", "auth/token/tidy", "", "");
    assert_eq!((status, &reply["warnings"]), (202, &Value::Null));
}
