//! The browser: Chromium as a guest of the sandbox, one for each run that uses it, spoken to over two pipes.
//!
//! It sees nothing of the workspace and has no route; what it loads comes through the proxy of its one socket, which
//! asks the run's rules. Its own inner sandbox is off, because that needs what ours denies (nested user namespaces):
//! the boundary is ours. It starts with the first call that needs it and ends when the run rests.

mod cdp;
#[cfg(test)]
pub mod fake;
mod far;
mod launch;
mod page;
mod profile;
mod rules;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use homarus_contract::{
    egress::{Egress, EgressHandle},
    event::AgentRef,
    guest::GuestLauncher,
    ids::{CallId, RunId},
    sandbox::{LayerDiff, Receipt},
    text::one_line,
    tool::{HostRules, ToolContext, ToolError, ToolOutput},
};
use url::Url;

use crate::web;
use page::{Outline, PageError};
use profile::Held;
use rules::Rules;

pub use far::Far;
pub use page::{Deed, KEYS, Page, Unacted};
pub use profile::{Listed, ProfileName, Shelf};

/// Rules and grants name these.
pub const OPEN_VERB: &str = "browser:open";
pub const ACT_VERB: &str = "browser:act";
pub const READ_VERB: &str = "browser:read";
/// Longest call of the browser.
pub const CALL_MS_MAX: u64 = 60_000;
/// Browsers at once.
pub const BROWSERS_MAX: usize = 8;
/// What is shown of a page at once.
pub const PART_BYTES_MAX: usize = 12 << 10;
/// For a browser with a profile to write down what it keeps.
const CLOSE_MS: u64 = 3_000;

/// Which profile the runs of an agent have; `None`: a throw-away one. The error is for people.
pub type ProfileOf = Box<dyn Fn(Option<&AgentRef>) -> Result<Option<ProfileName>, String> + Send + Sync>;

pub struct Options {
    /// Chromium's executable; `None`: there is none.
    pub program: Option<PathBuf>,
    pub shelf: Shelf,
    pub profile_of: ProfileOf,
    pub memory_bytes: u64,
    pub launcher: Arc<dyn GuestLauncher>,
    pub egress: Arc<dyn Egress>,
    pub rules: Arc<dyn HostRules>,
}

/// The browsers of this process, one a run.
pub struct Browsers {
    options: Options,
    open: Mutex<HashMap<RunId, Slot>>,
}

/// Whoever holds the lock talks to the browser.
type Slot = Arc<tokio::sync::Mutex<Option<Browser>>>;

/// Dropping it ends it; the lock of its profile is given back after that.
struct Browser {
    page: Page,
    /// As last read.
    shown: Outline,
    rules: Arc<Rules>,
    way_out: Box<dyn EgressHandle>,
    receipt: Receipt,
    _guard: Box<dyn Send + Sync>,
    profile: Option<Held>,
}

/// Where a run's browser is, for a plan.
pub struct Here {
    pub url: Url,
    outline: Outline,
}

impl Here {
    /// `HOST:PORT`, as rules name it.
    pub fn target(&self) -> String {
        web::endpoint(&self.url)
    }

    /// An element as people are told of it.
    pub fn element(&self, number: usize) -> Option<String> {
        let element = self.outline.elements.iter().find(|element| element.number == number)?;
        // The page chooses these words; they must not look like ours.
        let word = |text: &str, chars_max: usize| one_line(text, chars_max).replace('"', "'");
        Some(format!("{} \"{}\"", word(&element.role, 30), word(&element.name, 100)))
    }
}

/// One call's hold of the browser.
pub struct Turn {
    slot: tokio::sync::OwnedMutexGuard<Option<Browser>>,
    call: CallId,
    wall_ms: u64,
}

const NO_PAGE: &str =
    "No page is open. Open one with browser.open first: it does not stay when a run rests or is taken over.";

