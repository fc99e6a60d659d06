//! `vk_mem.Resource`: what a `Buffer`, an `Image` and an `Allocation` have in common.

use once_cell::race::OnceBox;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use pyo3::{PyClass, PyTraverseError, PyVisit, ffi};
use vkmem_engine::Error;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::words::with_article;
use vkmem_vulkan::{ResourceHandle, prefetch_bytes, prefetch_line};

use crate::arguments::callback::{Callback, exchange};
use crate::arguments::text::Text;
use crate::debugging::raising::{end_block, is_failing};
use crate::errors::IntoPyResult;
use crate::interop::export;
use crate::interpreter::detach;
use crate::lifetime::face::Face;
use crate::lifetime::ownership::{Resource, ResourceRef};
use crate::memory::host_copy;
use crate::memory::mapping::{Access, Mapping};
use crate::package::{PARAMETER, READ_ARRAY};
use crate::process::links::Link;

/// Size of a driver's object for a buffer or image, in bytes: the least of most drivers.
const OF_DRIVER: u64 = 128;
/// Size in bytes of the cycle collector's header, which precedes the part of an object that this crate
/// defines, usually in another cache line.
const TO_COLLECTOR: usize = 32;

/// The common base of `Buffer`, `Image` and `Allocation`: name, user data, mapping, copies, export.
//
// With Python's header it takes 64 bytes, one cache line, which has left the cache when the object ends.
#[repr(C)]
#[pyclass(name = "Resource", module = "vk_mem", subclass, frozen, weakref)]
pub struct ResourceObject {
    pub resource: ResourceRef,
    /// Copy of the handle that it was created with, to prefetch the driver's object.
    handle: u64,
    /// References that few objects have, allocated on first use.
    pub(super) others: OnceBox<Others>,
}

/// References to other Python objects.
#[derive(Default)]
pub(super) struct Others {
    user_data: Mutex<Option<Link<PyAny>>, rank::UserData>,
    /// The `Buffer` or `Image` that this `Allocation` belongs to, and whose user data it shows.
    owner: Option<Link<ResourceObject>>,
    /// The object whose memory this one uses, if that refers to other objects: so that the cycle collector
    /// can traverse them.
    memory: Mutex<Option<Link<ResourceObject>>, rank::MemoryOwner>,
    /// Called when it has moved.
    pub(super) on_move: Callback,
    /// Called when it was lost.
    pub(super) on_lost: Callback,
    /// What the `ResourceCache` that has it wants called when it was lost.
    pub(super) cache_on_lost: Callback,
}

impl ResourceObject {
    /// Creates the base object of a new resource.
    #[inline(always)]
    pub fn new(py: Python<'_>, resource: ResourceRef, user_data: Option<Link<PyAny>>) -> Self {
        if let Some(data) = &user_data {
            resource.set_custom_data(Some(data.bind(py)));
        }
        let handle = resource.handle().raw();
        let others = user_data.map_or_else(OnceBox::new, |data| {
            OnceBox::with_value(Box::new(Others {
                user_data: Mutex::new(Some(data)),
                ..Others::default()
            }))
        });
        Self { resource, handle, others }
    }

    /// Creates a second object of an owner's resource; keeps the owner alive.
    pub fn of_owner(owner: &Bound<'_, Self>) -> Self {
        let ResourceObject { resource, handle, .. } = owner.get();
        let owner = Some(Link::new(owner.clone().unbind()));
        let others = OnceBox::with_value(Box::new(Others { owner, ..Others::default() }));
        Self { resource: resource.clone(), handle: *handle, others }
    }

