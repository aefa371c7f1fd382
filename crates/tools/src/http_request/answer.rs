//! The answer to a request, as the model is shown it: status and headers, and the body as text where it is one.

use homarus_contract::{
    gate::Permit,
    sandbox::{LayerDiff, LayerId},
    text::one_line,
    tool::{ToolContext, ToolError, ToolOutput},
};
use url::Url;

use super::{HEADERS_MAX, Method};
use crate::{
    page,
    web::{self, Cut, Fetched},
};

/// Headers of an answer that a model can use, besides those of a HEAD.
const HEADERS_SHOWN: [&str; 4] = ["link", "retry-after", "location", "allow"];

/// The last answer, and how it was come by.
pub struct Answer {
    pub fetched: Fetched,
    pub method: Method,
    /// The addresses that were asked, in order; the last gave the answer.
    pub asked: Vec<Url>,
    /// Where it leads on, if that is an address, and why that was not followed.
    pub stopped: Option<(Option<Url>, String)>,
}

impl Answer {
    /// What was answered is told whatever fails now: who asked for a change must not have to ask again.
    pub async fn show(self, permit: Permit, context: ToolContext, layer: LayerId) -> Result<ToolOutput, ToolError> {
        let call = layer.call.clone();
        let from = self.asked.last().map(Url::as_str).unwrap_or_default().to_owned();
        let mut text = self.heading();
        let Self { fetched, method, .. } = self;
        let mut content = headers(&fetched, method);
        let (mut whole, mut receipt) = (Vec::new(), None);
        match kind(&fetched) {
            _ if fetched.body.is_empty() && fetched.cut.is_some() => {}
            _ if fetched.body.is_empty() => text.push_str("The body is empty.\n"),
            Kind::Binary => text.push_str("The body is binary or compressed, and not shown.\n"),
            Kind::Text => {
                content.push_str(&web::decode(&fetched.body, fetched.charset()));
                if content.len() > web::SHOWN_BYTES_MAX {
                    whole = fetched.body;
                }
            }
            Kind::Page => {
                match page::text(permit, context, layer, &fetched.body, fetched.charset()).await {
                    Ok(page) if !page.is_error => {
                        content.push_str(&page.text);
                        receipt = page.receipt;
                    }
                    // Nothing was changed: the call is made again where there is a sandbox.
                    Err(error @ ToolError::Unavailable(_)) if method.only_reads() => return Err(error),
                    failed => {
                        text.push_str("The page could not be turned into text; this is its source.\n");
                        content.push_str(&web::decode(&fetched.body, fetched.charset()));
                        receipt = failed.ok().and_then(|page| page.receipt);
                    }
                }
                whole = fetched.body;
            }
        }
        if !content.trim().is_empty() {
            text.push_str(&web::outside(&call, &from, &content));
        }
        Ok(ToolOutput { text, is_error: false, exit: None, whole, wall_ms: 0, receipt, diff: LayerDiff::default() })
    }

    /// What is ours to say. The words of the other side stand between the marks after it, and nowhere else.
    fn heading(&self) -> String {
        let Self { fetched, method, asked, stopped } = self;
        let address = |url: &Url| one_line(url.as_str(), 500);
        let mut text = format!("{} {}\n", method.name(), asked.first().map(address).unwrap_or_default());
        for url in asked.iter().skip(1) {
            text.push_str(&format!("led to {}\n", address(url)));
        }
        let media = fetched.media_type();
        let media = if is_media_type(&media) { media.as_str() } else { "no known type" };
        let more = match &fetched.cut {
            None => "",
            Some(Cut::TooLarge) => " and more that was not read",
            Some(_) => " and perhaps more that did not come",
        };
        text.push_str(&format!("status {}, {} bytes{more} of {media}\n", fetched.status, fetched.body.len()));
        if let Some(cut) = fetched.cut.as_ref().filter(|cut| **cut != Cut::TooLarge) {
            text.push_str(&format!("The answer was cut off: {cut}.\n"));
            if !method.only_reads() {
                text.push_str("The request was answered all the same; do not repeat it without checking.\n");
            }
        }
        match stopped {
            None => {}
            Some((None, _)) => text.push_str("It leads to something that is no address.\n"),
            Some((Some(target), why)) => text.push_str(&format!(
                "It leads to {}, which was not followed: {why}. Ask for that address yourself if you need it.\n",
                address(target)
            )),
        }
        text
    }
}

/// How the body is shown.
enum Kind {
    Page,
    Text,
    Binary,
}

fn kind(fetched: &Fetched) -> Kind {
    let media = fetched.media_type();
    if fetched.header("content-encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        // Nobody asked for it: a small answer that unpacks to a large one is an attack.
        return Kind::Binary;
    }
    let start = String::from_utf8_lossy(&fetched.body[..fetched.body.len().min(256)]).trim_start().to_ascii_lowercase();
    let looks_like_page = start.starts_with("<!doctype html") || start.starts_with("<html");
    if matches!(media.as_str(), "text/html" | "application/xhtml+xml") || (media.is_empty() && looks_like_page) {
        return Kind::Page;
    }
    let has_zero = fetched.body.iter().take(8 * 1024).any(|byte| *byte == 0);
    let is_text = media.starts_with("text/")
        || ["application/json", "application/xml", "application/javascript"].contains(&media.as_str())
        || media.ends_with("+json")
        || media.ends_with("+xml");
    let declared_wide = fetched.charset().is_some_and(|charset| !charset.is_ascii_compatible());
    match is_text {
        true if !has_zero || declared_wide => Kind::Text,
        // A cut may go through the last character.
        false if !has_zero && text_up_to_the_end(&fetched.body) => Kind::Text,
        _ => Kind::Binary,
    }
}

fn text_up_to_the_end(body: &[u8]) -> bool {
    match std::str::from_utf8(body) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && body.len() - error.valid_up_to() < 4,
    }
}

fn is_media_type(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    text.len() <= 80 && text.split_once('/').is_some_and(|(kind, name)| is_name(kind) && is_name(name))
}

/// The headers of the answer that are worth showing, all of them if it has nothing else.
fn headers(fetched: &Fetched, method: Method) -> String {
    let wanted = |name: &str| method == Method::Head || HEADERS_SHOWN.contains(&name);
    let lines = fetched.headers.iter().filter(|(name, _)| wanted(name)).take(HEADERS_MAX);
    let lines: String = lines.map(|(name, value)| format!("{name}: {}\n", one_line(value, 500))).collect();
    if lines.is_empty() { lines } else { lines + "\n" }
}
