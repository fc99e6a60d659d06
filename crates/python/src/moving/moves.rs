//! `vk_mem.DefragmentationMove` and its destination.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use ash::vk;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use vkmem_engine::Move;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_vulkan::ResourceHandle;
use vkmem_vulkan::kept_info::{KeptBuffer, KeptImage, KeptInfo};

use super::callbacks::location;
use super::protocol::ProtocolRun;
use crate::arguments::create_info::{self, CommonKeywords, ImageKeywords};
use crate::arguments::numbers::{MOVE_OPERATION, of_class};
use crate::errors::{IntoPyResult, invalid, use_after_free};
use crate::lifetime::location::Location;
use crate::lifetime::ownership::AllocatorState;
use crate::objects::image::Image;
use crate::objects::resource::ResourceObject;
use crate::package::unexpected_keyword;

/// Names of `MoveOutcome`, in VMA's order.
const OPERATIONS: [&str; 3] = ["copy", "ignore", "destroy"];
pub const COPY: u8 = 0;
pub const DESTROY: u8 = 2;

/// A move that the caller makes (`VmaDefragmentationMove`): of a `Buffer`, an `Image` or an `Allocation`, to
/// memory that is reserved for it.
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct DefragmentationMove {
    pub(super) allocator: Arc<AllocatorState>,
    pub(super) run: Arc<ProtocolRun>,
    pub(super) plan: Move,
    pub(super) object: Py<ResourceObject>,
    operation: AtomicU8,
    has_ended: AtomicBool,
    /// Whether a handle at the destination was created, or is.
    is_made: AtomicBool,
    /// How it was created.
    made: Mutex<Option<KeptInfo>, rank::ProtocolObjects>,
    /// Whether its copy was recorded.
    is_recorded: AtomicBool,
}

/// The memory that a `DefragmentationMove` moves to (`VmaDefragmentationMove::dstTmpAllocation`).
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct DefragmentationDestination {
    of: Py<DefragmentationMove>,
}

impl DefragmentationMove {
    /// A move of a plan that has not ended.
    pub fn new(
        allocator: Arc<AllocatorState>,
        run: Arc<ProtocolRun>,
        plan: Move,
        object: Py<ResourceObject>,
    ) -> Self {
        Self {
            allocator,
            run,
            plan,
            object,
            operation: AtomicU8::new(COPY),
            has_ended: AtomicBool::new(false),
            is_made: AtomicBool::new(false),
            made: Mutex::default(),
            is_recorded: AtomicBool::new(false),
        }
    }

    /// What happens at its end.
    pub fn operation_number(&self) -> u8 {
        self.operation.load(Ordering::Relaxed)
    }

    /// Ends it; whether it had not ended before.
    pub fn end(&self) -> bool {
        !self.has_ended.swap(true, Ordering::Relaxed)
    }

    /// Whether its copy was recorded.
    pub fn is_recorded(&self) -> bool {
        self.is_recorded.load(Ordering::Relaxed)
    }

    /// Notes that its copy was recorded.
    pub fn note_recorded(&self) {
        self.is_recorded.store(true, Ordering::Relaxed);
    }

    /// How the handle at the destination was created; `None` before that.
    pub fn made(&self) -> Option<KeptInfo> {
        self.made.lock().clone()
    }

    fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        if self.has_ended.load(Ordering::Relaxed) || self.run.has_ended() {
            return Err(use_after_free(py, "the pass of the move has ended"));
        }
        Ok(())
    }

    fn create(&self, py: Python<'_>, kept: &KeptInfo) -> PyResult<u64> {
        let _inside = self.allocator.enter(py)?;
        self.check_open(py)?;
        self.check_like(py, kept)?;
        if self.is_made.swap(true, Ordering::Relaxed) {
            return Err(invalid(py, "the destination has its handle already"));
        }
        let resource = &self.object.get().resource;
        let made = self.run.create_handle(py, &self.allocator, &self.plan, kept, resource.handle());
        let handle = made.or_raise(py).inspect_err(|_| {
            self.is_made.store(false, Ordering::Relaxed);
        })?;
        // Another thread may have ended the pass meanwhile.
        self.check_open(py).inspect_err(|_| {
            self.run.destroy_handle(py, &self.allocator, &self.plan);
        })?;
        *self.made.lock() = Some(kept.clone());
        Ok(handle.raw())
    }

    /// Raises unless a create info describes what moves: its contents are to be copied.
    fn check_like(&self, py: Python<'_>, kept: &KeptInfo) -> PyResult<()> {
        let object = self.object.bind(py);
        let wrong = |what: &str, has: &dyn Debug, not: &dyn Debug| {
            let whole = object.get().resource.describe();
            Err(invalid(py, format!("{what} of {whole} is {has:?}, not {not:?}")))
        };
        let image = object.cast::<Image>().ok().map(Bound::get);
        match (kept, image) {
            (KeptInfo::Buffer(kept), _) if kept.size() != object.get().resource.host_size => {
                wrong("the size in bytes", &object.get().resource.host_size, &kept.size())
            }
            (KeptInfo::Image(kept), Some(of)) => {
                let extent = kept.extent();
                let extent = (extent.width, extent.height, extent.depth);
                if kept.format().as_raw() as u32 != of.format {
                    wrong("the format", &of.format, &kept.format().as_raw())
                } else if extent != of.extent {
                    wrong("the extent", &of.extent, &extent)
                } else if kept.mip_levels() != of.mip_levels {
                    wrong("the number of mip levels", &of.mip_levels, &kept.mip_levels())
                } else if kept.array_layers() != of.array_layers {
                    wrong("the number of layers", &of.array_layers, &kept.array_layers())
                } else if kept.samples().as_raw() != of.samples {
                    wrong("the number of samples", &of.samples, &kept.samples().as_raw())
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    fn wrong(&self, py: Python<'_>, class: &str) -> PyErr {
        let what = self.object.get().resource.describe();
        invalid(py, format!("{what} is no {class}"))
    }
}

/// Reads the keywords of a function with `take`, which returns false for one that it does not know.
fn read_keywords(
    function: &str,
    keywords: Option<&Bound<'_, PyDict>>,
    mut take: impl FnMut(&str, &Bound<'_, PyAny>) -> PyResult<bool>,
) -> PyResult<()> {
    for (key, value) in keywords.into_iter().flat_map(|it| it.iter()) {
        let key: String = key.extract()?;
        if !take(&key, &value)? {
            return Err(unexpected_keyword(value.py(), function, &key));
        }
    }
    Ok(())
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
        OPERATIONS[usize::from(self.operation_number())]
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

    /// Whether `DefragmentationPass.record` has recorded its copy.
    #[getter]
    fn recorded(&self) -> bool {
        self.is_recorded()
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
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u64> {
        let of = self.of.get();
        let resource = &of.object.get().resource;
        if !matches!(resource.handle(), ResourceHandle::Buffer(_)) {
            return Err(of.wrong(py, "buffer"));
        }
        if let Some(movable) = resource.movable()
            && size.or(buffer_usage).is_none()
            && keywords.is_none()
        {
            return of.create(py, &movable.kept);
        }
        let mut common = CommonKeywords::default();
        read_keywords("destination.create_buffer", keywords, |key, value| common.take(key, value))?;
        let built = create_info::buffer(py, size, buffer_usage, common)?;
        // SAFETY: created here, or a struct of the caller that interop has checked.
        let kept = unsafe { KeptBuffer::of_any(&built.info) };
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
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u64> {
        let of = self.of.get();
        let resource = &of.object.get().resource;
        if !matches!(resource.handle(), ResourceHandle::Image(_)) {
            return Err(of.wrong(py, "image"));
        }
        if let Some(movable) = resource.movable()
            && format.or(extent).or(image_usage).is_none()
            && keywords.is_none()
        {
            return of.create(py, &movable.kept);
        }
        let mut image = ImageKeywords::default();
        read_keywords("destination.create_image", keywords, |key, value| image.take(key, value))?;
        let built: create_info::Built<vk::ImageCreateInfo<'static>> =
            create_info::image(py, [format, extent, image_usage], image)?;
        // SAFETY: created here, or a struct of the caller that interop has checked.
        let kept = unsafe { KeptImage::of_any(&built.info) };
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
