//! `get`: one secret, or one key of it.

use clap::Args;
use strongroom::api::json::write_str;
use strongroom::api::path::Path;
use strongroom::api::secret::SecretText;
use strongroom::client::pairs_of;
use strongroom::wiped::Buffer;
use zeroize::Zeroizing;

use crate::cmd::{fetch, no_secret};
use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::paths::secret_path;

/// `strongroom get PATH [KEY]`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strongroom get app/prod                  names, values hidden\n  strongroom get app/prod --show           \
names and values\n  strongroom get app/prod API_KEY | wc -c  prints the value, because output is not a terminal"
)]
pub struct GetArgs {
    /// Path of the secret, for example app/prod.
    path: String,
    /// Print only this key's value, without a trailing newline.
    key: Option<String>,
    /// Show values even though standard output is a terminal.
    #[arg(long)]
    show: bool,
    /// Read this version instead of the newest.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    version: Option<u64>,
}

impl GetArgs {
    /// # Errors
    /// No such secret, key or version, or not allowed; without a key and to a file or pipe, a value of several lines.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let path = secret_path(&self.path, &session.mount)?;
        let mut pairs = match self.version {
            None => fetch(session, &path)?,
            Some(_) => self.fetch_version(session, &path)?,
        };
        let hidden = out.is_terminal() && !self.show;
        if let Some(key) = &self.key {
            let at = pairs.iter().position(|(name, _)| name == key).ok_or_else(|| {
                let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
                Failure::new(
                    Code::NotFound,
                    format!("{path} has no key {key}"),
                    format!("it has: {}", names.join(", ")),
                )
            })?;
            let (name, value) = pairs.swap_remove(at);
            return self.one(&name, &value, hidden, out);
        }
        if out.json {
            return out.text(&json(&pairs, hidden));
        }
        // A person sees names in bold.
        if !out.is_terminal() {
            one_line_each(&path, &pairs)?;
        }
        for (name, value) in &pairs {
            let value = if hidden { HIDDEN } else { value.reveal() };
            let mut line = Buffer::with_capacity(name.len() + value.len() + 16);
            line.text(&out.strong(name)).text("=").text(value).text("\n");
            out.text(&line.into_text())?;
        }
        if hidden {
            eprintln!("values are hidden on a terminal; add --show to see them");
        }
        Ok(())
    }

    fn fetch_version(&self, session: &Session, path: &Path) -> Result<Vec<(String, SecretText)>, Failure> {
        let data = session.kv().read(path, self.version)?.ok_or_else(|| no_secret(session, path))?;
        let gone = || {
            let message = format!("version {} of {path} is deleted or destroyed", data.metadata.version);
            Failure::new(Code::NotFound, message, "")
        };
        pairs_of(&data)?.ok_or_else(gone)
    }

    fn one(&self, name: &str, value: &SecretText, hidden: bool, out: &Output) -> Result<(), Failure> {
        if out.json {
            let pair = [(name.to_owned(), SecretText::from(value.reveal()))];
            return out.text(&json(&pair, hidden));
        }
        if hidden {
            eprintln!("{name} has {} bytes; add --show to see it on a terminal", value.reveal().len());
            return Ok(());
        }
        out.text(value.reveal())?;
        if out.is_terminal() { out.line("") } else { Ok(()) }
    }
}

/// Rejects values of several lines, before anything is printed: their later lines could not be told from keys, so a program
/// that reads `KEY=VALUE` lines would take a part of a value for a key.
fn one_line_each(path: &Path, pairs: &[(String, SecretText)]) -> Result<(), Failure> {
    let long = |value: &SecretText| value.reveal().contains(['\n', '\r']);
    let names: Vec<&str> = pairs.iter().filter(|(_, value)| long(value)).map(|(name, _)| name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let message = format!("{path} has values of several lines, which KEY=VALUE cannot show: {}", names.join(", "));
    let hint = format!(
        "all of them: strongroom export {path} --format json (or dotenv, sh), or get with --json; one, byte for byte: \
         strongroom get {path} {}",
        names.first().unwrap_or(&"KEY")
    );
    Err(Failure::new(Code::Refused, message, hint))
}

const HIDDEN: &str = "********";

fn json(pairs: &[(String, SecretText)], hidden: bool) -> Zeroizing<String> {
    let mut text = Buffer::new();
    text.push(b'{');
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        write_str(&mut text, name);
        text.push(b':');
        write_str(&mut text, if hidden { HIDDEN } else { value.reveal() });
    }
    text.put(b"}\n");
    text.into_text()
}
