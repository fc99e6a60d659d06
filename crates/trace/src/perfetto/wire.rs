//! [`Message`]: the bytes of Protocol Buffers.

/// Messages of Protocol Buffers, appended one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

/// Returns the bytes of a number as LEB128.
fn varint_length(value: u64) -> usize {
    ((64 - value.leading_zeros()).max(1) as usize).div_ceil(7)
}

impl Message {
    /// Appends a number as LEB128: seven bits a byte, the lowest first.
    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// Appends a number.
    #[inline]
    pub fn number(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3);
        self.varint(value);
    }

    /// Appends a number of eight bytes.
    pub fn fixed(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3 | 1);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends a text.
    pub fn text(&mut self, field: u32, text: &str) {
        self.encoded(field, text.as_bytes());
    }

    /// Appends a message that is encoded already.
    pub fn encoded(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a message, which `fill` fills.
    #[inline]
    pub fn message(&mut self, field: u32, fill: impl FnOnce(&mut Self)) {
        self.varint(u64::from(field) << 3 | 2);
        let start = self.bytes.len();
        // Most have a length of one byte.
        self.bytes.push(0);
        fill(self);
        let length = (self.bytes.len() - start - 1) as u64;
        if length < 0x80 {
            self.bytes[start] = length as u8;
            return;
        }
        let more = varint_length(length) - 1;
        let end = self.bytes.len();
        self.bytes.resize(end + more, 0);
        self.bytes.copy_within(start + 1..end, start + 1 + more);
        let mut left = length;
        for byte in &mut self.bytes[start..=start + more] {
            *byte = left as u8 & 0x7F | if left >= 0x80 { 0x80 } else { 0 };
            left >>= 7;
        }
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Removes all bytes.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_the_specification() {
        let mut message = Message::default();
        message.number(1, 150);
        message.text(2, "testing");
        message.message(3, |it| it.number(1, 150));
        message.fixed(4, 1);
        let expected = b"\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01\x21\x01\0\0\0\0\0\0\0";
        assert_eq!(message.bytes(), expected);
    }

    #[test]
    fn lengths_of_any_size() {
        for length in [0, 1, 127, 128, 129, 16_383, 16_384, 3_000_000] {
            let mut message = Message::default();
            let text = "x".repeat(length);
            message.message(1, |it| it.bytes.extend_from_slice(text.as_bytes()));
            let mut whole = Message::default();
            whole.text(1, &text);
            assert_eq!(message.bytes(), whole.bytes(), "{length}");
        }
    }
}
