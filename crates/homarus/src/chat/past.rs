//! What a conversation says about its past: its last turns, its cost, what it changed.

use std::{collections::VecDeque, sync::Arc};

use homarus_contract::{
    event::Event,
    ids::RunId,
    journal::{Journal, JournalError},
    text::bounded,
};
use homarus_workflow::{
    changes::{Net, RunChanges},
    render, undo,
};

use super::{
    print::Printed,
    transcript::{Call, Transcript},
};
use crate::{
    commands::runs_show,
    put,
    show::{
        diff,
        styled::{Line, Look},
    },
};

const PAGE: u32 = 1_000;
const TURNS_MAX: usize = 10;
const LINES_MAX: usize = 1_000;
const OPENED_BYTES_MAX: usize = 4 << 20;

/// Plays the journal into the transcript. The last turns, and a note of how many came before. A turn that goes on
/// keeps its calls open: how they end is still to come.
pub fn replay(
    journal: &dyn Journal,
    run: &RunId,
    transcript: &mut Transcript,
    goes_on: bool,
) -> Result<Vec<Printed>, JournalError> {
    let mut turns: VecDeque<Vec<Printed>> = VecDeque::new();
    let mut left_out = 0;
    each(journal, run, |event| {
        if matches!(event, Event::Accepted(_) | Event::Said { .. }) {
            turns.push_back(Vec::new());
        }
        transcript.event(run, event);
        if let Some(turn) = turns.back_mut() {
            turn.extend(transcript.take());
            turn.drain(..turn.len().saturating_sub(LINES_MAX));
        }
        if turns.len() > TURNS_MAX {
            turns.pop_front();
            left_out += 1;
        }
    })?;
    if !goes_on {
        transcript.settle();
    }
    let mut lines = Vec::new();
    if left_out > 0 {
        lines.push(Printed::dim(&format!("{left_out} earlier turns: homarus runs log {run}")));
    }
    lines.extend(turns.into_iter().flatten());
    lines.extend(transcript.take());
    Ok(lines)
}

/// What the conversation has cost so far.
pub fn cost(journal: &dyn Journal, run: &RunId) -> Result<String, JournalError> {
    let detail = runs_show::detail(journal, run)?;
    let cost = detail.cost_usd.map_or_else(|| "cost unknown".to_owned(), |usd| format!("${usd}"));
    let limit = detail.limits.cost_max.map(|max| format!(" of at most ${}", put::usd(max))).unwrap_or_default();
    Ok(format!(
        "{cost}{limit} · {} steps · {} calls · {} tokens in, {} cached, {} out · {} at work · run {run}",
        detail.steps,
        detail.calls,
        put::count(detail.input_tokens),
        put::count(detail.cached_tokens),
        put::count(detail.output_tokens),
        put::duration(detail.wall_ms),
    ))
}

/// Everything about one call, for the pager.
pub fn opened(journal: &dyn Journal, call: &Call) -> Vec<Line> {
    let mut lines = vec![Line::new(Look::BOLD, "arguments")];
    lines.extend(call.arguments.lines().map(Line::plain));
    if !call.diff.is_empty() {
        lines.extend([Line::default(), Line::new(Look::BOLD, "what it did")]);
        lines.extend(diff::lines(&call.diff));
    }
    if let Some(hash) = call.whole.or(call.shown) {
        let text = match journal.blob(&hash) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("it cannot be read: {error}"),
        };
        lines.extend([Line::default(), Line::new(Look::BOLD, "output")]);
        lines.extend(bounded(&text, OPENED_BYTES_MAX, "").lines().map(Line::plain));
    }
    lines
}

/// What the conversation has changed in the workspace, by path.
pub fn changes(journal: Arc<dyn Journal>, run: &RunId) -> Result<String, JournalError> {
    let changes = RunChanges::read(journal.as_ref(), run)?;
    let net = Net::of(changes.applied.iter());
    let contents = undo::contents(journal);
    let text: String = net.changes.iter().map(|change| render::show(change, &contents).text).collect();
    Ok(bounded(&text, OPENED_BYTES_MAX, "`homarus runs diff` has all of it"))
}

/// The first step of each turn, oldest first.
pub fn turns(journal: &dyn Journal, run: &RunId) -> Result<Vec<u32>, JournalError> {
    let mut firsts = Vec::new();
    let mut begins = true;
    each(journal, run, |event| match event {
        Event::Said { .. } => begins = true,
        Event::ModelIntent { step, .. } if begins => {
            firsts.push(*step);
            begins = false;
        }
        _ => {}
    })?;
    Ok(firsts)
}

fn each(journal: &dyn Journal, run: &RunId, mut with: impl FnMut(&Event)) -> Result<(), JournalError> {
    let mut after = 0;
    loop {
        let page = journal.read(&run.stream(), after, PAGE)?;
        for record in &page {
            with(&record.event);
        }
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = last.seq,
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use homarus_contract::{
        event::{Accepted, ActResult},
        ids::{CallId, Hash},
        journal::Append,
        message::{Block, ToolCall},
        sandbox::LayerDiff,
    };
    use homarus_store::{Options, Store};
    use homarus_test_kit::histories::accepted;

    use super::*;

    fn conversation() -> Accepted {
        let mut accepted = accepted("agent", "do it", true);
        accepted.run = RunId::parse("r1").unwrap();
        (accepted.system, accepted.tools, accepted.orientation) = (Hash::of(b""), Hash::of(b""), Hash::of(b""));
        accepted
    }

    #[tokio::test]
    async fn a_call_that_was_asked_about_before_says_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(folder.path())).unwrap();
        let mut append = Append::new(store.accept(conversation(), vec![Vec::new()]).await.unwrap());
        let call = CallId::new(1, 0);
        let (name, arguments) = ("shell.execute".to_owned(), r#"{"command":"ls"}"#.to_owned());
        let block = Block::ToolCall(ToolCall { call: call.clone(), provider_id: String::new(), name, arguments });
        append.events = vec![
            Event::BlockDone { step: 1, block, partial: false },
            Event::ApprovalRequested { call: call.clone(), hash: Hash::ZERO, expires_ms: 1 },
        ];
        store.append(append).await.unwrap();
        let run = RunId::parse("r1").unwrap();
        let result = Event::ActResult(ActResult {
            call,
            attempt: 1,
            is_error: false,
            exit: None,
            shown: Hash::of(b""),
            whole: None,
            wall_ms: 1,
            receipt: None,
            diff: LayerDiff::default(),
            kept: Vec::new(),
        });
        for (goes_on, lines) in [(true, 1), (false, 0)] {
            let mut transcript = Transcript::default();
            let past = replay(store.as_ref(), &run, &mut transcript, goes_on).unwrap();
            assert!(past.iter().any(|printed| printed.line.text() == "› do it"), "{past:?}");
            transcript.event(&run, &result);
            let printed = transcript.take();
            let told = printed.iter().filter(|printed| printed.line.text().contains("shell.execute ls · done"));
            assert_eq!(told.count(), lines, "{printed:?}");
        }
    }
}
