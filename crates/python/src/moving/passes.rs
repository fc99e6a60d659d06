//! `vk_mem.Defragmentation`, its passes and their moves.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use ash::vk;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{AllocationId, DefragmentationStatistics, Move};
use vkmem_vulkan::ResourceHandle;
use vkmem_vulkan::kept_info::{KeptBuffer, KeptImage, KeptInfo};

use super::callbacks::location;
use super::protocol::{Outcome, ProtocolRun, can_move};
use super::run::{Figures, statistics};
use crate::arguments::callback::{Callback, current, exchange};
use crate::arguments::create_info::{self, CommonKeywords, ImageKeywords};
use crate::arguments::numbers::{MOVE_OPERATION, of_class};
use crate::errors::{IntoPyResult, invalid, use_after_free};
use crate::interpreter::without_gil;
use crate::lifetime::location::Location;
use crate::lifetime::ownership::AllocatorState;
use crate::objects::resource::ResourceObject;
use crate::package::unexpected_keyword;
use crate::process::forks::in_one_process;

/// Names of `MoveOutcome`, in VMA's order.
const OPERATIONS: [&str; 3] = ["copy", "ignore", "destroy"];
const COPY: u8 = 0;
const DESTROY: u8 = 2;

/// Resources by the ids of their memory, that the caller lets move.
type Given = HashMap<AllocationId, Py<ResourceObject>>;

/// A defragmentation whose copies the caller makes (`VmaDefragmentationContext`), from
/// `Allocator.begin_defragmentation`: a context manager, and an iterator over `DefragmentationPass`.
///
/// The next pass ends the one before. The end of the `with` block ends the open pass without its moves, and the
/// defragmentation.
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct Defragmentation {
    allocator: Arc<AllocatorState>,
    run: Arc<ProtocolRun>,
    given: Mutex<Given, rank::ProtocolObjects>,
    open: Mutex<Option<Py<DefragmentationPass>>, rank::ProtocolObjects>,
    /// Called before each pass: a true result ends the iteration.
    interrupt: Callback,
    stayed: Mutex<BTreeMap<&'static str, u64>, rank::ProtocolObjects>,
    done: Mutex<Option<DefragmentationStatistics>, rank::ProtocolObjects>,
}

/// The moves of one pass (`VmaDefragmentationPassMoveInfo`).
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct DefragmentationPass {
    moves: Vec<Py<DefragmentationMove>>,
    has_ended: AtomicBool,
}

/// A move that the caller makes (`VmaDefragmentationMove`): of a `Buffer`, an `Image` or an `Allocation`, to
/// memory that is reserved for it.
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct DefragmentationMove {
    allocator: Arc<AllocatorState>,
    run: Arc<ProtocolRun>,
    plan: Move,
    object: Py<ResourceObject>,
    operation: AtomicU8,
    has_ended: AtomicBool,
}

/// The memory that a `DefragmentationMove` moves to (`VmaDefragmentationMove::dstTmpAllocation`).
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct DefragmentationDestination {
    of: Py<DefragmentationMove>,
}

impl Defragmentation {
    /// Takes a run that has begun.
    pub fn new(
        allocator: Arc<AllocatorState>,
        run: Arc<ProtocolRun>,
        given: Vec<Py<ResourceObject>>,
        interrupt: Option<Py<PyAny>>,
    ) -> Self {
        let by_id = given.into_iter().map(|it| (it.get().resource.allocation().id, it)).collect();
        Self {
            allocator,
            run,
            given: Mutex::new(by_id),
            open: Mutex::default(),
            interrupt: Mutex::new(interrupt),
            stayed: Mutex::default(),
            done: Mutex::default(),
        }
    }

    /// The object whose memory is to move; `None` if the caller has not let it.
    fn object(&self, py: Python<'_>, id: AllocationId) -> Option<Py<ResourceObject>> {
        if let Some(found) = self.given.lock().get(&id).map(|it| it.clone_ref(py)) {
            return Some(found);
        }
        let resource = self.allocator.movable_at(id)?;
        ResourceObject::of_movable(py, &resource).map(Bound::unbind)
    }

