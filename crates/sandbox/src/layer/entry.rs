//! What stands at a path, as a diff says it.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use homarus_contract::{ids::Hash, sandbox::Entry};
use rustix::fs::{FileType, Stat};

use super::beneath::{Place, Root};

/// Permission bits a diff carries. Set-id bits are refused elsewhere; sticky means nothing here.
pub const MODE_BITS: u32 = 0o777;

/// What a look found: also things that no diff may carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Entry(Entry),
    /// A device, a socket, a pipe, or a link whose target is not UTF-8.
    Odd(String),
}

/// Looks without following links. Files are read whole, for their hash.
pub fn look(root: &Root, path: &str) -> io::Result<Seen> {
    match root.place(path)? {
        Some(place) => look_at(&place),
        None => Ok(Seen::Entry(Entry::Absent)),
    }
}

pub fn look_at(place: &Place) -> io::Result<Seen> {
    look_once(place, &mut Hashes::default())
}

/// Hash and length of files that have several names, by device and inode.
pub type Hashes = BTreeMap<(u64, u64), (Hash, u64)>;

/// The same, where no file is read twice because it has two names.
pub fn look_once(place: &Place, known: &mut Hashes) -> io::Result<Seen> {
    let Some(stat) = place.stat()? else { return Ok(Seen::Entry(Entry::Absent)) };
    let entry = match file_type(&stat) {
        FileType::Directory => Entry::Folder { mode: mode(&stat) },
        FileType::RegularFile => {
            let id = (stat.st_dev, stat.st_ino);
            let (hash, bytes) = match known.get(&id) {
                Some(known) => *known,
                None => hash(place.open()?)?,
            };
            if stat.st_nlink > 1 {
                known.insert(id, (hash, bytes));
            }
            Entry::File { hash, bytes, mode: mode(&stat) }
        }
        FileType::Symlink => match place.link_target()? {
            Some(target) => Entry::Symlink { target },
            None => return Ok(Seen::Odd("a link whose target is not UTF-8".to_owned())),
        },
        other => return Ok(Seen::Odd(odd(other).to_owned())),
    };
    Ok(Seen::Entry(entry))
}

pub fn mode(stat: &Stat) -> u32 {
    stat.st_mode & MODE_BITS
}

pub fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub fn odd(kind: FileType) -> &'static str {
    match kind {
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Socket => "a socket",
        FileType::Fifo => "a named pipe",
        _ => "of an unknown type",
    }
}

/// Hash and length of everything that can be read.
pub fn hash(mut from: impl Read) -> io::Result<(Hash, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0u8; 64 << 10];
    let mut bytes = 0u64;
    loop {
        let got = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if got == 0 {
            return Ok((Hash::from_bytes(*hasher.finalize().as_bytes()), bytes));
        }
        hasher.update(&buffer[..got]);
        bytes += got as u64;
    }
}
