//! Writes JSON into one string: for dumps of a million allocations, so nothing is built in between.

/// A JSON text in the making. Commas are set by themselves; the caller keeps the brackets even.
#[derive(Default)]
pub struct JsonWriter {
    text: String,
    digits: itoa::Buffer,
    /// Something stands before the next value or key on its level.
    follows: bool,
}

impl JsonWriter {
    /// With room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ..Self::default() }
    }

    /// What was written.
    pub fn finish(self) -> String {
        self.text
    }

    fn comma(&mut self) {
        if self.follows {
            self.text.push(',');
        }
        self.follows = true;
    }

    fn open(&mut self, bracket: char) {
        self.comma();
        self.text.push(bracket);
        self.follows = false;
    }

    fn close(&mut self, bracket: char) {
        self.text.push(bracket);
        self.follows = true;
    }

    /// `{ ... }`
    pub fn object(&mut self, inside: impl FnOnce(&mut Self)) {
        self.open('{');
        inside(self);
        self.close('}');
    }

    /// `[ ... ]`
    pub fn array(&mut self, inside: impl FnOnce(&mut Self)) {
        self.open('[');
        inside(self);
        self.close(']');
    }

    /// The key of the value that is written next.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.string(key);
        self.text.push(':');
        self.follows = false;
        self
    }

    /// A key in two parts, as `Type 3`.
    pub fn numbered_key(&mut self, name: &str, number: u64) -> &mut Self {
        self.comma();
        self.text.push('"');
        self.text.push_str(name);
        self.text.push_str(self.digits.format(number));
        self.text.push_str("\":");
        self.follows = false;
        self
    }

    /// An integer.
    pub fn number(&mut self, value: u64) {
        self.comma();
        self.text.push_str(self.digits.format(value));
    }

    /// A key and an integer.
    pub fn field(&mut self, key: &str, value: u64) {
        self.key(key).number(value);
    }

    /// A text, escaped.
    pub fn string(&mut self, value: &str) {
        self.comma();
        self.text.push('"');
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
            self.text.push_str(&value[from..at]);
            from = at + 1;
            if escape.is_empty() {
                const HEX: [char; 16] = [
                    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
                ];
                self.text.push_str("\\u00");
                self.text.push(HEX[usize::from(byte >> 4)]);
                self.text.push(HEX[usize::from(byte & 15)]);
            } else {
                self.text.push_str(escape);
            }
        }
        self.text.push_str(&value[from..]);
        self.text.push('"');
    }

    /// Text that is JSON already and needs no comma.
    pub(crate) fn raw(&mut self, json: &str) {
        self.text.push_str(json);
    }

    /// The same for an integer.
    pub(crate) fn raw_number(&mut self, value: u64) {
        self.text.push_str(self.digits.format(value));
    }

    /// A line for each element of a long list: what a person may have to read.
    pub(crate) fn element(&mut self, start: &str) {
        self.text.push_str(if self.follows { ",\n" } else { "\n" });
        self.text.push_str(start);
        self.follows = true;
    }

    /// A key and a text, inside an [`element`](Self::element).
    pub(crate) fn raw_text(&mut self, key: &str, value: &str) {
        self.text.push_str(key);
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
        assert_eq!(json.finish(), written);
    }

    #[test]
    fn texts_are_escaped() {
        let mut json = JsonWriter::default();
        json.string("a\"b\\c\n\r\t\0\u{1f}\u{7f}é\u{2028}\u{1f600}</script>");
        let written = "\"a\\\"b\\\\c\\n\\r\\t\\u0000\\u001f\\u007fé\u{2028}\u{1f600}</script>\"";
        assert_eq!(json.finish(), written);
    }
}
