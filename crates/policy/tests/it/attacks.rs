//! Command lines made to slip past a rule.

use homarus_policy::{Effect, Grants, Policy};

use crate::{policy, resource, shell};

/// Denies `rm` and asks about nothing else: whatever is not denied here slipped past.
fn deny_rm() -> Policy {
    policy(
        r#"
        default = "allow"
        [[rule]]
        effect = "deny"
        match = "shell:run:rm *"
        reason = "no"
        "#,
    )
}

/// Allows `make` and `git status`; everything else falls to `ask`.
fn allow_make() -> Policy {
    policy(
        r#"
        [[rule]]
        effect = "allow"
        match = ["shell:run:make *", "shell:run:git status"]
        "#,
    )
}

#[test]
fn a_denied_command_is_found_wherever_it_hides() {
    let lines = [
        "rm x",
        "rm",
        "  rm   x",
        "\trm x",
        "ls; rm x",
        "ls;rm x",
        "ls && rm x",
        "ls || rm x",
        "ls | rm x",
        "ls |& rm x",
        "ls & rm x",
        "ls\nrm x",
        "ls \\\n; rm x",
        "(rm x)",
        "( ( rm x ) )",
        "{ rm x; }",
        "! rm x",
        "if true; then rm x; fi",
        "while rm x; do :; done",
        "for f in a; do rm $f; done",
        "case x in x) rm y;; esac",
        "f() { rm x; }; f",
        "f () (rm x)",
        "echo $(rm x)",
        "echo \"$(rm x)\"",
        "echo \"a $(echo \"b $(rm x)\")\"",
        "echo $(echo ')'; rm x)",
        "echo `rm x`",
        "echo \"`rm x`\"",
        "echo `echo \\`rm x\\``",
        "echo ${X:-$(rm x)}",
        "echo <(rm x)",
        "tee >(rm x)",
        "X=$(rm x) ls",
        "r\\m x",
        "\\rm x",
        "'rm' x",
        "\"rm\" x",
        "r''m x",
        "r\"\"m x",
        "'r'm x",
        "r\\\nm x",
        "$'rm' x",
        "$'\\x72m' x",
        "$'\\162m' x",
        "$'\\u0072m' x",
        "$\"rm\" x",
        "/bin/rm x",
        "/usr/bin/../bin/rm x",
        "X=1 rm x",
        "X=1 Y=2 rm x",
        "X='a b' rm x",
        "PATH+=:. rm x",
        "> /dev/null rm x",
        "2>&1 rm x",
        "</dev/null rm x",
        "&>out rm x",
        "sudo rm x",
        "sudo -u root -- rm x",
        "/usr/bin/sudo rm x",
        "env rm x",
        "env -i X=1 rm x",
        "env -S 'rm x'",
        "exec rm x",
        "exec -a ls rm x",
        "command rm x",
        "command -p rm x",
        "builtin command rm x",
        "nohup rm x &",
        "nice -n 5 rm x",
        "time rm x",
        "timeout 5 rm x",
        "setsid rm x",
        "stdbuf -oL rm x",
        "busybox rm x",
        "echo x | xargs rm",
        "xargs -n1 rm < list",
        "find . -name x -exec rm {} \\;",
        "find . -exec sh -c 'rm x' \\;",
        "sh -c 'rm x'",
        "sh -c rm\\ x",
        "bash -c \"rm x\"",
        "bash -lc 'rm x'",
        "bash -x -e -c 'ls; rm x'",
        "bash --norc -c 'rm x'",
        "bash -c -e 'rm x'",
        "/bin/bash -c 'cd /; exec rm x'",
        "sudo bash -c 'env X=1 rm x'",
        "sh -c \"sh -c 'rm x'\"",
        "su -c 'rm x' root",
        "watch 'rm x'",
        "flock f -c 'rm x'",
        "eval rm x",
        "eval 'rm x'",
        "eval r m x; eval 'r''m x'",
        "trap 'rm x' EXIT",
        "echo it\\'s; rm x",
        "# it's\nrm x # '",
        "ls # x\nrm x",
        "cat <<E\n'\nE\nrm x\n#'",
        "cat <<'E'\n\"\nE\nrm x",
        "cat <<-E\n\tx\n\tE\nrm x",
        "sh <<< 'rm x'",
        "echo '; rm x' | sh",
        "\"$(case x in a) rm y;; esac)\"",
        "echo ${X#'}; rm x",
    ];
    let policy = deny_rm();
    for line in lines {
        let decision = shell(&policy, line);
        assert_eq!(decision.effect, Effect::Deny, "slipped past: {line:?} ({})", decision.rule);
        assert_eq!(decision.rule, "rules.toml:5 deny shell:run:rm *", "{line:?}");
    }
}

