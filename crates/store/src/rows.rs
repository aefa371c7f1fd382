//! Rows in and out of the database, in the terms of the contract.

use std::sync::LazyLock;

use homarus_contract::{
    budget::{Amount, Budget, BudgetState},
    gate::Approval,
    ids::{CallId, DriverId, Hash, RunId},
    journal::RunStatus,
};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params, types::Type};

use crate::project::{Projection, parse_status};

/// A stream's row: where it stands and who may append.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub seq: u64,
    pub hash: Hash,
    pub epoch: u64,
    pub owner: Option<DriverId>,
}

pub(crate) fn head(connection: &Connection, stream: &str) -> rusqlite::Result<Option<Head>> {
    connection
        .prepare_cached("SELECT head_seq, head_hash, epoch, owner FROM streams WHERE stream = ?1")?
        .query_row([stream], |row| {
            Ok(Head { seq: unsigned(row, 0)?, hash: hash(row, 1)?, epoch: unsigned(row, 2)?, owner: driver(row, 3)? })
        })
        .optional()
}

/// The signature follows at the end of the group, when the last head of the stream is known.
pub(crate) fn put_head(connection: &Connection, stream: &str, head: &Head) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO streams (stream, head_seq, head_hash, head_sig, epoch, owner)
             VALUES (?1, ?2, ?3, x'', ?4, ?5)
             ON CONFLICT (stream) DO UPDATE SET
                 head_seq = excluded.head_seq, head_hash = excluded.head_hash,
                 epoch = excluded.epoch, owner = excluded.owner",
        )?
        .execute(params![
            stream,
            signed(head.seq),
            head.hash.as_bytes(),
            signed(head.epoch),
            head.owner.as_ref().map(DriverId::as_str),
        ])?;
    Ok(())
}

const PROJECTION: &str = "runs.status, runs.prompt, runs.workspace, runs.created_ms, runs.updated_ms, runs.cost_known,
    budgets.cost_max, budgets.tokens_max, budgets.steps_max, budgets.wall_ms_max,
    budgets.used_cost, budgets.used_tokens, budgets.used_steps,
    budgets.reserved_cost, budgets.reserved_tokens, budgets.reserved_steps";
/// How many columns [`PROJECTION`] has; what a query adds comes after them.
pub(crate) const PROJECTION_COLUMNS: usize = 16;

pub(crate) fn select_runs(more_columns: &str, rest: &str) -> String {
    format!(
        "SELECT {PROJECTION}, {more_columns} FROM runs
         JOIN budgets ON budgets.run = runs.run JOIN streams ON streams.stream = runs.run {rest}"
    )
}

/// The statuses of runs that have not ended, for an `IN (...)`.
pub(crate) static OPEN: LazyLock<String> =
    LazyLock::new(|| RunStatus::OPEN.map(|status| format!("'{}'", status.as_str())).join(", "));

pub(crate) fn projection(connection: &Connection, run: &RunId) -> rusqlite::Result<Option<Projection>> {
    static SQL: LazyLock<String> = LazyLock::new(|| select_runs("0", "WHERE runs.run = ?1"));
    connection.prepare_cached(&SQL)?.query_row([run.as_str()], read_projection).optional()
}

/// Reads the columns of [`PROJECTION`], which come first in the row.
pub(crate) fn read_projection(row: &Row<'_>) -> rusqlite::Result<Projection> {
    let status: String = row.get(0)?;
    let status = parse_status(&status).ok_or_else(|| malformed(0, format!("status {status:?}")))?;
    let cost_max = row.get::<_, Option<i64>>(6)?.map(|_| unsigned(row, 6)).transpose()?;
    let amount = |first: usize| -> rusqlite::Result<Amount> {
        Ok(Amount { cost: unsigned(row, first)?, tokens: unsigned(row, first + 1)?, steps: row.get(first + 2)? })
    };
    Ok(Projection {
        status,
        prompt: row.get(1)?,
        workspace: row.get(2)?,
        created_ms: unsigned(row, 3)?,
        updated_ms: unsigned(row, 4)?,
        cost_known: row.get(5)?,
        budget: Budget {
            cost_max,
            tokens_max: unsigned(row, 7)?,
            steps_max: row.get(8)?,
            wall_ms_max: unsigned(row, 9)?,
        },
        state: BudgetState { used: amount(10)?, reserved: amount(13)? },
        inbox: Vec::new(),
    })
}

