//! One pass over the bytes, without backtracking or expansion.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::error::{DotenvError, Problem};
use super::{MAX_FILE_BYTES, MAX_KEYS, is_portable_name};
use crate::api::secret::SecretText;
use crate::wiped::Buffer;

/// One `NAME=value`.
pub struct Assignment {
    /// The name.
    pub key: String,
    /// The value.
    pub value: SecretText,
    /// Line of the name, counted from 1.
    pub line: u32,
}

/// Which program's rules apply where programs disagree.
///
/// ```
/// use strongroom::dotenv::{Dialect, Options, parse};
///
/// let read = |dialect| parse(b"KEY='a b'\n", &Options { dialect, ..Options::default() }).unwrap().remove(0).value;
/// assert_eq!(read(Dialect::Strict).reveal(), "a b");
/// assert_eq!(read(Dialect::Docker).reveal(), "'a b'");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// What all programs agree on. The rest is rejected.
    #[default]
    Strict,
    /// Strict, but backticks are quotes too.
    Node,
    /// `docker --env-file`: no quotes, no escapes. The rest of the line is the value.
    Docker,
}

/// What to do when a name is assigned twice.
///
/// ```
/// use strongroom::dotenv::{Duplicates, Options, parse};
///
/// let read = |duplicates| parse(b"A=1\nA=2\n", &Options { duplicates, ..Options::default() });
/// assert!(read(Duplicates::Refuse).is_err());
/// assert_eq!(read(Duplicates::First).unwrap()[0].value.reveal(), "1");
/// assert_eq!(read(Duplicates::Last).unwrap()[0].value.reveal(), "2");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Duplicates {
    /// Reject the file.
    #[default]
    Refuse,
    /// The first assignment wins.
    First,
    /// The last assignment wins.
    Last,
}

/// What to do with CR LF inside quotes. Outside quotes it ends a line.
///
/// ```
/// use strongroom::dotenv::{LineEnds, Options, parse};
///
/// let options = Options { crlf: LineEnds::Lf, ..Options::default() };
/// assert_eq!(parse(b"KEY=\"a\r\nb\"\r\n", &options).unwrap()[0].value.reveal(), "a\nb");
/// assert!(parse(b"KEY=\"a\r\nb\"\r\n", &Options::default()).is_err());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LineEnds {
    /// Reject the file.
    #[default]
    Refuse,
    /// CR LF becomes LF.
    Lf,
    /// Every byte is kept.
    Keep,
}

/// Options of the import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Which program's rules apply.
    pub dialect: Dialect,
    /// Take `$` and backticks literally.
    pub literal: bool,
    /// What to do with names assigned twice.
    pub duplicates: Duplicates,
    /// What to do with CR LF inside quotes.
    pub crlf: LineEnds,
}

/// Parses a whole file. Accepts any bytes: the result is assignments or an error with a position. Names keep the order
/// in which they first appear.
///
/// # Errors
/// [`DotenvError`] for the first problem. Nothing of the file should be used then.
///
/// ```
/// use strongroom::dotenv::{Options, Problem, parse};
///
/// let read = parse(b"# of the web server\nHOST=db.example.org\nKEY='a b'  # quoted\n", &Options::default()).unwrap();
/// assert_eq!((read[1].key.as_str(), read[1].value.reveal(), read[1].line), ("KEY", "a b", 3));
/// // Some programs would expand this and others would not.
/// let error = parse(b"URL=$HOST/x\n", &Options::default()).err().unwrap();
/// assert_eq!((error.line, error.problem), (1, Problem::Expands));
/// let literal = Options { literal: true, ..Options::default() };
/// assert_eq!(parse(b"URL=$HOST/x\n", &literal).unwrap()[0].value.reveal(), "$HOST/x");
/// ```
pub fn parse(bytes: &[u8], options: &Options) -> Result<Vec<Assignment>, DotenvError> {
    let at_start = |problem| DotenvError { line: 1, column: 1, key: None, problem };
    if bytes.len() > MAX_FILE_BYTES {
        return Err(at_start(Problem::TooLarge));
    }
    // Some editors write a byte order mark; it is not part of the first name.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| located(bytes, error.valid_up_to(), Problem::NotUtf8))?;
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(located(bytes, at, Problem::Nul));
    }
    let mut scanner = Scanner { text, at: 0, options, counted: 0, line: 1 };
    let mut found: Vec<Assignment> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    while let Some((key_at, assignment)) = scanner.next()? {
        match places.get(&assignment.key).copied() {
            None if found.len() >= MAX_KEYS => return Err(scanner.error(key_at, None, Problem::TooManyKeys)),
            None => {
                places.insert(assignment.key.clone(), found.len());
                found.push(assignment);
            }
            Some(place) => match options.duplicates {
                Duplicates::Refuse => return Err(scanner.error(key_at, Some(&assignment.key), Problem::Duplicate)),
                Duplicates::First => {}
                Duplicates::Last => {
                    if let Some(slot) = found.get_mut(place) {
                        *slot = assignment;
                    }
                }
            },
        }
    }
    Ok(found)
}

