//! The texts of the code that ships, as they are when it runs, and whether a sentence in them is torn apart.
//!
//! A `\` at the end of a line joins it to the next one. Where it was lost, the indentation of the source becomes part of
//! the message.

use super::imports::shipped_texts;

/// Deepest indentation of a line that continues nothing.
const DEEPEST_INDENT: usize = 4;

/// The lines in a file's texts that have a run of blanks inside a sentence.
pub fn torn(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for text in shipped_texts(source) {
        let mut column = None;
        for (number, line) in text.split('\n').enumerate() {
            let indent = line.len() - line.trim_start_matches(' ').len();
            // The next line of the same cell of a table.
            let continues = column == Some(indent);
            if (number > 0 && indent > DEEPEST_INDENT && !continues) || is_torn(line) {
                found.push(line.to_owned());
            }
            if !continues {
                column = line.trim_start().rfind("  ").map(|at| indent + at + 2);
            }
        }
    }
    found
}

/// Tables and examples also have runs of blanks: after one or two words, a command or a colon, or before the comment on a
/// setting. After more words it is a sentence.
fn is_torn(line: &str) -> bool {
    let cells: Vec<&str> = line.trim().split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    let is_cell =
        |cell: &str| cell.starts_with("strongroom") || cell.ends_with(':') || cell.split_whitespace().count() <= 2;
    cells.windows(2).any(|pair| !is_cell(pair[0]) && !pair[1].starts_with('#'))
}

#[test]
fn torn_sentences_are_told_from_tables() {
    let source = r##"
fn shipped() {
    let whole = "a damaged record of \
                 the vault";
    let table = "expires    {}\nlast seen  {} from here\n  strongroom get app/prod  shows names
                           of all keys";
    let torn = "an identity, a policy,              a role";
    let lost = "a damaged record of
                 the vault";
    // "a comment,   that nobody is shown"
    let raw = r#"one, two, three  four"#;
}

#[cfg(test)]
mod tests {
    const SAMPLE: &str = "this is a sample   of the tests";
}
"##;
    let lost = "                 the vault";
    assert_eq!(torn(source), ["an identity, a policy,              a role", lost, "one, two, three  four"]);
}
