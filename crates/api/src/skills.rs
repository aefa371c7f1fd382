//! Operations on skills.

use serde::{Deserialize, Serialize};

use crate::operation::operation;

operation!(
    /// Lists skills, and whether each is offered.
    List, "skills.list", "GET" "/v1/skills", needs "skills:read", ListRequest => ListResponse
);
operation!(
    /// Shows one skill: its head, its files, and what was found in it.
    Show, "skills.show", "GET" "/v1/skills/{skill}", needs "skills:read", SkillRequest => SkillDetail
);
operation!(
    /// Copies a folder with a SKILL.md, or one of a git repository, to the skills, and looks through it.
    Add, "skills.add", "POST" "/v1/skills", needs "skills:write", AddRequest => SkillDetail
);
operation!(
    /// Fetches a skill again from its repository: shows what is different, and takes it over if that is agreed to.
    Update, "skills.update", "POST" "/v1/skills/{skill}/update", needs "skills:write", UpdateRequest => UpdateResponse
);
operation!(
    /// Lets a skill be offered in spite of what was found in it, as long as its contents stay the same.
    Allow, "skills.allow", "POST" "/v1/skills/{skill}/allow", needs "skills:write", SkillRequest => SkillDetail
);
operation!(
    /// Deletes a skill.
    Remove, "skills.remove", "DELETE" "/v1/skills/{skill}", needs "skills:write", SkillRequest => RemoveResponse
);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListRequest {}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListResponse {
    pub skills: Vec<SkillRow>,
    /// Folders that are no skills, and why.
    pub broken: Vec<Broken>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Broken {
    pub folder: String,
    pub error: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkillRow {
    pub name: String,
    pub description: String,
    /// Whether runs are told of it.
    pub offered: bool,
    pub errors: u32,
    pub warnings: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkillRequest {
    pub skill: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkillDetail {
    #[serde(flatten)]
    pub row: SkillRow,
    pub folder: String,
    /// The repository it was fetched from.
    #[serde(default)]
    pub from: Option<String>,
    /// The hash of the commit, whole.
    #[serde(default)]
    pub commit: Option<String>,
    pub license: Option<String>,
    pub compatibility: Option<String>,
    /// What its author expects it to need; it grants nothing.
    pub allowed_tools: Vec<String>,
    pub files: Vec<String>,
    /// BLAKE3 of all paths and contents, in hexadecimal.
    pub digest: String,
    /// A person allowed exactly these contents.
    pub allowed: bool,
    pub findings: Vec<SkillFinding>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkillFinding {
    pub id: String,
    /// `error` or `warning`
    pub severity: String,
    pub what: String,
    pub file: String,
    /// From 1; 0 for the file as a whole.
    pub line: usize,
    pub excerpt: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddRequest {
    /// A folder on this machine, or a repository: `ADDRESS#REF:FOLDER`.
    pub from: String,
    /// Whether one of the same name may be replaced.
    pub replace: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpdateRequest {
    pub skill: String,
    /// Without it, it is only said what would be different.
    pub yes: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpdateResponse {
    pub skill: String,
    /// Commits.
    pub from: String,
    pub to: String,
    /// Unified diff of its files; empty: there is nothing to take over.
    pub diff: String,
    /// In what is there now.
    pub findings: Vec<SkillFinding>,
    pub updated: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoveResponse {
    pub skill: String,
}
