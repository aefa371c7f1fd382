//! Python packages that tests use, in virtual environments of their own, at pinned versions.

use std::path::Path;

use crate::{places::Places, sh};

/// Installs what is missing of these packages (name and version); nothing if all are there.
pub fn install(places: &Places, venv: &Path, packages: &[(&str, &str)]) -> Result<(), String> {
    let python = venv.join("bin/python");
    let present = |name: &str, version: &str| {
        let asked = format!("import importlib.metadata as m; print(m.version('{name}'))");
        sh::output(sh::command(places, &python).args(["-c", &asked])).is_ok_and(|found| found.trim() == version)
    };
    let missing = || packages.iter().filter(|(name, version)| !present(name, version));
    let wanted: Vec<String> = missing().map(|(name, version)| format!("{name}=={version}")).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    sh::run(sh::command(places, "python3").args(["-m", "venv"]).arg(venv))?;
    sh::run(sh::command(places, &python).args(["-m", "pip", "install", "--quiet"]).args(&wanted))?;
    match missing().next() {
        Some((name, version)) => Err(format!("{name} {version} was installed and is not there")),
        None => Ok(()),
    }
}

/// Whether pip can look anything up at all: an installation that failed all the same is a failure of ours.
pub fn registry_answers(places: &Places, venv: &Path) -> bool {
    let python = venv.join("bin/python");
    sh::succeeds(sh::command(places, &python).args(["-m", "pip", "index", "versions", "idna"]))
}
