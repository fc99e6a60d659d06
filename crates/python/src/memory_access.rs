//! The memory of a resource as the host sees it, and its name: of an allocation, or of an alias, which
//! is a part of one.

use std::sync::atomic::{AtomicU32, Ordering};

use vkmem_engine::{Error, HostAddress};

use crate::resource::Resource;

impl Resource {
    /// Maps the memory and counts; where this resource starts in the host's address space.
    pub fn map(&self) -> Result<HostAddress, Error> {
        let address = self.allocator.engine().map(self.allocation.id)?;
        Ok(address.at(self.start()))
    }

    /// Undoes one [`map`](Self::map).
    pub fn unmap(&self) -> Result<(), Error> {
        self.allocator.engine().unmap(self.allocation.id)
    }

    /// Makes host writes to `size` bytes from `offset` on visible to the device; `u64::MAX`: up to
    /// the end.
    pub fn flush(&self, offset: u64, size: u64) -> Result<(), Error> {
        let (offset, size) = self.part(offset, size)?;
        self.allocator.engine().flush(self.allocation.id, offset, size)
    }

    /// Makes device writes visible to the host; see [`flush`](Self::flush).
    pub fn invalidate(&self, offset: u64, size: u64) -> Result<(), Error> {
        let (offset, size) = self.part(offset, size)?;
        self.allocator.engine().invalidate(self.allocation.id, offset, size)
    }

    /// Where it starts in its allocation, in bytes.
    fn start(&self) -> u64 {
        let base = self.alias().map(|alias| alias.base.allocation.offset);
        base.map_or(0, |base| self.allocation.offset - base)
    }

    /// A range of this resource as one of its allocation.
    fn part(&self, offset: u64, size: u64) -> Result<(u64, u64), Error> {
        if self.alias().is_none() {
            return Ok((offset, size));
        }
        let whole = self.allocation.size;
        let size = if size == u64::MAX { whole.saturating_sub(offset) } else { size };
        if offset > whole || size > whole - offset {
            return Err(Error::InvalidArgument(format!(
                "{size} bytes from offset {offset} are outside of the alias's {whole} bytes"
            )));
        }
        Ok((self.start() + offset, size))
    }

    /// Open mappings of the memory: those of an alias and of what it lies in would undo each other.
    fn mappings(&self) -> &AtomicU32 {
        self.alias().map_or(&self.open_mappings, |alias| &alias.base.open_mappings)
    }

    /// Counts an open mapping; whether it is the first.
    pub fn begin_mapping(&self) -> bool {
        self.mappings().fetch_add(1, Ordering::AcqRel) == 0
    }

    /// Whether any is open.
    pub fn has_open_mapping(&self) -> bool {
        self.mappings().load(Ordering::Acquire) > 0
    }

    /// Counts it out.
    pub fn end_mapping(&self) {
        self.mappings().fetch_sub(1, Ordering::AcqRel);
    }

    /// The name, if it has one.
    pub fn name(&self) -> Result<Option<String>, Error> {
        match self.alias() {
            Some(alias) => Ok(alias.name.lock().clone()),
            None => self.allocator.engine().name(self.allocation.id),
        }
    }

    /// Names it, or takes its name away.
    pub fn set_name(&self, name: Option<&str>) -> Result<(), Error> {
        if name.is_some() {
            self.was_named.store(true, Ordering::Relaxed);
        }
        match self.alias() {
            Some(alias) => {
                *alias.name.lock() = name.map(String::from);
                Ok(())
            }
            None => self.allocator.engine().set_name(self.allocation.id, name),
        }
    }
}
