//! The part of HCL 1 in which policies are written: blocks with labels, assignments, lists, objects, strings, numbers,
//! booleans, and the three kinds of comments. Here-documents and `${}` interpolation are rejected by name.

use serde_json::{Number, Value};

use super::document::{Item, MAX_DEPTH, Node, Place, PolicyError, Tree, shown};

/// Parses a document into its top-level items.
///
/// # Errors
/// [`PolicyError`] with line and column of the first problem.
pub(super) fn parse(text: &str) -> Result<Vec<Item>, PolicyError> {
    let mut parser = Parser { text, at: 0, line: 1, column: 1 };
    let items = parser.items(None, 0)?;
    Ok(items)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    column: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        self.column += 1;
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        }
        Some(c)
    }

    /// Skips bytes that are known to be ASCII without line breaks.
    fn skip_ascii(&mut self, length: usize) {
        self.at += length;
        self.column += length;
    }

    fn place(&self) -> Place {
        Place(self.line, self.column)
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, PolicyError> {
        self.place().error(message)
    }

    /// Skips white space and comments.
    fn skip(&mut self) -> Result<Option<char>, PolicyError> {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r' | '\n') => {
                    self.bump();
                }
                Some('#') => self.skip_line(),
                Some('/') if self.rest().starts_with("//") => self.skip_line(),
                Some('/') if self.rest().starts_with("/*") => {
                    let start = self.place();
                    let Some(length) = self.rest().get(2..).and_then(|rest| rest.find("*/")) else {
                        return start.error("comment is not closed");
                    };
                    let end = self.at + length + 4;
                    while self.at < end && self.bump().is_some() {}
                }
                other => return Ok(other),
            }
        }
    }

    fn skip_line(&mut self) {
        while !matches!(self.peek(), None | Some('\n')) {
            self.bump();
        }
    }

    /// Parses items up to `close`, or to the end of the text.
    fn items(&mut self, close: Option<char>, depth: usize) -> Result<Vec<Item>, PolicyError> {
        let mut items = Vec::new();
        loop {
            let next = self.skip()?;
            if next == close {
                self.bump();
                return Ok(items);
            }
            match next {
                None => return self.error("block is not closed"),
                Some(_) => items.push(self.item(depth)?),
            }
            if close.is_some() && self.skip()? == Some(',') {
                self.bump();
            }
        }
    }

    fn item(&mut self, depth: usize) -> Result<Item, PolicyError> {
        let place = self.place();
        let key = self.key()?;
        let mut labels = Vec::new();
        loop {
            match self.skip()? {
                Some('=') => {
                    self.bump();
                    self.skip()?;
                    let node = self.value(depth + labels.len())?;
                    return Ok(nest(place, key, labels, node));
                }
                Some('{') => {
                    let node = self.value(depth + labels.len())?;
                    return Ok(nest(place, key, labels, node));
                }
                Some('"') if labels.len() < MAX_DEPTH => labels.push((self.place(), self.string()?)),
                _ => return self.error("expected '=', '{' or a quoted label"),
            }
        }
    }

    fn key(&mut self) -> Result<String, PolicyError> {
        match self.peek() {
            Some('"') => self.string(),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => Ok(self.word()),
            _ => self.error("expected a key"),
        }
    }

    fn word(&mut self) -> String {
        let length = self.rest().bytes().take_while(|b| b.is_ascii_alphanumeric() || b"_-.".contains(b)).count();
        let word = self.rest().get(..length).unwrap_or_default().to_owned();
        self.skip_ascii(length);
        word
    }

    fn value(&mut self, depth: usize) -> Result<Node, PolicyError> {
        let place = self.place();
        if depth >= MAX_DEPTH {
            return place.error("nested too deeply");
        }
        let value = match self.peek() {
            Some('"') => Tree::Scalar(Value::String(self.string()?)),
            Some('[') => {
                self.bump();
                Tree::List(self.list(depth)?)
            }
            Some('{') => {
                self.bump();
                Tree::Object(self.items(Some('}'), depth + 1)?)
            }
            Some('<') => return place.error("here-documents are not supported: write a quoted string"),
            Some('-' | '+' | '0'..='9') => Tree::Scalar(Value::Number(self.number()?)),
            Some(c) if c.is_ascii_alphabetic() => match self.word().as_str() {
                "true" => Tree::Scalar(Value::Bool(true)),
                "false" => Tree::Scalar(Value::Bool(false)),
                word => return place.error(format!("expected a value, found '{}'", shown(word))),
            },
            _ => return place.error("expected a value"),
        };
        Ok(Node { place, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, PolicyError> {
        let mut nodes = Vec::new();
        loop {
            if self.skip()? == Some(']') {
                self.bump();
                return Ok(nodes);
            }
            nodes.push(self.value(depth + 1)?);
            match self.skip()? {
                Some(',') => {
                    self.bump();
                }
                Some(']') => {}
                _ => return self.error("expected ',' or ']'"),
            }
        }
    }

    fn number(&mut self) -> Result<Number, PolicyError> {
        let length = self.rest().bytes().take_while(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)).count();
        match self.rest().get(..length).unwrap_or_default().parse() {
            Ok(number) => {
                self.skip_ascii(length);
                Ok(number)
            }
            Err(_) => self.error("not a decimal number"),
        }
    }

    fn string(&mut self) -> Result<String, PolicyError> {
        let start = self.place();
        self.bump();
        let mut text = String::new();
        loop {
            if self.rest().starts_with("${") {
                return self.error("interpolation with ${} is not supported");
            }
            match self.bump() {
                None | Some('\n') => return start.error("string is not closed"),
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape()?),
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, PolicyError> {
        let place = self.place();
        Ok(match self.bump() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('"') => '"',
            Some('\\') => '\\',
            Some('u') => self.code_point(4, place)?,
            Some('U') => self.code_point(8, place)?,
            _ => return place.error("unknown escape in string"),
        })
    }

    fn code_point(&mut self, digits: usize, place: Place) -> Result<char, PolicyError> {
        let text = self.rest().get(..digits).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = text.and_then(|text| u32::from_str_radix(text, 16).ok()).and_then(char::from_u32);
        match code {
            Some(code) => {
                self.skip_ascii(digits);
                Ok(code)
            }
            None => place.error("escape is not a character"),
        }
    }
}

/// `key "a" "b" value` is `key { a { b value } }`.
fn nest(place: Place, key: String, labels: Vec<(Place, String)>, node: Node) -> Item {
    let node = labels
        .into_iter()
        .rev()
        .fold(node, |node, (place, key)| Node { place, value: Tree::Object(vec![Item { place, key, node }]) });
    Item { place, key, node }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(text: &str) -> Value {
        let place = Place::default();
        Node { place, value: Tree::Object(parse(text).expect(text)) }.to_json()
    }

    #[test]
    fn reads_the_forms_of_the_language() {
        let text = "# one\n// two\n/* three\n */ name = \"x\"\npath \"a/\\u0062\" { list = [\"c\", 1, -2.5, true,] }\n\
                    path \"d\" = { \"e\" = { f = [] }, g = false }";
        assert_eq!(
            shape(text).to_string(),
            r#"{"name":"x","path":{"d":{"e":{"f":[]},"g":false}}}"#,
            "the later block of the same key wins in this view"
        );
        let items = parse(text).expect("parses");
        assert_eq!(items[1].node.to_json().to_string(), r#"{"a/b":{"list":["c",1,-2.5,true]}}"#);
        assert_eq!(items.iter().map(|item| item.place).collect::<Vec<_>>(), [Place(4, 5), Place(5, 1), Place(6, 1)]);
    }

    #[test]
    fn reads_each_escape_and_comment() {
        assert_eq!(shape(r#"a = "\n\t\r\"\\\u00e9\U0001F600""#)["a"], "\n\t\r\"\\\u{e9}\u{1f600}");
        assert_eq!(shape("/* x */a = 1/**/b = 2//\n_c = 3#").to_string(), r#"{"_c":3,"a":1,"b":2}"#);
    }

    #[test]
    fn errors_have_their_place() {
        for (text, line, column, message) in [
            ("path \"a\" {", 1, 11, "block is not closed"),
            ("path \"a\" {\n  x = <<EOT\nEOT\n}", 2, 7, "here-documents are not supported: write a quoted string"),
            ("é = 1", 1, 1, "expected a key"),
            ("a = \"é\" b", 1, 10, "expected '=', '{' or a quoted label"),
            ("a = \"x", 1, 5, "string is not closed"),
            ("a = \"x\ny\"", 1, 5, "string is not closed"),
            ("a = \"${x}\"", 1, 6, "interpolation with ${} is not supported"),
            ("a = \"\\q\"", 1, 7, "unknown escape in string"),
            ("a = \"\\ud800\"", 1, 7, "escape is not a character"),
            ("a = [1 2]", 1, 8, "expected ',' or ']'"),
            ("a = maybe", 1, 5, "expected a value, found 'maybe'"),
            ("a = 0x1", 1, 5, "not a decimal number"),
            ("/* x", 1, 1, "comment is not closed"),
            ("a = ", 1, 5, "expected a value"),
            ("}", 1, 1, "expected a key"),
            ("/ x", 1, 1, "expected a key"),
            ("a = ]", 1, 5, "expected a value"),
            ("a = 1, b = 2", 1, 6, "expected a key"),
            ("a = \"\\u00e\"", 1, 7, "escape is not a character"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!((error.line, error.column, error.message.as_str()), (line, column, message), "{text}");
        }
        let deep = format!("a = {}", "[".repeat(100_000));
        assert_eq!(parse(&deep).expect_err("deep").message, "nested too deeply");
        let labels = format!("a {}", "\"x\" ".repeat(100_000));
        assert!(parse(&labels).is_err());
        let deep = "a {".repeat(100_000);
        assert_eq!(parse(&deep).expect_err("deep").message, "nested too deeply");
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,40}|[pathn =\"{}\\[\\],+*/#\\\\u0-9\n-]{0,60}") {
            let _ = parse(&text);
        }
    }
}
