//! Which file uses which, read off the source: paths are followed through re-exports to the file that defines the name.
//!
//! It reads text, not types, so it sees what a `use` line or a written path names, and nothing that is only inferred.
//! Code that is compiled for tests alone is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module as segments; the first names the crate.
type Module = Vec<String>;

/// One source file.
struct Source {
    path: PathBuf,
    /// Names of child modules, with or without a file of their own.
    children: BTreeSet<String>,
    /// What a name that is brought into scope stands for, as an absolute path.
    names: BTreeMap<String, Module>,
    /// Modules whose names are all brought into scope.
    globs: Vec<Module>,
    /// Paths that are written out.
    paths: Vec<Module>,
    /// Names that are passed on to others and not used here: a name for a neighbour, and no need for it.
    passed_on: BTreeSet<String>,
}

/// All files of some crates.
pub struct Imports {
    sources: BTreeMap<Module, Source>,
}

impl Imports {
    /// Reads the files below each folder; `roots` are pairs of a name for the crate and its source folder.
    pub fn read(roots: &[(&str, PathBuf)]) -> Self {
        let mut sources = BTreeMap::new();
        for (name, folder) in roots {
            for file in ["lib.rs", "main.rs"] {
                read_module(&folder.join(file), folder, &[(*name).to_owned()], &mut sources);
            }
        }
        Self { sources }
    }

    /// For each file the files that it uses.
    pub fn arrows(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let mut arrows = BTreeMap::new();
        for (module, source) in &self.sources {
            let needed =
                source.names.iter().filter(|(name, _)| !source.passed_on.contains(*name)).map(|(_, path)| path);
            let named = source.paths.iter().chain(needed).chain(&source.globs);
            let used: BTreeSet<&Path> = named
                .filter_map(|path| self.file_of(module, path, 0))
                .filter(|file| *file != source.path.as_path())
                .collect();
            arrows.insert(source.path.as_path(), used);
        }
        arrows
    }

    /// The file that defines what `path`, written in `module`, leads to. A path to a module alone leads nowhere: what is
    /// taken from it stands in another path.
    fn file_of(&self, module: &Module, path: &Module, depth: usize) -> Option<&Path> {
        if depth > 16 {
            return None;
        }
        let mut at = module.clone();
        let mut rest = path.as_slice();
        if self.sources.contains_key(&path[..1]) && !self.in_scope(module, &path[0]) {
            at = path[..1].to_vec();
            rest = &path[1..];
        }
        while let Some((name, behind)) = rest.split_first() {
            let source = self.sources.get(&at)?;
            let child: Module = at.iter().chain([name]).cloned().collect();
            if source.children.contains(name) && self.sources.contains_key(&child) {
                at = child;
                rest = behind;
            } else if let Some(target) = source.names.get(name) {
                let onward: Module = target.iter().chain(behind).cloned().collect();
                return (onward != *path || at != *module).then(|| self.file_of(&at, &onward, depth + 1)).flatten();
            } else {
                let through_glob = source.globs.iter().find_map(|glob| {
                    let onward: Module = glob.iter().chain(rest).cloned().collect();
                    self.file_of(&at, &onward, depth + 1).filter(|file| *file != source.path)
                });
                return through_glob.or(Some(&source.path)).filter(|_| at != *module);
            }
        }
        None
    }

    fn in_scope(&self, module: &Module, name: &str) -> bool {
        self.sources.get(module).is_some_and(|source| source.children.contains(name) || source.names.contains_key(name))
    }
}

/// Groups of files of which each reaches every other, larger than one, the largest first (Tarjan 1972, by reachability:
/// there are a few hundred files).
pub fn circles<'a>(arrows: &BTreeMap<&'a Path, BTreeSet<&'a Path>>) -> Vec<Vec<&'a Path>> {
    let reach: BTreeMap<&Path, BTreeSet<&Path>> = arrows
        .keys()
        .map(|from| {
            let mut seen = BTreeSet::new();
            let mut open: Vec<&Path> = arrows[from].iter().copied().collect();
            while let Some(file) = open.pop() {
                if seen.insert(file) {
                    open.extend(arrows.get(file).into_iter().flatten());
                }
            }
            (*from, seen)
        })
        .collect();
    let mut done = BTreeSet::new();
    let mut found = Vec::new();
    for (from, seen) in &reach {
        if !seen.contains(from) || done.contains(from) {
            continue;
        }
        let circle: Vec<&Path> = seen.iter().copied().filter(|file| reach[file].contains(from)).collect();
        done.extend(circle.iter().copied());
        if circle.len() > 1 {
            found.push(circle);
        }
    }
    found.sort_by_key(|circle: &Vec<&Path>| std::cmp::Reverse(circle.len()));
    found
}

