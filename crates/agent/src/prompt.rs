//! The text around a request: the system prompt, and what the workspace looks like.

/// Files not shown that are named one by one.
const NOT_SHOWN_NAMED_MAX: usize = 12;

/// The default system prompt. A data file, so that it can be read and compared as one.
pub fn system() -> &'static str {
    include_str!("../data/system.md")
}

/// The default system prompt with a persona and packed memory files after it; either may be empty.
pub fn with_memory(persona: &str, memory: &str) -> String {
    let mut text = system().to_owned();
    let persona = persona.trim();
    if !persona.is_empty() {
        text.push_str(&format!("\n{persona}\n"));
    }
    if !memory.is_empty() {
        text.push_str("\nNotes for you. Where the task says otherwise, the task counts.\n");
        text.push_str(memory);
    }
    text
}

/// Packs the workspace into the first message: its listing (a path and its size on each line), small files
/// with their contents, and which files are not shown, so that nobody takes a listing for knowledge.
pub fn orientation(listing: &str, files: &[(String, String)]) -> String {
    let mut text = format!("The workspace holds:\n\n{}\n", listing.trim_end());
    if !files.is_empty() {
        text.push_str("\nWhat is in the small files now:\n");
    }
    for (name, content) in files {
        text.push_str(&format!("\n{name}:\n```\n{}\n```\n", content.trim_end()));
    }
    let is_shown = |path: &&str| files.iter().any(|(name, _)| name == path);
    let hidden: Vec<&str> = listing
        .lines()
        .filter(|line| line.ends_with(" bytes"))
        .filter_map(|line| line.rsplit_once("  ").map(|(path, _)| path))
        .filter(|path| !is_shown(path))
        .collect();
    if !hidden.is_empty() {
        let named = hidden.iter().take(NOT_SHOWN_NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
        let more = match hidden.len().saturating_sub(NOT_SHOWN_NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        text.push_str(&format!("\nNot shown, so search or read them first: {named}{more}.\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shown_is_named() {
        let listing = "a.conf  12 bytes\nlogs/\nlogs/b.log  4000 bytes\nlink  (link)\n";
        let text = orientation(listing, &[("a.conf".to_owned(), "x = 1\n".to_owned())]);
        assert!(text.contains("\na.conf:\n```\nx = 1\n```\n"), "{text}");
        assert!(text.ends_with("read them first: logs/b.log.\n"), "{text}");
        let many: String = (0..20).map(|n| format!("f{n}  9999 bytes\n")).collect();
        assert!(orientation(&many, &[]).contains("f11 and 8 more."));
    }
}
