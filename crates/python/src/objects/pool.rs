//! `vk_mem.Pool`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{PoolCreateInfo, PoolId};

use super::loss_callbacks;
use super::statistics::Statistics;
use crate::arguments::chains::chain_address;
use crate::arguments::numbers::{of_type, real, unsigned, unsigned_32};
use crate::arguments::options::algorithm;
use crate::arguments::text::Text;
use crate::debugging;
use crate::debugging::raising::{end_block, is_failing};
use crate::debugging::read::{debug_object, debug_of_pool};
use crate::debugging::settings::DebugSettings;
use crate::errors::{IntoPyResult, pinned, use_after_free};
use crate::interop::handle_types::export_types;
use crate::interpreter::detach;
use crate::lifetime::close::{Closed, TO_END_ONE, in_use, leaked};
use crate::lifetime::movable::{Movability, movability};
use crate::lifetime::ownership::{AllocatorState, PoolState};
use crate::lifetime::pins::NotClosed;
use crate::lifetime::release::release_all;
use crate::observe::event::{Event, EventKind};
use crate::package::unexpected_keyword;
use crate::process::host_memory::check_room;
use crate::process::links::Link;

/// Memory of one type with options of its own (`VmaPool`).
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct Pool {
    pub state: Arc<PoolState>,
    /// The object that `memory_allocate_next` points into. Stored here and not in the Rust half, so that the
    /// cycle collector can traverse it: every caller that allocates from the pool has this object.
    next: Mutex<Option<Link<PyAny>>, rank::PoolNext>,
    /// What is done in it to find faults; `None`: what its allocator does.
    debug: Option<DebugSettings>,
}

/// Reads the keywords of `create_pool`.
pub struct PoolKeywords {
    /// The options for the engine; without the memory type if that has to be found.
    pub rules: PoolCreateInfo,
    /// Whether `memory_type_index` was given.
    pub has_memory_type: bool,
    /// An example of the resources, to find the memory type.
    pub like: Option<Py<PyAny>>,
    /// Whether what is created in it may move.
    movable: Movability,
    name: Option<String>,
    next: Option<Link<PyAny>>,
    /// What is done in it to find faults; `None`: what its allocator does.
    debug: Option<DebugSettings>,
}

impl PoolKeywords {
    /// Reads all keywords.
    pub fn read(keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut read = Self {
            rules: PoolCreateInfo::default(),
            has_memory_type: false,
            like: None,
            movable: Movability::default(),
            name: None,
            next: None,
            debug: None,
        };
        let Some(keywords) = keywords else { return Ok(read) };
        for (key, value) in keywords.iter() {
            let key = key.cast::<PyString>()?.to_string_lossy().into_owned();
            read.take(&key, &value)?;
        }
        Ok(read)
    }

    fn take(&mut self, key: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let rules = &mut self.rules;
        match key {
            "memory_type_index"
            | "like"
            | "block_size"
            | "min_block_count"
            | "max_block_count"
            | "algorithm"
            | "ignore_buffer_image_granularity"
            | "min_alignment"
            | "priority"
            | "memory_allocate_next"
            | "export_handle_types"
            | "fallback"
            | "frames_in_use"
            | "movable"
            | "debug"
            | "name"
                if value.is_none() => {}
            "memory_type_index" => {
                rules.memory_type_index = unsigned_32(value, key)?;
                self.has_memory_type = true;
            }
            "like" => self.like = Some(value.clone().unbind()),
            "block_size" => rules.block_size = Some(unsigned(value, key)?),
            "min_block_count" => rules.min_block_count = unsigned_32(value, key)?,
            "max_block_count" => rules.max_block_count = unsigned_32(value, key)?,
            "algorithm" => rules.algorithm = algorithm(value.py(), &Text::string(value, key)?)?,
            "ignore_buffer_image_granularity" => {
                rules.ignore_buffer_image_granularity = of_type(value, key, "a bool")?;
            }
            "min_alignment" => rules.min_alignment = unsigned(value, key)?,
            "priority" => rules.priority = Some(real(value, key)? as f32),
            "memory_allocate_next" => {
                rules.memory_allocate_next = chain_address(value, key)?;
                self.next = Some(Link::new(value.clone().unbind()));
            }
            "export_handle_types" => rules.export_handle_types = export_types(value)?,
            "fallback" => rules.fallback = of_type(value, key, "a bool")?,
            "frames_in_use" => rules.frames_in_use = Some(unsigned(value, key)?),
            "movable" => self.movable = movability(value)?,
            "debug" => {
                let debug = debug_of_pool(value)?;
                rules.debug = Some(debug.engine_options());
                self.debug = Some(debug);
            }
            "name" => self.name = Some(Text::string(value, key)?),
            _ => {
                return Err(unexpected_keyword(value.py(), "create_pool", key));
            }
        }
        Ok(())
    }

