//! "Did you mean": the nearest of a few known names.

/// The known name closest to `text`, if it is close enough to be a slip.
pub fn closest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    let slips_max = (text.chars().count() / 3).clamp(1, 3);
    known
        .iter()
        .map(|name| (distance(&text.to_lowercase(), name), *name))
        .filter(|(slips, _)| *slips <= slips_max)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, name)| name)
}

/// `; did you mean X?` or nothing, followed by what is known.
pub fn hint(text: &str, known: &[&str]) -> String {
    let meant = closest(text, known).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    format!("{meant} (known: {})", known.join(", "))
}

/// Levenshtein distance with a swap of neighbours counted as one slip.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["allow", "ask", "deny"];
        assert_eq!(closest("alow", &known), Some("allow"));
        assert_eq!(closest("dney", &known), Some("deny"));
        assert_eq!(closest("Deny", &known), Some("deny"));
        assert_eq!(closest("forbid", &known), None);
    }
}
