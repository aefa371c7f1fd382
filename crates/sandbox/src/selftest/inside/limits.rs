//! Taking more than a call may have. Each stops well before it would hurt a machine that has no limit.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::net::UnixStream,
};

use rustix::fs::{MemfdFlags, memfd_create};

use super::{Outcome, Tried, errno, processes::start};

const MEBIBYTE: usize = 1 << 20;
/// A call that got this many times its limit has none.
const TIMES: u64 = 4;
/// No kernel bounds the processes of a namespace lower than this.
const PROCESSES_LEAST: u32 = 301;
const SLACK: u32 = 16;

fn too_much(tried: &Tried) -> usize {
    usize::try_from(tried.place.memory_bytes * TIMES).unwrap_or(usize::MAX)
}

fn had(tried: &Tried, what: &str, bytes: usize) {
    tried.through(what, &format!("had {} MiB", bytes / MEBIBYTE));
}

pub fn processes(tried: &Tried) {
    let most = tried.place.processes_max.max(PROCESSES_LEAST) + SLACK;
    let mut children = Vec::new();
    let mut denied = None;
    for _ in 0..most {
        match start(tried.place, "helper.pause") {
            Ok(child) => children.push(child),
            Err(error) => {
                denied = Some(error);
                break;
            }
        }
    }
    match denied {
        Some(error) => tried
            .note("start processes", Outcome::Denied { how: format!("{} after {}", errno(&error), children.len()) }),
        None => tried.through("start processes", &format!("{most} at once")),
    }
}

pub fn threads(tried: &Tried) {
    let most = tried.place.processes_max.max(PROCESSES_LEAST) + SLACK;
    for count in 0..most {
        let started = std::thread::Builder::new().stack_size(64 << 10).spawn(std::thread::park);
        if let Err(error) = started {
            let how = format!("{} after {count}", errno(&error));
            return tried.note("start threads", Outcome::Denied { how });
        }
    }
    tried.through("start threads", &format!("{most} at once"));
}

pub fn memory(tried: &Tried) {
    tried.begun("take memory");
    let mut held: Vec<Vec<u8>> = Vec::new();
    while held.len() * MEBIBYTE < too_much(tried) {
        let mut more = Vec::new();
        if more.try_reserve_exact(MEBIBYTE).is_err() {
            let how = format!("ENOMEM after {} MiB", held.len());
            return tried.note("take memory", Outcome::Denied { how });
        }
        more.resize(MEBIBYTE, 1);
        held.push(more);
    }
    had(tried, "take memory", held.len() * MEBIBYTE);
}

/// Each of these stays below the limit; together they do not.
pub fn memory_of_many(tried: &Tried) {
    tried.begun("take memory in many processes");
    let children: Vec<_> = (0..TIMES * 2).filter_map(|_| start(tried.place, "helper.half").ok()).collect();
    let ended = children.into_iter().filter_map(|mut child| child.wait().ok()).filter(|status| status.success());
    match ended.count() {
        0 => tried.note("take memory in many processes", Outcome::Denied { how: "none had its part".to_owned() }),
        some if some as u64 <= 3 => {
            tried.note("take memory in many processes", Outcome::Denied { how: format!("only {some} had their part") });
        }
        all => tried.through("take memory in many processes", &format!("{all} had half of the limit each, at once")),
    }
}

/// Half of the limit, held for a while.
pub fn half(bytes: u64) -> i32 {
    let bytes = usize::try_from(bytes / 2).unwrap_or(0);
    let mut held = Vec::new();
    if held.try_reserve_exact(bytes).is_err() {
        return 1;
    }
    held.resize(bytes, 1u8);
    std::thread::sleep(std::time::Duration::from_secs(3));
    // So that it is held until here.
    i32::from(held.last() != Some(&1))
}

fn fill(mut file: impl Write, bytes: usize) -> io::Result<()> {
    let some = vec![1u8; MEBIBYTE];
    for _ in 0..bytes / MEBIBYTE {
        file.write_all(&some)?;
    }
    Ok(())
}

pub fn memory_files(tried: &Tried) {
    tried.begun("fill memory files");
    let each = too_much(tried) / 8;
    let mut held = Vec::new();
    for count in 0..8 {
        let filled = memfd_create("x", MemfdFlags::empty()).map_err(io::Error::from).map(File::from).and_then(|file| {
            fill(&file, each)?;
            Ok(file)
        });
        match filled {
            Ok(file) => held.push(file),
            Err(error) => {
                let how = format!("{} after {} MiB", errno(&error), count * each / MEBIBYTE);
                return tried.note("fill memory files", Outcome::Denied { how });
            }
        }
    }
    std::thread::sleep(std::time::Duration::from_secs(1));
    had(tried, "fill memory files", held.len() * each);
}

