//! Host access to the memory of a resource: of an allocation, or of an alias, which is a part of one.
//!
//! On non-coherent memory every writer is added to the [`HostRanges`] of its allocation while it may have
//! written something that is not flushed yet. An invalidate skips those atoms, and runs under the lock of the
//! ranges, for which no thread waits while it holds the GIL.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use vkmem_engine::lock::{ReentrantMutex, ReentrantMutexGuard, rank};
use vkmem_engine::words::bytes;
use vkmem_engine::{
    Allocation, Error, FailedItem, HostAddress, HostRange, HostRanges, HostWriter,
    MemoryPropertyFlags, MemoryRange, ResourceKind, WriterId, edges,
};
use vkmem_vulkan::ResourceHandle;

use crate::errors::{invalid, to_py};
use crate::interpreter::detach;
use crate::lifetime::face::Face;
use crate::lifetime::ownership::{Binding, HostAccess, Resource, Writers};
use crate::lifetime::pins::Pinned;
use crate::observe::event::{Event, EventKind, Visible};

/// A range of a resource: offset from its start and size, in bytes.
pub type Part<'a> = (&'a Resource, u64, u64);

/// Flushes many ranges in one driver call; see [`Resource::flush`].
pub fn flush_many(parts: &[Part<'_>]) -> Result<(), FailedItem> {
    let Some((first, ..)) = parts.first() else { return Ok(()) };
    flush_parts(first, parts)?;
    tell_visible(first, EventKind::Flush, parts);
    Ok(())
}

fn flush_parts(first: &Resource, parts: &[Part<'_>]) -> Result<(), FailedItem> {
    let _quiet = quiet(parts);
    let (ranges, items) = gather(parts, |resource, offset, size| resource.written(offset, size))?;
    first.allocator.engine().flush_many(&ranges).map_err(|failed| of_item(failed, &items))
}

/// Invalidates many ranges in one driver call; see [`Resource::invalidate`].
pub fn invalidate_many(parts: &[Part<'_>]) -> Result<(), FailedItem> {
    let Some((first, ..)) = parts.first() else { return Ok(()) };
    invalidate_ranges(first, parts)?;
    tell_visible(first, EventKind::Invalidate, parts);
    Ok(())
}

/// Passes flushed or invalidated ranges to the event listeners.
fn tell_visible(first: &Resource, kind: EventKind, parts: &[Part<'_>]) {
    let events = &first.allocator.events;
    if !events.is_heard(kind) {
        return;
    }
    let visible = |&(resource, offset, size): &Part<'_>| Visible {
        id: resource.allocation().id,
        offset,
        size,
    };
    let ranges: Vec<Visible> = parts.iter().map(visible).collect();
    events.tell(kind, || match kind {
        EventKind::Flush => Event::Flush(&ranges),
        _ => Event::Invalidate(&ranges),
    });
}

fn invalidate_ranges(first: &Resource, parts: &[Part<'_>]) -> Result<(), FailedItem> {
    let _quiet = quiet(parts);
    let (ranges, items) = gather(parts, |resource, offset, size| {
        resource.stale(offset, size, |writer| writer == HostWriter::Copy)
    })?;
    first.allocator.engine().invalidate_many(&ranges).map_err(|failed| of_item(failed, &items))
}

/// Locks the writers of the parts' memory, so that no other thread flushes or invalidates it meanwhile: a
/// flush that is overtaken by another one would write older data to the device.
fn quiet<'a>(
    parts: &[Part<'a>],
) -> Vec<ReentrantMutexGuard<'a, RefCell<HostRanges>, rank::Writers>> {
    let needs_it = parts.iter().filter(|(it, ..)| it.atom_size().is_some());
    let mut writers: Vec<&Writers> = needs_it.map(|(it, ..)| it.writers()).collect();
    // Locked in order of address, whatever the order of the parts: otherwise two threads could deadlock.
    writers.sort_by_key(|it| std::ptr::from_ref(*it).addr());
    writers.into_iter().map(ReentrantMutex::lock).collect()
}

/// Returns all ranges of all parts, and the index of the part that each belongs to.
fn gather(
    parts: &[Part<'_>],
    of: impl Fn(&Resource, u64, u64) -> Result<Vec<Range<u64>>, Error>,
) -> Result<(Vec<HostRange>, Vec<usize>), FailedItem> {
    let (mut ranges, mut items) = (Vec::new(), Vec::new());
    for (index, (resource, offset, size)) in parts.iter().enumerate() {
        let found = of(resource, *offset, *size).map_err(|error| FailedItem { index, error })?;
        ranges.extend(resource.host_ranges(found));
        items.resize(ranges.len(), index);
    }
    Ok((ranges, items))
}

fn of_item(failed: FailedItem, items: &[usize]) -> FailedItem {
    FailedItem { index: items.get(failed.index).copied().unwrap_or(0), ..failed }
}

impl Resource {
    /// Maps the memory and counts the map; returns the host address of this resource.
    pub fn map(&self) -> Result<HostAddress, Error> {
        let id = self.allocation().id;
        let address = self.allocator.engine().map(id)?;
        self.allocator.events.tell(EventKind::Map, || Event::Map(id));
        Ok(address.at(self.start()))
    }

    /// Undoes one [`map`](Self::map).
    pub fn unmap(&self) -> Result<(), Error> {
        let id = self.allocation().id;
        self.allocator.engine().unmap(id)?;
        self.allocator.events.tell(EventKind::Unmap, || Event::Unmap(id));
        Ok(())
    }

    /// Flushes `size` bytes from `offset`, as far as the host can have written there: makes host writes
    /// available to the device. `u64::MAX` means up to the end.
    ///
    /// Flushing bytes that no open view covers would overwrite device writes by the host's older view.
    /// Persistently mapped memory may be written through its address at any time.
    pub fn flush(&self, offset: u64, size: u64) -> Result<(), Error> {
        if self.atom_size().is_none() {
            self.part(offset, size)?;
            tell_visible(self, EventKind::Flush, &[(self, offset, size)]);
            return Ok(());
        }
        flush_many(&[(self, offset, size)]).map_err(|failed| failed.error)
    }

    fn written(&self, offset: u64, size: u64) -> Result<Vec<Range<u64>>, Error> {
        let range = self.part(offset, size)?;
        Ok(match self.atom_size() {
            None => Vec::new(),
            Some(_) if self.allocation().mapped.is_some() => vec![range],
            Some(atom) => self.writers().lock().borrow().written(range, atom, |_| true),
        })
    }

    /// Invalidates a range: makes device writes visible to the host; see [`flush`](Self::flush). Unflushed
    /// host writes are lost, except those of copies that other threads are running.
    pub fn invalidate(&self, offset: u64, size: u64) -> Result<(), Error> {
        if self.atom_size().is_none() {
            self.part(offset, size)?;
            tell_visible(self, EventKind::Invalidate, &[(self, offset, size)]);
            return Ok(());
        }
        invalidate_many(&[(self, offset, size)]).map_err(|failed| failed.error)
    }

    /// Makes device writes visible to the host, except in atoms that the host may have written to without a
    /// flush.
    pub fn refresh(&self, offset: u64, size: u64) -> Result<(), Error> {
        let _quiet = quiet(&[(self, offset, size)]);
        let stale = self.stale(offset, size, |_| true)?;
        self.invalidate_parts(stale)
    }

    /// Returns the atoms of a range that an invalidate may replace.
    fn stale(
        &self,
        offset: u64,
        size: u64,
        spared: impl Fn(HostWriter) -> bool,
    ) -> Result<Vec<Range<u64>>, Error> {
        let range = self.part(offset, size)?;
        let Some(atom) = self.atom_size() else { return Ok(Vec::new()) };
        Ok(self.writers().lock().borrow().unwritten(range, atom, spared))
    }

    /// Registers a writer; to be called before the host writes to mapped non-coherent memory. Invalidates all
    /// atoms of a view, or those that a copy fills in part, so that the later flush writes no stale bytes to
    /// the device.
    pub fn begin_write(
        &self,
        offset: u64,
        size: u64,
        writer: HostWriter,
    ) -> Result<Option<WriterId>, Error> {
        let range = self.part(offset, size)?;
        let Some(atom) = self.atom_size() else { return Ok(None) };
        let writers = self.writers().lock();
        let stale = {
            let ranges = writers.borrow();
            let unwritten = |range| ranges.unwritten(range, atom, |_| true);
            match writer {
                HostWriter::View => unwritten(range.clone()),
                HostWriter::Copy => edges(range.clone(), atom).flat_map(unwritten).collect(),
            }
        };
        self.invalidate_parts(stale)?;
        Ok(Some(writers.borrow_mut().open(range, writer)))
    }

    /// Flushes what was written since [`begin_write`](Self::begin_write), and removes the writer.
    pub fn end_write(&self, writer: WriterId, offset: u64, size: u64) -> Result<(), Error> {
        let range = self.part(offset, size)?;
        let writers = self.writers().lock();
        let ranges = self.host_ranges(vec![range]);
        let flushed = self.allocator.engine().flush_many(&ranges).map_err(|failed| failed.error);
        writers.borrow_mut().close(writer);
        flushed
    }

    /// Returns `nonCoherentAtomSize` in bytes; `None` if the memory is coherent or not host-visible.
    pub fn atom_size(&self) -> Option<u64> {
        self.allocator.engine().atom_size(self.allocation().memory_type_index)
    }

    /// Converts ranges of the memory object, in whole atoms, to ranges of the allocation.
    fn host_ranges(&self, parts: Vec<Range<u64>>) -> Vec<HostRange> {
        let whole = &self.base().allocation();
        let inside = |it: Range<u64>| {
            let start = it.start.max(whole.offset);
            let end = it.end.min(whole.offset + whole.size).max(start);
            HostRange { id: whole.id, offset: start - whole.offset, size: end - start }
        };
        parts.into_iter().map(inside).collect()
    }

    fn invalidate_parts(&self, parts: Vec<Range<u64>>) -> Result<(), Error> {
        let ranges = self.host_ranges(parts);
        self.allocator.engine().invalidate_many(&ranges).map_err(|failed| failed.error)
    }

    /// Returns the resource that owns the memory: the base of an alias.
    fn base(&self) -> &Self {
        self.alias().map_or(self, |alias| &alias.base)
    }

    /// Returns the offset in its allocation, in bytes.
    pub fn start(&self) -> u64 {
        self.allocation().offset - self.base().allocation().offset
    }

    /// Converts a range of this resource to one of its memory object.
    fn part(&self, offset: u64, size: u64) -> Result<Range<u64>, Error> {
        let whole = self.allocation().size;
        let size = if size == u64::MAX { whole.saturating_sub(offset) } else { size };
        if offset > whole || size > whole - offset {
            let what = if self.alias().is_some() { "alias" } else { "allocation" };
            return Err(Error::InvalidArgument(format!(
                "{} from offset {offset} on: outside of the {what}'s {}",
                bytes(size),
                bytes(whole)
            )));
        }
        let start = self.allocation().offset + offset;
        Ok(start..start + size)
    }

    /// Returns the open writers of the memory, through any resource in it.
    fn writers(&self) -> &Writers {
        self.base().extras().writers()
    }

    /// Pins the resource for host access to its own memory; raises if the caller has bound it to other
    /// memory, which has to be accessed instead.
    pub fn enter_memory<'a>(&'a self, py: Python<'a>) -> PyResult<Pinned<'a>> {
        let pin = self.enter(py)?;
        if let Some(moves) = self.allocator.moves()
            && self.movable().is_some()
        {
            moves.wait_for(py, &self.allocator, self);
        }
        if !self.dont_bind {
            return Ok(pin);
        }
        let other = match self.allocator.device.bindings.lock().get(&self.handle()) {
            Some(Binding::Foreign(memory)) => memory.clone(),
            _ => return Ok(pin),
        };
        let (what, other) = (self.describe(), other.describe());
        let why = format!("{what} is bound to {other}, not to memory of its own: use that one");
        Err(invalid(py, why))
    }

    /// Adds an open mapping.
    pub fn begin_mapping(&self) {
        for it in self.mapped_by_it() {
            it.open_mappings.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Returns whether there is an open mapping.
    pub fn has_open_mapping(&self) -> bool {
        self.base().open_mappings.load(Ordering::Acquire) > 0
    }

    /// Removes an open mapping.
    pub fn end_mapping(&self) {
        for it in self.mapped_by_it() {
            it.open_mappings.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// This one, and what it lies in if it is an alias.
    fn mapped_by_it(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.alias().map(|alias| &*alias.base))
    }

    /// An exception in a strict allocator where the memory was not created for the host.
    pub fn check_host_access(&self, face: &Face<'_>, py: Python<'_>) -> PyResult<()> {
        if self.host_access != HostAccess::None || !self.allocator.strict_host_access {
            return Ok(());
        }
        let why = format!(
            "{} was created without a HOST_ACCESS flag, and strict_host_access is on: the memory need \
             not be mappable on other devices. Pass flags=HOST_ACCESS_SEQUENTIAL_WRITE to write to it, \
             or HOST_ACCESS_RANDOM to read it",
            face.describe()
        );
        Err(to_py(py, &Error::MemoryMap(why)))
    }

    /// An exception in a strict allocator where the host reads memory that was created for writes in order.
    pub fn check_host_read(&self, face: &Face<'_>, py: Python<'_>) -> PyResult<()> {
        if self.host_access != HostAccess::Write || !self.allocator.strict_host_access {
            return Ok(());
        }
        let why = format!(
            "{} was created with HOST_ACCESS_SEQUENTIAL_WRITE, and strict_host_access is on: its memory may \
             be write-combined, from which the host reads very slowly. Pass flags=HOST_ACCESS_RANDOM to read it, \
             or use download()",
            face.describe()
        );
        Err(to_py(py, &Error::MemoryMap(why)))
    }

    /// An exception in a strict allocator where the host writes what a transfer in flight uses.
    pub fn check_host_write(&self, face: &Face<'_>, py: Python<'_>) -> PyResult<()> {
        if !self.allocator.strict_host_access {
            return Ok(());
        }
        self.allocator.retire_background(py);
        if !self.allocator.is_used_in_background(self) {
            return Ok(());
        }
        let why = format!(
            "{} is used by a transfer in flight, and strict_host_access is on: the device reads or writes it while \
             the host writes. Wait for the transfer first: Transfer.result() or Transfers.wait()",
            face.describe()
        );
        Err(to_py(py, &Error::MemoryMap(why)))
    }

    /// Tells a driver that wants to know that the host reads or writes a range now.
    pub fn tell_host_access(&self, py: Python<'_>, offset: u64, size: u64, writes: bool) {
        let driver = self.allocator.device_allocator.driver();
        if driver.sees_host_access() {
            let Allocation { memory, offset: start, .. } = self.allocation();
            let range = MemoryRange { memory, offset: start + offset, size };
            // It may wait for submissions that are carried out.
            detach(py, || driver.host_access(range, writes));
        }
    }
}

/// What moves bytes without a mapping, for errors.
const DEVICE_COPIES: &str = "upload() and download()";

impl<'a> Face<'a> {
    /// Registers a use of the memory by the host. An exception where there is no such use: of texels that
    /// lie as the driver likes, of memory that cannot be mapped, or that a strict allocator refuses.
    pub fn enter_host(&self, py: Python<'a>) -> PyResult<Pinned<'a>> {
        let pin = self.enter_memory(py)?;
        let resource = self.resource;
        if self.is_allocation && resource.allocator.debugger().is_some() {
            // It shows more than the buffer.
            resource.allocator.engine().end_slack(resource.allocation().id);
        }
        Ok(pin)
    }

    fn enter_memory(&self, py: Python<'a>) -> PyResult<Pinned<'a>> {
        let resource: &'a Resource = self.resource;
        let pin = resource.enter_memory(py)?;
        self.check_texels(py)?;
        resource.check_host_access(self, py)?;
        let index = resource.allocation().memory_type_index;
        let info = resource.allocator.engine().device().info();
        let is_memory = self.is_allocation || resource.handle() == ResourceHandle::Memory;
        if is_memory || info.flags_of(index).contains(MemoryPropertyFlags::HOST_VISIBLE) {
            return Ok(pin);
        }
        let why = format!(
            "{} cannot be mapped: memory type {index} is not HOST_VISIBLE. Use {DEVICE_COPIES}, or ask \
             for HOST_ACCESS_SEQUENTIAL_WRITE or HOST_ACCESS_RANDOM when creating it",
            self.describe()
        );
        Err(to_py(py, &Error::MemoryMap(why)))
    }

    /// Like [`enter_host`](Self::enter_host), for a read.
    pub fn enter_host_to_read(&self, py: Python<'a>) -> PyResult<Pinned<'a>> {
        let pin = self.enter_memory(py)?;
        self.resource.check_host_read(self, py)?;
        Ok(pin)
    }

    /// Like [`enter_host`](Self::enter_host), for a write.
    pub fn enter_host_to_write(&self, py: Python<'a>) -> PyResult<Pinned<'a>> {
        let pin = self.enter_host(py)?;
        self.resource.check_host_write(self, py)?;
        Ok(pin)
    }

    /// An exception for an image whose bytes are not rows of texels.
    fn check_texels(&self, py: Python<'_>) -> PyResult<()> {
        let resource = self.resource;
        let is_image = matches!(resource.handle(), ResourceHandle::Image(_));
        if self.is_allocation || !is_image || resource.kind == ResourceKind::ImageLinear {
            return Ok(());
        }
        let why = format!(
            "{} is not of tiling LINEAR: where its texels lie is the driver's affair. Use {DEVICE_COPIES}, \
             or create it with tiling=LINEAR; image.allocation has the bytes as they are",
            self.describe()
        );
        Err(invalid(py, why))
    }
}
