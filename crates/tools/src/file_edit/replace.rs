//! Where the piece to replace stands, and what the file's text is with the new one: one place is changed, and all of
//! the change is made there or none of it.

/// The file's new text. The old piece must stand there once, so that no other place is changed. Where every line ends
/// in `\r\n`, which models do not see, the pieces may have either line end, and every line ends in `\r\n` afterwards.
pub fn replaced(text: &str, old: &str, new: &str) -> Result<String, String> {
    if old.is_empty() {
        return Err("the text to replace is empty.".to_owned());
    }
    if has_crlf_alone(text) {
        Ok(changed(&lf(text), &lf(old), &lf(new))?.replace('\n', "\r\n"))
    } else {
        changed(text, old, new)
    }
}

/// Whether the piece to replace stands nowhere, whatever the line ends.
pub fn is_missing(text: &str, old: &str) -> bool {
    !lf(text).contains(&lf(old))
}

/// How often all of a piece stands there as whole lines, whatever spaces are around it, and in which line, from 1, it
/// begins first.
pub fn standing(text: &str, piece: &str) -> (usize, usize) {
    let (have, wanted): (Vec<&str>, Vec<&str>) = (text.lines().collect(), piece.trim().lines().collect());
    let [first, rest @ ..] = wanted.as_slice() else { return (0, 0) };
    let mut places = have
        .windows(wanted.len())
        .enumerate()
        .filter(|(_, place)| place[0].trim() == first.trim() && place[1..] == *rest)
        .map(|(index, _)| index + 1);
    match places.next() {
        Some(line) => (1 + places.count(), line),
        None => (0, 0),
    }
}

/// Whether a piece says too little to be known again by it: a bracket, `return None`, a word alone.
pub fn is_trivial(piece: &str) -> bool {
    const COMMON: [&str; 20] = [
        "begin", "break", "catch", "continue", "do", "done", "elif", "else", "end", "esac", "except", "fi", "finally",
        "if", "pass", "raise", "return", "then", "throw", "try",
    ];
    words(piece).iter().filter(|(_, word)| !COMMON.contains(word)).count() < 2
}

fn lf(text: &str) -> String {
    text.replace("\r\n", "\n")
}

fn has_crlf_alone(text: &str) -> bool {
    text.contains('\n') && text.match_indices('\n').all(|(at, _)| text[..at].ends_with('\r'))
}

fn changed(text: &str, old: &str, new: &str) -> Result<String, String> {
    if old == new {
        return Err("old and new are the same text: give the new text in new.".to_owned());
    }
    let changed = with_new(text, old, new)?;
    if changed == text {
        return Err("nothing would change: the new text is what stands there.".to_owned());
    }
    Ok(changed)
}

fn with_new(text: &str, old: &str, new: &str) -> Result<String, String> {
    // Whole lines first: `port = 80` must not be found inside `port = 8080`.
    if let Some(at) = whole_line(text, old) {
        return Ok(format!("{}{new}{}", &text[..at], &text[at + old.len()..]));
    }
    match text.matches(old).count() {
        1 => Ok(text.replacen(old, new, 1)),
        0 => by_words(text, old, new).or_else(|| by_quotes(text, old, new)).ok_or_else(|| {
            let is_mixed = old.contains('\n') && text.contains("\r\n");
            let hint =
                if is_mixed { " Some lines end in \\r\\n and some do not, so change one at a time." } else { "" };
            format!("the text to replace is not there.{hint}")
        }),
        many => {
            Err(format!("the text to replace stands there {many} times. Give a longer piece, such as the whole line."))
        }
    }
}

/// Where the one line begins that is this one.
fn whole_line(text: &str, wanted: &str) -> Option<usize> {
    let mut end = 0;
    let mut places = text.split_inclusive('\n').filter_map(|line| {
        let start = end;
        end += line.len();
        let bare = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
        (bare == wanted).then_some(start)
    });
    let first = places.next()?;
    places.next().is_none().then_some(first)
}

