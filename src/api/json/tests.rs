use super::*;
use proptest::prelude::*;
use serde_json::{Map, Value as Tree};

fn code(text: &[u8], limits: &Limits) -> Option<JsonCode> {
    check(text, limits).err().map(|error| error.code)
}

#[test]
fn accepts_json() {
    for text in [
        "{}",
        "[]",
        "null",
        " true ",
        "-0.5e+3",
        "0",
        "\"\"",
        "[1,[2,{\"a\":[]}],{}]",
        "{\"a\":{\"a\":1},\"b\":2}",
        "\"\\ud83d\\ude00\\n\\/\"",
        "123456789012345678901234567890.5e999999",
        "\"é\u{10ffff}\"",
        "\t{\r\n}\n",
    ] {
        assert_eq!(code(text.as_bytes(), &Limits::default()), None, "{text}");
    }
}

#[test]
fn names_the_offence() {
    use JsonCode::*;
    for (text, want) in [
        ("", Syntax),
        ("{", Syntax),
        ("[1,]", Syntax),
        ("{\"a\"}", Syntax),
        ("{\"a\":1,}", Syntax),
        ("01", Trailing),
        ("1.", Syntax),
        ("-", Syntax),
        ("1e", Syntax),
        (".5", Syntax),
        ("+1", Syntax),
        ("nul", Syntax),
        ("NaN", Syntax),
        ("{a:1}", Syntax),
        ("'a'", Syntax),
        ("\"a", Syntax),
        ("\"\n\"", Syntax),
        ("\"\\x\"", Syntax),
        ("[1 2]", Syntax),
        ("\"\\u12\"", Syntax),
        ("\"\\u+123\"", Syntax),
        ("1 2", Trailing),
        ("{}x", Trailing),
        ("[}", Syntax),
        ("\"\\ud800\"", LoneSurrogate),
        ("\"\\udc00\"", LoneSurrogate),
        ("\"\\ud800\\u0041\"", LoneSurrogate),
        ("\"\\ud800\\n\"", LoneSurrogate),
        ("{\"a\":1,\"a\":2}", DuplicateKey),
        ("{\"a\":1,\"\\u0061\":2}", DuplicateKey),
        ("{\"x\":[{\"k\":1,\"k\":1}]}", DuplicateKey),
        ("{\"b\":1,\"a\":{\"b\":1},\"b\":1}", DuplicateKey),
        ("/**/1", Syntax),
    ] {
        assert_eq!(code(text.as_bytes(), &Limits::default()), Some(want), "{text}");
    }
    assert_eq!(code(b"\"\xff\"", &Limits::default()), Some(Utf8));
    assert_eq!(check(b"[1,x]", &Limits::default()).map_err(|e| e.at), Err(3));
}

#[test]
fn keeps_the_limits() {
    let limits = Limits { max_bytes: 40, max_depth: 3, max_keys: 2, max_string_bytes: 4 };
    for (text, want) in [
        ("[[[1]]]", None),
        ("[[[[]]]]", Some(JsonCode::TooDeep)),
        ("{\"a\":[{\"b\":1}]}", None),
        ("[{\"a\":1},{\"a\":1},{\"a\":1}]", Some(JsonCode::TooManyKeys)),
        ("\"abcd\"", None),
        ("\"abcde\"", Some(JsonCode::StringTooLong)),
        ("                                         1", Some(JsonCode::TooLong)),
    ] {
        assert_eq!(code(text.as_bytes(), &limits), want, "{text}");
    }
    let bomb = "[".repeat(1_000_000);
    assert_eq!(code(bomb.as_bytes(), &Limits::default()), Some(JsonCode::TooDeep));
}

#[test]
fn objects_keep_raw_text() {
    let parsed = Parsed::of(b" {\"a\": 1.000, \"\\u0062\":{\"x\" : [1]} }").expect("an object");
    let object = parsed.object();
    assert_eq!(object.get("a").map(Value::raw), Some("1.000"));
    assert_eq!(object.get("b").map(Value::raw), Some("{\"x\" : [1]}"));
    assert!(object.get("c").is_none());
    assert_eq!(object.keys().collect::<Vec<_>>(), ["a", "b"]);
    for (text, want) in [
        ("[]", JsonCode::NotAnObject),
        ("1", JsonCode::NotAnObject),
        ("", JsonCode::NotAnObject),
        ("{", JsonCode::Syntax),
        ("{\"a\":1,\"a\":1}", JsonCode::DuplicateKey),
        ("{}{}", JsonCode::Trailing),
    ] {
        assert_eq!(Parsed::of(text.as_bytes()).err().map(|error| error.code), Some(want), "{text}");
    }
}

