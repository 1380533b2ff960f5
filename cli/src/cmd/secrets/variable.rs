//! Keys that make `run` refuse to start a program.

use strongroom::dotenv::is_portable_name;
use strongroom::exec::danger;

/// The warning for a key that `run` rejects; `None` for a usual one.
#[must_use]
pub fn warning(path: &str, key: &str) -> Option<String> {
    let (why, way) = if !is_portable_name(key) {
        (
            "is not the name of a variable".to_owned(),
            format!("leave it out with --only, or pass it with --map {key}=NAME"),
        )
    } else if let Some(reason) = danger(key) {
        (reason.to_owned(), format!("allow it with --allow {key}"))
    } else {
        return None;
    };
    Some(format!(
        "{key} {why}: strongroom run {path} will now refuse to start programs unless its users {way}\n  to remove it: \
         strongroom unset {path} {key}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_consequence_and_the_way_out_are_named() {
        for usual in ["API_KEY", "a", "_X9"] {
            assert_eq!(warning("app/prod", usual), None);
        }
        for (key, way) in
            [("BAD-NAME", "--map BAD-NAME=NAME"), ("9", "--only"), ("PATH", "--allow PATH"), ("LD_PRELOAD", "--allow")]
        {
            let text = warning("app/prod", key).unwrap();
            assert!(text.contains("run app/prod will now refuse to start programs") && text.contains(way), "{text}");
        }
    }
}
