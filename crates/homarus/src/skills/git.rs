//! Fetching a folder of a git repository, without letting the repository do anything.
//!
//! The installed `git` is used, because people's keys, proxies and certificates work with it. It fetches one commit
//! into a bare repository of its own and nothing is ever checked out: the files are read as objects, by their hashes,
//! with their sizes known beforehand. So no hook, filter, attribute, submodule, link or configuration of the repository
//! has a place where it could act.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use homarus_agent::skill::is_unseen;
use homarus_contract::text::one_line;
use rustix::process::{Pid, Signal, kill_process_group};

use super::place::{Reach, Repository};
use crate::{env, exit::CliError};

const WALL_MAX: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);
/// What a fetch may bring, as it lies on the disk.
const FETCHED_BYTES_MAX: u64 = 64 << 20;
const FILES_MAX: usize = 500;
const FILE_BYTES_MAX: u64 = 4 << 20;
const ALL_BYTES_MAX: u64 = 32 << 20;
const LISTING_BYTES_MAX: u64 = 1 << 20;
const ERRORS_BYTES_MAX: u64 = 64 << 10;
const PATH_PARTS_MAX: usize = 7;
const FETCHED: &str = "refs/homarus/fetched";

/// A folder of one commit.
pub struct Fetched {
    pub commit: String,
    /// As they were committed.
    pub files: Vec<File>,
}

pub struct File {
    pub path: String,
    pub bytes: Vec<u8>,
    pub is_executable: bool,
}

/// Within bounds of time and size.
pub fn fetch(from: &Repository) -> Result<Fetched, CliError> {
    fetch_within(from, FETCHED_BYTES_MAX)
}

fn fetch_within(from: &Repository, bytes_max: u64) -> Result<Fetched, CliError> {
    let program = env::find_program("git").ok_or_else(|| {
        CliError::failed("skills of repositories are fetched with git").cause("git is not installed").help("install it")
    })?;
    let folder = tempfile::tempdir().map_err(|error| CliError::failed("there is no room to fetch to").cause(error))?;
    let git = Git { program, folder: folder.path().join("fetched.git"), reach: from.reach, bytes_max };
    git.run(&["init", "--quiet", "--bare", "--template="], &[], ERRORS_BYTES_MAX)?;
    let wanted = format!("+{}:{FETCHED}", from.reference.as_deref().unwrap_or("HEAD"));
    let fetch = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance"];
    git.run(&[&fetch[..], &["--", &from.address, &wanted]].concat(), &[], ERRORS_BYTES_MAX)
        .map_err(|error| CliError::failed(format!("{from} cannot be fetched")).cause(error.summary()).help(HELP))?;
    let commit = git.run(&["rev-parse", "--verify", &format!("{FETCHED}^{{commit}}")], &[], ERRORS_BYTES_MAX)?;
    let commit = String::from_utf8_lossy(&commit).trim().to_owned();
    let tree = format!("{commit}:{}", from.folder);
    let listing = git.run(&["ls-tree", "-r", "-z", "-l", "--full-tree", &tree], &[], LISTING_BYTES_MAX);
    let listing = listing.map_err(|_| {
        CliError::usage(format!("{from} has no folder {:?}", from.folder)).cause(format!("its commit is {commit}"))
    })?;
    let entries = entries(&listing)?;
    let hashes: String = entries.iter().map(|entry| format!("{}\n", entry.hash)).collect();
    let objects = git.run(&["cat-file", "--batch"], hashes.as_bytes(), ALL_BYTES_MAX + LISTING_BYTES_MAX)?;
    Ok(Fetched { commit, files: contents(entries, &objects)? })
}

const HELP: &str = "look at the address and the name after #; what needs a password is fetched with a key over ssh";

struct Git {
    program: PathBuf,
    folder: PathBuf,
    reach: Reach,
    bytes_max: u64,
}

