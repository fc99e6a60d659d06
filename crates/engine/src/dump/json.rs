//! Writes JSON into one string: for dumps of a million allocations, so nothing is built in between.

use crate::error::Error;

fn append(to: &mut String, failed: &mut bool, text: &str) {
    // Where this succeeds, nothing is taken below.
    if *failed || to.try_reserve(text.len()).is_err() {
        *failed = true;
        return;
    }
    to.push_str(text);
}

/// A JSON text in the making. Commas are set by themselves; the caller keeps the brackets even.
#[derive(Default)]
pub struct JsonWriter {
    text: String,
    digits: itoa::Buffer,
    /// Something stands before the next value or key on its level.
    follows: bool,
    /// There was no host memory for all of it.
    failed: bool,
}

impl JsonWriter {
    /// With room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut json = Self::default();
        json.failed = json.text.try_reserve(bytes).is_err();
        json
    }

    /// What was written; an error without host memory for it.
    pub fn finish(self) -> Result<String, Error> {
        if self.failed {
            Err(Error::NoHostMemory("a text of all allocations"))
        } else {
            Ok(self.text)
        }
    }

    /// There was no host memory for a part of it.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
    }

    #[inline]
    fn write(&mut self, text: &str) {
        append(&mut self.text, &mut self.failed, text);
    }

    fn write_number(&mut self, number: u64) {
        append(&mut self.text, &mut self.failed, self.digits.format(number));
    }

    fn comma(&mut self) {
        if self.follows {
            self.write(",");
        }
        self.follows = true;
    }

    fn open(&mut self, bracket: &str) {
        self.comma();
        self.write(bracket);
        self.follows = false;
    }

    fn close(&mut self, bracket: &str) {
        self.write(bracket);
        self.follows = true;
    }

    /// `{ ... }`
    pub fn object(&mut self, inside: impl FnOnce(&mut Self)) {
        self.open("{");
        inside(self);
        self.close("}");
    }

    /// `[ ... ]`
    pub fn array(&mut self, inside: impl FnOnce(&mut Self)) {
        self.open("[");
        inside(self);
        self.close("]");
    }

    /// The key of the value that is written next.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.string(key);
        self.write(":");
        self.follows = false;
        self
    }

    /// A key in two parts, as `Type 3`.
    pub fn numbered_key(&mut self, name: &str, number: u64) -> &mut Self {
        self.comma();
        self.write("\"");
        self.write(name);
        self.write_number(number);
        self.write("\":");
        self.follows = false;
        self
    }

    /// An integer.
    pub fn number(&mut self, value: u64) {
        self.comma();
        self.write_number(value);
    }

    /// A key and an integer.
    pub fn field(&mut self, key: &str, value: u64) {
        self.key(key).number(value);
    }

    /// A text, escaped.
    pub fn string(&mut self, value: &str) {
        self.comma();
        self.write("\"");
        // Runs that need no escape are copied whole.
        let mut from = 0;
        for (at, byte) in value.bytes().enumerate() {
            let escape = match byte {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                b'\n' => "\\n",
                b'\r' => "\\r",
                b'\t' => "\\t",
                0x00..=0x1f | 0x7f => "",
                _ => continue,
            };
            self.write(&value[from..at]);
            from = at + 1;
            if escape.is_empty() {
                const HEX: &str = "0123456789abcdef";
                let digit = |it: u8| &HEX[usize::from(it)..=usize::from(it)];
                self.write("\\u00");
                self.write(digit(byte >> 4));
                self.write(digit(byte & 15));
            } else {
                self.write(escape);
            }
        }
        self.write(&value[from..]);
        self.write("\"");
    }

    /// Text that is JSON already and needs no comma.
    pub(crate) fn raw(&mut self, json: &str) {
        self.write(json);
    }

    /// The same for an integer.
    pub(crate) fn raw_number(&mut self, value: u64) {
        self.write_number(value);
    }

    /// A line for each element of a long list: what a person may have to read.
    pub(crate) fn element(&mut self, start: &str) {
        self.write(if self.follows { ",\n" } else { "\n" });
        self.write(start);
        self.follows = true;
    }

    /// A key and a text, inside an [`element`](Self::element).
    pub(crate) fn raw_text(&mut self, key: &str, value: &str) {
        self.write(key);
        self.follows = false;
        self.string(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_stand_where_they_belong() {
        let mut json = JsonWriter::default();
        json.object(|json| {
            json.field("a", 1);
            json.key("b").array(|json| {
                json.number(2);
                json.string("three");
                json.array(|_| {});
                json.object(|json| json.field("c", u64::MAX));
            });
            json.numbered_key("Type ", 7).object(|_| {});
        });
        let written = r#"{"a":1,"b":[2,"three",[],{"c":18446744073709551615}],"Type 7":{}}"#;
        assert_eq!(json.finish().unwrap(), written);
    }

    #[test]
    fn texts_are_escaped() {
        let mut json = JsonWriter::default();
        json.string("a\"b\\c\n\r\t\0\u{1f}\u{7f}é\u{2028}\u{1f600}</script>");
        let written = "\"a\\\"b\\\\c\\n\\r\\t\\u0000\\u001f\\u007fé\u{2028}\u{1f600}</script>\"";
        assert_eq!(json.finish().unwrap(), written);
    }
}
