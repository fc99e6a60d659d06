//! `vk_mem.Transfers`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use vkmem_engine::words::bytes;
use vkmem_vulkan::QueueChoice;

use super::copies::Part;
use super::download::{self, Wanted};
use super::image_place::RegionKeywords;
use super::many::start_many;
use super::register::RegisteredArray;
use super::source::Source;
use super::state::{Transfer, TransfersState};
use super::upload;
use super::waiting::until;
use super::way::way;
use crate::arguments::numbers::{unsigned, unsigned_or_zero};
use crate::arguments::sequences::{about_item, integers, items};
use crate::arguments::text::Text;
use crate::debugging::raising::{end_block, is_failing};
use crate::errors::{feature_not_present, invalid, pinned};
use crate::interpreter::{detach, try_attach, warn_unclosed};
use crate::lifetime::ownership::{AllocatorState, Background};
use crate::lifetime::pins::NotClosed;
use crate::objects::buffer::Buffer;
use crate::objects::image::Image;
use crate::package::TRANSFER_STATISTICS;

/// Copies between arrays and buffers or images, through memory that is kept for it.
///
/// `ring_size` is what each of its two rings has, in bytes: one of host-visible memory for uploads, one of
/// cached memory for downloads. Each is allocated when it is first needed, and kept until `close()`.
/// Larger data goes in pieces. An upload has read its array when the call returns, unless that is
/// registered; a download fills its array until its transfer has ended.
///
/// `queue` is "main" or "transfer", the queue that its copies run on: `Device.queue` or
/// `Device.transfer_queue`. Without it large transfers (from 1 MiB on) run on the transfer queue, if the device
/// has one, and small ones on the main queue. What the transfer queue cannot carry out runs on the main queue,
/// and on both a transfer runs after all that was submitted to the main queue before it.
///
/// Usable from many threads at once. `Allocator.transfers` is one that is always there.
///
/// Raises `InvalidArgumentError` for a ring of less than 64 KiB, `FeatureNotPresentError` for "transfer" on a
/// device without such a queue.
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct Transfers {
    pub(super) state: Arc<TransfersState>,
    pub(super) allocator: Arc<AllocatorState>,
    is_default: bool,
}

/// The rings of an allocator's own transfers, in bytes.
const DEFAULT_RING: u64 = 64 << 20;
const SMALLEST_RING: u64 = 64 << 10;

/// The transfers of an allocator, for calls that name none.
pub fn default_state(allocator: &AllocatorState) -> Arc<TransfersState> {
    let made = allocator.default_transfers.get_or_init(|| {
        let made: Arc<dyn Background> =
            TransfersState::new(allocator, DEFAULT_RING, QueueChoice::BySize);
        made
    });
    let any: Arc<dyn std::any::Any + Send + Sync> = made.clone();
    any.downcast().expect("made above")
}

fn queue(py: Python<'_>, given: &Text, allocator: &AllocatorState) -> PyResult<QueueChoice> {
    match given.0.as_str() {
        "main" => Ok(QueueChoice::Main),
        "transfer" if allocator.device.driver.transfer_queue().is_some() => {
            Ok(QueueChoice::Transfer)
        }
        "transfer" => {
            let why = "the device has no transfer queue: Device.transfer_queue is None";
            Err(feature_not_present(py, why))
        }
        other => {
            let other = other.escape_debug();
            Err(invalid(py, format!("queue is '{other}'; it must be 'main' or 'transfer'")))
        }
    }
}

impl Transfers {
    /// Those of an allocator, for calls that name none.
    pub fn of(allocator: &Arc<AllocatorState>) -> Self {
        let state = default_state(allocator);
        Self { state, allocator: allocator.clone(), is_default: true }
    }

    /// New ones.
    pub fn new(
        py: Python<'_>,
        allocator: &Arc<AllocatorState>,
        ring_size: Option<&Bound<'_, PyAny>>,
        queue: Option<&Text>,
    ) -> PyResult<Self> {
        let _inside = allocator.enter(py)?;
        let queue =
            queue.map_or(Ok(QueueChoice::BySize), |name| self::queue(py, name, allocator))?;
        let size = ring_size.map_or(Ok(DEFAULT_RING), |size| unsigned(size, "ring_size"))?;
        if size < SMALLEST_RING {
            let why = format!("ring_size is {size}; it must be at least {SMALLEST_RING}");
            return Err(invalid(py, why));
        }
        let size = size.checked_next_multiple_of(4096).unwrap_or(size);
        let state = TransfersState::new(allocator, size, queue);
        Ok(Self { state, allocator: allocator.clone(), is_default: false })
    }

