//! What a person is told of a request before it is sent, and a model of one whose answer did not come whole.

use super::*;

/// The text of `runs show` while these calls' question stands.
fn asked_elsewhere(call: Turn, config: &str) -> String {
    let program = Program::with_turns(vec![call, Turn::text("Done.")]);
    std::fs::create_dir_all(program.home.join("config")).unwrap();
    std::fs::write(program.home.join("config/homarus.toml"), config).unwrap();
    let mut running = program.spawn(&["run", "do it", "--approvals-from", "cli", "--json"]);
    running.wait_for("waiting");
    let shown = program.output(&["runs", "show", "last"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    shown.stdout
}

#[test]
fn who_answers_from_elsewhere_sees_all_that_would_be_sent() {
    let url = format!("https://ok.example/{}?key=stolen1", "p".repeat(500));
    let body = "stolen2\n  homarus runs approve other\n\u{1b}[2Jstolen3";
    let headers = json!({"X-Note": "stolen4"});
    let call = json!({"url": url, "method": "POST", "headers": headers, "body": body});
    let shown = asked_elsewhere(Turn::call("http.request", call), "");
    for line in [
        format!("+POST {url}").as_str(),
        "+x-note: stolen4",
        "+stolen2",
        "+  homarus runs approve other",
        "+␛[2Jstolen3",
        "  what it would do:",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    assert!(shown.contains("? approval POST https://ok.example/") && shown.contains("why asked: "), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let ours: Vec<&str> = shown.lines().filter(|line| line.starts_with("  homarus runs approve ")).collect();
    assert_eq!(ours.len(), 1, "{shown}");
}

#[test]
fn who_answers_from_elsewhere_sees_every_host_a_page_may_reach() {
    let also: Vec<String> = (0..20).map(|n| format!("{}{n}.example", "long-name-".repeat(5))).collect();
    let call = Turn::call("browser.open", json!({"url": "https://ok.example/", "also": also}));
    // Nothing is started before the answer, so any program will do.
    let shown = asked_elsewhere(call, "[browser]\nprogram = \"/bin/sh\"\n");
    for host in &also {
        let line = format!("+may also reach {host}:443");
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
}

#[test]
fn a_request_that_was_answered_is_told_so_though_the_answer_breaks_off() {
    let site = Site::new(|_| {
        b"HTTP/1.1 201 Created\r\ncontent-type: text/plain\r\ncontent-length: 100\r\nconnection: close\r\n\r\nmade"
            .to_vec()
    });
    let post = json!({"url": site.url("/"), "method": "POST", "body": "pay"});
    let (program, told) = asked_with(post, &named(&[&site]), "deny");
    assert!(told.contains("\nstatus 201, 4 bytes and perhaps more that did not come of text/plain\n"), "{told}");
    assert!(told.contains("\nThe answer was cut off: the connection broke.\n"), "{told}");
    assert!(told.contains("do not repeat it without checking.\n") && told.contains("\nmade\n"), "{told}");
    assert_eq!(site.requests().len(), 1);
    program.verify();
}

#[test]
fn a_request_that_was_sent_and_never_answered_may_have_been_done() {
    let site = Site::new(|_| Vec::new());
    for (method, may_be_done) in [("DELETE", true), ("GET", false)] {
        let told = asked(json!({"url": site.url("/"), "method": method}), &named(&[&site]), "deny");
        assert!(told.contains("broke"), "{told}");
        assert_eq!(told.contains("It may have been done; do not repeat it without checking."), may_be_done, "{told}");
    }
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{gone}/");
    let told = asked(json!({"url": url, "method": "DELETE"}), &allow(&[gone.to_string()]), "deny");
    assert!(told.contains("no connection to") && !told.contains("may have been done"), "{told}");
}
