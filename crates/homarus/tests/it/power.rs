//! Power loss: the whole program on a real file system on a disk that remembers its writes; then the disk as it
//! may be after power was lost at any of them.

use std::{
    collections::BTreeMap,
    fs,
    io::BufRead,
    path::Path,
    process::{Command, Stdio},
};

use homarus_contract::{
    event::Event,
    ids::RunId,
    journal::{Journal, JournalError},
};
use homarus_store::{Options, Store};
use homarus_test_kit::{RecordingDisk, Turn};
use serde_json::{Value, json};

use crate::{
    mounts::{apart, mount_image, run, small_disk, unmount},
    program::Program,
};

const DISK_BYTES: usize = 64 << 20;
const IMAGES: u64 = 100;
/// Every so many images the program itself goes on with the run.
const RESUMED_EVERY: u64 = 10;

/// What the calls do to the workspace, one after the other.
const COMMANDS: [&str; 5] = [
    "mkdir -p d/deep; seq 1 3000 > d/deep/numbers; echo one > log",
    "echo two >> log; mv d/deep/numbers d/moved; ln -s log link; chmod 755 seed.txt",
    "for n in $(seq 1 30); do echo $n > many-$n; done; head -c 200000 /dev/zero | tr '\\0' x > big; echo three >> log",
    "rm -r d big; mkdir big; echo in > big/file; echo four >> log",
    "rm many-*; echo five > log; rm link; ln -s big link",
];

/// Every path: a folder, where a link leads, or a content.
type Picture = BTreeMap<String, String>;

fn picture(root: &Path) -> Picture {
    let mut all = Picture::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let kind = entry.file_type().unwrap();
            let what = if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_dir() {
                folders.push(path);
                "folder".to_owned()
            } else {
                format!("file {}", String::from_utf8_lossy(&fs::read(&path).unwrap()))
            };
            all.insert(name, what);
        }
    }
    all
}

/// The workspace before the first call, and after each.
fn states(seed: &Path) -> Vec<Picture> {
    let plain = tempfile::tempdir().unwrap();
    fs::copy(seed.join("seed.txt"), plain.path().join("seed.txt")).unwrap();
    let mut all = vec![picture(plain.path())];
    for command in COMMANDS {
        run(Command::new("sh").args(["-c", command]).current_dir(plain.path()));
        all.push(picture(plain.path()));
    }
    all
}

/// An event the program had shown, and how far the disk was then.
struct Shown {
    position: usize,
    event: Value,
}

fn shell(command: &str) -> Turn {
    Turn::call("shell.execute", json!({ "command": command }))
}

