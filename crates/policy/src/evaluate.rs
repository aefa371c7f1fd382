//! From resources to a decision, and how it came about.

use homarus_contract::action::Resource;

use crate::{
    grants::pattern_allows,
    pattern::{Target, TargetKind, kind_of},
    rule::{Effect, Policy, Rule, RulePattern, When},
    shell::{CommandLine, Simple},
};

/// What the policy says of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub effect: Effect,
    /// Of an `ask`: when, if its rule says so.
    pub when: Option<When>,
    /// `rules.toml:12 deny shell:run:rm *`
    pub rule: String,
    pub reason: String,
    /// The rule names the target itself, without a `*`.
    pub is_exact: bool,
}

/// A decision with every rule that was tried for it.
#[derive(Debug, Clone)]
pub struct Explanation {
    pub decision: Decision,
    pub tried: Vec<Tried>,
}

/// One rule tried on one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// `shell:run make test`: a resource, or one command of a command line.
    pub subject: String,
    pub rule: String,
    pub matched: bool,
}

const TRIED_MAX: usize = 10_000;

/// The place of a rule that does not exist: none matched.
const UNDECIDED: usize = usize::MAX;

impl Policy {
    /// Decides about an action that touches all of `resources`: deny beats ask beats allow.
    pub fn evaluate(&self, resources: &[Resource]) -> Decision {
        self.judge(resources, &mut Trace::off())
    }

    /// Like [`Policy::evaluate`], and lists the rules that were tried.
    pub fn explain(&self, resources: &[Resource]) -> Explanation {
        let mut trace = Trace { tried: Some(Vec::new()) };
        let decision = self.judge(resources, &mut trace);
        Explanation { decision, tried: trace.tried.unwrap_or_default() }
    }

    fn judge(&self, resources: &[Resource], trace: &mut Trace) -> Decision {
        let decisions = resources.iter().map(|resource| match kind_of(&resource.verb) {
            Some(TargetKind::Path | TargetKind::Host | TargetKind::Name) => self.judge_plain(resource, trace),
            Some(TargetKind::CommandLine) => self.judge_line(resource, trace),
            None => self.fallback(&format!("{} {}", resource.verb, shortened(&resource.target))),
        });
        strongest(decisions.collect()).unwrap_or_else(|| self.fallback("an action that names no resource"))
    }

    fn judge_plain(&self, resource: &Resource, trace: &mut Trace) -> Decision {
        let subject = format!("{} {}", resource.verb, shortened(&resource.target));
        for (_, rule, pattern) in self.patterns_for(&resource.verb) {
            let matched = pattern.pattern.matches(resource, rule.effect == Effect::Allow);
            trace.note(self, &subject, rule, pattern, matched);
            if matched {
                return self.decided(rule, pattern);
            }
        }
        self.fallback(&subject)
    }

    fn judge_line(&self, resource: &Resource, trace: &mut Trace) -> Decision {
        let line = CommandLine::parse(&resource.target);
        if line.too_complex {
            return Decision {
                effect: Effect::Deny,
                when: None,
                rule: format!("{} limit on command lines", self.name()),
                reason: "the command line is too long or too nested to be judged: write it to a script with \
                         file.write and run that"
                    .to_owned(),
                is_exact: false,
            };
        }
        let view = LineView::new(&resource.verb, &line);
        if let Some(decision) = self.exact_line(&view, trace) {
            return decision;
        }
        let judged: Vec<(Decision, usize)> =
            view.commands.iter().map(|command| self.judge_command(&view, command, trace)).collect();
        let last_rule = judged.iter().map(|(_, at)| *at).max().unwrap_or(UNDECIDED);
        let mut decisions: Vec<Decision> = judged.into_iter().map(|(decision, _)| decision).collect();
        decisions.extend(self.judge_whole(&view, last_rule, trace));
        strongest(decisions).unwrap_or_else(|| self.fallback(&format!("{} of an empty line", resource.verb)))
    }

    /// An allow rule that is this very line, before any other rule that applies to it.
    fn exact_line(&self, view: &LineView<'_>, trace: &mut Trace) -> Option<Decision> {
        for (_, rule, pattern) in self.patterns_for(view.verb) {
            if rule.effect == Effect::Allow {
                let exact =
                    matches!(pattern.pattern.target(), Target::Command(text) if text.is_literal(&view.line.raw));
                if exact {
                    trace.note(self, &view.subject(&view.line.raw), rule, pattern, true);
                    return Some(self.decided(rule, pattern));
                }
            } else if view.suspected_by(pattern) {
                return None;
            }
        }
        None
    }

    /// The first rule that matches one command of the line, and its place among the rules.
    fn judge_command(&self, view: &LineView<'_>, command: &CommandView<'_>, trace: &mut Trace) -> (Decision, usize) {
        let text = command.simple.text();
        let subject = view.subject(&text);
        let mut may_be_barred = false;
        for (at, rule, pattern) in self.patterns_for(view.verb) {
            let unrestricted = pattern.pattern.is_unrestricted();
            let matched = match rule.effect {
                Effect::Allow if view.line.opaque.is_some() => unrestricted && !may_be_barred,
                Effect::Allow => pattern_allows(&pattern.pattern, command.simple, &text),
                Effect::Ask | Effect::Deny => unrestricted || command.suspected_by(pattern),
            };
            trace.note(self, &subject, rule, pattern, matched);
            if matched {
                return (self.decided(rule, pattern), at);
            }
            may_be_barred |= rule.effect != Effect::Allow;
        }
        if command.simple.transparent {
            let inner: Vec<CommandView<'_>> = command.simple.inner.iter().map(CommandView::new).collect();
            let judged: Vec<_> = inner.iter().map(|inner| self.judge_command(view, inner, trace)).collect();
            let last_rule = judged.iter().map(|(_, at)| *at).max().unwrap_or(UNDECIDED);
            if let Some(decision) = strongest(judged.into_iter().map(|(decision, _)| decision).collect()) {
                return (decision, last_rule);
            }
        }
        (self.undecided(view, &subject, may_be_barred), UNDECIDED)
    }

