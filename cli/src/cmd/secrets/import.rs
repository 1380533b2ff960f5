//! `import`: writes .env files into one secret, after showing the changes by name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use strongroom::api::secret::SecretText;
use strongroom::dotenv;

use super::variable;
use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::files::read_file;
use crate::output::Output;
use crate::paths::secret_path;
use crate::prompt;

/// `strongroom import FILE… PATH`
#[derive(Debug, Args)]
#[command(after_help = "The plan shows only names. Keys of the secret that are not in the files stay as they are.
A line that programs interpret differently is rejected with line and column; docs/cli.md has the grammar.")]
pub struct ImportArgs {
    /// Files to read; later files override earlier ones.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Path of the secret, for example app/prod; created if it does not exist.
    path: String,
    /// Show the plan and change nothing.
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Do not ask for confirmation.
    #[arg(short = 'y', long)]
    yes: bool,
    /// Take values that contain $ or backticks literally.
    #[arg(long)]
    literal: bool,
    /// Which program's rules to follow where parsers disagree.
    #[arg(long, value_enum, default_value_t = Dialect::Strict)]
    dialect: Dialect,
    /// When a name is assigned twice in one file: reject the file, or take the first or the last.
    #[arg(long, value_enum, default_value_t = Duplicates::Refuse)]
    duplicates: Duplicates,
    /// Carriage returns inside quotes: reject the file, convert to line feeds, or keep them.
    #[arg(long, value_enum, default_value_t = Crlf::Refuse)]
    crlf: Crlf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Dialect {
    /// Accept only what all programs agree on.
    Strict,
    /// Strict, but with backtick quotes.
    Node,
    /// docker --env-file: no quotes, no escapes.
    Docker,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Duplicates {
    /// Reject the file.
    Refuse,
    /// The first assignment wins.
    First,
    /// The last assignment wins.
    Last,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Crlf {
    /// Reject the file.
    Refuse,
    /// Convert CR LF to LF.
    Lf,
    /// Keep them.
    Keep,
}

#[derive(Serialize, Default)]
struct Changes<'a> {
    path: &'a str,
    new: Vec<&'a str>,
    changed: Vec<&'a str>,
    unchanged: Vec<&'a str>,
    kept: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
}

impl ImportArgs {
    /// # Errors
    /// A file is rejected, the change is not confirmed, or the vault rejects it. Nothing is written then.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let path = secret_path(&self.path, &session.mount)?;
        let wanted = self.read()?;
        let current = session.kv().pairs(&path)?.unwrap_or_default();
        let before: BTreeMap<&str, &SecretText> = current.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let mut plan = Changes { path: path.as_str(), ..Changes::default() };
        for (key, value) in &wanted {
            match before.get(key.as_str()) {
                None => plan.new.push(key),
                Some(old) if old.reveal() == value.reveal() => plan.unchanged.push(key),
                Some(_) => plan.changed.push(key),
            }
        }
        plan.kept = before.keys().copied().filter(|key| !wanted.contains_key(*key)).collect();
        let work = plan.new.len() + plan.changed.len();
        // Also with JSON if there will be a question: it is about this plan.
        if !out.json || !self.yes {
            eprint!("{}", plan.text());
        }
        if self.dry_run || work == 0 {
            return out.either(&plan, || {
                if work == 0 { "nothing to do".into() } else { "nothing was changed (dry run)".into() }
            });
        }
        if !self.yes {
            prompt::confirm(&format!("Write {work} keys to {}/{path}?", session.mount))?;
        }
        // Keys with the same value are left out, so that a change that somebody else makes to them meanwhile stays.
        let pairs: Vec<(&str, &SecretText)> = wanted
            .iter()
            .filter(|(key, _)| !plan.unchanged.contains(&key.as_str()))
            .map(|(key, value)| (key.as_str(), value))
            .collect();
        plan.version = Some(session.kv().put_pairs(&path, &pairs)?.version);
        out.either(&plan, || format!("{path}: {work} keys written, version {}", plan.version.unwrap_or_default()))?;
        for warning in wanted.keys().filter_map(|key| variable::warning(path.as_str(), key)) {
            eprintln!("strongroom: {warning}");
        }
        let names: Vec<String> = self.files.iter().map(|file| file.display().to_string()).collect();
        eprintln!(
            "try it:  strongroom run {path} -- YOUR-PROGRAM\nthen delete the plaintext file:  rm {}",
            names.join(" ")
        );
        Ok(())
    }

    fn read(&self) -> Result<BTreeMap<String, SecretText>, Failure> {
        let options = dotenv::Options {
            literal: self.literal,
            dialect: match self.dialect {
                Dialect::Strict => dotenv::Dialect::Strict,
                Dialect::Node => dotenv::Dialect::Node,
                Dialect::Docker => dotenv::Dialect::Docker,
            },
            duplicates: match self.duplicates {
                Duplicates::Refuse => dotenv::Duplicates::Refuse,
                Duplicates::First => dotenv::Duplicates::First,
                Duplicates::Last => dotenv::Duplicates::Last,
            },
            crlf: match self.crlf {
                Crlf::Refuse => dotenv::LineEnds::Refuse,
                Crlf::Lf => dotenv::LineEnds::Lf,
                Crlf::Keep => dotenv::LineEnds::Keep,
            },
        };
        let mut wanted = BTreeMap::new();
        for file in &self.files {
            let parsed = dotenv::parse(&read_file(file)?, &options).map_err(|error| {
                let failure = Failure::from(error);
                Failure { message: format!("{}: {}", file.display(), failure.message), ..failure }
            })?;
            // Of several files the last one wins. Within one file, `duplicates` decides.
            wanted.extend(parsed.into_iter().map(|one| (one.key, one.value)));
        }
        if wanted.is_empty() {
            return Err(Failure::new(Code::Refused, "the files contain no assignments", ""));
        }
        Ok(wanted)
    }
}

impl Changes<'_> {
    fn text(&self) -> String {
        let mut text = String::new();
        for (label, names) in
            [("new", &self.new), ("changed", &self.changed), ("unchanged", &self.unchanged), ("kept", &self.kept)]
        {
            for name in names {
                text.push_str(&format!("  {label:<10} {name}\n"));
            }
        }
        text
    }
}
