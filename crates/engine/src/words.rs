//! Numbers and nouns as words, for error messages and reprs.

use std::fmt;

/// A count with its noun: `1 byte`, `2 bytes`.
pub struct Counted<'a> {
    count: u64,
    what: &'a str,
}

/// Formats a count with the noun `what`, whose plural ends in `s`.
pub fn counted<T: TryInto<u64>>(count: T, what: &str) -> Counted<'_> {
    Counted { count: count.try_into().unwrap_or(u64::MAX), what }
}

/// Formats a number of bytes: `1 byte`, `2 bytes`.
pub fn bytes(count: u64) -> Counted<'static> {
    counted(count, "byte")
}

impl fmt::Display for Counted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, what } = self;
        write!(f, "{count} {what}{}", if *count == 1 { "" } else { "s" })
    }
}

/// Formats a noun with its article: `a BufferUsage`, `an ImageUsage`.
pub fn with_article(noun: &str) -> String {
    let vowel = noun.starts_with(|first: char| "aeiouAEIOU".contains(first));
    format!("{} {noun}", if vowel { "an" } else { "a" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        let texts: Vec<_> = (0..3).map(|count| bytes(count).to_string()).collect();
        assert_eq!(texts, ["0 bytes", "1 byte", "2 bytes"]);
        assert_eq!(counted(1usize, "live object").to_string(), "1 live object");
    }

    #[test]
    fn the_article_fits() {
        assert_eq!(with_article("ImageUsage"), "an ImageUsage");
        assert_eq!(with_article("BufferUsage"), "a BufferUsage");
    }
}
