//! What ignore files leave out of a walk: `.ignore`, `.gitignore` and `.git/info/exclude`, as git reads them.
//!
//! They come with a workspace that may mean harm, and are read on the host. So the patterns are compared here, within a
//! bound, and not compiled to automata whose size a pattern decides.

mod glob;

use std::{
    io::Read,
    os::{fd::BorrowedFd, unix::ffi::OsStrExt},
    path::Path,
};

use crate::walk::open_file;

/// A larger file is no list of rules.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// What a byte of rules costs, in comparisons: it is copied, and kept while the walk is below.
const BYTE_COST: u64 = 64;

/// The rules that hold where a walk is.
pub struct Ignored {
    /// From the workspace inwards.
    levels: Vec<Level>,
    comparisons_left: u64,
}

struct Level {
    /// What rules see of a path begins here: behind the folder they stand in.
    path_from: usize,
    ignore: Rules,
    git: Rules,
    exclude: Rules,
    is_repository: bool,
}

impl Ignored {
    pub fn new(comparisons_max: u64) -> Self {
        Self { levels: Vec::new(), comparisons_left: comparisons_max }
    }

    /// Nothing is ignored from now on.
    pub fn switch_off(&mut self) {
        self.levels.clear();
        self.comparisons_left = 0;
    }

    /// Takes up the rules that stand in a folder. `path` is the folder's, relative to the workspace; `has` says which
    /// names are in it.
    pub fn enter(&mut self, folder: BorrowedFd<'_>, path: &Path, has: impl Fn(&str) -> bool) {
        let is_repository = has(".git");
        let level = Level {
            path_from: match path.as_os_str().len() {
                0 => 0,
                bytes => bytes + 1,
            },
            ignore: self.rules(folder, ".ignore", has(".ignore")),
            git: self.rules(folder, ".gitignore", has(".gitignore")),
            exclude: self.rules(folder, ".git/info/exclude", is_repository),
            is_repository,
        };
        self.levels.push(level);
    }

    /// Lets go of the rules of the folder that was entered last.
    pub fn leave(&mut self) {
        self.levels.pop();
    }

    /// Whether the rules leave out a path of the workspace, the folder of which they do not.
    pub fn hides(&mut self, path: &Path, is_folder: bool) -> bool {
        if self.comparisons_left == 0 {
            return false;
        }
        let path = path.as_os_str().as_bytes();
        let left = &mut self.comparisons_left;
        let mut ask = |level: &Level, rules: &Rules| {
            rules.verdict(path.get(level.path_from..).unwrap_or_default(), is_folder, left)
        };
        // An inner folder's rule beats an outer one's, and those around a repository do not hold in it.
        let repository = self.levels.iter().rposition(|level| level.is_repository).unwrap_or(0);
        let inner = self.levels.get(repository..).unwrap_or_default();
        let verdict = (self.levels.iter().rev().find_map(|level| ask(level, &level.ignore)))
            .or_else(|| inner.iter().rev().find_map(|level| ask(level, &level.git)))
            .or_else(|| inner.iter().rev().find_map(|level| ask(level, &level.exclude)));
        self.comparisons_left > 0 && verdict == Some(Verdict::Ignored)
    }

    fn rules(&mut self, folder: BorrowedFd<'_>, path: &str, is_there: bool) -> Rules {
        if !is_there || self.comparisons_left == 0 {
            return Rules::default();
        }
        let text = small_file(folder, path).unwrap_or_default();
        self.comparisons_left = self.comparisons_left.saturating_sub(text.len() as u64 * BYTE_COST);
        Rules::parse(&text)
    }
}

/// The bytes of an ignore file. As for git, a link is none.
fn small_file(folder: BorrowedFd<'_>, path: &str) -> Option<Vec<u8>> {
    let (file, bytes) = open_file(folder, path).ok()?;
    if bytes > FILE_BYTES_MAX {
        return None;
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).ok()?;
    Some(text)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ignored,
    /// A rule with `!` says so.
    Kept,
}

/// The rules of one file.
#[derive(Debug, Default)]
struct Rules(Vec<Rule>);

impl Rules {
    fn parse(text: &[u8]) -> Self {
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        Self(text.split(|byte| *byte == b'\n').filter_map(Rule::parse).collect())
    }

    /// What the last rule that fits says of a path relative to the folder of the file.
    fn verdict(&self, path: &[u8], is_folder: bool, left: &mut u64) -> Option<Verdict> {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let rule = self.0.iter().rev().find(|rule| rule.fits(path, name, is_folder, left))?;
        Some(if rule.is_exception { Verdict::Kept } else { Verdict::Ignored })
    }
}