fn read_module(file: &Path, folder: &Path, module: &[String], into: &mut BTreeMap<Module, Source>) {
    let Ok(text) = std::fs::read_to_string(file) else { return };
    let code = shipped(&text);
    let tokens = tokens(&code);
    let mut source = Source {
        path: file.to_path_buf(),
        children: BTreeSet::new(),
        names: BTreeMap::new(),
        globs: Vec::new(),
        paths: Vec::new(),
        passed_on: BTreeSet::new(),
    };
    let mut mentioned: BTreeSet<&str> = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        match (tokens[at].as_str(), tokens.get(at + 1)) {
            ("mod", Some(name)) if tokens.get(at + 2).is_some_and(|end| end == ";") => {
                source.children.insert(name.clone());
                at += 3;
            }
            ("use", _) => {
                let end = (at..tokens.len()).find(|n| tokens[*n] == ";").unwrap_or(tokens.len());
                let before: BTreeSet<String> = source.names.keys().cloned().collect();
                take_use(&tokens[at + 1..end], &mut Vec::new(), module, &mut source);
                if at > 0 && matches!(tokens[at - 1].as_str(), "pub" | ")") {
                    source.passed_on.extend(source.names.keys().filter(|name| !before.contains(*name)).cloned());
                }
                at = end + 1;
            }
            (first, Some(colons)) if colons == "::" && is_name(first) => {
                mentioned.insert(first);
                let mut path = vec![first.to_owned()];
                at += 1;
                while at + 1 < tokens.len() && tokens[at] == "::" && is_name(&tokens[at + 1]) {
                    path.push(tokens[at + 1].clone());
                    at += 2;
                }
                at = at.max(1);
                source.paths.extend(absolute(&path, module));
            }
            (token, _) => {
                mentioned.insert(token);
                at += 1;
            }
        }
    }
    source.passed_on.retain(|name| !mentioned.contains(name.as_str()));
    // `a.rs` and `a/mod.rs` have their children in `a/`; `lib.rs` and `main.rs` beside them.
    let home = if module.len() == 1 || file.ends_with("mod.rs") {
        file.parent().unwrap_or(folder).to_path_buf()
    } else {
        file.with_extension("")
    };
    let children = source.children.clone();
    // The second root of a package adds to the first.
    if let Some(known) = into.get_mut(module) {
        known.children.extend(source.children);
        known.names.extend(source.names);
    } else {
        into.insert(module.to_vec(), source);
    }
    for child in children {
        let path: Module = module.iter().cloned().chain([child.clone()]).collect();
        for file in [home.join(format!("{child}.rs")), home.join(&child).join("mod.rs")] {
            read_module(&file, folder, &path, into);
        }
    }
}

/// A use tree, flattened.
fn take_use(tokens: &[String], prefix: &mut Vec<String>, module: &[String], source: &mut Source) {
    let depth = prefix.len();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "::" => at += 1,
            "{" => {
                let mut open = 0;
                let mut start = at + 1;
                for n in at..tokens.len() {
                    match tokens[n].as_str() {
                        "{" => open += 1,
                        "}" => open -= 1,
                        _ => {}
                    }
                    if (tokens[n] == "," && open == 1) || (tokens[n] == "}" && open == 0) {
                        take_use(&tokens[start..n], prefix, module, source);
                        start = n + 1;
                    }
                    if open == 0 {
                        break;
                    }
                }
                prefix.truncate(depth);
                return;
            }
            "*" => {
                source.globs.extend(absolute(prefix, module));
                prefix.truncate(depth);
                return;
            }
            "as" => break,
            name => {
                if name != "self" || prefix.is_empty() {
                    prefix.push(name.to_owned());
                }
                at += 1;
            }
        }
    }
    let shown = if tokens.get(at).is_some_and(|token| token == "as") { tokens.get(at + 1) } else { prefix.last() };
    if let (Some(shown), Some(path)) = (shown.cloned(), absolute(prefix, module)) {
        source.names.insert(shown, path);
    }
    prefix.truncate(depth);
}