    fn next_moves(&self, py: Python<'_>) -> PyResult<Vec<Py<DefragmentationMove>>> {
        let given: HashMap<AllocationId, bool> = {
            let given = self.given.lock();
            given.iter().map(|(id, it)| (*id, can_move(&it.get().resource))).collect()
        };
        let allocator = &self.allocator;
        let turn = allocator.moving.enter(py)?;
        let moves = self.run.next_pass(py, allocator, |id| match given.get(&id) {
            Some(can) => *can,
            None => allocator.movable_at(id).is_some_and(|it| can_move(&it)),
        });
        drop(turn);
        let mut made = Vec::new();
        for plan in moves {
            let Some(object) = self.object(py, plan.source.id) else {
                self.run.cancel(py, allocator, &plan);
                continue;
            };
            let it = DefragmentationMove {
                allocator: allocator.clone(),
                run: self.run.clone(),
                plan,
                object,
                operation: AtomicU8::new(COPY),
                has_ended: AtomicBool::new(false),
            };
            made.push(Py::new(py, it)?);
        }
        Ok(made)
    }

    /// Ends a pass: its moves take place as their operations say. Raises the first exception after all of them.
    fn end_pass(&self, py: Python<'_>, pass: &DefragmentationPass) -> PyResult<()> {
        if pass.has_ended.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let mut result = Ok(());
        for it in &pass.moves {
            let ended = self.end_move(py, it.get());
            result = result.and(ended);
        }
        result
    }

    fn end_move(&self, py: Python<'_>, it: &DefragmentationMove) -> PyResult<()> {
        if it.has_ended.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let (run, allocator) = (&self.run, &self.allocator);
        let resource = &it.object.get().resource;
        match it.operation.load(Ordering::Relaxed) {
            COPY => {
                let has_handle = run.handle_of(it.plan.destination.id).is_some();
                let is_memory = resource.handle() == ResourceHandle::Memory;
                if !has_handle && !is_memory && !resource.pins.is_closed() {
                    run.cancel(py, allocator, &it.plan);
                    let class = resource.handle().class().to_lowercase();
                    let why = format!(
                        "a move with the operation 'copy' of {} has no new handle: call \
                         destination.create_{class}() and copy to it, or set 'ignore'",
                        resource.describe()
                    );
                    return Err(invalid(py, why));
                }
                match run.commit(py, allocator, &it.plan, resource)? {
                    Outcome::Moved => {
                        let mut given = self.given.lock();
                        let object = given.remove(&it.plan.source.id);
                        if let Some(object) = object {
                            given.insert(resource.allocation().id, object);
                        }
                    }
                    Outcome::Stayed(why) => {
                        if let Some(why) = why {
                            *self.stayed.lock().entry(why.name()).or_insert(0) += 1;
                        }
                    }
                }
                Ok(())
            }
            operation => {
                run.cancel(py, allocator, &it.plan);
                if operation == DESTROY { it.object.get().destroy(py) } else { Ok(()) }
            }
        }
    }

    fn end_all(&self, py: Python<'_>) {
        let open = self.open.lock().take();
        if let Some(open) = open {
            for it in &open.get().moves {
                if !it.get().has_ended.swap(true, Ordering::Relaxed) {
                    self.run.cancel(py, &self.allocator, &it.get().plan);
                }
            }
            open.get().has_ended.store(true, Ordering::Relaxed);
        }
        if !self.run.has_ended() {
            let done = self.run.end(&self.allocator);
            *self.done.lock() = Some(done);
        }
        let given = std::mem::take(&mut *self.given.lock());
        drop(given);
    }
}

impl Drop for Defragmentation {
    fn drop(&mut self) {
        let allocator = &self.allocator;
        if !self.run.has_ended() && !allocator.pins.is_closed() && !allocator.is_abandoned() {
            without_gil(|| {
                self.run.end(allocator);
            });
        }
    }
}

