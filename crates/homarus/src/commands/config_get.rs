//! `homarus config get`

use homarus_api::config::{GetResponse, Setting, Source};

use crate::{
    config::{
        check::{self, Checked},
        file::UserFile,
        keys::{Key, Keys},
        limits, values,
    },
    dirs::Dirs,
    exit::CliError,
    put,
    show::style::Style,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A key, or a table of keys such as `budget`; everything if absent
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let file = UserFile::of(&Dirs::from_env()?)?;
        let keys = Keys::all()?;
        // An invalid file is an error: nobody can say what holds then.
        let checked = check::sound(file.text(), &file.path, &keys)?;
        let named = |key: &&Key| self.key.as_ref().is_none_or(|path| key.path == *path || key.is_in(path));
        // Limits of tools are many, and mostly as those of every call: unasked they are told where they are not.
        let asked = self.key.as_deref().is_some_and(limits::are_of_tools);
        let told = keys.of_tools().filter(|key| asked || checked.set(&key.path).is_some());
        let settings = keys.iter().chain(told).filter(named).map(|key| setting(key, &checked));
        let response = GetResponse {
            file: file.path.display().to_string(),
            exists: file.text.is_some(),
            settings: settings.collect(),
        };
        if let (Some(path), true) = (&self.key, response.settings.is_empty()) {
            return Err(unknown(path, &keys));
        }
        if self.json {
            put::json(&response)?;
        } else {
            print(&response, self.key.as_deref(), &keys)?;
        }
        Ok(0)
    }
}

pub fn unknown(path: &str, keys: &Keys) -> CliError {
    let all = limits::listed(path);
    let help = match keys.meant(path) {
        Some(meant) => format!("did you mean `{meant}`? {all}"),
        None => all,
    };
    CliError::usage(format!("unknown key `{path}`")).help(help)
}

/// A key with the value that holds.
fn setting(key: &Key, checked: &Checked) -> Setting {
    let (value, set) = checked.value(key);
    Setting {
        key: key.path.clone(),
        value: values::to_wire(value),
        default: values::to_wire(checked.otherwise(key).0),
        source: if set.is_some() { Source::File } else { Source::Default },
        line: set.map(|set| set.line),
        expected: key.kind.to_string(),
        about: key.about.clone(),
    }
}

/// The value alone for one key, so that scripts can take it; lines as in a file for more.
fn print(response: &GetResponse, key: Option<&str>, keys: &Keys) -> Result<(), CliError> {
    if let Some(found) = key.and_then(|key| keys.find(key))
        && let [setting] = response.settings.as_slice()
    {
        put::line(&values::plain(&setting.value))?;
        put::note(&format!("{} takes {}; this is {}", found.path, found.kind, source(setting, response)));
        return Ok(());
    }
    let style = Style::for_stdout();
    for setting in &response.settings {
        let line = format!("{} = {}", setting.key, values::in_toml(&setting.value));
        match setting.source {
            Source::Default => put::line(&format!("{}  {}", line, style.dim("# default")))?,
            Source::File => put::line(&format!("{}  {}", style.bold(&line), source_comment(setting)))?,
        }
    }
    Ok(())
}

fn source_comment(setting: &Setting) -> String {
    setting.line.map_or_else(String::new, |line| format!("# line {line} of your file"))
}

fn source(setting: &Setting, response: &GetResponse) -> String {
    match setting.line {
        Some(line) => format!("line {line} of {}", response.file),
        None => "the default".to_owned(),
    }
}
