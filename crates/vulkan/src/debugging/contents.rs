//! What memory is expected to hold, and where it differs from that.

use vkmem_engine::{Difference, Pattern};

/// How many of the bytes that were found are kept.
const KEPT: usize = 64;

/// Bytes that are compared at a time.
const STEP: usize = 256;

/// What a range of a memory object is expected to hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    Pattern(Pattern),
    Byte(u8),
}

impl Expected {
    /// Writes the bytes from `offset` of the memory object on.
    pub(super) fn fill(self, offset: u64, into: &mut [u8]) {
        match self {
            Self::Pattern(pattern) => pattern.fill(offset, into),
            Self::Byte(byte) => into.fill(byte),
        }
    }

    fn first_difference(self, offset: u64, found: &[u8]) -> Option<Difference> {
        match self {
            Self::Pattern(pattern) => pattern.first_difference(offset, found),
            Self::Byte(byte) => {
                // In pieces that the compiler turns into a few instructions.
                let is_same = |it: &[u8]| it.iter().fold(0, |all, it| all | (it ^ byte)) == 0;
                if found.chunks(STEP).all(is_same) {
                    return None;
                }
                let differs = |it: &u8| *it != byte;
                let first = found.iter().position(differs)?;
                let last = found.iter().rposition(differs)?;
                Some(Difference {
                    offset: offset + first as u64,
                    length: (last - first) as u64 + 1,
                    count: found[first..=last].iter().filter(|it| differs(it)).count() as u64,
                })
            }
        }
    }
}

/// The comparison of one range, of which the bytes come in parts by ascending offset.
#[derive(Debug)]
pub(super) struct Comparison {
    expected: Expected,
    /// The difference so far, with the bytes found from the first one on.
    found: Option<(Difference, Vec<u8>)>,
}

impl Comparison {
    pub(super) fn new(expected: Expected) -> Self {
        Self { expected, found: None }
    }

    /// Compares the next bytes, which were read from `offset` of the memory object on.
    pub(super) fn add(&mut self, offset: u64, bytes: &[u8]) {
        let here = self.expected.first_difference(offset, bytes);
        match (&mut self.found, here) {
            (None, None) => {}
            (None, Some(here)) => {
                let from = (here.offset - offset) as usize;
                let to = bytes.len().min(from + KEPT);
                self.found = Some((here, bytes[from..to].to_vec()));
            }
            (Some((all, kept)), here) => {
                // Bytes that are not next to those before are none of these.
                if all.offset + kept.len() as u64 == offset {
                    kept.extend(&bytes[..bytes.len().min(KEPT - kept.len())]);
                }
                if let Some(here) = here {
                    all.length = here.offset + here.length - all.offset;
                    all.count += here.count;
                }
            }
        }
    }

    /// Returns where the range differs, the bytes found there and the bytes expected; `None` if it does not.
    pub(super) fn finish(self) -> Option<(Difference, Vec<u8>, Vec<u8>)> {
        let (difference, mut found) = self.found?;
        // What lies behind the last wrong byte is as it was.
        found.truncate(usize::try_from(difference.length).unwrap_or(usize::MAX));
        let mut expected = vec![0; found.len()];
        self.expected.fill(difference.offset, &mut expected);
        Some((difference, found, expected))
    }
}

#[cfg(test)]
mod tests {
    use vkmem_engine::MemoryHandle;

    use super::*;

    fn compare(
        expected: Expected,
        bytes: &[u8],
        step: usize,
    ) -> Option<(Difference, Vec<u8>, Vec<u8>)> {
        let mut comparison = Comparison::new(expected);
        for (at, part) in bytes.chunks(step).enumerate() {
            comparison.add(1000 + (at * step) as u64, part);
        }
        comparison.finish()
    }

    #[test]
    fn a_difference_is_the_one_of_the_whole_whatever_the_parts() {
        for expected in [Expected::Byte(0xEF), Expected::Pattern(Pattern::new(7, MemoryHandle(3)))]
        {
            let mut whole = vec![0; 300];
            expected.fill(1000, &mut whole);
            for changed in [vec![], vec![0], vec![299], vec![5, 6, 130], vec![120, 290]] {
                let mut bytes = whole.clone();
                changed.iter().for_each(|at| bytes[*at] ^= 0x10);
                let outcome = changed.first().zip(changed.last()).map(|(&first, &last)| {
                    let difference = Difference {
                        offset: 1000 + first as u64,
                        length: (last - first) as u64 + 1,
                        count: changed.len() as u64,
                    };
                    let end = (last + 1).min(first + KEPT);
                    (difference, bytes[first..end].to_vec(), whole[first..end].to_vec())
                });
                for step in [1, 7, 64, 100, 300] {
                    assert_eq!(compare(expected, &bytes, step), outcome, "{changed:?} {step}");
                }
            }
        }
    }
}