fn located(bytes: &[u8], at: usize, problem: Problem) -> DotenvError {
    let before = bytes.get(..at).unwrap_or(bytes);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    let number = |value| u32::try_from(value).unwrap_or(u32::MAX);
    DotenvError { line: number(line), column: number(column), key: None, problem }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    options: &'a Options,
    /// How far lines have been counted, so that a large file is counted once, not once for each assignment.
    counted: usize,
    line: u32,
}

impl Scanner<'_> {
    /// The number of the line at `at`, which is never before the last one asked for.
    fn line(&mut self, at: usize) -> u32 {
        let between = self.text.as_bytes().get(self.counted..at).unwrap_or_default();
        let breaks = between.iter().filter(|byte| **byte == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX));
        self.counted = at;
        self.line
    }

    fn error(&self, at: usize, key: Option<&str>, problem: Problem) -> DotenvError {
        DotenvError { key: key.map(str::to_owned), ..located(self.text.as_bytes(), at, problem) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// Whether the line ends here. CR counts only right before LF or the end of the file.
    fn at_line_end(&self) -> bool {
        let rest = self.rest();
        rest.is_empty() || rest.starts_with('\n') || rest.starts_with("\r\n") || rest == "\r"
    }

    fn skip_line(&mut self) {
        let length = self.rest().find('\n').map_or(self.rest().len(), |end| end + 1);
        self.at += length;
    }

    /// Returns the next assignment and the position of its name. Blank lines and comments are skipped.
    fn next(&mut self) -> Result<Option<(usize, Assignment)>, DotenvError> {
        loop {
            self.skip_blanks();
            if self.rest().is_empty() {
                return Ok(None);
            }
            if self.at_line_end() || self.peek() == Some(b'#') {
                self.skip_line();
                continue;
            }
            return self.assignment().map(Some);
        }
    }

    fn assignment(&mut self) -> Result<(usize, Assignment), DotenvError> {
        if let Some(after) = self.rest().strip_prefix("export")
            && after.starts_with([' ', '\t'])
        {
            self.at += "export".len();
            self.skip_blanks();
        }
        let key_at = self.at;
        let line = self.line(key_at);
        let length = self.rest().find(['=', ':', ' ', '\t', '\r', '\n']).unwrap_or(self.rest().len());
        let key = self.rest().get(..length).unwrap_or_default().to_owned();
        self.at += length;
        self.skip_blanks();
        match self.peek() {
            Some(b'=') => {}
            Some(b':') => return Err(self.error(key_at, None, Problem::Colon)),
            _ => return Err(self.error(key_at, None, Problem::Bare)),
        }
        if !is_portable_name(&key) {
            return Err(self.error(key_at, None, Problem::Name));
        }
        self.at += 1;
        let value = match self.options.dialect {
            Dialect::Docker => self.raw(),
            Dialect::Strict | Dialect::Node => {
                self.skip_blanks();
                self.value(&key)?
            }
        };
        let value = SecretText::new(String::from(value.as_str()));
        Ok((key_at, Assignment { key, value, line }))
    }

    fn raw(&mut self) -> Zeroizing<String> {
        let line = self.rest().split('\n').next().unwrap_or_default();
        let value = Zeroizing::new(line.strip_suffix('\r').unwrap_or(line).to_owned());
        self.skip_line();
        value
    }

    fn value(&mut self, key: &str) -> Result<Zeroizing<String>, DotenvError> {
        let start = self.at;
        let value = match self.peek() {
            Some(b'\'') => self.quoted(key, b'\'')?,
            Some(b'"') => self.double_quoted(key)?,
            Some(b'`') if self.options.dialect == Dialect::Node => self.quoted(key, b'`')?,
            Some(b'`') if !self.options.literal => return Err(self.error(start, Some(key), Problem::Backtick)),
            _ => return self.unquoted(key),
        };
        self.skip_blanks();
        if self.peek() == Some(b'#') || self.at_line_end() {
            self.skip_line();
            Ok(value)
        } else {
            Err(self.error(self.at, Some(key), Problem::AfterQuote))
        }
    }

    /// Reads up to the line end or a space before `#`, without spaces at both ends.
    fn unquoted(&mut self, key: &str) -> Result<Zeroizing<String>, DotenvError> {
        let start = self.at;
        let line = self.rest().split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mut before_blank = true;
        let comment = line.bytes().position(|byte| {
            let starts = before_blank && byte == b'#';
            before_blank = byte == b' ' || byte == b'\t';
            starts
        });
        // `NAME=#x` without a space is data for half of the programs and a comment for the others. `NAME= #x` is a
        // comment.
        let directly_after_equals = self.text.as_bytes().get(start.wrapping_sub(1)) == Some(&b'=');
        let end = match comment {
            Some(0) if directly_after_equals => line.len(),
            Some(at) => at,
            None => line.len(),
        };
        let value = line.get(..end).unwrap_or_default().trim_end_matches([' ', '\t']);
        let value = Zeroizing::new(value.to_owned());
        if !self.options.literal && expands(value.as_bytes()) {
            return Err(self.error(start, Some(key), Problem::Expands));
        }
        self.skip_line();
        Ok(value)
    }

    /// Reads the text between two `quote` bytes, unchanged.
    fn quoted(&mut self, key: &str, quote: u8) -> Result<Zeroizing<String>, DotenvError> {
        let open = self.at;
        self.at += 1;
        let Some(length) = self.rest().bytes().position(|byte| byte == quote) else {
            return Err(self.error(open, Some(key), Problem::Unterminated));
        };
        let inside = Zeroizing::new(self.rest().get(..length).unwrap_or_default().to_owned());
        self.line_ends(open, key, &inside)?;
        self.at += length + 1;
        if self.options.crlf != LineEnds::Lf {
            return Ok(inside);
        }
        let mut joined = Buffer::with_capacity(inside.len());
        for (index, part) in inside.split("\r\n").enumerate() {
            joined.text(if index > 0 { "\n" } else { "" }).text(part);
        }
        Ok(joined.into_text())
    }

    fn line_ends(&self, open: usize, key: &str, inside: &str) -> Result<(), DotenvError> {
        match inside.find('\r') {
            Some(at) if self.options.crlf == LineEnds::Refuse => {
                Err(self.error(open + 1 + at, Some(key), Problem::CarriageReturn))
            }
            _ => Ok(()),
        }
    }

    fn double_quoted(&mut self, key: &str) -> Result<Zeroizing<String>, DotenvError> {
        let open = self.at;
        self.at += 1;
        let mut value = Buffer::new();
        // The value without escaped characters: only an unescaped `$` or backtick can be expanded by a program.
        let mut bare = Buffer::new();
        loop {
            let here = self.at;
            let Some(character) = self.rest().chars().next() else {
                return Err(self.error(open, Some(key), Problem::Unterminated));
            };
            self.at += character.len_utf8();
            match character {
                '"' => break,
                '\\' => {
                    let escaped = match self.peek() {
                        Some(b'n') => '\n',
                        Some(b'r') => '\r',
                        Some(b't') => '\t',
                        Some(byte @ (b'\\' | b'"' | b'$' | b'`')) => char::from(byte),
                        _ => return Err(self.error(here, Some(key), Problem::Escape)),
                    };
                    self.at += 1;
                    value.character(escaped);
                    bare.push(b' ');
                }
                '\r' if self.options.crlf == LineEnds::Refuse => {
                    return Err(self.error(here, Some(key), Problem::CarriageReturn));
                }
                '\r' if self.options.crlf == LineEnds::Lf && self.peek() == Some(b'\n') => {}
                other => {
                    value.character(other);
                    bare.character(if matches!(other, '$' | '`' | '{' | '(') || other.is_ascii_alphabetic() {
                        other
                    } else {
                        ' '
                    });
                }
            }
        }
        if !self.options.literal && expands(&bare) {
            return Err(self.error(open, Some(key), Problem::Expands));
        }
        Ok(value.into_text())
    }
}

/// Whether any common program would expand or execute part of `value`.
fn expands(bytes: &[u8]) -> bool {
    bytes.contains(&b'`')
        || bytes.windows(2).any(|pair| match pair {
            [b'$', next] => next.is_ascii_alphabetic() || matches!(next, b'_' | b'{' | b'(' | b'$'),
            _ => false,
        })
}
