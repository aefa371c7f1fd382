//! `browser.act`: one click, text, choice or key on the open page.

use std::sync::Arc;

use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan, Resource},
    event::AgentRef,
    gate::Permit,
    message::ToolDefinition,
    sandbox::{LayerId, OutputSink},
    text::one_line,
    tool::{Scope, Tool, ToolContext, ToolError, ToolOutput, permitted},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    arguments,
    browser::{ACT_VERB, Browsers, CALL_MS_MAX, Deed, Far, KEYS, Unacted},
};

pub const NAME: &str = "browser.act";
const EXAMPLE: &str = r#"{"element": 3, "action": "click"}"#;
const TEXT_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Click,
    Type,
    Select,
    Press,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Number of the element, as the page was shown. Not needed to press a key.
    #[serde(default, deserialize_with = "arguments::number")]
    element: Option<u64>,
    /// `type` replaces what is in a field, `select` takes an option by its label, `press` presses a key.
    action: Kind,
    /// The text to type, the option's label, or the key: Enter, Tab, Escape, ArrowDown, PageDown, ...
    #[serde(default)]
    text: Option<String>,
    /// Answer a question the page asks in a dialog with yes; otherwise it is no.
    #[serde(default)]
    accept_dialog: bool,
}

pub struct BrowserAct(pub Arc<Browsers>);

/// Arguments that make sense.
struct Wanted {
    element: Option<usize>,
    deed: Deed,
    accepts: bool,
}

impl Wanted {
    fn parse(json: &str) -> Result<Self, ToolError> {
        let arguments: Arguments = arguments::parse(NAME, EXAMPLE, json)?;
        let wrong = |what: String| Err(ToolError::BadArguments(format!("{what} Send for example {EXAMPLE}")));
        let element = arguments.element.and_then(|number| usize::try_from(number).ok());
        if element.is_none() && arguments.action != Kind::Press {
            return wrong("`element` is missing: the number of what you mean.".to_owned());
        }
        let text = arguments.text;
        if text.as_ref().is_some_and(|text| text.len() > TEXT_BYTES_MAX) {
            return wrong(format!("`text` is longer than {} KiB.", TEXT_BYTES_MAX >> 10));
        }
        let deed = match (arguments.action, text) {
            (Kind::Click, _) => Deed::Click,
            (_, None) => return wrong("`text` is missing.".to_owned()),
            (Kind::Type, Some(text)) => Deed::Type(text),
            (Kind::Select, Some(text)) => Deed::Select(text),
            (Kind::Press, Some(text)) => {
                let Some(key) = KEYS.iter().find(|key| key.name.eq_ignore_ascii_case(text.trim())) else {
                    let names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
                    return wrong(format!(
                        "There is no key {:?}. The keys are: {}.",
                        one_line(&text, 40),
                        names.join(", ")
                    ));
                };
                Deed::Press(*key)
            }
        };
        Ok(Self { element, deed, accepts: arguments.accept_dialog })
    }

    /// What is done, where `element` is how the page calls it.
    fn told(&self, element: &str) -> String {
        let done = match &self.deed {
            Deed::Click => format!("click {element}"),
            Deed::Type(text) => format!("type \"{}\" into {element}", one_line(text, 200)),
            Deed::Select(text) => format!("select \"{}\" in {element}", one_line(text, 100)),
            Deed::Press(key) if self.element.is_none() => format!("press {}", key.name),
            Deed::Press(key) => format!("press {} in {element}", key.name),
        };
        if self.accepts { format!("{done}, and say yes to what the page asks") } else { done }
    }
}

