//! The inside of one line: bold, italic, code, links.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::show::styled::{Colour, Line, Look};

/// Before a line of text: nothing after it begins a quote, a list or another block, of which the mark would be lost.
const LEAD: &str = "x ";

/// Text of one line with its looks, upon the look of the block it stands in.
pub fn inline(text: &str, base: Look) -> Line {
    let mut line = Line::default();
    let mut looks = Looks { base, ..Looks::default() };
    let led = format!("{LEAD}{text}");
    for (event, range) in Parser::new_ext(&led, Options::ENABLE_STRIKETHROUGH).into_offset_iter() {
        match event {
            Event::Text(text) if range.start < LEAD.len() => {
                line.push(looks.now(), text.get(LEAD.len() - range.start..).unwrap_or_default());
            }
            Event::Start(tag) => looks.open(tag),
            Event::End(tag) => {
                if let Some(address) = looks.close(tag) {
                    // An address that is its own text is not said twice.
                    if !line.text().ends_with(&address) {
                        line.push(Look::DIM, &format!(" ({address})"));
                    }
                }
            }
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => line.push(looks.now(), &text),
            Event::Code(text) => line.push(Look { colour: Some(Colour::Cyan), ..looks.now() }, &text),
            Event::SoftBreak | Event::HardBreak => line.push(base, " "),
            _ => {}
        }
    }
    // What Markdown takes for a definition, and so shows nowhere, is shown as it stands.
    if line.is_empty() { Line::new(base, text) } else { line }
}

#[derive(Default)]
struct Looks {
    base: Look,
    bold: usize,
    italic: usize,
    struck: usize,
    links: Vec<String>,
}

impl Looks {
    fn now(&self) -> Look {
        Look {
            bold: self.base.bold || self.bold > 0,
            italic: self.base.italic || self.italic > 0,
            struck: self.base.struck || self.struck > 0,
            underlined: self.base.underlined || !self.links.is_empty(),
            ..self.base
        }
    }

    fn open(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Strong => self.bold += 1,
            Tag::Emphasis => self.italic += 1,
            Tag::Strikethrough => self.struck += 1,
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => self.links.push(dest_url.to_string()),
            _ => {}
        }
    }

    /// The address of a link that ends here.
    fn close(&mut self, tag: TagEnd) -> Option<String> {
        match tag {
            TagEnd::Strong => self.bold = self.bold.saturating_sub(1),
            TagEnd::Emphasis => self.italic = self.italic.saturating_sub(1),
            TagEnd::Strikethrough => self.struck = self.struck.saturating_sub(1),
            TagEnd::Link | TagEnd::Image => return self.links.pop().filter(|address| !address.is_empty()),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mark_of_a_block_is_lost_within_a_line() {
        for text in [
            "> 100 ms",
            "- 5",
            "-5",
            "1. Install",
            "> 3) Do X",
            "- > 90 %",
            "# 1",
            "---",
            "```",
            "    far",
            "[x]: http://a.b",
            "<div>",
            "== x",
            "x",
            "",
            "|",
        ] {
            assert_eq!(inline(text, Look::PLAIN).text().trim(), text.trim(), "{text:?}");
        }
        assert_eq!(inline("> **5** ms", Look::PLAIN).text(), "> 5 ms");
        assert!(inline("**5** ms", Look::PLAIN).spans().next().unwrap().0.bold);
    }

    #[test]
    fn looks_nest_and_links_say_where_they_lead() {
        let line = inline("a **b _c_** ~~d~~ `e*f*` [g](http://h) <http://i>", Look::PLAIN);
        assert_eq!(line.text(), "a b c d e*f* g (http://h) http://i");
        let look = |part: &str| line.spans().find(|(_, text)| text.contains(part)).map(|(look, _)| look).unwrap();
        assert!(look("b").bold && !look("b").italic);
        assert!(look("c").bold && look("c").italic);
        assert!(look("d").struck);
        assert_eq!(look("e*f*").colour, Some(Colour::Cyan));
        assert!(look("g").underlined);
    }
}
