//! `bufferImageGranularity`: which neighbours may share a page.
//!
//! No table of pages is kept. All live regions that touch one page are compatible with each other,
//! because each was checked when it was placed; so a new region is only compared with its nearest live
//! neighbour on either side: O(1) time and no memory.

use crate::request::ResourceKind;

/// Returns whether two resources must not share a page.
pub fn conflict(a: ResourceKind, b: ResourceKind) -> bool {
    use ResourceKind::{Buffer, ImageLinear, ImageOptimal};
    match (a, b) {
        (Buffer | ImageLinear, Buffer | ImageLinear) | (ImageOptimal, ImageOptimal) => false,
        // A linear resource beside an optimal one, or a resource whose tiling is not known.
        _ => true,
    }
}

/// The live neighbour of a gap.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour {
    /// Offset in the block, in bytes: the end of the neighbour before the gap, or the start of the one
    /// after it.
    pub edge: u64,
    /// The kind of resource in it.
    pub kind: ResourceKind,
}

/// A free range between two live neighbours; at the borders of the block one of them is missing.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// Offset of its first byte, which is the end of the neighbour before.
    pub start: u64,
    /// Offset of its end, which is the start of the neighbour after.
    pub end: u64,
    /// The live region before.
    pub before: Option<Neighbour>,
    /// The live region after.
    pub after: Option<Neighbour>,
}

/// Returns the first offset in a gap where a region of `size` bytes can be placed, if there is one.
/// `alignment` and `granularity` are powers of two, in bytes.
pub fn place_in_gap(
    gap: &Gap,
    size: u64,
    alignment: u64,
    kind: ResourceKind,
    granularity: u64,
) -> Option<u64> {
    let page_of = |offset: u64| offset & !(granularity - 1);
    let mut offset = align_up(gap.start, alignment)?;
    if let Some(before) = gap.before
        && conflict(before.kind, kind)
        && page_of(before.edge - 1) == page_of(offset)
    {
        offset = align_up(offset, granularity.max(alignment))?;
    }
    let end = offset.checked_add(size)?;
    if end > gap.end {
        return None;
    }
    // After the offset was moved: the end may have reached another page.
    if let Some(after) = gap.after
        && conflict(after.kind, kind)
        && page_of(end - 1) == page_of(after.edge)
    {
        return None;
    }
    Some(offset)
}

/// Rounds `value` up to a multiple of `alignment`, a power of two; `None` on overflow.
pub fn align_up(value: u64, alignment: u64) -> Option<u64> {
    debug_assert!(alignment.is_power_of_two());
    Some(value.checked_add(alignment - 1)? & !(alignment - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ResourceKind::*;

    #[test]
    fn conflicts_follow_the_specification() {
        for kind in [Unknown, ImageUnknown] {
            for other in [Unknown, Buffer, ImageUnknown, ImageLinear, ImageOptimal] {
                assert!(conflict(kind, other) && conflict(other, kind));
            }
        }
        assert!(conflict(ImageOptimal, Buffer) && conflict(ImageLinear, ImageOptimal));
        assert!(!conflict(Buffer, Buffer) && !conflict(ImageOptimal, ImageOptimal));
        assert!(!conflict(Buffer, ImageLinear) && !conflict(ImageLinear, Buffer));
    }

    fn gap(
        start: u64,
        end: u64,
        size: u64,
        before: Option<ResourceKind>,
        after: Option<ResourceKind>,
    ) -> Option<u64> {
        let at = |edge, kind: Option<ResourceKind>| kind.map(|kind| Neighbour { edge, kind });
        let gap = Gap { start, end, before: at(start, before), after: at(end, after) };
        place_in_gap(&gap, size, 16, ImageOptimal, 1024)
    }

    #[test]
    fn a_conflict_before_moves_to_the_next_page() {
        assert_eq!(gap(16, 4096, 100, Some(Buffer), None), Some(1024));
        assert_eq!(gap(16, 4096, 100, Some(ImageOptimal), None), Some(16));
        assert_eq!(gap(1024, 4096, 100, Some(Buffer), None), Some(1024));
    }

    #[test]
    fn a_conflict_after_refuses_also_when_the_first_one_moved_it() {
        assert_eq!(gap(0, 1536, 1536, None, Some(Buffer)), None);
        assert_eq!(gap(0, 1536, 1024, None, Some(Buffer)), Some(0));
        assert_eq!(gap(16, 2560, 1024, Some(Buffer), Some(Buffer)), Some(1024));
        assert_eq!(gap(16, 2560, 1025, Some(Buffer), Some(Buffer)), None);
    }

    #[test]
    fn nothing_overflows() {
        let alone = |start, size| {
            let gap = Gap { start, end: u64::MAX, before: None, after: None };
            place_in_gap(&gap, size, 16, Buffer, 1)
        };
        assert_eq!(alone(u64::MAX - 3, 1), None);
        assert_eq!(alone(0, u64::MAX), Some(0));
        assert_eq!(alone(8, u64::MAX), None);
    }
}
