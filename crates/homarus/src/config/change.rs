//! Changing one key in a user's file and nothing else: comments, order and spacing stay.

use toml_edit::{DocumentMut, Item, RawString, Table, TableLike, Value};

use super::{
    check::{self, Set},
    keys::{Key, Keys},
};

/// The text with the key set. The text must be right already.
pub fn set(text: &str, key: &Key, value: Value) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.message().to_owned())?;
    let (tables, name) = match key.path.rsplit_once('.') {
        Some((tables, name)) => (tables.split('.').collect(), name),
        None => (Vec::new(), key.path.as_str()),
    };
    // What stands below the last section stays below it, above the section that is added.
    let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
    let lead = if text.trim().is_empty() { String::new() } else { format!("{trailing}\n") };
    let mut added = false;
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for (depth, name) in tables.iter().enumerate() {
        let is_last = depth + 1 == tables.len();
        if !table.contains_key(name) {
            let mut new = Table::new();
            new.set_implicit(true);
            table.insert(name, Item::Table(new));
        }
        let item = table.get_mut(name).ok_or("a table was lost")?;
        // It has no section yet, at most sections below it.
        if let Item::Table(section) = item
            && is_last
            && section.is_implicit()
            && !section.is_dotted()
        {
            section.set_implicit(false);
            // After everything that has a position of its own.
            section.set_position(Some(isize::MAX));
            section.decor_mut().set_prefix(lead.as_str());
            added = true;
        }
        table = item.as_table_like_mut().ok_or_else(|| format!("`{name}` is not a table in this file"))?;
    }
    match table.get_mut(name) {
        Some(Item::Value(old)) => {
            let decor = old.decor().clone();
            *old = value;
            *old.decor_mut() = decor;
        }
        Some(Item::ArrayOfTables(_)) => return Err(in_sections(key)),
        _ => {
            table.insert(name, Item::Value(value));
        }
    }
    if added {
        document.set_trailing(RawString::default());
    }
    Ok(document.to_string())
}

/// The text without the key, so that its default holds; the comments above it stay.
pub fn unset(text: &str, key: &Key, keys: &Keys) -> Result<String, String> {
    let checked = check::check(text, keys);
    let Some(set) = checked.set.into_iter().find(|set| set.path == key.path) else { return Ok(text.to_owned()) };
    match set {
        Set { span: Some(span), inline: false, .. } => {
            let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
            let end = text[span.end..].find('\n').map_or(text.len(), |at| span.end + at + 1);
            Ok(format!("{}{}", &text[..start], &text[end..]))
        }
        _ => {
            let mut document: DocumentMut =
                text.parse().map_err(|error: toml_edit::TomlError| error.message().to_owned())?;
            let mut table: &mut dyn TableLike = document.as_table_mut();
            let (tables, name) = key.path.rsplit_once('.').unwrap_or(("", &key.path));
            for part in tables.split('.').filter(|part| !part.is_empty()) {
                let Some(inner) = table.get_mut(part).and_then(Item::as_table_like_mut) else {
                    return Ok(text.to_owned());
                };
                table = inner;
            }
            if table.get(name).is_some_and(Item::is_array_of_tables) {
                return Err(in_sections(key));
            }
            table.remove(name);
            Ok(document.to_string())
        }
    }
}

/// Their comments could not all be kept.
fn in_sections(key: &Key) -> String {
    format!("`{0}` is written in sections [[{0}]]: change them with `homarus config edit`", key.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> (Key, Keys) {
        let keys = Keys::all().unwrap();
        (keys.find(path).unwrap().clone(), keys)
    }

    fn check_set(text: &str, path: &str, word: &str, expected: &str) {
        let (key, keys) = key(path);
        let value = key.kind.parse(&[word.to_owned()]).unwrap();
        let changed = set(text, &key, value).unwrap();
        assert_eq!(changed, expected, "{text:?}");
        let checked = check::check(&changed, &keys);
        assert_eq!(checked.problems, [], "{changed:?}");
        assert!(checked.set.iter().any(|set| set.path == path), "{changed:?}");
    }

    #[test]
    fn one_line_changes_and_the_rest_stays() {
        check_set("", "budget.steps", "5", "[budget]\nsteps = 5\n");
        check_set("# mine\n", "budget.steps", "5", "# mine\n\n[budget]\nsteps = 5\n");
        let text = "# mine\n\n[budget]\n# few\nsteps   =  7   # as few as can be\nusd = 1.0\n\n# the end\n";
        check_set(text, "budget.steps", "5", &text.replace('7', "5"));
        check_set(text, "budget.tokens", "9", &text.replace("usd = 1.0\n", "usd = 1.0\ntokens = 9\n"));
        check_set(text, "limits.cpu_s", "9", &format!("{text}\n[limits]\ncpu_s = 9\n"));
        check_set("budget = { steps = 7 } # x\n", "budget.usd", "2", "budget = { steps = 7 , usd = 2 } # x\n");
        check_set("budget.steps = 7\n", "budget.steps", "5", "budget.steps = 5\n");
        check_set(
            "[models]\noutput_tokens_max = 9\n\n[budget]\nsteps = 7\n",
            "models.local.idle_s",
            "5",
            "[models]\noutput_tokens_max = 9\n\n[budget]\nsteps = 7\n\n[models.local]\nidle_s = 5\n",
        );
        let own = "limits.tools.shell.execute.wall_s";
        check_set("", own, "900", "[limits.tools.shell.execute]\nwall_s = 900\n");
        check_set(
            "[limits]\nwall_s = 9\n\n[budget]\nsteps = 7\n",
            own,
            "900",
            "[limits]\nwall_s = 9\n\n[budget]\nsteps = 7\n\n[limits.tools.shell.execute]\nwall_s = 900\n",
        );
        check_set(
            "[limits.tools.shell.execute]\nwall_s = 9 # long\n",
            own,
            "900",
            "[limits.tools.shell.execute]\nwall_s = 900 # long\n",
        );
        check_set(
            "[models.local]\nidle_s = 9\n",
            "models.order",
            "local/x",
            "[models.local]\nidle_s = 9\n\n[models]\norder = [\"local/x\"]\n",
        );
    }

    #[test]
    fn a_key_goes_and_its_comments_stay() {
        let check_unset = |text: &str, path: &str, expected: &str| {
            let (key, keys) = key(path);
            assert_eq!(unset(text, &key, &keys).unwrap(), expected, "{text:?}");
        };
        check_unset("[budget]\n# few\nsteps = 7 # x\nusd = 1.0\n", "budget.steps", "[budget]\n# few\nusd = 1.0\n");
        check_unset("[models]\norder = [\n \"local/x\",\n]\n# end", "models.order", "[models]\n# end");
        check_unset("budget = { steps = 7, usd = 1.0 }\n", "budget.steps", "budget = { usd = 1.0 }\n");
        check_unset("budget.steps = 7", "budget.steps", "");
        check_unset("[budget]\nusd = 1.0\n", "budget.steps", "[budget]\nusd = 1.0\n");
    }
    #[test]
    fn sections_are_left_to_an_editor() {
        let (key, keys) = key("models.route");
        let text = "[[models.route]]\n# quick\nmodels = [\"local/x\"]\n";
        let value = key.kind.parse(&["[]".to_owned()]).unwrap();
        assert!(set(text, &key, value).unwrap_err().contains("config edit"));
        assert!(unset(text, &key, &keys).unwrap_err().contains("config edit"));
        check_set(
            "",
            "models.route",
            "[{ models = [\"local/x\"] }]",
            "[models]\nroute = [{ models = [\"local/x\"] }]\n",
        );
    }
}
