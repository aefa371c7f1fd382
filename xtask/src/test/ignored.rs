//! Tests marked `#[ignore = "..."]`: the runner counts them as skipped, and here is why each is.

use std::path::Path;

const MARK: &str = "#[ignore = \"";

/// Name and reason of every ignored test below a folder of sources.
pub fn below(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(std::fs::read_to_string(&path).map(|text| of(&text)).unwrap_or_default());
        }
    }
    found.sort();
    found
}

fn of(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut reason = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix(MARK) {
            reason = rest.strip_suffix("\"]").map(str::to_owned);
        } else if let Some((_, name)) = line.split_once("fn ")
            && let Some(reason) = reason.take()
        {
            found.push((name.split('(').next().unwrap_or(name).to_owned(), reason));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_test_is_named_with_its_reason() {
        let mark = format!("{MARK}started by another\"]");
        let text = format!("#[test]\n{mark}\n#[other]\nasync fn helper() {{\n}}\n#[test]\nfn plain() {{}}\n");
        assert_eq!(of(&text), [("helper".to_owned(), "started by another".to_owned())]);
    }
}
