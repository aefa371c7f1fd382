//! "Did you mean": the known name that is nearest to a mistyped one.

/// The nearest known name, if it is near enough to be what was meant.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let slips_max = (typed.chars().count() / 3).clamp(1, 4);
    let typed: String = typed.to_lowercase().chars().take(200).collect();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&typed, &name.to_lowercase()), name))
        .filter(|(slips, _)| *slips <= slips_max)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, name)| name)
}

/// "did you mean X?", and where all of them are listed; without a near name only the latter.
pub fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>, all: &str) -> String {
    match nearest(typed, known) {
        Some(name) => format!("did you mean `{name}`? {all}"),
        None => all.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let check = |typed: &str, expected: Option<&str>| {
            assert_eq!(nearest(typed, ["budget.steps", "budget.tokens", "limits.wall_s", "ask"]), expected, "{typed}");
        };
        check("budget.step", Some("budget.steps"));
        check("budegt.steps", Some("budget.steps"));
        check("Limits.Wall_S", Some("limits.wall_s"));
        check("aks", Some("ask"));
        check("temperature", None);
        check("", None);
    }
}
