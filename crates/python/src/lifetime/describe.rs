//! Names of resources and pools, and their descriptions in messages.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use vkmem_engine::recording::Told;
use vkmem_engine::words::bytes;
use vkmem_engine::{Allocation, Error, PoolKey};
use vkmem_vulkan::ResourceHandle;

use super::ownership::{PoolState, Resource};
use crate::errors::invalid;
use crate::observe::event::{Event, EventKind, Named};

impl Resource {
    /// Returns the Vulkan handle.
    #[inline(always)]
    pub fn handle(&self) -> ResourceHandle {
        self.location.get().handle
    }

    /// Returns the allocation: memory object, offset and size.
    #[inline(always)]
    pub fn allocation(&self) -> Allocation {
        self.location.get().allocation
    }

    /// Returns its number among all resources of the allocator, in the order of creation.
    pub fn serial(&self) -> u64 {
        self.serial.load(Ordering::Relaxed)
    }

    /// Returns class and name: `Buffer 'staging'`.
    pub fn title(&self) -> String {
        let name = self.name().ok().flatten();
        let name = name.map_or(String::new(), |name| quoted(&name));
        format!("{}{name}", self.handle().class())
    }

    /// Returns the pool that it was created in; `None` for a default pool.
    pub fn pool(&self) -> Option<&Arc<PoolState>> {
        self.pool.as_ref()
    }

    /// Returns class, name, size and memory type: `Buffer 'staging' (16384 bytes, memory type 3)`.
    pub fn describe(&self) -> String {
        let (title, size) = (self.title(), bytes(self.host_size));
        format!("{title} ({size}, memory type {})", self.allocation().memory_type_index)
    }

    /// Returns the call site: `, created at a.py:3 in f, called from b.py:7 in g`; empty without call-site
    /// tracking.
    pub fn call_site_text(&self, py: Python<'_>) -> String {
        let Some(origin) = self.origin() else { return String::new() };
        let lines = self.allocator.sites.lines(py, origin.site);
        format!(", created at {}", lines.join(", called from "))
    }

    /// Returns the bytes that its end frees: 0 for an alias.
    pub fn own_size(&self) -> u64 {
        if self.alias().is_some() { 0 } else { self.allocation().size }
    }

    /// Raises `InvalidArgumentError` unless the range lies in the bytes that the host can access.
    pub fn check_range(&self, py: Python<'_>, offset: u64, size: u64) -> PyResult<()> {
        let whole = self.host_size;
        let inside = offset <= whole && size <= whole - offset;
        if inside { Ok(()) } else { Err(self.outside(py, offset, size)) }
    }

    /// Returns the exception for an offset, or a range, outside of the bytes that the host can access.
    pub fn outside(&self, py: Python<'_>, offset: u64, size: u64) -> PyErr {
        let what = self.describe();
        if offset > self.host_size {
            return invalid(py, format!("offset {offset} is outside of {what}"));
        }
        invalid(py, format!("{} at offset {offset}: outside of {what}", bytes(size)))
    }

    /// Returns the name, if it has one. What was lost has the one that it had then.
    pub fn name(&self) -> Result<Option<String>, Error> {
        if self.is_lost() {
            return Ok(self.last_name().map(String::from));
        }
        match self.alias() {
            Some(alias) => Ok(alias.name.lock().clone()),
            None => self.allocator.engine().name(self.allocation().id),
        }
    }

    /// Sets or removes the name.
    pub fn set_name(&self, name: Option<&str>) -> Result<(), Error> {
        if name.is_some() {
            self.was_named.store(true, Ordering::Relaxed);
        }
        let id = self.allocation().id;
        match self.alias() {
            Some(alias) => {
                *alias.name.lock() = name.map(String::from);
                self.allocator.engine().tell_recorder(|| Told::Name(self.as_told(), name));
            }
            None => self.allocator.engine().set_name(id, name)?,
        }
        self.allocator.events.tell(EventKind::Name, || Event::Name(Named::Resource(id), name));
        Ok(())
    }
}

impl PoolState {
    /// Sets or removes the name.
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
        let told = || Told::NamePool(self.id, given);
        self.allocator.engine().tell_recorder(told);
        self.allocator.events.tell(EventKind::Name, || Event::Name(named, given));
    }

    /// Returns whether an allocation with this `pool_key` is of this pool.
    pub fn holds(&self, pool_key: PoolKey) -> bool {
        pool_key == PoolKey::Custom(self.id)
    }

    /// Returns the description in messages: `Pool 'meshes' (memory type 3)`.
    pub fn describe(&self) -> String {
        let name = self.name.lock().as_ref().map_or(String::new(), |name| quoted(name));
        let memory_type = self.allocator.engine().pool_info(self.id).map(|it| it.memory_type_index);
        let memory_type = memory_type.map_or(String::new(), |it| format!(" (memory type {it})"));
        format!("Pool{name}{memory_type}")
    }

    /// Returns what is said of memory in it: `in pool 'textures'`; `None` without a name.
    pub fn place(&self) -> Option<String> {
        self.name.lock().as_ref().map(|name| format!("in pool{}", quoted(name)))
    }
}

/// Returns a name in quotes, on one line, with a space before it.
pub fn quoted(name: &str) -> String {
    format!(" '{}'", name.escape_debug())
}
