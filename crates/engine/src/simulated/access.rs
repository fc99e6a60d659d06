//! The host's and the device's view of a simulated memory object, and the copies between them.
//!
//! Non-coherent memory has two stores, so that a missing flush or invalidate shows as wrong bytes instead
//! of passing unnoticed.

use std::ops::Range;
use std::sync::Arc;

use crate::device::{DeviceError, MemoryHandle, MemoryRange};

use super::calls::Call;
use super::store::{LazyStore, Store};
use super::violation::part_outside;
use super::{Finding, Object, SimulatedDevice, VALIDATION_FAILED, ViolationKind};
use crate::words::bytes;

/// Bytes that are compared at a time.
const STEP: u64 = 64 << 10;

impl SimulatedDevice {
    /// Writes `size` bytes as the device would: the pattern, repeated and truncated at the end.
    ///
    /// A range outside live memory or an empty pattern is a violation, and nothing is written.
    pub fn device_fill(&self, memory: MemoryHandle, offset: u64, size: u64, pattern: &[u8]) {
        let Some(store) = self.device_store(MemoryRange { memory, offset, size }) else { return };
        if pattern.is_empty() {
            self.report_violation(Call::Submit, "a fill with an empty pattern");
            return;
        }
        if store.peek().is_none() && pattern.iter().all(|byte| *byte == 0) {
            return;
        }
        match store.get() {
            Some(store) => store.fill(offset, size, pattern),
            None => self.out_of_host_memory(),
        }
    }

    /// Copies `size` bytes as the device would.
    ///
    /// A range outside live memory, or two overlapping ranges, is a violation, and nothing is copied.
    pub fn device_copy(
        &self,
        source: MemoryHandle,
        source_offset: u64,
        target: MemoryHandle,
        target_offset: u64,
        size: u64,
    ) {
        let from = MemoryRange { memory: source, offset: source_offset, size };
        let to = MemoryRange { memory: target, offset: target_offset, size };
        let (Some(from), Some(to)) = (self.device_store(from), self.device_store(to)) else {
            return;
        };
        if source == target && source_offset.abs_diff(target_offset) < size {
            self.report_violation(
                Call::Submit,
                format!(
                    "a copy of {} from {source_offset} to {target_offset} of the same memory \
                     {:#x} overlaps",
                    bytes(size),
                    source.0
                ),
            );
            return;
        }
        // Memory that was never written reads as zero; so copying zeros into it changes nothing.
        match (from.peek(), to.peek()) {
            (None, None) => {}
            (None, Some(to)) => to.fill(target_offset, size, &[0]),
            (Some(from), _) => match to.get() {
                Some(to) => to.copy_from(target_offset, &from, source_offset, size),
                None => self.out_of_host_memory(),
            },
        }
    }

    /// Returns the bytes that the device sees.
    ///
    /// A range outside live memory is a violation, and the result is empty.
    pub fn device_read(&self, memory: MemoryHandle, offset: u64, size: u64) -> Vec<u8> {
        match self.device_store(MemoryRange { memory, offset, size }) {
            None => Vec::new(),
            Some(store) => match store.peek() {
                Some(store) => store.read(offset, size),
                None => vec![0; size as usize],
            },
        }
    }

    /// Returns the bytes that the host sees through a mapping; those of a range outside of live memory are missing.
    pub fn host_read(&self, range: MemoryRange) -> Vec<u8> {
        let host = {
            let objects = self.objects.lock();
            let object = objects.live.get(&range.memory.0);
            let object = object.filter(|it| lies_inside(&range, it.public.size));
            object.map(|it| Arc::clone(&it.host))
        };
        match host.map(|host| host.peek()) {
            None => Vec::new(),
            Some(None) => vec![0; range.size as usize],
            Some(Some(store)) => store.read(range.offset, range.size),
        }
    }

    fn out_of_host_memory(&self) {
        self.report_violation(Call::Submit, "the host has no memory for the simulated contents");
    }

    /// Returns the device's store of a range, if that lies inside live memory.
    fn device_store(&self, range: MemoryRange) -> Option<Arc<LazyStore>> {
        let found = {
            let objects = self.objects.lock();
            match objects.live.get(&range.memory.0) {
                None => Err(Self::unknown(&objects, range.memory)),
                Some(object) if !lies_inside(&range, object.public.size) => {
                    Err(outside(&range, object.public.size))
                }
                Some(object) => Ok(Arc::clone(&object.device)),
            }
        };
        found.map_err(|what| self.report(Call::Submit, what)).ok()
    }

    /// Flushes or invalidates all ranges or, if one is invalid, none.
    pub(super) fn synchronise(
        &self,
        call: Call,
        ranges: &[MemoryRange],
    ) -> Result<(), DeviceError> {
        self.enter_about(call, ranges)?;
        if ranges.is_empty() {
            self.report_violation(call, "no ranges");
            return Err(VALIDATION_FAILED);
        }
        let mut stores = Vec::with_capacity(ranges.len());
        let mut wrong = Vec::new();
        {
            let objects = self.objects.lock();
            for range in ranges {
                match objects.live.get(&range.memory.0) {
                    None => wrong.push(Self::unknown(&objects, range.memory)),
                    Some(object) => {
                        let public = &object.public;
                        let what = self.wrong_range(range, public.memory_type_index, public.size);
                        wrong.extend(what);
                        if !public.mapped {
                            wrong
                                .push(format!("memory {:#x} is not mapped", range.memory.0).into());
                        }
                        stores.push(object.stores());
                    }
                }
            }
        }
        if !wrong.is_empty() {
            wrong.into_iter().for_each(|what| self.report(call, what));
            return Err(VALIDATION_FAILED);
        }
        for (range, Stores { host, device, synchronised }) in ranges.iter().zip(&stores) {
            // Through `synchronised`: a byte that another thread writes meanwhile is either in all three
            // stores or still to be flushed.
            let (from, to) = if call == Call::Flush { (host, device) } else { (device, host) };
            let done = carry(from, synchronised, range) && carry(synchronised, to, range);
            done.then_some(()).ok_or(DeviceError::OutOfHostMemory)?;
        }
        Ok(())
    }

