//! What a model is told of a change that was made, in a few KiB whatever the file holds.

const LINES_SHOWN_MAX: usize = 20;
/// Of a long line, the piece around its first difference.
const LINE_CHARS_MAX: usize = 300;
const SHOWN_BYTES_MAX: usize = 4 << 10;

/// What the changed lines are now, and what a single one was: shorter than a diff, and nothing a model could take for a
/// file.
pub fn changed_lines(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let before = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()) - before;
    let after = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(old, new)| old == new).count();
    let (was, now) = (&old[before..old.len() - after], &new[before..new.len() - after]);
    let (first, last) = (before + 1, before + now.len());
    match (was, now) {
        ([], []) => "Only the end of a line was changed.\n".to_owned(),
        (_, []) => format!("{} lines were removed after line {before}.\n", was.len()),
        ([was], [now]) => {
            format!("Line {first} was: {}\nLine {first} is now: {}\n", around(was, now), around(now, was))
        }
        (_, [now]) => format!("Line {first} is now: {}\n", around(now, was.first().unwrap_or(&""))),
        _ if now.len() <= LINES_SHOWN_MAX => format!("Lines {first} to {last} are now:\n{}", shown(was, now)),
        _ => format!("Lines {first} to {last} are new.\n"),
    }
}

fn shown(was: &[&str], now: &[&str]) -> String {
    let mut shown = String::new();
    for (index, line) in now.iter().enumerate() {
        let line = around(line, was.get(index).unwrap_or(&""));
        if shown.len() + line.len() > SHOWN_BYTES_MAX {
            shown.push_str(&format!("[... {} more lines left out ...]\n", now.len() - index));
            break;
        }
        shown.push_str(&line);
        shown.push('\n');
    }
    shown
}

/// A line; of a long one, what is around its first difference from another.
fn around(line: &str, other: &str) -> String {
    if line.len() <= LINE_CHARS_MAX {
        return line.to_owned();
    }
    let chars = line.chars().count();
    let same = line.chars().zip(other.chars()).take_while(|(here, there)| here == there).count();
    let from = same.saturating_sub(LINE_CHARS_MAX / 3).min(chars.saturating_sub(LINE_CHARS_MAX));
    let piece: String = line.chars().skip(from).take(LINE_CHARS_MAX).collect();
    let left_out = |chars: usize| match chars {
        0 => String::new(),
        chars => format!("[... {chars} characters left out ...]"),
    };
    format!("{}{piece}{}", left_out(from), left_out(chars.saturating_sub(from + LINE_CHARS_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_named_by_what_they_are_now() {
        let check =
            |old: &str, new: &str, expected: &str| assert_eq!(changed_lines(old, new), expected, "{old:?} {new:?}");
        check("a\nb\nc\n", "a\nx\nc\n", "Line 2 was: b\nLine 2 is now: x\n");
        check("a\nc\n", "a\nx\nc\n", "Line 2 is now: x\n");
        check("a\nb\nc\n", "a\nc\n", "1 lines were removed after line 1.\n");
        check("a\n", "x\ny\n", "Lines 1 to 2 are now:\nx\ny\n");
        check("a\n", &"x\n".repeat(21), "Lines 1 to 21 are new.\n");
        check("a", "a\n", "Only the end of a line was changed.\n");
    }

    #[test]
    fn long_lines_are_cut_around_what_changed() {
        let (head, tail) = ("é".repeat(200_000), "x".repeat(600_000));
        let (old, new) = (format!("{head} port=80 {tail}"), format!("{head} port=81 {tail}"));
        let told = changed_lines(&old, &new);
        assert!(told.len() < 5 << 10, "{}", told.len());
        assert!(told.contains("Line 1 was: [... ") && told.contains(" port=80 x"), "{told}");
        assert!(told.contains("Line 1 is now: [... ") && told.contains(" port=81 x"), "{told}");
        assert!(told.contains(" characters left out ...]\n"), "{told}");

        let lines: Vec<String> = (0..20).map(|number| format!("{number} {}", "漢".repeat(1_000))).collect();
        let told = changed_lines("a\n", &lines.join("\n"));
        assert!(told.len() < 5 << 10 && told.contains("more lines left out"), "{told}");
        assert_eq!(around(&"漢".repeat(200), ""), "漢".repeat(200), "not too long");
    }
}
