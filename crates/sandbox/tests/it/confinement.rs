//! What a call cannot do.

use std::{fs, os::unix::fs::PermissionsExt};

use homarus_contract::sandbox::{Exit, Program, SandboxError};
use homarus_sandbox::{L1, ProbeReport};

use crate::fixture::Fixture;

/// Runs a script and returns what it printed on standard output.
async fn out(fixture: &Fixture, script: &str) -> String {
    fixture.sh(script).await.stdout()
}

/// A script line that prints `denied` if the command fails and `POSSIBLE` if it does not.
fn attempt(command: &str) -> String {
    format!(
        "if ({command}) >/dev/null 2>&1; then echo 'POSSIBLE {}'; else echo denied; fi\n",
        command.replace('\'', "")
    )
}

async fn all_denied(fixture: &Fixture, commands: &[&str]) {
    let script: String = commands.iter().map(|command| attempt(command)).collect();
    let called = fixture.sh(&script).await;
    assert_eq!(called.stdout(), "denied\n".repeat(commands.len()), "{}", called.stderr());
}

#[tokio::test]
async fn nothing_outside_the_workspace_can_be_written() {
    let fixture = Fixture::new();
    let outside = fixture.dir.path().join("outside");
    fs::write(&outside, "old").unwrap();
    let commands = [
        "echo x > /x",
        "echo x > /usr/x",
        "echo x >> /etc/passwd",
        "touch /usr/bin/env",
        "mkdir /home/x",
        "echo x > /dev/x",
        "chmod 777 /",
        "chmod 777 /usr",
        "rm -f /etc/hosts && ! test -e /etc/hosts",
        "mknod /tmp/n c 1 3",
        "echo x > /proc/1/oom_score_adj",
    ];
    all_denied(&fixture, &commands).await;
    // Where the host has this file, the call may have scratch space of its own: nothing comes out of it.
    fixture.sh(&format!("echo new > {}; ln -s {} link && echo new > link", outside.display(), outside.display())).await;
    assert_eq!(fs::read_to_string(&outside).unwrap(), "old");
}

#[tokio::test]
async fn the_hosts_files_and_secrets_are_not_there() {
    let state_secret = |fixture: &Fixture| fixture.state.join("secret");
    let fixture = Fixture::new();
    fs::write(state_secret(&fixture), "state").unwrap();
    let state = format!("cat {}", state_secret(&fixture).display());
    let commands = [
        "cat /etc/shadow",
        "ls /root",
        "ls /home",
        "cat /proc/kcore",
        "cat /proc/keys",
        "cat /proc/1/environ",
        "ls /sys/kernel",
        "cat /etc/machine-id",
        "test -e /dev/tty",
        "test -e /dev/sda -o -e /dev/vda",
        &state,
    ];
    all_denied(&fixture, &commands).await;
}

