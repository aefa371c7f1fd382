//! `browser.screenshot`: the open page as a picture, in a file of the workspace.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan, Resource},
    event::AgentRef,
    gate::Permit,
    message::ToolDefinition,
    sandbox::{LayerId, OutputSink},
    tool::{Scope, Tool, ToolContext, ToolError, ToolOutput, permitted},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    arguments,
    browser::{Browsers, CALL_MS_MAX, READ_VERB},
    confined, paths,
};

pub const NAME: &str = "browser.screenshot";
const EXAMPLE: &str = r#"{"path": "page.png"}"#;
const PICTURE_BYTES_MAX: usize = 24 << 20;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// File to write, relative to the workspace, ending in .png.
    #[serde(alias = "file", alias = "file_path")]
    path: String,
    /// All of the page, not only what is in view.
    #[serde(default)]
    whole_page: bool,
}

pub struct BrowserScreenshot(pub Arc<Browsers>);

/// The arguments, and the path they name in the workspace.
fn wanted(workspace: &Path, json: &str) -> Result<(Arguments, PathBuf), ToolError> {
    let arguments: Arguments = arguments::parse(NAME, EXAMPLE, json)?;
    if !arguments.path.to_ascii_lowercase().ends_with(".png") {
        return Err(ToolError::BadArguments(format!("The path has to end in .png. Send for example {EXAMPLE}")));
    }
    let path = paths::relative(workspace, &arguments.path)?;
    Ok((arguments, path))
}

impl Tool for BrowserScreenshot {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: NAME.to_owned(),
            description: "Save the page in the browser as a PNG file in the workspace, for people to look at."
                .to_owned(),
            schema: arguments::schema::<Arguments>(),
        }
    }

    fn class(&self) -> EffectClass {
        EffectClass::Workspace
    }

    fn scope(&self) -> Scope {
        Scope::Network
    }

    fn limits(&self) -> String {
        format!("{} MiB; a page up to 4000 by 8000 pixels; {} s in all", PICTURE_BYTES_MAX >> 20, CALL_MS_MAX / 1000)
    }

    fn unavailable(&self, _agent: Option<&AgentRef>) -> Option<String> {
        self.0.unavailable()
    }

    fn plan(&self, context: &ToolContext, action: &Action) -> Result<Plan, ToolError> {
        let (_, path) = wanted(&context.workspace, &action.arguments)?;
        let here = self.0.here(&context.run)?;
        let mut resources = paths::resources(&context.workspace, "file:write", &path)?;
        resources.push(Resource { verb: READ_VERB.to_owned(), target: here.target() });
        Ok(Plan {
            summary: format!("save a picture of the page of {} as {}", here.target(), paths::shown(&path)),
            resources,
            class: EffectClass::Workspace,
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
            let (arguments, _) = wanted(&context.workspace, &permitted(&permit)?.arguments)?;
            let mut turn = self.0.turn(&context, &layer.call).await?;
            let pictured = async {
                turn.same_site().await?;
                turn.page()?.picture(arguments.whole_page).await
            };
            let picture = match pictured.await {
                Ok(picture) => picture,
                Err(error) => return Ok(turn.failed(error).await),
            };
            if picture.len() > PICTURE_BYTES_MAX {
                return Ok(turn.output("The picture is too large to keep.".to_owned(), true, Vec::new()));
            }
            drop(turn);
            confined::run_with(NAME, permit, context, layer, false, input(&arguments, &picture)).await
        })
    }
}

/// What [`save`] reads. A path that was judged has no line ends but those around it, which are no part of it.
fn input(arguments: &Arguments, picture: &[u8]) -> Vec<u8> {
    [arguments.path.trim().as_bytes(), b"\n", picture].concat()
}

/// Runs inside the sandbox: the path on the first line of the input, then the picture.
pub fn confined() -> i32 {
    let mut input = Vec::new();
    let read = std::io::stdin().lock().take(PICTURE_BYTES_MAX as u64 + 8192).read_to_end(&mut input);
    let written = read.map_err(|error| error.to_string()).and_then(|_| save(Path::new("."), &input));
    // Nobody is left to tell if these fail.
    match written {
        Ok(text) => i32::from(std::io::stdout().write_all(text.as_bytes()).is_err()),
        Err(text) => {
            let _ = std::io::stderr().write_all(text.as_bytes());
            1
        }
    }
}

fn save(root: &Path, input: &[u8]) -> Result<String, String> {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (path, picture) = input.split_at(end);
    let picture = picture.get(1..).unwrap_or_default();
    let workspace = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let relative = paths::relative(&workspace, &String::from_utf8_lossy(path)).map_err(|error| error.to_string())?;
    let (path, name) = (workspace.join(&relative), paths::shown(&relative));
    let failed = |error: std::io::Error| format!("{name} cannot be written: {error}");
    if path.is_dir() || path.is_symlink() {
        return Err(format!("{name} is a folder or a link. Give the path of a file."));
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(&path, picture).map_err(failed)?;
    Ok(format!("{name} is a picture of the page ({} bytes).\n", picture.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stay_in_the_workspace() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(save(root, b"d/a.png\n\x89PNG\n\0").unwrap(), "d/a.png is a picture of the page (6 bytes).\n");
        assert_eq!(fs::read(root.join("d/a.png")).unwrap(), b"\x89PNG\n\0");
        assert!(save(root, b"../a.png\nx").unwrap_err().contains("outside"));
        std::os::unix::fs::symlink("/etc/passwd", root.join("l.png")).unwrap();
        assert!(save(root, b"l.png\nx").unwrap_err().contains("a link"));
        assert!(wanted(root, r#"{"path": "a.sh"}"#).unwrap_err().to_string().contains(".png"));
    }

    #[test]
    fn a_path_that_would_be_written_otherwise_than_judged_is_refused() {
        for json in [r#"{"path": "my\ndocs/a.png"}"#, r#"{"path": "my\rdocs/a.png"}"#] {
            let refused = wanted(Path::new("/w"), json).map(|(_, path)| path);
            assert!(matches!(refused, Err(ToolError::BadArguments(_))), "{json}: {refused:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let (arguments, path) = wanted(folder.path(), r#"{"path": "\nmy docs/a.png"}"#).unwrap();
        assert_eq!(path, Path::new("my docs/a.png"));
        save(folder.path(), &input(&arguments, b"x")).unwrap();
        assert_eq!(fs::read(folder.path().join(path)).unwrap(), b"x");
    }
}
