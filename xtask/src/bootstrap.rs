//! What a fresh machine lacks: looked for first, installed only when missing.

use std::path::Path;

use crate::{env, places::Places, sh};

/// A thing that building, testing or running needs, and the Debian package that holds it.
struct Need {
    package: &'static str,
    why: &'static str,
    present: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need { package: "build-essential", why: "C and C++ for SQLite and llama.cpp", present: has_c_toolchain },
    Need { package: "cmake", why: "builds llama.cpp", present: || sh::on_path("cmake") },
    Need { package: "clang", why: "headers for the bindings of llama.cpp", present: || sh::on_path("clang") },
    Need { package: "libclang-dev", why: "makes the bindings of llama.cpp", present: has_libclang },
    Need { package: "git", why: "the version names its commit", present: || sh::on_path("git") },
    Need { package: "python3", why: "sample jobs, and a model server for tests", present: || sh::on_path("python3") },
    Need { package: "python3-venv", why: "a model server for tests", present: || python_has("venv, ensurepip") },
    Need { package: "python3-pip", why: "a model server for tests", present: || python_has("pip") },
    Need { package: "diffutils", why: "the demo shows what changed", present: || sh::on_path("diff") },
];

/// Installs what is missing.
pub fn run(places: &Places) -> Result<(), String> {
    install_packages(places)?;
    for (component, program) in [("rustfmt", "cargo-fmt"), ("clippy", "cargo-clippy")] {
        if !sh::on_path(program) {
            sh::run(sh::command(places, "rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

/// Whether tests run by `cargo nextest`; installs it if it can. Without it they run by `cargo test`.
pub fn nextest(places: &Places) -> bool {
    let present = || sh::succeeds(sh::command(places, "cargo").args(["nextest", "--version"]));
    if present() {
        return true;
    }
    println!("cargo-nextest is missing: installing it");
    let mut install = sh::cargo(places, &["install", "cargo-nextest", "--locked"]);
    match sh::run(&mut install) {
        Ok(()) => present(),
        Err(message) => {
            println!("{message}\nthe tests run by `cargo test` instead");
            false
        }
    }
}

/// Whether one of these programs is there; installs the Debian package that holds it if it can. What needs it says that
/// it was skipped where this cannot be done.
pub fn optional(places: &Places, programs: &[&str], package: &str) -> bool {
    let present = || programs.iter().any(|program| sh::on_path(program));
    if present() {
        return true;
    }
    println!("missing: {package}");
    let mut apt = sh::command(places, "apt-get");
    apt.args(["install", "--yes", "--quiet", "--no-install-recommends", package])
        .env("DEBIAN_FRONTEND", "noninteractive");
    if let Err(why) = obstacle(places).map_or_else(|| sh::run(&mut apt), Err) {
        println!("{package} cannot be installed: {why}");
    }
    present()
}

fn install_packages(places: &Places) -> Result<(), String> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        println!("missing: {} ({})", need.package, need.why);
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if let Some(obstacle) = obstacle(places) {
        return Err(format!("{obstacle}. Please install these, by their names on Debian: {}", packages.join(" ")));
    }
    let apt = |args: &[&str]| {
        let mut apt = sh::command(places, "apt-get");
        apt.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        sh::run(&mut apt)
    };
    apt(&["update", "--quiet"])?;
    apt(&[&["install", "--yes", "--quiet", "--no-install-recommends"], packages.as_slice()].concat())?;
    match missing.iter().find(|need| !(need.present)()) {
        Some(need) => Err(format!("{} was installed, but what it should bring is still not found", need.package)),
        None => Ok(()),
    }
}

/// Why packages cannot be installed here.
fn obstacle(places: &Places) -> Option<String> {
    if !sh::on_path("apt-get") {
        return Some("this is not Debian or a relative of it: there is no apt-get".to_owned());
    }
    let uid = sh::output(sh::command(places, "id").arg("-u")).unwrap_or_default();
    (uid.trim() != "0").then(|| "installing packages needs root".to_owned())
}

fn has_c_toolchain() -> bool {
    ["cc", "c++", "make"].iter().all(|program| sh::on_path(program))
}

fn has_libclang() -> bool {
    let in_folder = |folder: &Path| {
        let Ok(entries) = folder.read_dir() else { return false };
        entries.flatten().any(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with("libclang")
                && (name.ends_with(".so") || name.contains(".so."))
                && !name.starts_with("libclang-cpp")
        })
    };
    if let Some(path) = env::path("LIBCLANG_PATH") {
        return path.is_file() || in_folder(&path);
    }
    let of_llvm = Path::new("/usr/lib").read_dir().into_iter().flatten().flatten();
    let of_llvm = of_llvm.filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm-"));
    of_llvm.map(|entry| entry.path().join("lib")).any(|folder| in_folder(&folder))
}

fn python_has(modules: &str) -> bool {
    sh::succeeds(std::process::Command::new("python3").args(["-c", &format!("import {modules}")]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_package_is_named_once_and_says_why() {
        for (index, need) in NEEDS.iter().enumerate() {
            assert!(!need.why.is_empty());
            assert!(NEEDS[..index].iter().all(|other| other.package != need.package), "{}", need.package);
        }
    }
}