/// Runs on the recording disk; what was shown, and the position at the end.
fn record(program: &Program, disk: &RecordingDisk) -> (Vec<Shown>, usize) {
    let mut child = program
        .command(&["run", "do it", "--approvals", "auto", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut shown = Vec::new();
    for line in std::io::BufReader::new(child.stdout.take().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        // Live events are not promised to anybody.
        if event["seq"].is_u64() && event["offset"].is_null() && event["at_ms"].is_u64() {
            shown.push(Shown { position: disk.position(), event });
        }
    }
    assert!(child.wait().unwrap().success());
    (shown, disk.position())
}

struct World {
    program: Program,
    disk: RecordingDisk,
    /// Where the file system is mounted, each time.
    at: std::path::PathBuf,
    image: std::path::PathBuf,
    states: Vec<Picture>,
    shown: Vec<Shown>,
    run: RunId,
    /// Where in the writes the run began to work, and where it had ended.
    end: usize,
}

impl World {
    fn new(folder: &Path, options: &str) -> Self {
        let mut turns: Vec<Turn> = COMMANDS.iter().map(|command| shell(command)).collect();
        turns.extend((0..=IMAGES).map(|_| Turn::text("done")));
        let mut program = Program::with_turns(turns);
        let states = states(&program.workspace);
        let at = folder.join("mounted");
        let shown_at = folder.join("disk");
        fs::create_dir(&shown_at).unwrap();
        small_disk(&folder.join("images"), c"size=128m,mode=700");
        let disk = RecordingDisk::mount(&shown_at, DISK_BYTES).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096"]).arg(disk.path()));
        mount_image(disk.path(), &at, options);
        fs::create_dir(at.join("workspace")).unwrap();
        fs::copy(program.workspace.join("seed.txt"), at.join("workspace/seed.txt")).unwrap();
        program.home = at.join("home");
        program.workspace = at.join("workspace");
        run(Command::new("sync").arg("-f").arg(&at));
        disk.begin();
        let (shown, end) = record(&program, &disk);
        assert_eq!(picture(&program.workspace), states[COMMANDS.len()]);
        unmount(&at);
        let run = RunId::parse(shown[0].event["run_id"].as_str().unwrap()).unwrap();
        Self { program, disk, at, image: folder.join("images/image"), states, shown, run, end }
    }

    fn check(&self, number: u64, options: &str) {
        // Spread over the whole recording, a little past its end.
        let position = (number as usize * 7919 + 13) % (self.end + 2);
        let context = format!("image {number}: power lost after {position} of {}", self.end);
        fs::write(&self.image, self.disk.after_power_loss(position, number)).unwrap();
        mount_image(&self.image, &self.at, options);
        let promised: Vec<&Shown> = self.shown.iter().filter(|shown| shown.position <= position).collect();
        let merged = self.opened(&promised, &context);
        if number.is_multiple_of(RESUMED_EVERY)
            && let Some((_, false)) = merged
        {
            self.resumed(&context);
        }
        unmount(&self.at);
    }

    /// Opens the journal; how many calls are merged, and whether the run has ended. `None`: it never began.
    fn opened(&self, promised: &[&Shown], context: &str) -> Option<(usize, bool)> {
        let store = Store::open(Options::new(self.program.home.join("state")))
            .unwrap_or_else(|error| panic!("{context}: {error}"));
        let report = store.verify(None).unwrap();
        assert!(report.is_whole(), "{context}: {report:#?}");
        let records = match store.read(&self.run.stream(), 0, 1000) {
            Ok(records) => records,
            Err(JournalError::NoSuchRun(_)) => Vec::new(),
            Err(error) => panic!("{context}: {error}"),
        };
        for shown in promised {
            let seq = shown.event["seq"].as_u64().unwrap();
            let kept = records.get(seq as usize - 1).unwrap_or_else(|| panic!("{context}: event {seq} was shown"));
            assert_eq!(
                (kept.at_ms, kept.event.kind()),
                (shown.event["at_ms"].as_u64().unwrap(), shown.event["kind"].as_str().unwrap()),
                "{context}"
            );
        }
        let count = |kind: &str| records.iter().filter(|record| record.event.kind() == kind).count();
        let (results, merged) = (count("act_result"), count("merged"));
        let now = picture(&self.program.workspace);
        // What is said to be merged is; of what may be under way each path is as before or as after.
        let (before, after) = (&self.states[merged], &self.states[if results > merged { merged + 1 } else { merged }]);
        let paths =
            before.keys().chain(after.keys()).chain(now.keys()).filter(|path| !path.contains(".homarus-merge-"));
        for path in paths {
            let is = now.get(path);
            assert!(
                is == before.get(path) || is == after.get(path),
                "{context}: {merged} merged of {results}: {path} is {is:?}"
            );
        }
        (!records.is_empty())
            .then(|| (merged, records.iter().any(|record| matches!(record.event, Event::Finished { .. }))))
    }

    fn resumed(&self, context: &str) {
        let done = self.program.output(&["runs", "resume", self.run.as_str(), "--json"]);
        assert_eq!(done.code, 0, "{context}: {done:?}");
        self.program.verify();
        let merged = self.program.kinds().iter().filter(|kind| *kind == "merged").count();
        assert_eq!(picture(&self.program.workspace), self.states[merged], "{context}");
        let layers = self.program.home.join("state/layers");
        let left: Vec<_> = fs::read_dir(layers).map(|all| all.flatten().collect()).unwrap_or_default();
        assert!(left.is_empty(), "{context}: {left:?}");
    }
}

fn lost_at_any_instant(options: &'static str) {
    apart(move || {
        let folder = tempfile::tempdir().unwrap();
        let world = World::new(folder.path(), options);
        for number in 0..IMAGES {
            world.check(number, options);
        }
        drop(world);
    });
}

#[test]
fn power_is_lost_on_an_ordinary_file_system() {
    lost_at_any_instant("data=ordered");
}

/// One that may put a name in its place before what is in the file.
#[test]
fn power_is_lost_on_a_file_system_that_keeps_no_order() {
    lost_at_any_instant("data=writeback,noauto_da_alloc");
}
