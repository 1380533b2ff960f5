//! The check of JSON: it agrees with the library that reads afterwards, and a merge patch does what RFC 7396 says.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::json::{JsonCode, Limits, Object, Parsed, Value as Field, check as judge, merge_patch, write_str};

/// Two documents together may have twice the keys that one may have.
const BOTH: Limits = Limits { max_bytes: usize::MAX, max_depth: 33, max_keys: 20_000, max_string_bytes: usize::MAX };
const TIGHT: Limits = Limits { max_bytes: 64, max_depth: 3, max_keys: 4, max_string_bytes: 16 };

pub(crate) fn examples() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"data":{"a":"b","n":-1.5e3},"options":{"cas":0}}"#,
        "[1,2,[],{},null,true,false,\"\\u00e9\\ud83d\\ude00\\n\"]",
        " {\"a\" : 1 ,\r\n\t\"\\u0061b\":[0, -0, 1e999]} ",
        "{\"a\":{\"b\":1,\"c\":[1]},\"d\":2}\0{\"a\":{\"b\":null,\"e\":{\"f\":null,\"g\":3}},\"d\":{}}",
        "[1]\0{\"a\":{\"b\":null}}",
        "{\"a\":1}\0\"text\"",
        r#"{"a":1,"\u0061":2}"#,
        r#"["\ud800"]"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(crate) fn check(data: &[u8]) -> bool {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let document = parts.next().unwrap_or_default();
    let judged = judge(document, &Limits::default());
    assert!(judge(document, &TIGHT).is_err() || judged.is_ok(), "tighter limits never admit more");
    let read = serde_json::from_slice::<&RawValue>(document);
    match judged {
        Ok(()) => assert!(read.is_ok(), "accepted, but cannot be read"),
        Err(error) => {
            assert!(error.at <= document.len(), "the place is in the text");
            let not_json = matches!(error.code, JsonCode::Syntax | JsonCode::Trailing | JsonCode::Utf8);
            assert!(!not_json || read.is_err(), "refused as no JSON, but it is");
            return false;
        }
    }
    object(document);
    if let Some(patch) = parts.next() {
        patched(document, patch);
    }
    true
}

fn object(document: &[u8]) {
    let parsed = Parsed::of(document);
    let braces = document.trim_ascii_start().starts_with(b"{");
    assert_eq!(parsed.is_ok(), braces, "an object that was checked can be read");
    let Ok(parsed) = parsed else { return };
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    write(parsed.object(), &mut once);
    write(Parsed::of(&once).expect("what is written can be read").object(), &mut twice);
    assert!(once == twice, "written and read again it is the same");
    let value = |text: &[u8]| serde_json::from_slice::<Value>(text).ok();
    assert_eq!(value(&once), value(document), "each field was found at its place");
}

/// An object from its fields, and the objects in them from theirs.
fn write(object: Object<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (number, (name, field)) in object.entries().enumerate() {
        assert!(judge(field.raw().as_bytes(), &Limits::default()).is_ok(), "a field of a checked text is checked");
        assert_eq!(object.get(name).map(Field::raw), Some(field.raw()), "a name finds its own field");
        if number > 0 {
            out.push(b',');
        }
        write_str(out, name);
        out.push(b':');
        match field.object() {
            Some(inner) => write(inner, out),
            None => out.extend_from_slice(field.raw().as_bytes()),
        }
    }
    out.push(b'}');
}

fn patched(document: &[u8], patch: &[u8]) {
    let Ok(once) = merge_patch(document, patch) else {
        assert!(judge(patch, &Limits::default()).is_err(), "two good documents can be merged");
        return;
    };
    assert!(once.len() <= document.len() + patch.len() + 2, "the result fits into the buffer of the promised size");
    assert!(judge(&once, &BOTH).is_ok(), "the result is JSON");
    if let Ok(twice) = merge_patch(&once, patch) {
        assert_eq!(*twice, *once, "the same patch changes nothing the second time");
    }
    let value = |text: &[u8]| serde_json::from_slice::<Value>(text).ok();
    // A number out of range has no value there; ours keeps its spelling.
    if let (Some(mut target), Some(patch), Some(result)) = (value(document), value(patch), value(&once)) {
        by_the_book(&mut target, &patch);
        assert_eq!(result, target, "as RFC 7396, section 2, has it");
    }
}

/// The algorithm of RFC 7396, section 2, on parsed values.
fn by_the_book(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            by_the_book(fields.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}
