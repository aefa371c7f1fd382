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
pub mod memory_note;
pub mod page;
pub mod paths;
pub mod shell_execute;
pub mod skill_read;
pub mod web;
pub mod web_search;

use std::{path::Path, sync::Arc};

use homarus_contract::{
    event::AgentRef,
    message::ToolDefinition,
    outbound::Outbound,
    tool::{HostRules, ReadRules, Scope, SkillShelf, Tool},
};
use url::Url;

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

/// Names and sizes of what is in a folder, as `file.list` prints them. Opens no file and follows no
/// link, so it may be used outside the sandbox.
pub fn listing(folder: &Path, rules: &impl ReadRules) -> String {
    file_list::list(folder, &file_list::Arguments::default(), &|path| rules.may_read(path)).unwrap_or_default()
}

/// The small text files of a folder with their contents, as far as they fit `bytes_max`: the smallest
/// first. Follows no link and passes over what may hold secrets and what may not be read without asking.
pub fn small_files(folder: &Path, bytes_max: usize, rules: &impl ReadRules) -> Vec<(String, String)> {
    const FILE_BYTES_MAX: u64 = 1_000;
    const LOOKED_AT_MAX: usize = 300;
    let walk = ignore::WalkBuilder::new(folder).follow_links(false).require_git(false).max_depth(Some(6)).build();
    let mut files: Vec<(u64, std::path::PathBuf)> = walk
        .flatten()
        .take(LOOKED_AT_MAX)
        .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
        .filter_map(|entry| Some((entry.metadata().ok()?.len(), entry.path().strip_prefix(folder).ok()?.to_path_buf())))
        .filter(|(bytes, path)| *bytes <= FILE_BYTES_MAX && !paths::may_hold_secrets(path) && rules.may_read(path))
        .collect();
    files.sort();
    let mut left = bytes_max;
    let mut packed = Vec::new();
    for (_, path) in files {
        let Ok(text) = std::fs::read_to_string(folder.join(&path)) else { continue };
        if text.len() > left || text.contains('\0') {
            continue;
        }
        left -= text.len();
        packed.push((path.display().to_string(), text));
    }
    packed.sort();
    packed
}
