//! Text that is shown to people or models: bounded, and unable to forge what surrounds it.

/// Makes text safe to print on a terminal: control characters and escape sequences become visible
/// (`␛`, `␀`), as do characters that reorder or hide text (bidirectional marks, zero-width ones).
/// Newline and tab stay.
pub fn neutralise(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            '\u{7f}' => '\u{2421}',
            c if (c as u32) < 0x20 => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
            '\u{80}'..='\u{9f}' => '\u{fffd}',
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' => '\u{fffd}',
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => '\u{fffd}',
            '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Like [`neutralise`], and on one line of at most `chars_max` characters.
pub fn one_line(text: &str, chars_max: usize) -> String {
    let flat: String = neutralise(text).replace(['\n', '\t'], " ");
    if flat.chars().count() <= chars_max {
        return flat;
    }
    let mut cut: String = flat.chars().take(chars_max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Keeps the first and last part of text longer than `bytes_max`, with a marker between them that
/// says how much is missing and `hint` what to do about it.
pub fn bounded(text: &str, bytes_max: usize, hint: &str) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let head_end = floor_boundary(text, bytes_max * 2 / 3);
    let tail_start = ceil_boundary(text, text.len() - bytes_max / 3);
    let cut = tail_start - head_end;
    format!(
        "{}\n[... {cut} bytes left out{}{hint} ...]\n{}",
        &text[..head_end],
        if hint.is_empty() { "" } else { "; " },
        &text[tail_start..]
    )
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceil_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_visible() {
        assert_eq!(neutralise("a\x1b[2Jb\r\u{202e}c\u{9b}1m"), "a␛[2Jb␍\u{fffd}c\u{fffd}1m");
        assert_eq!(neutralise("\u{61c}\u{2029}\u{ad}\u{e0041}"), "\u{fffd}".repeat(4));
        assert_eq!(neutralise("ok\n\tünï"), "ok\n\tünï");
    }

    #[test]
    fn bounded_keeps_both_ends_on_character_borders() {
        let text = "é".repeat(1000);
        let cut = bounded(&text, 100, "read a part of it");
        assert!(cut.starts_with('é') && cut.ends_with('é'));
        assert!(cut.contains("read a part of it"));
        assert!(cut.len() < 200);
        assert_eq!(bounded("short", 100, ""), "short");
    }
}
