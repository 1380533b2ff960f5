//! Makes text from elsewhere safe for a terminal.
//!
//! Names of keys, reasons, labels and messages come from anyone who could write them. A terminal interprets control
//! characters in them: it moves the cursor, renames its window, fills the clipboard, or shows a line that nobody wrote.

use std::borrow::Cow;

use strongroom::wiped::Buffer;

/// Sequences that this program itself sends to a terminal; see `Output::strong`. They do no harm in text from
/// elsewhere.
const OWN: [&str; 2] = ["\x1b[1m", "\x1b[0m"];

/// Returns `text` with an escape, as in JSON, for every character that a terminal would interpret or that changes the
/// order of others. Line ends and tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    // This may be a secret value.
    let mut shown = Buffer::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let own = OWN.into_iter().find(|own| rest.starts_with(own));
        let length = own.map_or(next.len_utf8(), str::len);
        let (now, later) = rest.split_at(length);
        if own.is_none() && is_obeyed(next) {
            shown.text(&format!("\\u{:04x}", u32::from(next)));
        } else {
            shown.text(now);
        }
        rest = later;
    }
    Cow::Owned(std::mem::take(&mut *shown.into_text()))
}

fn is_obeyed(letter: char) -> bool {
    let control = letter.is_control() && !matches!(letter, '\n' | '\t');
    // Direction marks, line separators and paragraph separators.
    control || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_out() {
        for (text, want) in [
            ("plain, \u{fc}ml\u{e4}uts\tand\nlines", "plain, \u{fc}ml\u{e4}uts\tand\nlines"),
            ("a\x1b]52;c;Y3VybA==\x07b", "a\\u001b]52;c;Y3VybA==\\u0007b"),
            ("a\rb\x08\x7f", "a\\u000db\\u0008\\u007f"),
            ("\u{9b}2J", "\\u009b2J"),
            ("user\u{202e}nimda", "user\\u202enimda"),
            ("\x1b[1mstrong\x1b[0m\x1b[2J", "\x1b[1mstrong\x1b[0m\\u001b[2J"),
        ] {
            assert_eq!(visible(text), want);
        }
        assert!(matches!(visible("nothing to do"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_stays_json() {
        let text = serde_json::to_string(&serde_json::json!({"a\u{9b}\u{7f}": "\x1b\u{2028}"})).unwrap();
        let read: serde_json::Value = serde_json::from_str(&visible(&text)).unwrap();
        assert_eq!(read, serde_json::json!({"a\u{9b}\u{7f}": "\x1b\u{2028}"}));
    }
}
