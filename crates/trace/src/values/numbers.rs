//! [`Numbers`]: lists of object numbers.

use std::fmt;

use crate::bytes::{Input, add_difference, difference, put};
use crate::error::Damage;

/// A list of numbers of objects: of the caller, or encoded in a trace.
#[derive(Clone, Copy)]
pub struct Numbers<'a>(Kept<'a>);

#[derive(Clone, Copy)]
enum Kept<'a> {
    Slice(&'a [u32]),
    /// The bytes were checked when this was made.
    Encoded {
        count: usize,
        bytes: &'a [u8],
    },
}

impl<'a> Numbers<'a> {
    /// Wraps numbers of the caller.
    pub fn new(numbers: &'a [u32]) -> Self {
        Self(Kept::Slice(numbers))
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        match self.0 {
            Kept::Slice(numbers) => numbers.len(),
            Kept::Encoded { count, .. } => count,
        }
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Iterates over the numbers.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (slice, bytes): (&[u32], &[u8]) = match self.0 {
            Kept::Slice(numbers) => (numbers, &[]),
            Kept::Encoded { bytes, .. } => (&[], bytes),
        };
        let (mut input, mut last) = (Input::new(bytes, 0), 0);
        let encoded = std::iter::from_fn(move || {
            last = add_difference(last, input.number().ok()?);
            u32::try_from(last).ok()
        });
        slice.iter().copied().chain(encoded)
    }

    /// Appends the count, then each number as the difference to the one before.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.len() as u64);
        let mut last = 0;
        for number in self.iter().map(u64::from) {
            put(out, difference(number, last));
            last = number;
        }
    }

    pub(crate) fn decode(input: &mut Input<'a>) -> Result<Self, Damage> {
        let count = input.number()?;
        if count > input.left() as u64 {
            return input.wrong("a list is longer than the data");
        }
        let (mut ahead, mut last) = (*input, 0);
        for _ in 0..count {
            last = add_difference(last, ahead.number()?);
            if u32::try_from(last).is_err() {
                return ahead.wrong(format!("{last} is not the number of an object"));
            }
        }
        let bytes = input.take((ahead.index() - input.index()) as u64)?;
        Ok(Self(Kept::Encoded { count: count as usize, bytes }))
    }
}

impl PartialEq for Numbers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
