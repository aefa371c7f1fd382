//! The repository's text files, as Git lists them, and what of a Rust file is shipped code.

use crate::{places::Places, sh};

/// Larger files are data, not text someone wrote.
const FILE_BYTES_MAX: u64 = 2 << 20;

#[derive(Debug, Default)]
pub struct Repository {
    pub files: Vec<File>,
}

#[derive(Debug)]
pub struct File {
    /// Relative to the repository.
    pub path: String,
    pub text: String,
}

impl Repository {
    /// Tracked files, and those that would be tracked if they were added.
    pub fn read(places: &Places) -> Result<Self, String> {
        let mut git = sh::command(places, "git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"]);
        let listed = sh::output(&mut git)?;
        let mut files = Vec::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            let whole = places.root.join(path);
            let small = whole.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= FILE_BYTES_MAX);
            if let (true, Ok(text)) = (small, std::fs::read_to_string(&whole)) {
                files.push(File { path: path.to_owned(), text });
            }
        }
        Ok(Self { files })
    }

    /// The Rust files of crates and of xtask, with what they ship and what they test.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs") && file.crate_name().is_some())
    }

    pub fn manifests(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().filter_map(|file| {
            let name = file.crate_name()?;
            (file.path == format!("crates/{name}/Cargo.toml") || file.path == "xtask/Cargo.toml")
                .then_some((name, file))
        })
    }
}

impl File {
    /// The folder name of its crate; `xtask` for xtask.
    pub fn crate_name(&self) -> Option<&str> {
        let mut parts = self.path.split('/');
        match (parts.next()?, parts.next()?) {
            ("crates", name) => Some(name),
            ("xtask", _) => Some("xtask"),
            _ => None,
        }
    }

    /// Whether it belongs to what its crate ships, rather than to its tests.
    pub fn is_source(&self) -> bool {
        self.path.starts_with("xtask/src/") || self.path.split('/').nth(2) == Some("src") && self.crate_name().is_some()
    }

    /// Its lines with their numbers. `tests`: those of tests too.
    pub fn lines(&self, tests: bool) -> impl Iterator<Item = (usize, &str)> {
        let end = if tests { usize::MAX } else { self.shipped_lines() };
        self.text.lines().take(end).enumerate().map(|(index, line)| (index + 1, line))
    }

    /// As [`File::lines`], without comments.
    pub fn code(&self, tests: bool) -> impl Iterator<Item = (usize, &str)> {
        self.lines(tests).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// How many lines stand before the tests at its end; none, if all of it is tests.
    fn shipped_lines(&self) -> usize {
        let rust = self.path.ends_with(".rs") && self.crate_name().is_some();
        if rust && (!self.is_source() || self.path.ends_with("/tests.rs")) {
            return 0;
        }
        let lines: Vec<&str> = self.text.lines().collect();
        // `#[cfg(test)] mod tests;` among the other modules ends nothing; `mod tests {` does.
        let ends = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].contains('{');
        lines.windows(2).position(ends).unwrap_or(lines.len())
    }
}

#[cfg(test)]
pub fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_the_crate() {
        let check = |path: &str, name: Option<&str>, source: bool| {
            let file = file(path, "");
            assert_eq!((file.crate_name(), file.is_source()), (name, source), "{path}");
        };
        check("crates/store/src/sql/rows.rs", Some("store"), true);
        check("crates/store/tests/it.rs", Some("store"), false);
        check("xtask/src/main.rs", Some("xtask"), true);
        check("xtask/Cargo.toml", Some("xtask"), false);
        check("docs/journal.md", None, false);
    }

    #[test]
    fn comments_and_tests_are_not_code() {
        let check = |path: &str, text: &str, tests: bool, expected: &[usize]| {
            let numbers: Vec<usize> = file(path, text).code(tests).map(|(number, _)| number).collect();
            assert_eq!(numbers, expected, "{path}: {text}");
        };
        let text = "//! Doc.\nlet a;\n  // b\nlet c;\n#[cfg(test)]\nmod tests {}\n";
        check("crates/a/src/lib.rs", text, false, &[2, 4]);
        check("crates/a/src/lib.rs", text, true, &[2, 4, 5, 6]);
        check("crates/a/src/lib.rs", "#[cfg(test)]\nmod tests;\nlet c;\n", false, &[1, 2, 3]);
        check("crates/a/src/tests.rs", "let a;\n", false, &[]);
        check("crates/a/tests/it/main.rs", "let a;\n", false, &[]);
        check("docs/a.md", "text\n", false, &[1]);
    }
}