    /// Creates the Python object of a pool that the engine has created.
    pub fn create(self, id: PoolId, allocator: &Arc<AllocatorState>) -> Pool {
        let state = PoolState::new(allocator, id, self.movable);
        if let Some(debug) = self.debug {
            debugging::begin_pool(allocator, id, debug);
        }
        allocator.events.tell(EventKind::CreatePool, || Event::CreatePool(id));
        if self.name.is_some() {
            state.set_name(self.name.as_deref());
        }
        let (state, next) = (Arc::new(state), Mutex::new(self.next));
        Pool { state, next, debug: self.debug }
    }
}

impl Pool {
    fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        if self.state.pins.is_closed() {
            return Err(use_after_free(py, "the pool is closed"));
        }
        self.state.allocator.check_open(py)
    }

    fn rules(&self, py: Python<'_>) -> PyResult<PoolCreateInfo> {
        self.check_open(py)?;
        let _inside = self.state.allocator.enter(py)?;
        self.state.allocator.engine().pool_info(self.state.id).or_raise(py)
    }
}

#[pymethods]
impl Pool {
    /// Name for messages and dumps (`vmaSetPoolName`); None without one.
    #[getter]
    fn name(&self) -> Option<String> {
        self.state.name.lock().as_deref().map(String::from)
    }

    #[setter]
    fn set_name(&self, py: Python<'_>, name: Option<&str>) -> PyResult<()> {
        // Raises after the end, when another pool may have its number.
        self.rules(py)?;
        self.state.set_name(name);
        Ok(())
    }

    /// Index into the device's memory types.
    #[getter]
    fn memory_type_index(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(self.rules(py)?.memory_type_index)
    }

    /// "tlsf", "linear" or "buddy".
    #[getter]
    fn algorithm(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(self.rules(py)?.algorithm.name())
    }

    /// Size of each block in bytes; None if it was not given.
    #[getter]
    fn block_size(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        Ok(self.rules(py)?.block_size)
    }

