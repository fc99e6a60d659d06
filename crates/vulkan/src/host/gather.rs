//! Arrays whose elements do not lie one behind the other, copied to where they do.

use std::ops::Range;

/// An array in memory, as the buffer protocol describes it. Its elements are counted in C's order.
#[derive(Clone, Debug)]
pub struct StridedArray {
    address: usize,
    item: usize,
    /// Number of elements and distance in bytes of each dimension, the innermost last. Those that run on
    /// into each other are one.
    dimensions: Vec<(usize, isize)>,
    count: usize,
}

impl StridedArray {
    /// Describes an array by the address of its first element, the bytes of an element, and the number of elements
    /// and the distance in bytes of each dimension.
    pub fn new(address: usize, item: usize, shape: &[usize], strides: &[isize]) -> Self {
        let mut dimensions: Vec<(usize, isize)> = Vec::with_capacity(shape.len());
        for (&count, &stride) in shape.iter().zip(strides).filter(|(count, _)| **count != 1) {
            match dimensions.last_mut() {
                Some(outer) if outer.1 == stride.wrapping_mul(count as isize) => {
                    *outer = (outer.0 * count, stride);
                }
                _ => dimensions.push((count, stride)),
            }
        }
        if dimensions.is_empty() {
            dimensions.push((1, item as isize));
        }
        Self { address, item, dimensions, count: shape.iter().product() }
    }

    /// Bytes of all elements together.
    pub fn size(&self) -> usize {
        self.count * self.item
    }

    /// From the lowest address of an element to behind the highest one.
    pub fn bounds(&self) -> Range<usize> {
        if self.count == 0 {
            return self.address..self.address;
        }
        let (mut low, mut high) = (self.address, self.address + self.item);
        for (count, stride) in &self.dimensions {
            let reach = (*count as isize - 1) * stride;
            let end = if reach < 0 { &mut low } else { &mut high };
            *end = end.wrapping_add_signed(reach);
        }
        low..high
    }

    /// The address of the first row, and the bytes from one row to the next and from one slice to the next, where the
    /// array is slices of `rows` rows of `row` bytes each, and no row has gaps.
    pub fn pitches(&self, row: usize, rows: usize) -> Option<(usize, usize, usize)> {
        let (&(inner, stride), outer) = self.dimensions.split_last()?;
        let run = inner * self.item;
        if stride != self.item as isize || row == 0 || rows == 0 {
            return None;
        }
        let pitch = |index: usize| usize::try_from(outer[index].1).ok();
        let (row_pitch, slice_pitch) = match outer {
            [_] if run == row * rows => (row, pitch(0)?),
            [(count, _)] if run == row && count.is_multiple_of(rows) => {
                (pitch(0)?, pitch(0)? * rows)
            }
            [_, (count, _)] if run == row && *count == rows => (pitch(1)?, pitch(0)?),
            _ => return None,
        };
        Some((self.address, row_pitch, slice_pitch))
    }

    /// Copies `length` bytes of the elements from byte `from` on to an address, both multiples of an
    /// element's bytes.
    ///
    /// # Safety
    /// The array is valid for reading, the range lies in it, and the target is valid for writing.
    pub unsafe fn gather(&self, from: usize, length: usize, to: usize) {
        debug_assert!(from.is_multiple_of(self.item) && length.is_multiple_of(self.item));
        let (mut left, mut to) = (length / self.item, to);
        let mut index = vec![0; self.dimensions.len()];
        let mut rest = from / self.item;
        for (place, (count, _)) in index.iter_mut().zip(&self.dimensions).rev() {
            (*place, rest) = (rest % count, rest / count);
        }
        let last = self.dimensions.len() - 1;
        let (inner, stride) = self.dimensions[last];
        while left > 0 {
            let run = left.min(inner - index[last]);
            let offset = |(at, (_, stride)): (&usize, &(usize, isize))| (*at as isize) * stride;
            let start: isize = index.iter().zip(&self.dimensions).map(offset).sum();
            // SAFETY: the elements of the run lie in the array, which the caller vouches for, and there is
            // room for so many.
            unsafe {
                copy_run(self.address.wrapping_add_signed(start), stride, self.item, run, to)
            };
            (left, to) = (left - run, to + run * self.item);
            index[last] += run;
            for outer in (1..=last).rev() {
                if index[outer] == self.dimensions[outer].0 {
                    index[outer] = 0;
                    index[outer - 1] += 1;
                }
            }
        }
    }
}