#[test]
fn harmless_lines_are_not_denied() {
    let lines = [
        "ls",
        "echo rm x",
        "echo 'rm x'",
        "echo \"; rm x\"",
        "git rm x",
        "rmdir x",
        "grep -r 'rm ' .",
        "git commit -m 'rm the old file; it was wrong'",
        "ls # rm x",
        "ls rm",
        "echo a\\;rm x",
        "sh script.sh rm",
        "find . -name '*.log'",
        "for f in *.log; do wc -l \"$f\"; done",
        "ls > rm",
    ];
    for line in lines {
        assert_eq!(shell(&deny_rm(), line).effect, Effect::Allow, "{line:?}");
    }
}

#[test]
fn what_cannot_be_read_is_asked_about_where_a_deny_might_apply() {
    for line in [
        "$X y",
        "${X}m y",
        "/bin/r? y",
        "{rm,y}",
        "echo $(cat f)",
        "cat f | sh",
        ". ./f",
        "alias ls='rm'; ls",
        "r$(echo m) y",
    ] {
        let decision = shell(&deny_rm(), line);
        assert!(decision.effect >= Effect::Ask, "{line:?}: {decision:?}");
    }
    let allow_all = policy(
        "[[rule]]\neffect='deny'\nmatch='shell:run:rm *'\nreason='no'\n[[rule]]\neffect='allow'\nmatch='shell:run'",
    );
    assert_eq!(shell(&allow_all, "ls x").effect, Effect::Allow);
    assert_eq!(shell(&allow_all, "$X y").effect, Effect::Ask);
    let allow_first = policy("[[rule]]\neffect='allow'\nmatch='shell:run'");
    assert_eq!(shell(&allow_first, "echo $(date)").effect, Effect::Allow);
}

#[test]
fn an_allow_covers_nothing_but_what_it_names() {
    let lines = [
        "make; rm x",
        "make && rm x",
        "make || rm x",
        "make | sh",
        "make & rm x",
        "make\nrm x",
        "make $(rm x)",
        "make `rm x`",
        "make \"$(rm x)\"",
        "make <(rm x)",
        "make > Makefile",
        "make >> ~/.bashrc",
        "make 2> x",
        "make &> x",
        "make >| x",
        "make >& x",
        "git status -s",
        "git status; git push",
        "(make; rm x)",
        "sudo make",
        "env make",
        "LD_PRELOAD=./x.so make",
        "PATH=. make",
        "PATH=.; make",
        "export PATH=.; make",
        "./make",
        "/tmp/make x",
        "cd x && make",
        "sh -c 'make; rm x'",
        "sh -c 'make' > Makefile",
        "bash -c make 2> x",
        "for PATH in .; do make; done",
        "for HOME in x; do git status; done",
        "select HOME in x; do make; done",
        "for \"PATH\" in .; do make; done",
        "sh -c \"$X\"",
        "sh -c make rm",
        "bash -ic 'make'",
        "xargs make",
        "time make",
        "maker",
        "'make x'",
        "\"make\nx\"",
        "make() { rm x; }; make",
        "alias make=rm; make",
        "eval make",
        "for f in $(rm x); do make; done",
        "make <<E\n$(rm x)\nE",
        "ma\\\nke; rm",
        "make 'x",
        "make)",
        "",
        "# make",
    ];
    for line in lines {
        let decision = shell(&allow_make(), line);
        assert_eq!(decision.effect, Effect::Ask, "was allowed: {line:?} ({})", decision.rule);
    }
    for line in [
        "make",
        "make test",
        "make test 2>&1",
        "make test > /dev/null 2>&1",
        "make a && make b; git status",
        "make a | make b",
        "(make a)",
        "ma\"ke\" x",
        "make 'a; b'",
        "sh -c 'make a && git status'",
        "bash -lc 'make a'",
        "if make a; then git status; fi",
        "for t in a b; do make $t; done",
    ] {
        let decision = shell(&allow_make(), line);
        assert_eq!(decision.effect, Effect::Allow, "{line:?} ({})", decision.reason);
    }
}