    /// Creates a Python object, tracked by the cycle collector only if it refers to another: most never do,
    /// and traversing them takes as long as creating them.
    #[inline(always)]
    pub fn make<'py, T>(py: Python<'py>, base: Self, object: T) -> PyResult<Bound<'py, T>>
    where
        T: PyClass<BaseType = Self>,
    {
        let leads_on = base.others.get().is_some();
        let made = Bound::new(py, PyClassInitializer::from(base).add_subclass(object))?;
        // CPython tracks a new object.
        if !leads_on {
            // SAFETY: an object of a class with garbage collection.
            unsafe { ffi::PyObject_GC_UnTrack(made.as_ptr().cast()) };
        }
        Ok(made)
    }

    /// Makes the cycle collector track an object, before it refers to another one.
    pub fn track(object: &Bound<'_, Self>) {
        // SAFETY: a complete object of a class with garbage collection. It is tracked once, as no other
        // thread can do so while this one holds the GIL.
        unsafe {
            if ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 {
                ffi::PyObject_GC_Track(object.as_ptr().cast());
            }
        }
    }

    fn owner(&self) -> Option<&Link<Self>> {
        self.others.get()?.owner.as_ref()
    }

    /// Returns the object whose user data this one shows.
    fn with_user_data(&self) -> &Self {
        self.owner().map_or(self, |owner| owner.get())
    }

    /// Returns the resource as this object shows it.
    pub fn face(&self) -> Face<'_> {
        Face { resource: &self.resource, is_allocation: self.has_owner() }
    }

    /// Returns a new reference to the object if it holds memory of a Python object, or uses memory that does:
    /// any object that keeps its memory alive has to keep that reference, too, as the cycle collector
    /// traverses Python references only.
    pub fn leading_on(object: &Bound<'_, Self>) -> Option<Link<Self>> {
        let this = object.get().with_user_data();
        let others = this.others.get();
        let leads_on = this.resource.holds_memory()
            || others.is_some_and(|others| others.memory.lock().is_some());
        leads_on.then(|| Link::new(object.clone().unbind()))
    }

    fn open_mapping(
        object: &Bound<'_, Self>,
        offset: u64,
        size: Option<u64>,
        access: Access,
    ) -> PyResult<Mapping> {
        let owner =
            Self::leading_on(object).map(|it| Link::new(it.clone_ref(object.py()).into_any()));
        Mapping::open(object.py(), &object.get().face(), owner, offset, size, access)
    }

    /// Stores that the object uses the memory of another.
    pub fn lies_in(object: &Bound<'_, Self>, memory: &Bound<'_, Self>) {
        let Some(link) = Self::leading_on(memory) else { return };
        let before = object.get().others.get_or_init(Box::default).memory.lock().replace(link);
        Self::track(object);
        drop(before);
    }

    /// Flushes or invalidates with the GIL released.
    fn synchronise(
        &self,
        py: Python<'_>,
        run: impl FnOnce(&Resource) -> Result<(), Error> + Send,
    ) -> PyResult<()> {
        self.resource.allocator.change(py, || {
            let _pin = self.resource.enter_memory(py)?;
            self.resource.check_host_access(&self.face(), py)?;
            let resource = &*self.resource;
            detach(py, || run(resource)).or_raise(py)
        })
    }

    /// Destroys the resource. A resource that was not used for a while is in no cache, so the driver's object
    /// and this crate's are prefetched together.
    pub fn destroy(&self, py: Python<'_>) -> PyResult<()> {
        self.resource.expect();
        prefetch_bytes(self.handle, OF_DRIVER);
        prefetch_line((&raw const *self).addr().wrapping_sub(TO_COLLECTOR) as u64);
        self.resource.destroy(py)
    }

    /// Returns the name of the class.
    pub(super) fn class(&self) -> &'static str {
        if self.has_owner() { "Allocation" } else { self.resource.handle().class() }
    }

    /// Returns the `VkBuffer`, the `VkImage` or, for an `Allocation`, the `VkDeviceMemory`.
    fn vulkan_handle(&self, py: Python<'_>) -> PyResult<u64> {
        self.resource.check_used(py)?;
        let is_memory = self.has_owner() || self.resource.handle() == ResourceHandle::Memory;
        let resource = &self.resource;
        Ok(if is_memory { resource.allocation().memory.0 } else { resource.handle().raw() })
    }

    /// Returns whether it belongs to a `Buffer` or an `Image`.
    pub fn has_owner(&self) -> bool {
        self.owner().is_some()
    }
}

#[pymethods]
impl ResourceObject {
    /// Name for messages and dumps; None without one.
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<Option<String>> {
        if self.resource.is_lost() {
            return self.resource.name().or_raise(py);
        }
        let _pin = self.resource.enter_unused(py)?;
        self.resource.name().or_raise(py)
    }

