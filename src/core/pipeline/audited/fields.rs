//! Fields of requests and replies as the audit module takes them. Values are passed as bytes and appear in the log only as
//! keyed hashes.

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::api::json::Object;
use crate::audit::MAX_FIELDS;

/// Names with values: for a string its text without quotes and escapes, otherwise the JSON text.
#[derive(Default)]
pub(in crate::core) struct Fields<'a>(Vec<(Cow<'a, str>, Bytes<'a>)>);

enum Bytes<'a> {
    Text(&'a [u8]),
    /// A string with escapes, decoded. Wiped, because it may be a secret.
    Decoded(Zeroizing<String>),
}

impl AsRef<[u8]> for Bytes<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Text(text) => text,
            Self::Decoded(text) => text.as_bytes(),
        }
    }
}

impl<'a> Fields<'a> {
    /// The fields in the form for the audit module.
    pub(in crate::core) fn borrow(&self) -> Vec<(&str, &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, value.as_ref())).collect()
    }

    /// Adds a value, given as JSON text.
    pub(super) fn push(&mut self, name: Cow<'a, str>, json: &'a str) {
        let plain = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let value = match plain {
            Some(text) if text.contains('\\') => match serde_json::from_str::<String>(json) {
                Ok(decoded) => Bytes::Decoded(Zeroizing::new(decoded)),
                Err(_) => Bytes::Text(json.as_bytes()),
            },
            Some(text) => Bytes::Text(text.as_bytes()),
            None => Bytes::Text(json.as_bytes()),
        };
        self.0.push((name, value));
    }

    /// Adds the keys of a secret one by one.
    pub(super) fn secret(&mut self, secret: Object<'a>) {
        // The audit module reports when there are more fields than its limit, so it gets one more than that.
        for (name, value) in secret.entries().take(MAX_FIELDS + 1) {
            self.push(format!("data.{name}").into(), value.raw());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::request::Body;

    fn pairs<'a>(fields: &'a Fields<'_>) -> Vec<(&'a str, &'a str)> {
        fields.borrow().into_iter().map(|(name, value)| (name, std::str::from_utf8(value).expect("text"))).collect()
    }

    #[test]
    fn strings_lose_their_quotes_and_escapes() {
        let text = r#"{"plain":"a b","escaped":"a\u0020\"b","number":1.50,"list":["x"],"empty":"","null":null}"#;
        let (body, mut fields) = (Body::of(text), Fields::default());
        fields.secret(body.object());
        let want = [
            ("data.plain", "a b"),
            ("data.escaped", "a \"b"),
            ("data.number", "1.50"),
            ("data.list", "[\"x\"]"),
            ("data.empty", ""),
            ("data.null", "null"),
        ];
        assert_eq!(pairs(&fields), want);
    }

    proptest! {
        #[test]
        fn every_spelling_of_a_string_is_one_value(text in "\\PC{0,20}") {
            let json = serde_json::to_string(&text).expect("a string serialises");
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            let spelt = format!("\"{escaped}\"");
            let mut fields = Fields::default();
            fields.push("a".into(), &json);
            fields.push("b".into(), &spelt);
            let pairs = pairs(&fields);
            prop_assert_eq!(pairs[0].1, &text);
            prop_assert_eq!(pairs[1].1, &text);
        }
    }
}