impl Browsers {
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self { options, open: Mutex::default() })
    }

    /// Why there is no browser, if so.
    pub fn unavailable(&self) -> Option<String> {
        match &self.options.program {
            None => Some(
                "no Chromium was found: install it (Debian: apt-get install chromium), or name it in `browser.program`"
                    .to_owned(),
            ),
            Some(program) if !program.is_file() => {
                Some(format!("browser.program names {}, which is no file", program.display()))
            }
            Some(_) => None,
        }
    }

    /// What a run's browser shows. Does not wait: while a call is under way, nothing is planned upon its page.
    pub fn here(&self, run: &RunId) -> Result<Here, ToolError> {
        let none = || ToolError::BadArguments(NO_PAGE.to_owned());
        let slot = self.slots().get(run).cloned().ok_or_else(none)?;
        let busy =
            |_| ToolError::BadArguments("The browser is busy with another call. Wait for its result.".to_owned());
        let slot = slot.try_lock().map_err(busy)?;
        let outline = slot.as_ref().ok_or_else(none)?.shown.clone();
        let url = web::parse_url(&outline.url).map_err(|_| none())?;
        Ok(Here { url, outline })
    }

    /// Ends a run's browser, if it has one; one with a profile may write down what it keeps.
    pub async fn end(&self, run: &RunId) {
        let Some(slot) = self.slots().remove(run) else { return };
        let browser = slot.lock().await.take();
        if let Some(browser) = browser {
            browser.end().await;
        }
    }

    /// The browser of a run; started if there is none.
    pub async fn start(&self, context: &ToolContext, call: &CallId, agreed: Vec<String>) -> Result<Turn, ToolError> {
        let failed = |why: String| ToolError::Failed(format!("The browser could not be started: {why}"));
        if let Some(why) = self.unavailable() {
            return Err(failed(why));
        }
        let slot = {
            let mut open = self.slots();
            if open.len() >= BROWSERS_MAX && !open.contains_key(&context.run) {
                return Err(failed(format!("{BROWSERS_MAX} are open already; wait until another run ends")));
            }
            open.entry(context.run.clone()).or_default().clone()
        };
        let mut slot = slot.lock_owned().await;
        if slot.is_none() {
            let rules = Arc::new(Rules::new(self.options.rules.clone(), context.profile.clone()));
            let profile = (self.options.profile_of)(context.agent.as_ref()).map_err(failed)?;
            *slot = Some(launch::start(&self.options, rules, profile.as_ref()).await.map_err(failed)?);
        }
        let mut turn = Turn::new(slot, call, context);
        turn.begin(context, agreed)?;
        Ok(turn)
    }

    /// The browser of a run that has one.
    pub async fn turn(&self, context: &ToolContext, call: &CallId) -> Result<Turn, ToolError> {
        let slot = self.slots().get(&context.run).cloned().ok_or_else(|| ToolError::Failed(NO_PAGE.to_owned()))?;
        let mut turn = Turn::new(slot.lock_owned().await, call, context);
        turn.begin(context, Vec::new())?;
        Ok(turn)
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Slot>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Browser {
    async fn end(mut self) {
        if self.profile.is_some() {
            self.page.close(Duration::from_millis(CLOSE_MS)).await;
        }
        // Waits for the end of its processes.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

impl Turn {
    fn new(slot: tokio::sync::OwnedMutexGuard<Option<Browser>>, call: &CallId, context: &ToolContext) -> Self {
        Self { slot, call: call.clone(), wall_ms: context.limits.wall_ms.min(CALL_MS_MAX) }
    }

    fn begin(&mut self, context: &ToolContext, agreed: Vec<String>) -> Result<(), ToolError> {
        let browser = self.slot.as_mut().ok_or_else(|| ToolError::Failed(NO_PAGE.to_owned()))?;
        browser.rules.agree(&context.profile, agreed);
        browser.page.until(Instant::now() + Duration::from_millis(self.wall_ms));
        Ok(())
    }

    pub fn page(&mut self) -> Result<&mut Page, PageError> {
        match self.slot.as_mut() {
            Some(browser) => Ok(&mut browser.page),
            None => Err(PageError::Lost(NO_PAGE.to_owned())),
        }
    }

    /// Fails where the page has gone to another site than the one that was judged.
    pub async fn same_site(&mut self) -> Result<(), PageError> {
        let now = self.page()?.address().await?;
        let Some(browser) = self.slot.as_mut() else { return Err(PageError::Lost(NO_PAGE.to_owned())) };
        let site = |url: &str| web::parse_url(url).map(|url| web::endpoint(&url)).ok();
        if site(&now).is_some() && site(&now) == site(&browser.shown.url) {
            return Ok(());
        }
        browser.shown = Outline { url: now.clone(), ..Outline::default() };
        Err(PageError::Said(format!("The page is at {} now. Look again with browser.read.", one_line(&now, 300))))
    }

    /// Reads the page anew and tells of it, beginning with this part.
    pub async fn told(&mut self, heading: &str, part: usize) -> Result<ToolOutput, PageError> {
        let is_at_rest = self.page()?.rest().await?;
        let outline = self.page()?.outline().await?;
        let refused = self.refused();
        let Some(browser) = self.slot.as_mut() else { return Err(PageError::Lost(NO_PAGE.to_owned())) };
        let mut content = happened(&mut browser.page);
        if !outline.title.is_empty() {
            content.push_str(&format!("title: {}\n\n", one_line(&outline.title, 300)));
        }
        let parts = parts(&outline.text);
        let index = part.clamp(1, parts.len());
        content.push_str(parts[index - 1]);
        let mut text = format!("{heading}\nThe page is at {}\n", one_line(&outline.url, 500));
        if !is_at_rest {
            text.push_str("It still loads; this is what there is of it.\n");
        }
        text.push_str(&refused);
        if part > parts.len() {
            text.push_str(&format!("There is no part {part}.\n"));
        }
        if parts.len() > 1 {
            text.push_str(&format!("This is part {index} of {}; browser.read shows the others.\n", parts.len()));
        }
        if outline.is_cut {
            text.push_str("The page is larger than what is read of one.\n");
        }
        text.push_str(&web::outside(&self.call, &outline.url, &content));
        let whole = if parts.len() > 1 { outline.text.clone().into_bytes() } else { Vec::new() };
        browser.shown = outline;
        Ok(self.output(text, false, whole))
    }

    /// What the proxy refused since it was last told.
    fn refused(&self) -> String {
        let Some(browser) = self.slot.as_ref() else { return String::new() };
        let mut refusals = browser.way_out.take_refusals();
        refusals.retain(|refusal| !refusal.target.starts_with(launch::OWN_HOST));
        let mut text = String::new();
        for refusal in &refusals {
            let times = if refusal.count > 1 { format!(" ({} times)", refusal.count) } else { String::new() };
            text.push_str(&format!(
                "no connection to {}{times}: {}\n",
                one_line(&refusal.target, 120),
                one_line(&refusal.why, 200)
            ));
        }
        if refusals.iter().any(|refusal| refusal.why.contains("unasked")) {
            text.push_str("If the page is of no use without such a host, open it again and name the host in `also`.\n");
        }
        text
    }

    pub fn output(&self, text: String, is_error: bool, whole: Vec<u8>) -> ToolOutput {
        let mut receipt = self.slot.as_ref().map(|browser| browser.receipt.clone());
        // The time is the call's, the rest the browser's.
        if let Some(bounds) = receipt.as_mut().and_then(|receipt| receipt.bounds.as_mut()) {
            bounds.wall_ms = self.wall_ms;
        }
        ToolOutput { text, is_error, exit: None, whole, wall_ms: 0, receipt, diff: LayerDiff::default() }
    }

    /// What went wrong before anything was done, for the model; a browser that is of no use is ended.
    pub async fn failed(self, error: PageError) -> ToolOutput {
        self.fell_short(Far::Nowhere, error).await
    }

    /// The same for a call that had come further.
    pub async fn fell_short(mut self, far: Far, error: PageError) -> ToolOutput {
        let text = far.told(&error) + "\n" + &self.refused();
        let output = self.output(text, !matches!(far, Far::Done(_)), Vec::new());
        if let PageError::Lost(_) = error
            && let Some(browser) = self.slot.take()
        {
            let _ = tokio::task::spawn_blocking(move || drop(browser)).await;
        }
        output
    }
}

impl Drop for Turn {
    /// A yes to what the page asks was for this call alone, however it ended.
    fn drop(&mut self) {
        if let Some(browser) = self.slot.as_mut() {
            browser.page.cdp.seen().accepts = false;
        }
    }
}

/// What happened by itself, in words from outside.
fn happened(page: &mut Page) -> String {
    let mut seen = page.cdp.seen();
    let mut text = String::new();
    for (what, notes) in [
        ("a dialog", std::mem::take(&mut seen.dialogs)),
        ("a new window, closed at once", std::mem::take(&mut seen.windows)),
        ("a download, refused", std::mem::take(&mut seen.downloads)),
    ] {
        for note in &notes.first {
            text.push_str(&format!("({what}: {})\n", one_line(note, 300)));
        }
        if notes.count > notes.first.len() {
            text.push_str(&format!("({what}: {} more)\n", notes.count - notes.first.len()));
        }
    }
    if std::mem::take(&mut seen.files) > 0 {
        text.push_str("(the page asks for a file; none can be given to it)\n");
    }
    text
}

/// A text in parts that can be shown at once, cut between lines where there are any.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > PART_BYTES_MAX {
        let fits = rest.floor_char_boundary(PART_BYTES_MAX);
        let end = rest[..fits].rfind('\n').map_or(fits, |end| end + 1);
        let (part, after) = rest.split_at(end);
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_between_lines_and_lose_nothing() {
        assert_eq!(parts(""), [""]);
        let lines = "a line of text\n".repeat(3_000);
        let cut = parts(&lines);
        assert!(cut.len() > 3 && cut.iter().all(|part| part.len() <= PART_BYTES_MAX));
        assert!(cut[..cut.len() - 1].iter().all(|part| part.ends_with('\n')));
        assert_eq!(cut.concat(), lines);
        let long = "ä".repeat(20_000);
        assert_eq!(parts(&long).concat(), long);
    }
}
