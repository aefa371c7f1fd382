//! Where things are: the repository, the build folders, the weights.

use std::path::{Path, PathBuf};

use crate::env;

#[derive(Debug, Clone)]
pub struct Places {
    /// The repository.
    pub root: PathBuf,
    /// Where all but the inference worker is built.
    pub target: PathBuf,
    /// Where the inference worker is built: it has its own compiler flags, which would otherwise
    /// throw everything else away at each change.
    pub worker_target: PathBuf,
    /// Weights, shared by demos and tests, kept between runs.
    pub models: PathBuf,
    /// Python packages that tests use.
    pub venv: PathBuf,
    /// The providers' own Python clients, apart because they and the model servers want different versions of things.
    pub clients_venv: PathBuf,
    cache: PathBuf,
}

impl Places {
    pub fn find() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask has no parent folder")?.to_path_buf();
        let cache = cache_home()?.join("homarus");
        let target = env::path(env::CARGO_TARGET_DIR).unwrap_or_else(|| cache.join("target"));
        let target = std::path::absolute(&target).map_err(|error| format!("{}: {error}", target.display()))?;
        Ok(Self {
            worker_target: with_suffix(&target, "-local-model"),
            target,
            models: env::path(env::HOMARUS_MODELS_DIR).unwrap_or_else(|| cache.join("models")),
            venv: cache.join("venv"),
            clients_venv: cache.join("venv-clients"),
            cache,
            root,
        })
    }

    /// Programs of others, beside which ours is measured.
    pub fn peers(&self) -> PathBuf {
        self.cache.join("peers")
    }

    /// `homarus` and its worker, side by side.
    pub fn dist(&self) -> PathBuf {
        self.target.join("dist")
    }
}

fn cache_home() -> Result<PathBuf, String> {
    env::path("XDG_CACHE_HOME")
        .or_else(|| env::path("HOME").map(|home| home.join(".cache")))
        .ok_or_else(|| "neither XDG_CACHE_HOME nor HOME is set: there is no place to build in".to_owned())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_is_built_beside() {
        assert_eq!(with_suffix(Path::new("/a/target"), "-local-model"), Path::new("/a/target-local-model"));
    }
}