/// `crate`, `self` and `super` resolved; other paths stay relative to the scope of their module.
fn absolute(path: &[String], module: &[String]) -> Option<Module> {
    let mut base = match path.first()?.as_str() {
        "crate" => module[..1].to_vec(),
        "self" => module.to_vec(),
        "super" => module.to_vec(),
        "std" | "core" | "alloc" if module.len() == 1 => return None,
        _ => return Some(path.to_vec()),
    };
    let mut rest = path;
    while let Some((first, behind)) = rest.split_first() {
        match first.as_str() {
            "crate" | "self" => {}
            "super" => {
                base.pop();
            }
            _ => break,
        }
        rest = behind;
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

fn is_name(token: &str) -> bool {
    token.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
}

fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_ascii_alphanumeric() || first == '_' {
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            tokens.push(rest[..length].to_owned());
        }
        rest = &rest[length..];
    }
    tokens
}

/// The code without comments, texts and whatever stands behind `#[cfg(test)]` or `#[cfg(any(test, ...))]`.
pub fn shipped(text: &str) -> String {
    without_tests(&without_texts(text, None))
}

/// The texts in the code that ships, in their order, as they are when it runs. Escapes other than `\n` stay.
pub fn shipped_texts(text: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let code = without_tests(&without_texts(text, Some(&mut texts)));
    // Between quotes there are only numbers of texts now.
    let numbers = code.split('"').skip(1).step_by(2).filter_map(|number| number.parse::<usize>().ok());
    numbers.filter_map(|number| texts.get(number).cloned()).collect()
}

fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(start) = ["#[cfg(test)]", "#[cfg(any(test"].iter().filter_map(|mark| rest.find(mark)).min() {
        kept.push_str(&rest[..start]);
        rest = &rest[start..];
        // The item ends with the first `;` outside braces or with the brace that closes it.
        let mut open = 0_i32;
        let mut end = rest.len();
        let body = rest.find(']').map_or(0, |n| n + 1);
        for (n, c) in rest.char_indices().skip_while(|(n, _)| *n < body) {
            match c {
                '{' | '(' | '[' => open += 1,
                '}' | ')' | ']' => open -= 1,
                _ => {}
            }
            if open < 0 {
                end = n;
                break;
            }
            if open == 0 && (c == ';' || c == '}' || c == ',') {
                end = n + 1;
                break;
            }
        }
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}

/// A text as it is when the program runs: a `\` at the end of a line takes the line's end and the blanks after it away.
fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |joined, part| joined + part.trim_start()).replace("\\n", "\n")
}

/// Comments and the insides of texts and characters become nothing. If `texts` is given, texts go there, and their numbers
/// take their places.
fn without_texts(text: &str, mut texts: Option<&mut Vec<String>>) -> String {
    let mut keep = |code: &mut String, text: String, otherwise: &str| match texts.as_deref_mut() {
        None => code.push_str(otherwise),
        Some(texts) => {
            code.push_str(&format!("\"{}\"", texts.len()));
            texts.push(text);
        }
    };
    let bytes: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut n = 0;
    while n < bytes.len() {
        let next = bytes.get(n + 1).copied();
        match bytes[n] {
            '/' if next == Some('/') => {
                while n < bytes.len() && bytes[n] != '\n' {
                    n += 1;
                }
            }
            '/' if next == Some('*') => {
                n += 2;
                while n + 1 < bytes.len() && !(bytes[n] == '*' && bytes[n + 1] == '/') {
                    n += 1;
                }
                n += 2;
            }
            'r' if matches!(next, Some('"' | '#')) && !code.ends_with(|c: char| c.is_alphanumeric() || c == '_') => {
                let hashes = bytes[n + 1..].iter().take_while(|c| **c == '#').count();
                if bytes.get(n + 1 + hashes) == Some(&'"') {
                    n += hashes + 2;
                    let start = n;
                    while n < bytes.len()
                        && !(bytes[n] == '"'
                            && bytes[n + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes)
                    {
                        n += 1;
                    }
                    keep(&mut code, bytes[start..n.min(bytes.len())].iter().collect(), "");
                    n += hashes + 1;
                } else {
                    code.push('r');
                    n += 1;
                }
            }
            '"' => {
                n += 1;
                let start = n;
                while n < bytes.len() && bytes[n] != '"' {
                    n += if bytes[n] == '\\' { 2 } else { 1 };
                }
                let inside: String = bytes[start..n.min(bytes.len())].iter().collect();
                n += 1;
                keep(&mut code, joined(&inside), "\"\"");
            }
            '\'' if next == Some('\\') || bytes.get(n + 2) == Some(&'\'') => {
                n += if next == Some('\\') { 3 } else { 2 };
                while n < bytes.len() && bytes[n] != '\'' {
                    n += 1;
                }
                n += 1;
            }
            c => {
                code.push(c);
                n += 1;
            }
        }
    }
    code
}
