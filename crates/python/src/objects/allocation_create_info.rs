//! The keywords of every allocating call, and `vk_mem.AllocationCreateInfo`, which stores them.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit};
use vkmem_engine::{
    AllocationCreateFlags, AllocationCreateInfo as EngineCreateInfo, MemoryPropertyFlags,
    MemoryUsage,
};
use vkmem_vulkan::read_allocation_chain;

use super::pool::Pool;
use crate::arguments::chains::chain_address;
use crate::arguments::numbers::{
    ALLOCATION_CREATE_FLAGS, MEMORY_PROPERTY_FLAGS, MEMORY_USAGE, flags, of_class, real, unsigned,
    unsigned_32,
};
use crate::arguments::options::{eviction, eviction_object};
use crate::arguments::text::Text;
use crate::errors::{IntoPyResult, invalid};
use crate::interop::handle_types::export_types;
use crate::lifetime::movable::{Movability, movability};
use crate::lifetime::ownership::PoolState;
use crate::package::unexpected_keyword;
use crate::process::links::Link;

/// The keywords of one call.
#[derive(Default)]
pub struct Keywords {
    /// The options for the engine.
    pub create: EngineCreateInfo,
    /// The name, for messages and dumps.
    pub name: Option<String>,
    /// The caller's `user_data`.
    pub user_data: Option<Link<PyAny>>,
    /// The pool to allocate from; `create` has its handle.
    pub pool: Option<Arc<PoolState>>,
    /// Whether the resource may move; `None` leaves that to the pool.
    pub movable: Option<Movability>,
    /// Whether `evict` was given.
    pub(super) has_evict: bool,
    /// The caller's `Pool` object, which keeps alive what the pool needs to allocate.
    pool_object: Option<Link<Pool>>,
    /// The object that `memory_allocate_next` points into.
    next: Option<Link<PyAny>>,
}

