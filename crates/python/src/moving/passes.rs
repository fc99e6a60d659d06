//! `vk_mem.Defragmentation` and its passes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};
use vkmem_engine::AllocationId;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_vulkan::ResourceHandle;

use super::moves::{COPY, DESTROY, DefragmentationMove};
use super::protocol::{Outcome, ProtocolRun, can_move};
use super::run::{Figures, statistics};
use crate::arguments::callback::{Callback, current, exchange};
use crate::debugging::raising::{end_block, is_failing};
use crate::errors::{invalid, pinned, use_after_free};
use crate::interpreter::without_gil;
use crate::lifetime::ownership::AllocatorState;
use crate::objects::resource::ResourceObject;
use crate::process::forks::in_one_process;

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
    /// Whether a call is inside that ends or begins a pass.
    is_busy: AtomicBool,
}

/// The right to end and begin passes, until dropped.
struct Turn<'a>(&'a AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The moves of one pass (`VmaDefragmentationPassMoveInfo`).
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct DefragmentationPass {
    pub(super) moves: Vec<Py<DefragmentationMove>>,
    pub(super) has_ended: AtomicBool,
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
            is_busy: AtomicBool::new(false),
        }
    }

    /// Raises while another call ends or begins a pass. It does not wait: that call may run the caller's code.
    fn enter(&self) -> PyResult<Turn<'_>> {
        match self.is_busy.swap(true, Ordering::Acquire) {
            false => Ok(Turn(&self.is_busy)),
            true => Err(pinned(
                "the defragmentation is at work: in another thread or, around a callback, in this one",
            )),
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
            let (allocator, run) = (allocator.clone(), self.run.clone());
            made.push(Py::new(py, DefragmentationMove::new(allocator, run, plan, object))?);
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
        result.and(self.allocator.raise_found(py))
    }

    fn end_move(&self, py: Python<'_>, it: &DefragmentationMove) -> PyResult<()> {
        if !it.end() {
            return Ok(());
        }
        let (run, allocator) = (&self.run, &self.allocator);
        let resource = &it.object.get().resource;
        match it.operation_number() {
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
                        it.leave_layout();
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
                if it.get().end() {
                    self.run.cancel(py, &self.allocator, &it.get().plan);
                }
            }
            open.get().has_ended.store(true, Ordering::Relaxed);
        }
        if !self.run.has_ended() {
            self.run.end(&self.allocator);
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
        let done = self.run.statistics();
        let stayed = self.stayed.lock().clone();
        statistics(py, &Figures { done, stayed })
    }

    /// Ends the defragmentation; moves of an open pass do not take place. Does nothing if it has ended. Raises
    /// `BufferError` while a pass begins or ends: in another thread, or in this one around a callback.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        if self.run.has_ended() {
            return Ok(());
        }
        self.allocator.change(py, || {
            let _inside = self.allocator.enter(py)?;
            let _turn = self.enter()?;
            self.end_all(py);
            Ok(())
        })
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<DefragmentationPass>>> {
        let _inside = self.allocator.enter(py)?;
        let _turn = self.enter()?;
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
        slf.get().allocator.check_open(slf.py())?;
        Ok(slf)
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        // A closed allocator has ended it.
        let end = || if self.allocator.pins.is_closed() { Ok(()) } else { self.end(py) };
        end_block(py, &self.allocator, is_failing(exception), 1, end)
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
