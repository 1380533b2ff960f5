//! `client`: certificates for machines that cannot reach the enrolment listener, in two steps that exchange files.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use strongroom::api::duration::Ttl;
use strongroom::api::sys::CertificateRequest;
use strongroom::api::time::rfc3339_nano;
use strongroom::pki;

use super::enroll::KeyKind;
use crate::bundle::write_new;
use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::files::read_file;
use crate::output::Output;

/// `strongroom client …`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  strongroom client csr --out ./web                    on the machine that gets the certificate
  strongroom client issue --csr web/csr.pem --identity app/web --out web/cert.pem --ca-out web/ca.pem
  strongroom profile add prod --bundle ./web --address https://vault.example:8200")]
pub enum ClientCommand {
    /// Create a private key and a certificate request. Does not contact the vault.
    Csr {
        /// Folder for key.pem and csr.pem; created if it does not exist.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Key type.
        #[arg(long, value_enum, default_value_t = KeyKind::P256)]
        key_type: KeyKind,
    },
    /// Sign a certificate request, as an operator.
    Issue {
        /// The request, PEM; only its key counts.
        #[arg(long, value_name = "FILE")]
        csr: PathBuf,
        /// Path of the holder, such as app/web for spiffe://DOMAIN/app/web.
        #[arg(long, value_name = "PATH")]
        identity: String,
        /// Lifetime of the certificate, such as 12h; renewals do not exceed it. Default: what the identity's settings say, or
        /// 8 h below operator/ and 24 h elsewhere.
        #[arg(long, value_name = "TIME", value_parser = ttl)]
        ttl: Option<String>,
        /// New file for the certificate.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// New file for the CA certificates, which the holder also needs.
        #[arg(long, value_name = "FILE")]
        ca_out: Option<PathBuf>,
    },
}

impl ClientCommand {
    /// # Errors
    /// A file exists or cannot be written, or the vault rejects the request.
    pub fn run(&self, open: impl FnOnce() -> Result<Session, Failure>, out: &Output) -> Result<(), Failure> {
        match self {
            Self::Csr { out: folder, key_type } => csr(folder, *key_type, out),
            Self::Issue { csr, identity, ttl, out: file, ca_out } => {
                let request = read_file(csr)?;
                let text = String::from_utf8_lossy(&request).into_owned();
                let asked = pki::read_csr(&text).map_err(|error| {
                    Failure::usage(format!("{}: {error}", csr.display()), "create one with: strongroom client csr")
                })?;
                // Before the vault signs: a certificate that could not be written would still be in its ledger.
                for file in [Some(file), ca_out.as_ref()].into_iter().flatten() {
                    if file.exists() {
                        return Err(Failure::usage(
                            format!("{} already exists", file.display()),
                            "choose another name",
                        ));
                    }
                }
                let request = CertificateRequest { identity: identity.clone(), csr: text, ttl: ttl.clone() };
                let reply = open()?.client.sys().issue_certificate(&request)?;
                // A certificate for another key would look fine here and be rejected at the first connection.
                let leaf = pki::leaf(reply.certificate.as_bytes())
                    .ok()
                    .filter(|leaf| leaf.key_fingerprint == asked.key_fingerprint);
                let leaf = leaf.ok_or_else(|| {
                    Failure::new(Code::Unreachable, "the server's reply is not a certificate for this request", "")
                })?;
                write_new(file, reply.certificate.as_bytes())?;
                if let Some(file) = ca_out {
                    write_new(file, reply.ca.as_bytes())?;
                }
                let (name, end) = (leaf.identity.unwrap_or_default(), rfc3339_nano(leaf.not_after_ms));
                let done = serde_json::json!({"identity": name, "not_after": end, "certificate": file, "ca": ca_out});
                out.either(&done, || format!("{}: {name}, until {end}", file.display()))
            }
        }
    }
}

fn csr(folder: &Path, key_type: KeyKind, out: &Output) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let failed = |error: std::io::Error| Failure::new(Code::Refused, format!("{}: {error}", folder.display()), "");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let made = pki::request(key_type.into()).map_err(|error| Failure::new(Code::Refused, error.to_string(), ""))?;
    let (key, csr) = (folder.join("key.pem"), folder.join("csr.pem"));
    write_new(&key, made.key_pem.reveal().as_bytes())?;
    write_new(&csr, made.csr_pem.as_bytes())?;
    out.either(&serde_json::json!({"key": key, "csr": csr}), || {
        format!(
            "{}: have it signed with strongroom client issue\n{}: keep it on this machine",
            csr.display(),
            key.display()
        )
    })
}

fn ttl(text: &str) -> Result<String, String> {
    match Ttl::parse(text) {
        Ok(_) if !text.is_empty() => Ok(text.to_owned()),
        Ok(_) => Err("write, for example, 24h".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
