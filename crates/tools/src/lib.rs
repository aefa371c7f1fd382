//! The built-in tools, one a file.
//!
//! A tool plans outside the sandbox, without effects, and does its work inside it: a file tool is a
//! function of this crate that the sandbox runs in the confined process ([`internal_table`]), so that
//! a path trick meets the kernel and not a parser of ours. What leaves the machine goes through the port `Outbound`.

pub mod arguments;
pub mod beneath;
pub mod browser;
pub mod browser_act;
pub mod browser_open;
pub mod browser_read;
pub mod browser_screenshot;
pub mod confined;
pub mod file_edit;
pub mod file_list;
pub mod file_read;
pub mod file_search;
pub mod file_write;
pub mod http_request;
pub mod ignored;
pub mod memory_note;
pub mod page;
pub mod paths;
pub mod shell_execute;
pub mod skill_read;
pub mod walk;
pub mod web;
pub mod web_search;

use std::{
    io::Read,
    ops::ControlFlow,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use homarus_contract::{
    event::AgentRef,
    message::ToolDefinition,
    outbound::Outbound,
    text::one_line,
    tool::{HostRules, ReadRules, Scope, SkillShelf, Tool},
};
use rustix::fs::FileType;
use url::Url;

use crate::walk::{Bounds, Start};

/// What the tools that reach out of the workspace need.
pub struct Options {
    pub outbound: Arc<dyn Outbound>,
    pub host_rules: Arc<dyn HostRules>,
    /// From [`web_search::instance`]; `None`: no search.
    pub search: Option<Url>,
    pub skills: Arc<dyn SkillShelf>,
    /// `None`: there are no tools of the browser.
    pub browsers: Option<Arc<browser::Browsers>>,
}

/// All built-in tools, in the order they are offered: a small model likes to take the first, and the listing
/// is in its first message already.
pub fn all(options: Options) -> Vec<Arc<dyn Tool>> {
    let Options { outbound, host_rules, search, skills, browsers } = options;
    let mut tools: Vec<Arc<dyn Tool>> = vec![
        Arc::new(file_search::FileSearch),
        Arc::new(file_read::FileRead),
        Arc::new(file_edit::FileEdit),
        Arc::new(file_write::FileWrite),
        Arc::new(shell_execute::ShellExecute),
        Arc::new(file_list::FileList),
        Arc::new(http_request::HttpRequest::new(outbound.clone(), host_rules)),
        Arc::new(web_search::WebSearch::new(outbound, search)),
        Arc::new(memory_note::MemoryNote),
        Arc::new(skill_read::SkillRead::new(skills)),
    ];
    if let Some(browsers) = browsers {
        tools.push(Arc::new(browser_open::BrowserOpen(browsers.clone())));
        tools.push(Arc::new(browser_read::BrowserRead(browsers.clone())));
        tools.push(Arc::new(browser_act::BrowserAct(browsers.clone())));
        tools.push(Arc::new(browser_screenshot::BrowserScreenshot(browsers)));
    }
    tools
}

/// What of the limits of a call holds for a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// Something of it runs in the sandbox, with all of them.
    InAll,
    /// It waits for somebody outside of the sandbox.
    InTime,
}

/// The tools that limits hold for. The others have no process, and wait for nobody.
pub const LIMITED: [(&str, Limited); 12] = [
    (file_search::NAME, Limited::InAll),
    (file_read::NAME, Limited::InAll),
    (file_edit::NAME, Limited::InAll),
    (file_write::NAME, Limited::InAll),
    (shell_execute::NAME, Limited::InAll),
    (file_list::NAME, Limited::InAll),
    (http_request::NAME, Limited::InAll),
    (web_search::NAME, Limited::InTime),
    (browser_open::NAME, Limited::InTime),
    (browser_read::NAME, Limited::InTime),
    (browser_act::NAME, Limited::InTime),
    (browser_screenshot::NAME, Limited::InAll),
];

/// What a run of this agent is offered. A small model plans worse with each tool more: `workspace_only` leaves
/// it those it was tuned with.
pub fn offered(tools: &[Arc<dyn Tool>], agent: Option<&AgentRef>, workspace_only: bool) -> Vec<ToolDefinition> {
    tools
        .iter()
        .filter(|tool| tool.unavailable(agent).is_none() && (!workspace_only || tool.scope() == Scope::Workspace))
        .map(|tool| tool.definition())
        .collect()
}