pub(crate) fn put_projection(connection: &Connection, run: &RunId, projection: &Projection) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO runs (run, status, prompt, workspace, created_ms, updated_ms, cost_known)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (run) DO UPDATE SET
                 status = excluded.status, updated_ms = excluded.updated_ms, cost_known = excluded.cost_known",
        )?
        .execute(params![
            run.as_str(),
            projection.status.as_str(),
            projection.prompt,
            projection.workspace,
            signed(projection.created_ms),
            signed(projection.updated_ms),
            projection.cost_known,
        ])?;
    Ok(())
}

pub(crate) fn put_budget(connection: &Connection, run: &RunId, projection: &Projection) -> rusqlite::Result<()> {
    let (budget, state) = (&projection.budget, &projection.state);
    connection
        .prepare_cached(
            "INSERT INTO budgets VALUES (:run, :cost_max, :tokens_max, :steps_max, :wall_ms_max,
                 :used_cost, :used_tokens, :used_steps, :reserved_cost, :reserved_tokens, :reserved_steps)
             ON CONFLICT (run) DO UPDATE SET
                 cost_max = excluded.cost_max, tokens_max = excluded.tokens_max,
                 steps_max = excluded.steps_max, wall_ms_max = excluded.wall_ms_max,
                 used_cost = excluded.used_cost, used_tokens = excluded.used_tokens,
                 used_steps = excluded.used_steps, reserved_cost = excluded.reserved_cost,
                 reserved_tokens = excluded.reserved_tokens, reserved_steps = excluded.reserved_steps",
        )?
        .execute(named_params! {
            ":run": run.as_str(),
            ":cost_max": budget.cost_max.map(signed),
            ":tokens_max": signed(budget.tokens_max),
            ":steps_max": budget.steps_max,
            ":wall_ms_max": signed(budget.wall_ms_max),
            ":used_cost": signed(state.used.cost),
            ":used_tokens": signed(state.used.tokens),
            ":used_steps": state.used.steps,
            ":reserved_cost": signed(state.reserved.cost),
            ":reserved_tokens": signed(state.reserved.tokens),
            ":reserved_steps": state.reserved.steps,
        })?;
    Ok(())
}

pub(crate) fn put_inbox(connection: &Connection, run: &RunId, source: &str, ext_id: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT INTO inbox (source, ext_id, run) VALUES (?1, ?2, ?3)")?.execute([
        source,
        ext_id,
        run.as_str(),
    ])?;
    Ok(())
}

pub(crate) fn answer(connection: &Connection, run: &RunId, call: &CallId) -> rusqlite::Result<Option<Approval>> {
    connection
        .prepare_cached("SELECT approval FROM answers WHERE run = ?1 AND call = ?2")?
        .query_row([run.as_str(), call.as_str()], |row| {
            let text: String = row.get(0)?;
            serde_json::from_str(&text).map_err(|error| malformed(0, error.to_string()))
        })
        .optional()
}

pub(crate) fn hash(row: &Row<'_>, column: usize) -> rusqlite::Result<Hash> {
    row.get::<_, [u8; 32]>(column).map(Hash::from_bytes)
}

pub(crate) fn driver(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<DriverId>> {
    let text: Option<String> = row.get(column)?;
    text.map(DriverId::parse).transpose().map_err(|error| malformed(column, error.to_string()))
}

pub(crate) fn run_id(row: &Row<'_>, column: usize) -> rusqlite::Result<RunId> {
    RunId::parse(row.get::<_, String>(column)?).map_err(|error| malformed(column, error.to_string()))
}

pub(crate) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// SQLite's integers have a sign. Sequence numbers and budget figures are bounded far below; a clock
/// beyond the year 292,000,000 stops there.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn malformed(column: usize, what: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.into())
}