#[derive(Debug)]
struct Rule {
    glob: Vec<u8>,
    /// It is compared with the whole path, not with the name alone.
    is_anchored: bool,
    is_for_folders: bool,
    is_exception: bool,
}

impl Rule {
    fn parse(line: &[u8]) -> Option<Self> {
        let line = if line.ends_with(b"\\ ") { line } else { line.trim_ascii_end() };
        if line.starts_with(b"#") {
            return None;
        }
        let (is_exception, glob) = line.strip_prefix(b"!").map_or((false, line), |glob| (true, glob));
        let (is_for_folders, glob) = glob.strip_suffix(b"/").map_or((false, glob), |glob| (true, glob));
        // A slash that is not the last character ties a rule to its folder.
        let is_anchored = glob.contains(&b'/');
        let glob = glob.strip_prefix(b"/").unwrap_or(glob);
        (!glob.is_empty()).then(|| Self { glob: glob.to_vec(), is_anchored, is_for_folders, is_exception })
    }

    /// `name` is the last part of `path`.
    fn fits(&self, path: &[u8], name: &[u8], is_folder: bool, left: &mut u64) -> bool {
        *left = left.saturating_sub(1);
        if *left == 0 || (self.is_for_folders && !is_folder) {
            return false;
        }
        match self.is_anchored {
            true => glob::path_fits(&self.glob, path, left),
            false => glob::name_fits(&self.glob, name, left),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd};

    use ignore::{Match, gitignore::GitignoreBuilder};

    use super::*;
    use crate::walk::{
        open_folder,
        tests::{ends, pipe},
    };

    const PLENTY: u64 = 1 << 40;

    #[test]
    fn rules_are_read_as_the_crate_ignore_reads_them() {
        let texts = "a\n/a\na/\n/a/\n*\n/*\n/*/\n**\n**/\n*.log\n/*.log\na/b\na/*\na/**\na/**/\n**/b\n/**/b\na/**/b\n**/a/**\n\
                     a/**/x/**/b\na**b\na*b*c\n*a*\n?\na?\n[ab]c\n[!a]c\n[^a]c\n[a-c]x\n[]a]\n[a-]\n[abc\nx[y\n!a\n!/a/b\n\\!a\n\\#a\n\
                     #a\na \na\\ \n\\*\n*.tar.*\ndoc/*.txt\ndoc/**/*.txt\nb/\nb/c/\n/\n//\n.*\n.git*\na\\b\n**a\na/b/**\n*/b\n*/*/b\n";
        let paths = "a\nb\nc\nab\naxbyc\nabc\nac\nbc\ncx\ndx\n-\n]\n[abc\nx[y\na/b\na/x/b\na/x/y/b\nx/a\nx/a/b\nx/b\nb/c\nx.log\nx/y.log\n\
                     .log\n!a\n#a\na \n*\nx.tar.gz\ndoc/a.txt\ndoc/x/a.txt\nx/doc/a.txt\n.gitignore\na/b/c\naa\nca\na/a/a\nx/a/y/b";
        for text in texts.lines().chain(["\u{feff}a", "a\r"]) {
            let mut builder = GitignoreBuilder::new("");
            builder.add_line(None, text.trim_start_matches('\u{feff}')).unwrap();
            let theirs = builder.build().unwrap();
            let rules = Rules::parse(text.as_bytes());
            for path in paths.lines() {
                for is_folder in [false, true] {
                    let expected = match theirs.matched(path, is_folder) {
                        Match::None => None,
                        Match::Ignore(_) => Some(Verdict::Ignored),
                        Match::Whitelist(_) => Some(Verdict::Kept),
                    };
                    let verdict = rules.verdict(path.as_bytes(), is_folder, &mut { PLENTY });
                    assert_eq!(verdict, expected, "{text:?} of {path:?}, a folder: {is_folder}");
                }
            }
        }
        let last = Rules::parse(b"*.log\n!keep.log\n");
        assert_eq!(last.verdict(b"x/keep.log", false, &mut { PLENTY }), Some(Verdict::Kept), "the last one counts");
        for text in ["{a,b}", "!"] {
            let rules = Rules::parse(text.as_bytes());
            assert_eq!(rules.verdict(b"a", false, &mut { PLENTY }), None, "{text}: as for git, and not for the crate");
        }
    }

    /// All texts of one to five of these characters.
    fn short(alphabet: &[u8]) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut from = 0;
        for _ in 0..5 {
            let until = all.len();
            for at in from..until {
                all.extend(alphabet.iter().map(|byte| format!("{}{}", all[at], char::from(*byte))).collect::<Vec<_>>());
            }
            from = until;
        }
        all.split_off(1)
    }