impl Git {
    /// Its output. It is ended when it takes too long, or brings or says too much.
    fn run(&self, args: &[&str], input: &[u8], output_bytes_max: u64) -> Result<Vec<u8>, CliError> {
        let failed = |cause: String| CliError::failed(format!("git {} failed", args[0])).cause(cause);
        let mut child = self.command(args).spawn().map_err(|error| failed(error.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            let input = input.to_vec();
            // One that does not read ends by its own account.
            thread::spawn(move || stdin.write_all(&input));
        }
        let output = read_on(child.stdout.take(), output_bytes_max);
        let errors = read_on(child.stderr.take(), ERRORS_BYTES_MAX);
        let ended = self.wait(&mut child);
        let status = ended.map_err(&failed)?;
        if size_of(&self.folder) > self.bytes_max {
            return Err(failed(self.too_much()));
        }
        let output = output.recv().unwrap_or_default();
        let errors = errors.recv().unwrap_or_default();
        if output.len() as u64 > output_bytes_max {
            return Err(failed(format!("it said more than {output_bytes_max} bytes")));
        }
        if status.success() {
            return Ok(output);
        }
        let errors = String::from_utf8_lossy(&errors);
        let errors: Vec<&str> = errors.lines().filter(|line| !line.trim().is_empty()).collect();
        Err(failed(one_line(&errors.join("; "), 600)))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // Nothing of the caller's surroundings but how the network is reached: no other repository, no
        // configuration, no program that would ask for a password.
        command.env_clear().envs(env::of_the_network());
        command
            .env("GIT_DIR", &self.folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_ALLOW_PROTOCOL", self.reach.protocol())
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "false")
            .env("SSH_ASKPASS", "false")
            .env(
                "GIT_SSH_COMMAND",
                "ssh -o BatchMode=yes -o PermitLocalCommand=no -o ForwardAgent=no -o ClearAllForwardings=yes",
            )
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("LC_ALL", "C.UTF-8");
        for setting in [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.symlinks=false",
            "core.bigFileThreshold=1m",
            "credential.helper=",
            "fetch.fsckObjects=true",
            "transfer.fsckObjects=true",
            "fetch.recurseSubmodules=false",
            "fetch.unpackLimit=1",
            "submodule.recurse=false",
            "gc.auto=0",
            "maintenance.auto=false",
            "http.followRedirects=initial",
            "http.lowSpeedLimit=1000",
            "http.lowSpeedTime=30",
            "pack.threads=1",
        ] {
            command.args(["-c", setting]);
        }
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        // Where a repository on this machine belongs to somebody else, git itself refuses.
        command.current_dir("/");
        command
    }

    fn too_much(&self) -> String {
        format!("it brings more than {} KiB", self.bytes_max >> 10)
    }

    fn wait(&self, child: &mut Child) -> Result<std::process::ExitStatus, String> {
        let began = Instant::now();
        let why = loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Err(error) => break error.to_string(),
                Ok(None) if began.elapsed() > WALL_MAX => {
                    break format!("it took longer than {} s", WALL_MAX.as_secs());
                }
                Ok(None) => {}
            }
            if size_of(&self.folder) > self.bytes_max {
                break self.too_much();
            }
            thread::sleep(LOOK);
        };
        // Its helpers, ssh among them, are of its group.
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
        let _ = child.wait();
        Err(why)
    }
}

/// Reads to the end, and keeps one byte more than is allowed, so that it can be seen.
fn read_on(from: Option<impl Read + Send + 'static>, bytes_max: u64) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            let _ = from.by_ref().take(bytes_max + 1).read_to_end(&mut bytes);
            let _ = std::io::copy(&mut from, &mut std::io::sink());
        }
        let _ = sender.send(bytes);
    });
    receiver
}

fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size_of(&entry.path()),
            _ => entry.metadata().map_or(0, |file| file.len()),
        })
        .sum()
}

struct Entry {
    hash: String,
    bytes: u64,
    path: String,
    is_executable: bool,
}