    /// `upload`
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    pub fn start_upload(
        &self,
        py: Python<'_>,
        array: &Bound<'_, PyAny>,
        part: &Part<'_>,
        offset: Option<&Bound<'_, PyAny>>,
        dtype: Option<&Bound<'_, PyAny>>,
        progress: Option<&Bound<'_, PyAny>>,
        way: Option<super::state::Way>,
    ) -> PyResult<Py<Transfer>> {
        self.allocator.change(py, || {
            let _inside = self.state.enter(py, &self.allocator)?;
            let source = Source::read(array, dtype, "array")?;
            self.upload_source(py, source, part, unsigned_or_zero(offset, "offset")?, progress, way)
        })
    }

    /// Starts an upload of a source that was read from its Python object.
    pub fn upload_source(
        &self,
        py: Python<'_>,
        source: Source,
        part: &Part<'_>,
        offset: u64,
        progress: Option<&Bound<'_, PyAny>>,
        way: Option<super::state::Way>,
    ) -> PyResult<Py<Transfer>> {
        let (state, allocator) = (&self.state, &self.allocator);
        let prepared = upload::Prepared::new(py, state, allocator, source, part, offset, way)?;
        state.retire_some(py, allocator);
        prepared.start(py, state, allocator, state.batch(), progress)
    }

    /// Fills a new buffer, and waits for that.
    pub fn fill_new(&self, buffer: &Bound<'_, Buffer>, data: Source) -> PyResult<()> {
        let (py, part) = (buffer.py(), Part::whole(buffer));
        let _inside = self.state.enter(py, &self.allocator)?;
        let begun = self.upload_source(py, data, &part, 0, None, None)?;
        begun.get().result(py, None).map(drop)
    }

    /// `download`
    pub fn start_download(
        &self,
        py: Python<'_>,
        part: &Part<'_>,
        wanted: &Wanted<'_, '_>,
        progress: Option<&Bound<'_, PyAny>>,
        way: Option<super::state::Way>,
    ) -> PyResult<Py<Transfer>> {
        let _inside = self.state.enter(py, &self.allocator)?;
        let (state, allocator) = (&self.state, &self.allocator);
        let prepared = download::Prepared::new(py, state, allocator, part, wanted, way)?;
        state.retire_some(py, allocator);
        prepared.start(py, state, allocator, state.batch(), progress)
    }

    /// Runs something whose commands are submitted together.
    pub(super) fn together<T>(
        &self,
        py: Python<'_>,
        run: impl FnOnce(Option<u64>) -> PyResult<T>,
    ) -> PyResult<T> {
        if let Some(batch) = self.state.batch() {
            return run(Some(batch));
        }
        let batch = self.state.engine.open_batch();
        let done = run(Some(batch));
        detach(py, || self.state.engine.close_batch(&self.allocator.device_allocator, batch));
        done
    }
}

fn only_of_images(keyword: Option<&'static str>) -> PyResult<()> {
    let Some(keyword) = keyword else { return Ok(()) };
    Err(PyTypeError::new_err(format!("{keyword} is a keyword of images, and the resource is none")))
}

fn only_of_buffers(keyword: Option<&'static str>) -> PyResult<()> {
    let Some(keyword) = keyword else { return Ok(()) };
    Err(PyTypeError::new_err(format!(
        "{keyword} is a keyword of buffers, and the resources are none"
    )))
}

fn parts<'py>(given: &[Bound<'py, PyAny>]) -> PyResult<Vec<Part<'py>>> {
    let read = |(index, item): (usize, &Bound<'py, PyAny>)| {
        if item.is_instance_of::<Image>() {
            let why =
                "it is an image, and other items are buffers: pass those of one kind at a time";
            return Err(about_item(item.py(), index, PyTypeError::new_err(why)));
        }
        Part::read(item, "buffer").map_err(|error| about_item(item.py(), index, error))
    };
    given.iter().enumerate().map(read).collect()
}

/// The images that items are, if the first one is an image and all others are.
fn images<'a, 'py>(given: &'a [Bound<'py, PyAny>]) -> Option<Vec<&'a Bound<'py, Image>>> {
    if given.is_empty() {
        return None;
    }
    given.iter().map(|it| it.cast::<Image>().ok()).collect()
}

