//! Host writes to mapped memory that no resource is bound to, found by comparing bytes.
//!
//! From its map on the bytes of a memory object are remembered. When it is unmapped, flushed, invalidated or freed,
//! and on demand, those between the bound resources are compared. What lies in a resource may change at any time, and
//! is remembered anew when the resource is destroyed.

use std::sync::atomic::Ordering;

use ash::vk;
use vkmem_engine::words::bytes;
use vkmem_engine::{Call, DeviceMemory, Finding, MemoryHandle, MemoryRange, ViolationKind};

use crate::simulated::driver::SimulatedDriver;
use crate::simulated::seen::Seen;

/// The class of ranges that the library itself is writing, which are no resources.
const OWN_WRITES: &str = "";

/// A resource in a memory object.
struct Bound {
    start: u64,
    end: u64,
    handle: u64,
    class: &'static str,
}

impl SimulatedDriver {
    /// Sets whether host writes to memory that nothing is bound to are found, in memory that is mapped from now on.
    /// Memory that a program uses without a buffer or image counts as such.
    pub fn set_watch_unbound(&self, on: bool) {
        self.watch.is_on.store(on, Ordering::Relaxed);
        if !on {
            self.watch.seen.lock().clear();
        }
    }

    /// Returns whether host writes to memory that nothing is bound to are found.
    pub fn watches(&self) -> bool {
        self.watch.is_on.load(Ordering::Relaxed)
    }

    /// Remembers what the host sees in memory that was mapped.
    pub(super) fn begin_watch(&self, memory: MemoryHandle) {
        if self.watches()
            && let Some(found) = self.device.memory(memory)
        {
            let mut seen = Seen::default();
            seen.update(&self.device, &MemoryRange { memory, offset: 0, size: found.size });
            self.watch.seen.lock().insert(memory.0, seen);
        }
    }

    /// Compares what the host has written so far, before memory is unmapped or freed.
    pub(super) fn end_watch(&self, call: Call, memory: MemoryHandle) {
        if self.watches() {
            self.check_unbound_in(call, memory);
            self.watch.seen.lock().remove(&memory.0);
        }
    }

    /// Looks for host writes to memory that nothing is bound to, wherever memory is mapped.
    pub fn check_unbound(&self) {
        let mut watched: Vec<u64> = self.watch.seen.lock().keys().copied().collect();
        watched.sort_unstable();
        watched.iter().for_each(|memory| self.check_unbound_in(Call::Map, MemoryHandle(*memory)));
    }

    /// Compares before a flush or invalidate.
    pub(super) fn check_unbound_of(&self, call: Call, ranges: &[MemoryRange]) {
        if self.watches() {
            ranges.iter().for_each(|range| self.check_unbound_in(call, range.memory));
        }
    }

    /// Remembers what is in ranges that the device's bytes were brought to, or that a resource leaves.
    pub(super) fn see_again(&self, ranges: &[MemoryRange]) {
        if self.watches() {
            let mut watched = self.watch.seen.lock();
            for range in ranges {
                if let Some(seen) = watched.get_mut(&range.memory.0) {
                    seen.update(&self.device, range);
                }
            }
        }
    }

    /// Leaves ranges out until [`end_unwatched`](Self::end_unwatched).
    pub(super) fn begin_unwatched(&self, ranges: &[MemoryRange]) {
        if self.watches() {
            self.watch.unwatched.lock().extend(ranges);
        }
    }

    /// Watches ranges again, with what is there now.
    pub(super) fn end_unwatched(&self, ranges: &[MemoryRange]) {
        let mut unwatched = self.watch.unwatched.lock();
        self.see_again(ranges);
        for range in ranges {
            if let Some(at) = unwatched.iter().position(|it| it == range) {
                unwatched.swap_remove(at);
            }
        }
    }

