//! `homarus sandbox selftest`

use homarus_api::sandbox::{
    SelftestAttack, SelftestOutside, SelftestRequest, SelftestResponse, SelftestResult, SelftestTry, SelftestVerdict,
};
use homarus_contract::text::one_line;
use homarus_sandbox::selftest::{self, Cell, ControlSeen, Line, Note, Outcome, Report, SelftestError, Verdict};

use crate::{
    dirs::Dirs,
    exit::{self, CliError},
    put,
    selftest::Record,
    show::{
        progress::{Progress, Unit},
        style::Style,
    },
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these attacks, by the beginning of their ids, such as `write` or `limit.memory`; all if absent
    #[arg(value_name = "ATTACK")]
    only: Vec<String>,
    /// Do not also make the harmless attacks without a sandbox, to see that they would work
    #[arg(long)]
    no_controls: bool,
    /// Show every single try of each attack
    #[arg(long)]
    tries: bool,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let request = SelftestRequest { only: self.only, no_controls: self.no_controls };
        let mut response = run(&request, self.json)?;
        // Every look at the host is over.
        match record(request, &response) {
            Ok(path) => response.record = Some(path),
            Err(error) => put::note(&format!("this self-test is not recorded: {}", error.short())),
        }
        if self.json {
            put::json(&response)?;
        } else {
            print(&response, self.tries)?;
        }
        Ok(if response.ok { exit::DONE } else { exit::FAILED })
    }
}

/// Keeps it, for `homarus doctor`; where.
fn record(request: SelftestRequest, response: &SelftestResponse) -> Result<String, CliError> {
    let path = Record::new(request, response.clone()).keep(&Dirs::from_env()?.state)?;
    Ok(path.display().to_string())
}

fn run(request: &SelftestRequest, quiet: bool) -> Result<SelftestResponse, CliError> {
    let options = selftest::Options {
        exe: "/proc/self/exe".into(),
        folder: std::env::temp_dir(),
        only: request.only.clone(),
        controls: !request.no_controls,
    };
    let mut progress = Progress::new("attacks", selftest::count(&options)? as u64, Unit::Attacks, quiet);
    let mut begun = 0;
    let report = selftest::run(&options, &mut |_, _| {
        progress.set(begun);
        begun += 1;
    });
    progress.finish();
    Ok(to_response(report?))
}

impl From<SelftestError> for CliError {
    fn from(error: SelftestError) -> Self {
        match error {
            SelftestError::Unknown(_) => Self::usage(error)
                .help("`homarus sandbox selftest` without names tries all, and prints what each is called"),
            SelftestError::Setup { what, source } => Self::failed(format!("the self-test could not be set up: {what}"))
                .cause(source)
                .help("it needs a folder for temporary files (TMPDIR) where programs may be run"),
        }
    }
}

/// Wide enough for most answers; the rest is cut, and whole in `--json`.
const ANSWER_CHARS_MAX: usize = 30;
const DETAIL_CHARS_MAX: usize = 400;

fn print(response: &SelftestResponse, tries: bool) -> Result<(), CliError> {
    let style = Style::for_stdout();
    let width = response.attacks.iter().map(|attack| attack.id.len()).max().unwrap_or(0);
    let heads: Vec<String> =
        response.users.iter().map(|user| format!("{user:ANSWER_CHARS_MAX$}  {:7}", "outside")).collect();
    put::line(format!("{:width$}  {}", "", heads.join("   ")).trim_end())?;
    for attack in &response.attacks {
        let cells: Vec<String> = attack.results.iter().map(|result| cell(result, style)).collect();
        put::line(format!("{:width$}  {}", attack.id, cells.join(" ")).trim_end())?;
        for result in &attack.results {
            details(result, tries, style)?;
        }
    }
    let seconds = response.took_ms / 1000;
    put::line(&match (response.got_through, response.not_tried) {
        (0, 0) => style.green(&format!("nothing got through: {} attacks held in {seconds} s", response.held)),
        (0, missing) => style
            .yellow(&format!("nothing got through, but {missing} attacks could not be tried ({} held)", response.held)),
        (through, _) => {
            style.red(&format!("{through} attacks got through: do not run what you do not trust on this machine"))
        }
    })?;
    response.record.as_ref().map_or(Ok(()), |path| put::line(&format!("recorded in {path}")))
}

