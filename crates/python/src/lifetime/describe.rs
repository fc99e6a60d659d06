//! Names, and how messages speak of things.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use vkmem_engine::words::bytes;
use vkmem_engine::{Allocation, Error, PoolKey};
use vkmem_vulkan::ResourceHandle;

use super::ownership::{PoolState, Resource};
use crate::errors::invalid;
use crate::observe::event::{Event, EventKind, Named};

impl Resource {
    /// Returns the handle of Vulkan.
    #[inline(always)]
    pub fn handle(&self) -> ResourceHandle {
        self.location.handle
    }

    /// Returns where its memory is.
    #[inline(always)]
    pub fn allocation(&self) -> &Allocation {
        &self.location.allocation
    }

    /// Its number among all resources of the allocator.
    pub fn serial(&self) -> u64 {
        self.serial.load(Ordering::Relaxed)
    }

    /// `Buffer 'staging'`
    pub fn title(&self) -> String {
        let name = self.name().ok().flatten();
        let name = name.map_or(String::new(), |name| quoted(&name));
        format!("{}{name}", self.handle().class())
    }

    /// `Buffer 'staging' (16384 bytes, memory type 3)`
    pub fn describe(&self) -> String {
        let (title, size) = (self.title(), bytes(self.host_size));
        format!("{title} ({size}, memory type {})", self.allocation().memory_type_index)
    }

    /// `, created at a.py:3 in f, called from b.py:7 in g`; empty if that is not kept.
    pub fn made_at(&self, py: Python<'_>) -> String {
        let Some(origin) = self.origin() else { return String::new() };
        let lines = self.allocator.sites.lines(py, origin.site);
        format!(", created at {}", lines.join(", called from "))
    }

    /// Bytes that come free with it.
    pub fn own_size(&self) -> u64 {
        if self.alias().is_some() { 0 } else { self.allocation().size }
    }

    /// An exception unless the range lies in what the host may see.
    pub fn check_range(&self, py: Python<'_>, offset: u64, size: u64) -> PyResult<()> {
        let whole = self.host_size;
        let inside = offset <= whole && size <= whole - offset;
        if inside { Ok(()) } else { Err(self.outside(py, offset, size)) }
    }

    /// The exception of such a range.
    pub fn outside(&self, py: Python<'_>, offset: u64, size: u64) -> PyErr {
        let what = self.describe();
        if offset > self.host_size {
            return invalid(py, format!("offset {offset} is outside of {what}"));
        }
        invalid(py, format!("{} at offset {offset}: outside of {what}", bytes(size)))
    }

    /// The name, if it has one.
    pub fn name(&self) -> Result<Option<String>, Error> {
        match self.alias() {
            Some(alias) => Ok(alias.name.lock().clone()),
            None => self.allocator.engine().name(self.allocation().id),
        }
    }

    /// Names it, or takes its name away.
    pub fn set_name(&self, name: Option<&str>) -> Result<(), Error> {
        if name.is_some() {
            self.was_named.store(true, Ordering::Relaxed);
        }
        let id = self.allocation().id;
        match self.alias() {
            Some(alias) => *alias.name.lock() = name.map(String::from),
            None => self.allocator.engine().set_name(id, name)?,
        }
        self.allocator.events.tell(EventKind::Name, || Event::Name(Named::Resource(id), name));
        Ok(())
    }
}

impl PoolState {
    /// Names it, or takes its name away.
    pub fn set_name(&self, name: Option<&str>) {
        let given = name;
        let name: Option<Arc<str>> = name.map(Arc::from);
        let mut names = self.allocator.pool_names.lock();
        match &name {
            Some(name) => names.insert(self.id, name.clone()),
            None => names.remove(&self.id),
        };
        drop(names);
        *self.name.lock() = name;
        let named = Named::Pool(self.id);
        self.allocator.events.tell(EventKind::Name, || Event::Name(named, given));
    }

    /// Whether something of the allocator lives in this pool.
    pub fn holds(&self, pool_key: PoolKey) -> bool {
        pool_key == PoolKey::Custom(self.id)
    }

    /// `Pool 'meshes' (memory type 3)`
    pub fn describe(&self) -> String {
        let name = self.name.lock().as_ref().map_or(String::new(), |name| quoted(name));
        let memory_type = self.allocator.engine().pool_info(self.id).map(|it| it.memory_type_index);
        let memory_type = memory_type.map_or(String::new(), |it| format!(" (memory type {it})"));
        format!("Pool{name}{memory_type}")
    }
}

/// A name in a message, on one line.
pub fn quoted(name: &str) -> String {
    format!(" '{}'", name.escape_debug())
}