impl Tool for BrowserAct {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: NAME.to_owned(),
            description: "Act on the page in the browser: click, type, select or press a key. Shows the page as it \
                          is afterwards; its elements may have new numbers then."
                .to_owned(),
            schema: arguments::schema::<Arguments>(),
        }
    }

    fn class(&self) -> EffectClass {
        EffectClass::Unkeyed
    }

    fn scope(&self) -> Scope {
        Scope::Network
    }

    fn limits(&self) -> String {
        format!(
            "text of {} KiB; {} s in all; no files, no keys of the browser itself",
            TEXT_BYTES_MAX >> 10,
            CALL_MS_MAX / 1000
        )
    }

    fn unavailable(&self, _agent: Option<&AgentRef>) -> Option<String> {
        self.0.unavailable()
    }

    fn plan(&self, context: &ToolContext, action: &Action) -> Result<Plan, ToolError> {
        let wanted = Wanted::parse(&action.arguments)?;
        let here = self.0.here(&context.run)?;
        let element = match wanted.element {
            None => String::new(),
            Some(number) => here.element(number).ok_or_else(|| {
                ToolError::BadArguments(format!("The page has no element {number}. Look again with browser.read."))
            })?,
        };
        Ok(Plan {
            summary: format!("{} on {}", wanted.told(&element), here.url.origin().ascii_serialization()),
            resources: vec![Resource { verb: ACT_VERB.to_owned(), target: here.target() }],
            class: EffectClass::Unkeyed,
            diff: None,
        })
    }

    fn run(
        &self,
        permit: Permit,
        context: ToolContext,
        layer: LayerId,
        _output: OutputSink,
    ) -> BoxFuture<'_, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let wanted = Wanted::parse(&permitted(&permit)?.arguments)?;
            let mut turn = self.0.turn(&context, &layer.call).await?;
            let element = wanted.element.map_or_else(String::new, |number| format!("element {number}"));
            let deed = wanted.told(&element);
            let acted = async {
                turn.same_site().await.map_err(Unacted::Not)?;
                let page = turn.page().map_err(Unacted::Not)?;
                page.cdp.seen().accepts = wanted.accepts;
                page.act(wanted.element, &wanted.deed).await
            };
            match acted.await {
                Ok(()) => {}
                Err(Unacted::Not(error)) => return Ok(turn.failed(error).await),
                Err(Unacted::Perhaps(error)) => return Ok(turn.fell_short(Far::Perhaps(deed), error).await),
            }
            Ok(match turn.told(&format!("done: {deed}"), 1).await {
                Ok(output) => output,
                Err(error) => turn.fell_short(Far::Done(deed), error).await,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use homarus_contract::sandbox::SandboxError;

    use super::*;
    use crate::{
        browser::fake::{Says, browsers},
        web::fake,
    };

    const CLICK: &str = r#"{"element": 1, "action": "click"}"#;
    const SELECT: &str = r#"{"element": 1, "action": "select", "text": "Large"}"#;

    /// What an act comes to where the browser does as `script` says, given each question and how often it came before.
    async fn acted(json: &str, script: impl Fn(&str, usize) -> Says + Send + 'static) -> ToolOutput {
        let mut asked = std::collections::HashMap::new();
        let script = move |what: &str| {
            let before = asked.entry(what.to_owned()).or_insert(0);
            *before += 1;
            script(what, *before - 1)
        };
        let tool = BrowserAct(browsers(Box::new(script)).await);
        let sandbox = SandboxError::Refused("there is none".to_owned());
        fake::called(&tool, json, sandbox, CALL_MS_MAX).await.unwrap()
    }

    #[tokio::test]
    async fn what_was_done_is_told_whatever_becomes_of_the_page() {
        let output = acted(CLICK, |_, _| Says::Usual).await;
        assert!(
            output.text.starts_with("done: click element 1\nThe page is at https://a.example/\n"),
            "{}",
            output.text
        );
        // The handler of the click ends the page.
        let output = acted(CLICK, |what, _| if what == "quiet" { Says::End } else { Says::Usual }).await;
        assert_eq!(
            output.text,
            "done: click element 1, but the page cannot be shown: The browser ended; the browser was ended. \
             Do not repeat it without checking.\n"
        );
        assert!(!output.is_error);
        let output = acted(CLICK, |what, _| if what == "outline" { Says::Error("gone") } else { Says::Usual }).await;
        let words =
            "done: click element 1, but the page cannot be shown: The page could not be read: gone. Do not repeat";
        assert!(output.text.starts_with(words), "{}", output.text);
    }

    #[tokio::test]
    async fn what_may_have_been_done_is_told_as_that() {
        for says in [|| Says::End, || Says::Error("Target crashed")] {
            let script = move |what: &str, before| match what {
                "Input.dispatchMouseEvent" if before == 2 => says(),
                _ => Says::Usual,
            };
            let output = acted(CLICK, script).await;
            assert!(output.text.starts_with("click element 1: ") && output.is_error, "{}", output.text);
            assert!(
                output.text.contains("It may have been done; do not repeat it without checking."),
                "{}",
                output.text
            );
        }
        // A script that chooses is not run again: the page may have heard of the choice.
        let times = Arc::new(AtomicUsize::new(0));
        let counted = times.clone();
        let output = acted(SELECT, move |what, _| match what {
            "act" => {
                counted.fetch_add(1, Ordering::SeqCst);
                Says::Error("Execution was terminated")
            }
            _ => Says::Usual,
        });
        let text = output.await.text;
        assert!(text.contains("It may have been done") && !text.contains("done: "), "{text}");
        assert_eq!(times.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn what_was_not_done_is_not_told_as_done() {
        let covered = || Says::Result(serde_json::json!({"result": {"value": r#"{"error": "covered"}"#}}));
        let output = acted(CLICK, move |what, _| if what == "act" { covered() } else { Says::Usual }).await;
        assert!(output.text.starts_with("Something else lies over that element") && output.is_error, "{}", output.text);
        let away = || Says::Result(serde_json::json!({"result": {"value": "\"https://b.example/\""}}));
        let output = acted(CLICK, move |what, _| if what == "address" { away() } else { Says::Usual }).await;
        assert!(output.text.starts_with("The page is at https://b.example/ now."), "{}", output.text);
        assert!(!output.text.contains("done"), "{}", output.text);
    }

    #[test]
    fn arguments_that_make_no_sense_say_what_would() {
        for (json, words) in [
            (r#"{"action": "click"}"#, "`element` is missing"),
            (r#"{"element": 1, "action": "type"}"#, "`text` is missing"),
            (r#"{"action": "press", "text": "F12"}"#, "The keys are: Enter"),
            (r#"{"element": 1, "action": "drag"}"#, "unknown variant"),
            (r#"{"element": 1, "action": "click", "script": "x"}"#, "unknown field"),
        ] {
            let error = Wanted::parse(json).err().unwrap().to_string();
            assert!(error.contains(words), "{json}: {error}");
        }
        let long = format!(r#"{{"element": 1, "action": "type", "text": "{}"}}"#, "a".repeat(TEXT_BYTES_MAX + 1));
        assert!(Wanted::parse(&long).is_err());
        let wanted =
            Wanted::parse(r#"{"element": "2", "action": "press", "text": "enter", "accept_dialog": true}"#).unwrap();
        assert_eq!(wanted.told("the field"), "press Enter in the field, and say yes to what the page asks");
    }
}
