//! The same as an ordinary user. Where the tests run as root they drop to one; elsewhere every
//! other test is this one already.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use crate::fixture::is_root;

const NOBODY: u32 = 65534;

/// Runs a script in the sandbox as nobody; returns what the helper printed.
fn drive(workspace_mode: u32, prepare: impl Fn(&Path), script: &str) -> serde_json::Value {
    drive_with(workspace_mode, prepare, |_| {}, script)
}

fn drive_with(
    workspace_mode: u32,
    prepare: impl Fn(&Path),
    afterwards: impl Fn(&Path),
    script: &str,
) -> serde_json::Value {
    let dir = tempfile::TempDir::new().unwrap();
    let (helper, state, workspace) = (dir.path().join("helper"), dir.path().join("state"), dir.path().join("work"));
    fs::copy(crate::fixture::helper(), &helper).unwrap();
    for folder in [&state, &workspace] {
        fs::create_dir(folder).unwrap();
    }
    prepare(&workspace);
    fs::set_permissions(&workspace, fs::Permissions::from_mode(workspace_mode)).unwrap();
    let mut folders = vec![workspace.clone(), state.clone()];
    while let Some(path) = folders.pop() {
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        if path.is_dir() {
            folders.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        }
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    afterwards(&workspace);
    let output = Command::new(&helper)
        .args(["drive".as_ref(), state.as_os_str(), workspace.as_os_str(), script.as_ref()])
        .uid(NOBODY)
        .gid(NOBODY)
        .env("SECRET_KEY", "host secret")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut value: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)));
    let files: Vec<String> = fs::read_dir(&workspace)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let modes: std::collections::BTreeMap<&String, String> = files
        .iter()
        .map(|name| (name, fs::metadata(workspace.join(name)).unwrap().permissions().mode() & 0o777))
        .map(|(name, mode)| (name, format!("{mode:o}")))
        .collect();
    value["modes"] = serde_json::json!(modes);
    value["files"] = serde_json::json!(files);
    value
}

#[test]
fn a_call_is_confined_and_merged() {
    if !is_root() {
        return;
    }
    let prepare = |workspace: &Path| {
        fs::write(workspace.join("edit"), "old\n").unwrap();
        fs::create_dir(workspace.join(".ssh")).unwrap();
        fs::write(workspace.join(".ssh/id"), "SECRET").unwrap();
    };
    let script = "echo new > edit; mkdir d; echo x > d/f; id -u; cat .ssh/id; env | grep -c SECRET; \
                  for c in 'echo x > /x' 'cat /etc/shadow' 'unshare -U true' 'mount -t tmpfs x /tmp' 'echo 1 > /proc/sys/kernel/hostname' 'cat /proc/1/environ'; do \
                  (eval \"$c\") >/dev/null 2>&1 && echo POSSIBLE \"$c\"; done; grep CapBnd /proc/self/status | tr -d '\\t'; true";
    let done = drive(0o700, prepare, script);
    assert_eq!(done["stdout"], "0\n0\nCapBnd:0000000000000000\n", "{done:#}");
    assert_eq!(done["merged"]["merged"], serde_json::json!(["d", "d/f", "edit"]));
    assert_eq!(done["receipt"]["workspace"], "overlay");
    assert_eq!(done["probe"]["ok"], true);
    let mut files: Vec<String> = serde_json::from_value(done["files"].clone()).unwrap();
    files.sort();
    assert_eq!(files, [".ssh", "d", "edit"]);
}

#[test]
fn limits_hold_without_control_groups() {
    if !is_root() {
        return;
    }
    let one = drive(0o755, |_| {}, "perl -e '$x = \"a\" x (600 << 20); print \"GOT IT\"'");
    assert_ne!(one["stdout"], "GOT IT");
    let many = drive(
        0o755,
        |_| {},
        "for i in 1 2 3 4 5 6 7 8; do perl -e '$x = \"a\" x (80 << 20); sleep 20; print \"ALIVE\\n\"' & done; wait; echo DONE",
    );
    assert!(!many["stdout"].as_str().unwrap().contains("DONE"), "{many:#}");
    assert!(many["stderr"].as_str().unwrap().contains("memory limit"), "{many:#}");
    let forks = drive(0o755, |_| {}, "for i in $(seq 600); do sleep 20 & done; echo ALL");
    assert!(!forks["stdout"].as_str().unwrap().contains("ALL"), "{forks:#}");
}

#[test]
fn a_file_of_another_group_is_explained() {
    if !is_root() {
        return;
    }
    // The helper gives everything to nobody; this one then belongs to another group again.
    let done = drive_with(
        0o755,
        |workspace| fs::write(workspace.join("foreign"), "x").unwrap(),
        |workspace| chown(workspace.join("foreign"), None, Some(1234)).unwrap(),
        "cat foreign; (echo y >> foreign) || true; cp foreign copy",
    );
    assert!(done["stderr"].as_str().unwrap().contains("another user or group"), "{done:#}");
    assert_eq!(done["merged"]["merged"], serde_json::json!(["copy"]));
}

#[test]
fn folders_their_owner_cannot_work_in_are_merged() {
    if !is_root() {
        return;
    }
    let prepare = |workspace: &Path| {
        fs::create_dir_all(workspace.join("locked/deep")).unwrap();
        fs::write(workspace.join("locked/deep/old"), "x").unwrap();
        for folder in ["locked/deep", "locked"] {
            fs::set_permissions(workspace.join(folder), fs::Permissions::from_mode(0o500)).unwrap();
        }
    };
    let script = "chmod u+w locked locked/deep; rm -r locked; mkdir -p ro/in none; echo x > ro/in/f; chmod 555 ro/in ro; echo y > none/f; echo z > none/unread; chmod 000 none/unread none";
    let done = drive(0o755, prepare, script);
    assert_eq!(done["exit"]["code"], 0, "{done:#}");
    assert_eq!(done["merged"]["conflicts"], serde_json::json!([]), "{done:#}");
    let mut files: Vec<String> = serde_json::from_value(done["files"].clone()).unwrap();
    files.sort();
    assert_eq!(files, ["none", "ro"], "{done:#}");
    assert_eq!(done["modes"], serde_json::json!({"none": "0", "ro": "555"}), "{done:#}");
}