/// `MODE TYPE HASH SIZE\tPATH`, each ended by a zero byte.
fn entries(listing: &[u8]) -> Result<Vec<Entry>, CliError> {
    let refused = |what: String| CliError::usage("this is no skill").cause(what);
    let mut entries = Vec::new();
    for line in listing.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
        let line = std::str::from_utf8(line).map_err(|_| refused("the name of a file is not text".to_owned()))?;
        let (head, path) = line.split_once('\t').ok_or_else(|| refused("its listing cannot be read".to_owned()))?;
        let shown = one_line(path, 200);
        let fields: Vec<&str> = head.split_ascii_whitespace().collect();
        let [mode, kind, hash, bytes] = fields[..] else {
            return Err(refused("its listing cannot be read".to_owned()));
        };
        if kind != "blob" || !matches!(mode, "100644" | "100755" | "100664") {
            return Err(refused(format!("{shown} is a link or a repository of its own, which a skill may not have")));
        }
        let is_hidden = |c: char| c.is_control() || is_unseen(c);
        let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.eq_ignore_ascii_case(".git");
        if path.split('/').any(bad) || path.split('/').count() > PATH_PARTS_MAX || path.chars().any(is_hidden) {
            return Err(refused(format!("{shown} is no path a skill may have")));
        }
        let bytes = bytes.parse().map_err(|_| refused(format!("the size of {shown} is not known")))?;
        entries.push(Entry { hash: hash.to_owned(), bytes, path: path.to_owned(), is_executable: mode == "100755" });
    }
    let all: u64 = entries.iter().map(|entry| entry.bytes).sum();
    if entries.len() > FILES_MAX || all > ALL_BYTES_MAX || entries.iter().any(|entry| entry.bytes > FILE_BYTES_MAX) {
        return Err(refused(format!(
            "it has more than {FILES_MAX} files or {} MiB, or a file of more than {} MiB",
            ALL_BYTES_MAX >> 20,
            FILE_BYTES_MAX >> 20
        ))
        .help("name the folder of the skill: ADDRESS#REF:FOLDER"));
    }
    Ok(entries)
}

/// `HASH blob SIZE\n`, that many bytes, and a line's end, for each in turn.
fn contents(entries: Vec<Entry>, mut objects: &[u8]) -> Result<Vec<File>, CliError> {
    let mut files = Vec::new();
    for entry in entries {
        let head = format!("{} blob {}\n", entry.hash, entry.bytes);
        let end = head.len() + entry.bytes as usize;
        if !objects.starts_with(head.as_bytes()) || objects.get(end) != Some(&b'\n') {
            let what = format!("{} was not fetched whole", one_line(&entry.path, 200));
            return Err(CliError::failed("the repository cannot be read").cause(what));
        }
        let bytes = objects[head.len()..end].to_vec();
        objects = &objects[end + 1..];
        files.push(File { path: entry.path, bytes, is_executable: entry.is_executable });
    }
    Ok(files)
}

