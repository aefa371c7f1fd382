//! A disk that remembers every write and every flush, so that it can be lost power at any instant.
//!
//! The kernel sees a file of a fixed size; with a loop device and a real file system on it, everything that a
//! program and the kernel do to the disk passes here, whatever system call caused it. After a power loss the
//! disk holds all that was written before its last flush, and of what came later a part: any sectors, in any
//! order. It can also refuse writes of some content, as a disk that fails does. Needs root,
//! `/dev/fuse` and loop devices.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

const NAME: &str = "disk";
const FILE: INodeNo = INodeNo(2);
const TTL: Duration = Duration::from_secs(1);

/// The disk, as long as it is mounted.
pub struct RecordingDisk {
    path: PathBuf,
    log: Arc<Mutex<Log>>,
    _session: BackgroundSession,
}

#[derive(Debug)]
enum Op {
    Write { at: usize, bytes: Vec<u8> },
    Flush,
}

#[derive(Debug, Default)]
struct Log {
    /// The content where the recording begins.
    base: Vec<u8>,
    now: Vec<u8>,
    ops: Vec<Op>,
    /// Writes that hold this fail; empty: none.
    bad_content: Vec<u8>,
    /// Reads that would find this fail; empty: none.
    lost_content: Vec<u8>,
    failed: u64,
}

impl RecordingDisk {
    /// Shows the disk as a file in an empty folder.
    pub fn mount(folder: &Path, bytes: usize) -> io::Result<Self> {
        let log = Arc::new(Mutex::new(Log { now: vec![0; bytes], ..Log::default() }));
        let session = fuser::spawn_mount(Shown { log: log.clone(), bytes }, folder, &Config::default())?;
        Ok(Self { path: folder.join(NAME), log, _session: session })
    }

    /// The file, for a loop device.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Records from here on; what was written before is on the disk for good.
    pub fn begin(&self) {
        let mut log = self.lock();
        log.base = log.now.clone();
        log.ops.clear();
    }

    /// From here on a write that holds these bytes fails and leaves what was there; empty: none fails.
    pub fn refuse(&self, content: &[u8]) {
        self.lock().bad_content = content.to_vec();
    }

    /// From here on a read of a place where these bytes stand fails, if the kernel does not remember what is there;
    /// empty: none fails.
    pub fn lose(&self, content: &[u8]) {
        self.lock().lost_content = content.to_vec();
    }

    /// How many reads and writes failed.
    pub fn failed(&self) -> u64 {
        self.lock().failed
    }

    /// How many writes and flushes there were.
    pub fn position(&self) -> usize {
        self.lock().ops.len()
    }

    /// What is on the disk after power was lost when `position` writes and flushes had been asked for. The seed
    /// decides what became of those after the last flush.
    pub fn after_power_loss(&self, position: usize, seed: u64) -> Vec<u8> {
        self.lock().after_power_loss(position, seed)
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }
}

impl Log {
    fn after_power_loss(&self, position: usize, seed: u64) -> Vec<u8> {
        let ops = &self.ops[..position.min(self.ops.len())];
        let flushed = ops.iter().rposition(|op| matches!(op, Op::Flush)).unwrap_or(0);
        let mut chance = Chance(seed);
        // Between images: nothing of it arrived, nearly all of it, or anything between.
        let arrived_percent = [0, 100, 97, 50, 10][chance.below(5) as usize];
        let mut image = self.base.clone();
        let mut late = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            let Op::Write { at, bytes } = op else { continue };
            for (sector, content) in bytes.chunks(SECTOR_BYTES).enumerate() {
                let at = at + sector * SECTOR_BYTES;
                if index < flushed {
                    image[at..at + content.len()].copy_from_slice(content);
                } else if chance.below(100) < arrived_percent {
                    late.push((at, content));
                }
            }
        }
        // Of two writes of one sector the earlier may be the last to arrive.
        for index in (1..late.len()).rev() {
            late.swap(index, chance.below(index as u64 + 1) as usize);
        }
        for (at, content) in late {
            image[at..at + content.len()].copy_from_slice(content);
        }
        image
    }
}

/// A small generator of its own, so that a case is its number.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % limit
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the kernel sees: a folder with one file.
struct Shown {
    log: Arc<Mutex<Log>>,
    bytes: usize,
}

impl Shown {
    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let is_file = ino == FILE;
        let size = if is_file { self.bytes as u64 } else { 0 };
        FileAttr {
            ino,
            size,
            blocks: size / SECTOR_BYTES as u64,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_file { FileType::RegularFile } else { FileType::Directory },
            perm: if is_file { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Shown {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&TTL, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(1), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut log = lock(&self.log);
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(log.now.len());
        let end = begin.saturating_add(size as usize).min(log.now.len());
        if holds(&log.now[begin..end], &log.lost_content) {
            log.failed += 1;
            return reply.error(Errno::EIO);
        }
        reply.data(&log.now[begin..end]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut log = lock(&self.log);
        if holds(data, &log.bad_content) {
            log.failed += 1;
            return reply.error(Errno::EIO);
        }
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        match at.checked_add(data.len()) {
            Some(end) if end <= log.now.len() => {
                log.now[at..end].copy_from_slice(data);
                log.ops.push(Op::Write { at, bytes: data.to_vec() });
                reply.written(data.len() as u32);
            }
            _ => reply.error(Errno::ENOSPC),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        lock(&self.log).ops.push(Op::Flush);
        reply.ok();
    }
}

fn holds(data: &[u8], content: &[u8]) -> bool {
    !content.is_empty() && data.windows(content.len()).any(|window| window == content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(sector: usize, byte: u8) -> Op {
        Op::Write { at: sector * SECTOR_BYTES, bytes: vec![byte; 2 * SECTOR_BYTES] }
    }

    #[test]
    fn what_was_flushed_stays_and_what_was_not_may_be_torn() {
        let ops = vec![write(0, 1), Op::Flush, write(2, 2), write(2, 3), Op::Flush, write(4, 4)];
        let log = Log { base: vec![0; 6 * SECTOR_BYTES], ops, ..Log::default() };
        let sectors = |position: usize, seed: u64| -> Vec<u8> {
            let image = log.after_power_loss(position, seed);
            image.chunks(SECTOR_BYTES).map(|sector| sector[0]).collect()
        };
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            assert_eq!(sectors(2, seed), [1, 1, 0, 0, 0, 0]);
            assert_eq!(sectors(5, seed), [1, 1, 3, 3, 0, 0]);
            let torn = sectors(4, seed);
            assert!(torn[..2] == [1, 1] && torn[4..] == [0, 0], "{torn:?}");
            seen.insert((torn[2], torn[3]));
        }
        assert_eq!(seen.len(), 9, "each of two sectors is old, in between, or new: {seen:?}");
    }
}
