//! Mapping, flushing and invalidating allocations.

use crate::allocator::Allocator;
use crate::device::{DeviceError, HostAddress, MemoryRange};
use crate::error::{Error, FailedItem};
use crate::handle::AllocationId;
use crate::pools::memory_object::{MappedHold, MemoryObject};
use crate::recording::{Told, is_active};
use crate::request::HostRange;
use crate::words::bytes;

impl Allocator {
    /// Maps an allocation and returns its host address. Counted: each map needs an
    /// [`unmap`](Self::unmap); the driver maps once.
    ///
    /// # Errors
    /// [`Error::MemoryMap`] if the memory is not host-visible or the driver refuses;
    /// [`Error::UseAfterFree`] if the id is stale.
    pub fn map(&self, id: AllocationId) -> Result<HostAddress, Error> {
        let ((), memory, offset, _) = self.update_tag(id, |_| ())?;
        let address =
            memory.map().inspect_err(|error| self.tell_failed("vkMapMemory", Some(id), error))?;
        // Counted after the driver has mapped it, so that a failed map does not count and a free or unmap
        // of another thread cannot undo a map that has not happened yet.
        let counted = self.update_tag(id, |tag| match tag.map_count.checked_add(1) {
            Some(more) => {
                tag.map_count = more;
                true
            }
            None => self.more_maps.add(id),
        });
        let counted = counted.and_then(|(counted, ..)| match counted {
            true => Ok(()),
            false => Err(Error::TooManyItems(1)),
        });
        counted.inspect_err(|_| memory.unmap(1))?;
        if is_active() {
            self.recorder().tell_now(&Told::Map(id));
        }
        Ok(address.at(offset))
    }

    /// Returns the host address of an allocation if its memory is mapped now, by whomever; counts no map.
    pub fn mapped_at(&self, id: AllocationId) -> Option<HostAddress> {
        let ((), memory, offset, _) = self.update_tag(id, |_| ()).ok()?;
        memory.mapped_at().map(|address| address.at(offset))
    }

    /// Undoes one [`map`](Self::map).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if it is not mapped; [`Error::UseAfterFree`] if the id is stale.
    pub fn unmap(&self, id: AllocationId) -> Result<(), Error> {
        let (counted, memory, ..) = self.update_tag(id, |tag| {
            if tag.map_count == u8::MAX && self.more_maps.remove(id) {
                return true;
            }
            let fewer = tag.map_count.checked_sub(1);
            tag.map_count = fewer.unwrap_or(0);
            fewer.is_some()
        })?;
        if !counted {
            return Err(Error::InvalidArgument("not mapped".into()));
        }
        memory.unmap(1);
        if is_active() {
            self.recorder().tell_now(&Told::Unmap(id));
        }
        Ok(())
    }

    /// Flushes `size` bytes from `offset` of an allocation: makes host writes available to the device.
    /// `u64::MAX` means up to the end. Does nothing on coherent memory, nor if the allocation is not
    /// mapped, as the host cannot have written then.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a range outside of the allocation; those of the driver call.
    pub fn flush(&self, id: AllocationId, offset: u64, size: u64) -> Result<(), Error> {
        self.flush_many(&[HostRange { id, offset, size }]).map_err(|failed| failed.error)
    }

    /// Invalidates a range: makes device writes visible to the host; see [`flush`](Self::flush).
    ///
    /// # Errors
    /// The errors of [`flush`](Self::flush).
    pub fn invalidate(&self, id: AllocationId, offset: u64, size: u64) -> Result<(), Error> {
        self.invalidate_many(&[HostRange { id, offset, size }]).map_err(|failed| failed.error)
    }

    /// Flushes many ranges in one driver call. All ranges are checked first.
    ///
    /// # Errors
    /// The errors of [`flush`](Self::flush), with the index of the range.
    pub fn flush_many(&self, ranges: &[HostRange]) -> Result<(), FailedItem> {
        self.synchronise("vkFlushMappedMemoryRanges", ranges, |ranges| {
            self.device().flush(ranges)
        })?;
        if is_active() {
            self.recorder().tell_of_many(ranges.len(), &Told::Flush(ranges));
        }
        Ok(())
    }

    /// Invalidates many ranges in one driver call; see [`flush_many`](Self::flush_many).
    ///
    /// # Errors
    /// The errors of [`flush`](Self::flush), with the index of the range.
    pub fn invalidate_many(&self, ranges: &[HostRange]) -> Result<(), FailedItem> {
        let function = "vkInvalidateMappedMemoryRanges";
        self.synchronise(function, ranges, |ranges| self.device().invalidate(ranges))?;
        if is_active() {
            self.recorder().tell_of_many(ranges.len(), &Told::Invalidate(ranges));
        }
        Ok(())
    }

    /// Returns `nonCoherentAtomSize` in bytes for memory of a type; `None` if it is coherent or not
    /// host-visible.
    pub fn atom_size(&self, memory_type_index: u32) -> Option<u64> {
        let info = self.device().info();
        let atom = info.limits.non_coherent_atom_size;
        info.is_non_coherent(memory_type_index).then_some(atom)
    }

    fn synchronise(
        &self,
        function: &'static str,
        ranges: &[HostRange],
        call: impl FnOnce(&[MemoryRange]) -> Result<(), DeviceError>,
    ) -> Result<(), FailedItem> {
        // Each stays mapped until the driver call returns: another thread may unmap it meanwhile.
        let (mut asked, mut held) = (Vec::new(), Vec::new());
        for (index, range) in ranges.iter().enumerate() {
            let failed = |error| FailedItem { index, error };
            if let Some((range, mapped)) = self.host_range(range).map_err(failed)? {
                asked.push(range);
                held.push(mapped);
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        call(&asked).map_err(|error| {
            let error = Error::from(error.of(function));
            let id = Some(ranges[0].id).filter(|_| ranges.len() == 1);
            self.tell_failed(function, id, &error);
            FailedItem { index: 0, error }
        })
    }

    /// Returns the rounded range for the driver and a guard that keeps it mapped; `None` if nothing is to
    /// be done.
    fn host_range(&self, range: &HostRange) -> Result<Option<(MemoryRange, MappedHold)>, Error> {
        let HostRange { id, offset, size } = *range;
        let (tag, memory, start, length) = self.update_tag(id, |tag| *tag)?;
        let size = if size == u64::MAX { length.saturating_sub(offset) } else { size };
        if offset > length || size > length - offset {
            return Err(Error::InvalidArgument(format!(
                "{} from offset {offset} on: outside of the allocation's {}",
                bytes(size),
                bytes(length)
            )));
        }
        let Some(atom) = self.atom_size(memory.memory_type_index) else { return Ok(None) };
        if size == 0 || !tag.is_mapped() {
            return Ok(None);
        }
        let Some(mapped) = MemoryObject::hold_if_mapped(&memory) else { return Ok(None) };
        // Rounded outward; the end of the memory object need not be a multiple.
        let from = (start + offset) / atom * atom;
        let to = (start + offset + size).next_multiple_of(atom).min(memory.size);
        let (memory, offset, size) = (memory.handle, from, to - from);
        Ok(Some((MemoryRange { memory, offset, size }, mapped)))
    }
}
