//! Every environment variable Homarus reads, declared once.

use std::{ffi::OsString, path::PathBuf};

/// A variable and what it is for; `homarus --help` prints this list.
pub struct Variable {
    pub name: &'static str,
    pub help: &'static str,
}

pub const HOME: Variable = Variable { name: "HOMARUS_HOME", help: "Folder for all state, configuration and weights" };
pub const MODELS_DIR: Variable =
    Variable { name: "HOMARUS_MODELS_DIR", help: "Folder for the weights of embedded models" };
pub const CONFIG: Variable = Variable { name: "HOMARUS_CONFIG", help: "Configuration file" };
pub const ANTHROPIC_API_KEY: Variable = Variable { name: "ANTHROPIC_API_KEY", help: "Key for Anthropic" };
pub const ANTHROPIC_BASE_URL: Variable =
    Variable { name: "ANTHROPIC_BASE_URL", help: "Address of Anthropic or a server like it" };
pub const OPENAI_API_KEY: Variable = Variable { name: "OPENAI_API_KEY", help: "Key for OpenAI or a compatible server" };
pub const OPENAI_BASE_URL: Variable = Variable {
    name: "OPENAI_BASE_URL",
    help: "Address of a server compatible with OpenAI (llama.cpp, vLLM, LM Studio, OpenRouter)",
};
pub const GEMINI_API_KEY: Variable = Variable { name: "GEMINI_API_KEY", help: "Key for Gemini" };
pub const GEMINI_BASE_URL: Variable =
    Variable { name: "GOOGLE_GEMINI_BASE_URL", help: "Address of Gemini or a server like it" };
pub const OLLAMA_HOST: Variable = Variable { name: "OLLAMA_HOST", help: "Address of Ollama (default 127.0.0.1:11434)" };
pub const VISUAL: Variable = Variable { name: "VISUAL", help: "Editor for `homarus config edit`, before EDITOR" };
pub const EDITOR: Variable = Variable { name: "EDITOR", help: "Editor for `homarus config edit`" };
pub const NO_COLOR: Variable = Variable { name: "NO_COLOR", help: "Set to anything: no colours" };
pub const CLICOLOR_FORCE: Variable =
    Variable { name: "CLICOLOR_FORCE", help: "Set to anything but 0: colours also where there is no terminal" };
pub const TERM: Variable = Variable { name: "TERM", help: "The kind of terminal; `dumb`: no colours" };
pub const ACCESSIBLE: Variable = Variable {
    name: "ACCESSIBLE",
    help: "Set to anything: words instead of signs, no moving bars, plain questions; for screen readers",
};

pub const ALL: &[&Variable] = &[
    &HOME,
    &MODELS_DIR,
    &CONFIG,
    &ANTHROPIC_API_KEY,
    &ANTHROPIC_BASE_URL,
    &OPENAI_API_KEY,
    &OPENAI_BASE_URL,
    &GEMINI_API_KEY,
    &GEMINI_BASE_URL,
    &OLLAMA_HOST,
    &VISUAL,
    &EDITOR,
    &NO_COLOR,
    &CLICOLOR_FORCE,
    &TERM,
    &ACCESSIBLE,
];

/// Whether nothing is to be redrawn, by wish or because the terminal cannot.
pub fn wants_plain_lines() -> bool {
    ACCESSIBLE.is_set() || TERM.get().is_some_and(|term| term == "dumb")
}

impl Variable {
    /// Its value, if it is set and not empty.
    #[allow(clippy::disallowed_methods, reason = "this is the module the ban points to")]
    pub fn get_os(&self) -> Option<OsString> {
        std::env::var_os(self.name).filter(|value| !value.is_empty())
    }

    /// Its value as text; one that is not UTF-8 counts as not set.
    pub fn get(&self) -> Option<String> {
        self.get_os().and_then(|value| value.into_string().ok())
    }

    pub fn is_set(&self) -> bool {
        self.get_os().is_some()
    }
}

/// How this user reaches the network, for programs that are started with nothing else of these surroundings.
#[allow(clippy::disallowed_methods, reason = "this is the module the ban points to")]
pub fn of_the_network() -> Vec<(&'static str, OsString)> {
    const NAMES: [&str; 15] = [
        "PATH",
        "HOME",
        "USER",
        "SSH_AUTH_SOCK",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "http_proxy",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
    ];
    NAMES.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect()
}

/// How this user's `pip` finds packages: by variables, or by a file in their folder of configuration.
#[allow(clippy::disallowed_methods, reason = "this is the module the ban points to")]
pub fn of_pip() -> Vec<(OsString, OsString)> {
    std::env::vars_os()
        .filter(|(name, _)| name.to_string_lossy().starts_with("PIP_") || name == "XDG_CONFIG_HOME")
        .collect()
}

/// The first of these programs that is on the PATH.
#[allow(clippy::disallowed_methods, reason = "this is the module the ban points to")]
pub fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()))
}

/// A folder variable of the XDG base directory specification; relative paths are ignored, as it says.
#[allow(clippy::disallowed_methods, reason = "this is the module the ban points to")]
pub fn xdg(name: &str, fallback_in_home: &str) -> Option<PathBuf> {
    let set = std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set.or_else(|| home().map(|home| home.join(fallback_in_home)))
}

#[allow(clippy::disallowed_methods, reason = "this is the module the ban points to")]
pub fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute())
}

/// A program of that name on the `PATH`.
#[allow(clippy::disallowed_methods, reason = "this is the module the ban points to")]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Who is at the keyboard, for the record of an approval.
#[allow(clippy::disallowed_methods, reason = "this is the module the ban points to")]
pub fn user() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()))
}

pub fn help() -> String {
    let width = ALL.iter().map(|variable| variable.name.len()).max().unwrap_or(0);
    let lines: Vec<String> =
        ALL.iter().map(|variable| format!("  {:width$}  {}", variable.name, variable.help)).collect();
    format!("Environment:\n{}", lines.join("\n"))
}