impl Keywords {
    /// Reads all keywords; `other` reads those of the call itself, and returns false if it does not know one.
    pub fn read(
        function: &str,
        keywords: Option<&Bound<'_, PyDict>>,
        mut other: impl FnMut(&str, &Bound<'_, PyAny>) -> PyResult<bool>,
    ) -> PyResult<Self> {
        let Some(keywords) = keywords else { return Ok(Self::default()) };
        let mut read = match keywords.get_item("allocation_info")? {
            Some(kept) if !kept.is_none() => {
                let kept = kept.cast::<AllocationCreateInfo>().map_err(|_| {
                    PyTypeError::new_err("allocation_info must be a vk_mem.AllocationCreateInfo")
                })?;
                kept.get().keywords.copy(keywords.py())
            }
            _ => Self::default(),
        };
        for (key, value) in keywords.iter() {
            let key = key.cast::<PyString>()?.to_string_lossy().into_owned();
            if key != "allocation_info" && !read.take(&key, &value)? && !other(&key, &value)? {
                return Err(unexpected_keyword(value.py(), function, &key));
            }
        }
        if read.create.memory_allocate_next != 0 {
            // SAFETY: the caller guarantees the chain, which `read` keeps alive.
            unsafe { read_allocation_chain(&mut read.create) }.or_raise(keywords.py())?;
        }
        Ok(read)
    }

    /// Returns a new reference to the caller's object.
    pub fn user_data(&self, py: Python<'_>) -> Option<Link<PyAny>> {
        self.user_data.as_ref().map(|data| Link::new(data.clone_ref(py)))
    }

    /// Whether the buffer or image may move.
    pub fn movability(&self) -> Movability {
        let of_pool = || self.pool.as_ref().map_or(Movability::Fixed, |pool| pool.movable);
        self.movable.unwrap_or_else(of_pool)
    }

    /// Keeps how a buffer or an image is created that may move, by what `keep` returns or says against it;
    /// `None` if it stays. An exception where it cannot move, with the reason.
    pub fn keep<T>(
        &self,
        py: Python<'_>,
        keep: impl FnOnce() -> Result<T, &'static str>,
    ) -> PyResult<Option<T>> {
        if self.movability() == Movability::Fixed {
            return Ok(None);
        }
        let create = &self.create;
        let lazy = MemoryPropertyFlags::LAZILY_ALLOCATED;
        let protected = MemoryPropertyFlags::PROTECTED;
        let why = if create.flags.contains(AllocationCreateFlags::DONT_BIND) {
            "DONT_BIND leaves it to the caller where it is bound"
        } else if create.export_handle_types != 0 {
            "its memory is exported (export_handle_types)"
        } else if create.memory_allocate_next != 0 {
            "its memory is allocated as memory_allocate_next says, which may not be known later"
        } else if create.usage == MemoryUsage::GpuLazilyAllocated
            || create.required_flags.contains(lazy)
        {
            "lazily allocated memory cannot be copied"
        } else if create.required_flags.contains(protected) {
            "protected memory cannot be copied"
        } else {
            match keep() {
                Ok(kept) => return Ok(Some(kept)),
                Err(why) => why,
            }
        };
        Err(cannot_move(py, why))
    }

    /// An exception if `movable` was given to a call that creates nothing that could move.
    pub fn refuse_movable(&self, py: Python<'_>, why: &str) -> PyResult<()> {
        match self.movable {
            None | Some(Movability::Fixed) => Ok(()),
            Some(_) => Err(cannot_move(py, why)),
        }
    }

    fn copy(&self, py: Python<'_>) -> Self {
        Self {
            create: self.create,
            name: self.name.clone(),
            user_data: self.user_data(py),
            pool: self.pool.clone(),
            movable: self.movable,
            has_evict: self.has_evict,
            pool_object: self.pool_object.as_ref().map(|pool| Link::new(pool.clone_ref(py))),
            next: self.next.as_ref().map(|next| Link::new(next.clone_ref(py))),
        }
    }

    fn take(&mut self, key: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let properties = |value| {
            of_class(value, key, &MEMORY_PROPERTY_FLAGS).map(MemoryPropertyFlags::from_bits_retain)
        };
        match key {
            "usage" => self.create.usage = memory_usage(value)?,
            "flags" => {
                let bits = of_class(value, key, &ALLOCATION_CREATE_FLAGS)?;
                self.create.flags = AllocationCreateFlags::from_bits_retain(bits);
            }
            "required_flags" => self.create.required_flags = properties(value)?,
            "preferred_flags" => self.create.preferred_flags = properties(value)?,
            "not_preferred_flags" => self.create.not_preferred_flags = properties(value)?,
            "memory_type_bits" => self.create.memory_type_bits = unsigned_32(value, key)?,
            "min_alignment" => self.create.min_alignment = unsigned(value, key)?,
            "priority" if value.is_none() => self.create.priority = None,
            "priority" => self.create.priority = Some(real(value, key)? as f32),
            "export_handle_types" => self.create.export_handle_types = export_types(value)?,
            "memory_allocate_next" if value.is_none() => {
                self.create.memory_allocate_next = 0;
                self.next = None;
            }
            "memory_allocate_next" => {
                self.create.memory_allocate_next = chain_address(value, key)?;
                self.next = Some(Link::new(value.clone().unbind()));
            }
            "pool" => {
                let pool = if value.is_none() { None } else { Some(pool(value)?) };
                self.pool = pool.map(|pool| pool.get().state.clone());
                self.pool_object = pool.map(|pool| Link::new(pool.clone().unbind()));
                self.create.pool = self.pool.as_ref().map(|pool| pool.id);
            }
            "evict" => {
                self.has_evict = !value.is_none();
                self.create.evict = eviction(value)?;
            }
            "movable" if value.is_none() => self.movable = None,
            "movable" => self.movable = Some(movability(value)?),
            "name" if value.is_none() => self.name = None,
            "name" => self.name = Some(Text::string(value, key)?),
            "user_data" if value.is_none() => self.user_data = None,
            "user_data" => self.user_data = Some(Link::new(value.clone().unbind())),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn cannot_move(py: Python<'_>, why: &str) -> PyErr {
    invalid(py, format!("movable: it cannot move: {why}"))
}

fn pool<'a, 'py>(value: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, Pool>> {
    value.cast::<Pool>().map_err(|_| PyTypeError::new_err("pool must be a vk_mem.Pool"))
}

fn memory_usage(value: &Bound<'_, PyAny>) -> PyResult<MemoryUsage> {
    let raw = of_class(value, "usage", &MEMORY_USAGE)?;
    MemoryUsage::from_raw(raw).ok_or_else(|| {
        invalid(
            value.py(),
            format!(
                "usage={raw} is not a MemoryUsage (what a buffer or image is used for is a \
                 positional argument)"
            ),
        )
    })
}

/// A set of allocation keywords for reuse (`VmaAllocationCreateInfo`).
///
/// The keywords are those of every call that allocates: `usage` (`MemoryUsage.AUTO`), `flags`
/// (`AllocationCreateFlags`), `required_flags`, `preferred_flags` and `not_preferred_flags`
/// (`MemoryPropertyFlags`), `memory_type_bits` (bit i: type i may be used; 0: all), `min_alignment` (bytes, a
/// power of two), `name`, `user_data` (any object), `allocation_info` (a set whose values are the defaults),
/// `pool`, `movable` (whether `Allocator.defragment` may move it), `evict` (how far `CAN_MAKE_OTHER_LOST` goes),
/// `priority` (0 to 1; of dedicated memory, if `VK_EXT_memory_priority` is enabled, and among what may be lost,
/// where 0.5 is the default), and `export_handle_types` (`ExternalMemoryHandleType`), as which the memory can be
/// exported.
///
/// What is created with `CAN_BECOME_LOST` may be lost when a request with `CAN_MAKE_OTHER_LOST` finds no room: those
/// of the lowest priority first, and of these the least recently used, if nothing has used them in this frame or in
/// the `frames_in_use` frames before (`set_current_frame_index`), and nothing maps or holds them. `evict` says of the
/// request what it takes: "idle" any of those, "lower_priority" only what has a lower priority than itself, a
/// number what was not used for at least so many frames, "never" nothing.
///
/// Outside of a pool that exports these types, an exportable allocation has a `VkDeviceMemory` of its own.
/// That names the buffer or image (`VkMemoryDedicatedAllocateInfo`) if the driver prefers it or
/// `DEDICATED_MEMORY` is set.
///
/// `memory_allocate_next` is the address or the first struct of a `pNext` chain for its `vkAllocateMemory`,
/// as in `vmaCreateDedicatedBuffer`: such an allocation has a `VkDeviceMemory` of its own. Structs that the
/// chain contains are not added again. The chain may import memory.
#[pyclass(module = "vk_mem", frozen)]
pub struct AllocationCreateInfo {
    keywords: Keywords,
}

impl AllocationCreateInfo {
    /// Returns the options for the engine.
    pub fn create(&self) -> EngineCreateInfo {
        self.keywords.create
    }
}

#[pymethods]
impl AllocationCreateInfo {
    #[new]
    #[pyo3(signature = (**keywords))]
    fn new(keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let keywords = Keywords::read("AllocationCreateInfo", keywords, |_, _| Ok(false))?;
        Ok(Self { keywords })
    }

    /// `MemoryUsage`.
    #[getter]
    fn usage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        flags(py, "MemoryUsage", self.keywords.create.usage as u64)
    }

    /// `AllocationCreateFlags`.
    #[getter]
    fn flags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        flags(py, "AllocationCreateFlags", self.keywords.create.flags.bits().into())
    }

    /// `MemoryPropertyFlags` that a memory type must have, all of them.
    #[getter]
    fn required_flags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        flags(py, "MemoryPropertyFlags", self.keywords.create.required_flags.bits().into())
    }

    /// `MemoryPropertyFlags` that a memory type should have: each that is missing adds 1 to its cost.
    #[getter]
    fn preferred_flags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        flags(py, "MemoryPropertyFlags", self.keywords.create.preferred_flags.bits().into())
    }

    /// `MemoryPropertyFlags` that a memory type should not have: each that is present adds 1 to its cost.
    #[getter]
    fn not_preferred_flags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        flags(py, "MemoryPropertyFlags", self.keywords.create.not_preferred_flags.bits().into())
    }

