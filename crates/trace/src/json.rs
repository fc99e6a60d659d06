//! [`Json`]: a writer of JSON texts.

use std::fmt::{Display, Write};

/// A JSON text while it is written. Commas are set where they belong.
#[derive(Debug, Default)]
pub(crate) struct Json {
    text: String,
}

impl Json {
    /// Separates a value from the one before it.
    fn separate(&mut self) {
        if !matches!(self.text.as_bytes().last(), None | Some(b'{' | b'[' | b':')) {
            self.text.push(',');
        }
    }

    /// Writes an object, whose members `fill` writes.
    pub fn object(&mut self, fill: impl FnOnce(&mut Self)) {
        self.separate();
        self.text.push('{');
        fill(self);
        self.text.push('}');
    }

    /// Writes a list, whose values `fill` writes.
    pub fn list(&mut self, fill: impl FnOnce(&mut Self)) {
        self.separate();
        self.text.push('[');
        fill(self);
        self.text.push(']');
    }

    /// Writes the key of the value that is written next.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.string(key);
        self.text.push(':');
        self
    }

    /// Writes a text.
    pub fn string(&mut self, value: &str) {
        self.separate();
        self.text.push('"');
        for letter in value.chars() {
            match letter {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                letter if u32::from(letter) < 0x20 => {
                    let _ = write!(self.text, "\\u{:04x}", u32::from(letter));
                }
                letter => self.text.push(letter),
            }
        }
        self.text.push('"');
    }

    /// Writes a number, a truth value or `null`, as it shows itself.
    pub fn value(&mut self, value: impl Display) {
        self.separate();
        let _ = write!(self.text, "{value}");
    }

    /// Returns what is written so far, and begins anew.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_separated_and_escaped() {
        let mut json = Json::default();
        json.object(|json| {
            json.key("a").string("\"\\\n\u{1}ß");
            json.key("b").list(|json| {
                json.value(1);
                json.value(-2.5);
                json.object(|_| {});
            });
            json.key("c").value(true);
        });
        assert_eq!(json.take(), r#"{"a":"\"\\\n\u0001ß","b":[1,-2.5,{}],"c":true}"#);
    }
}
