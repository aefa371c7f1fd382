//! The one page of one browser: opened, read as text, acted upon, pictured. All of it bounded in time and size; what
//! the page says of itself is text from outside.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::cdp::{Cdp, NoAnswer};

const OUTLINE: &str = include_str!("../../data/browser/outline.js");
const ACT: &str = include_str!("../../data/browser/act.js");
const QUIET: &str = include_str!("../../data/browser/quiet.js");
/// Scripts of ours run where the page's programs do not.
const WORLD: &str = "homarus";
const START_MS: u64 = 30_000;
/// Longest a page may load before it is read as it is.
const LOAD_MS: u64 = 20_000;
/// Nothing started to load for this long: it has come to rest.
const REST_MS: u64 = 200;
/// Longest our scripts may take.
const SCRIPT_MS: u64 = 10_000;
/// A page that goes elsewhere while it is read is read again.
const READS_MAX: usize = 4;
const TEXT_BYTES_MAX: usize = 2 << 20;
const ELEMENTS_MAX: usize = 5_000;
const WHOLE_PAGE_HEIGHT_MAX: f64 = 8_000.0;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

#[derive(Debug)]
pub enum PageError {
    /// The browser is of no use any more.
    Lost(String),
    /// For the model; the page is still there.
    Said(String),
}

/// An act that failed.
#[derive(Debug)]
pub enum Unacted {
    /// Nothing was done.
    Not(PageError),
    /// It may have been done.
    Perhaps(PageError),
}

/// A page as it was read.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Outline {
    pub url: String,
    pub title: String,
    pub text: String,
    pub elements: Vec<Element>,
    /// There is more of it than was read.
    pub is_cut: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Element {
    pub number: usize,
    pub role: String,
    pub name: String,
}

pub struct Page {
    pub cdp: Cdp,
    session: String,
    target: String,
    deadline: Instant,
}

/// What is done to one element, or to the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    Click,
    Type(String),
    Select(String),
    Press(Key),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub name: &'static str,
    code: u32,
    text: &'static str,
}

/// Keys that can be pressed: none that the browser itself, and not the page, takes.
pub const KEYS: [Key; 14] = [
    key("Enter", 13, "\r"),
    key("Tab", 9, ""),
    key("Escape", 27, ""),
    key("Space", 32, " "),
    key("Backspace", 8, ""),
    key("Delete", 46, ""),
    key("ArrowUp", 38, ""),
    key("ArrowDown", 40, ""),
    key("ArrowLeft", 37, ""),
    key("ArrowRight", 39, ""),
    key("PageUp", 33, ""),
    key("PageDown", 34, ""),
    key("Home", 36, ""),
    key("End", 35, ""),
];

const fn key(name: &'static str, code: u32, text: &'static str) -> Key {
    Key { name, code, text }
}

/// What `act.js` says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ready {
    error: Option<String>,
    insert: bool,
    x: Option<f64>,
    y: Option<f64>,
}

impl Page {
    /// Takes the page a new browser has. `to` and `from` are the two ends of the debugging pipes.
    pub async fn take(to: OwnedFd, from: OwnedFd) -> Result<Self, String> {
        let cdp = Cdp::new(to, from).map_err(|error| error.to_string())?;
        let deadline = Instant::now() + Duration::from_millis(START_MS);
        let mut page = Self { cdp, session: String::new(), target: String::new(), deadline };
        page.attach().await.map_err(|error| match error {
            PageError::Lost(why) | PageError::Said(why) => why,
        })?;
        Ok(page)
    }