#[pymethods]
impl Transfers {
    /// Copies an array into a buffer, or a `BufferSlice`, from `offset` bytes on; or into an image, where it
    /// takes the keywords of `Image.upload`.
    ///
    /// Anything with the buffer protocol, `__array__`, or DLPack on the host will do; read-only, strided
    /// and Fortran-ordered ones too, whose elements go in C's order. With `dtype` they are converted on
    /// the way, as NumPy's "same_kind" allows. `progress(bytes_done, bytes)` is called for
    /// transfers of more than 256 MiB: between pieces, and with all bytes before the call returns. `way` is "direct", "ring", "import" or, of images, "host" where it shall not be chosen.
    ///
    /// The array may change once the call returns, unless it is registered: then once the transfer has
    /// ended.
    ///
    /// Raises `InvalidArgumentError` (it does not fit; the buffer was created without
    /// `BufferUsage.TRANSFER_DST` and the host cannot write to it), `TypeError` (an array of objects, or
    /// of a type that is not converted so), `UseAfterFreeError`, `FeatureNotPresentError` (no queue).
    /// What goes wrong later is the transfer's.
    #[pyo3(signature = (
        array, resource, offset = None, *, dtype = None, progress = None, way = None, mip_level = None,
        base_layer = None, layer_count = None, extent = None, aspect = None, layout = None
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn upload(
        &self,
        py: Python<'_>,
        array: &Bound<'_, PyAny>,
        resource: &Bound<'_, PyAny>,
        offset: Option<&Bound<'_, PyAny>>,
        dtype: Option<&Bound<'_, PyAny>>,
        progress: Option<&Bound<'_, PyAny>>,
        way: Option<Text>,
        mip_level: Option<&Bound<'_, PyAny>>,
        base_layer: Option<&Bound<'_, PyAny>>,
        layer_count: Option<&Bound<'_, PyAny>>,
        extent: Option<&Bound<'_, PyAny>>,
        aspect: Option<&Bound<'_, PyAny>>,
        layout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Transfer>> {
        self.state.check_open(py, &self.allocator)?;
        self.allocator.change(py, || {
            let way = self::way(py, way)?;
            let region =
                RegionKeywords { mip_level, base_layer, layer_count, offset, extent, aspect };
            if let Ok(image) = resource.cast::<Image>() {
                return self
                    .start_image_upload(array, image, &region, dtype, layout, progress, way);
            }
            only_of_images(region.of_images_only().or(layout.map(|_| "layout")))?;
            let part = Part::read_if_no_image(resource)?;
            self.start_upload(py, array, &part, offset, dtype, progress, way)
        })
    }

    /// Copies arrays into as many buffers, from as many `offsets` on in bytes: in one submission for each
    /// 16 MiB. Instead of buffers there may be images, all of them, whose first mip levels are filled.
    ///
    /// Raises what `upload` raises, with the number of the item; nothing was copied then.
    #[pyo3(signature = (arrays, buffers, offsets = None, *, dtype = None))]
    fn upload_many(
        &self,
        py: Python<'_>,
        arrays: &Bound<'_, PyAny>,
        buffers: &Bound<'_, PyAny>,
        offsets: Option<&Bound<'_, PyAny>>,
        dtype: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Py<Transfer>>> {
        self.allocator.change(py, || {
            let _inside = self.state.enter(py, &self.allocator)?;
            let (arrays, buffers) = (items(arrays, "arrays")?, items(buffers, "buffers")?);
            if let Some(images) = images(&buffers) {
                only_of_buffers(offsets.map(|_| "offsets"))?;
                return self.upload_images(py, &arrays, &images, dtype);
            }
            let parts = parts(&buffers)?;
            let offsets = offsets.map(|it| integers(it, "offsets", "offset")).transpose()?;
            let count = arrays.len();
            if parts.len() != count || offsets.as_ref().is_some_and(|it| it.len() != count) {
                let why =
                    format!("{count} arrays need as many buffers, and offsets if there are any");
                return Err(invalid(py, why));
            }
            let (state, allocator) = (&self.state, &self.allocator);
            let mut all = Vec::with_capacity(count);
            for (index, (array, part)) in arrays.iter().zip(&parts).enumerate() {
                let offset = offsets.as_ref().map_or(0, |it| it[index]);
                let prepared = Source::read(array, dtype, "array").and_then(|source| {
                    upload::Prepared::new(py, state, allocator, source, part, offset, None)
                });
                all.push(prepared.map_err(|error| about_item(py, index, error))?);
            }
            state.retire_some(py, allocator);
            self.together(py, |batch| start_many(py, state, allocator, all, batch))
        })
    }

    /// Copies a buffer, a `BufferSlice`, or an image into a new array, which `result()` of the transfer returns: of
    /// `size` bytes from `offset` on; all that is left without a size.
    ///
    /// `dtype` and `shape` are those of the array; without a dtype its elements are bytes, and without
    /// NumPy it is a `bytearray` then. Or `out` is any writable, contiguous object with the buffer
    /// protocol, which is filled. `progress` and `way` are as of `upload`.
    ///
    /// An image takes the keywords of `Image.download`, and no `size`.
    ///
    /// The array is filled once the transfer has ended.
    ///
    /// Raises what `upload` raises (here of `BufferUsage.TRANSFER_SRC`), and `ImportError` for a dtype or
    /// a shape without NumPy.
    #[pyo3(signature = (
        resource, dtype = None, shape = None, *, offset = None, size = None, out = None, progress = None,
        way = None, mip_level = None, base_layer = None, layer_count = None, extent = None, aspect = None
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn download(
        &self,
        py: Python<'_>,
        resource: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        shape: Option<&Bound<'_, PyAny>>,
        offset: Option<&Bound<'_, PyAny>>,
        size: Option<&Bound<'_, PyAny>>,
        out: Option<&Bound<'_, PyAny>>,
        progress: Option<&Bound<'_, PyAny>>,
        way: Option<Text>,
        mip_level: Option<&Bound<'_, PyAny>>,
        base_layer: Option<&Bound<'_, PyAny>>,
        layer_count: Option<&Bound<'_, PyAny>>,
        extent: Option<&Bound<'_, PyAny>>,
        aspect: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Transfer>> {
        drop(self.state.enter(py, &self.allocator)?);
        let way = self::way(py, way)?;
        let wanted = Wanted { dtype, shape, offset, size, out };
        let region = RegionKeywords { mip_level, base_layer, layer_count, offset, extent, aspect };
        if let Ok(image) = resource.cast::<Image>() {
            return self.start_image_download(image, &region, &wanted, progress, way);
        }
        only_of_images(region.of_images_only())?;
        let part = Part::read_if_no_image(resource)?;
        self.start_download(py, &part, &wanted, progress, way)
    }

    /// Copies buffers into as many new arrays of one `dtype` and `shape`, or into `outs`: in one
    /// submission for each 16 MiB.
    ///
    /// Raises what `download` raises, with the number of the item; nothing was copied then.
    #[pyo3(signature = (buffers, dtype = None, shape = None, *, outs = None))]
    fn download_many(
        &self,
        py: Python<'_>,
        buffers: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        shape: Option<&Bound<'_, PyAny>>,
        outs: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Py<Transfer>>> {
        let _inside = self.state.enter(py, &self.allocator)?;
        let buffers = items(buffers, "buffers")?;
        let outs = outs.map(|it| items(it, "outs")).transpose()?;
        if outs.as_ref().is_some_and(|it| it.len() != buffers.len()) {
            return Err(invalid(py, format!("{} buffers need as many outs", buffers.len())));
        }
        if let Some(images) = images(&buffers) {
            return self.download_images(py, &images, dtype, shape, outs.as_deref());
        }
        let parts = parts(&buffers)?;
        let (state, allocator) = (&self.state, &self.allocator);
        let mut all = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let out = outs.as_ref().map(|it| &it[index]);
            let wanted = Wanted { dtype, shape, out, ..Wanted::default() };
            let prepared = download::Prepared::new(py, state, allocator, part, &wanted, None);
            all.push(prepared.map_err(|error| about_item(py, index, error))?);
        }
        state.retire_some(py, allocator);
        self.together(py, |batch| start_many(py, state, allocator, all, batch))
    }

    /// Submits what open batches have gathered, of all threads.
    pub(super) fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.allocator.change(py, || {
            let _inside = self.state.enter(py, &self.allocator)?;
            detach(py, || self.state.engine.flush(&self.allocator.device_allocator));
            Ok(())
        })
    }

    /// Waits until all transfers have ended, `timeout` seconds at most: whether they have. What went wrong
    /// is told by each transfer.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        self.allocator.change(py, || {
            let _inside = self.state.enter(py, &self.allocator)?;
            self.state.wait_all(py, &self.allocator, until(timeout)?)
        })
    }

    /// What was done so far: a `TransferStatistics`.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let _inside = self.state.enter(py, &self.allocator)?;
        self.state.retire(py, &self.allocator);
        let (done, counts) = (self.state.engine.counts(), &self.state.counts);
        let load = |it: &std::sync::atomic::AtomicU64| it.load(Ordering::Relaxed);
        TRANSFER_STATISTICS.get(py)?.call1((
            load(&counts.bytes_up),
            load(&counts.bytes_down),
            done.submits,
            done.waits,
            load(&counts.direct),
            load(&counts.ring),
            load(&counts.imported),
            done.ring_bytes,
            self.state.in_flight(),
            done.on_transfer_queue,
            load(&counts.by_host),
        ))
    }

    /// Lets the device use the pages of an array, which is contiguous and writable: a `RegisteredArray`,
    /// a context manager that ends that.
    ///
    /// Uploads from the array, or from a part of it, and downloads into it then take no ring, and need no
    /// copy of the host's. That pays where the array is used more than once: to register 1 GiB takes as
    /// long as some copies of it (`VK_EXT_external_memory_host`). The array stays as it is meanwhile:
    /// change what an upload reads after the upload has ended.
    ///
    /// Raises `FeatureNotPresentError` where the device cannot do that, `InvalidArgumentError` for an array
    /// that is not contiguous or not writable, and what the driver refuses.
    fn register(slf: &Bound<'_, Self>, array: &Bound<'_, PyAny>) -> PyResult<RegisteredArray> {
        let this = slf.get();
        let _inside = this.state.enter(slf.py(), &this.allocator)?;
        RegisteredArray::new(&this.state, &this.allocator, array)
    }

    /// Bytes of each ring.
    #[getter]
    fn ring_size(&self, py: Python<'_>) -> PyResult<u64> {
        let _inside = self.state.enter(py, &self.allocator)?;
        Ok(self.state.engine.ring_size())
    }

    /// Whether it or its allocator was closed.
    #[getter]
    pub(super) fn closed(&self) -> bool {
        self.state.pins.is_closed() || self.allocator.pins.is_closed()
    }

    /// Waits for all transfers, and gives the rings back. Nothing happens the second time. Those of
    /// `Allocator.transfers` are made again when they are next needed.
    ///
    /// Raises `BufferError`, and gives nothing back, while a call runs in another thread.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.closed() {
            return Ok(());
        }
        self.allocator.change(py, || {
            let _inside = self.allocator.enter(py)?;
            self.state.wait_all(py, &self.allocator, None)?;
            let refused = || pinned("cannot close the transfers: a call runs in another thread");
            if self.state.is_busy() {
                return Err(refused());
            }
            match self.state.pins.close(py) {
                Ok(()) => {}
                Err(NotClosed::Already) => return Ok(()),
                Err(NotClosed::InUse) => return Err(refused()),
            }
            let (state, allocator) = (&self.state, &self.allocator);
            detach(py, || state.end(allocator));
            if self.is_default {
                state.pins.reopen(py);
                return Ok(());
            }
            let this: *const TransfersState = Arc::as_ptr(state);
            allocator.background.lock().retain(|it| !std::ptr::addr_eq(Arc::as_ptr(it), this));
            Ok(())
        })
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().state.check_open(slf.py(), &slf.get().allocator)?;
        Ok(slf)
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        end_block(py, &self.allocator, is_failing(exception), 1, || self.close(py))
    }

    fn __repr__(&self) -> String {
        if self.allocator.device.is_forked() {
            return "<vk_mem.Transfers, from before os.fork()>".into();
        }
        if self.closed() {
            return "<vk_mem.Transfers, closed>".into();
        }
        let (ring, count) = (bytes(self.state.engine.ring_size()), self.state.in_flight());
        format!("<vk_mem.Transfers, rings of {ring}, {count} in flight>")
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        if self.is_default || self.closed() || self.allocator.device.is_forked() {
            return;
        }
        if self.state.engine.counts().ring_bytes > 0 {
            let message = "unclosed Transfers: its rings are released with its allocator";
            try_attach(|py| warn_unclosed(py, message));
        }
    }
}
