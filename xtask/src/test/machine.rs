//! What this machine can do, printed before the tests: a skipped or failed test then has its reason nearby.

use std::path::Path;

use crate::{places::Places, sh};

pub fn describe(places: &Places) {
    println!("=== machine");
    for (what, answer) in facts(places) {
        println!("{what:<20} {answer}");
    }
}

fn facts(places: &Places) -> Vec<(&'static str, String)> {
    let said = |program: &str, args: &[&str]| {
        let said = sh::output(sh::command(places, program).args(args));
        said.map_or_else(|_| "unknown".to_owned(), |text| text.lines().next().unwrap_or_default().to_owned())
    };
    let can = |args: &[&str]| {
        let yes = sh::succeeds(sh::command(places, "unshare").args(args));
        if yes { "yes" } else { "no" }.to_owned()
    };
    let security = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let yes = |it: bool| if it { "yes" } else { "no" }.to_owned();
    vec![
        ("user", said("id", &["-un"])),
        ("kernel", said("uname", &["-sr"])),
        ("processors", std::thread::available_parallelism().map_or_else(|_| "unknown".to_owned(), |n| n.to_string())),
        ("user namespaces", can(&["--user", "--map-root-user", "true"])),
        ("network namespaces", can(&["--user", "--map-root-user", "--net", "true"])),
        ("overlay", yes(known.contains("overlay"))),
        ("landlock", if security.is_empty() { "unknown".to_owned() } else { yes(security.contains("landlock")) }),
        ("cgroup", cgroup().to_owned()),
        ("rust", said("rustc", &["--version"])),
        ("build folder", places.target.display().to_string()),
    ]
}

fn cgroup() -> &'static str {
    let exists = |path: &str| Path::new(path).exists();
    match (exists("/sys/fs/cgroup/cgroup.controllers"), exists("/sys/fs/cgroup/memory")) {
        (true, _) => "v2",
        (false, true) if exists("/sys/fs/cgroup/unified") => "v1 with v2 beside",
        (false, true) => "v1",
        (false, false) => "none",
    }
}
