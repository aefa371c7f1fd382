//! The text around a request: the system prompt, and what the workspace looks like.

/// The default system prompt. A data file, so that it can be read and compared as one.
pub fn system() -> &'static str {
    include_str!("../data/system.md")
}

/// Packs a listing of the workspace for the first message. `listing` is what `file.list` prints.
pub fn orientation(workspace_name: &str, listing: &str) -> String {
    format!("The workspace is the folder `{workspace_name}`. It holds:\n\n{}\n", listing.trim_end())
}

/// The first user message: what the workspace looks like, then the request.
pub fn request(orientation: &str, text: &str) -> String {
    if orientation.is_empty() { text.to_owned() } else { format!("{orientation}\nThe task:\n{text}") }
}