    #[test]
    fn short_patterns_fit_what_they_fit_for_the_crate_ignore() {
        let mut paths = short(b"ab/");
        paths.retain(|path| !path.starts_with('/') && !path.ends_with('/') && !path.contains("//"));
        for text in short(b"a*?/").into_iter().filter(|text| !text.contains("//")) {
            let mut builder = GitignoreBuilder::new("");
            builder.add_line(None, &text).unwrap();
            let theirs = builder.build().unwrap();
            let rules = Rules::parse(text.as_bytes());
            for path in &paths {
                let ours = rules.verdict(path.as_bytes(), true, &mut { PLENTY });
                assert_eq!(ours.is_some(), theirs.matched(path, true).is_ignore(), "{text:?} of {path:?}");
            }
        }
    }

    /// Which of `paths` are hidden when all their folders are entered.
    fn hidden(root: &Path, paths: &[&str]) -> Vec<String> {
        let is_hidden = |path: &&&str| {
            let mut ignored = Ignored::new(1 << 30);
            for above in Path::new(**path).ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
                let folder = open_folder(&root.join(above)).unwrap();
                ignored.enter(folder.as_fd(), above, |name| root.join(above).join(name).symlink_metadata().is_ok());
            }
            ignored.hides(Path::new(**path), false)
        };
        paths.iter().filter(is_hidden).map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn inner_rules_beat_outer_ones_and_a_repository_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join(".git/info")).unwrap();
        fs::create_dir_all(root.join("in/deep")).unwrap();
        fs::create_dir_all(root.join("other/.git")).unwrap();
        fs::write(root.join(".git/info/exclude"), "mine\n").unwrap();
        fs::write(root.join(".gitignore"), "*.log\n/in/x\n*.tmp\n").unwrap();
        fs::write(root.join("in/.gitignore"), "!keep.log\n").unwrap();
        fs::write(root.join("in/deep/.ignore"), "keep.log\n!a.tmp\n").unwrap();
        fs::write(root.join(".ignore"), "secret\n").unwrap();
        let paths = [
            ("a.log", true),
            ("in/a.log", true),
            ("in/keep.log", false),
            ("in/deep/keep.log", true),
            ("in/deep/a.tmp", false),
            ("in/x", true),
            ("in/deep/x", false),
            ("in/mine", true),
            ("other/a.log", false),
            ("other/mine", false),
            ("other/secret", true),
        ];
        let expected: Vec<&str> = paths.iter().filter(|(_, is_hidden)| *is_hidden).map(|(path, _)| *path).collect();
        assert_eq!(hidden(root, &paths.map(|(path, _)| path)), expected);
    }

    #[test]
    fn an_ignore_file_is_a_small_regular_file() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("rules"), "*\n").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_path_buf();
        fs::create_dir(root.join(".git")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join(".git/info")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("rules"), outside.path().join("exclude")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("rules"), root.join(".ignore")).unwrap();
        pipe(&root.join(".gitignore"));
        assert!(ends(move || hidden(&root, &["a"])).is_empty());

        let root = folder.path();
        fs::remove_file(root.join(".gitignore")).unwrap();
        fs::write(root.join(".gitignore"), "a\n".repeat(FILE_BYTES_MAX as usize / 2 + 1)).unwrap();
        assert!(hidden(root, &["a"]).is_empty());
    }

    #[test]
    fn rules_that_cost_too_much_no_longer_hold() {
        let rules = Rules::parse(format!("{}b\n", "*a".repeat(500)).repeat(100).as_bytes());
        let name = "a".repeat(255);
        let mut left = 1_000_000;
        assert_eq!(rules.verdict(name.as_bytes(), false, &mut left), None);
        assert!(left > 0, "a mismatch costs the name times the rule at most");
        let mut ignored = Ignored::new(10_000);
        let level = |rules| Level {
            path_from: 0,
            ignore: rules,
            git: Rules::default(),
            exclude: Rules::default(),
            is_repository: false,
        };
        ignored.levels.push(level(Rules::parse("*a*b*c*d*e*f\n".repeat(1_000).as_bytes())));
        ignored.levels.push(level(Rules::parse(b"plain\n")));
        assert!(ignored.hides(Path::new("plain"), false));
        let costly = "abcdef".repeat(40) + "x";
        assert!(!ignored.hides(Path::new(&costly), false) && ignored.comparisons_left == 0);
        assert!(!ignored.hides(Path::new("plain"), false), "spent");
        let deep = "x/".repeat(1_000);
        let mut left = 1_000_000;
        Rules::parse("**/x/**/x/**/y\n".repeat(1_000).as_bytes()).verdict(deep.as_bytes(), false, &mut left);
        assert_eq!(left, 0, "each comparison is counted");
    }
}