#[tokio::test]
async fn proc_can_be_read_but_not_written() {
    let fixture = Fixture::new();
    let mut commands = Vec::new();
    for path in ["sys/kernel/hostname", "sys/vm/swappiness", "sys/kernel/core_pattern", "sys/vm/drop_caches"] {
        commands.push(format!("cat /proc/{path} > /tmp/v 2>/dev/null; cat /tmp/v > /proc/{path}"));
    }
    commands.push("echo h > /proc/sysrq-trigger".to_owned());
    commands.push("echo 2 > /proc/irq/default_smp_affinity".to_owned());
    all_denied(&fixture, &commands.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(out(&fixture, "head -1 /proc/meminfo").await.contains("MemTotal"));
}

#[tokio::test]
async fn there_is_no_network() {
    let fixture = Fixture::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = format!(
        r#"perl -MSocket -e 'socket(S,2,1,0) or die "no socket"; connect(S, pack_sockaddr_in({port}, inet_aton("127.0.0.1"))) or die "refused"'"#
    );
    let netlink = r#"perl -MSocket -e 'socket(S,16,3,0) or exit 1'"#;
    let packet = r#"perl -MSocket -e 'socket(S,17,3,0) or exit 1'"#;
    let vsock = r#"perl -MSocket -e 'socket(S,40,1,0) or exit 1'"#;
    all_denied(&fixture, &[&connect, netlink, packet, vsock]).await;
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
    // Only the loopback device, and it is down.
    assert_eq!(out(&fixture, "tail -n +3 /proc/net/dev | wc -l").await.trim(), "1");
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn dangerous_system_calls_are_denied() {
    let fixture = Fixture::new();
    // Number, arguments, errno wanted: 1 is EPERM, 38 ENOSYS.
    let calls = [
        ("ptrace", 101, "16,1,0,0", 1),
        ("process_vm_readv", 310, "1,0,0,0,0,0", 1),
        ("keyctl", 250, "0,0,0", 1),
        ("add_key", 248, "0,0,0,0,0", 1),
        ("bpf", 321, "0,0,0", 1),
        ("userfaultfd", 323, "0", 1),
        ("io_uring_setup", 425, "1,0", 1),
        ("perf_event_open", 298, "0,0,0,0,0", 1),
        ("unshare user", 272, "268435456", 1),
        ("clone user", 56, "268435456,0,0,0,0", 1),
        ("setns", 308, "0,0", 1),
        ("mount", 165, "0,0,0,0,0", 1),
        ("umount2", 166, "0,0", 1),
        ("pivot_root", 155, "0,0", 1),
        ("chroot", 161, "0", 1),
        ("open_by_handle_at", 304, "0,0,0", 1),
        ("mount_setattr", 442, "0,0,0,0,0", 1),
        ("reboot", 169, "0,0,0,0", 1),
        ("clone3", 435, "0,0", 38),
        ("TIOCSTI", 16, "0,21522,0", 1),
    ];
    let script: String = calls
        .iter()
        .map(|(name, number, args, _)| {
            format!("perl -e '$r=syscall({number},{args}); print \"{name} \", $r < 0 ? $!+0 : \"POSSIBLE\", \"\\n\"'\n")
        })
        .collect();
    let wanted: String = calls.iter().map(|(name, _, _, errno)| format!("{name} {errno}\n")).collect();
    assert_eq!(out(&fixture, &script).await, wanted);
    // The x32 and 32-bit ABIs end the process (31: SIGSYS).
    let x32 =
        fixture.spec(Program::Command { argv: vec!["perl".into(), "-e".into(), "syscall(0x40000000+39)".into()] });
    assert_eq!(fixture.exec(x32).await.done.exit, Exit::Signal { signal: 31 });
}

#[tokio::test]
async fn privileges_are_gone_for_good() {
    let fixture = Fixture::new();
    let status = out(&fixture, "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -d '\\t'").await;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:0000000000000000")), "{status}");
    }
    assert!(status.contains("NoNewPrivs:1") && status.contains("Seccomp:2"), "{status}");
    let receipt = fixture.sh("true").await.done.receipt;
    assert!(
        receipt.no_new_privs && receipt.capabilities_dropped && receipt.seccomp.is_some() && receipt.landlock_abi >= 1
    );
    assert_eq!(receipt.namespaces, ["ipc", "mount", "net", "pid", "user", "uts"]);
    assert_eq!(receipt.workspace, "overlay");
    for limit in ["memory", "processes", "cpu", "open_files", "file_bytes", "wall", "output"] {
        assert!(receipt.limits.contains_key(limit), "{receipt:?}");
    }
}

#[tokio::test]
async fn the_environment_holds_only_what_it_should() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("env | sort");
    spec.env.insert("GIVEN".into(), "yes".into());
    let called = fixture.exec(spec).await;
    let names: Vec<String> =
        called.stdout().lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect();
    assert_eq!(names, ["GIVEN", "HOME", "LANG", "PATH", "PWD", "TERM", "TMPDIR"]);
}

