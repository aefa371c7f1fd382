//! What the model does in the browser. The page does not outlive the process that opened it, which the model is told;
//! then it opens it again, and makes the call it was about.

use serde_json::json;

use crate::job::{Action, Call, Made};

/// What a call is told that finds no page; it has done nothing then.
pub const NO_PAGE: &str = "No page is open.";

/// The pages of this action have addresses that begin so, and end with how often it has opened them.
pub fn page(action: &Action) -> String {
    format!("/page/{}/", action.token)
}

/// The page of this call, as the server outside counts it. The call may stand in other text.
pub fn key(call: &str) -> Option<&str> {
    let (_, rest) = call.split_once("/page/")?;
    rest.split(|char: char| !char.is_ascii_alphanumeric() && char != '/').next()
}

pub fn open(action: &Action, number: usize, outside: &str) -> Call {
    ("browser.open", json!({"url": format!("{outside}{}{number}", page(action))}))
}

/// How it was opened so far.
pub fn opened<'a>(action: &Action, made: &'a [Made]) -> Vec<&'a Made> {
    let page = page(action);
    made.iter().filter(|call| call.arguments.contains(&page)).collect()
}

/// The next call for what is done on a page.
pub fn next(action: &Action, made: &[Made], outside: &str) -> Option<Call> {
    let mark = action.mark();
    let own: Vec<&Made> =
        made.iter().filter(|call| call.arguments.contains(&mark) && key(&call.arguments).is_none()).collect();
    if own.iter().any(|call| !call.result.contains(NO_PAGE)) {
        return None;
    }
    let opened = opened(action, made).len();
    if opened > own.len() { Some(action.call(outside)) } else { Some(open(action, opened + 1, outside)) }
}

pub fn is_picture(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.ends_with(b"IEND\xaeB`\x82")
}

/// What the server outside shows: its one button posts to it.
pub fn html(token: &str) -> String {
    format!(
        "<!doctype html><title>{token}</title><body>\
         <form method=post action=\"/post/{token}\"><button>Send</button></form>"
    )
}

#[cfg(test)]
mod tests {
    use crate::job::Kind;

    use super::*;

    #[test]
    fn a_page_is_known_by_its_call_however_that_is_written() {
        let action = Action { token: "t1x2z".to_owned(), number: 2, kind: Kind::Open };
        let arguments = open(&action, 3, "http://127.0.0.1:1").1.to_string();
        let block = json!({"arguments": arguments}).to_string();
        assert_eq!((key(&arguments), key(&block)), (Some("t1x2z/3"), Some("t1x2z/3")));
        assert_eq!(key("http://127.0.0.1:1/post/t1x2z"), None);
    }
}
