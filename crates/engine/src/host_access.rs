//! Mapping, flushing and invalidating allocations.

use crate::allocation::AllocationId;
use crate::allocator::Allocator;
use crate::device::{HostAddress, MemoryRange};
use crate::error::Error;

impl Allocator {
    /// Maps an allocation; where it starts in the host's address space. Counts: each map has its
    /// [`unmap`](Self::unmap); the driver maps once.
    pub fn map(&self, id: AllocationId) -> Result<HostAddress, Error> {
        let ((), memory, offset, _) = self.update_tag(id, |_| ())?;
        let address = memory.map()?;
        // Counted after the driver has mapped it, so that a map that failed does not count, and so
        // that a free or an unmap of another thread never undoes one that has not happened yet.
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
        Ok(address.at(offset))
    }

    /// Undoes one [`map`](Self::map).
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
        Ok(())
    }

    /// Makes host writes to `size` bytes from `offset` of a mapped allocation visible to the
    /// device. Does nothing on coherent memory. `u64::MAX`: up to the end.
    pub fn flush(&self, id: AllocationId, offset: u64, size: u64) -> Result<(), Error> {
        match self.host_range(id, offset, size)? {
            Some(range) => Ok(self.device().flush(&[range])?),
            None => Ok(()),
        }
    }

    /// Makes device writes visible to the host; see [`flush`](Self::flush).
    pub fn invalidate(&self, id: AllocationId, offset: u64, size: u64) -> Result<(), Error> {
        match self.host_range(id, offset, size)? {
            Some(range) => Ok(self.device().invalidate(&[range])?),
            None => Ok(()),
        }
    }

    fn host_range(
        &self,
        id: AllocationId,
        offset: u64,
        size: u64,
    ) -> Result<Option<MemoryRange>, Error> {
        let (tag, memory, start, length) = self.update_tag(id, |tag| *tag)?;
        let size = if size == u64::MAX { length.saturating_sub(offset) } else { size };
        if offset > length || size > length - offset {
            return Err(Error::InvalidArgument(format!(
                "{size} bytes from offset {offset} are outside of the allocation's {length} bytes"
            )));
        }
        if size == 0 || !self.device().info().is_non_coherent(memory.memory_type_index) {
            return Ok(None);
        }
        if tag.map_count == 0 && !tag.persistently_mapped {
            return Err(Error::MemoryMap("only mapped memory is flushed or invalidated".into()));
        }
        // Rounded outward; the end of the object need not be a multiple.
        let atom = self.device().info().limits.non_coherent_atom_size;
        let from = (start + offset) / atom * atom;
        let to = (start + offset + size).next_multiple_of(atom).min(memory.size);
        let (memory, offset, size) = (memory.handle, from, to - from);
        Ok(Some(MemoryRange { memory, offset, size }))
    }
}
