//! `homarus sandbox selftest`: tries every attack we know from inside a real sandbox, as each kind of user, and looks
//! for itself whether the host is as before.
//!
//! Four parties: the one who asked (this file) starts a *column* for each user, a process that drives sandboxes and may
//! be killed by an attack without harm to the report; the *attacker* (`inside`), our own binary within a sandbox, or
//! outside as a control; the *host's* eyes (`host`, `world`), which do not believe the attacker; and the *judge*.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use thiserror::Error;

mod catalogue;
mod column;
mod control;
mod host;
mod inside;
mod judge;
mod machine;
mod world;

pub use inside::{Note, Outcome};
pub use judge::{Cell, ControlSeen, Verdict};

use crate::{handoff, stages::MARKER};
use column::{Ask, Said};

/// What the stages of this crate run of it.
pub(crate) mod stage {
    pub use super::{
        column::main as column,
        inside::{ATTACK, run as attack},
        machine::main as machine,
    };
}

/// The user that root becomes for the second column: `nobody`.
const ORDINARY: u32 = 65_534;
/// A column that says nothing for this long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const LINE_BYTES_MAX: usize = 1 << 20;

/// What is to be tried.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program that calls [`crate::stage_main`] first thing.
    pub exe: PathBuf,
    /// Where folders for it may be made; every user must be able to get there.
    pub folder: PathBuf,
    /// Only lines whose id begins with one of these; all if empty.
    pub only: Vec<String>,
    /// Also make the harmless attacks without a sandbox.
    pub controls: bool,
}

/// The matrix.
#[derive(Debug, Clone)]
pub struct Report {
    /// `root`, `user 1000`: the columns.
    pub users: Vec<String>,
    pub lines: Vec<Line>,
    pub took_ms: u64,
}

#[derive(Debug, Clone)]
pub struct Line {
    pub id: &'static str,
    pub about: &'static str,
    /// One for each user, in their order.
    pub cells: Vec<Cell>,
}

#[derive(Debug, Error)]
pub enum SelftestError {
    #[error("no attack is called {0:?}")]
    Unknown(String),
    #[error("the self-test could not be set up: {what}")]
    Setup {
        what: String,
        #[source]
        source: io::Error,
    },
}

impl Report {
    /// Every attack was tried by every user, and failed.
    pub fn ok(&self) -> bool {
        self.count(Verdict::Held) == self.lines.iter().map(|line| line.cells.len()).sum::<usize>()
    }

    pub fn count(&self, verdict: Verdict) -> usize {
        self.lines.iter().flat_map(|line| &line.cells).filter(|cell| cell.verdict == verdict).count()
    }
}

/// Hears all columns to their ends, side by side: mostly they wait.
fn together(columns: Vec<Column>, users: &[u32], progress: &mut dyn FnMut(&str, &str)) -> Vec<BTreeMap<String, Cell>> {
    let (told, news) = mpsc::sync_channel::<(String, String)>(64);
    thread::scope(|scope| {
        let running: Vec<_> = columns
            .into_iter()
            .zip(users)
            .map(|(column, user)| {
                let (told, user) = (told.clone(), name_of(*user));
                // Nobody hears it any more only when all is over.
                scope.spawn(move || column.carry(&mut |id| told.send((user.clone(), id.to_owned())).unwrap_or(())))
            })
            .collect();
        drop(told);
        for (user, id) in news {
            progress(&user, &id);
        }
        running.into_iter().map(|column| column.join().unwrap_or_default()).collect()
    })
}

/// How many attacks that is, over all users.
pub fn count(options: &Options) -> Result<usize, SelftestError> {
    Ok(chosen(&options.only)?.len() * users().len())
}

