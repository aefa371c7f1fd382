//! Skills as people see them, and where they come from.

pub mod git;
pub mod keep;
pub mod place;

use homarus_agent::skill::{Finding, Severity, Shelf, Shelved};
use homarus_api::skills::{SkillDetail, SkillFinding, SkillRow};

use crate::{exit::CliError, nearest::did_you_mean, put, show::style::Style};

pub fn find<'a>(shelf: &'a Shelf, name: &str) -> Result<&'a Shelved, CliError> {
    shelf.find(name).ok_or_else(|| {
        let broken = shelf.broken.iter().find(|(folder, _)| folder == name);
        let known = shelf.skills.iter().map(|one| one.skill.name.as_str());
        let error = CliError::usage(format!("there is no skill {name:?}"));
        match broken {
            Some((_, cause)) => error.cause(cause),
            None => error.help(did_you_mean(name, known, "`homarus skills list` shows those there are")),
        }
    })
}

pub fn row(shelved: &Shelved) -> SkillRow {
    let count = |severity| shelved.findings.iter().filter(|finding| finding.severity == severity).count() as u32;
    SkillRow {
        name: shelved.skill.name.clone(),
        description: shelved.skill.description.clone(),
        offered: shelved.is_offered(),
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
    }
}

pub fn first_line(text: &str) -> String {
    homarus_contract::text::one_line(text, 100)
}

pub fn finding(finding: &Finding) -> SkillFinding {
    SkillFinding {
        id: finding.id.clone(),
        severity: match finding.severity {
            Severity::Error => "error".to_owned(),
            Severity::Warning => "warning".to_owned(),
        },
        what: finding.what.clone(),
        file: finding.file.clone(),
        line: finding.line,
        excerpt: finding.excerpt.clone(),
    }
}

/// A finding in one line. Names of files are chosen by whoever wrote the skill.
pub fn told(finding: &SkillFinding, style: Style) -> String {
    let text = format!("{:>8} {}:{}: {}", finding.severity, first_line(&finding.file), finding.line, finding.what);
    if finding.severity == "error" { style.red(&text) } else { style.yellow(&text) }
}

/// Prints a skill with all that was found in it.
pub fn put(shelved: &Shelved, json: bool) -> Result<(), CliError> {
    let skill = &shelved.skill;
    let origin = keep::origin(&skill.name, skill.folder.parent().unwrap_or(&skill.folder))?;
    let detail = SkillDetail {
        row: row(shelved),
        folder: skill.folder.display().to_string(),
        from: origin.as_ref().map(|origin| origin.from.to_string()),
        commit: origin.map(|origin| origin.commit),
        license: skill.license.clone(),
        compatibility: skill.compatibility.clone(),
        allowed_tools: skill.allowed_tools.clone(),
        files: skill.files.iter().map(|file| file.path.clone()).collect(),
        digest: skill.digest.to_hex(),
        allowed: shelved.is_allowed,
        findings: shelved.findings.iter().map(finding).collect(),
    };
    if json {
        return put::json(&detail);
    }
    let style = Style::for_stdout();
    let lines = [
        ("skill", style.bold(&detail.row.name)),
        ("for", first_line(&detail.row.description)),
        ("license", detail.license.as_deref().map_or_else(|| "-".to_owned(), first_line)),
        (
            "expects",
            if detail.allowed_tools.is_empty() { "-".to_owned() } else { first_line(&detail.allowed_tools.join(" ")) },
        ),
        ("folder", detail.folder.clone()),
        ("from", detail.from.as_deref().map_or_else(|| "a folder".to_owned(), first_line)),
        ("commit", detail.commit.clone().unwrap_or_else(|| "-".to_owned())),
        ("files", first_line(&detail.files.join(", "))),
    ];
    for (name, value) in lines {
        put::line(&format!("{} {value}", style.dim(&format!("{name:>8}"))))?;
    }
    for finding in &detail.findings {
        put::line(&told(finding, style))?;
        if !finding.excerpt.is_empty() {
            put::line(&style.dim(&format!("         {}", finding.excerpt)))?;
        }
    }
    put::line(&match (detail.row.offered, detail.allowed) {
        (true, true) => "you allowed these contents: runs are told of it".to_owned(),
        (true, false) => "runs are told of it".to_owned(),
        (false, _) => {
            format!("runs are not told of it; read it, and if you want it: homarus skills allow {}", detail.row.name)
        }
    })
}