    /// No rule matched a command: the default, unless the line might hide what a rule would have barred.
    fn undecided(&self, view: &LineView<'_>, subject: &str, may_be_barred: bool) -> Decision {
        let mut decision = self.fallback(subject);
        let Some(why) = view.line.opaque else { return decision };
        if may_be_barred && self.default_effect() == Effect::Allow {
            return Decision {
                effect: Effect::Ask,
                when: None,
                rule: format!("{} default ask (the line cannot be read for certain)", self.name()),
                reason: format!("it cannot be told which commands `{subject}` runs: {why}"),
                is_exact: false,
            };
        }
        decision.reason.push_str(&format!("; no allow rule was considered because of {why}"));
        decision
    }

    /// Deny and ask rules on the line as a whole: they may span several commands. `last_rule`: every
    /// command was decided by it or an earlier one, so later rules have no say.
    fn judge_whole(&self, view: &LineView<'_>, last_rule: usize, trace: &mut Trace) -> Option<Decision> {
        let subject = view.subject(&view.line.raw);
        let barring = |(at, rule, _): &(usize, &Rule, &RulePattern)| *at < last_rule && rule.effect != Effect::Allow;
        for (_, rule, pattern) in self.patterns_for(view.verb).filter(barring) {
            let matched = view.whole_suspected_by(pattern);
            trace.note(self, &subject, rule, pattern, matched);
            if matched {
                return Some(self.decided(rule, pattern));
            }
        }
        None
    }

    /// The patterns of a verb in order, each with the place of its rule.
    fn patterns_for<'p>(&'p self, verb: &'p str) -> impl Iterator<Item = (usize, &'p Rule, &'p RulePattern)> {
        let rules = self.rules().iter().enumerate();
        let patterns = rules.flat_map(|(at, rule)| rule.patterns.iter().map(move |pattern| (at, rule, pattern)));
        patterns.filter(move |(_, _, pattern)| pattern.pattern.covers_verb(verb))
    }

    fn decided(&self, rule: &Rule, pattern: &RulePattern) -> Decision {
        let reason = match rule.reason.as_str() {
            "" => format!("the rule `{}` of {} says {}", pattern.pattern.text(), self.name(), rule.effect),
            reason => reason.to_owned(),
        };
        Decision {
            effect: rule.effect,
            when: rule.when,
            rule: self.label(rule, pattern),
            reason,
            is_exact: pattern.pattern.is_exact(),
        }
    }

    fn fallback(&self, subject: &str) -> Decision {
        let effect = self.default_effect();
        Decision {
            effect,
            when: None,
            rule: format!("{} default {effect}", self.name()),
            reason: format!("no rule of {} matches `{subject}`, and its default is {effect}", self.name()),
            is_exact: false,
        }
    }
}

/// A command line with what deny and ask rules are compared with, worked out once.
struct LineView<'l> {
    verb: &'l str,
    line: &'l CommandLine,
    commands: Vec<CommandView<'l>>,
    whole: Vec<String>,
}

struct CommandView<'l> {
    simple: &'l Simple,
    suspects: Vec<String>,
}

impl<'l> LineView<'l> {
    fn new(verb: &'l str, line: &'l CommandLine) -> Self {
        Self { verb, line, commands: line.commands.iter().map(CommandView::new).collect(), whole: line.whole_texts() }
    }

    fn subject(&self, text: &str) -> String {
        format!("{} {}", self.verb, shortened(text))
    }

    fn whole_suspected_by(&self, pattern: &RulePattern) -> bool {
        match_any(pattern, &self.whole)
    }

    fn suspected_by(&self, pattern: &RulePattern) -> bool {
        pattern.pattern.is_unrestricted()
            || self.whole_suspected_by(pattern)
            || self.commands.iter().any(|command| command.suspected_by(pattern))
    }
}

impl<'l> CommandView<'l> {
    fn new(simple: &'l Simple) -> Self {
        Self { simple, suspects: simple.suspect_texts() }
    }

    fn suspected_by(&self, pattern: &RulePattern) -> bool {
        match_any(pattern, &self.suspects)
    }
}

fn match_any(pattern: &RulePattern, texts: &[String]) -> bool {
    // A pattern without a target is left to the commands, where the order of rules counts.
    matches!(pattern.pattern.target(), Target::Command(text) if !text.is_any() && texts.iter().any(|t| text.matches(t)))
}

/// Of several decisions the strongest, and of equal ones the first; an ask before the run wins over
/// one before the merge.
fn strongest(decisions: Vec<Decision>) -> Option<Decision> {
    decisions.into_iter().reduce(|best, next| {
        let rank = |decision: &Decision| (decision.effect, decision.when);
        if rank(&next) > rank(&best) { next } else { best }
    })
}

fn shortened(text: &str) -> String {
    homarus_contract::text::one_line(text, 120)
}

/// Collects what was tried, if someone asked for it.
struct Trace {
    tried: Option<Vec<Tried>>,
}

impl Trace {
    fn off() -> Self {
        Self { tried: None }
    }

    fn note(&mut self, policy: &Policy, subject: &str, rule: &Rule, pattern: &RulePattern, matched: bool) {
        if let Some(tried) = self.tried.as_mut().filter(|tried| tried.len() < TRIED_MAX) {
            tried.push(Tried { subject: subject.to_owned(), rule: policy.label(rule, pattern), matched });
        }
    }
}