    /// Returns the smallest range that contains all bytes of `range` that the host wrote to non-coherent
    /// memory and has not flushed; offsets are in bytes from the start of the memory. Writing the value
    /// that was there already does not count. Vulkan has no such function: no device can know this.
    pub fn unflushed(&self, range: MemoryRange) -> Option<Range<u64>> {
        let Stores { host, synchronised, .. } = self.stores_of(range)?;
        difference(&host, &synchronised, &range)
    }

    /// Returns the smallest range that contains all bytes of `range` that the device wrote to non-coherent
    /// memory and the host has not invalidated since, as [`unflushed`](Self::unflushed) does for the host.
    pub fn not_invalidated(&self, range: MemoryRange) -> Option<Range<u64>> {
        let Stores { device, synchronised, .. } = self.stores_of(range)?;
        difference(&device, &synchronised, &range)
    }

    /// Discards the host's unflushed writes to a range: [`unflushed`](Self::unflushed) does not report
    /// them any more.
    pub fn forget_unflushed(&self, range: MemoryRange) {
        if let Some(Stores { host, synchronised, .. }) = self.stores_of(range) {
            carry(&host, &synchronised, &range);
        }
    }

    /// Returns the stores of a range of live, non-coherent memory; `None` for other memory.
    fn stores_of(&self, range: MemoryRange) -> Option<Stores> {
        let objects = self.objects.lock();
        let object = objects.live.get(&range.memory.0)?;
        let has_two = self.info.is_non_coherent(object.public.memory_type_index);
        (has_two && lies_inside(&range, object.public.size)).then(|| object.stores())
    }

    /// Returns what is invalid about a range to flush or invalidate.
    fn wrong_range(
        &self,
        range: &MemoryRange,
        memory_type_index: u32,
        size: u64,
    ) -> Option<Finding> {
        let atom = self.info.limits.non_coherent_atom_size;
        let MemoryRange { memory, offset, size: length } = *range;
        if !lies_inside(range, size) {
            Some(outside(range, size))
        } else if length == 0 {
            Some(format!("an empty range at {offset} of memory {:#x}", memory.0).into())
        } else if !offset.is_multiple_of(atom)
            || (!length.is_multiple_of(atom) && offset + length != size)
        {
            let text = format!(
                "range {offset} + {length} of memory {:#x} is not rounded to \
                 nonCoherentAtomSize {atom}",
                memory.0
            );
            Some(text.into())
        } else if !self.info.is_non_coherent(memory_type_index) {
            Some(format!("memory {:#x} needs no flush and no invalidate", memory.0).into())
        } else {
            None
        }
    }
}

/// The three stores of one memory object.
struct Stores {
    host: Arc<LazyStore>,
    device: Arc<LazyStore>,
    synchronised: Arc<LazyStore>,
}

impl Object {
    fn stores(&self) -> Stores {
        Stores {
            host: Arc::clone(&self.host),
            device: Arc::clone(&self.device),
            synchronised: Arc::clone(&self.synchronised),
        }
    }
}

/// Returns the smallest range that contains all bytes in which two stores differ.
fn difference(one: &LazyStore, other: &LazyStore, range: &MemoryRange) -> Option<Range<u64>> {
    let (one, other) = match (one.peek(), other.peek()) {
        (None, None) => return None,
        stores => stores,
    };
    // A store that was never written holds zeros.
    let read = |store: &Option<Arc<Store>>, at, step| {
        store.as_ref().map_or(vec![0; step as usize], |it| it.read(at, step))
    };
    let (mut first, mut last) = (None, 0);
    let mut done = 0;
    while done < range.size {
        let (at, step) = (range.offset + done, STEP.min(range.size - done));
        let (now, then) = (read(&one, at, step), read(&other, at, step));
        if now != then {
            let differs = |(now, then)| now != then;
            let pairs = || now.iter().zip(&then);
            first = first.or_else(|| pairs().position(differs).map(|it| at + it as u64));
            last = pairs().rposition(differs).map_or(last, |it| at + it as u64 + 1);
        }
        done += step;
    }
    first.map(|first| first..last)
}

/// Copies a range from one store to another; returns false if the host has no memory for it.
fn carry(from: &LazyStore, to: &LazyStore, range: &MemoryRange) -> bool {
    let MemoryRange { offset, size, .. } = *range;
    // A store that was never written holds zeros.
    match (from.peek(), to.peek()) {
        (None, None) => {}
        (None, Some(to)) => to.fill(offset, size, &[0]),
        (Some(from), _) => match to.get() {
            Some(to) => to.copy_from(offset, &from, offset, size),
            None => return false,
        },
    }
    true
}

fn lies_inside(range: &MemoryRange, size: u64) -> bool {
    range.offset.checked_add(range.size).is_some_and(|end| end <= size)
}

fn outside(range: &MemoryRange, size: u64) -> Finding {
    let MemoryRange { memory, offset, size: length } = range;
    let text =
        format!("range {offset} + {length} lies outside memory {:#x} of {}", memory.0, bytes(size));
    Finding::new(ViolationKind::OutOfBounds, text).at(part_outside(range, size))
}