/// The change by its words alone, when quotes, commas or spaces of the old piece are not as in the file: its words must
/// follow each other in one place only, and the new piece must have as many. Nothing but words is put there, so all else
/// of the new piece has to be as in the old one, but for spaces; and its quotes, if not that, as in the file.
fn by_words(text: &str, old: &str, new: &str) -> Option<String> {
    let (have, was, wanted) = (words(text), words(old), words(new));
    if was.len() < 2 || was.len() != wanted.len() {
        return None;
    }
    let last = was.len();
    let is_the_rest_kept = (0..=last).all(|index| {
        let (before, now) = (gap(old, &was, index), gap(new, &wanted, index));
        // Around the piece, spaces are the file's.
        let is_around = index == 0 || index == last;
        if is_around { marks(before.trim()) == marks(now.trim()) } else { marks(before) == marks(now) }
    });
    if !is_the_rest_kept {
        return None;
    }
    let mut places = have
        .windows(was.len())
        .filter(|place| place.iter().map(|(_, word)| *word).eq(was.iter().map(|(_, word)| *word)));
    let place = places.next().filter(|_| places.next().is_none())?;
    let are_quotes_kept = place.iter().zip(was.iter().zip(&wanted)).all(|(there, (was, wanted))| {
        let asked = quotes(new, wanted);
        asked == quotes(old, was) || asked == quotes(text, there)
    });
    if !are_quotes_kept {
        return None;
    }
    let mut result = String::with_capacity(text.len());
    let mut copied = 0;
    for ((start, word), (_, wanted)) in place.iter().zip(&wanted) {
        result.push_str(&text[copied..*start]);
        result.push_str(wanted);
        copied = start + word.len();
    }
    result.push_str(&text[copied..]);
    (result != text).then_some(result)
}

/// What stands before a word, or after the last one.
fn gap<'a>(text: &'a str, words: &[(usize, &str)], index: usize) -> &'a str {
    let from = index.checked_sub(1).and_then(|last| words.get(last)).map_or(0, |(start, word)| start + word.len());
    let to = words.get(index).map_or(text.len(), |(start, _)| *start);
    &text[from..to]
}

/// What of a gap counts: neither quotes nor spaces, but for line ends and the spaces that indent a line.
fn marks(gap: &str) -> String {
    let is_indent = gap.contains('\n');
    gap.chars().filter(|c| !is_quote(*c) && (is_indent || !c.is_whitespace())).collect()
}