/// Runs it all; `progress` hears who is about to try what. Blocks for about half a minute.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str, &str)) -> Result<Report, SelftestError> {
    let began = Instant::now();
    let lines = chosen(&options.only)?;
    let own = rustix::process::geteuid().as_raw();
    let users = users();
    let ids: Vec<String> = lines.iter().map(|(id, _)| (*id).to_owned()).collect();
    let started = users.iter().map(|user| Column::start(options, *user, own, ids.clone()));
    let started = started.collect::<Result<Vec<Column>, SelftestError>>()?;
    let mut columns = together(started, &users, progress);
    let lines = lines.into_iter().map(|(id, about)| Line {
        id,
        about,
        cells: columns
            .iter_mut()
            .map(|column| column.remove(id).unwrap_or_else(|| nothing("the column ended before")))
            .collect(),
    });
    Ok(Report {
        users: users.into_iter().map(name_of).collect(),
        lines: lines.collect(),
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn users() -> Vec<u32> {
    match rustix::process::geteuid().as_raw() {
        0 => vec![0, ORDINARY],
        own => vec![own],
    }
}

fn name_of(user: u32) -> String {
    if user == 0 { "root".to_owned() } else { format!("user {user}") }
}

/// The lines of the matrix, with what they are about.
fn chosen(only: &[String]) -> Result<Vec<(&'static str, &'static str)>, SelftestError> {
    let attacks = catalogue::all().iter().map(|attack| (attack.id, attack.about));
    let all: Vec<_> = attacks.chain(machine::all().iter().map(|one| (one.id, one.about))).collect();
    let fits = |id: &str, wanted: &str| id.starts_with(wanted);
    if let Some(unknown) = only.iter().find(|wanted| !all.iter().any(|(id, _)| fits(id, wanted))) {
        return Err(SelftestError::Unknown(unknown.clone()));
    }
    Ok(all.into_iter().filter(|(id, _)| only.is_empty() || only.iter().any(|wanted| fits(id, wanted))).collect())
}

fn nothing(why: &str) -> Cell {
    Cell {
        verdict: Verdict::NotTried,
        how: why.to_owned(),
        recorded: None,
        control: ControlSeen::NotTried { why: why.to_owned() },
        took_ms: 0,
        tries: Vec::new(),
    }
}

/// A running column, and the folder that is its own.
struct Column {
    child: Child,
    stdout: ChildStdout,
    folder: Folder,
}

/// Removed with all that is in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Column {
    fn start(options: &Options, user: u32, own: u32, lines: Vec<String>) -> Result<Self, SelftestError> {
        let setup = |what: &str| {
            let what = what.to_owned();
            move |source: io::Error| SelftestError::Setup { what, source }
        };
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let token = format!("homarus-selftest-{}-{count}", std::process::id());
        let root = options.folder.join(&token);
        fs::create_dir(&root).map_err(setup(&format!("make {}", root.display())))?;
        let folder = Folder(root);
        open_to_all(&folder.0).map_err(setup("open the folder"))?;
        // Another user might not get to where our program stands.
        let exe = if user == own {
            options.exe.clone()
        } else {
            copy(&options.exe, &folder.0).map_err(setup("copy the program"))?
        };
        let home = folder.0.join("home");
        fs::create_dir(&home).map_err(setup("make a folder"))?;
        let mut command = Command::new(exe);
        if user != own {
            chown(&home, Some(user), Some(user)).map_err(setup("give the folder away"))?;
            command.uid(user).gid(user);
        }
        let ask = Ask { folder: home.clone(), token, lines, controls: options.controls };
        let text = serde_json::to_vec(&ask).map_err(|error| setup("ask")(error.into()))?;
        let stdin = crate::call::stdin_of(&text).map_err(setup("ask"))?;
        let mut child = command
            .args([MARKER, "selftest"])
            .env_clear()
            .env("HOMARUS_SELFTEST", "column")
            .current_dir(home)
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(setup("start the program again"))?;
        let Some(stdout) = child.stdout.take() else {
            return Err(setup("start the program again")(io::Error::other("no pipe")));
        };
        Ok(Self { child, stdout, folder })
    }

    /// Hears it to its end. One that ends early or hangs was hit by the attack it had begun.
    fn carry(mut self, progress: &mut dyn FnMut(&str)) -> BTreeMap<String, Cell> {
        let mut cells = BTreeMap::new();
        let mut under_way: Option<String> = None;
        let mut lines = Lines::default();
        let end = loop {
            match lines.next(&mut self.stdout) {
                Ok(Some(Said::Began(id))) => {
                    progress(&id);
                    under_way = Some(id);
                }
                Ok(Some(Said::Line(id, cell))) => {
                    under_way = None;
                    cells.insert(id, *cell);
                }
                Ok(None) => break "the driver ended".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        // It has ended, or must.
        let _ = self.child.kill();
        let how = match self.child.wait() {
            Ok(status) => format!("{end} ({status})"),
            Err(_) => end,
        };
        if let Some(id) = under_way {
            let cell = Cell { verdict: Verdict::GotThrough, ..nothing(&how) };
            cells.insert(id, cell);
        }
        drop(self.folder);
        cells
    }
}

/// Lines of JSON from a pipe that may fall silent.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
}

impl Lines {
    fn next(&mut self, from: &mut ChildStdout) -> io::Result<Option<Said>> {
        use io::Read;
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            if self.text.len() > LINE_BYTES_MAX {
                return Err(io::Error::other("the driver said too much"));
            }
            if !handoff::readable(&*from, SILENCE_MAX)? {
                return Err(io::Error::other(format!("the driver said nothing for {} s", SILENCE_MAX.as_secs())));
            }
            let mut some = [0u8; 8192];
            match from.read(&mut some)? {
                0 => return Ok(None),
                got => self.text.extend_from_slice(&some[..got]),
            }
        }
    }
}

fn copy(exe: &Path, folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join("homarus");
    fs::copy(exe, &path)?;
    open_to_all(&path)?;
    Ok(path)
}

fn open_to_all(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
