//! A home of Homarus for some jobs: folders, configuration, the model, the world outside, and its command line.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use homarus_test_kit::{ModelServer, Recorded, Turn};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    job::{Job, Made, SKILL, SKILL_FILES},
    outside::Outside,
};

const TEMPLATE: &str = "template";
/// Where the program finds Chromium, by these names.
const PATH: [&str; 2] = ["/usr/bin", "/bin"];
const CHROMIUM: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

pub struct Home {
    folder: TempDir,
    homarus: PathBuf,
    pub outside: Outside,
    model: ModelServer,
    jobs: Arc<Mutex<BTreeMap<u32, Job>>>,
}

/// What a command said.
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Home {
    pub async fn new(homarus: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| format!("a home cannot be made: {error}");
        let folder = tempfile::Builder::new().prefix("homarus-torture-").tempdir().map_err(failed)?;
        let outside = Outside::start().await.map_err(failed)?;
        let jobs: Arc<Mutex<BTreeMap<u32, Job>>> = Arc::default();
        let (known, url) = (jobs.clone(), outside.url());
        let model = ModelServer::answering(move |request| {
            answer(&known.lock().unwrap_or_else(PoisonError::into_inner), &url, request)
        });
        let home = Self { homarus: homarus.to_path_buf(), outside, model: model.await.map_err(failed)?, jobs, folder };
        fs::create_dir_all(home.root().join("work")).map_err(failed)?;
        fs::create_dir_all(home.temporary()).map_err(failed)?;
        fs::write(home.policy(), rules(&home.outside)).map_err(failed)?;
        home.ask(&["agents", "create", TEMPLATE, "--template", "worker"]).await?.expect(0)?;
        Ok(home)
    }

    /// One where every tool can be called: with a search engine and a skill.
    pub async fn furnished(homarus: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| format!("a home cannot be furnished: {error}");
        let home = Self::new(homarus).await?;
        fs::create_dir_all(home.state().join("config")).map_err(failed)?;
        let config = format!("[search]\nurl = \"{}\"\n", home.outside.url());
        fs::write(home.state().join("config/homarus.toml"), config).map_err(failed)?;
        let skill = home.root().join(SKILL);
        write_skill(&skill).map_err(failed)?;
        home.ask(&["skills", "add", &skill.display().to_string()]).await?.expect(0)?;
        Ok(home)
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// What `HOMARUS_HOME` is.
    pub fn state(&self) -> PathBuf {
        self.root().join("home")
    }

    pub fn workspace(&self, job: &Job) -> PathBuf {
        self.root().join(format!("work/{}", job.number))
    }

    pub fn policy(&self) -> PathBuf {
        self.root().join("rules.toml")
    }

    /// What `TMPDIR` is.
    pub fn temporary(&self) -> PathBuf {
        self.root().join("tmp")
    }

    pub fn agent(&self, job: &Job) -> String {
        format!("t{}", job.number)
    }

    pub fn memory(&self, job: &Job) -> String {
        let file = self.state().join("agents").join(self.agent(job)).join("MEMORY.md");
        fs::read_to_string(file).unwrap_or_default()
    }

    /// Keeps the folders for somebody to look at.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    /// Makes the workspace and the agent of a job, and tells the model of it.
    pub fn add(&self, job: &Job) -> Result<(), String> {
        let failed = |error: io::Error| format!("job {} cannot be prepared: {error}", job.number);
        job.prepare(&self.workspace(job)).map_err(failed)?;
        let agents = self.state().join("agents");
        let own = agents.join(self.agent(job));
        fs::create_dir_all(&own).map_err(failed)?;
        for entry in fs::read_dir(agents.join(TEMPLATE)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.path().is_file() {
                fs::copy(entry.path(), own.join(entry.file_name())).map_err(failed)?;
            }
        }
        if job.keeps_profile {
            let definition = own.join("agent.toml");
            let rest = fs::read_to_string(&definition).map_err(failed)?;
            let own = format!("browser_profile = \"{}\"\n{rest}", self.agent(job));
            fs::write(definition, own).map_err(failed)?;
        }
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).insert(job.number, job.clone());
        Ok(())
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.command_in(&self.state(), args)
    }

    /// The same with another home, a doctored copy say.
    pub fn command_in(&self, state: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(&self.homarus);
        command
            .args(args)
            .env_clear()
            .env("PATH", PATH.join(":"))
            .env("TMPDIR", self.temporary())
            .env("HOME", state)
            .env("HOMARUS_HOME", state)
            .env("OPENAI_BASE_URL", self.model.base_url())
            .env("OPENAI_API_KEY", "sk-test-not-a-real-key")
            .env("OLLAMA_HOST", "127.0.0.1:1")
            .env("LANG", "C.UTF-8")
            .current_dir(self.root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub async fn ask(&self, args: &[&str]) -> Result<Said, String> {
        said(self.command(args)).await
    }

    pub async fn ask_in(&self, state: &Path, args: &[&str]) -> Result<Said, String> {
        said(self.command_in(state, args)).await
    }

    /// One JSON document.
    pub async fn json(&self, args: &[&str]) -> Result<Value, String> {
        let said = self.ask(args).await?.expect(0)?;
        serde_json::from_str(&said.stdout).map_err(|error| format!("{args:?} did not print JSON: {error}"))
    }

    pub async fn log(&self, run: &str) -> Result<Vec<Value>, String> {
        let said = self.ask(&["runs", "log", run, "--json"]).await?.expect(0)?;
        let lines = said.stdout.lines().map(|line| serde_json::from_str(line).map_err(|error| error.to_string()));
        lines.collect()
    }

    /// The newest run whose request begins so.
    pub async fn find(&self, request: &str) -> Result<Option<String>, String> {
        if !self.state().join("state/journal.db").exists() {
            return Ok(None);
        }
        let list = self.json(&["runs", "list", "--json", "--limit", "10000"]).await?;
        let rows = list["runs"].as_array().cloned().unwrap_or_default();
        let fits = rows.iter().find(|row| row["prompt"].as_str().is_some_and(|prompt| prompt.starts_with(request)));
        Ok(fits.and_then(|row| row["run"].as_str()).map(str::to_owned))
    }
}

impl Said {
    pub fn expect(self, code: i32) -> Result<Self, String> {
        if self.code == Some(code) {
            return Ok(self);
        }
        Err(format!("a command ended with {:?}, not {code}: {} {}", self.code, self.stdout, self.stderr))
    }
}

async fn said(mut command: Command) -> Result<Said, String> {
    let output =
        command.kill_on_drop(true).output().await.map_err(|error| format!("homarus cannot be started: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Said { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// Whether the program has a browser.
pub fn has_browser() -> bool {
    PATH.iter().any(|folder| CHROMIUM.iter().any(|name| Path::new(folder).join(name).is_file()))
}

fn write_skill(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let head = format!("---\nname: {SKILL}\ndescription: What the parts are.\n---\nEach part has a file.\n");
    fs::write(folder.join("SKILL.md"), head)?;
    for number in 1..=SKILL_FILES {
        fs::write(folder.join(format!("part-{number}.md")), format!("This is part {number}.\n"))?;
    }
    Ok(())
}

/// Everything is allowed, but what a person is to be asked about; and the one address outside is named.
fn rules(outside: &Outside) -> String {
    let address = outside.address;
    format!(
        "default = \"allow\"\n\
         [[rule]]\neffect = \"ask\"\nmatch = \"file:write:./held/**\"\nreason = \"writes here are shown first\"\n\
         [[rule]]\neffect = \"ask\"\nmatch = \"shell:run:touch *\"\nwhen = \"before-run\"\nreason = \"touch is asked about\"\n\
         [[rule]]\neffect = \"allow\"\nmatch = [\"shell:run\", \"memory:write\", \"file:write:./**\", \"file:read:./**\", \
         \"net:connect:{address}\", \
         \"web:search\", \"skill:read\", \"browser:*\"]\n"
    )
}

/// The model: the next calls of the job the request is about, or the end.
fn answer(jobs: &BTreeMap<u32, Job>, outside: &str, request: &Recorded) -> Turn {
    let messages = || request.body["messages"].as_array().into_iter().flatten();
    let of = |role: &'static str| messages().filter(move |message| message["role"] == role);
    let text = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    let said: String = of("user").map(text).collect();
    let results: BTreeMap<&str, String> =
        of("tool").filter_map(|message| Some((message["tool_call_id"].as_str()?, text(message)))).collect();
    let calls = of("assistant").flat_map(|message| message["tool_calls"].as_array().into_iter().flatten());
    let made: Vec<Made> = calls
        .map(|call| Made {
            arguments: call["function"]["arguments"].as_str().unwrap_or_default().to_owned(),
            result: call["id"].as_str().and_then(|id| results.get(id)).cloned().unwrap_or_default(),
        })
        .collect();
    let Some(job) = jobs.values().find(|job| said.contains(&job.message(1))) else {
        return Turn::text("I know of no such job.");
    };
    let calls = job.answer(&said, &made, outside);
    let words = if calls.is_empty() { "All done." } else { "I go on." };
    let mut turn = Turn { piece_delay_ms: job.piece_delay_ms, ..Turn::text(words) };
    for (tool, arguments) in calls {
        turn = turn.and_call(tool, arguments);
    }
    turn
}