/// A function that runs inside the sandbox, and the name it is asked for by.
pub type Internal = (&'static str, fn() -> i32);

/// The functions that run inside the sandbox, by the name a [`homarus_contract::sandbox::Program`]
/// gives. Each reads its input from standard input, works in the current folder, and returns an exit code.
/// `R` decides which files may be read where many are.
pub fn internal_table<R: ReadRules>() -> [Internal; 7] {
    [
        (file_list::NAME, file_list::confined::<R>),
        (file_read::NAME, file_read::confined),
        (file_search::NAME, file_search::confined::<R>),
        (file_edit::NAME, file_edit::confined),
        (file_write::NAME, file_write::confined),
        (page::NAME, page::confined),
        (browser_screenshot::NAME, browser_screenshot::confined),
    ]
}

/// Names and sizes of what is in a folder, as `file.list` prints them. Made outside the sandbox, before the first prompt:
/// bounded, and nothing is opened but folders and ignore files (see [`walk`]).
pub fn listing(folder: &Path, rules: &impl ReadRules) -> String {
    let listed = file_list::list(folder, &file_list::Arguments::default(), &|path| rules.may_read(path));
    listed.unwrap_or_else(|reason| reason)
}

/// The small text files of a folder with their contents, as far as they fit `bytes_max`, and their names as well: the
/// smallest first. Passes over links, names with a dot in front, what may hold secrets and what may not be read without asking.
pub fn small_files(folder: &Path, bytes_max: usize, rules: &impl ReadRules) -> Vec<(String, String)> {
    const FILE_BYTES_MAX: u64 = 1_000;
    const LOOKED_AT_MAX: usize = 300;
    const NAME_CHARS_MAX: usize = 300;
    const BOUNDS: Bounds =
        Bounds { depth_max: 6, entries_max: 10 * LOOKED_AT_MAX, comparisons_max: 10_000_000, dotted: false };
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    let mut looked_at = 0;
    let opened = folder.canonicalize().and_then(|folder| {
        walk::walk(&folder, &Start::of(&folder, Path::new(""))?, &BOUNDS, &mut |entry| {
            looked_at += 1;
            let is_file = entry.kind == FileType::RegularFile && entry.left_out.is_none();
            if is_file && !paths::may_hold_secrets(entry.path) && rules.may_read(entry.path) {
                files.push((entry.bytes(), entry.path.to_path_buf()));
            }
            if looked_at < LOOKED_AT_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        walk::open_folder(&folder)
    });
    let Ok(opened) = opened else { return Vec::new() };
    files.sort();
    let (mut left, mut names_left) = (bytes_max, bytes_max);
    let mut packed = Vec::new();
    for (_, path) in files.iter().filter(|(bytes, _)| *bytes <= FILE_BYTES_MAX) {
        let Some(name) = path.to_str().filter(|name| one_line(name, NAME_CHARS_MAX) == *name) else { continue };
        let Ok((file, _)) = walk::open_file(opened.as_fd(), name) else { continue };
        let mut text = String::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
        if read.is_err() || text.len() as u64 > FILE_BYTES_MAX || text.contains('\0') {
            continue;
        }
        if text.len() > left || name.len() > names_left {
            continue;
        }
        left -= text.len();
        names_left -= name.len();
        packed.push((name.to_owned(), text));
    }
    packed.sort();
    packed
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use homarus_contract::event::Profile;

    use super::*;
    use crate::walk::tests::{ends, pipe};

    struct All;

    impl ReadRules for All {
        fn of(_profile: &Profile) -> Result<Self, String> {
            Ok(Self)
        }

        fn may_read(&self, _path: &Path) -> bool {
            true
        }
    }

    /// What the first prompt shows of a workspace.
    fn first_look(root: &Path) -> (String, Vec<(String, String)>) {
        let root = root.to_path_buf();
        ends(move || (listing(&root, &All), small_files(&root, 6_000, &All)))
    }

    #[test]
    fn a_workspace_cannot_hang_or_fill_the_host_before_the_first_prompt() {
        for name in [".ignore", ".gitignore"] {
            for lays in [|path: &Path| symlink("/dev/zero", path).unwrap(), |path: &Path| pipe(path)] {
                let folder = tempfile::tempdir().unwrap();
                fs::write(folder.path().join("a.txt"), "here\n").unwrap();
                lays(&folder.path().join(name));
                let (listing, files) = first_look(folder.path());
                assert!(listing.starts_with(name) && listing.ends_with("\na.txt  5 bytes\n"), "{listing}");
                assert_eq!(files, [("a.txt".to_owned(), "here\n".to_owned())]);
            }
        }
    }

    #[test]
    fn a_folder_above_says_nothing_about_a_workspace() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("workspace")).unwrap();
        fs::write(folder.path().join(".gitignore"), "*\n").unwrap();
        fs::write(folder.path().join("workspace/a.txt"), "here\n").unwrap();
        let (listing, files) = first_look(&folder.path().join("workspace"));
        assert_eq!((listing.as_str(), files.len()), ("a.txt  5 bytes\n", 1));
    }

    #[test]
    fn only_small_regular_files_are_packed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("in")).unwrap();
        fs::create_dir(root.join("skip")).unwrap();
        for (name, text) in [
            ("b.txt", "bb"),
            ("in/a.txt", "a"),
            ("skip/a", "x"),
            (".env", "SECRET"),
            (".hidden", "x"),
            ("forged:\n```", "x"),
            (".gitignore", "skip/\n"),
            ("bin", "\0"),
        ] {
            fs::write(root.join(name), text).unwrap();
        }
        fs::write(root.join("large"), "x".repeat(1_001)).unwrap();
        pipe(&root.join("pipe"));
        symlink("b.txt", root.join("link")).unwrap();
        symlink("/dev/zero", root.join("zero")).unwrap();
        let packed = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(first_look(root).1, [packed("b.txt", "bb"), packed("in/a.txt", "a")]);
        assert_eq!(small_files(root, 6, &All), [packed("b.txt", "bb")], "names are bounded as well");
    }

    #[test]
    fn the_first_look_at_any_workspace_is_short() {
        let folder = tempfile::tempdir().unwrap();
        let (mut path, name) = (folder.path().to_path_buf(), "n".repeat(240));
        for _ in 0..4 {
            path.push(&name);
        }
        fs::create_dir_all(&path).unwrap();
        for index in 0..300 {
            fs::write(path.join(format!("{index:0240}")), "").unwrap();
        }
        let (listing, files) = first_look(folder.path());
        assert!(listing.len() < 20 << 10 && listing.contains(" more; list"), "{} bytes", listing.len());
        assert!(files.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>() <= 12_000);
    }
}
