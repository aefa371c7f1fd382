//! Guests: programs that are not ours, with a folder of their own and one way out.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use homarus_contract::{
    guest::{GUEST_FOLDER, Guest, GuestFolder, GuestLauncher, GuestSpec},
    sandbox::{Limits, SandboxError},
};

use crate::fixture::{Fixture, processes_with};

const PORT: u16 = 3128;

fn spec(script: &str, folder: Option<PathBuf>) -> GuestSpec {
    GuestSpec {
        argv: vec!["/bin/bash".to_owned(), "-c".to_owned(), script.to_owned()],
        env: BTreeMap::new(),
        readable: Vec::new(),
        files: vec![(PathBuf::from("/etc/guest/told.txt"), "a file of its own".to_owned())],
        folder: folder.map(|path| GuestFolder { path, bytes_max: 8 << 20, files_max: 1_000 }),
        limits: Limits { wall_ms: u64::MAX, ..Limits::default() },
        egress_port: PORT,
    }
}

/// All a guest prints until it ends.
fn said(guest: Guest) -> String {
    let mut text = String::new();
    File::from(guest.stdout).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn its_only_way_out_is_the_socket_the_host_holds() {
    let fixture = Fixture::new();
    // The host's own loopback has a listener, which must not be met under the same address inside.
    let outside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = outside.local_addr().unwrap().port();
    let script = format!(
        "exec 5<>/dev/tcp/127.0.0.1/{PORT}; echo hello >&5; read -r answer <&5; echo \"got $answer\"; \
         for to in 127.0.0.1/{port} 1.1.1.1/80 169.254.169.254/80 ::1/{PORT}; do \
         (exec 6<>/dev/tcp/$to) 2>/dev/null && echo \"reached $to\"; done; \
         (exec 6<>/dev/udp/1.1.1.1/53) 2>/dev/null && echo reached udp; \
         grep -v lo: /proc/net/dev | tail -n +3; echo end"
    );
    let guest = fixture.sandbox.launch_guest(spec(&script, None)).unwrap();
    assert!(guest.receipt.namespaces.contains(&"net".to_owned()) && guest.receipt.seccomp.is_some());
    let (stream, _) = guest.egress.accept().unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "hello\n");
    writeln!(&stream, "from the host").unwrap();
    assert_eq!(said(guest), "got from the host\nend\n");
}

#[tokio::test]
async fn it_sees_its_folder_and_nothing_else_of_the_host() {
    let fixture = Fixture::new();
    let folder = fixture.dir.path().join("profile");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("kept"), "from before").unwrap();
    fs::write(fixture.workspace.join("private"), "x").unwrap();
    std::os::unix::fs::symlink(fixture.workspace.join("private"), folder.join("link")).unwrap();
    let script = format!(
        "cd {GUEST_FOLDER}; cat kept; echo; cat /etc/guest/told.txt; echo; echo new > made; \
         printf '#!/bin/sh\\necho ran' > run; chmod +x run; ./run 2>/dev/null; \
         for path in {} {} /root/.bashrc /home /etc/shadow link ../../../../etc/shadow; do cat $path 2>/dev/null && echo saw $path; done; \
         echo x 2>/dev/null > /usr/bin/x && echo wrote; mount -t tmpfs x /mnt 2>/dev/null && echo mounted; echo end",
        fixture.workspace.join("private").display(),
        fixture.dir.path().display(),
    );
    let guest = fixture.sandbox.launch_guest(spec(&script, Some(folder.clone()))).unwrap();
    assert_eq!(said(guest), "from before\na file of its own\nend\n");
    assert_eq!(fs::read_to_string(folder.join("made")).unwrap(), "new\n");
    assert_eq!(
        fs::metadata(folder.join("run")).unwrap().permissions().mode() & 0o111,
        0o111,
        "it is there, and was not run"
    );
}

#[tokio::test]
async fn it_ends_when_dropped_and_a_bad_spec_is_refused() {
    let fixture = Fixture::new();
    let guest = fixture.sandbox.launch_guest(spec("echo here >&2; sleep 4242; true", None)).unwrap();
    // It has said so once it runs; before that, what stands there is the stage that is about to become it.
    for _ in 0..1_000 {
        if (guest.complaints)().contains("here") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!((guest.complaints)(), "here\n");
    assert_eq!(processes_with("4242; true").len(), 1);
    drop(guest.guard);
    assert_eq!(processes_with("4242; true").len(), 0);
    let missing = spec("true", Some(fixture.dir.path().join("none")));
    assert!(matches!(fixture.sandbox.launch_guest(missing), Err(SandboxError::Refused(_))));
    let mut bad = spec("true", None);
    bad.files = vec![(PathBuf::from("/etc/../../x"), String::new())];
    assert!(matches!(fixture.sandbox.launch_guest(bad), Err(SandboxError::Refused(_))));
}

/// What it writes there is kept: a page could fill the disk.
#[tokio::test]
async fn it_ends_when_its_folder_holds_too_much() {
    let fixture = Fixture::new();
    for script in ["while head -c 1M /dev/zero; do :; done > big", "while :; do : > file$((++n)); done"] {
        let real = fixture.dir.path().join("elsewhere");
        fs::create_dir(&real).unwrap();
        let folder = fixture.dir.path().join("profile");
        std::os::unix::fs::symlink(&real, &folder).unwrap();
        let script = format!("cd {GUEST_FOLDER}; ulimit -f 65536; {script}; sleep 4343");
        let guest = fixture.sandbox.launch_guest(spec(&script, Some(folder.clone()))).unwrap();
        let mut nothing = String::new();
        File::from(guest.stdout).read_to_string(&mut nothing).unwrap();
        assert!((guest.complaints)().contains("its folder may hold 8 MiB"), "{}", (guest.complaints)());
        // A link that is not followed would have ended it before.
        let written: u64 = fs::read_dir(&real).unwrap().map(|entry| 1 + entry.unwrap().metadata().unwrap().len()).sum();
        assert!(written > 1_000, "{written}");
        fs::remove_dir_all(&real).unwrap();
        fs::remove_file(&folder).unwrap();
    }
}
