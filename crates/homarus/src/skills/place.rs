//! Where a skill comes from: a folder, or a folder of a git repository.

use std::{fmt, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::exit::CliError;

const TEXT_BYTES_MAX: usize = 2_000;

/// A repository, what is wanted of it, and the folder in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Repository {
    /// As git takes it; for a path, an absolute one.
    pub address: String,
    pub reach: Reach,
    /// A branch, a tag or a whole commit hash; `None`: what the repository shows first.
    pub reference: Option<String>,
    /// Empty: the repository itself.
    pub folder: String,
}

/// The one way in which git may reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Https,
    Ssh,
    File,
}

impl Reach {
    /// As git names it.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Ssh => "ssh",
            Self::File => "file",
        }
    }
}

impl Repository {
    /// `None`: the text names a folder of this machine, which is no matter of git.
    pub fn parse(text: &str) -> Result<Option<Self>, CliError> {
        let is_path = !text.contains("://") && (text.starts_with(['/', '.', '~']) || !text.contains(':'));
        let is_plain = is_path && !text.contains('#') && !text.trim_end_matches('/').ends_with(".git");
        if is_plain || Path::new(text).join(homarus_agent::skill::SKILL_FILE).is_file() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|what: String| {
            CliError::usage(format!("{text:?} names no repository")).cause(what).help(
                "write https://HOST/PATH.git, ssh://HOST/PATH.git, USER@HOST:PATH.git or the path of a repository, \
                 then #REF:FOLDER for a branch, tag or commit and a folder in it",
            )
        })
    }
}

impl FromStr for Repository {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(format!("it is longer than {TEXT_BYTES_MAX} bytes, or has spaces in it"));
        }
        let (place, wanted) = match text.split_once('#') {
            Some((place, wanted)) => (place, wanted.to_owned()),
            None => match text.rsplit_once(".git:") {
                Some((place, folder)) => (&text[..place.len() + ".git".len()], format!(":{folder}")),
                None => (text, String::new()),
            },
        };
        let (reference, folder) = wanted.split_once(':').unwrap_or((&wanted, ""));
        let (address, reach) = address(place)?;
        Ok(Self {
            address,
            reach,
            reference: if reference.is_empty() { None } else { Some(checked_reference(reference)?) },
            folder: checked_folder(folder)?,
        })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        match (self.reference.as_deref(), self.folder.as_str()) {
            (None, "") => Ok(()),
            (reference, "") => write!(f, "#{}", reference.unwrap_or_default()),
            (reference, folder) => write!(f, "#{}:{folder}", reference.unwrap_or_default()),
        }
    }
}

impl From<Repository> for String {
    fn from(repository: Repository) -> Self {
        repository.to_string()
    }
}

impl TryFrom<String> for Repository {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

fn address(place: &str) -> Result<(String, Reach), String> {
    if let Some(rest) = place.strip_prefix("https://") {
        let host = rest.split('/').next().unwrap_or_default();
        if host.contains('@') {
            return Err("an address with a name or a password in it would be written down with it".to_owned());
        }
        checked_host(host)?;
        return Ok((checked_path(place)?, Reach::Https));
    }
    if let Some(rest) = place.strip_prefix("ssh://") {
        checked_login(rest.split('/').next().unwrap_or_default())?;
        return Ok((checked_path(place)?, Reach::Ssh));
    }
    if let Some(path) = place.strip_prefix("file://") {
        return local(path);
    }
    if place.contains("::") || place.contains("://") {
        return Err("only https, ssh and paths of this machine are fetched from".to_owned());
    }
    match place.split_once(':') {
        Some((login, path)) if !login.contains('/') => {
            checked_login(login)?;
            if path.is_empty() || path.starts_with('-') {
                return Err("after the host a path has to follow".to_owned());
            }
            Ok((checked_path(place)?, Reach::Ssh))
        }
        _ => local(place),
    }
}

/// Absolute, so that it never looks like an option, and is found again from another folder.
fn local(path: &str) -> Result<(String, Reach), String> {
    let path = Path::new(path).canonicalize().map_err(|error| format!("{path} cannot be reached: {error}"))?;
    let path = path.to_str().ok_or("its path is not text")?;
    if path.contains('#') || path.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("its path has a # or spaces in it".to_owned());
    }
    Ok((path.to_owned(), Reach::File))
}

