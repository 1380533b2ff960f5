//! The common form of both policy syntaxes, HCL and JSON.

use serde_json::Value;

/// Longest policy text in bytes.
pub(super) const MAX_TEXT: usize = 1 << 20;
/// Maximum nesting of lists and objects.
pub(super) const MAX_DEPTH: usize = 16;

/// Why a policy text was rejected. The message may quote the policy, which is not secret.
///
/// ```
/// use strongroom::policy::Policy;
///
/// let error = Policy::parse("path \"secret/*\" {\n  capabilities = [\"reed\"]\n}").unwrap_err();
/// assert_eq!(error.line, 2);
/// assert!(error.to_string().starts_with("2:") && error.message.contains("reed"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}{message}", place = if *.line == 0 { String::new() } else { format!("{}:{}: ", .line, .column) })]
pub struct PolicyError {
    /// Line, counted from 1; 0 for the text as a whole.
    pub line: usize,
    /// Column, counted from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// A position in the text: line and column from 1, or zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place(pub usize, pub usize);

impl Place {
    pub(super) fn error<T>(self, message: impl Into<String>) -> Result<T, PolicyError> {
        Err(PolicyError { line: self.0, column: self.1, message: message.into() })
    }

    /// The position of a byte offset.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // Continuation bytes of a character are not columns of their own.
        let columns = before.iter().skip(line_start).filter(|byte| **byte & 0xc0 != 0x80).count();
        Self(before.iter().filter(|byte| **byte == b'\n').count() + 1, columns + 1)
    }
}

/// A value with its position.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub place: Place,
    pub value: Tree,
}

/// A value. Scalars are JSON scalars.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    Scalar(Value),
    List(Vec<Node>),
    /// Items in order. A key with labels, as in `path "x" { }`, is an item whose value has one item per label.
    Object(Vec<Item>),
}

/// `key = value` or `key { }`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub place: Place,
    pub key: String,
    pub node: Node,
}

impl Node {
    /// A JSON value that has passed the checks of [`crate::api::json`], so its depth is at most 32.
    pub(super) fn from_json(value: Value) -> Self {
        let place = Place::default();
        let value = match value {
            Value::Array(items) => Tree::List(items.into_iter().map(Self::from_json).collect()),
            Value::Object(fields) => Tree::Object(
                fields.into_iter().map(|(key, value)| Item { place, key, node: Self::from_json(value) }).collect(),
            ),
            scalar => Tree::Scalar(scalar),
        };
        Self { place, value }
    }

    /// The value as JSON, to compare with request fields.
    pub(super) fn to_json(&self) -> Value {
        match &self.value {
            Tree::Scalar(scalar) => scalar.clone(),
            Tree::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Tree::Object(items) => {
                Value::Object(items.iter().map(|item| (item.key.clone(), item.node.to_json())).collect())
            }
        }
    }
}

/// A word of the policy, shortened for a message.
pub(super) fn shown(word: &str) -> String {
    let mut text: String = word.chars().take(64).filter(|c| !c.is_control()).collect();
    if word.chars().count() > 64 {
        text.push_str("...");
    }
    text
}