#[tokio::test]
async fn no_descriptor_is_inherited() {
    let fixture = Fixture::new();
    // One that is open to children on purpose, as a careless parent of ours could leave it.
    let careless = fs::File::open("/etc/passwd").unwrap();
    nix::fcntl::fcntl(&careless, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    // No pipeline: the shell itself would hold its pipe for a moment.
    let called = fixture.sh("ls /proc/$$/fd; true").await;
    assert_eq!(called.stdout(), "0\n1\n2\n");
    drop(careless);
}

#[tokio::test]
async fn the_workspaces_own_secrets_are_out_of_reach() {
    let fixture = Fixture::new();
    for path in [".ssh/id_ed25519", ".aws/credentials", ".bashrc", ".netrc", ".npmrc", ".config/gcloud/token"] {
        fixture.write(path, "SECRET");
    }
    fixture.write(".config/other", "fine");
    let called = fixture
        .sh("cat .ssh/* .ssh/id_ed25519 .aws/credentials .bashrc .netrc .npmrc .config/gcloud/token .config/other")
        .await;
    assert_eq!(called.stdout(), "fine");
    all_denied(
        &fixture,
        &["echo x > .bashrc", "echo x > .ssh/authorized_keys", "rm -rf .ssh", "mv .ssh s", "echo x >> .netrc"],
    )
    .await;
    let mut spec = fixture.shell("cat .ssh/id_ed25519 .bashrc");
    spec.read_only = true;
    assert_eq!(fixture.exec(spec).await.stdout(), "");
}

#[tokio::test]
async fn git_hooks_and_config_cannot_be_changed() {
    let fixture = Fixture::new();
    fixture.write(".git/config", "[core]\n");
    fixture.write(".git/hooks/pre-commit.sample", "#!/bin/sh\n");
    fixture.write(".git/HEAD", "ref: refs/heads/main\n");
    all_denied(
        &fixture,
        &["echo x >> .git/config", "echo x > .git/hooks/pre-commit", "rm .git/config", "rm -rf .git/hooks"],
    )
    .await;
    let called = fixture.sh("cat .git/config; echo new > .git/HEAD").await;
    assert_eq!(called.stdout(), "[core]\n");
    assert_eq!(called.paths(), [".git/HEAD"]);
}

#[tokio::test]
async fn the_state_folder_is_hidden_even_inside_the_workspace() {
    let dir = tempfile::TempDir::new().unwrap();
    let inside = dir.path().join("home");
    fs::create_dir(&inside).unwrap();
    let mut fixture = Fixture::with(|options| options.state_dir = inside.join(".state"));
    fixture.workspace = inside.clone();
    fs::write(inside.join(".state/journal"), "SECRET").unwrap();
    fs::write(inside.join("note"), "fine").unwrap();
    let called = fixture.sh("cat note; ls .state; cat .state/journal; echo new > note").await;
    assert_eq!(called.stdout(), "fine", "{}", called.stderr());
    assert_eq!(called.paths(), ["note"]);
    // A workspace within the state is none.
    let mut spec = fixture.shell("true");
    spec.workspace = inside.join(".state");
    assert!(matches!(fixture.exec_into(spec, std::sync::Arc::new(|_| {})).await, Err(SandboxError::Refused(_))));
}

#[tokio::test]
async fn system_folders_are_no_workspace() {
    let fixture = Fixture::new();
    for path in ["/", "/usr", "/etc", "/etc/ssl", "/proc", "/var", "relative", "/tmp/../etc", "/no/such"] {
        let mut spec = fixture.shell("true");
        spec.workspace = path.into();
        let result = fixture.exec_into(spec, std::sync::Arc::new(|_| {})).await;
        assert!(matches!(result, Err(SandboxError::Refused(_))), "{path}");
    }
    let mut spec = fixture.shell("true");
    spec.cwd = "../..".into();
    assert!(matches!(fixture.exec_into(spec, std::sync::Arc::new(|_| {})).await, Err(SandboxError::Refused(_))));
}

#[tokio::test]
async fn a_failed_probe_refuses_every_call() {
    let fixture = Fixture::new();
    let mut options = homarus_sandbox::Options::new(&fixture.state);
    // A program that is no stage: the probe must find out, and say what to do.
    options.exe = "/bin/false".into();
    let report = L1::probe(&options);
    assert!(!report.ok);
    let line = report.failure().unwrap();
    assert!(line.fix.is_some() && !line.detail.is_empty());
    refused(&fixture, options.clone(), report).await;
    refused(&fixture, options, ProbeReport::refusing("test", "not here", "do that")).await;
}

async fn refused(fixture: &Fixture, options: homarus_sandbox::Options, report: ProbeReport) {
    use homarus_contract::sandbox::Sandbox;
    let sandbox = L1::new(options, report).unwrap();
    let spec = fixture.shell("true");
    let permit = crate::gate::permit(&spec.layer.run, &spec.layer.call).await;
    let result = sandbox.exec(permit, spec, std::sync::Arc::new(|_| {})).await;
    assert!(matches!(result, Err(SandboxError::Unavailable { .. })), "{result:?}");
}

#[tokio::test]
async fn internal_functions_run_inside() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec(Program::Internal { name: "echo".into() });
    spec.stdin = b"hello".to_vec();
    assert_eq!(fixture.exec(spec).await.stdout(), "echo:hello");
    let mut spec = fixture.spec(Program::Internal { name: "peek".into() });
    spec.stdin = b"/etc/shadow".to_vec();
    assert!(fixture.exec(spec).await.stdout().starts_with("error:"));
    let spec = fixture.spec(Program::Internal { name: "no-such".into() });
    assert_eq!(fixture.exec(spec).await.done.exit, Exit::Code { code: 127 });
}

#[tokio::test]
async fn a_tier_that_needs_more_isolation_is_refused() {
    use homarus_contract::action::Tier;
    let fixture = Fixture::new();
    for tier in [Tier::Untrusted, Tier::LlmGenerated] {
        let mut spec = fixture.shell("true");
        spec.tier = tier;
        let result = fixture.exec_into(spec, std::sync::Arc::new(|_| {})).await.map(|_| ());
        assert!(matches!(result, Err(SandboxError::Unavailable { .. })), "{tier:?}: {result:?}");
    }
}

