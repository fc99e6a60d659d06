//! Numbers as bytes: LEB128, zigzag, and a reader that never passes the end of its input.

use crate::error::Damage;

/// Appends a number as LEB128: seven bits a byte, the lowest first; all bytes but the last have the top bit set.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    if value < 0x80 {
        return out.push(value as u8);
    }
    let (mut bytes, mut length) = ([0; 10], 0);
    while value >= 0x80 {
        bytes[length] = value as u8 | 0x80;
        value >>= 7;
        length += 1;
    }
    bytes[length] = value as u8;
    out.extend_from_slice(&bytes[..=length]);
}

/// Appends bytes after their number.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Maps small numbers of either sign to small numbers: 0, -1, 1, -2, 2 become 0, 1, 2, 3, 4.
#[inline]
pub(crate) fn zigzag(value: i64) -> u64 {
    (value << 1) as u64 ^ (value >> 63) as u64
}

/// Inverse of [`zigzag`].
#[inline]
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Returns the zigzag number of the difference of two numbers, modulo 2^64.
#[inline]
pub(crate) fn difference(value: u64, base: u64) -> u64 {
    zigzag(value.wrapping_sub(base) as i64)
}

/// Inverse of [`difference`].
#[inline]
pub(crate) fn add_difference(base: u64, difference: u64) -> u64 {
    base.wrapping_add(unzigzag(difference) as u64)
}

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Offset of the first byte in the file, for messages.
    base: u64,
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8], base: u64) -> Self {
        Self { bytes, at: 0, base }
    }

    /// Returns the offset of the next byte in the file.
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Returns the index of the next byte in the input.
    pub fn index(&self) -> usize {
        self.at
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub fn is_empty(&self) -> bool {
        self.left() == 0
    }

    pub fn wrong<T>(&self, what: impl Into<String>) -> Result<T, Damage> {
        Err(Damage::new(self.offset(), what))
    }

    #[cold]
    fn ends<T>(&self) -> Result<T, Damage> {
        self.wrong("the data end in the middle of a value")
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, Damage> {
        let Some(&byte) = self.bytes.get(self.at) else { return self.ends() };
        self.at += 1;
        Ok(byte)
    }

    /// Takes the next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: u64) -> Result<&'a [u8], Damage> {
        if count > self.left() as u64 {
            return self.ends();
        }
        let taken = &self.bytes[self.at..self.at + count as usize];
        self.at += count as usize;
        Ok(taken)
    }

    /// Takes `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let taken = self.take(N as u64)?;
        Ok(taken.try_into().expect("as many as were taken"))
    }

    /// Takes bytes after their number.
    pub fn sized(&mut self) -> Result<&'a [u8], Damage> {
        let count = self.number()?;
        self.take(count)
    }

    /// Takes a LEB128 number.
    #[inline]
    pub fn number(&mut self) -> Result<u64, Damage> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7F);
        for shift in (7..70).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        self.wrong("a number is longer than 64 bits")
    }

    /// Takes a LEB128 number of at most 32 bits.
    #[inline]
    pub fn small(&mut self) -> Result<u32, Damage> {
        let number = self.number()?;
        match u32::try_from(number) {
            Ok(small) => Ok(small),
            Err(_) => self.wrong(format!("{number} where 32 bits are the most")),
        }
    }

    /// Takes text of a given number of bytes.
    pub fn text(&mut self) -> Result<&'a str, Damage> {
        let bytes = self.sized()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(_) => self.wrong("text is not UTF-8"),
        }
    }
}

const fn crc_tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0x82F6_3B78 } else { value >> 1 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before: u32 = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][(before & 0xFF) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

static CRC: [[u32; 256]; 8] = crc_tables();

/// Returns the CRC-32C (Castagnoli) of the bytes, eight at a time.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    let (eights, rest) = bytes.as_chunks::<8>();
    for eight in eights {
        let word = u64::from_le_bytes(*eight) ^ u64::from(crc);
        crc = (0..8).fold(0, |sum, at| sum ^ CRC[7 - at][(word >> (8 * at) & 0xFF) as usize]);
    }
    for byte in rest {
        crc = crc >> 8 ^ CRC[0][((crc ^ u32::from(*byte)) & 0xFF) as usize];
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert!(out.len() <= 10);
            let mut input = Input::new(&out, 0);
            assert_eq!(input.number(), Ok(value));
            assert!(input.is_empty());
            assert_eq!(add_difference(5, difference(value, 5)), value);
            assert_eq!(unzigzag(value), unzigzag(zigzag(unzigzag(value))));
        }
    }

    #[test]
    fn bad_numbers_are_errors_with_their_offset() {
        assert_eq!(Input::new(&[0x80], 7).number().unwrap_err().offset, 8);
        let long = [[0xFF; 9].as_slice(), &[2]].concat();
        assert!(Input::new(&long, 0).number().is_err());
        assert!(Input::new(&[0xFF; 20], 0).number().is_err());
        assert!(Input::new(&[0xFF, 0xFF, 0xFF, 0xFF, 0x7F], 0).small().is_err());
        assert!(Input::new(&[5, b'a'], 0).text().is_err());
        assert!(Input::new(&[1, 0xFF], 0).text().is_err());
    }

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[]), 0);
    }
}
