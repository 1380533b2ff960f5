//! What must hold for `.env` files, whatever their bytes (feature `testing`). The first byte of an input chooses how it is
//! read, the rest is the file.

use std::collections::BTreeMap;

use super::{Dialect, Duplicates, Format, LineEnds, MAX_KEYS, Options, WriteError, is_portable_name, parse, write};
use crate::api::secret::SecretText;

type Pairs = Vec<(String, String)>;

pub(crate) fn examples() -> Vec<Vec<u8>> {
    let texts: [(u8, &str); 9] = [
        (0, "# only a comment\nA=1\n\n  export  B = two words  # comment\n"),
        (0, "\u{feff}A=a=b\r\nB=foo#bar\r\nC= #foo\r\nD=''\r\nE=\"\""),
        (0, "A='$x \\n \"' # c\nB=\"one\ntwo\"\nC=\"q\\\"x\\\\\\n\\t\\$y\\`\""),
        (0, "A=\u{fc}n\u{ef}code\nexport=1\n"),
        (1, "A=`it's \"x\"`\n"),
        (2, "A='x' # y\nB=$z\n"),
        (3, "A=$HOME\nB=\"$(x)\"\n"),
        (6, "A=1\nB=2\nA=3\n"),
        (18, "A='x\r\ny'\nB=\"x\r\ny\"\n"),
    ];
    texts.map(|(choice, text)| [&[choice], text.as_bytes()].concat()).to_vec()
}

pub(crate) fn check(data: &[u8]) -> bool {
    let Some((choice, file)) = data.split_first() else { return false };
    let options = Options {
        dialect: [Dialect::Strict, Dialect::Node, Dialect::Docker][usize::from(choice % 3)],
        literal: choice / 3 % 2 == 1,
        duplicates: [Duplicates::Refuse, Duplicates::Last, Duplicates::First][usize::from(choice / 6 % 3)],
        crlf: [LineEnds::Refuse, LineEnds::Lf, LineEnds::Keep][usize::from(choice / 18 % 3)],
    };
    let lines = file.iter().filter(|byte| **byte == b'\n').count() + 1;
    let pairs = match read(file, &options) {
        Ok(pairs) => pairs,
        Err(line) => {
            assert!((1..=lines).contains(&line), "an error has a line of the file");
            return false;
        }
    };
    assert_eq!(read(file, &options).as_ref(), Ok(&pairs), "reading is stable");
    assert!(pairs.len() <= MAX_KEYS.min(lines));
    assert!(pairs.iter().all(|(name, value)| is_portable_name(name) && !value.contains('\0')));
    let names: BTreeMap<&str, &str> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(names.len(), pairs.len(), "each name once");
    // The kept values and names are parts of the file or shorter.
    assert!(pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= file.len());
    if options.dialect != Dialect::Docker && !options.literal {
        // What all programs agree on does not change with the choices that only take in more.
        assert_eq!(read(file, &Options { literal: true, ..options }).as_ref(), Ok(&pairs), "literally");
        assert_eq!(read(file, &Options { dialect: Dialect::Node, ..options }).as_ref(), Ok(&pairs), "as Node");
    }
    written(&pairs);
    true
}

/// Names with values, or the line of the error.
fn read(file: &[u8], options: &Options) -> Result<Pairs, usize> {
    let found = parse(file, options).map_err(|error| {
        assert!(error.column > 0 && !error.to_string().is_empty());
        usize::try_from(error.line).unwrap_or(0)
    })?;
    Ok(found.into_iter().map(|one| (one.key, one.value.reveal().to_owned())).collect())
}

/// Each format reads back as what was written, or refuses to write.
fn written(pairs: &Pairs) {
    let secrets: Vec<_> = pairs.iter().map(|(name, value)| (name.clone(), SecretText::from(value.as_str()))).collect();
    let json = write(&secrets, Format::Json).expect("JSON holds everything");
    let read_back: BTreeMap<String, String> = serde_json::from_slice(&json).expect("it is JSON");
    assert!(read_back.into_iter().eq(pairs.iter().cloned().collect::<BTreeMap<_, _>>()));
    match write(&secrets, Format::Dotenv) {
        Ok(text) => {
            for dialect in [Dialect::Strict, Dialect::Node] {
                let options = Options { dialect, ..Options::default() };
                assert_eq!(read(&text, &options).as_ref(), Ok(pairs), "as .env");
            }
        }
        Err(error) => assert!(matches!(error, WriteError::NotPortable(_)), "{error}"),
    }
    match write(&secrets, Format::Docker) {
        Ok(text) => {
            let options = Options { dialect: Dialect::Docker, ..Options::default() };
            assert_eq!(read(&text, &options).as_ref(), Ok(pairs), "for docker");
        }
        Err(error) => assert!(matches!(error, WriteError::Lines(_)), "{error}"),
    }
    let shell = write(&secrets, Format::Sh).expect("a shell holds everything but a NUL byte");
    assert_eq!(shelled(&shell).as_ref(), Some(pairs), "for a shell");
}

/// Reads `export NAME='…'` lines as a POSIX shell does (XCU, 2.2).
fn shelled(text: &[u8]) -> Option<Pairs> {
    let mut rest = std::str::from_utf8(text).ok()?;
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let (name, tail) = rest.strip_prefix("export ")?.split_once('=')?;
        let (mut value, mut tail) = (String::new(), tail);
        while !tail.starts_with('\n') {
            if let Some(escaped) = tail.strip_prefix("\\'") {
                value.push('\'');
                tail = escaped;
            } else {
                let (quoted, behind) = tail.strip_prefix('\'')?.split_once('\'')?;
                value.push_str(quoted);
                tail = behind;
            }
        }
        pairs.push((name.to_owned(), value));
        rest = tail.strip_prefix('\n')?;
    }
    Some(pairs)
}
