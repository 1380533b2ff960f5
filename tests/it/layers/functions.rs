//! How many lines of code the functions of a file have, read off the source as rustfmt leaves it.

use super::imports::shipped;

/// Every function that ships, also inside another one, with the lines of its body. Comments and blank lines are left out.
/// A text of several lines counts as one.
pub fn functions(text: &str) -> Vec<(String, usize)> {
    let code = shipped(text);
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = name_of(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let ends = |line: &&str| line.trim_end().ends_with(['{', '}', ';']);
        let head = lines[at..].iter().position(ends).map_or(lines.len(), |head| at + head);
        // A declaration, or all of it on one line.
        if !lines.get(head).is_some_and(|line| line.trim_end().ends_with('{')) {
            found.push((name, 0));
            continue;
        }
        let closes = |line: &&&str| line.strip_prefix(indent).is_some_and(|rest| rest.trim_end() == "}");
        let body = lines[head + 1..].iter().take_while(|line| !closes(line));
        found.push((name, body.filter(|line| !line.trim().is_empty()).count()));
    }
    found
}

/// The name of the function whose head begins here.
fn name_of(line: &str) -> Option<String> {
    let mut rest = line.trim_start();
    if let Some(public) = rest.strip_prefix("pub") {
        rest = public.split_once(' ')?.1;
        // `pub(in crate::core)`
        rest = if public.starts_with("(in ") { rest.split_once(' ')?.1 } else { rest };
    }
    for word in ["const ", "async ", "unsafe "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    Some(name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect())
}

#[test]
fn lines_of_code_are_counted() {
    let text = "\
pub(super) fn one(a: u8) -> u8 {
    // Why.
    let text = \"}
{\";

    a
}

impl It {
    pub(in crate::core) const fn two(
        self,
    ) -> u8 {
        fn three() {
            ();
        }
        match self {
            It => 2,
        }
    }
    fn four() {}
}

#[cfg(test)]
mod tests {
    fn five() {
        ();
    }
}
";
    let counted = functions(text);
    let counted: Vec<(&str, usize)> = counted.iter().map(|(name, lines)| (name.as_str(), *lines)).collect();
    assert_eq!(counted, [("one", 2), ("two", 6), ("three", 1), ("four", 0)]);
}
