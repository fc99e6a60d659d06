//! [`JsonWriter`]: writes JSON into one string, without intermediate objects, for dumps of a million
//! allocations.

use crate::error::Error;

fn append(to: &mut String, failed: &mut bool, text: &str) {
    // After this succeeds, `push_str` does not allocate.
    if *failed || to.try_reserve(text.len()).is_err() {
        *failed = true;
        return;
    }
    to.push_str(text);
}

/// A JSON text under construction. Commas are inserted automatically; brackets are balanced by closures.
#[derive(Default)]
pub struct JsonWriter {
    text: String,
    digits: itoa::Buffer,
    /// Whether a value precedes the next value or key on its level.
    follows: bool,
    /// Whether host memory ran out.
    failed: bool,
}

impl JsonWriter {
    /// Creates a writer with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut json = Self::default();
        json.failed = json.text.try_reserve(bytes).is_err();
        json
    }

    /// Returns the text.
    ///
    /// # Errors
    /// [`Error::NoHostMemory`] if memory ran out.
    pub fn finish(self) -> Result<String, Error> {
        if self.failed {
            Err(Error::NoHostMemory("a text of all allocations"))
        } else {
            Ok(self.text)
        }
    }

    /// Records that host memory ran out for a part of the text.
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

    /// Writes an object: `{ ... }`.
    pub fn object(&mut self, inside: impl FnOnce(&mut Self)) {
        self.open("{");
        inside(self);
        self.close("}");
    }

    /// Writes an array: `[ ... ]`.
    pub fn array(&mut self, inside: impl FnOnce(&mut Self)) {
        self.open("[");
        inside(self);
        self.close("]");
    }

    /// Writes the key of the next value.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.string(key);
        self.write(":");
        self.follows = false;
        self
    }

    /// Writes a key of two parts, like `Type 3`.
    pub fn numbered_key(&mut self, name: &str, number: u64) -> &mut Self {
        self.comma();
        self.write("\"");
        self.write(name);
        self.write_number(number);
        self.write("\":");
        self.follows = false;
        self
    }

    /// Writes an integer.
    pub fn number(&mut self, value: u64) {
        self.comma();
        self.write_number(value);
    }

    /// Writes a key and an integer.
    pub fn field(&mut self, key: &str, value: u64) {
        self.key(key).number(value);
    }

    /// Writes a string with escapes.
    pub fn string(&mut self, value: &str) {
        self.comma();
        self.write("\"");
        // Parts without escapes are copied at once.
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

    /// Writes text that is JSON already, without a comma.
    pub(crate) fn raw(&mut self, json: &str) {
        self.write(json);
    }

    /// Writes an integer without a comma.
    pub(crate) fn raw_number(&mut self, value: u64) {
        self.write_number(value);
    }

    /// Starts an element of a long list on a new line, for readability.
    pub(crate) fn element(&mut self, start: &str) {
        self.write(if self.follows { ",\n" } else { "\n" });
        self.write(start);
        self.follows = true;
    }

    /// Writes a key and a string inside an [`element`](Self::element).
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