/// Writes files below a folder that is not there yet.
pub fn write(files: &[File], folder: &Path) -> std::io::Result<()> {
    for file in files {
        let path = folder.join(&file.path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        let mut new = fs::File::create_new(&path)?;
        new.write_all(&file.bytes)?;
        new.set_permissions(fs::Permissions::from_mode(if file.is_executable { 0o700 } else { 0o600 }))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(folder: &Path, args: &[&str]) {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]).args(args).current_dir(folder);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn repository(files: &[(&str, &str)]) -> (tempfile::TempDir, Repository) {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path(), &["init", "-q", "-b", "main"]);
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        git(folder.path(), &["add", "-A"]);
        git(folder.path(), &["commit", "-qm", "one"]);
        let from = format!("{}#main", folder.path().display()).parse().unwrap();
        (folder, from)
    }

    #[test]
    fn files_come_as_they_were_committed() {
        let attributes = "* text eol=crlf filter=evil export-subst\n";
        let (folder, from) = repository(&[("a.txt", "$Format:%H$\n"), (".gitattributes", attributes), ("d/b", "b")]);
        let fetched = fetch(&from).unwrap();
        let texts: Vec<_> = fetched.files.iter().map(|file| (file.path.as_str(), file.bytes.as_slice())).collect();
        assert_eq!(texts, [(".gitattributes", attributes.as_bytes()), ("a.txt", b"$Format:%H$\n"), ("d/b", b"b")]);
        assert_eq!(fetched.commit.len(), 40);
        git(folder.path(), &["tag", "-am", "x", "v1"]);
        fs::write(folder.path().join("a.txt"), "later").unwrap();
        git(folder.path(), &["commit", "-qam", "two"]);
        let tagged = Repository { reference: Some("v1".to_owned()), folder: "d".to_owned(), ..from.clone() };
        let tagged = fetch(&tagged).unwrap();
        assert_eq!((tagged.commit.as_str(), tagged.files[0].path.as_str()), (fetched.commit.as_str(), "b"));
        let pinned = fetch(&Repository { reference: Some(fetched.commit.clone()), ..from.clone() }).unwrap();
        assert_eq!(pinned.files[1].bytes, b"$Format:%H$\n");
        assert!(fetch(&Repository { reference: Some("nowhere".to_owned()), ..from.clone() }).is_err());
        assert!(fetch(&Repository { folder: "nowhere".to_owned(), ..from }).is_err());
    }

    #[test]
    fn links_and_repositories_within_are_refused() {
        let (folder, from) = repository(&[("a", "a")]);
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        git(folder.path(), &["add", "-A"]);
        git(folder.path(), &["commit", "-qm", "link"]);
        let error = fetch(&from).err().unwrap().text();
        assert!(error.contains("link is a link"), "{error}");
        git(folder.path(), &["rm", "-q", "link"]);
        let commit = fetch(&repository(&[("x", "x")]).1).unwrap().commit;
        git(folder.path(), &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},sub")]);
        git(folder.path(), &["commit", "-qm", "submodule"]);
        let error = fetch(&from).err().unwrap().text();
        assert!(error.contains("sub is a link or a repository"), "{error}");
    }

    #[test]
    fn names_that_do_not_show_all_of_themselves_are_refused() {
        for name in ["a\u{200b}b", "a\u{202e}b", "a\nb"] {
            let error = fetch(&repository(&[(name, "x")]).1).err().unwrap().text();
            assert!(error.contains("is no path a skill may have") && !error.contains(name), "{error:?}");
        }
    }

    #[test]
    fn what_a_repository_brings_along_is_not_run() {
        let (folder, from) = repository(&[("a", "a")]);
        let mark = folder.path().join("ran");
        for hook in ["post-checkout", "post-merge", "reference-transaction", "pre-auto-gc", "post-update"] {
            let path = folder.path().join(".git/hooks").join(hook);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        git(folder.path(), &["config", "uploadpack.packObjectsHook", &format!("touch {}; git", mark.display())]);
        git(folder.path(), &["config", "core.fsmonitor", &format!("touch {}", mark.display())]);
        fetch(&from).unwrap();
        assert!(!mark.exists());
    }

    #[test]
    fn size_is_bounded_before_and_after_it_is_fetched() {
        let large = "x".repeat(FILE_BYTES_MAX as usize + 1);
        let (_folder, from) = repository(&[("large", &large)]);
        assert!(fetch(&from).err().unwrap().text().contains("a file of more than 4 MiB"));
        let (folder, from) = repository(&[("a", "a")]);
        let noise = (0..10_000u32).flat_map(|n| homarus_contract::ids::Hash::of(&n.to_le_bytes()).as_bytes().to_vec());
        fs::write(folder.path().join("noise"), noise.collect::<Vec<u8>>()).unwrap();
        git(folder.path(), &["add", "-A"]);
        git(folder.path(), &["commit", "-qm", "noise"]);
        let error = fetch_within(&from, 64 << 10).err().unwrap().text();
        assert!(error.contains("it brings more than 64 KiB"), "{error}");
    }
}