    /// Mask of memory types: bit i allows type i. 0 allows all.
    #[getter]
    fn memory_type_bits(&self) -> u32 {
        self.keywords.create.memory_type_bits
    }

    /// Priority from 0 to 1 (`VK_EXT_memory_priority`); None for that of the pool, or the driver's.
    #[getter]
    fn priority(&self) -> Option<f32> {
        self.keywords.create.priority
    }

    /// `ExternalMemoryHandleType` flags that the memory can be exported as.
    #[getter]
    fn export_handle_types<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        flags(py, "ExternalMemoryHandleType", self.keywords.create.export_handle_types.into())
    }

    /// Whether what is created may move (`Allocator.defragment`): a bool, or "with_address" where the caller
    /// follows its device address; None leaves that to the pool.
    #[getter]
    fn movable<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(match self.keywords.movable {
            None => None,
            Some(Movability::WithAddress) => Some("with_address".into_pyobject(py)?.into_any()),
            Some(other) => {
                Some(PyBool::new(py, other == Movability::Movable).to_owned().into_any())
            }
        })
    }

    /// What CAN_MAKE_OTHER_LOST takes away: "idle", "never", "lower_priority", or what was not used for a number
    /// of frames.
    #[getter]
    fn evict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        eviction_object(py, self.keywords.create.evict)
    }

    /// The pool to allocate from; None for the default pools.
    #[getter]
    fn pool(&self, py: Python<'_>) -> Option<Py<Pool>> {
        self.keywords.pool_object.as_ref().map(|pool| pool.clone_ref(py))
    }

    /// Address or first struct of a `pNext` chain for `vkAllocateMemory`; None without one.
    #[getter]
    fn memory_allocate_next(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.keywords.next.as_ref().map(|next| next.clone_ref(py))
    }

    /// Minimum alignment in bytes, a power of two; raises the one that the resource requires.
    #[getter]
    fn min_alignment(&self) -> u64 {
        self.keywords.create.min_alignment
    }

    /// Name for messages and dumps.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.keywords.name.as_deref()
    }

    /// Any Python object that the caller attaches to the allocation.
    #[getter]
    fn user_data(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.keywords.user_data.as_ref().map(|data| data.clone_ref(py))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let usage = this.usage(slf.py())?.getattr("name")?;
        let flags = this.flags(slf.py())?.repr()?;
        Ok(format!("<vk_mem.AllocationCreateInfo usage={usage} flags={flags}>"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(pool) = &self.keywords.pool_object {
            visit.call(&**pool)?;
        }
        if let Some(next) = &self.keywords.next {
            visit.call(&**next)?;
        }
        self.keywords.user_data.as_ref().map_or(Ok(()), |data| visit.call(&**data))
    }
}
