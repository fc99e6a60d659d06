//! Lines and columns of text files.

use std::borrow::Cow;

use crate::error::{Format, Position, ReadError};
use crate::progress::STEP;
use crate::trace::{TooLarge, TraceBuilder};

/// A line of a file.
pub(super) struct Line<'a> {
    /// From 1.
    pub number: u64,
    /// Without its end. Bytes that are not UTF-8 are replaced.
    pub text: Cow<'a, str>,
    /// Whether it has an end: the last line of a file that was cut off has none.
    pub is_complete: bool,
    /// The offset of what follows it.
    pub end: u64,
}

/// Splits a file into lines, which end with LF or CR LF.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut end = 0;
    (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')).map(move |(number, line)| {
        end += line.len() as u64;
        let whole = line.strip_suffix(b"\n");
        let text = whole.unwrap_or(line);
        let text = String::from_utf8_lossy(text.strip_suffix(b"\r").unwrap_or(text));
        Line { number, text, is_complete: whole.is_some(), end }
    })
}

/// Handles each line, and tells now and then where it is. The last line may be cut off in the middle: where it means nothing then, the trace ends before it.
pub(super) fn for_each_line<'a>(
    format: Format,
    lines: impl Iterator<Item = Line<'a>>,
    trace: &mut TraceBuilder,
    progress: &dyn Fn(u64),
    mut handle: impl FnMut(&mut TraceBuilder, u64, &str) -> Result<(), String>,
) -> Result<(), ReadError> {
    let mut end = 0;
    for line in lines {
        end = line.end;
        if line.number.is_multiple_of(STEP as u64) {
            progress(end);
        }
        if let Err(what) = handle(trace, line.number, &line.text) {
            if line.is_complete {
                return Err(ReadError::at_line(format, line.number, what));
            }
            trace.cut_at(Position::Line(line.number));
        }
        trace.set_line(line.number);
    }
    progress(end);
    Ok(())
}

/// The columns of a line, from left to right.
pub(super) struct Fields<'a> {
    rest: Option<&'a str>,
    column: u32,
}

impl<'a> Fields<'a> {
    pub fn new(line: &'a str) -> Self {
        Self { rest: Some(line), column: 0 }
    }

    /// Returns the next column without blanks around it.
    pub fn text(&mut self) -> Result<&'a str, String> {
        self.column += 1;
        let rest = self.rest.take().ok_or_else(|| format!("column {} is missing", self.column))?;
        let (text, rest) = match rest.split_once(',') {
            Some((text, rest)) => (text, Some(rest)),
            None => (rest, None),
        };
        self.rest = rest;
        Ok(text.trim())
    }

    /// Returns all that is left, commas included.
    pub fn rest(&mut self) -> &'a str {
        self.rest.take().unwrap_or("")
    }

    fn wrong(&self, text: &str, what: &str) -> String {
        let text: String = text.chars().take(40).collect();
        format!("column {} is not {what}: {text:?}", self.column)
    }

    /// Returns the next column as a number.
    pub fn number<T: std::str::FromStr>(&mut self) -> Result<T, String> {
        let text = self.text()?;
        text.parse().map_err(|_| self.wrong(text, "a number that fits"))
    }

    /// Returns the next column as a pointer; 0 for null.
    pub fn pointer(&mut self) -> Result<u64, String> {
        let text = self.text()?;
        pointer(text).ok_or_else(|| self.wrong(text, "a pointer"))
    }

    /// Returns the next column as pointers, which are separated by blanks.
    pub fn pointers(&mut self) -> Result<Vec<u64>, String> {
        let text = self.text()?;
        let each = |it| pointer(it).ok_or_else(|| self.wrong(it, "a pointer"));
        text.split_ascii_whitespace().map(each).collect()
    }

    /// Returns the next column as the number of a thread: its id, which has 32 bits on most systems.
    pub fn thread(&mut self) -> Result<u32, String> {
        let id: u64 = self.number()?;
        Ok((id ^ id >> 32) as u32)
    }

    /// Returns the next column, seconds with any number of decimals, in ns.
    pub fn seconds(&mut self) -> Result<u64, String> {
        let text = self.text()?;
        seconds(text).ok_or_else(|| self.wrong(text, "a time in seconds"))
    }
}

/// Returns the pointer that `%p` printed: 16 digits, or `0x` and fewer, or `(nil)`; 0 for null.
pub(super) fn pointer(text: &str) -> Option<u64> {
    if matches!(text, "(nil)" | "(null)") {
        return Some(0);
    }
    let digits = text.strip_prefix("0x").or(text.strip_prefix("0X")).unwrap_or(text);
    // A sign is none of `%p`.
    let is_hex = digits.bytes().all(|it| it.is_ascii_hexdigit());
    if is_hex { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// Returns seconds with decimals as ns; digits after the ninth do not count.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = |it: &str| it.bytes().all(|it| it.is_ascii_digit());
    if whole.is_empty() || !are_digits(whole) || !are_digits(part) {
        return None;
    }
    let nanoseconds = part.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = nanoseconds.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

impl From<TooLarge> for String {
    fn from(error: TooLarge) -> Self {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_of_all_compilers() {
        assert_eq!(pointer("000001D85B8B1A80"), Some(0x1D8_5B8B_1A80));
        assert_eq!(pointer("0x1d85b8b1a80"), Some(0x1D8_5B8B_1A80));
        assert_eq!(pointer("(nil)"), Some(0));
        assert_eq!(pointer("0000000000000000"), Some(0));
        for wrong in ["", "0x", "-5", "+5", "xyz", "12345678123456781"] {
            assert_eq!(pointer(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_keep_their_decimals() {
        assert_eq!(seconds("0.662"), Some(662_000_000));
        assert_eq!(seconds("17"), Some(17_000_000_000));
        assert_eq!(seconds("1596000000.1234567891"), Some(1_596_000_000_123_456_789));
        for wrong in ["", ".5", "-1", "1e5", "1.2.3", "99999999999999"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn columns_that_are_missing_are_named() {
        let mut fields = Fields::new("1, 2 ,");
        assert_eq!((fields.number::<u32>(), fields.number::<u32>()), (Ok(1), Ok(2)));
        assert_eq!(fields.text(), Ok(""));
        assert_eq!(fields.text(), Err("column 4 is missing".into()));
        let wrong = Fields::new("4294967296").number::<u32>().unwrap_err();
        assert_eq!(wrong, "column 1 is not a number that fits: \"4294967296\"");
    }
}