fn cell(result: &SelftestResult, style: Style) -> String {
    let mark = match result.verdict {
        SelftestVerdict::Held => style.good(),
        SelftestVerdict::GotThrough => style.bad(),
        SelftestVerdict::NotTried => style.doubtful(),
    };
    let outside = if result.outside.seen == "not_tried" { "-" } else { &result.outside.seen };
    let how = one_line(&result.how, ANSWER_CHARS_MAX);
    let padding = " ".repeat(ANSWER_CHARS_MAX.saturating_sub(how.chars().count()));
    format!("{mark} {how}{padding} {outside:7}")
}

/// What does not fit on the line, of what is not as it should be; of everything where each try is asked for.
fn details(result: &SelftestResult, tries: bool, style: Style) -> Result<(), CliError> {
    if result.verdict != SelftestVerdict::Held {
        let mark = if result.verdict == SelftestVerdict::GotThrough { style.bad() } else { style.doubtful() };
        put::line(&format!("  {mark} {}: {}", result.user, one_line(&result.how, DETAIL_CHARS_MAX)))?;
    }
    if !tries {
        return Ok(());
    }
    for each in &result.tries {
        let text = format!("{}: {} {}", each.what, each.outcome, each.detail);
        put::line(&format!("    {}: {}", result.user, one_line(text.trim_end(), DETAIL_CHARS_MAX)))?;
    }
    let recorded = result.recorded.as_deref().unwrap_or("nothing: only the call itself was told");
    put::line(&format!("    {}: recorded: {}", result.user, one_line(recorded, DETAIL_CHARS_MAX)))?;
    let outside = format!("{} {}", result.outside.seen.replace('_', " "), result.outside.detail);
    put::line(&format!("    {}: without the sandbox: {}", result.user, one_line(&outside, DETAIL_CHARS_MAX)))
}

fn to_response(report: Report) -> SelftestResponse {
    let count = |verdict| u32::try_from(report.count(verdict)).unwrap_or(u32::MAX);
    SelftestResponse {
        ok: report.ok(),
        held: count(Verdict::Held),
        got_through: count(Verdict::GotThrough),
        not_tried: count(Verdict::NotTried),
        took_ms: report.took_ms,
        record: None,
        attacks: report.lines.into_iter().map(|line| to_attack(line, &report.users)).collect(),
        users: report.users,
    }
}

fn to_attack(line: Line, users: &[String]) -> SelftestAttack {
    let results = line.cells.into_iter().zip(users).map(|(cell, user)| to_result(cell, user)).collect();
    SelftestAttack { id: line.id.to_owned(), about: line.about.to_owned(), results }
}

fn to_result(cell: Cell, user: &str) -> SelftestResult {
    let (seen, detail) = match cell.control {
        ControlSeen::Works { how } => ("works", how),
        ControlSeen::Fails { how } => ("fails", how),
        ControlSeen::NotTried { why } => ("not_tried", why),
    };
    SelftestResult {
        user: user.to_owned(),
        verdict: match cell.verdict {
            Verdict::Held => SelftestVerdict::Held,
            Verdict::GotThrough => SelftestVerdict::GotThrough,
            Verdict::NotTried => SelftestVerdict::NotTried,
        },
        how: cell.how,
        recorded: cell.recorded,
        outside: SelftestOutside { seen: seen.to_owned(), detail },
        took_ms: cell.took_ms,
        tries: cell.tries.into_iter().map(to_try).collect(),
    }
}

fn to_try(note: Note) -> SelftestTry {
    let (outcome, detail) = match note.outcome {
        Outcome::Begun => ("begun", String::new()),
        Outcome::Denied { how } => ("denied", how),
        Outcome::Confined { how } => ("confined", how),
        Outcome::Through { how } => ("through", how),
        Outcome::Untried { why } => ("untried", why),
    };
    SelftestTry { what: note.what, outcome: outcome.to_owned(), detail }
}
