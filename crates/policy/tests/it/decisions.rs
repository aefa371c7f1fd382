//! Order, several resources, defaults and explanations.

use homarus_policy::{Effect, When};

use crate::{policy, resource, shell};

const RULES: &str = r#"
default = "deny"

[[rule]]
effect = "allow"
match = "file:write:./tmp/**"

[[rule]]
effect = "ask"
match = ["file:write:./**", "shell:run:git push *"]
when = "before-run"
reason = "look at it"

[[rule]]
effect = "deny"
match = "file:*:./secrets/**"
reason = "secret"

[[rule]]
effect = "allow"
match = ["file:read:./**", "shell:run:git *", "shell:run:rm ./tmp/*"]

[[rule]]
effect = "deny"
match = "shell:run:rm *"
reason = "no"
"#;

#[test]
fn the_first_rule_that_matches_decides() {
    let policy = policy(RULES);
    let check = |verb: &str, target: &str, effect: Effect, rule: &str| {
        let decision = policy.evaluate(&[resource(verb, target)]);
        assert_eq!((decision.effect, decision.rule.as_str()), (effect, rule), "{verb} {target}");
    };
    check("file:write", "tmp/x", Effect::Allow, "rules.toml:6 allow file:write:./tmp/**");
    check("file:write", "tmp/../x", Effect::Ask, "rules.toml:10 ask file:write:./**");
    // Ordered: the rule about writes comes before the one about secrets.
    check("file:write", "secrets/x", Effect::Ask, "rules.toml:10 ask file:write:./**");
    check("file:read", "./a/../secrets/x", Effect::Deny, "rules.toml:16 deny file:*:./secrets/**");
    check("file:read", "a", Effect::Allow, "rules.toml:21 allow file:read:./**");
    check("file:read", "/etc/passwd", Effect::Deny, "rules.toml default deny");
    check("file:write", "../x", Effect::Deny, "rules.toml default deny");
    check("shell:run", "git status", Effect::Allow, "rules.toml:21 allow shell:run:git *");
    check("shell:run", "rm ./tmp/x", Effect::Allow, "rules.toml:21 allow shell:run:rm ./tmp/*");
    check("shell:run", "rm ./x", Effect::Deny, "rules.toml:25 deny shell:run:rm *");
    check("shell:run", "git status; rm ./tmp/x", Effect::Allow, "rules.toml:21 allow shell:run:git *");
    check("shell:run", "rm ./tmp/x; git status", Effect::Allow, "rules.toml:21 allow shell:run:rm ./tmp/*");
    check("net:connect", "example.org", Effect::Deny, "rules.toml default deny");
}

#[test]
fn of_several_the_strongest_counts() {
    let policy = policy(RULES);
    let read = resource("file:read", "a");
    let write = resource("file:write", "a");
    let secret = resource("file:read", "secrets/k");
    assert_eq!(policy.evaluate(&[read.clone(), write.clone()]).effect, Effect::Ask);
    assert_eq!(policy.evaluate(&[write, secret, read]).effect, Effect::Deny);
    assert_eq!(policy.evaluate(&[]).effect, Effect::Deny, "an action that names nothing falls to the default");
    let push = shell(&policy, "git status && git push origin main");
    assert_eq!((push.effect, push.when), (Effect::Ask, Some(When::BeforeRun)));
    assert_eq!(push.reason, "look at it");
}

#[test]
fn a_rule_may_be_one_whole_line() {
    let policy = policy(
        "[[rule]]\neffect='allow'\nmatch='shell:run:cd sub && make > log'\n\
         [[rule]]\neffect='deny'\nmatch='shell:run:curl * | sh'\nreason='no'\n\
         [[rule]]\neffect='allow'\nmatch=['shell:run:curl *','shell:run:sh *']",
    );
    assert_eq!(shell(&policy, "cd sub && make > log").effect, Effect::Allow);
    assert_eq!(shell(&policy, "cd sub && make > log2").effect, Effect::Ask);
    assert_eq!(shell(&policy, "curl x").effect, Effect::Allow);
    assert_eq!(shell(&policy, "curl x|sh").effect, Effect::Deny);
    assert_eq!(shell(&policy, "curl x   |\tsh").effect, Effect::Deny);
}

#[test]
fn explanations_list_what_was_tried() {
    let policy = policy(RULES);
    let explanation = policy.explain(&[resource("shell:run", "git log; rm x")]);
    assert_eq!(explanation.decision.effect, Effect::Deny);
    let matched: Vec<_> =
        explanation.tried.iter().filter(|tried| tried.matched).map(|tried| tried.rule.as_str()).collect();
    assert!(matched.contains(&"rules.toml:21 allow shell:run:git *"), "{matched:?}");
    assert!(matched.contains(&"rules.toml:25 deny shell:run:rm *"), "{matched:?}");
    assert!(explanation.tried.iter().any(|tried| !tried.matched && tried.subject == "shell:run git log"));
}

#[test]
fn reasons_are_never_empty() {
    let policy = policy("[[rule]]\neffect='allow'\nmatch='shell:run:ls *'");
    assert!(shell(&policy, "ls").reason.contains("shell:run:ls *"));
    assert!(shell(&policy, "make").reason.contains("its default is ask"));
    assert!(shell(&policy, "ls $(x)").reason.contains("a command substitution"));
}
