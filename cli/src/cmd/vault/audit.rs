//! `audit verify`: finds every edited, deleted, reordered or cut-off entry of an audit file.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Deserialize;
use strongroom::api::hex::unhex_into;
use strongroom::api::secret::SecretText;
use strongroom::api::sys::AuditPublicKey;
use strongroom::audit::verify::{HeadCheck, Report, verify};
use strongroom::audit::{AuditHead, AuditKeys};
use strongroom::crypto::Key;

use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::files::read_file;
use crate::output::Output;

/// `strongroom audit …`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Verify the files of an audit trail; finds entries that were edited, deleted, reordered or cut off.
    #[command(after_help = "The key and the newest entry are fetched from the vault (the policy needs sudo on
sys/strongroom/audit-key and sys/strongroom/audit-head). With --structure the vault is not contacted: this finds accidents, but anyone who
can edit the file can also make its links fit again.

Exit code 0 when everything is in order, 1 when something is wrong.
  strongroom audit verify audit.log.1 audit.log        rotated files first, oldest first
  strongroom audit verify --public-key audit.pub audit.log

With --public-key no vault and no secret is needed: signed checkpoints prove the entries that they cover. Entries behind the
last checkpoint are counted as unsigned; only the vault can tell whether the file was cut there.")]
    Verify {
        /// Files of one trail, oldest first.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Check only that the entries are chained; does not contact the vault.
        #[arg(long)]
        structure: bool,
        /// Check signatures with this public key, without asking the vault: what `audit public-key` printed
        /// (NUMBER:HEX; HEX alone is number 1), or a file with it.
        #[arg(long, value_name = "HEX|FILE", conflicts_with = "structure")]
        public_key: Option<String>,
    },
    /// Print the public key that signs the trail. With a copy of it, anyone can verify the trail without the vault.
    #[command(after_help = "  strongroom audit public-key > audit.pub")]
    PublicKey,
}

#[derive(Deserialize)]
struct KeyReply {
    /// The newest key and the older ones. Each verifies the entries that were signed with it.
    keys: Vec<OneKey>,
}

#[derive(Deserialize)]
struct OneKey {
    id: u32,
    key: SecretText,
}

#[derive(Deserialize)]
struct HeadReply {
    seq: u64,
    hash: String,
}

impl AuditCommand {
    /// `open` connects to the vault if necessary.
    ///
    /// # Errors
    /// A file cannot be read, the vault rejects the request, or the log is not intact (exit code 1).
    pub fn run(&self, open: impl FnOnce() -> Result<Session, Failure>, out: &Output) -> Result<(), Failure> {
        let (files, structure, public_key) = match self {
            Self::Verify { files, structure, public_key } => (files, *structure, public_key),
            Self::PublicKey => return print_public_key(&open()?, out),
        };
        let (keys, head) = match public_key {
            Some(typed) => (public(typed)?, None),
            None if structure => (AuditKeys::none(), None),
            None => ask(&open()?)?,
        };
        let mut opened = Vec::new();
        for path in files {
            let failed = |error: std::io::Error| Failure::usage(format!("{}: {error}", path.display()), "");
            opened.push((path.display().to_string(), File::open(path).map_err(failed)?));
        }
        let report = verify(opened.iter().map(|(name, file)| (name.as_str(), file)), &keys, head);
        print(&report, out)?;
        if report.is_good() {
            return Ok(());
        }
        let count = report.findings.len().max(1);
        let hint = match report.head {
            HeadCheck::BeforeStart => {
                "the files begin after the entry that the vault recorded: pass the earlier files too"
            }
            _ => "keep the files as evidence, and compare them with a copy from another host",
        };
        Err(Failure::new(Code::Refused, format!("the audit trail is not intact ({count} findings)"), hint))
    }
}

