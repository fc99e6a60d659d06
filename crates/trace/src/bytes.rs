//! Numbers as bytes: LEB128, zigzag, and a reader that never passes the end of its input.

use crate::error::Damage;

/// Takes bytes and LEB128 numbers, one after the other.
pub(crate) trait Bytes {
    fn push(&mut self, byte: u8);

    /// Appends a number: seven bits a byte, the lowest first; all bytes but the last have the top bit set.
    #[inline]
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }
}

impl Bytes for Vec<u8> {
    #[inline]
    fn push(&mut self, byte: u8) {
        self.push(byte);
    }
}

/// The room that [`Short`] writes to. An event has at most 14 numbers of 10 bytes; a number is written as eight bytes, of
/// which the next one takes back what is too much.
pub(crate) const SHORT: usize = 160;

/// The bytes of one event, which are few, at the end of a vector: without the checks that growing takes.
#[derive(Debug)]
pub(crate) struct Short<'o> {
    bytes: &'o mut [u8; SHORT],
    length: usize,
}

impl Short<'_> {
    /// Calls `fill`, and appends what it writes.
    #[inline]
    pub fn append<R>(out: &mut Vec<u8>, fill: impl FnOnce(&mut Short<'_>) -> R) -> R {
        let before = out.len();
        out.resize(before + SHORT, 0);
        let bytes = out.last_chunk_mut().expect("it is as long as that");
        let mut short = Short { bytes, length: 0 };
        let result = fill(&mut short);
        let length = short.length;
        out.truncate(before + length);
        result
    }
}

impl Bytes for Short<'_> {
    #[inline]
    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    /// Whether a number has one byte is easy to predict, as most fields are small or large all the time. The lengths of
    /// others are not: their bits are spread to sevens in three steps, without a branch.
    #[inline]
    fn number(&mut self, value: u64) {
        if value < 0x80 {
            return self.push(value as u8);
        }
        if value >> 56 != 0 {
            return self.large_number(value);
        }
        let groups = (70 - (value | 1).leading_zeros()) / 7;
        let mut bits = value;
        bits = bits << 4 & 0x0FFF_FFFF_0000_0000 | bits & 0x0FFF_FFFF;
        bits = bits << 2 & 0x3FFF_0000_3FFF_0000 | bits & 0x0000_3FFF_0000_3FFF;
        bits = bits << 1 & 0x7F00_7F00_7F00_7F00 | bits & 0x007F_007F_007F_007F;
        let continued = 0x8080_8080_8080_8080 & ((1 << (8 * (groups - 1))) - 1);
        self.bytes[self.length..self.length + 8].copy_from_slice(&(bits | continued).to_le_bytes());
        self.length += groups as usize;
    }
}

impl Short<'_> {
    #[cold]
    fn large_number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }
}

/// Appends a number as LEB128.
#[inline]
pub(crate) fn put<B: Bytes>(out: &mut B, value: u64) {
    out.number(value);
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
        let edges =
            (0..64).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1, !(1 << bits)]);
        for value in edges.chain([u64::MAX]) {
            let mut out = Vec::new();
            put(&mut out, value);
            assert!(out.len() <= 10);
            let mut input = Input::new(&out, 0);
            assert_eq!(input.number(), Ok(value));
            assert!(input.is_empty());
            let mut short = vec![7];
            Short::append(&mut short, |short| put(short, value));
            assert_eq!(short[1..], out);
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