    #[setter]
    fn set_name(&self, py: Python<'_>, name: Option<Text>) -> PyResult<()> {
        self.resource.allocator.change(py, || {
            let _pin = self.resource.enter_unused(py)?;
            self.resource.set_name(name.as_ref().map(|text| text.0.as_str())).or_raise(py)
        })
    }

    /// Any Python object that the caller attaches to this one.
    #[getter]
    fn user_data(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if !self.resource.is_lost() {
            self.resource.check_live(py)?;
        }
        let Some(others) = self.with_user_data().others.get() else { return Ok(None) };
        Ok(others.user_data.lock().as_ref().map(|data| data.clone_ref(py)))
    }

    #[setter]
    fn set_user_data(slf: &Bound<'_, Self>, data: Option<Py<PyAny>>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        this.resource.check_live(py)?;
        this.resource.set_custom_data(data.as_ref().map(|data| data.bind(py)));
        if data.is_some() {
            Self::track(this.owner().map_or(slf, |owner| owner.bind(py)));
        }
        let others = this.with_user_data().others.get_or_init(Box::default);
        let before = std::mem::replace(&mut *others.user_data.lock(), data.map(Link::new));
        // Dropped without the lock: its finaliser may come back here.
        drop(before);
        Ok(())
    }

    /// Whether it is neither destroyed nor freed, and its allocator is open.
    #[getter]
    fn alive(&self) -> bool {
        !self.resource.pins.is_closed()
    }

    /// Maps the memory (`vmaMapMemory`); returns a `Mapping`, to be used as a context manager.
    ///
    /// The view shows `size` bytes from `offset`; without a size, up to the end. Any number of maps may be
    /// open. While one, or a view of it, is open, `destroy()` raises `BufferError`.
    ///
    /// On non-coherent memory, opening the mapping makes device writes to these bytes visible, except where
    /// another open view may have written, and its end flushes all of them, written or not, rounded to
    /// `non_coherent_atom_size`: so map only the part that you write. `readonly` flushes nothing.
    ///
    /// Raises `MemoryMapError` if the memory is not `HOST_VISIBLE` or the driver refuses,
    /// `InvalidArgumentError` if the range is outside of the resource.
    #[pyo3(signature = (offset = None, size = None, *, readonly = false))]
    fn map(
        slf: &Bound<'_, Self>,
        offset: Option<&Bound<'_, PyAny>>,
        size: Option<&Bound<'_, PyAny>>,
        readonly: bool,
    ) -> PyResult<Mapping> {
        let access = if readonly { Access::Read } else { Access::Write };
        Self::open_mapping(slf, host_copy::offset(offset)?, host_copy::size(size)?, access)
    }