#[pymethods]
impl Defragmentation {
    /// What was done so far, as `DefragmentationStatistics` (`VmaDefragmentationStats`).
    #[getter]
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let ended = *self.done.lock();
        let done = ended.unwrap_or_else(|| self.run.statistics());
        let stayed = self.stayed.lock().clone();
        statistics(py, &Figures { done, stayed })
    }

    /// Ends the defragmentation; moves of an open pass do not take place. Does nothing if it has ended.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        if self.run.has_ended() {
            return Ok(());
        }
        let _inside = self.allocator.enter(py)?;
        self.end_all(py);
        Ok(())
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<DefragmentationPass>>> {
        let _inside = self.allocator.enter(py)?;
        if self.run.has_ended() {
            return Err(use_after_free(py, "the defragmentation has ended"));
        }
        let open = self.open.lock().take();
        if let Some(open) = open {
            self.end_pass(py, open.get())?;
        }
        if let Some(interrupt) = current(py, &self.interrupt) {
            let stop = in_one_process(py, || interrupt.call0())??;
            if stop.is_truthy()? {
                return Ok(None);
            }
        }
        let moves = self.next_moves(py)?;
        if moves.is_empty() {
            return Ok(None);
        }
        let pass = Py::new(py, DefragmentationPass { moves, has_ended: AtomicBool::new(false) })?;
        *self.open.lock() = Some(pass.clone_ref(py));
        Ok(Some(pass))
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        drop(slf.get().allocator.enter(slf.py())?);
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        // A closed allocator has ended it.
        if self.allocator.pins.is_closed() { Ok(()) } else { self.end(py) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(given) = self.given.try_lock() {
            for it in given.values() {
                visit.call(it)?;
            }
        }
        if let Some(interrupt) = self.interrupt.try_lock() {
            visit.call(&*interrupt)?;
        }
        match self.open.try_lock() {
            Some(open) => visit.call(&*open),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        exchange(&self.interrupt, None);
        let given = std::mem::take(&mut *self.given.lock());
        let open = self.open.lock().take();
        drop((given, open));
    }

    fn __repr__(&self) -> String {
        let state = if self.run.has_ended() { ", ended" } else { "" };
        format!("<vk_mem.Defragmentation{state}>")
    }
}

#[pymethods]
impl DefragmentationPass {
    /// Its moves, a tuple of `DefragmentationMove`.
    #[getter]
    fn moves<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.moves)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.moves.iter().try_for_each(|it| visit.call(it))
    }

    fn __repr__(&self) -> String {
        format!("<vk_mem.DefragmentationPass of {} moves>", self.moves.len())
    }
}

impl DefragmentationMove {
    fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        if self.has_ended.load(Ordering::Relaxed) || self.run.has_ended() {
            return Err(use_after_free(py, "the pass of the move has ended"));
        }
        Ok(())
    }

    fn create(&self, py: Python<'_>, kept: &KeptInfo) -> PyResult<u64> {
        let _inside = self.allocator.enter(py)?;
        self.check_open(py)?;
        let resource = &self.object.get().resource;
        let made = self.run.create_handle(py, &self.allocator, &self.plan, kept, resource.handle());
        made.or_raise(py).map(ResourceHandle::raw)
    }

    fn wrong(&self, py: Python<'_>, class: &str) -> PyErr {
        let what = self.object.get().resource.describe();
        invalid(py, format!("{what} is no {class}"))
    }
}

#[pymethods]
impl DefragmentationMove {
    /// The `Buffer`, `Image` or `Allocation` that moves.
    #[getter]
    fn resource(&self, py: Python<'_>) -> Py<ResourceObject> {
        self.object.clone_ref(py)
    }

    /// What happens to it at the end of the pass: "copy" (the default: it has the new handle and place, and what
    /// it had is destroyed), "ignore" (it stays) or "destroy" (it is destroyed). May be set to a `DefragmentationMoveOperation` as well.
    #[getter]
    fn operation(&self) -> &'static str {
        OPERATIONS[usize::from(self.operation.load(Ordering::Relaxed))]
    }

    #[setter]
    fn set_operation(&self, py: Python<'_>, operation: &Bound<'_, PyAny>) -> PyResult<()> {
        self.check_open(py)?;
        let number = of_class(operation, "operation", &MOVE_OPERATION)?;
        if number as usize >= OPERATIONS.len() {
            let why = format!("operation is {number}; it must be 'copy', 'ignore' or 'destroy'");
            return Err(invalid(py, why));
        }
        self.operation.store(number as u8, Ordering::Relaxed);
        Ok(())
    }

    /// Where it is, as a `Location`.
    #[getter]
    fn source<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        location(py, &Location { handle: ResourceHandle::Memory, allocation: self.plan.source })
    }

    /// Where it is to be, a `DefragmentationDestination`.
    #[getter]
    fn destination(slf: &Bound<'_, Self>) -> DefragmentationDestination {
        DefragmentationDestination { of: slf.clone().unbind() }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)
    }

    fn __repr__(&self) -> String {
        let what = self.object.get().resource.describe();
        format!("<vk_mem.DefragmentationMove of {what}, '{}'>", self.operation())
    }
}