    /// Frames after which what was not used in it may be lost.
    #[getter]
    fn frames_in_use(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.rules(py)?.frames_in_use.unwrap_or(self.state.allocator.frames_in_use()))
    }

    /// What is done in it to find faults of the program: the `Debug` of `debug=`; None if that was not given, as
    /// then its allocator's applies.
    #[getter]
    fn debug<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.rules(py)?;
        self.debug.map(|it| debug_object(py, &it)).transpose()
    }

    /// Whether the pool or its allocator was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.state.pins.is_closed() || self.state.allocator.pins.is_closed()
    }

    /// Counts blocks, allocations and unused ranges (`vmaCalculatePoolStatistics`).
    fn statistics(&self, py: Python<'_>) -> PyResult<Statistics> {
        self.rules(py)?;
        let _inside = self.state.allocator.enter(py)?;
        let (engine, id) = (self.state.allocator.engine(), self.state.id);
        detach(py, || engine.statistics_of_pool(id)).or_raise(py).map(Statistics::from)
    }

    /// Takes the memory of all resources in the pool that may be lost now (`vmaMakePoolAllocationsLost` of VMA 2.3):
    /// created with `CAN_BECOME_LOST`, not used in this frame and in the `frames_in_use` frames before, and neither
    /// mapped nor held. Returns their number.
    fn make_allocations_lost(&self, py: Python<'_>) -> PyResult<usize> {
        self.rules(py)?;
        self.state.allocator.change(py, || {
            let _inside = self.state.allocator.enter(py)?;
            let count = self.state.allocator.make_allocations_lost(py, Some(self.state.id))?;
            loss_callbacks::call(py, &self.state.allocator);
            Ok(count)
        })
    }

    /// Checks that nobody has written where nobody may in the pool (`vmaCheckPoolCorruption`): margins and memory in
    /// quarantine. Returns the number of ranges that were checked; see `Allocator.check_corruption`.
    fn check_corruption(&self, py: Python<'_>) -> PyResult<u64> {
        self.rules(py)?;
        let _inside = self.state.allocator.enter(py)?;
        self.state.allocator.check_corruption(py, u32::MAX, Some(self.state.id))
    }

    /// Frees all memory of the pool (`vmaDestroyPool`). Does nothing if it was closed before.
    ///
    /// Resources that are still live in it are released and listed in a `ResourceWarning`. Raises
    /// `BufferError`, and changes nothing, while a view is open.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let state = &self.state;
        if self.closed() {
            return Ok(());
        }
        state.allocator.change(py, || {
        let _inside = state.allocator.enter(py)?;
        state.allocator.retire_background(py);
        if let Some(moves) = state.allocator.moves() {
            moves.release(py, &state.allocator, &|pool_key| state.holds(pool_key));
        }
        let count = state.allocator.live.lock().len() + state.allocator.waiting().0;
        check_room(py, count, TO_END_ONE)?;
        let live = state.allocator.live.lock().all();
        let live: Vec<_> =
            live.into_iter().filter(|it| state.holds(it.allocation().id.pool_key())).collect();
        in_use(&live, "pool")?;
        state.allocator.check_retired_views(|pool_key| state.holds(pool_key), "pool")?;
        match state.pins.close(py) {
            Ok(()) => {}
            Err(NotClosed::Already) => return Ok(()),
            Err(NotClosed::InUse) => {
                return Err(pinned(
                    "cannot close the pool: a call allocates from it, in another thread or, around a \
                     callback, in this one",
                ));
            }
        }
        let leaked = leaked(py, &live, "pool");
        let lost = live.iter().filter_map(|it| it.lost_writes()).collect();
        let mut remains: Vec<_> = live.iter().filter_map(|it| it.close_for_allocator(py)).collect();
        remains.extend(state.allocator.take_collected(|pool_key| state.holds(pool_key)));
        release_all(py, &state.allocator, &remains);
        let destroyed = detach(py, || state.allocator.engine().destroy_pool(state.id));
        state.allocator.tell_device_memory(py);
        if destroyed.is_err() {
            // Another thread is releasing a resource of it, as at the start of a frame.
            state.pins.reopen(py);
        }
        destroyed.or_raise(py)?;
        state.allocator.events.tell(EventKind::DestroyPool, || Event::DestroyPool(state.id));
        state.allocator.pool_names.lock().remove(&state.id);
        Closed { leaked, lost }.warn(py, &state.allocator)
        })
    }

    fn __int__(&self) -> PyResult<u64> {
        // Vulkan has no handle type for a pool: any integer would be taken for another object.
        Err(PyTypeError::new_err(
            "a Pool has no handle of Vulkan: what is allocated from it has, as allocation.device_memory",
        ))
    }

    fn __index__(&self) -> PyResult<u64> {
        self.__int__()
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().check_open(slf.py())?;
        Ok(slf)
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        end_block(py, &self.state.allocator, is_failing(exception), 1, || self.close(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.next.try_lock().as_deref() {
            Some(Some(next)) => visit.call(&**next),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let next = self.next.lock().take();
        if next.is_some() {
            self.state.is_collected.store(true, Ordering::Relaxed);
        }
    }

    fn __repr__(&self) -> String {
        if self.state.allocator.device.is_forked() {
            return "<vk_mem.Pool, from before os.fork()>".into();
        }
        let state = if self.closed() { ", closed" } else { "" };
        format!("<vk_mem.{}{state}>", self.state.describe())
    }
}