/// Whether a word has a quote before it, and one after it.
fn quotes(text: &str, (start, word): &(usize, &str)) -> (bool, bool) {
    let end = start + word.len();
    (text[..*start].ends_with(is_quote), text[end..].starts_with(is_quote))
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`')
}

/// The change when the old piece is right but for its quotes, `'` for `"` or the other way round everywhere: it must
/// stand in one place only, and the new piece gets the file's quotes. One quote too many may be an apostrophe.
fn by_quotes(text: &str, old: &str, new: &str) -> Option<String> {
    [('\'', "\""), ('"', "'")].into_iter().find_map(|(given, wanted)| {
        let old = Some(old.replace(given, wanted)).filter(|swapped| swapped != old)?;
        let is_paired = new.matches(given).count() % 2 == 0;
        (is_paired && text.matches(&old).count() == 1).then(|| text.replacen(&old, &new.replace(given, wanted), 1))
    })
}

/// Runs of letters, digits and what names are made of, with where they begin.
fn words(text: &str) -> Vec<(usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (start, is_word(c)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                words.push((from, &text[from..at]));
                start = None;
            }
            _ => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_differs_in_quotes_only_is_found_by_its_words() {
        let text = "{\n  \"new_search\": false,\n  \"new_checkout\": false\n}\n";
        let wanted = "{\n  \"new_search\": false,\n  \"new_checkout\": true\n}\n";
        assert_eq!(by_words(text, "new_checkout: false", "new_checkout: true").unwrap(), wanted);
        assert_eq!(by_words(text, "new_checkout: false", "\"new_checkout\": true").unwrap(), wanted, "as in the file");
        assert_eq!(by_words(text, "old_checkout: false", "old_checkout: true"), None, "not there");
        assert_eq!(by_words("a: 1\na: 1\n", "a = 1", "a = 2"), None, "two places");
        assert_eq!(by_words("a: 1\n", "a = 1", "a = 1 2"), None, "another number of words");
        assert_eq!(by_words("a: 1\n", "1", "2"), None, "one word is too little to go by");
        assert_eq!(by_words("a  =  1\n", " a = 1", "a=2\n").unwrap(), "a  =  2\n", "spaces stay as they are");
    }

    #[test]
    fn a_change_of_more_than_words_is_made_whole_or_not_at_all() {
        for (text, old, new) in [
            ("retries  = 3\n", "retries = 3", "# retries = 5"),
            ("if a  == b\n", "if a == b", "if x != b"),
            ("a  = 1\n", "a = 1", "a += 2"),
            ("a  = 1\n", "a = 1", "a = 2;"),
            ("a  = (1)\n", "a = (1)", "b = 1"),
            ("a  = b\n", "a = b", "a = \"c\""),
            ("a  = \"80\"\n", "a = \"80\"", "a = 81"),
            ("if a  ==  1:\n    b\n", "if a == 1:\n    b", "if a == 2:\n  b"),
        ] {
            let told = replaced(text, old, new).unwrap_err();
            assert!(told.contains("not there"), "{text:?} {old:?} {new:?}: {told}");
        }
    }

    #[test]
    fn a_piece_with_other_quotes_is_found_and_gets_those_of_the_file() {
        let text = "cost = item[\"count\"] * item[\"prize\"]\nname = 'x'\n";
        let changed = by_quotes(text, "item['prize']", "item['price'] if 'price' in item else 0").unwrap();
        assert_eq!(changed, "cost = item[\"count\"] * item[\"price\"] if \"price\" in item else 0\nname = 'x'\n");
        assert_eq!(by_quotes(text, "name = \"x\"", "name = \"y\"").unwrap(), text.replace("'x'", "'y'"));
        assert_eq!(by_quotes(text, "item['size']", "item['price']"), None, "not there");
        assert_eq!(by_quotes("a(\"b\")\na(\"b\")\n", "a('b')", "a('c')"), None, "two places");
        assert_eq!(by_quotes("say(\"no\")\n", "say('no')", "say(\"don't\")"), None, "an apostrophe");
        assert_eq!(by_quotes(text, "prize", "price"), None, "no quotes to differ in");
    }

    #[test]
    fn line_ends_stay_as_they_are() {
        let text = "port = 80\r\nname = x\r\nport = 8080\r\n";
        let check = |text: &str, old: &str, new: &str, wanted: &str| {
            assert_eq!(replaced(text, old, new).as_deref(), Ok(wanted), "{text:?} {old:?} {new:?}");
        };
        check(text, "port = 80", "port = 81", &text.replacen("80", "81", 1));
        let both = "port = 81\r\nname = y\r\nport = 8080\r\n";
        check(text, "port = 80\nname = x", "port = 81\nname = y", both);
        check(text, "port = 80\r\nname = x\r\n", "port = 81\nname = y\r\n", both);
        check(text, "name = x", "a\nb", "port = 80\r\na\r\nb\r\nport = 8080\r\n");
        check(text, "name : x\nport : 8080", "name : y\nport : 8081", "port = 80\r\nname = y\r\nport = 8081\r\n");
        check("a\r\r\nb\r\n", "b", "c", "a\r\r\nc\r\n");
        check("a\r\nb", "b", "c\nd", "a\r\nc\r\nd");
        // Some lines end so and some do not: those that are not changed stay, and so does the end of the one that is.
        check("a\r\nb\nc\r\n", "a", "x", "x\r\nb\nc\r\n");
        assert!(replaced("a\r\nb\nc\r\n", "a\nb", "x").unwrap_err().contains("one at a time"));
    }

    #[test]
    fn what_changes_nothing_is_no_change() {
        let error = |text: &str, old: &str, new: &str| replaced(text, old, new).unwrap_err();
        assert!(error("a\n", "a", "a").contains("same text"));
        assert!(error("a\r\nb\r\n", "a\nb", "a\r\nb").contains("same text"));
        assert!(error("x = 'a'\n", "x = \"a\"", "x = 'a'").contains("nothing would change"));
    }

    #[test]
    fn a_piece_is_known_again_by_what_it_says() {
        for (text, piece, expected) in [
            ("a = 1\nb = 2\n", "  b = 2\n", (1, 2)),
            ("a = 1\na = 1\n", "a = 1", (2, 1)),
            ("  a = 1\r\nb = 2\r\nb = 3\r\n", "a = 1\nb = 2", (1, 1)),
            ("a = 10\n", "a = 1", (0, 0)),
            ("a = 1\n", " ", (0, 0)),
            ("", "a", (0, 0)),
        ] {
            assert_eq!(standing(text, piece), expected, "{text:?} {piece:?}");
        }
        for piece in ["}", "return None", "    else:", "x", "\n", "}\n}\n", "return x"] {
            assert!(is_trivial(piece), "{piece:?}");
        }
        for piece in ["a = 1", "debug: true", "return a + b", "if x == y:"] {
            assert!(!is_trivial(piece), "{piece:?}");
        }
    }
}
