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
    drive_with(workspace_mode, prepare, |_| {}, &["drive"], script)
}

/// The same, in an empty workspace, with a limit of what it may write.
fn drive_bounded(bytes_max: u64, script: &str) -> serde_json::Value {
    drive_with(0o755, |_| {}, |_| {}, &["bound", &bytes_max.to_string()], script)
}

fn drive_with(
    workspace_mode: u32,
    prepare: impl Fn(&Path),
    afterwards: impl Fn(&Path),
    how: &[&str],
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
        .args(how)
        .args([state.as_os_str(), workspace.as_os_str(), script.as_ref()])
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
    let layers = fs::read_dir(state.join("layers")).into_iter().flatten().flatten();
    let layers = layers.filter(|entry| entry.file_name() != ".unused").count();
    value["layers"] = serde_json::json!(layers);
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
fn standard_input_is_only_read() {
    if !is_root() {
        return;
    }
    let done = drive(0o755, |_| {}, crate::limits::STDIN_SCRIPT);
    assert_eq!(done["stdout"], ".", "{done:#}");
}

/// A folder its owner cannot list, and one whose path is longer than any path may be.
#[test]
fn the_disk_bound_holds_where_a_layer_is_hard_to_look_into() {
    if !is_root() {
        return;
    }
    let closed = "mkdir d; cd d; chmod 300 .; head -c 64m /dev/zero > f; sleep 30; echo SURVIVED";
    let deep = "perl -e 'for (1..17) { mkdir(\"n\" x 255); chdir(\"n\" x 255) } open F, \">\", \"f\"; \
                print F \"x\" x (1 << 20) for 1..64; close F; sleep 30; print \"SURVIVED\"'";
    for script in [closed, deep] {
        let done = drive_bounded(8 << 20, script);
        assert_eq!(done["stdout"], "", "{done:#}");
        assert!(done["stderr"].as_str().unwrap().contains("the limit of what a call may write"), "{done:#}");
        assert_eq!(done["layers"], 0, "{done:#}");
    }
}

/// The call has run, so there is a result, whatever it left behind; and what it left can be removed.
#[test]
fn a_layer_no_path_reaches_the_end_of_is_read_and_removed() {
    if !is_root() {
        return;
    }
    let long = "perl -e 'for (1..17) { mkdir(\"n\" x 255); chdir(\"n\" x 255) } mkdir \"z\"; open(F, \">\", \"z/f$_\") for 1..3; \
                chmod 0, \"z\"; print \"RAN\"'";
    let many = "perl -e 'for (1..3000) { mkdir \"d\"; chdir \"d\" } open F, \">\", \"f\"; print \"RAN\"'";
    for script in [long, many] {
        let done = drive(0o755, |_| {}, script);
        assert_eq!(done["stdout"], "RAN", "{done:#}");
        assert_eq!(done["exit"]["code"], 0, "{done:#}");
        let refused = done["diff"]["refused"].as_array().unwrap();
        assert_eq!(refused.len(), 1, "{done:#}");
        assert!(refused[0][1].as_str().unwrap().contains("too deep"), "{done:#}");
        assert_eq!(done["merged"]["conflicts"], serde_json::json!([]), "{done:#}");
        assert_eq!(done["layers"], 0, "{done:#}");
    }
    let closed = drive(0o755, |_| {}, "echo x > f; chmod 0 .; echo RAN");
    assert_eq!(closed["stdout"], "RAN\n", "{closed:#}");
    assert_eq!(closed["merged"]["merged"], serde_json::json!(["f"]), "{closed:#}");
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
        &["drive"],
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