#[test]
fn grants_are_as_narrow_as_allow_rules() {
    let grants = Grants::parse(&["shell:run:make *", "file:read:./**"]).unwrap();
    let covers = |verb: &str, target: &str| grants.covering(&resource(verb, target)).is_some();
    assert!(covers("shell:run", "make a; make b"));
    assert!(covers("shell:run", "sh -c 'make a'"));
    for line in [
        "make; rm x",
        "make $(rm x)",
        "make > x",
        "PATH=. make",
        "",
        "make `x`",
        "sh -c 'make a' > x",
        "for PATH in .; do make a; done",
    ] {
        assert!(!covers("shell:run", line), "{line:?}");
    }
    assert!(covers("file:read", "a/b"));
    for target in ["../a", "/etc/passwd", "a/../../b"] {
        assert!(!covers("file:read", target), "{target:?}");
    }
    assert!(!covers("file:write", "a"));
    assert!(!covers("net:connect", "example.org"));
    let all = Grants::parse(&["shell:run"]).unwrap();
    assert_eq!(all.covering(&resource("shell:run", "$X $(y)")), Some(vec!["shell:run"]));
}

#[test]
fn overlong_and_overnested_lines_are_denied() {
    let open = policy("default = 'allow'");
    for line in
        ["(".repeat(500), "a;".repeat(2_000), "x".repeat(40_000), "eval ".repeat(2_000), "sudo 'a b' ".repeat(3_000)]
    {
        let decision = shell(&open, &line);
        assert_eq!(decision.effect, Effect::Deny, "{:?}", &line[..10]);
    }
}

#[test]
fn hosts_are_matched_whole_and_unreadable_ones_are_never_let_through() {
    let rules = policy(
        r#"
default = "allow"
[[rule]]
effect = "allow"
match = ["net:connect:good.example:443", "net:connect:*.ok.example:*"]
[[rule]]
effect = "deny"
match = ["net:connect:*.bad.example:*", "net:connect:bad.example:*", "net:connect:10.0.0.1:*"]
reason = "no"
"#,
    );
    let check = |target: &str, effect: Effect, is_exact: bool| {
        let decision = rules.evaluate(&[resource("net:connect", target)]);
        assert_eq!((decision.effect, decision.is_exact), (effect, is_exact), "{target}: {}", decision.rule);
    };
    check("good.example:443", Effect::Allow, true);
    check("GOOD.example.:443", Effect::Allow, true);
    check("a.ok.example:80", Effect::Allow, false);
    for bad in ["bad.example:1", "BAD.example.:1", "a.b.bad.example:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
        check(bad, Effect::Deny, false);
    }
    // What is no host and port is held against the deny rules, and matches.
    for odd in
        ["bad.example", "10.1:80", "0xa000001:80", "bad.example:99999", "bad.example:1\n", "", "evil.example/:443"]
    {
        check(odd, Effect::Deny, false);
    }
    let grants = Grants::parse(&["net:connect:good.example:443", "net:connect:*.ok.example:443"]).unwrap();
    let covers = |target: &str| grants.covering(&resource("net:connect", target)).is_some();
    assert!(covers("good.example:443") && covers("x.ok.example:443"));
    for other in ["good.example:80", "x.good.example:443", "good.example.evil.test:443", "", "10.1:443"] {
        assert!(!covers(other), "{other}");
    }
    assert!(grants.name(&resource("net:connect", "good.example:443")));
    assert!(!grants.name(&resource("net:connect", "x.ok.example:443")), "a star is no name");
}
