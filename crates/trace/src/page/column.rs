//! [`Column`]: numbers as bytes.

use crate::bytes::{difference, put};

/// How the numbers of a column are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Each as it is.
    Plain,
    /// The difference to the one before.
    Delta,
}

impl Encoding {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Delta => "delta",
        }
    }
}

/// Collects columns.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub bytes: Vec<u8>,
    /// Name, encoding, number of entries and of bytes of each.
    pub list: Vec<(&'static str, &'static str, usize, usize)>,
}

impl Columns {
    /// Appends a column.
    pub fn add(
        &mut self,
        name: &'static str,
        encoding: Encoding,
        values: impl Iterator<Item = u64>,
    ) {
        let (before, mut count, mut last) = (self.bytes.len(), 0, 0);
        for value in values {
            match encoding {
                Encoding::Plain => put(&mut self.bytes, value),
                Encoding::Delta => put(&mut self.bytes, difference(value, last)),
            }
            last = value;
            count += 1;
        }
        self.list.push((name, encoding.name(), count, self.bytes.len() - before));
    }
}
