//! Builds `homarus` and its inference worker, and puts them side by side: `homarus` looks for the
//! worker next to its own executable.

use std::path::{Path, PathBuf};

use crate::{env, places::Places, sh};

/// What a CPU must have for code of the level x86-64-v3. Without those instructions llama.cpp is
/// several times slower.
const V3_CPU_FLAGS: [&str; 4] = ["avx2", "fma", "bmi2", "f16c"];

#[derive(Debug, Clone)]
pub struct Built {
    pub homarus: PathBuf,
    pub worker: PathBuf,
}

pub fn run(places: &Places) -> Result<Built, String> {
    sh::run(&mut sh::cargo(places, &["build", "--release", "-p", "homarus"]))?;
    sh::run(&mut worker_cargo(places, &["build", "--release", "-p", "homarus-local-model"]))?;
    let dist = places.dist();
    std::fs::create_dir_all(&dist).map_err(|error| format!("{}: {error}", dist.display()))?;
    Ok(Built {
        homarus: put(&places.target.join("release/homarus"), &dist)?,
        worker: put(&places.worker_target.join("release/homarus-local-model"), &dist)?,
    })
}

/// Cargo, building the worker: in its own folder, with its own flags.
pub fn worker_cargo(places: &Places, args: &[&str]) -> std::process::Command {
    let mut cargo = sh::cargo(places, args);
    cargo.env(env::CARGO_TARGET_DIR, &places.worker_target);
    if !env::is_set(env::RUSTFLAGS) && cpu_is_v3(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()) {
        cargo.env(env::RUSTFLAGS, "-C target-cpu=x86-64-v3");
    }
    cargo
}

fn cpu_is_v3(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags"));
    let has = |wanted: &str| flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == wanted));
    cfg!(target_arch = "x86_64") && V3_CPU_FLAGS.into_iter().all(has)
}

/// Copies under another name first: the executable may be running.
fn put(from: &Path, folder: &Path) -> Result<PathBuf, String> {
    let name = from.file_name().ok_or("an executable without a name")?;
    let to = folder.join(name);
    let fresh = folder.join(format!("{}.new", name.to_string_lossy()));
    let done = std::fs::copy(from, &fresh).and_then(|_| std::fs::rename(&fresh, &to));
    done.map_err(|error| format!("{} -> {}: {error}", from.display(), to.display()))?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_four_flags_make_a_v3() {
        let v3 = cfg!(target_arch = "x86_64");
        assert_eq!(cpu_is_v3("model name : x\nflags\t\t: fpu avx2 fma bmi2 f16c\n"), v3);
        assert!(!cpu_is_v3("flags\t\t: fpu avx2 fma bmi2\n"));
        assert!(!cpu_is_v3("flags\t\t: fpu avx2 fma4 bmi2 f16c\n"));
        assert!(!cpu_is_v3(""));
    }
}
