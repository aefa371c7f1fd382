//! `homarus config set`

use std::path::Path;

use homarus_api::config::{SetResponse, Source};
use toml_edit::Value;

use super::config_get::unknown;
use crate::{
    config::{
        Config, change, check,
        file::UserFile,
        keys::{Key, Keys},
        values,
    },
    dirs::Dirs,
    exit::CliError,
    put,
};

/// How often somebody else may be faster.
const TRIES_MAX: usize = 100;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A key, as `homarus config get` lists them
    #[arg(value_name = "KEY")]
    key: String,
    /// Its value; for a list, one word an entry, or one TOML list
    #[arg(value_name = "VALUE", required_unless_present = "default", allow_negative_numbers = true)]
    value: Vec<String>,
    /// Take the key out of the file, so that its default holds
    #[arg(long, conflicts_with = "value")]
    default: bool,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let path = Dirs::from_env()?.config_file();
        let keys = Keys::all()?;
        let response = (0..TRIES_MAX).find_map(|_| self.set(&path, &keys).transpose()).unwrap_or_else(|| {
            Err(CliError::failed(format!("{} is changed by someone else all the time", path.display()))
                .help("nothing was changed; do it again"))
        })?;
        if self.json {
            put::json(&response)?
        } else {
            print(&response)?
        }
        Ok(0)
    }

    /// Sets it in the file as it is now; `None` if that was changed meanwhile, and nothing was done.
    fn set(&self, path: &Path, keys: &Keys) -> Result<Option<SetResponse>, CliError> {
        let file = UserFile::read(path)?;
        let key = keys.find(&self.key).ok_or_else(|| self.unknown(keys))?;
        let checked = check::sound(file.text(), &file.path, keys)?;
        let previous = checked.set(&key.path).map(|set| &set.value);
        let value = if self.default { None } else { Some(self.value(key)?) };
        let text = match &value {
            Some(value) if previous.is_some_and(|previous| values::to_wire(previous) == values::to_wire(value)) => {
                file.text().to_owned()
            }
            Some(value) => change::set(file.text(), key, value.clone()).map_err(CliError::usage)?,
            None => change::unset(file.text(), key, keys).map_err(CliError::usage)?,
        };
        let changed = text != file.text();
        if changed {
            // The whole of it, once more: what is written must be what the next start reads.
            Config::parse(&text, &file.path)?;
            if !file.try_replace(&text)? {
                return Ok(None);
            }
        }
        Ok(Some(SetResponse {
            file: file.path.display().to_string(),
            key: key.path.clone(),
            source: if value.is_some() { Source::File } else { Source::Default },
            value: values::to_wire(value.as_ref().unwrap_or(checked.otherwise(key).0)),
            previous: values::to_wire(checked.value(key).0),
            changed,
        }))
    }

    fn unknown(&self, keys: &Keys) -> CliError {
        if keys.is_table(&self.key) {
            return CliError::usage(format!("`{}` is a table, not a key", self.key))
                .help(format!("`homarus config get {}` lists the keys in it", self.key));
        }
        unknown(&self.key, keys)
    }

    fn value(&self, key: &Key) -> Result<Value, CliError> {
        key.kind.parse(&self.value).map_err(|message| {
            CliError::usage(format!("`{}`: {message}", key.path)).help(format!("the default is {}", key.default))
        })
    }
}

fn print(response: &SetResponse) -> Result<(), CliError> {
    let value = values::in_toml(&response.value);
    if !response.changed {
        return put::line(&format!("{} is {value} already", response.key));
    }
    let default = if response.source == Source::Default { ", the default" } else { "" };
    put::line(&format!("{} = {value}{default} (was {})", response.key, values::in_toml(&response.previous)))
}
