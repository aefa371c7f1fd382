//! Text that is shown to people or models: bounded, and unable to forge what surrounds it.

const EMOJI_STYLE: char = '\u{fe0f}';

/// Makes text safe to print on a terminal: control characters and escape sequences become visible
/// (`␛`, `␀`), as do characters that reorder or hide text, or have no shape (bidirectional marks, zero-width ones,
/// variation selectors). Newline and tab stay, and the one selector by which an emoji is shown as such.
pub fn neutralise(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut before = None;
    while let Some(c) = rest.next() {
        let is_keycap = matches!(before, Some('0'..='9' | '#' | '*')) && rest.peek() == Some(&'\u{20e3}');
        match (c, before) {
            // The text may be a piece of another, which ends with the emoji.
            (EMOJI_STYLE, None) => {}
            (EMOJI_STYLE, Some(base)) if is_emoji(base) || is_keycap => shown.push(c),
            _ => shown.push(visible(c)),
        }
        before = Some(c);
    }
    shown
}

fn visible(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        '\u{7f}' => '\u{2421}',
        c if (c as u32) < 0x20 => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
        '\u{80}'..='\u{9f}' => '\u{fffd}',
        c if is_invisible(c) => '\u{fffd}',
        c => c,
    }
}

/// Characters without a shape of their own, in which orders can be hidden, and those that reorder what is around them.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Roughly: the blocks in which characters stand that are emoji or have the choice.
fn is_emoji(c: char) -> bool {
    matches!(c,
        '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{2122}' | '\u{2139}' | '\u{2190}'..='\u{21ff}'
        | '\u{2300}'..='\u{23ff}' | '\u{24c2}' | '\u{25a0}'..='\u{27bf}' | '\u{2934}' | '\u{2935}'
        | '\u{2b00}'..='\u{2bff}' | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}' | '\u{1f000}'..='\u{1faff}')
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
    fn what_has_no_shape_becomes_visible() {
        let unseen = "\u{e0100}\u{e01ef}\u{fe00}\u{3164}\u{115f}\u{1160}\u{34f}\u{ffa0}\u{17b4}\u{180b}\u{1d173}";
        assert_eq!(neutralise(&format!("a{unseen}b")), format!("a{}b", "\u{fffd}".repeat(11)));
        for emoji in ["❤\u{fe0f}", "☀\u{fe0f} and ✔\u{fe0f}", "1\u{fe0f}\u{20e3}", "🛠\u{fe0f}"] {
            assert_eq!(neutralise(emoji), emoji);
        }
        assert_eq!(neutralise("❤\u{fe0f}\u{fe0f}a\u{fe0f}1\u{fe0f}2"), "❤\u{fe0f}\u{fffd}a\u{fffd}1\u{fffd}2");
        assert_eq!(neutralise("\u{fe0f}\u{fe0f} done"), "\u{fffd} done", "one may belong to what came before");
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
