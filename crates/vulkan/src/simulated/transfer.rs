//! Where resources lie in memory, for commands of the simulated queue and for the host.

use std::ops::Range;

use ash::vk::{self, Handle};
use vkmem_engine::{Finding, MemoryRange, ViolationKind};

use crate::driver::contract::HostSide;
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::resources::MemoryOffset;
use vkmem_engine::words::bytes;

impl SimulatedDriver {
    /// Implements [`Driver::unflushed`](crate::Driver::unflushed).
    pub(super) fn unflushed_at(&self, place: HostSide) -> Option<Range<u64>> {
        // The range of memory to search, and its offset in the buffer or image.
        let (range, before) = match place {
            HostSide::Memory(range) => (range, 0),
            HostSide::Buffer { buffer, offset, size } => {
                let (memory, start) = self.buffers.lock().get(buffer.as_raw()).ok()?.bound?;
                (MemoryRange { memory, offset: start + offset, size }, offset)
            }
            HostSide::Image(image) => {
                let images = self.images.lock();
                let found = images.get(image.as_raw()).ok()?;
                let (memory, offset) = found.bound?;
                (MemoryRange { memory, offset, size: found.requirements.size }, 0)
            }
        };
        let found = self.device.unflushed(range)?;
        let start = range.offset - before;
        Some(found.start - start..found.end - start)
    }

    /// Returns the memory that a resource is bound to, if it still exists.
    pub(super) fn live_memory(&self, bound: Option<MemoryOffset>) -> Result<MemoryOffset, String> {
        let (memory, offset) = bound.ok_or("is not bound")?;
        match self.device.memory(memory) {
            Some(_) => Ok((memory, offset)),
            None => Err(format!("its memory {:#x} was freed", memory.0)),
        }
    }

    /// Returns the place of a buffer range in memory.
    pub(super) fn buffer_place(
        &self,
        buffer: vk::Buffer,
        offset: u64,
        size: u64,
        usage: vk::BufferUsageFlags,
    ) -> Result<MemoryOffset, Finding> {
        // The lock is released before others are looked for.
        self.place_in_buffer(buffer, offset, size, usage).map_err(|found| match found.place {
            Some(place) => self.with_resident(found, &place, buffer.as_raw()),
            None => found,
        })
    }

    fn place_in_buffer(
        &self,
        buffer: vk::Buffer,
        offset: u64,
        size: u64,
        usage: vk::BufferUsageFlags,
    ) -> Result<MemoryOffset, Finding> {
        let handle = buffer.as_raw();
        let of_kind = |kind, what: String| {
            Finding::new(kind, format!("buffer {handle:#x}: {what}")).of(handle)
        };
        let named = |what: String| of_kind(ViolationKind::Rule, what);
        let buffers = self.buffers.lock();
        let found = buffers.get(handle).map_err(|what| match buffers.place_of_gone(handle) {
            Some(place) => of_kind(ViolationKind::UseAfterFree, what).at(place),
            None => named(what),
        })?;
        if size == 0 {
            return Err(named("a copy of nothing".into()));
        }
        if found.shape.usage & u64::from(usage.as_raw()) == 0 {
            return Err(named(format!("was created without {usage:?}")));
        }
        let end = offset.saturating_add(size);
        let whole = found.shape.size;
        if end > whole || offset.checked_add(size).is_none() {
            let what = format!("{offset} + {size} lies outside its {}", bytes(whole));
            let outside = of_kind(ViolationKind::OutOfBounds, what);
            let first = offset.max(whole);
            return Err(match found.bound {
                Some((memory, start)) => outside.at(MemoryRange {
                    memory,
                    offset: start.saturating_add(first),
                    size: end - first,
                }),
                None => outside,
            });
        }
        let (memory, start) = self.live_memory(found.bound).map_err(|what| match found.bound {
            Some(_) => of_kind(ViolationKind::UseAfterFree, what),
            None => named(what),
        })?;
        Ok((memory, start + offset))
    }

    /// Adds the resource to a finding that lies in a range of memory now.
    fn with_resident(&self, found: Finding, range: &MemoryRange, but: u64) -> Finding {
        let buffer = self.buffers.lock().resident(range, but);
        let image = self.images.lock().resident(range, but);
        let other = match (buffer, image) {
            (Some(handle), _) => format!("buffer {handle:#x}"),
            (None, Some(handle)) => format!("image {handle:#x}"),
            (None, None) => return found,
        };
        let verb =
            if found.kind == ViolationKind::UseAfterFree { "lies there now" } else { "lies there" };
        let text = format!("{}; {other} {verb}", found.text);
        Finding { text, ..found }.with(other)
    }
}
