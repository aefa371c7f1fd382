//! What the browser can do.

use std::collections::BTreeSet;

use homarus_test_kit::Turn;
use serde_json::{Value, json};

use super::{act, configure, content, html, is_missing, open, path, program, read, rules, rules_file, run, told};
use crate::{
    program::Program,
    site::{Site, answer, redirect},
};

const SHOP: &str = r#"<h1>Shop</h1><p>Read <a href="/terms?x=1">the terms</a>.</p>
  <form action="/sent"><label>Name <input name=name></label> <label>Secret <input type=password name=pw value=old></label>
  <label>Size <select name=size><option value=s>Small<option value=l>Large</select></label>
  <label><input type=checkbox name=agree> I agree</label> <input type=hidden name=token value=t1>
  <textarea name=note aria-label=Note>old</textarea><button>Buy now</button></form>
  <p id=p></p><script>p.textContent = "made by a script"</script>"#;

/// The rest is the browser's, which lives as long as its run.
#[test]
fn a_call_has_the_time_of_its_tool_and_never_more_than_the_browser_gives() {
    if is_missing() {
        return;
    }
    let site = Site::new(|_| html("here"));
    let program = program(vec![open(&site.url("/")), read()], &rules(&[&site]));
    configure(&program, "[limits.tools.browser.open]\nwall_s = 50\n[limits.tools.browser.read]\nwall_s = 600\n");
    run(&program);
    let events = program.events();
    let bounds: Vec<&Value> =
        events.iter().filter(|event| event["kind"] == "act_result").map(|event| &event["receipt"]["bounds"]).collect();
    assert_eq!((&bounds[0]["wall_ms"], &bounds[1]["wall_ms"]), (&json!(50_000), &json!(60_000)));
    assert_eq!((&bounds[0]["processes_max"], &bounds[0]["memory_bytes"]), (&json!(768), &json!(2_u64 << 30)));
}

