//! `set`: changes one key of a secret with a patch, so the other keys stay as they are.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use strongroom::api::secret::SecretText;
use strongroom::wiped::Buffer;
use zeroize::Zeroizing;

use super::variable;
use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::paths::secret_path;
use crate::prompt;

/// `strongroom set PATH KEY`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").multiple(false), after_help = "Examples:
  strongroom set app/prod API_KEY                       asks twice, without echo
  strongroom set app/prod API_KEY - < key.txt           standard input, byte for byte
  strongroom set app/prod TLS_KEY --from-file key.pem
  strongroom set app/prod SESSION_SECRET --generate 48  a random value that is not printed")]
pub struct SetArgs {
    /// Path of the secret, for example app/prod; created if it does not exist.
    path: String,
    /// Key to set.
    key: String,
    /// Write - to read the value from standard input, byte for byte.
    // Accepts anything, so that a value typed here is rejected by `value` and not repeated by the parser.
    #[arg(value_name = "-", group = "source", num_args = 0..)]
    standard_input: Vec<String>,
    /// Read the value from this file, byte for byte.
    #[arg(long, value_name = "FILE", group = "source")]
    from_file: Option<PathBuf>,
    /// Generate a random value of this many characters; it is not printed.
    #[arg(long, value_name = "LENGTH", group = "source", num_args = 0..=1, default_missing_value = "32",
          value_parser = clap::value_parser!(u16).range(8..=4096))]
    generate: Option<u16>,
    /// Characters of a generated value.
    #[arg(long, value_enum, default_value_t = Alphabet::Alphanumeric, requires = "generate")]
    alphabet: Alphabet,
    /// The value itself; rejected without the flag below, because other users see command lines.
    #[arg(long, value_name = "VALUE", group = "source")]
    value: Option<String>,
    /// Confirm that shell history and other users of this machine may see --value.
    #[arg(long)]
    insecure_value_on_command_line: bool,
    /// Remove one line break at the end of the value.
    #[arg(long)]
    strip_newline: bool,
}

/// Characters of generated values.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Alphabet {
    /// A-Z a-z 0-9
    Alphanumeric,
    /// 0-9 a-f
    Hex,
    /// Letters, digits and punctuation that needs no quoting in a .env file.
    Symbols,
}

impl Alphabet {
    fn characters(self) -> &'static [u8] {
        match self {
            Self::Alphanumeric => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            Self::Hex => b"0123456789abcdef",
            Self::Symbols => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:@%+,=-",
        }
    }
}

impl SetArgs {
    /// # Errors
    /// No value, not allowed, or rejected by the vault.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let path = secret_path(&self.path, &session.mount)?;
        if self.key.is_empty() {
            return Err(Failure::usage("the key is empty", "name the key: strongroom set PATH KEY"));
        }
        // The part after the sign may be a value. As a name it would be in the audit log, in clear text and for ever.
        if self.key.contains('=') {
            return Err(typed("KEY=VALUE is not a key"));
        }
        // In a separate block, so that the value is gone before anything is printed.
        let version = {
            let value = self.value()?;
            session.kv().put_pairs(&path, &[(&self.key, &value)])?.version
        };
        let done = serde_json::json!({"path": path.as_str(), "key": self.key, "version": version});
        out.either(&done, || format!("{path}: {} set, version {version}", self.key))?;
        if let Some(warning) = variable::warning(path.as_str(), &self.key) {
            eprintln!("strongroom: {warning}");
        }
        Ok(())
    }

    fn value(&self) -> Result<SecretText, Failure> {
        match self.standard_input.as_slice() {
            [] => {}
            [one] if one == "-" => return prompt::standard_input(self.strip_newline),
            _ => return Err(typed("values are not accepted on the command line")),
        }
        if let Some(path) = &self.from_file {
            return prompt::file(path, self.strip_newline);
        }
        if let Some(length) = self.generate {
            return generate(usize::from(length), self.alphabet);
        }
        match &self.value {
            Some(value) if self.insecure_value_on_command_line => Ok(SecretText::from(value.as_str())),
            Some(_) => Err(typed("values are not accepted on the command line")),
            None => prompt::hidden_twice(&format!("Value of {}: ", self.key)),
        }
    }
}

/// What was typed may be a secret, so no text repeats it.
fn typed(what: &str) -> Failure {
    Failure::usage(
        format!("{what}: other users can see command lines, and the shell keeps them"),
        "let it ask you for the value:              strongroom set PATH KEY\n\
         or give the value on standard input:       strongroom set PATH KEY - < FILE\n\
         If that was a real secret, delete the line from your shell's history.",
    )
}

/// Generates a value in which every character is equally likely: bytes beyond the last multiple of the alphabet's length
/// are drawn again.
fn generate(length: usize, alphabet: Alphabet) -> Result<SecretText, Failure> {
    let characters = alphabet.characters();
    let usable = 256 - 256 % characters.len();
    let mut value = Buffer::with_capacity(length);
    let mut pool = Zeroizing::new([0_u8; 256]);
    while value.len() < length {
        // The command's only use of a random source, which the library takes as an argument.
        #[allow(clippy::disallowed_methods)]
        getrandom::fill(pool.as_mut())
            .map_err(|_| Failure::new(Code::Refused, "the system's random source failed", ""))?;
        for byte in pool.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < usable) {
            if value.len() < length
                && let Some(character) = characters.get(byte % characters.len())
            {
                value.push(*character);
            }
        }
    }
    Ok(SecretText::from_utf8_lossy(&*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_values_have_their_length_and_alphabet() {
        for alphabet in [Alphabet::Alphanumeric, Alphabet::Hex, Alphabet::Symbols] {
            for length in [8, 32, 1000] {
                let value = generate(length, alphabet).unwrap();
                assert_eq!(value.reveal().len(), length);
                assert!(value.reveal().bytes().all(|byte| alphabet.characters().contains(&byte)));
            }
            assert_ne!(generate(32, alphabet).unwrap().reveal(), generate(32, alphabet).unwrap().reveal());
        }
        let sample = generate(4096, Alphabet::Hex).unwrap();
        for digit in b"0123456789abcdef" {
            let count = sample.reveal().bytes().filter(|byte| byte == digit).count();
            assert!((150..=370).contains(&count), "{digit} appears {count} times in 4096");
        }
    }
}