pub fn shared_memory(tried: &Tried) {
    tried.begun("map shared memory");
    match homarus_attack::shared_memory(too_much(tried)) {
        Ok(()) => had(tried, "map shared memory", too_much(tried)),
        Err(error) => tried.note("map shared memory", Outcome::Denied { how: errno(&error) }),
    }
}

pub fn system_v(tried: &Tried) {
    tried.begun("make a System V segment");
    match homarus_attack::system_v_memory(too_much(tried)) {
        Ok(()) => had(tried, "make a System V segment", too_much(tried)),
        Err(error) => tried.note("make a System V segment", Outcome::Denied { how: errno(&error) }),
    }
}

pub fn scratch(tried: &Tried) {
    tried.begun("fill scratch space");
    for folder in ["/tmp", "/dev/shm", "/run/home"] {
        let path = format!("{folder}/big");
        let filled = File::create(&path).and_then(|file| fill(file, too_much(tried)));
        tried.denied(&format!("fill {folder}"), filled);
        let _ = fs::remove_file(&path);
    }
}

pub fn descriptors(tried: &Tried) {
    let most = tried.place.open_files_max + SLACK;
    let mut held = Vec::new();
    for count in 0..most {
        match File::open("/dev/null") {
            Ok(file) => held.push(file),
            Err(error) => {
                let how = format!("{} after {count}", errno(&error));
                return tried.note("open files", Outcome::Denied { how });
            }
        }
    }
    tried.through("open files", &format!("{} at once", held.len()));
}

/// One file past the limit of a file.
pub fn one_file(tried: &Tried) {
    // The signal that comes with it would end the process.
    let mut set = nix::sys::signal::SigSet::empty();
    set.add(nix::sys::signal::Signal::SIGXFSZ);
    let _ = set.thread_block();
    let filled = File::create("big").and_then(|file| fill(file, 64 * MEBIBYTE));
    tried.denied("write one large file", filled);
}

/// Many files, none of which is too large.
pub fn disk(tried: &Tried) {
    fill_disk(tried, ".");
}

/// A cache folder is the host's own.
pub fn disk_by_cache(tried: &Tried) {
    fill_disk(tried, "target");
}

fn fill_disk(tried: &Tried, folder: &str) {
    tried.begun("fill the disk");
    for number in 0..64 {
        let filled = File::create(format!("{folder}/part-{number}")).and_then(|file| fill(file, 4 * MEBIBYTE));
        if let Err(error) = filled {
            let how = format!("{} after {} MiB", errno(&error), number * 4);
            return tried.note("fill the disk", Outcome::Denied { how });
        }
        std::thread::sleep(std::time::Duration::from_millis(40));
    }
    had(tried, "fill the disk", 256 * MEBIBYTE);
}

pub fn output(tried: &Tried) {
    tried.begun("flood the output");
    let line = "x".repeat(1023);
    for _ in 0..64 << 10 {
        println!("{line}");
    }
    tried.through("flood the output", "all was taken");
}

/// Until the limit of processor time, not of time.
pub fn busy(tried: &Tried) {
    tried.begun("keep a processor busy");
    let mut number = 1u64;
    loop {
        number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        if number == 0 {
            break;
        }
    }
    tried.through("keep a processor busy", "to the end");
}

/// Until the limit of time, deaf to everything but the last signal.
pub fn idle(tried: &Tried) {
    let _ = nix::sys::signal::SigSet::all().thread_block();
    tried.begun("wait for ever");
    std::thread::sleep(std::time::Duration::from_secs(600));
    tried.through("wait for ever", "nobody ended it");
}

/// Sockets hold what was sent until it is read.
pub fn socket_buffers(tried: &Tried) {
    let mut held = Vec::new();
    let mut bytes = 0;
    while let Ok((one, other)) = UnixStream::pair() {
        if one.set_nonblocking(true).is_err() || bytes > too_much(tried) {
            break;
        }
        let some = [1u8; 64 << 10];
        while let Ok(sent) = (&one).write(&some) {
            bytes += sent;
        }
        held.push((one, other));
    }
    match bytes > too_much(tried) {
        true => had(tried, "fill sockets", bytes),
        false => tried.note("fill sockets", Outcome::Denied { how: format!("{} MiB, then no more", bytes / MEBIBYTE) }),
    }
}