    /// No question waits longer than this.
    pub fn until(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    async fn attach(&mut self) -> Result<(), PageError> {
        let targets = self.ask_browser("Target.getTargets", json!({})).await?;
        let pages = targets["targetInfos"].as_array().into_iter().flatten();
        let first = pages.filter(|target| target["type"] == "page").find_map(|target| target["targetId"].as_str());
        self.target = match first {
            Some(target) => target.to_owned(),
            None => {
                let made = self.ask_browser("Target.createTarget", json!({"url": "about:blank"})).await?;
                text(&made, "targetId")?
            }
        };
        self.cdp.seen().target.clone_from(&self.target);
        let attached =
            self.ask_browser("Target.attachToTarget", json!({"targetId": self.target, "flatten": true})).await?;
        self.session = text(&attached, "sessionId")?;
        self.ask_browser("Browser.setDownloadBehavior", json!({"behavior": "deny", "eventsEnabled": true})).await?;
        self.ask_browser("Target.setDiscoverTargets", json!({"discover": true})).await?;
        self.ask("Page.enable", json!({})).await?;
        self.ask("Page.setInterceptFileChooserDialog", json!({"enabled": true})).await?;
        Ok(())
    }

    pub async fn open(&mut self, url: &str) -> Result<(), PageError> {
        self.cdp.seen().is_loading = false;
        let wait = self.left().min(Duration::from_millis(LOAD_MS));
        match self.cdp.ask(Some(&self.session), "Page.navigate", json!({"url": url}), wait).await {
            Ok(answer) => match answer["errorText"].as_str() {
                // What it stands on then is the browser's own page about the failure.
                Some(error) => Err(PageError::Said(format!("The page could not be opened: {error}."))),
                None => Ok(()),
            },
            Err(NoAnswer::TooLate) => {
                self.ask("Page.stopLoading", json!({})).await?;
                Err(PageError::Said(format!("Nothing came from that address for {} s.", LOAD_MS / 1000)))
            }
            Err(other) => Err(self.failed(other)),
        }
    }

    /// Waits until nothing loads any more and the page has stopped changing; `false`: it still loads.
    pub async fn rest(&mut self) -> Result<bool, PageError> {
        let until = (Instant::now() + Duration::from_millis(LOAD_MS)).min(self.deadline);
        loop {
            tokio::time::sleep(Duration::from_millis(REST_MS)).await;
            if self.cdp.seen().has_crashed {
                return Err(PageError::Lost("The page crashed".to_owned()));
            }
            if !self.cdp.seen().is_loading {
                break;
            }
            if Instant::now() >= until {
                return Ok(false);
            }
        }
        match self.evaluate(QUIET).await {
            // It went elsewhere meanwhile, which whoever reads it finds out.
            Ok(_) | Err(PageError::Said(_)) => Ok(true),
            Err(lost) => Err(lost),
        }
    }

    pub async fn outline(&mut self) -> Result<Outline, PageError> {
        let mut outline: Outline = self.evaluate_json(OUTLINE).await?;
        outline.text.truncate(outline.text.floor_char_boundary(TEXT_BYTES_MAX));
        outline.elements.truncate(ELEMENTS_MAX);
        Ok(outline)
    }

    /// Where the page is now.
    pub async fn address(&mut self) -> Result<String, PageError> {
        self.evaluate_json("JSON.stringify(location.href)").await
    }

    pub async fn act(&mut self, number: Option<usize>, deed: &Deed) -> Result<(), Unacted> {
        let mut ready = Ready::default();
        if let Some(number) = number {
            ready = self.ready(number, deed).await?;
        }
        if let Some(error) = &ready.error {
            return Err(Unacted::Not(PageError::Said(refusal(error))));
        }
        let given = match deed {
            Deed::Press(key) => self.press(key).await,
            Deed::Type(text) if ready.insert && text.is_empty() => self.press(&KEYS[4]).await,
            Deed::Type(text) if ready.insert => self.ask("Input.insertText", json!({"text": text})).await.map(drop),
            Deed::Click => match (ready.x, ready.y) {
                (Some(x), Some(y)) => self.click(x, y).await,
                _ => {
                    let why = "The page did not say where that element is.".to_owned();
                    return Err(Unacted::Not(PageError::Said(why)));
                }
            },
            _ => Ok(()),
        };
        given.map_err(Unacted::Perhaps)
    }

    /// Makes an element ready for input, or sets what input cannot set.
    async fn ready(&mut self, number: usize, deed: &Deed) -> Result<Ready, Unacted> {
        let (action, given) = match deed {
            Deed::Click => ("click", ""),
            Deed::Type(text) => ("type", text.as_str()),
            Deed::Select(text) => ("select", text.as_str()),
            Deed::Press(_) => ("press", ""),
        };
        let script = format!("{}({number}, {}, {})", ACT.trim_end(), json!(action), json!(given));
        if matches!(deed, Deed::Click | Deed::Press(_)) {
            return self.evaluate_json(&script).await.map_err(Unacted::Not);
        }
        // The script may do the deed itself: once it was sent, it is not sent again.
        let world = self.world().await.map_err(Unacted::Not)?;
        let value = self.run_script(&world, &script).await.map_err(Unacted::Perhaps)?;
        parsed(&value).map_err(Unacted::Perhaps)
    }

    async fn click(&mut self, x: f64, y: f64) -> Result<(), PageError> {
        for (kind, buttons) in [("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            let event = json!({"type": kind, "x": x, "y": y, "button": button, "buttons": buttons, "clickCount": 1});
            self.ask("Input.dispatchMouseEvent", event).await?;
        }
        Ok(())
    }

    async fn press(&mut self, key: &Key) -> Result<(), PageError> {
        let name = if key.name == "Space" { " " } else { key.name };
        for kind in [if key.text.is_empty() { "rawKeyDown" } else { "keyDown" }, "keyUp"] {
            let mut event = json!({"type": kind, "key": name, "code": key.name, "windowsVirtualKeyCode": key.code});
            if kind == "keyDown" {
                event["text"] = key.text.into();
            }
            self.ask("Input.dispatchKeyEvent", event).await?;
        }
        Ok(())
    }

    /// A PNG of what is in view, or of the whole page up to a height.
    pub async fn picture(&mut self, is_whole: bool) -> Result<Vec<u8>, PageError> {
        let mut wanted = json!({"format": "png"});
        if is_whole {
            let metrics = self.ask("Page.getLayoutMetrics", json!({})).await?;
            let side = |name: &str| metrics["cssContentSize"][name].as_f64().unwrap_or(0.0).max(1.0);
            let height = side("height").min(WHOLE_PAGE_HEIGHT_MAX);
            wanted["clip"] = json!({"x": 0, "y": 0, "width": side("width").min(4_000.0), "height": height, "scale": 1});
            wanted["captureBeyondViewport"] = true.into();
        }
        let answer = self.ask("Page.captureScreenshot", wanted).await?;
        let png = BASE64_STANDARD.decode(text(&answer, "data")?).unwrap_or_default();
        if png.starts_with(PNG) { Ok(png) } else { Err(PageError::Said("The browser gave no picture.".to_owned())) }
    }

    /// Asks the browser to write what it keeps and end.
    pub async fn close(&mut self, wait: Duration) {
        // An answer may not come any more; its end of the pipe closes.
        let _ = self.cdp.ask(None, "Browser.close", json!({}), wait).await;
        self.cdp.closed(wait).await;
    }

    async fn evaluate_json<T: DeserializeOwned>(&mut self, script: &str) -> Result<T, PageError> {
        parsed(&self.evaluate(script).await?)
    }

    /// Runs a script of ours; again where the page went elsewhere meanwhile.
    async fn evaluate(&mut self, script: &str) -> Result<Value, PageError> {
        let mut last = String::new();
        for _ in 0..READS_MAX {
            let world = self.world().await?;
            match self.run_script(&world, script).await {
                Err(PageError::Said(why)) => last = why,
                other => return other,
            }
            tokio::time::sleep(Duration::from_millis(REST_MS)).await;
        }
        Err(unread(&last))
    }

    /// The world of the page where scripts of ours run; it is made where there is none.
    async fn world(&mut self) -> Result<Value, PageError> {
        let mut last = String::new();
        for _ in 0..READS_MAX {
            let wanted = json!({"frameId": self.target, "worldName": WORLD});
            match self.ask("Page.createIsolatedWorld", wanted).await {
                Ok(made) => return Ok(made["executionContextId"].clone()),
                Err(PageError::Said(why)) => last = why,
                Err(lost) => return Err(lost),
            }
            tokio::time::sleep(Duration::from_millis(REST_MS)).await;
        }
        Err(unread(&last))
    }

    /// Once.
    async fn run_script(&mut self, world: &Value, script: &str) -> Result<Value, PageError> {
        let wanted = json!({
            "expression": script, "contextId": world, "returnByValue": true,
            "awaitPromise": true, "timeout": SCRIPT_MS,
        });
        let answer = self.ask("Runtime.evaluate", wanted).await?;
        match answer.get("exceptionDetails") {
            None => Ok(answer["result"]["value"].clone()),
            Some(_) => Err(PageError::Said("a script of ours failed on it".to_owned())),
        }
    }

    async fn ask(&self, method: &'static str, params: Value) -> Result<Value, PageError> {
        let wait = self.left().min(Duration::from_millis(SCRIPT_MS * 2));
        self.cdp.ask(Some(&self.session), method, params, wait).await.map_err(|error| self.failed(error))
    }

    async fn ask_browser(&self, method: &'static str, params: Value) -> Result<Value, PageError> {
        self.cdp.ask(None, method, params, self.left()).await.map_err(|error| self.failed(error))
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn failed(&self, error: NoAnswer) -> PageError {
        match error {
            NoAnswer::Error(why) => PageError::Said(why.chars().take(200).collect()),
            NoAnswer::Gone => PageError::Lost("The browser ended".to_owned()),
            NoAnswer::TooLate => PageError::Lost("The page did not answer in time".to_owned()),
        }
    }
}

fn parsed<T: DeserializeOwned>(value: &Value) -> Result<T, PageError> {
    let parsed = value.as_str().and_then(|json| serde_json::from_str(json).ok());
    parsed.ok_or_else(|| PageError::Said("The page could not be read.".to_owned()))
}

fn unread(why: &str) -> PageError {
    PageError::Said(format!("The page could not be read: {why}."))
}

fn text(value: &Value, name: &str) -> Result<String, PageError> {
    value[name].as_str().map(str::to_owned).ok_or_else(|| PageError::Lost("The browser talks nonsense".to_owned()))
}

fn refusal(error: &str) -> String {
    match error {
        "gone" => "There is no such element on the page any more. Look again with browser.read.",
        "changed" => "That element is not called what it was when you read it. Look again with browser.read.",
        "disabled" => "That element is disabled.",
        "covered" => {
            "Something else lies over that element, so a click would not reach it. Deal with what covers it first."
        }
        "not shown" => "That element is not visible.",
        "not a choice" => "That element is no choice. Use click or type.",
        "no such option" => "That choice has no such option. Use one of those the page shows.",
        "not a field" => "Nothing can be typed into that element.",
        "not taken" => "The field did not take that. Dates are written YYYY-MM-DD, times HH:MM.",
        "read only" => "That field cannot be changed.",
        "file" => "Files cannot be given to a page.",
        _ => "The page refused it.",
    }
    .to_owned()
}