    /// A view of the persistently mapped memory of an allocation with `MAPPED`. None without that flag, or if
    /// the memory type is not `HOST_VISIBLE`.
    ///
    /// With `required_flags=HOST_COHERENT` it is coherent, and needs no flush. On non-coherent memory, call
    /// `flush(offset, size)` after writing to it and `invalidate()` before reading device writes. The end of
    /// the view flushes all of it, as that of `map()` does.
    #[getter]
    fn mapped<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        let (py, resource) = (slf.py(), &slf.get().resource);
        resource.check_live(py)?;
        if resource.allocation().mapped.is_none() {
            return Ok(None);
        }
        let mapping = Self::open_mapping(slf, 0, None, Access::Persistent)?;
        PyMemoryView::from(Bound::new(py, mapping)?.as_any()).map(Some)
    }

    /// Copies a contiguous buffer of any Python object to `offset` bytes into the memory, and flushes it if
    /// needed (`vmaCopyMemoryToAllocation`). Its items are numbers, characters or structs of those.
    ///
    /// Raises `MemoryMapError` if the memory cannot be mapped, `InvalidArgumentError` if it does not fit,
    /// `TypeError` for an array of objects or pointers.
    #[pyo3(signature = (data, offset = None))]
    fn write(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        offset: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        host_copy::write(py, &self.face(), data, host_copy::offset(offset)?)
    }

    /// Writes into a `BufferSlice`, which has the `size` bytes from `start`; see `write`.
    #[pyo3(signature = (data, offset, start, size))]
    fn _write_part(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        offset: Option<&Bound<'_, PyAny>>,
        start: u64,
        size: u64,
    ) -> PyResult<()> {
        host_copy::write_part(
            py,
            &self.face(),
            data,
            host_copy::offset(offset)?,
            start..start.saturating_add(size),
        )
    }

    /// Returns a copy of `size` bytes from `offset`, after an invalidate if needed
    /// (`vmaCopyAllocationToMemory`). Without a size, up to the end. With a `dtype` or a `shape` the copy is a new
    /// NumPy array, of `uint8` by default; else it is `bytes`.
    ///
    /// Raises `MemoryMapError` if the memory cannot be mapped, `InvalidArgumentError` if the range is outside
    /// of the resource.
    #[pyo3(signature = (offset = None, size = None, *, dtype = None, shape = None))]
    fn read<'py>(
        slf: &Bound<'py, Self>,
        offset: Option<&Bound<'py, PyAny>>,
        size: Option<&Bound<'py, PyAny>>,
        dtype: Option<&Bound<'py, PyAny>>,
        shape: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, face) = (slf.py(), slf.get().face());
        let (start, length) = (host_copy::offset(offset)?, host_copy::size(size)?);
        if dtype.is_none() && shape.is_none() {
            return host_copy::read(py, &face, start, length).map(Bound::into_any);
        }
        drop(face.enter_host_to_read(py)?);
        READ_ARRAY.get(py)?.call1((slf, face.size(), start, length, dtype, shape))
    }

    /// Fills a writable contiguous buffer of any Python object with the bytes from `offset`, after an
    /// invalidate if needed.
    ///
    /// Raises what `read` raises, and `TypeError` for an array of objects or pointers.
    #[pyo3(signature = (target, offset = None))]
    fn read_into(
        &self,
        py: Python<'_>,
        target: &Bound<'_, PyAny>,
        offset: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        host_copy::read_into(py, &self.face(), target, host_copy::offset(offset)?)
    }

    /// `read_into` for a range of a buffer, which has the `size` bytes from `start` on.
    #[pyo3(signature = (target, offset, start, size))]
    fn _read_part_into(
        &self,
        py: Python<'_>,
        target: &Bound<'_, PyAny>,
        offset: Option<&Bound<'_, PyAny>>,
        start: u64,
        size: u64,
    ) -> PyResult<()> {
        host_copy::read_part_into(
            py,
            &self.face(),
            target,
            host_copy::offset(offset)?,
            start..start.saturating_add(size),
        )
    }

    /// Flushes `size` bytes from `offset`: makes host writes available to the device (`vmaFlushAllocation`).
    /// Without a size, up to the end. Rounded outward to `non_coherent_atom_size`. Does nothing on coherent
    /// memory. Flushes the bytes that an open view may have written, or all of them with `MAPPED`: memory
    /// that is not mapped has no host writes.
    #[pyo3(signature = (offset = None, size = None))]
    fn flush(
        &self,
        py: Python<'_>,
        offset: Option<&Bound<'_, PyAny>>,
        size: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (offset, size) = (host_copy::offset(offset)?, host_copy::size(size)?);
        let size = size.unwrap_or(u64::MAX);
        self.synchronise(py, |resource| resource.flush(offset, size))
    }

    /// Invalidates `size` bytes from `offset`: makes device writes visible to the host
    /// (`vmaInvalidateAllocation`); see `flush`. Unflushed host writes are lost. Does nothing if the memory
    /// is not mapped.
    #[pyo3(signature = (offset = None, size = None))]
    fn invalidate(
        &self,
        py: Python<'_>,
        offset: Option<&Bound<'_, PyAny>>,
        size: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (offset, size) = (host_copy::offset(offset)?, host_copy::size(size)?);
        let size = size.unwrap_or(u64::MAX);
        self.synchronise(py, |resource| resource.invalidate(offset, size))
    }

    /// Exports the `VkDeviceMemory` of the resource as a new file descriptor (`vkGetMemoryFdKHR`), which the
    /// caller closes, or passes to an import that consumes it.
    ///
    /// The whole memory object is exported: the resource starts `allocation.offset` bytes into its
    /// `allocation.device_memory_size`. The memory must have been created with `export_handle_types`, or in a
    /// pool that was. `handle_type` is `ExternalMemoryHandleType.OPAQUE_FD` by default, or `DMA_BUF_EXT`. From now on
    /// `Debug(fill_on_free=...)` and quarantines leave what is freed of the memory object as it is.
    ///
    /// Raises `InvalidArgumentError` for other memory, `FeatureNotPresentError` without
    /// `VK_KHR_external_memory_fd`.
    #[pyo3(signature = (handle_type = None))]
    fn export_fd(&self, py: Python<'_>, handle_type: Option<&Bound<'_, PyAny>>) -> PyResult<i32> {
        export::export_fd(py, &self.resource, handle_type)
    }

    /// Exports the `VkDeviceMemory` of the resource as a Win32 handle (`vkGetMemoryWin32HandleKHR`), of
    /// `ExternalMemoryHandleType.OPAQUE_WIN32` by default; see `export_fd`. The caller closes NT handles.
    ///
    /// Raises `FeatureNotPresentError` without `VK_KHR_external_memory_win32`.
    #[pyo3(signature = (handle_type = None))]
    fn export_win32_handle(
        &self,
        py: Python<'_>,
        handle_type: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        export::export_win32_handle(py, &self.resource, handle_type)
    }

    /// Ends the object now; its memory is freed when no frame in flight can use it (`frames_in_flight`,
    /// `set_current_frame_index`), or with its allocator. To be called when the last command that uses it has
    /// been recorded. Does nothing if it has ended before.
    ///
    /// Views that are open stay good: the memory is released by the `set_current_frame_index` that comes
    /// after the end of the last one as well as after those frames, or with its allocator, which is closed
    /// after them.
    ///
    /// Raises `BufferError` while another thread uses it or something is bound to it.
    fn retire(&self, py: Python<'_>) -> PyResult<()> {
        if self.has_owner() && !self.resource.pins.is_closed() {
            let class = self.resource.handle().class();
            let why =
                format!("this memory belongs to {}: call retire() on that", with_article(class));
            return Err(crate::errors::invalid(py, why));
        }
        Resource::retire(&self.resource, py)
    }

    fn __int__(&self, py: Python<'_>) -> PyResult<u64> {
        self.vulkan_handle(py)
    }

    fn __index__(&self, py: Python<'_>) -> PyResult<u64> {
        self.vulkan_handle(py)
    }

    /// The handle, which ctypes passes for the object.
    #[getter]
    fn _as_parameter_<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        PARAMETER.get(py)?.call1((self.vulkan_handle(py)?,))
    }

    /// Returns the contents, as `read()`: otherwise `bytes` would take the handle for a number of zero bytes.
    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        host_copy::read(py, &self.face(), 0, None)
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().resource.check_live(slf.py())?;
        Ok(slf)
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exception: &Bound<'_, pyo3::types::PyTuple>,
    ) -> PyResult<()> {
        if self.has_owner() {
            return Ok(());
        }
        let allocator = &self.resource.allocator;
        end_block(py, allocator, is_failing(exception), 1, || self.destroy(py))
    }

    fn __repr__(&self) -> String {
        if self.resource.is_lost() {
            return format!("<vk_mem.{}, lost>", self.lost_title());
        }
        if self.resource.pins.is_closed() {
            return format!("<vk_mem.{}, no longer alive>", self.class());
        }
        if self.resource.allocator.device.is_forked() {
            return format!("<vk_mem.{}, from before os.fork()>", self.class());
        }
        format!("<vk_mem.{}>", self.face().describe())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Each resource has one object without an owner, which traverses what the resource holds.
        if !self.has_owner() {
            self.resource.visit_held(&visit)?;
        }
        let Some(others) = self.others.get() else { return Ok(()) };
        if let Some(data) = others.user_data.try_lock()
            && let Some(data) = data.as_ref()
        {
            visit.call(&**data)?;
        }
        if let Some(owner) = &others.owner {
            visit.call(&**owner)?;
        }
        for callback in [&others.on_move, &others.on_lost, &others.cache_on_lost] {
            if let Some(callback) = callback.try_lock() {
                visit.call(&*callback)?;
            }
        }
        match others.memory.try_lock().as_deref() {
            Some(Some(memory)) => visit.call(&**memory),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let Some(others) = self.others.get() else { return };
        exchange(&others.on_move, None);
        exchange(&others.on_lost, None);
        exchange(&others.cache_on_lost, None);
        let before = (others.user_data.lock().take(), others.memory.lock().take());
        drop(before);
    }
}
