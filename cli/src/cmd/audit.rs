//! `audit verify`: finds any edited, deleted, reordered or cut-off entry of an audit file.

use std::fs::File;
use std::path::PathBuf;

use clap::Subcommand;
use serde::Deserialize;
use strongroom::api::secret::SecretText;
use strongroom::audit::verify::{HeadCheck, Report, verify};
use strongroom::audit::{AuditHead, AuditKeys};
use strongroom::crypto::Key;

use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::settings::Session;

/// `strongroom audit …`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check files of an audit trail; finds any edited, deleted, reordered or cut-off entry.
    #[command(after_help = "The key and the newest entry are asked from the vault (the policy needs sudo on
sys/strongroom/audit-key and sys/strongroom/audit-head). With --structure no vault is asked: this finds accidents, but whoever
can edit the file can also make its links fit again.

Exit code 0 when everything is in order, 1 when something is wrong.
  strongroom audit verify audit.log.1 audit.log        rotated files first, oldest first")]
    Verify {
        /// Files of one trail, oldest first.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Check only how the entries are linked, without asking the vault.
        #[arg(long)]
        structure: bool,
    },
}

#[derive(Deserialize)]
struct KeyReply {
    id: u32,
    key: SecretText,
}

#[derive(Deserialize)]
struct HeadReply {
    seq: u64,
    hash: String,
}

impl AuditCommand {
    /// `open` connects to the vault, if that is needed.
    ///
    /// # Errors
    /// A file is unreadable, the vault refuses, or the trail is not in order (exit code 1).
    pub fn run(&self, open: impl FnOnce() -> Result<Session, Failure>, out: &Output) -> Result<(), Failure> {
        let Self::Verify { files, structure } = self;
        let (keys, head) = if *structure { (AuditKeys::none(), None) } else { ask(&open()?)? };
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
                "the files begin after the entry that the vault remembers: name the earlier files too"
            }
            _ => "keep the files as evidence, and compare them with a copy from another host",
        };
        Err(Failure::new(Code::Refused, format!("the audit trail is not in order ({count} findings)"), hint))
    }
}

fn ask(session: &Session) -> Result<(AuditKeys, Option<AuditHead>), Failure> {
    let malformed = || Failure::new(Code::Refused, "the vault's answer is not understood", "");
    let key: KeyReply = session.client.request("GET", "sys/strongroom/audit-key", None)?.content()?;
    let head: HeadReply = session.client.request("GET", "sys/strongroom/audit-head", None)?.content()?;
    let mut legible = true;
    let secret = Key::fill_with(|bytes| legible = unhex(key.key.reveal(), bytes));
    let mut hash = [0; 32];
    if !legible || !unhex(&head.hash, &mut hash) {
        return Err(malformed());
    }
    Ok((AuditKeys::one(key.id, &secret), Some(AuditHead { seq: head.seq, hash })))
}

fn unhex(text: &str, into: &mut [u8; 32]) -> bool {
    text.len() == 64
        && text.as_bytes().chunks(2).zip(into.iter_mut()).all(|(pair, byte)| {
            let plain = pair.iter().all(u8::is_ascii_hexdigit);
            let digits =
                std::str::from_utf8(pair).ok().filter(|_| plain).and_then(|pair| u8::from_str_radix(pair, 16).ok());
            digits.map(|value| *byte = value).is_some()
        })
}

fn print(report: &Report, out: &Output) -> Result<(), Failure> {
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let shown = serde_json::json!({
        "good": report.is_good(),
        "entries": report.entries,
        "first": report.first,
        "last": report.last.seq,
        "authenticated": report.authenticated,
        "open_requests": report.open_requests,
        "gaps": report.gaps,
        "findings": findings,
        "more_findings": report.more_findings,
    });
    out.either(&shown, || {
        let mut text = findings.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        let how = if report.authenticated { "genuine" } else { "linked (not authenticated)" };
        text.push_str(&format!(
            "{} entries {how}, {} to {}",
            report.entries,
            report.first.unwrap_or(0),
            report.last.seq
        ));
        for (from, to) in &report.gaps {
            text.push_str(&format!("\nentries {from} to {to} are on other devices: this one had failed"));
        }
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
    fn hexadecimal_text_is_read_strictly() {
        let mut bytes = [0; 32];
        assert!(unhex(&"0f".repeat(32), &mut bytes) && bytes == [0x0f; 32]);
        for bad in ["", "0f", &"0g".repeat(32), &"+f".repeat(32), &"é".repeat(32)] {
            assert!(!unhex(bad, &mut [0; 32]), "{bad:?}");
        }
    }
}