#[tokio::test]
async fn a_permit_of_another_call_is_refused() {
    use homarus_contract::{ids::CallId, sandbox::Sandbox};
    let fixture = Fixture::new();
    let spec = fixture.shell("true");
    let permit = crate::gate::permit(&spec.layer.run, &CallId::new(9, 9)).await;
    let result = fixture.sandbox.exec(permit, spec, std::sync::Arc::new(|_| {})).await;
    assert!(matches!(result, Err(SandboxError::Refused(_))));
}

#[tokio::test]
async fn as_root_another_users_workspace_is_worked_on_as_that_user() {
    if !crate::fixture::is_root() {
        return;
    }
    let fixture = Fixture::new();
    fixture.write("a", "1");
    for path in [fixture.workspace.clone(), fixture.workspace.join("a")] {
        std::os::unix::fs::chown(&path, Some(1234), Some(1234)).unwrap();
    }
    fs::set_permissions(&fixture.workspace, fs::Permissions::from_mode(0o700)).unwrap();
    let called = fixture.sh("id -u; echo 2 > a; echo 3 > b; echo by path > /dev/stdout").await;
    assert_eq!(called.stdout(), "1234\nby path\n", "{}", called.stderr());
    fixture.merge(&called).await;
    for path in ["a", "b"] {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::metadata(fixture.workspace.join(path)).unwrap().uid(), 1234, "{path}");
    }
}

#[tokio::test]
async fn ordinary_programs_work() {
    let fixture = Fixture::new();
    let script = "set -e; perl -e 'print 6*7, \"\\n\"'; echo a | sed s/a/b/; mktemp >/dev/null; (sleep 0.01 & wait); \
                  test -w /dev/null; echo c > /dev/shm/x; cat /dev/shm/x; echo $HOME > $HOME/f; whoami; echo err >&2";
    let called = fixture.sh(script).await;
    assert!(called.stdout().starts_with("42\nb\nc\n"), "{} {}", called.stdout(), called.stderr());
    assert_eq!(called.stderr(), "err\n");
    let missing = fixture.spec(Program::Command { argv: vec!["/no/such/program".into()] });
    let called = fixture.exec(missing).await;
    assert_eq!(called.done.exit, Exit::Code { code: 127 });
    assert!(called.stderr().contains("/no/such/program"));
}

/// The folders of tests lie below `/tmp`, where each call has scratch space of its own.
#[tokio::test]
async fn a_readable_folder_is_seen_read_only_also_below_scratch_space() {
    let shared = tempfile::tempdir().unwrap();
    fs::write(shared.path().join("a"), "shared\n").unwrap();
    let fixture = Fixture::with(|options| options.readable = vec![shared.path().to_path_buf()]);
    let path = shared.path().join("a");
    let path = path.display();
    let called = fixture.sh(&format!("cat {path}; echo x > {path}; rm {path}; touch {path}2; echo y > /tmp/own")).await;
    assert_eq!(called.stdout(), "shared\n", "{}", called.stderr());
    assert_eq!(called.stderr().matches("Read-only").count(), 3, "{}", called.stderr());
    assert_eq!(fs::read_to_string(shared.path().join("a")).unwrap(), "shared\n");
}

#[tokio::test]
async fn the_state_is_hidden_also_in_what_is_readable() {
    let shared = tempfile::tempdir().unwrap();
    let (state, config) = (shared.path().join("s"), shared.path().join("deep/config"));
    for folder in [&state, &config] {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("journal"), "SECRET\n").unwrap();
    }
    fs::write(shared.path().join("deep/a"), "shared\n").unwrap();
    let fixture = Fixture::in_folders(tempfile::tempdir().unwrap(), state.clone(), |options| {
        options.readable = vec![shared.path().to_path_buf()];
        options.hidden = vec![config.clone()];
    });
    let script = format!(
        "ls {0}; ls {1}; cat {0}/journal {1}/journal; cat {2}",
        state.display(),
        config.display(),
        shared.path().join("deep/a").display()
    );
    let called = fixture.sh(&script).await;
    assert_eq!(called.stdout(), "shared\n", "{}", called.stderr());
}

/// Inside, `/var/tmp` is a link to `/tmp`.
#[tokio::test]
async fn a_workspace_below_var_tmp_can_be_written() {
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = tempfile::TempDir::new_in("/var/tmp").unwrap();
    let fixture = Fixture::in_folders(dir, elsewhere.path().join("state"), |options| {
        options.cache_paths = vec!["cache".into()];
    });
    fs::create_dir(fixture.workspace.join("cache")).unwrap();
    fixture.write(".inputrc", "old");
    let called = fixture.sh("echo x > f; echo y > cache/g; echo z >> .inputrc; pwd").await;
    assert_eq!(called.paths(), ["f"], "{}", called.stderr());
    assert_eq!(fixture.read("cache/g").unwrap(), "y\n");
    assert_eq!(fixture.read(".inputrc").unwrap(), "old");
}