/// `[USER@]HOST[:PORT]`; neither may begin as an option of ssh does.
fn checked_login(login: &str) -> Result<(), String> {
    let (user, host) = login.split_once('@').unwrap_or(("git", login));
    if !is_name(user) {
        return Err(format!("{user:?} is no name of a user"));
    }
    checked_host(host)
}

fn checked_host(host: &str) -> Result<(), String> {
    let (name, port) = host.split_once(':').unwrap_or((host, "1"));
    if !is_name(name) || port.parse::<u16>().is_err() {
        return Err(format!("{host:?} is no host"));
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

fn checked_path(address: &str) -> Result<String, String> {
    if address.contains(['?', '\\', '\'', '"', '`', '$', ';', '&', '|', '<', '>']) {
        return Err("it has characters in it that no path needs".to_owned());
    }
    Ok(address.to_owned())
}

fn checked_reference(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '+');
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(plain) || text.contains("..") {
        return Err(format!("{text:?} is no branch, tag or commit"));
    }
    Ok(text.to_owned())
}

fn checked_folder(text: &str) -> Result<String, String> {
    let folder = text.trim_matches('/');
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.starts_with('-');
    if !folder.is_empty() && !folder.split('/').all(part) {
        return Err(format!("{text:?} is no folder of a repository"));
    }
    Ok(folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, address: &str, reach: Reach, reference: Option<&str>, folder: &str) {
        let wanted = Repository {
            address: address.to_owned(),
            reach,
            reference: reference.map(str::to_owned),
            folder: folder.to_owned(),
        };
        let found: Repository = text.parse().unwrap();
        assert_eq!(found, wanted, "{text}");
        assert_eq!(found.to_string().parse::<Repository>().unwrap(), found, "{text}: it is written as it is read");
    }

    #[test]
    fn forms_of_repositories() {
        let https = "https://example.org/a/b.git";
        check(https, https, Reach::Https, None, "");
        check("https://example.org/a/b", "https://example.org/a/b", Reach::Https, None, "");
        check("https://example.org/a/b.git#v1.2:skills/pdf", https, Reach::Https, Some("v1.2"), "skills/pdf");
        check("https://example.org/a/b.git#main", https, Reach::Https, Some("main"), "");
        check("https://example.org/a/b.git:skills/pdf", https, Reach::Https, None, "skills/pdf");
        check("https://example.org:8443/b.git#:x", "https://example.org:8443/b.git", Reach::Https, None, "x");
        check("git@example.org:a/b.git:x", "git@example.org:a/b.git", Reach::Ssh, None, "x");
        check("example.org:a/b#f/g", "example.org:a/b", Reach::Ssh, Some("f/g"), "");
        check("ssh://git@example.org:22/b.git", "ssh://git@example.org:22/b.git", Reach::Ssh, None, "");
        check("/#main:x", "/", Reach::File, Some("main"), "x");
    }

    #[test]
    fn what_could_be_an_option_a_command_or_another_way_is_refused() {
        for text in [
            "--upload-pack=touch x",
            "--upload-pack=touch:x",
            "-oProxyCommand=x:y",
            "ssh://-oProxyCommand=touch/x.git",
            "ssh://git@-oProxyCommand=touch/x.git",
            "git@-oProxyCommand=x:y.git",
            "example.org:-oProxyCommand.git",
            "ext::sh -c touch% x",
            "ext::sh",
            "fd::17",
            "http://example.org/x.git",
            "git://example.org/x.git",
            "https://user:secret@example.org/x.git",
            "https://example.org/x.git?a",
            "https://example.org/$(x).git",
            "https:///x.git",
            "https://example.org/x.git#--upload-pack=x",
            "https://example.org/x.git#a..b",
            "https://example.org/x.git#+refs/*:refs/*",
            "https://example.org/x.git#a:../../etc",
            "https://example.org/x.git#a:b//c",
            "https://example.org/x y.git",
            "/no/such/place.git",
        ] {
            assert!(text.parse::<Repository>().is_err(), "{text}");
        }
    }
}
