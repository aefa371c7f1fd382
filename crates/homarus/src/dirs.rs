//! Where things live: XDG folders, or all of them under `HOMARUS_HOME`.

use std::path::{Path, PathBuf};

use crate::{config::Config, env, exit::CliError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// Journal, layers, locks, keys.
    pub state: PathBuf,
    pub config: PathBuf,
    /// One folder for each agent.
    pub agents: PathBuf,
    /// One folder for each skill.
    pub skills: PathBuf,
    /// Weights of embedded models.
    pub models: PathBuf,
}

impl Dirs {
    /// All of them in one folder, for tests.
    #[cfg(test)]
    pub fn in_folder(folder: &Path) -> Self {
        let at = |name: &str| folder.join(name);
        Self {
            state: at("state"),
            config: at("config"),
            agents: at("agents"),
            skills: at("skills"),
            models: at("models"),
        }
    }

    pub fn from_env() -> Result<Self, CliError> {
        let models = env::MODELS_DIR.get_os().map(PathBuf::from);
        if let Some(home) = env::HOME.get_os().map(PathBuf::from) {
            let home = std::path::absolute(&home).map_err(|error| {
                CliError::usage(format!("HOMARUS_HOME={} cannot be used", home.display())).cause(error)
            })?;
            return Ok(Self {
                state: home.join("state"),
                config: home.join("config"),
                agents: home.join("agents"),
                skills: home.join("skills"),
                models: models.unwrap_or_else(|| home.join("models")),
            });
        }
        let find = |name, fallback| {
            env::xdg(name, fallback).map(|folder| folder.join("homarus")).ok_or_else(|| {
                CliError::usage("there is no home folder")
                    .cause("HOME is not set, or not a whole path")
                    .help("set HOMARUS_HOME to the folder where Homarus shall keep everything")
            })
        };
        Ok(Self {
            state: find("XDG_STATE_HOME", ".local/state")?,
            config: find("XDG_CONFIG_HOME", ".config")?,
            agents: find("XDG_DATA_HOME", ".local/share")?.join("agents"),
            skills: find("XDG_DATA_HOME", ".local/share")?.join("skills"),
            models: match models {
                Some(models) => models,
                None => find("XDG_CACHE_HOME", ".cache")?.join("models"),
            },
        })
    }

    pub fn config_file(&self) -> PathBuf {
        env::CONFIG.get_os().map_or_else(|| self.config.join("homarus.toml"), PathBuf::from)
    }

    /// What no sandbox may see or change: Homarus's own folders, and the files it obeys, wherever they are.
    pub fn hidden(&self, config: &Config) -> Vec<PathBuf> {
        let folders = [self.state.clone(), self.config.clone(), self.agents.clone()];
        folders.into_iter().chain([self.config_file()]).chain(config.obeyed().cloned()).collect()
    }
}

/// The workspace as given, made absolute and checked.
pub fn workspace(given: Option<&Path>) -> Result<PathBuf, CliError> {
    let path = given.unwrap_or_else(|| Path::new("."));
    let real = path.canonicalize().map_err(|error| {
        CliError::usage(format!("the workspace {} cannot be used", path.display()))
            .cause(error)
            .help("name an existing folder with --workspace DIR")
    })?;
    if !real.is_dir() {
        return Err(CliError::usage(format!("the workspace {} is not a folder", real.display())));
    }
    Ok(real)
}
