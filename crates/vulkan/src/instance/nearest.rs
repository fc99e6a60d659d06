//! Suggestions for misspelt names.

/// Maximum number of suggestions.
const MAX_SUGGESTIONS: usize = 3;

/// Returns the names in `known` that are most similar to `name`: at most a third of its letters differ,
/// or one contains the other.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted = name.to_lowercase();
    let limit = wanted.chars().count() / 3;
    let mut found: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|it| {
            let other = it.to_lowercase();
            let holds = wanted.len() >= 4 && (other.contains(&wanted) || wanted.contains(&other));
            let changes = distance(&wanted, &other);
            (holds || changes <= limit).then_some((changes, it))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(MAX_SUGGESTIONS).map(|(_, it)| it.to_owned()).collect()
}

/// Formats suggestions: ` (did you mean a or b?)`.
pub(crate) fn meant(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!(" (did you mean {}?)", near.join(" or ")) }
}

/// Returns the edit distance: how many letters have to be inserted, removed or replaced.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, it) in other.iter().enumerate() {
            let changed = diagonal + usize::from(*it != letter);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likest_names_come_first() {
        let known = ["shaderInt64", "shaderInt16", "shaderInt8", "timelineSemaphore", "wideLines"];
        assert_eq!(nearest("shaderint64", known)[0], "shaderInt64");
        assert_eq!(nearest("timeline", known), ["timelineSemaphore"]);
        assert_eq!(nearest("wideLine", known), ["wideLines"]);
        assert!(nearest("nothing of that kind", known).is_empty());
    }

    #[test]
    fn letters_are_counted() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
