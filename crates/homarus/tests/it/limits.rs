//! Limits of single tools, through the whole program: each call is ended at its own tool's, and at no other's.

use std::fs;

use homarus_test_kit::Turn;
use serde_json::{Value, json};

use crate::{
    program::{Done, Program},
    site::{Site, page},
};

fn configured(turns: Vec<Turn>, text: &str) -> Program {
    let program = Program::with_turns(turns);
    configure(&program, text);
    program
}

fn configure(program: &Program, text: &str) {
    let folder = program.home.join("config");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("homarus.toml"), text).unwrap();
}

fn call(program: &Program, tool: &str, arguments: Value) -> Value {
    let args = ["tools", "call", tool, &arguments.to_string(), "--approvals", "auto", "--json"];
    let done = Done::of(program.bare_command(&args).output().unwrap());
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

/// The results of the newest run, in their order.
fn results(program: &Program) -> Vec<Value> {
    program.events().into_iter().filter(|event| event["kind"] == "act_result").collect()
}

/// Needs more than the small limit and less than the large one.
struct Attack {
    key: &'static str,
    small: u64,
    large: u64,
    command: &'static str,
}

const ATTACKS: [Attack; 7] = [
    Attack { key: "wall_s", small: 1, large: 300, command: "sleep 2" },
    Attack { key: "cpu_s", small: 1, large: 60, command: "perl -e '1 while (times)[0] < 2'" },
    Attack { key: "memory_mb", small: 64, large: 1024, command: "perl -e '$x = \"a\" x (200 << 20)'" },
    Attack {
        key: "processes",
        small: 16,
        large: 256,
        command: "perl -e 'for (1..60) { $p = fork; defined $p or exit 1; if (!$p) { sleep 60; exit } push @p, $p } kill 9, @p'",
    },
    Attack {
        key: "open_files",
        small: 32,
        large: 1024,
        command: "perl -e 'for (1..100) { open my $f, \"<\", \"/dev/null\" or exit 1; push @f, $f }'",
    },
    Attack { key: "file_mb", small: 1, large: 8, command: "head -c 2m /dev/zero > /tmp/big" },
    Attack { key: "output_mb", small: 1, large: 8, command: "head -c 2000000 /dev/zero" },
];

#[test]
fn a_tool_is_ended_at_its_own_limits_whatever_those_of_others_are() {
    let program = Program::with_turns(Vec::new());
    for Attack { key, small, large, command } in ATTACKS {
        for (common, own) in [(large, small), (small, large)] {
            configure(&program, &format!("[limits]\n{key} = {common}\n[limits.tools.shell.execute]\n{key} = {own}\n"));
            let done = call(&program, "shell.execute", json!({ "command": command }));
            let is_done = done["exit"] == json!({ "how": "code", "code": 0 });
            assert_eq!(is_done, own == large, "{key}: {common} and of the tool {own}: {done:#}");
        }
    }
    program.verify();
}

/// The second call of a run, and each after it, finds a sandbox that stood ready before it came.
#[test]
fn calls_of_two_tools_in_turn_each_have_their_own() {
    const MIB: u64 = 1 << 20;
    const LONG: usize = 1_100_000;
    let read = || Turn::call("file.read", json!({ "path": "seed.txt" }));
    let shell = |command: &str| Turn::call("shell.execute", json!({ "command": command }));
    let hog = ATTACKS[2].command;
    let turns = vec![
        Turn::call("file.write", json!({ "path": "a", "content": "x".repeat(LONG) })),
        shell(hog),
        read(),
        shell("head -c 2m /dev/zero > c"),
        read(),
        shell("ulimit -n"),
        Turn::text("Done."),
        Turn::text("Done."),
    ];
    let text = "[limits]\nfile_mb = 1\n[limits.tools.file.write]\nfile_mb = 8\n\
        [limits.tools.shell.execute]\nmemory_mb = 64\nopen_files = 77\nwall_s = 900\n";
    let program = configured(turns, text);
    let done = program.output(&["run", "do it", "--approvals", "auto"]);
    let results = results(&program);
    assert_eq!(results.len(), 6, "{done:?}");
    let bound = |name: &str| -> Vec<u64> {
        results.iter().map(|result| result["receipt"]["bounds"][name].as_u64().unwrap()).collect()
    };
    assert_eq!(bound("file_bytes_max"), [8, 1, 1, 1, 1, 1].map(|mib| mib * MIB));
    assert_eq!(bound("memory_bytes"), [2048, 64, 2048, 64, 2048, 64].map(|mib| mib * MIB));
    assert_eq!(bound("open_files_max"), [1024, 77, 1024, 77, 1024, 77]);
    assert_eq!(bound("wall_ms"), [120, 900, 120, 900, 120, 900].map(|seconds| seconds * 1000));
    let ended: Vec<bool> = results.iter().map(|one| one["exit"] != json!({ "how": "code", "code": 0 })).collect();
    assert_eq!(ended, [false, true, false, true, false, false], "{results:#?}");
    assert_eq!(fs::metadata(program.workspace.join("a")).unwrap().len(), LONG as u64);
    program.verify();
}

#[test]
fn the_time_a_call_asks_for_is_bounded_by_that_of_its_tool() {
    let text = "[limits]\nwall_s = 2\n[limits.tools.shell.execute]\nwall_s = 600\n";
    let program = configured(Vec::new(), text);
    let wall = |arguments: Value| {
        call(&program, "shell.execute", arguments);
        results(&program)[0]["receipt"]["bounds"]["wall_ms"].clone()
    };
    assert_eq!(wall(json!({ "command": "true" })), 600_000);
    assert_eq!(wall(json!({ "command": "true", "timeout_s": 5 })), 5_000);
    assert_eq!(wall(json!({ "command": "true", "timeout_s": 9_000 })), 600_000);
    let done = call(&program, "shell.execute", json!({ "command": "sleep 100", "timeout_s": 1 }));
    assert_eq!(done["exit"], json!({ "how": "timed_out", "wall_ms": 1_000 }));
}

#[test]
fn what_is_in_force_for_a_tool_is_shown() {
    let text = "[limits]\ncpu_s = 7\n[limits.tools.shell.execute]\nwall_s = 900\n";
    let program = configured(Vec::new(), text);
    let show = |tool: &str| program.output(&["tools", "show", tool]).stdout;
    let all = "per call wall_s 900 (its own), cpu_s 7, memory_mb 2048, processes 256, open_files 1024, file_mb 1024, output_mb 16\n";
    assert!(show("shell.execute").contains(all), "{}", show("shell.execute"));
    assert!(show("file.read").contains("per call wall_s 120, cpu_s 7,"));
    assert!(show("browser.read").contains("per call wall_s 120\n"));
    assert!(!show("memory.note").contains("per call"));
    let json: Value =
        serde_json::from_str(&program.output(&["tools", "show", "shell.execute", "--json"]).stdout).unwrap();
    assert_eq!(json["bounds"][0], json!({ "name": "wall_s", "value": 900, "is_own": true }));
    assert_eq!(json["bounds"][1], json!({ "name": "cpu_s", "value": 7, "is_own": false }));
}

/// Its page is read in the sandbox, for which it has bounds of its own.
#[test]
fn the_smaller_of_a_tools_own_bound_and_its_limit_counts() {
    let program = configured(Vec::new(), "[limits.tools.http.request]\nmemory_mb = 100\nwall_s = 600\n");
    let site = Site::new(|_| page("text/html", "<h1>Head</h1>"));
    let rules = program.home.parent().unwrap().join("rules.toml");
    fs::write(&rules, format!("[[rule]]\neffect='allow'\nmatch='net:connect:{}'\n", site.address)).unwrap();
    let url = json!({ "url": site.url("/") }).to_string();
    let done = program.output(&["tools", "call", "http.request", &url, "--policy", rules.to_str().unwrap()]);
    assert_eq!(done.code, 0, "{done:?}");
    let bounds = &results(&program)[0]["receipt"]["bounds"];
    assert_eq!((&bounds["memory_bytes"], &bounds["wall_ms"]), (&json!(100 << 20), &json!(5_000)));
}