#[test]
fn merges_as_the_rfc_says() {
    // RFC 7396, appendix A, and numbers no float can hold.
    for (target, patch, want) in [
        ("{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"),
        ("{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"),
        ("{\"a\":\"b\"}", "{\"a\":null}", "{}"),
        ("{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"),
        ("{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"),
        ("{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"),
        ("{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"),
        ("[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"),
        ("{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"),
        ("{\"a\":\"foo\"}", "null", "null"),
        ("{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"),
        ("[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"),
        ("{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"),
        ("{\"n\":1.10e400,\"m\":1}", "{\"m\":123456789012345678901}", "{\"n\":1.10e400,\"m\":123456789012345678901}"),
    ] {
        let merged = merge_patch(target.as_bytes(), patch.as_bytes()).expect(target);
        assert_eq!(std::str::from_utf8(&merged), Ok(want));
    }
}

fn reference_merge(target: &mut Tree, patch: &Tree) {
    let Tree::Object(fields) = patch else { return *target = patch.clone() };
    if !target.is_object() {
        *target = Tree::Object(Map::new());
    }
    let Tree::Object(own) = target else { unreachable!("just made one") };
    for (key, value) in fields {
        if value.is_null() {
            own.remove(key);
        } else {
            reference_merge(own.entry(key.clone()).or_insert(Tree::Null), value);
        }
    }
}

fn any_value() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Bool),
        any::<i64>().prop_map(Tree::from),
        "[a\"\\\\\n\u{1}é😀]{0,4}".prop_map(Tree::String),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::Array),
            prop::collection::vec(("[ab\"\n]{0,2}", inner), 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// Every field that a tree of values knows is where the layout says, with its text.
fn agrees(object: Object<'_>, tree: &Tree) {
    let Tree::Object(want) = tree else { panic!("{tree} is no object") };
    assert_eq!(object.len(), want.len());
    assert_eq!(object.is_empty(), want.is_empty());
    for (name, value) in object.entries() {
        let want = want.get(name).unwrap_or_else(|| panic!("{name} is not there"));
        assert_eq!(&serde_json::from_str::<Tree>(value.raw()).expect("JSON"), want, "{name}");
        assert_eq!(object.get(name).map(Value::raw), Some(value.raw()));
        assert_eq!((value.object().is_some(), value.is_null()), (want.is_object(), want.is_null()));
        if let Some(inner) = value.object() {
            agrees(inner, want);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn merge_agrees_with_a_tree(target in any_value(), patch in any_value()) {
        let (left, right) = (target.to_string(), patch.to_string());
        let merged = merge_patch(left.as_bytes(), right.as_bytes()).expect("both are json");
        prop_assert!(merged.len() <= left.len() + right.len());
        let mut want = target;
        reference_merge(&mut want, &patch);
        prop_assert_eq!(serde_json::from_slice::<Tree>(&merged).expect("json"), want);
    }

    #[test]
    fn fields_are_found_where_they_stand(value in any_value(), blank in "[ \t\r\n]{0,3}") {
        let value = serde_json::json!({ "v": value, "a\"b": [{ "x": 1 }], "": {} });
        for text in [value.to_string(), serde_json::to_string_pretty(&value).expect("JSON")] {
            let text = format!("{blank}{text}{blank}");
            let parsed = Parsed::of(text.as_bytes()).expect("an object");
            agrees(parsed.object(), &value);
        }
    }

    #[test]
    fn judges_like_serde(value in any_value(), cut in any::<prop::sample::Index>(), junk in "[\\[\\]{}\",:0-9.eE+\\\\u dDcC-]{0,2}") {
        let whole = value.to_string();
        prop_assert_eq!(check(whole.as_bytes(), &Limits::default()), Ok(()));
        let chars: Vec<char> = whole.chars().collect();
        let at = cut.index(chars.len());
        let text: String = chars[..at].iter().copied().chain(junk.chars()).chain(chars[at + 1..].iter().copied()).collect();
        let ours = code(text.as_bytes(), &Limits::default());
        if ours != Some(JsonCode::DuplicateKey) {
            let theirs = serde_json::from_str::<Tree>(&text);
            let range = theirs.as_ref().is_err_and(|error| error.to_string().contains("out of range"));
            prop_assert!(range || ours.is_none() == theirs.is_ok(), "{}: {:?} {:?}", text, ours, theirs);
        }
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[\\[\\]{}\",:0-9a\\\\u]{0,40}") {
        for input in [bytes.as_slice(), text.as_bytes()] {
            let valid = check(input, &Limits::default()).is_ok();
            let object = input.trim_ascii_start().first() == Some(&123);
            prop_assert!(!valid || Parsed::of(input).is_ok() == object);
            prop_assert!(!valid || merge_patch(input, input).is_ok());
        }
    }

    #[test]
    fn strings_read_back(text in "\\PC{0,8}|[\\x00-\\x7f]{0,8}") {
        let mut out = Vec::new();
        write_str(&mut out, &text);
        prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("a string"), text);
    }
}
