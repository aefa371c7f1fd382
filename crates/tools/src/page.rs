//! Pages to text: HTML from outside is parsed in the sandbox, so that what crashes or stalls a parser harms
//! nothing but its own call.

use std::io::{Read, Write};

use encoding_rs::Encoding;
use homarus_contract::{
    gate::Permit,
    sandbox::LayerId,
    tool::{ToolContext, ToolError, ToolOutput},
};

use crate::{confined, web};

/// The function in the sandbox.
pub const NAME: &str = "page.text";
const WIDTH_CHARS: usize = 120;
const WALL_MS_MAX: u64 = 5_000;
const MEMORY_BYTES_MAX: u64 = 1 << 30;
const INPUT_BYTES_MAX: u64 = 32 << 20;
const CHARSET_LOOKED_AT_BYTES: usize = 1024;

/// Turns a page into text, with its links numbered and listed at the end.
pub async fn text(
    permit: Permit,
    mut context: ToolContext,
    layer: LayerId,
    body: &[u8],
    charset: Option<&'static Encoding>,
) -> Result<ToolOutput, ToolError> {
    let mut stdin = charset.map_or("", Encoding::name).as_bytes().to_vec();
    stdin.push(b'\n');
    stdin.extend_from_slice(body);
    context.limits.wall_ms = context.limits.wall_ms.min(WALL_MS_MAX);
    context.limits.memory_bytes = context.limits.memory_bytes.min(MEMORY_BYTES_MAX);
    confined::run_with(NAME, permit, context, layer, true, stdin).await
}

/// Runs inside the sandbox: the charset's name on the first line of the input, then the page.
pub fn confined() -> i32 {
    let mut input = Vec::new();
    if std::io::stdin().lock().take(INPUT_BYTES_MAX).read_to_end(&mut input).is_err() {
        return 1;
    }
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (label, body) = input.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    match to_text(body, Encoding::for_label(label)) {
        Ok(text) => i32::from(std::io::stdout().write_all(text.as_bytes()).is_err()),
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = std::io::stderr().write_all(error.as_bytes());
            1
        }
    }
}

fn to_text(body: &[u8], charset: Option<&'static Encoding>) -> Result<String, String> {
    let html = web::decode(body, charset.or_else(|| in_page(body)));
    let text = html2text::config::plain()
        .allow_width_overflow()
        .no_table_borders()
        .no_link_wrapping()
        .string_from_read(html.as_bytes(), WIDTH_CHARS)
        .map_err(|error| error.to_string())?;
    Ok(title(&html).map(|title| format!("{title}\n\n")).unwrap_or_default() + &text)
}

/// `<meta charset=...>`, near the beginning as it must be.
fn in_page(body: &[u8]) -> Option<&'static Encoding> {
    let start = String::from_utf8_lossy(&body[..body.len().min(CHARSET_LOOKED_AT_BYTES)]).to_ascii_lowercase();
    let after = start.split("charset=").nth(1)?;
    let name: String = after.trim_start_matches(['"', '\'']).chars().take_while(|c| !"\"'>; /".contains(*c)).collect();
    // A page that was read to its `<meta>` as ASCII is not in UTF-16, whatever it says.
    Encoding::for_label(name.as_bytes()).filter(|encoding| encoding.is_ascii_compatible())
}

/// The page's title as plain text; it is not part of the body that is shown.
fn title(html: &str) -> Option<String> {
    let lower = html.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let open = start + lower[start..].find('>')? + 1;
    let end = open + lower[open..].find("</title")?;
    let text = html2text::config::plain().allow_width_overflow().string_from_read(&html.as_bytes()[open..end], 1_000);
    let text = text.ok()?.split_whitespace().collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_as_text() {
        let page = "<!doctype html><html><head><title>The &amp; title</title><style>a{}</style>\
                    <script>alert(1)</script></head><body><h1>Head</h1><p>See <a href='/x'>this</a>.</p>\
                    <ul><li>a<li>b</ul><!-- hidden --></body></html>";
        let text = to_text(page.as_bytes(), None).unwrap();
        assert_eq!(text, "The & title\n\n# Head\n\nSee [this][1].\n* a\n* b\n\n[1]: /x\n");
    }

    #[test]
    fn charsets() {
        assert!(to_text(b"<p>caf\xe9</p>", Encoding::for_label(b"iso-8859-1")).unwrap().contains("café"));
        assert!(to_text(b"<meta charset=\"latin1\"><p>caf\xe9</p>", None).unwrap().contains("café"));
        assert!(to_text("<meta charset=utf-16><p>café</p>".as_bytes(), None).unwrap().contains("café"));
    }
}
