//! The grammar as a table, and two properties: parsing is total, and what is written reads back.

use proptest::prelude::*;

use super::*;
use crate::api::secret::SecretText;

fn read(text: &[u8], options: &Options) -> Result<Vec<(String, String)>, DotenvError> {
    let found = parse(text, options)?;
    Ok(found.into_iter().map(|one| (one.key, one.value.reveal().to_owned())).collect())
}

#[track_caller]
fn check(text: &str, expected: &[(&str, &str)]) {
    let found = read(text.as_bytes(), &Options::default()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let expected: Vec<_> = expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert_eq!(found, expected, "{text:?}");
}

#[test]
fn reads_what_all_programs_agree_on() {
    check("", &[]);
    check("# only a comment", &[]);
    check("A=1", &[("A", "1")]);
    check("\u{feff}A=1\r\n\r\n  export  B = two words  # comment\n", &[("A", "1"), ("B", "two words")]);
    check("A=a=b=c", &[("A", "a=b=c")]);
    check("A=foo#bar", &[("A", "foo#bar")]);
    check("A=#foo", &[("A", "#foo")]);
    check("A= #foo", &[("A", "")]);
    check("A=\nB=''\nC=\"\"", &[("A", ""), ("B", ""), ("C", "")]);
    check("A='$x \\n \"' # c\nB=1", &[("A", "$x \\n \""), ("B", "1")]);
    check("A='one\ntwo'\nB=\"one\ntwo\"", &[("A", "one\ntwo"), ("B", "one\ntwo")]);
    check(r#"A="q\"x\\\n\t\$y\`""#, &[("A", "q\"x\\\n\t$y`")]);
    check("export=1", &[("export", "1")]);
    check("A=p$ 5$5", &[("A", "p$ 5$5")]);
    check("A=ünïcode", &[("A", "ünïcode")]);
}

#[track_caller]
fn refuse(text: &[u8], line: u32, column: u32, problem: Problem) {
    let error = read(text, &Options::default()).expect_err("should be refused");
    assert_eq!(
        (error.line, error.column, error.problem),
        (line, column, problem),
        "{:?}",
        String::from_utf8_lossy(text)
    );
}

#[test]
fn refuses_the_rest_with_its_place() {
    refuse(b"A=1\nB=\xff", 2, 3, Problem::NotUtf8);
    refuse(b"A=a\0b", 1, 4, Problem::Nul);
    refuse(b"just words", 1, 1, Problem::Bare);
    refuse(b"A: 1", 1, 1, Problem::Colon);
    refuse(b"a-b=1", 1, 1, Problem::Name);
    refuse(b"1A=1", 1, 1, Problem::Name);
    refuse(b"=1", 1, 1, Problem::Name);
    refuse(b"A='x", 1, 3, Problem::Unterminated);
    refuse(b"A=\"x\n\nB=1", 1, 3, Problem::Unterminated);
    refuse(b"A=\"a\"b", 1, 6, Problem::AfterQuote);
    refuse(b"A=\"\\d\"", 1, 4, Problem::Escape);
    refuse(b"A=1\nA=2", 2, 1, Problem::Duplicate);
    refuse(b"A='x\r\ny'", 1, 5, Problem::CarriageReturn);
    for text in ["A=$HOME", "A=${X}", "A=$(id)", "A=a$$b", "A=\"$HOME\"", "A=\"a`b\"", "A=x`id`"] {
        refuse(text.as_bytes(), 1, 3, Problem::Expands);
    }
    refuse(b"A=`x`", 1, 3, Problem::Backtick);
    refuse(&vec![b'#'; MAX_FILE_BYTES + 1], 1, 1, Problem::TooLarge);
    let many: String = (0..=MAX_KEYS).map(|n| format!("K{n}=1\n")).collect();
    assert_eq!(read(many.as_bytes(), &Options::default()).unwrap_err().problem, Problem::TooManyKeys);
}

#[test]
fn every_assignment_says_its_line() {
    let text = b"# comment\n\nA=1\nexport B='two\nlines'\n\nC=3 # comment\r\nD=\"\n\n\"\nE=";
    let found = parse(text, &Options::default()).unwrap();
    let lines: Vec<_> = found.iter().map(|one| (one.key.as_str(), one.line)).collect();
    assert_eq!(lines, [("A", 3), ("B", 4), ("C", 7), ("D", 8), ("E", 11)]);
}

#[test]
fn choices_change_only_what_they_say() {
    let literal = Options { literal: true, ..Options::default() };
    assert_eq!(read(b"A=$HOME\nB=\"$(x)\"", &literal).unwrap()[1].1, "$(x)");
    let last = Options { duplicates: Duplicates::Last, ..Options::default() };
    assert_eq!(read(b"A=1\nB=2\nA=3", &last).unwrap(), [("A".into(), "3".into()), ("B".into(), "2".into())]);
    let first = Options { duplicates: Duplicates::First, ..Options::default() };
    assert_eq!(read(b"A=1\nA=3", &first).unwrap(), [("A".into(), "1".into())]);
    let lf = Options { crlf: LineEnds::Lf, ..Options::default() };
    assert_eq!(read(b"A='x\r\ny'\nB=\"x\r\ny\"", &lf).unwrap()[1].1, "x\ny");
    let keep = Options { crlf: LineEnds::Keep, ..Options::default() };
    assert_eq!(read(b"A=\"x\r\ny\"", &keep).unwrap()[0].1, "x\r\ny");
    let docker = Options { dialect: Dialect::Docker, ..Options::default() };
    assert_eq!(read(b"A='x' # y\nB=$z", &docker).unwrap(), [("A".into(), "'x' # y".into()), ("B".into(), "$z".into())]);
    let node = Options { dialect: Dialect::Node, ..Options::default() };
    assert_eq!(read(b"A=`it's \"x\"`", &node).unwrap()[0].1, "it's \"x\"");
}

#[test]
fn messages_name_the_place_and_never_the_value() {
    let error = read(b"A=1\nTOKEN=\"hunter2\\d\"", &Options::default()).unwrap_err().to_string();
    assert!(error.starts_with("line 2, column 15 (TOKEN): "), "{error}");
    assert!(!error.contains("hunter2"));
}

#[test]
fn writing_refuses_what_would_read_differently() {
    let pairs = |value: &str| vec![("K".to_owned(), SecretText::from(value))];
    for value in ["${x}", "a\\\\b", "end\\", "it's \"x\"", "cr\r"] {
        assert_eq!(write(&pairs(value), Format::Dotenv).unwrap_err(), WriteError::NotPortable("K".into()), "{value:?}");
        assert!(write(&pairs(value), Format::Json).is_ok());
        assert!(write(&pairs(value), Format::Sh).is_ok());
    }
    assert_eq!(write(&pairs("a\nb"), Format::Docker).unwrap_err(), WriteError::Lines("K".into()));
    let shell = write(&pairs("it's"), Format::Sh).unwrap();
    assert_eq!(shell.as_slice(), b"export K='it'\\''s'\n");
}

#[test]
fn the_example_of_the_readme_is_accepted() {
    let text = include_bytes!("../../docs/examples/app.env");
    let found = read(text, &Options::default()).unwrap();
    assert!(found.iter().any(|(key, value)| key == "DATABASE_URL" && value.starts_with("postgres://")));
}

proptest! {
    #[test]
    fn parsing_is_total(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes, &Options::default());
    }

    #[test]
    fn parsing_near_misses_is_total(text in "[A-Z=\"'`$\\\\{}()# \t\r\n:]{0,80}") {
        for dialect in [Dialect::Strict, Dialect::Node, Dialect::Docker] {
            let _ = parse(text.as_bytes(), &Options { dialect, literal: true, ..Options::default() });
        }
    }

    #[test]
    fn what_is_written_reads_back(values in prop::collection::vec("[ -~\n\tü]{0,30}", 1..6)) {
        let pairs: Vec<_> =
            values.iter().enumerate().map(|(n, value)| (format!("K{n}"), SecretText::from(value.as_str()))).collect();
        if let Ok(text) = write(&pairs, Format::Dotenv) {
            let back = read(&text, &Options::default()).unwrap();
            prop_assert_eq!(back.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), values);
        }
    }
}