#[test]
fn a_page_is_opened_read_filled_in_and_sent() {
    if is_missing() {
        return;
    }
    let site = Site::new(|line| match path(line) {
        "/" => html(SHOP),
        "/terms?x=1" => redirect("/moved"),
        "/moved" => html("the terms are short"),
        sent if sent.starts_with("/sent?") => html("<b>thank you</b>"),
        _ => answer("404 Not Found", "", b""),
    });
    let program = program(
        vec![
            open(&site.url("/")),
            act(json!({"element": 2, "action": "type", "text": "Ada <L>"})),
            act(json!({"element": 3, "action": "type", "text": "hunter2"})),
            act(json!({"element": 4, "action": "select", "text": "large"})),
            act(json!({"element": 5, "action": "click"})),
            act(json!({"element": 6, "action": "type", "text": ""})),
            act(json!({"element": 7, "action": "click"})),
            open(&site.url("/")),
            act(json!({"element": 1, "action": "click"})),
        ],
        &rules(&[&site]),
    );
    let told = run(&program);
    assert!(told[0].starts_with(&format!("opened {0}\nThe page is at {0}\n", site.url("/"))), "{}", told[0]);
    assert_eq!(
        content(&told[0]),
        "title: T\n\n# Shop\nRead [1: link \"the terms\" to /terms?x=1] .\nName [2: text field \"Name\" = \"\"] Secret [3: \
         password field \"Secret\" (filled)] Size [4: choice \"Size\" = \"Small\" of \"Small\", \"Large\"] [5: checkbox \"I agree\"] \
         I agree [6: text field \"Note\" = \"old\"] [7: button \"Buy now\"]\nmade by a script"
    );
    let filled = content(&told[5]);
    assert!(filled.contains(r#"[2: text field "Name" = "Ada <L>"]"#), "{filled}");
    assert!(filled.contains(r#"= "Large" of"#) && filled.contains(r#""I agree" checked]"#), "{filled}");
    assert!(filled.contains(r#"[6: text field "Note" = ""]"#), "{filled}");
    assert!(told.iter().all(|told| !content(told).contains("hunter2")), "a password is not shown");
    assert!(content(&told[6]).ends_with("thank you"), "{}", told[6]);
    let sent = site.requests().into_iter().find(|request| request.starts_with("get /sent?")).unwrap();
    for part in ["name=ada+%3cl%3e", "pw=hunter2", "size=l", "agree=on", "token=t1"] {
        assert!(sent.contains(part), "{part}: {sent}");
    }
    assert!(told[8].contains(&format!("The page is at {}", site.url("/moved"))), "{}", told[8]);
    let events = program.events();
    let judged: Vec<&Value> = events.iter().filter(|event| event["kind"] == "judged").collect();
    let target = site.address.to_string();
    assert_eq!(
        judged[0]["plan"]["resources"],
        json!([{"verb": "browser:open", "target": target}, {"verb": "net:connect", "target": target}])
    );
    assert_eq!(judged[6]["plan"]["summary"], format!("click button \"Buy now\" on http://{target}"));
    assert_eq!((&judged[0]["plan"]["class"], &judged[6]["plan"]["class"]), (&json!("unkeyed"), &json!("unkeyed")));
    let result = events.iter().find(|event| event["kind"] == "act_result").unwrap();
    let receipt = &result["receipt"];
    assert_eq!((&receipt["backend"], &receipt["workspace"]), (&json!("l1"), &json!("none")));
    assert!(receipt["namespaces"].as_array().unwrap().contains(&json!("net")), "{receipt}");
    program.verify();
}

#[test]
fn another_host_is_reached_when_a_call_that_names_it_passes_the_gate() {
    if is_missing() {
        return;
    }
    let cdn = Site::new(|_| {
        answer("200 OK", "access-control-allow-origin: *\r\ncontent-type: text/plain\r\n", b"from the other")
    });
    let script = format!(
        r#"<p id=out>none</p><script>fetch("{}").then(a => a.text()).then(t => out.textContent = t)</script>"#,
        cdn.url("/x")
    );
    let site = Site::new(move |_| html(&script));
    // Asked about by the rules, and so refused to a page by itself; agreed to with the call that names it.
    let rules = format!("{}[[rule]]\neffect = \"ask\"\nmatch = \"net:connect:{}\"\n", rules(&[&site]), cdn.address);
    let program = program(
        vec![
            open(&site.url("/")),
            Turn::call("browser.open", json!({"url": site.url("/"), "also": [cdn.address.to_string()]})),
        ],
        &rules,
    );
    let args = ["run", "do it", "--policy", &rules_file(&program), "--approvals-from", "cli", "--json"];
    let mut running = program.spawn(&args);
    running.wait_for("waiting");
    assert_eq!(cdn.requests().len(), 0, "nothing leaves before the answer");
    let question = program.show()["question"].clone();
    let summary = format!("open {} in the browser, which may also reach {}", site.url("/"), cdn.address);
    assert_eq!(question["summary"], summary);
    assert_eq!(program.output(&["runs", "approve", "last"]).code, 0);
    running.finish();
    let told = told(&program);
    assert!(
        told[0].contains(&format!("no connection to {}: the rules do not allow it unasked", cdn.address)),
        "{}",
        told[0]
    );
    assert!(told[0].contains("name the host in `also`") && content(&told[0]).ends_with("none"), "{}", told[0]);
    assert!(content(&told[1]).ends_with("from the other"), "{}", told[1]);
}

#[test]
fn a_picture_lands_in_the_workspace_through_its_layer() {
    if is_missing() {
        return;
    }
    let site = Site::new(|_| html("<h1>big</h1>"));
    let shot = |path: &str, whole: bool| Turn::call("browser.screenshot", json!({"path": path, "whole_page": whole}));
    let rules = format!("{}[[rule]]\neffect = \"allow\"\nmatch = \"file:write:./shots/**\"\n", rules(&[&site]));
    let program = program(
        vec![
            open(&site.url("/")),
            shot("shots/a.png", false),
            shot("shots/b.png", true),
            shot("../c.png", false),
            shot("d.png", false),
        ],
        &rules,
    );
    let told = run(&program);
    assert!(told[1].starts_with("shots/a.png is a picture of the page ("), "{}", told[1]);
    for name in ["shots/a.png", "shots/b.png"] {
        let png = std::fs::read(program.workspace.join(name)).unwrap();
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.len() > 1_000, "{name}: {}", png.len());
    }
    assert!(told[3].contains("outside the workspace") && told[4].contains("approvals are off"), "{told:?}");
    assert!(program.kinds().contains(&"merged".to_owned()));
    assert_eq!(program.output(&["undo", "last", "--yes"]).code, 0);
    assert!(!program.workspace.join("shots/a.png").exists(), "it can be undone");
    program.verify();
}

/// All descendants of a process.
fn family(pid: u32) -> BTreeSet<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?))
        })
        .collect();
    let mut all = BTreeSet::from([pid]);
    loop {
        let before = all.len();
        let more: Vec<u32> = parents.iter().filter(|(_, parent)| all.contains(parent)).map(|(pid, _)| *pid).collect();
        all.extend(more);
        if all.len() == before {
            all.remove(&pid);
            return all;
        }
    }
}