#[pymethods]
impl DefragmentationDestination {
    /// The `VkDeviceMemory`.
    #[getter]
    fn device_memory(&self) -> u64 {
        self.of.get().plan.destination.memory.0
    }

    /// Offset in it, in bytes.
    #[getter]
    fn offset(&self) -> u64 {
        self.of.get().plan.destination.offset
    }

    /// Size in bytes.
    #[getter]
    fn size(&self) -> u64 {
        self.of.get().plan.destination.size
    }

    /// Creates the `VkBuffer` that the buffer has from the end of the pass on, bound to the destination, and
    /// returns it, to be copied to. A movable buffer needs no arguments; any other those of `create_buffer` that
    /// describe a buffer, which have to be those that it was created with.
    ///
    /// Raises `InvalidArgumentError` if it does not fit the destination, or there is one already, and
    /// `UseAfterFreeError` after the end of the pass.
    #[pyo3(signature = (size = None, buffer_usage = None, **keywords))]
    fn create_buffer(
        &self,
        py: Python<'_>,
        size: Option<&Bound<'_, PyAny>>,
        buffer_usage: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, pyo3::types::PyDict>>,
    ) -> PyResult<u64> {
        let of = self.of.get();
        let resource = &of.object.get().resource;
        if !matches!(resource.handle(), ResourceHandle::Buffer(_)) {
            return Err(of.wrong(py, "buffer"));
        }
        if let Some(movable) = resource.movable()
            && size.is_none()
            && keywords.is_none()
        {
            return of.create(py, &movable.kept);
        }
        let mut common = CommonKeywords::default();
        for (key, value) in keywords.into_iter().flat_map(|it| it.iter()) {
            let key: String = key.extract()?;
            if !common.take(&key, &value)? {
                return Err(unexpected_keyword(py, "create_buffer", &key));
            }
        }
        let built = create_info::buffer(py, size, buffer_usage, common)?;
        // SAFETY: created here, or a struct of the caller that interop has checked.
        let kept = unsafe { KeptBuffer::of(&built.info) };
        of.create(py, &KeptInfo::Buffer(kept.map_err(|why| invalid(py, why))?))
    }

    /// Creates the `VkImage` that the image has from the end of the pass on, in layout UNDEFINED; see
    /// `create_buffer`.
    #[pyo3(signature = (format = None, extent = None, image_usage = None, **keywords))]
    fn create_image(
        &self,
        py: Python<'_>,
        format: Option<&Bound<'_, PyAny>>,
        extent: Option<&Bound<'_, PyAny>>,
        image_usage: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, pyo3::types::PyDict>>,
    ) -> PyResult<u64> {
        let of = self.of.get();
        let resource = &of.object.get().resource;
        if !matches!(resource.handle(), ResourceHandle::Image(_)) {
            return Err(of.wrong(py, "image"));
        }
        if let Some(movable) = resource.movable()
            && format.is_none()
            && keywords.is_none()
        {
            return of.create(py, &movable.kept);
        }
        let mut image = ImageKeywords::default();
        for (key, value) in keywords.into_iter().flat_map(|it| it.iter()) {
            let key: String = key.extract()?;
            if !image.take(&key, &value)? {
                return Err(unexpected_keyword(py, "create_image", &key));
            }
        }
        let built: create_info::Built<vk::ImageCreateInfo<'static>> =
            create_info::image(py, [format, extent, image_usage], image)?;
        // SAFETY: created here, or a struct of the caller that interop has checked.
        let kept = unsafe { KeptImage::of(&built.info) };
        of.create(py, &KeptInfo::Image(kept.map_err(|why| invalid(py, why))?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.of)
    }

    fn __repr__(&self) -> String {
        let place = &self.of.get().plan.destination;
        format!("<vk_mem.DefragmentationDestination, {} bytes at {}>", place.size, place.offset)
    }
}
