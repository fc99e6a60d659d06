//! [`Away`]: the parts of exclusive resources that the second queue's family owns.

use std::collections::{HashMap, HashSet};

use ash::vk::{self, Handle};

use crate::driver::ownership::{BufferRange, merged};

/// What the second queue's family owns.
#[derive(Debug, Default)]
pub(super) struct Away {
    /// Ranges of buffers, by handle: ascending pairs of first byte and the one behind the last.
    buffers: HashMap<u64, Vec<(u64, u64)>>,
    /// Mip levels and layers of images, by handle.
    images: HashMap<u64, HashSet<(u32, u32)>>,
}

fn ends(range: &BufferRange) -> (u64, u64) {
    (range.offset, range.offset.saturating_add(range.size))
}

impl Away {
    /// Returns whether the main family owns everything.
    pub(super) fn is_empty(&self) -> bool {
        self.buffers.values().all(Vec::is_empty) && self.images.values().all(HashSet::is_empty)
    }

    pub(super) fn take(&mut self, range: &BufferRange) {
        let owned = self.buffers.entry(range.buffer.as_raw()).or_default();
        owned.push(ends(range));
        *owned = merged(std::mem::take(owned)).collect();
    }

    pub(super) fn give(&mut self, range: &BufferRange) {
        let (start, end) = ends(range);
        let Some(owned) = self.buffers.get_mut(&range.buffer.as_raw()) else { return };
        let pieces = |(from, to): &(u64, u64)| {
            let before = (*from, (*to).min(start));
            let after = ((*from).max(end), *to);
            [before, after].into_iter().filter(|(from, to)| from < to)
        };
        *owned = owned.iter().flat_map(pieces).collect();
    }

    pub(super) fn has_all(&self, range: &BufferRange) -> bool {
        let (start, end) = ends(range);
        let owned = self.buffers.get(&range.buffer.as_raw());
        owned.is_some_and(|it| it.iter().any(|(from, to)| *from <= start && end <= *to))
    }

    pub(super) fn has_any(&self, range: &BufferRange) -> bool {
        let (start, end) = ends(range);
        let owned = self.buffers.get(&range.buffer.as_raw());
        owned.is_some_and(|it| it.iter().any(|(from, to)| *from < end && start < *to))
    }

    pub(super) fn owned_of(&mut self, image: vk::Image) -> &mut HashSet<(u32, u32)> {
        self.images.entry(image.as_raw()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_taken_and_given_in_parts() {
        let range = |offset, size| BufferRange { buffer: vk::Buffer::from_raw(5), offset, size };
        let mut away = Away::default();
        assert!(!away.has_any(&range(0, 100)));
        away.take(&range(0, 100));
        away.take(&range(100, 100));
        assert!(away.has_all(&range(50, 100)));
        away.give(&range(90, 20));
        assert!(away.has_all(&range(0, 90)) && away.has_all(&range(110, 90)));
        assert!(!away.has_any(&range(90, 20)) && !away.has_all(&range(80, 20)));
        away.give(&range(0, vk::WHOLE_SIZE));
        assert!(!away.has_any(&range(0, vk::WHOLE_SIZE)));
        away.take(&range(7, vk::WHOLE_SIZE));
        assert!(away.has_all(&range(1 << 40, 1)) && !away.has_any(&range(0, 7)));
    }
}
