//! The text around a request: the system prompt, and what the workspace looks like.

/// The default system prompt. A data file, so that it can be read and compared as one.
pub fn system() -> &'static str {
    include_str!("../data/system.md")
}

/// Packs the workspace into the first message: its listing, and small files with their contents.
pub fn orientation(workspace_name: &str, listing: &str, files: &[(String, String)]) -> String {
    let mut text = format!("The workspace is the folder `{workspace_name}`. It holds:\n\n{}\n", listing.trim_end());
    if !files.is_empty() {
        text.push_str("\nWhat is in the small files now:\n");
    }
    for (name, content) in files {
        text.push_str(&format!("\n{name}:\n```\n{}\n```\n", content.trim_end()));
    }
    text
}
