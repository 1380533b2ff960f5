//! Canonical paths: what is accepted is its own spelling, and moving through the tree never leaves the rules.

use crate::api::path::{MAX_BYTES, MAX_SEGMENT_BYTES, MAX_SEGMENTS, Path};

pub(crate) fn examples() -> Vec<Vec<u8>> {
    let deep = ["a"; MAX_SEGMENTS].join("/");
    let longest = "b".repeat(MAX_SEGMENT_BYTES);
    // As long as a path may be: eight segments of 127 bytes and their slashes, and one byte more in the last.
    let full = format!("{}/{longest}", ["c".repeat(127).as_str(); 7].join("/"));
    let texts =
        ["", "secret/data/app", "sys/policies/acl/", "a", "A-Z_0.9@x:y=z~", "...", "a%2Fb", "a%41", "a//b", "a/../b"];
    texts.into_iter().chain([&*deep, &*longest, &*full]).map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn check(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let (read, plain) = (Path::parse_uri(&text), Path::parse(&text));
    assert!(text.contains('%') || read == plain, "the two readers disagree");
    assert!(!text.contains('%') || read.is_err() && plain.is_err(), "an escape was accepted");
    let Ok(path) = read else { return false };

    assert_eq!(path.as_str(), text, "what is accepted is kept as it was written");
    assert!(path.leaf_str().len() <= MAX_BYTES);
    let names: Vec<&str> = path.segments().collect();
    assert!(names.len() <= MAX_SEGMENTS);
    for name in &names {
        assert!((1..=MAX_SEGMENT_BYTES).contains(&name.len()) && *name != "." && *name != "..");
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.@:=~-".contains(&byte)), "alphabet");
    }
    let joined = names.iter().try_fold(Path::root(), |path, name| path.join(name));
    assert_eq!(joined, Ok(path.to_leaf()), "the names make the path");
    for form in [path.to_leaf(), path.to_folder()] {
        assert_eq!(Path::parse(form.as_str()), Ok(form.clone()), "both forms of a path are paths");
        assert_eq!((form.to_leaf(), form.to_folder()), (path.to_leaf(), path.to_folder()));
        assert!(form.is_root() == path.is_root() && form.strip_prefix(&Path::root()) == Some(form.clone()));
    }
    match (path.parent(), names.last()) {
        (None, None) => assert!(path.is_root()),
        (Some(parent), Some(name)) => {
            assert!(parent.is_folder() && parent.join(name) == Ok(path.to_leaf()));
            assert_eq!(path.to_leaf().strip_prefix(&parent).as_ref().map(Path::as_str), Some(*name));
        }
        _ => panic!("every path but the root has a parent and a name"),
    }
    true
}