fn ask(session: &Session) -> Result<(AuditKeys, Option<AuditHead>), Failure> {
    let malformed =
        || Failure::new(Code::Refused, "the vault's reply cannot be parsed: check that both have the same version", "");
    let reply: KeyReply = session.client.request("GET", "sys/strongroom/audit-key", None)?.content()?;
    let head: HeadReply = session.client.request("GET", "sys/strongroom/audit-head", None)?.content()?;
    let mut legible = !reply.keys.is_empty();
    let mut keys = AuditKeys::none();
    for OneKey { id, key } in &reply.keys {
        keys.add(*id, &Key::fill_with(|bytes| legible &= unhex_into(key.reveal(), bytes)));
    }
    let mut hash = [0; 32];
    if !legible || !unhex_into(&head.hash, &mut hash) {
        return Err(malformed());
    }
    // Signatures are verified too, if this certificate may read the public keys.
    if let Ok(signing) = session.client.rotation().audit_public_key() {
        for half in &signing.keys {
            let mut public = [0; 32];
            if unhex_into(&half.public_key, &mut public) {
                keys.add_public(half.id, public);
            }
        }
    }
    Ok((keys, Some(AuditHead { seq: head.seq, hash })))
}

fn print_public_key(session: &Session, out: &Output) -> Result<(), Failure> {
    let key = session.client.rotation().audit_public_key()?;
    out.either(&key, || format!("{}:{}", key.id, key.public_key))?;
    eprintln!("{}, fingerprint (SHA-256) {}", key.algorithm, key.fingerprint);
    Ok(())
}

/// A public key as typed: the key itself, or a file that contains it as text or JSON.
fn public(typed: &str) -> Result<AuditKeys, Failure> {
    if let Some((id, key)) = public_text(typed) {
        let mut keys = AuditKeys::none();
        keys.add_public(id, key);
        return Ok(keys);
    }
    let hint = "create one with: strongroom audit public-key > audit.pub";
    let bytes = read_file(Path::new(typed)).map_err(|failure| Failure { hint: hint.to_owned(), ..failure })?;
    let text = String::from_utf8_lossy(&bytes);
    let json = serde_json::from_str::<AuditPublicKey>(&text).ok().map(|key| format!("{}:{}", key.id, key.public_key));
    let found = public_text(json.as_deref().unwrap_or(&text));
    let (id, key) = found.ok_or_else(|| Failure::usage(format!("{typed} contains no public key"), hint))?;
    let mut keys = AuditKeys::none();
    keys.add_public(id, key);
    Ok(keys)
}

/// `NUMBER:HEX`, or HEX alone, which means number 1.
fn public_text(text: &str) -> Option<(u32, [u8; 32])> {
    let text = text.trim();
    let (id, hex) = text.split_once(':').map_or((Some(1), text), |(id, hex)| (id.parse().ok(), hex));
    let mut key = [0; 32];
    let id = id?;
    unhex_into(hex, &mut key).then_some((id, key))
}

fn print(report: &Report, out: &Output) -> Result<(), Failure> {
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let shown = serde_json::json!({
        "good": report.is_good(),
        "entries": report.entries,
        "first": report.first,
        "last": report.last.seq,
        "authenticated": report.authenticated,
        "signed": report.signed,
        "checkpoints": report.checkpoints,
        "signed_to": report.signed_to,
        "unsigned": report.unsigned,
        "open_requests": report.open_requests,
        "findings": findings,
        "more_findings": report.more_findings,
    });
    out.either(&shown, || {
        let mut text = findings.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        // "Genuine" needs the secret key. Public keys only prove the lines that a checkpoint covers.
        let how = match (report.authenticated, report.signed) {
            (true, _) => "genuine",
            (false, true) => "linked",
            (false, false) => "linked (not authenticated)",
        };
        text.push_str(&format!(
            "{} entries {how}, {} to {}",
            report.entries,
            report.first.unwrap_or(0),
            report.last.seq
        ));
        if report.signed {
            text.push_str(&format!(
                "\n{} signed checkpoints cover the entries up to {}; {} entries are not covered",
                report.checkpoints, report.signed_to, report.unsigned
            ));
        }
        // These requests were not necessarily lost: the process may have ended before their reply was logged.
        if report.open_requests > 0 {
            text.push_str(&format!("\n{} requests have no recorded outcome", report.open_requests));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_a_number_and_digits() {
        let hex = "0f".repeat(32);
        assert_eq!(public_text(&format!(" 7:{hex}\n")), Some((7, [0x0f; 32])));
        assert_eq!(public_text(&hex), Some((1, [0x0f; 32])));
        for bad in ["", "7:", ":", "x:0f", &format!("x:{hex}"), &format!("-1:{hex}"), &format!("7:{hex}0")] {
            assert_eq!(public_text(bad), None, "{bad}");
        }
    }
}
