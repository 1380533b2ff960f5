//! `export`: a secret as a file for programs that cannot use the vault.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use strongroom::dotenv;

use crate::cmd::fetch;
use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::paths::secret_path;

/// `strongroom export PATH`
#[derive(Debug, Args)]
#[command(after_help = "Prefer `strongroom run`: an exported file is plaintext, and rotation does not update it.")]
pub struct ExportArgs {
    /// Path of the secret.
    path: String,
    /// What to write.
    #[arg(short = 'f', long, value_enum, default_value_t = Format::Dotenv)]
    format: Format,
    /// Write to this new file (mode 0600) instead of standard output.
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print values even though standard output is a terminal.
    #[arg(long)]
    show: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// A .env file that every common parser reads the same way.
    Dotenv,
    /// A JSON object.
    Json,
    /// export lines for a POSIX shell.
    Sh,
    /// A file for docker --env-file.
    Docker,
}

impl ExportArgs {
    /// # Errors
    /// No such secret, a value that the format cannot represent, or the file exists.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        if self.output.is_none() && out.is_terminal() && !self.show {
            return Err(Failure::usage("values are not printed on a terminal", "add --show, or -o FILE"));
        }
        let path = secret_path(&self.path, &session.mount)?;
        let pairs = fetch(session, &path)?;
        let format = match self.format {
            _ if out.json => dotenv::Format::Json,
            Format::Dotenv => dotenv::Format::Dotenv,
            Format::Json => dotenv::Format::Json,
            Format::Sh => dotenv::Format::Sh,
            Format::Docker => dotenv::Format::Docker,
        };
        let text = dotenv::write(&pairs, format)?;
        match &self.output {
            None => out.text(&String::from_utf8_lossy(&text)),
            Some(file) => {
                write_new(file, &text)?;
                eprintln!("{} keys in {} (plaintext, mode 0600)", pairs.len(), file.display());
                Ok(())
            }
        }
    }
}

/// Writes a temporary file and links it into place. So the file appears complete or not at all, and nothing is
/// overwritten.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::new(
            Code::Refused,
            format!("{} exists; nothing was written", path.display()),
            "choose another name",
        ),
        _ => Failure::new(Code::Refused, format!("writing {}: {error}", path.display()), ""),
    };
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.new", std::process::id()));
    let aside = PathBuf::from(aside);
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::hard_link(&aside, path)
    });
    let _ = fs::remove_file(&aside);
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_never_overwritten_and_nothing_is_left_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.env");
        write_new(&path, b"A=1\n").unwrap();
        assert!(write_new(&path, b"A=2\n").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"A=1\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }
}
