//! Where resources lie in memory, for commands of the simulated queue and for the host.

use std::ops::Range;

use ash::vk::{self, Handle};
use vkmem_engine::{Finding, MemoryHandle, MemoryRange, ViolationKind};

use crate::driver::contract::HostSide;
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::resources::MemoryOffset;
use vkmem_engine::words::bytes;

/// Where a buffer lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct BufferPlace {
    buffer: vk::Buffer,
    size: u64,
    memory: MemoryHandle,
    start: u64,
}

impl BufferPlace {
    /// Returns the place of a range in memory.
    fn of_range(&self, offset: u64, size: u64) -> Result<MemoryOffset, Finding> {
        if size == 0 {
            return Err(of_buffer(self.buffer, ViolationKind::Rule, "a copy of nothing".into()));
        }
        let end = offset.saturating_add(size);
        if end > self.size || offset.checked_add(size).is_none() {
            let what = format!("{offset} + {size} lies outside its {}", bytes(self.size));
            let first = offset.max(self.size);
            let outside = MemoryRange {
                memory: self.memory,
                offset: self.start.saturating_add(first),
                size: end - first,
            };
            return Err(of_buffer(self.buffer, ViolationKind::OutOfBounds, what).at(outside));
        }
        Ok((self.memory, self.start + offset))
    }
}

fn of_buffer(buffer: vk::Buffer, kind: ViolationKind, what: String) -> Finding {
    let handle = buffer.as_raw();
    Finding::new(kind, format!("buffer {handle:#x}: {what}")).of(handle)
}

/// The source and the target of the last copy between buffers: many regions of one pair are looked up once.
#[derive(Debug, Default)]
pub(super) struct LastCopy(Option<[BufferPlace; 2]>);

impl LastCopy {
    /// Returns the places of the source and the target of a copy.
    pub(super) fn places(
        &mut self,
        driver: &SimulatedDriver,
        source: vk::Buffer,
        target: vk::Buffer,
    ) -> Result<[BufferPlace; 2], Finding> {
        if let Some(places) = &self.0
            && [source, target] == places.map(|it| it.buffer)
        {
            return Ok(*places);
        }
        let places = [
            driver.place_of(source, vk::BufferUsageFlags::TRANSFER_SRC)?,
            driver.place_of(target, vk::BufferUsageFlags::TRANSFER_DST)?,
        ];
        self.0 = Some(places);
        Ok(places)
    }
}

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
        self.range_of(&self.place_of(buffer, usage)?, offset, size)
    }

    /// Returns the place of a range of a buffer in memory.
    pub(super) fn range_of(
        &self,
        place: &BufferPlace,
        offset: u64,
        size: u64,
    ) -> Result<MemoryOffset, Finding> {
        place.of_range(offset, size).map_err(|found| self.with_resident(found, place.buffer))
    }

    /// Returns the place of a buffer that is used in a way.
    pub(super) fn place_of(
        &self,
        buffer: vk::Buffer,
        usage: vk::BufferUsageFlags,
    ) -> Result<BufferPlace, Finding> {
        // The lock is released before others are looked for.
        self.find_place(buffer, usage).map_err(|found| self.with_resident(found, buffer))
    }

    fn find_place(
        &self,
        buffer: vk::Buffer,
        usage: vk::BufferUsageFlags,
    ) -> Result<BufferPlace, Finding> {
        let of_kind = |kind, what: String| of_buffer(buffer, kind, what);
        let named = |what: String| of_kind(ViolationKind::Rule, what);
        let handle = buffer.as_raw();
        let buffers = self.buffers.lock();
        let found = buffers.get(handle).map_err(|what| match buffers.place_of_gone(handle) {
            Some(place) => of_kind(ViolationKind::UseAfterFree, what).at(place),
            None => named(what),
        })?;
        if found.shape.usage & u64::from(usage.as_raw()) == 0 {
            return Err(named(format!("was created without {usage:?}")));
        }
        let (memory, start) = self.live_memory(found.bound).map_err(|what| match found.bound {
            Some(_) => of_kind(ViolationKind::UseAfterFree, what),
            None => named(what),
        })?;
        Ok(BufferPlace { buffer, size: found.shape.size, memory, start })
    }

    /// Adds the resource, another one than `but`, that lies where something was found.
    fn with_resident(&self, found: Finding, but: vk::Buffer) -> Finding {
        let Some(range) = &found.place else { return found };
        let buffer = self.buffers.lock().resident(range, but.as_raw());
        let image = self.images.lock().resident(range, but.as_raw());
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