/// Copies elements that lie `stride` bytes apart.
///
/// # Safety
/// All of them are valid for reading, and the target for writing.
unsafe fn copy_run(from: usize, stride: isize, item: usize, count: usize, to: usize) {
    if stride == item as isize {
        // SAFETY: one behind the other; the rest is the caller's.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, count * item) };
        return;
    }
    macro_rules! each {
        ($kind:ty) => {
            for index in 0..count {
                let from = from.wrapping_add_signed(index as isize * stride) as *const $kind;
                let to = (to + index * item) as *mut $kind;
                // SAFETY: of the caller.
                unsafe { to.write_unaligned(from.read_unaligned()) };
            }
        };
    }
    match item {
        1 => each!(u8),
        2 => each!(u16),
        4 => each!(u32),
        8 => each!(u64),
        16 => each!(u128),
        _ => {
            for index in 0..count {
                let from = from.wrapping_add_signed(index as isize * stride) as *const u8;
                let to = (to + index * item) as *mut u8;
                // SAFETY: of the caller.
                unsafe { std::ptr::copy_nonoverlapping(from, to, item) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The elements in C's order, by the book.
    fn expected(
        memory: &[u8],
        start: usize,
        item: usize,
        shape: &[usize],
        strides: &[isize],
    ) -> Vec<u8> {
        let count: usize = shape.iter().product();
        let mut found = Vec::new();
        for number in 0..count {
            let (mut rest, mut at) = (number, start as isize);
            for (size, stride) in shape.iter().zip(strides).rev() {
                at += (rest % size) as isize * stride;
                rest /= size;
            }
            found.extend_from_slice(&memory[at as usize..at as usize + item]);
        }
        found
    }

    #[test]
    fn elements_arrive_in_the_order_of_c() {
        let memory: Vec<u8> = (0..20_000_u32).map(|it| (it * 7 + it / 251) as u8).collect();
        let address = memory.as_ptr().expose_provenance();
        let cases: [(usize, usize, &[usize], &[isize]); 9] = [
            (0, 4, &[10, 20], &[80, 4]),
            (0, 4, &[20, 10], &[4, 80]),
            (0, 1, &[3, 5, 7], &[1, 3, 15]),
            (0, 8, &[6, 4, 5], &[400, 80, 16]),
            (796, 4, &[10, 20], &[-80, -4]),
            (0, 3, &[7, 9], &[90, 3]),
            (0, 2, &[11], &[6]),
            (5, 16, &[1, 4, 1, 3], &[999, 64, 7, 16]),
            (0, 12, &[], &[]),
        ];
        for (start, item, shape, strides) in cases {
            let array = StridedArray::new(address + start, item, shape, strides);
            let wanted = expected(&memory, start, item, shape, strides);
            assert_eq!(array.size(), wanted.len());
            let count = wanted.len() / item;
            for (first, last) in [(0, count), (1, count), (count / 3, count / 2), (0, 1)] {
                let (from, length) = (first * item, last.saturating_sub(first) * item);
                let mut target = vec![0xee_u8; length + 8];
                let to = target.as_mut_ptr().expose_provenance();
                // SAFETY: inside of the memory above, and of the target.
                unsafe { array.gather(from, length, to) };
                assert_eq!(target[..length], wanted[from..from + length], "{shape:?} {strides:?}");
                assert_eq!(target[length..], [0xee; 8]);
            }
        }
    }

    #[test]
    fn rows_of_an_array_that_lie_some_bytes_apart() {
        let of = |shape: &[usize], strides: &[isize]| StridedArray::new(64, 4, shape, strides);
        // Every other column of 10; of these rows, every other one; slices of 100 rows.
        assert_eq!(of(&[6, 5], &[40, 4]).pitches(20, 6), Some((64, 40, 240)));
        assert_eq!(of(&[6, 5], &[40, 4]).pitches(20, 3), Some((64, 40, 120)));
        assert_eq!(of(&[2, 3, 5], &[400, 40, 4]).pitches(20, 3), Some((64, 40, 400)));
        assert_eq!(of(&[2, 3, 5], &[400, 20, 4]).pitches(20, 3), Some((64, 20, 400)));
        // Channels of 4 bytes are a part of their row.
        assert_eq!(of(&[6, 5, 2], &[80, 8, 4]).pitches(40, 6), Some((64, 80, 480)));
        // Columns with gaps, rows upside down, rows that are cut elsewhere.
        assert_eq!(of(&[6, 5], &[40, 8]).pitches(20, 6), None);
        assert_eq!(of(&[6, 5], &[-40, 4]).pitches(20, 6), None);
        assert_eq!(of(&[6, 5], &[40, 4]).pitches(10, 12), None);
        assert_eq!(of(&[6, 5], &[40, 4]).pitches(20, 4), None);
        assert_eq!(of(&[2, 3, 5], &[400, 40, 4]).pitches(20, 2), None);
    }
}
