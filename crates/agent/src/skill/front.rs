//! The head of a `SKILL.md`: YAML between two lines of `---`.

use serde::Deserialize;

use super::SkillError;

const HEAD_BYTES_MAX: usize = 16 << 10;
const NAME_CHARS_MAX: usize = 64;
const DESCRIPTION_CHARS_MAX: usize = 1024;

/// Other keys are allowed, and mean nothing to us.
#[derive(Debug, Deserialize)]
pub struct Front {
    pub name: String,
    pub description: String,
    pub license: Option<String>,
    pub compatibility: Option<String>,
    #[serde(rename = "allowed-tools")]
    pub allowed_tools: Option<String>,
}

pub fn parse(text: &str) -> Result<Front, SkillError> {
    let wrong = |what: &str| SkillError::Head(what.to_owned());
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rest = text.strip_prefix("---").ok_or_else(|| wrong("it has to begin with a line of ---"))?;
    let end = rest.find("\n---").ok_or_else(|| wrong("a second line of --- is missing"))?;
    let head = &rest[..end];
    if head.len() > HEAD_BYTES_MAX {
        return Err(wrong("it is longer than 16 KiB"));
    }
    let front: Front = serde_saphyr::from_str(head).map_err(|error| SkillError::Head(error.to_string()))?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = front.name.as_str();
    let plain = (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(allowed);
    if !plain || name.starts_with('-') || name.ends_with('-') || name.contains("--") {
        return Err(wrong("name must be 1 to 64 small letters, digits and single hyphens"));
    }
    if front.description.trim().is_empty() || front.description.chars().count() > DESCRIPTION_CHARS_MAX {
        return Err(wrong("description must have 1 to 1024 characters"));
    }
    Ok(front)
}
