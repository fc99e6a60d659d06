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
