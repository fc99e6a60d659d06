//! [`HostRanges`]: the bytes of a non-coherent memory object that the host may have written without a
//! flush.
//!
//! An invalidate replaces the host's view by the device's, a flush does the opposite, and both affect
//! whole atoms of `nonCoherentAtomSize` bytes. So an invalidate must skip each atom that an open writer
//! may have written to, or it loses those writes; and before a writer writes part of an atom, the rest of
//! it has to be up to date, or the later flush gives stale bytes to the device.

use std::collections::BTreeMap;
use std::ops::Range;

/// The kind of writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostWriter {
    /// An open view of the memory: whether anything was written through it is unknown.
    View,
    /// A running copy, which flushes at its end.
    Copy,
}

/// The open writers of one memory object. Offsets are in bytes from its start.
#[derive(Debug, Default)]
pub struct HostRanges {
    /// End and kind of each writer, by its start and a unique number.
    open: BTreeMap<(u64, u64), (u64, HostWriter)>,
    /// Length of the longest open range in bytes: a search for the ranges that touch an offset starts
    /// this far before it.
    longest: u64,
    next: u64,
}

/// The id of an open writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterId(u64, u64);

/// Returns a range rounded outward to whole atoms.
fn rounded(range: &Range<u64>, atom: u64) -> Range<u64> {
    range.start / atom * atom..range.end.div_ceil(atom).saturating_mul(atom)
}

impl HostRanges {
    /// Adds a writer.
    pub fn open(&mut self, range: Range<u64>, writer: HostWriter) -> WriterId {
        if self.open.is_empty() {
            self.longest = 0;
        }
        self.longest = self.longest.max(range.end - range.start);
        self.next += 1;
        self.open.insert((range.start, self.next), (range.end, writer));
        WriterId(range.start, self.next)
    }

    /// Removes a writer.
    pub fn close(&mut self, WriterId(start, number): WriterId) {
        self.open.remove(&(start, number));
    }

    /// Returns the atoms of a range that open writers of the `wanted` kinds may have written to:
    /// disjoint, by ascending offset.
    pub fn written(
        &self,
        range: Range<u64>,
        atom: u64,
        wanted: impl Fn(HostWriter) -> bool,
    ) -> Vec<Range<u64>> {
        let whole = rounded(&range, atom);
        let mut found: Vec<Range<u64>> = Vec::new();
        if range.is_empty() {
            return found;
        }
        let from = whole.start.saturating_sub(self.longest);
        for (&(start, _), &(end, writer)) in self.open.range((from, 0)..(whole.end, 0)) {
            if end <= whole.start || start == end || !wanted(writer) {
                continue;
            }
            let it = rounded(&(start..end), atom);
            let it = it.start.max(whole.start)..it.end.min(whole.end);
            match found.last_mut() {
                Some(last) if it.start <= last.end => last.end = last.end.max(it.end),
                _ => found.push(it),
            }
        }
        found
    }

    /// Returns the atoms of a range that [`written`](Self::written) does not return.
    pub fn unwritten(
        &self,
        range: Range<u64>,
        atom: u64,
        wanted: impl Fn(HostWriter) -> bool,
    ) -> Vec<Range<u64>> {
        if range.is_empty() {
            return Vec::new();
        }
        let whole = rounded(&range, atom);
        let mut found = Vec::new();
        let mut from = whole.start;
        for written in self.written(range, atom, wanted) {
            if from < written.start {
                found.push(from..written.start);
            }
            from = written.end;
        }
        if from < whole.end {
            found.push(from..whole.end);
        }
        found
    }
}

/// Returns the atoms that a range covers in part: at most two.
pub fn edges(range: Range<u64>, atom: u64) -> impl Iterator<Item = Range<u64>> {
    let Range { start, end } = range;
    let first = start / atom * atom;
    let last = end / atom * atom;
    let first = (start < end && (start > first || end < first + atom)).then_some(first);
    let last = (start < end && end > last && Some(last) != first).then_some(last);
    first.into_iter().chain(last).map(move |it| it..it + atom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(_: HostWriter) -> bool {
        true
    }

    #[test]
    fn atoms_that_a_range_covers_in_part() {
        let edges = |range| edges(range, 16).map(|it| (it.start, it.end)).collect::<Vec<_>>();
        assert_eq!(edges(0..32), []);
        assert_eq!(edges(16..16), []);
        assert_eq!(edges(3..3), []);
        assert_eq!(edges(1..32), [(0, 16)]);
        assert_eq!(edges(0..33), [(32, 48)]);
        assert_eq!(edges(15..17), [(0, 16), (16, 32)]);
        assert_eq!(edges(17..31), [(16, 32)]);
        assert_eq!(edges(16..31), [(16, 32)]);
        assert_eq!(edges(17..32), [(16, 32)]);
    }

    #[test]
    fn what_is_written_and_the_rest_are_all_atoms_of_a_range() {
        // Compared with a list of bytes, for all small ranges.
        const ATOM: u64 = 4;
        let opened = [0..3, 5..6, 6..7, 9..9, 17..30, 18..19, 38..40];
        let mut ranges = HostRanges::default();
        let mut ids = Vec::new();
        for (index, range) in opened.iter().enumerate() {
            let writer = if index % 2 == 0 { HostWriter::View } else { HostWriter::Copy };
            ids.push(ranges.open(range.clone(), writer));
            for start in 0..44 {
                for end in start..44 {
                    check(&ranges, &opened[..=index], start..end, ATOM);
                }
            }
        }
        for (index, id) in ids.into_iter().enumerate() {
            ranges.close(id);
            check(&ranges, &opened[index + 1..], 1..43, ATOM);
        }
        assert_eq!(ranges.written(0..100, ATOM, any), []);
    }

    fn check(ranges: &HostRanges, opened: &[Range<u64>], range: Range<u64>, atom: u64) {
        let written = ranges.written(range.clone(), atom, any);
        let unwritten = ranges.unwritten(range.clone(), atom, any);
        let atoms =
            if range.is_empty() { 0..0 } else { range.start / atom..range.end.div_ceil(atom) };
        for it in 0..60 {
            let bytes = it * atom..(it + 1) * atom;
            let touches = |open: &Range<u64>| {
                !open.is_empty() && open.start < bytes.end && open.end > bytes.start
            };
            let is_written = opened.iter().any(touches);
            let covers = |parts: &[Range<u64>]| parts.iter().any(|it| it.contains(&bytes.start));
            assert_eq!(covers(&written), atoms.contains(&it) && is_written, "{range:?} {it}");
            assert_eq!(covers(&unwritten), atoms.contains(&it) && !is_written, "{range:?} {it}");
        }
    }

    #[test]
    fn kinds_are_told_apart() {
        let mut ranges = HostRanges::default();
        ranges.open(0..10, HostWriter::View);
        ranges.open(100..110, HostWriter::Copy);
        let copies = |it| it == HostWriter::Copy;
        assert_eq!(ranges.written(0..200, 4, copies), vec![100..112; 1]);
        assert_eq!(ranges.unwritten(0..200, 4, copies), [0..100, 112..200]);
    }
}