fn is_chromium(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.contains("--remote-debugging-pipe") || line.contains("--type="))
}

#[test]
fn killing_the_driver_ends_the_browser_and_the_next_driver_has_no_page() {
    if is_missing() {
        return;
    }
    let site = Site::new(|line| if path(line) == "/" { html("<a href=/slow>go</a>") } else { Vec::new() });
    let program =
        program(vec![open(&site.url("/")), act(json!({"element": 1, "action": "click"})), read()], &rules(&[&site]));
    let hold = site.hold();
    let mut running = program.spawn(&["run", "do it", "--policy", &rules_file(&program), "--json"]);
    site.wait_for_requests(1);
    drop(hold);
    let hold = site.hold();
    running.wait_for("act_result");
    running.wait_for("act_intent");
    let browsers: Vec<u32> = family(running.child.id()).into_iter().filter(|pid| is_chromium(*pid)).collect();
    assert!(browsers.len() > 2, "the browser and its helpers: {browsers:?}");
    running.kill();
    program.wait_until_unowned();
    let alive: Vec<u32> = browsers.into_iter().filter(|pid| is_chromium(*pid)).collect();
    assert_eq!(alive, Vec::<u32>::new(), "a free lock means that all are dead");
    drop(hold);
    // Whether the click happened is not known, and it is not made again.
    assert_eq!(program.output(&["runs", "resume", "last"]).code, 4);
    assert_eq!(program.output(&["runs", "resolve", "last", "failed"]).code, 0);
    assert_eq!(program.output(&["runs", "resume", "last"]).code, 0);
    assert!(
        told(&program).last().unwrap().contains("No page is open. Open one with browser.open first"),
        "{:?}",
        told(&program)
    );
    program.verify();
}

#[test]
fn a_profile_keeps_cookies_for_its_runs_and_one_run_at_a_time() {
    if is_missing() {
        return;
    }
    let site = Site::new(|line| match path(line) {
        "/set" => answer(
            "200 OK",
            "content-type: text/html\r\nset-cookie: who=ada; max-age=100000\r\n",
            b"<title>set</title>set",
        ),
        _ => html("<p id=out></p><script>out.textContent = 'cookie ' + document.cookie</script>"),
    });
    let turns = |path: &str| vec![open(&site.url(path)), Turn::text("Done.")];
    let all: Vec<Turn> = ["/set", "/look", "/set", "/look", "/look"].into_iter().flat_map(turns).collect();
    let program = Program::with_turns(all);
    std::fs::write(rules_file(&program), rules(&[&site])).unwrap();
    let look = |program: &Program| run(program).remove(0);
    // Without a profile nothing stays.
    look(&program);
    assert!(!content(&look(&program)).contains("ada"));
    configure(&program, "[browser]\nprofile = \"work\"\n");
    look(&program);
    let kept = look(&program);
    assert!(content(&kept).ends_with("cookie who=ada"), "{kept}");
    let list =
        || -> Value { serde_json::from_str(&program.output(&["browser", "profiles", "--json"]).stdout).unwrap() };
    assert_eq!((&list()["profiles"][0]["name"], &list()["profiles"][0]["in_use"]), (&json!("work"), &json!(false)));
    assert_eq!(program.output(&["browser", "clear", "../x"]).code, 2);
    assert_eq!(program.output(&["browser", "clear", "none"]).code, 2);
    let cleared = program.output(&["browser", "clear", "work"]);
    assert_eq!((cleared.code, cleared.stdout.as_str()), (0, "the browser profile work is gone, with its cookies\n"));
    assert!(!content(&look(&program)).contains("ada"));
}