    fn check_unbound_in(&self, call: Call, memory: MemoryHandle) {
        let Some(size) = self.device.memory(memory).map(|it| it.size) else { return };
        let mut found = Vec::new();
        // Until the end, so that the library does not begin to write in between.
        let unwatched = self.watch.unwatched.lock();
        let bound = self.bound_in(memory, &unwatched);
        let mut start = 0;
        for next in 0..=bound.len() {
            let end = bound.get(next).map_or(size, |it| it.start);
            if start < end {
                let gap = MemoryRange { memory, offset: start, size: end - start };
                let mut watched = self.watch.seen.lock();
                let seen = watched.get_mut(&memory.0);
                let written = seen.and_then(|seen| seen.update(&self.device, &gap));
                drop(watched);
                if let Some(written) = written {
                    let is_resource = |it: &&Bound| it.class != OWN_WRITES;
                    let before = bound[..next].iter().filter(is_resource).max_by_key(|it| it.end);
                    let after = bound[next..].iter().find(is_resource);
                    found.push(write_to_nothing(&written, before, after));
                }
            }
            start = start.max(bound.get(next).map_or(size, |it| it.end));
        }
        drop(unwatched);
        found.into_iter().for_each(|it| self.device.report(call, it));
    }

    /// Returns what is bound to a memory object, and the ranges of it that are not watched, by the first byte.
    fn bound_in(&self, memory: MemoryHandle, unwatched: &[MemoryRange]) -> Vec<Bound> {
        let of = |class, handle, place: MemoryRange| Bound {
            start: place.offset,
            end: place.offset.saturating_add(place.size),
            handle,
            class,
        };
        let buffers = self.buffers.lock();
        let mut bound: Vec<Bound> = buffers
            .all()
            .filter_map(|(handle, buffer)| Some((handle, buffer.place()?)))
            .filter(|(_, place)| place.memory == memory)
            .map(|(handle, place)| of("buffer", handle, place))
            .collect();
        drop(buffers);
        let images = self.images.lock();
        for (handle, image) in images.all() {
            if image.shape.flags.contains(vk::ImageCreateFlags::DISJOINT) {
                for (plane, in_memory, offset) in &image.planes {
                    let needs = self.rules().plane(self.device.info(), &image.shape, *plane);
                    let size = needs.map_or(0, |it| it.size);
                    if *in_memory == memory {
                        bound.push(of(
                            "image",
                            handle,
                            MemoryRange { memory, offset: *offset, size },
                        ));
                    }
                }
            } else if let Some(place) = image.place()
                && place.memory == memory
            {
                bound.push(of("image", handle, place));
            }
        }
        drop(images);
        let ours = unwatched.iter().filter(|it| it.memory == memory);
        bound.extend(ours.map(|it| of(OWN_WRITES, 0, *it)));
        bound.sort_by_key(|it| it.start);
        bound
    }
}

/// Describes a write between two resources.
fn write_to_nothing(
    written: &MemoryRange,
    before: Option<&Bound>,
    after: Option<&Bound>,
) -> Finding {
    let MemoryRange { memory, offset, size } = *written;
    let before = before.map(|it| {
        let far = bytes(offset - it.end);
        (
            offset - it.end,
            it.handle,
            format!("{} {:#x}, which ends {far} before", it.class, it.handle),
        )
    });
    let after = after.map(|it| {
        let gap = it.start - (offset + size);
        let far = bytes(gap);
        (gap, it.handle, format!("{} {:#x}, which begins {far} behind", it.class, it.handle))
    });
    let text = format!(
        "the host wrote {} at offset {offset} of memory {:#x}, where nothing is bound",
        bytes(size),
        memory.0
    );
    let found = Finding::new(ViolationKind::OutOfBounds, text).at(*written);
    let nearest = before.into_iter().chain(after).min_by_key(|(far, ..)| *far);
    let Some((_, handle, name)) = nearest else { return found };
    let text = format!("{}; next to it is {name}", found.text);
    Finding { text, ..found }.of(handle).with(name)
}
