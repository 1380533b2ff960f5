//! Patterns with stars, as in Vault's roles.

/// Whether `text` matches `pattern`, in which each `*` stands for any text, including none. Case matters.
///
/// Needs linear memory and no backtracking. The first match of each middle part is enough, because a later one only
/// leaves less text for the rest.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(head) else { return false };
    let (middle, end) = tail.rsplit_once('*').unwrap_or(("", tail));
    for part in middle.split('*') {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, by trying everything.
    fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
        let mut row = vec![false; text.len() + 1];
        row[0] = true;
        for byte in pattern {
            let mut next = vec![false; text.len() + 1];
            for at in 0..=text.len() {
                next[at] = if *byte == b'*' {
                    row[at] || at > 0 && next[at - 1]
                } else {
                    at > 0 && row[at - 1] && text[at - 1] == *byte
                };
            }
            row = next;
        }
        row[text.len()]
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, want) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("**", "anything", true),
            ("a", "A", false),
            ("*.example.org", "web.example.org", true),
            ("*.example.org", "example.org", false),
            ("*.example.org", "web.example.org.evil.net", false),
            ("web-*", "web-1", true),
            ("web-*", "a-web-1", false),
            ("a*b*c", "a-c-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
            ("*ab*", "xaab", true),
            ("a*a*a", "aa", false),
            ("spiffe://x/*/web", "spiffe://x/a/b/web", true),
            ("?", "a", false),
            ("ü*", "über", true),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_cost_little() {
        let pattern = "a*".repeat(1_000) + "b";
        assert!(!matches(&pattern, &"a".repeat(100_000)));
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &text), by_definition(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn never_panics(pattern in "\\PC{0,20}", text in "\\PC{0,20}") {
            prop_assert!(!matches(&pattern, &text) || by_definition(pattern.as_bytes(), text.as_bytes()));
            prop_assert!(matches(&text, &text));
        }
    }
}
