//! `vk_mem.Device`: opened here, or wrapped from handles of the caller.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyAnyMethods, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use vkmem_vulkan::{
    DeviceSelector, Driver, OpenOptions, QueueLock, VulkanDevice, WrapOptions,
    WrappedTransferQueue, enumerate,
};

use super::device_info::{DeviceProperties, MemoryProperties, PhysicalDevice, version_tuple};
use crate::arguments::chains::allocation_callbacks;
use crate::arguments::iterables;
use crate::arguments::numbers::{QUEUE_FLAGS, handle, of_class, unsigned_32};
use crate::arguments::text::Text;
use crate::errors::{IntoPyResult, feature_not_present, invalid};
use crate::interpreter::detach;
use crate::lifetime::ownership::DeviceCore;
use crate::lifetime::queue_lock::OwnersLock;
use crate::package::{DEVICE_ARGUMENTS, FUNCTION_ADDRESS};
use crate::process::forks::in_one_process;
use crate::process::links::Link;

/// A Vulkan device.
#[pyclass(module = "vk_mem", subclass, frozen, weakref)]
pub struct Device {
    pub core: Arc<DeviceCore>,
}

impl Device {
    /// A simulated one, and the lock of its queue.
    pub fn simulated(driver: Arc<dyn Driver>, lock: Option<Arc<OwnersLock>>) -> Self {
        Self { core: Arc::new(DeviceCore::new(driver, true, [lock, None], [None, None])) }
    }
}

/// Keeps a loader of the caller alive.
fn kept(loader: Option<&Bound<'_, PyAny>>) -> Option<Link<PyAny>> {
    loader.map(|it| Link::new(it.clone().unbind()))
}

/// Returns the address of the caller's `vkGetInstanceProcAddr`; 0 for none.
fn loader_address(loader: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
    let Some(loader) = loader else { return Ok(0) };
    let py = loader.py();
    let look = || FUNCTION_ADDRESS.get(py)?.call1((loader, "get_instance_proc_addr"));
    in_one_process(py, look)??.extract()
}

/// Reads `(1, 3)`, `(1, 3, 250)` or a `VK_MAKE_API_VERSION`.
fn api_version(value: &Bound<'_, PyAny>) -> PyResult<u32> {
    if !value.is_instance_of::<PyTuple>() {
        return unsigned_32(value, "api_version");
    }
    let parts: Vec<u32> = value
        .cast::<PyTuple>()?
        .iter()
        .map(|part| unsigned_32(&part, "api_version"))
        .collect::<PyResult<_>>()?;
    match parts[..] {
        [major, minor] => Ok((major << 22) | (minor << 12)),
        [major, minor, patch] => Ok((major << 22) | (minor << 12) | patch),
        _ => Err(invalid(value.py(), "api_version is (major, minor) or (major, minor, patch)")),
    }
}

/// Maximum number of names: more than Vulkan has of any kind.
const MOST_NAMES: usize = 10_000;

/// Reads a list of names; raises for a single str, which would be a list of letters.
fn names(value: Option<&Bound<'_, PyAny>>, keyword: &str) -> PyResult<Vec<String>> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let wrong = || PyTypeError::new_err(format!("{keyword} must be a list of names"));
    if value.is_instance_of::<PyString>() {
        return Err(wrong());
    }
    let name = |item: &Bound<'_, PyAny>| Text::string(item, keyword).map_err(|_| wrong());
    iterables::read(value, keyword, MOST_NAMES, name)
}

fn index(value: &Bound<'_, PyAny>) -> PyResult<Option<u32>> {
    (!value.is_none()).then(|| unsigned_32(value, "index")).transpose()
}

fn queue_family_index(value: &Bound<'_, PyAny>) -> PyResult<u32> {
    unsigned_32(value, "queue_family_index")
}

/// Returns all devices of the system's drivers, in the order that `Device.open(index=...)` counts.
#[pyfunction]
pub fn list_physical_devices(py: Python<'_>) -> PyResult<Vec<PhysicalDevice>> {
    let found = detach(py, enumerate).or_raise(py)?;
    Ok(found.into_iter().map(PhysicalDevice::from).collect())
}

#[pymethods]
impl Device {
    /// Opens a device without a window: instance, device, one queue; and a second one of a family that can copy
    /// and do nothing else, where there is one (`transfer_queue`).
    ///
    /// Takes the best device: a discrete GPU before an integrated one, a driver that runs on the CPU last.
    /// With `name`, the best whose name contains it; with `index`, that number of `list_physical_devices()`.
    ///
    /// `validation` enables the Khronos validation layer and collects `validation_messages`. `api_version` is
    /// the highest version to use, such as `(1, 2)`.
    ///
    /// All extensions and features that the allocator can use are enabled. `extensions` names others, of the
    /// device or the instance; `features` names features as in Vulkan, such as `"shaderInt64"`, each of which
    /// enables the extension that it needs. `without_extensions` names extensions that are not enabled, nor
    /// those that depend on them. `extensions` and `features` of the device say what is enabled.
    ///
    /// `queue_flags` (`QueueFlags`) are the required capabilities of the queue: of the families that have all
    /// of them, the one with the fewest others is taken. Without it a queue for graphics and compute is
    /// preferred.
    ///
    /// `get_instance_proc_addr` is the function of a loader other than the system's, as in `wrap`.
    /// `allocation_callbacks` is a `VkAllocationCallbacks` of any binding or its address: it is passed to
    /// each call that creates or destroys memory, buffers, images, command pools and fences. It is copied and
    /// kept; its functions may be called from any thread, and must not call Vulkan.
    ///
    /// `fault_reports=True` keeps what `Allocator.explain_fault` needs to say what a faulting address belonged to:
    /// each allocator then remembers what was freed lately, and `VK_EXT_device_address_binding_report` is enabled,
    /// where the device has it, with which the driver reports what each address is bound to. That costs time and
    /// host memory in each call that creates or destroys something.
    ///
    /// Raises `InitializationError` if there is no loader, driver, device, queue or layer,
    /// `FeatureNotPresentError` if the device lacks a requested extension or feature, `InvalidArgumentError`
    /// if Vulkan has no such feature.
    #[classmethod]
    #[pyo3(signature = (
        name = None, *, index = None, validation = false, api_version = None, extensions = None,
        without_extensions = None, features = None, queue_flags = None,
        application_name = "vk-mem", get_instance_proc_addr = None, allocation_callbacks = None,
        fault_reports = false
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn open(
        _cls: &Bound<'_, PyType>,
        py: Python<'_>,
        name: Option<Text>,
        #[pyo3(from_py_with = index)] index: Option<u32>,
        validation: bool,
        api_version: Option<&Bound<'_, PyAny>>,
        extensions: Option<&Bound<'_, PyAny>>,
        without_extensions: Option<&Bound<'_, PyAny>>,
        features: Option<&Bound<'_, PyAny>>,
        queue_flags: Option<&Bound<'_, PyAny>>,
        application_name: &str,
        get_instance_proc_addr: Option<&Bound<'_, PyAny>>,
        allocation_callbacks: Option<&Bound<'_, PyAny>>,
        fault_reports: bool,
    ) -> PyResult<Self> {
        let selector = match (name, index) {
            (Some(_), Some(_)) => return Err(invalid(py, "either name or index, not both")),
            (Some(name), None) => DeviceSelector::Name(name.0),
            (None, Some(index)) => DeviceSelector::Index(index),
            (None, None) => DeviceSelector::Best,
        };
        let (allocation_callbacks, callbacks) = self::allocation_callbacks(allocation_callbacks)?;
        let options = OpenOptions {
            selector,
            validation,
            application_name: application_name.into(),
            api_version: api_version.map(self::api_version).transpose()?,
            extensions: names(extensions, "extensions")?,
            without_extensions: names(without_extensions, "without_extensions")?,
            features: names(features, "features")?,
            queue_flags: queue_flags
                .map_or(Ok(0), |flags| of_class(flags, "queue_flags", &QUEUE_FLAGS))?,
            allocation_callbacks,
            fault_reports,
        };
        let loader = loader_address(get_instance_proc_addr)?;
        // SAFETY: the caller guarantees the loader, as documented; it is kept alive below.
        let device = detach(py, || unsafe { VulkanDevice::open_through(loader, &options) });
        let device = device.or_raise(py)?;
        let kept = [kept(get_instance_proc_addr), callbacks];
        Ok(Self { core: Arc::new(DeviceCore::new(Arc::new(device), true, [None, None], kept)) })
    }

    /// Wraps a device that the caller owns, and destroys only after its allocators are closed.
    ///
    /// Takes the handles of any binding. `api_version` is the version that the instance was created with,
    /// such as `(1, 3)`; `extensions` are the names of the enabled extensions of instance and device. No
    /// other extension is used; timeline semaphores are used if `VK_KHR_timeline_semaphore` is named. `queue`
    /// is only needed for copies. Vulkan objects that those need are destroyed when the last allocator of the
    /// device is closed.
    ///
    /// Vulkan allows one thread at a time on a queue. A program that submits to `queue` from other threads
    /// passes `queue_lock`, a context manager such as a `threading.Lock()`: it is entered around each
    /// `vkQueueSubmit` and `vkQueueWaitIdle` of this library, but not while that waits for the device. If
    /// `__enter__` raises, nothing is submitted and the call raises that exception; an exception of
    /// `__exit__` is raised when the copy has ended, and has taken place. A thread that holds the lock cannot make copies, unless
    /// the lock is reentrant, like `threading.RLock()`.
    ///
    /// `transfer_queue` and `transfer_queue_family_index` are a second queue that can copy, mostly of a family
    /// that does nothing else: large transfers run there (`Transfers`), after what was submitted to `queue`
    /// before them. `transfer_queue_lock` is to it what `queue_lock` is to `queue`, and may be the same lock. Both
    /// are held around such a submission, `queue_lock` first.
    ///
    /// `binding` names the module that the handles come from if that cannot be told from them: its loader is
    /// used. For any other loader, `get_instance_proc_addr` is its function, or the address of that: it and
    /// what it returns have to stay valid while the device is used. `allocation_callbacks` is as in `open`.
    ///
    /// `Allocator.explain_fault` needs `VK_EXT_device_fault` in `extensions`. `fault_reports` is as in `open`: while
    /// an allocator of the device is open, bindings of addresses are noted if `extensions` has
    /// `VK_EXT_device_address_binding_report` and `VK_EXT_debug_utils`.
    ///
    /// Raises `InitializationError` if a function is missing that the version or an extension guarantees,
    /// `InvalidArgumentError` for a `transfer_queue` without its family, of a family that the device lacks or
    /// that cannot copy, without `queue`, or that is `queue`.
    #[classmethod]
    #[pyo3(signature = (
        instance, physical_device, logical_device, *, api_version, extensions = None,
        queue = None, queue_family_index = 0, queue_lock = None, transfer_queue = None,
        transfer_queue_family_index = None, transfer_queue_lock = None, buffer_device_address = false,
        amd_device_coherent = false, binding = None, get_instance_proc_addr = None,
        allocation_callbacks = None, fault_reports = false
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn wrap(
        _cls: &Bound<'_, PyType>,
        py: Python<'_>,
        instance: &Bound<'_, PyAny>,
        physical_device: &Bound<'_, PyAny>,
        logical_device: &Bound<'_, PyAny>,
        api_version: &Bound<'_, PyAny>,
        extensions: Option<&Bound<'_, PyAny>>,
        queue: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = queue_family_index)] queue_family_index: u32,
        queue_lock: Option<&Bound<'_, PyAny>>,
        transfer_queue: Option<&Bound<'_, PyAny>>,
        transfer_queue_family_index: Option<&Bound<'_, PyAny>>,
        transfer_queue_lock: Option<&Bound<'_, PyAny>>,
        buffer_device_address: bool,
        amd_device_coherent: bool,
        binding: Option<&Bound<'_, PyAny>>,
        get_instance_proc_addr: Option<&Bound<'_, PyAny>>,
        allocation_callbacks: Option<&Bound<'_, PyAny>>,
        fault_reports: bool,
    ) -> PyResult<Self> {
        if binding.is_some() && get_instance_proc_addr.is_some() {
            let why = "binding= and get_instance_proc_addr= both name a loader: give one of them";
            return Err(invalid(py, why));
        }
        let keywords = pyo3::types::PyDict::new(py);
        keywords.set_item("binding", binding)?;
        keywords.set_item("device_keyword", "logical_device")?;
        let handles = (instance, physical_device, logical_device);
        let read = || DEVICE_ARGUMENTS.get(py)?.call(handles, Some(&keywords));
        let arguments = in_one_process(py, read)??;
        let (instance, physical_device, device, loader): (u64, u64, u64, Option<u64>) =
            arguments.extract()?;
        let given = loader_address(get_instance_proc_addr)?;
        let (allocation_callbacks, callbacks) = self::allocation_callbacks(allocation_callbacks)?;
        if queue_lock.is_some() && queue.is_none() {
            let why = "queue_lock= is held around submissions to queue=: give that as well";
            return Err(invalid(py, why));
        }
        if transfer_queue.is_some() != transfer_queue_family_index.is_some() {
            let why = "transfer_queue= and transfer_queue_family_index= belong together";
            return Err(invalid(py, why));
        }
        if transfer_queue_lock.is_some() && transfer_queue.is_none() {
            let why = "transfer_queue_lock= is held around submissions to transfer_queue=: give that \
                       as well";
            return Err(invalid(py, why));
        }
        let is_one_lock =
            transfer_queue_lock.is_some_and(|it| queue_lock.is_some_and(|of| of.is(it)));
        let queue_lock = queue_lock.map(OwnersLock::new).transpose()?;
        let second_lock = match transfer_queue_lock.filter(|_| !is_one_lock) {
            Some(lock) => Some(OwnersLock::named(lock, "transfer_queue_lock")?),
            None => None,
        };
        let lock = if is_one_lock { queue_lock.clone() } else { second_lock.clone() };
        let transfer_queue = match (transfer_queue, transfer_queue_family_index) {
            (Some(queue), Some(family)) => Some(WrappedTransferQueue {
                queue: handle(queue, "VkQueue", "transfer_queue")?,
                family_index: unsigned_32(family, "transfer_queue_family_index")?,
                lock: lock.map(|lock| lock as Arc<dyn QueueLock>),
            }),
            _ => None,
        };
        let options = WrapOptions {
            instance,
            physical_device,
            device,
            api_version: self::api_version(api_version)?,
            extensions: names(extensions, "extensions")?,
            queue: queue.map_or(Ok(0), |queue| handle(queue, "VkQueue", "queue"))?,
            queue_family_index,
            queue_lock: queue_lock.clone().map(|lock| lock as Arc<dyn QueueLock>),
            transfer_queue,
            get_instance_proc_addr: if given == 0 { loader.unwrap_or(0) } else { given },
            buffer_device_address,
            amd_device_coherent,
            allocation_callbacks,
            fault_reports,
        };
        // SAFETY: the caller guarantees the handles, as documented.
        let device = detach(py, || unsafe { VulkanDevice::wrap(options) }).or_raise(py)?;
        let kept = [kept(get_instance_proc_addr), callbacks];
        let locks = [queue_lock, second_lock];
        Ok(Self { core: Arc::new(DeviceCore::new(Arc::new(device), false, locks, kept)) })
    }

    /// The `VkInstance`; 0 for a simulated device.
    #[getter]
    fn instance(&self) -> u64 {
        self.core.driver.handles().instance
    }

    /// The `VkPhysicalDevice`; 0 for a simulated device.
    #[getter]
    fn physical_device(&self) -> u64 {
        self.core.driver.handles().physical_device
    }

    /// The `VkDevice`; 0 for a simulated device.
    #[getter]
    fn handle(&self) -> u64 {
        self.core.driver.handles().device
    }

    /// The `VkQueue` for copies; 0 without one.
    #[getter]
    fn queue(&self) -> u64 {
        self.core.driver.handles().queue
    }

    /// Family index of `queue`.
    #[getter]
    fn queue_family_index(&self) -> u32 {
        self.core.driver.handles().queue_family_index
    }

    /// The `VkQueue` for large transfers, beside `queue`; None without one. 0 for a simulated one.
    #[getter]
    fn transfer_queue(&self) -> Option<u64> {
        let driver = &self.core.driver;
        driver.transfer_queue().map(|_| driver.handles().transfer_queue)
    }

    /// Family index of `transfer_queue`; None without one.
    #[getter]
    fn transfer_queue_family_index(&self) -> Option<u32> {
        self.core.driver.transfer_queue().map(|queue| queue.family_index)
    }

    /// The highest Vulkan version in use: major, minor and patch.
    #[getter]
    fn api_version(&self) -> (u32, u32, u32) {
        version_tuple(self.core.driver.info().api_version)
    }

    /// Names of the enabled extensions.
    #[getter]
    fn extensions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.core.driver.extensions())
    }

    /// Names of the enabled features, as in Vulkan: those that were requested, and those that the allocator
    /// uses. For a wrapped device, those that `wrap` was told.
    #[getter]
    fn features<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.core.driver.features())
    }

    /// Name, type and limits.
    #[getter]
    fn properties(&self) -> DeviceProperties {
        DeviceProperties::new(self.core.driver.info())
    }

    /// Alignment of address and size of host memory that is imported, in bytes
    /// (`minImportedHostPointerAlignment`); None without `VK_EXT_external_memory_host`.
    #[getter]
    fn min_imported_host_pointer_alignment(&self) -> Option<u64> {
        self.core.driver.external().host_pointer_alignment()
    }

    /// Memory heaps and memory types.
    #[getter]
    fn memory_properties(&self) -> MemoryProperties {
        MemoryProperties::new(self.core.driver.info())
    }

    /// Messages of the validation layer so far; empty without `validation=True`.
    #[getter]
    fn validation_messages(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.core.check_process(py)?;
        Ok(self.core.driver.validation_messages())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.core.queue_locks.iter().flatten().try_for_each(|lock| lock.traverse(&visit))
    }

    fn __clear__(&self) {
        self.core.queue_locks.iter().flatten().for_each(|lock| lock.clear());
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let class = slf.get_type().name()?;
        Ok(format!("<vk_mem.{class} {}>", slf.get().core.driver.info().name))
    }

    /// Sets whether memory reads as a pattern through the address of a mapping that has ended; see
    /// `SimulatedDevice`. For `Debug(poison_unmapped=True)`.
    ///
    /// Raises `FeatureNotPresentError` for a real device, whose driver may take the address away.
    fn _set_poison_unmapped(&self, py: Python<'_>, on: bool) -> PyResult<()> {
        self.core.check_process(py)?;
        poison_unmapped(py, &self.core, on)
    }
}

/// Sets whether memory that is not mapped reads as a pattern; raises for a real device.
pub fn poison_unmapped(py: Python<'_>, core: &DeviceCore, on: bool) -> PyResult<()> {
    if core.driver.set_poison_unmapped(on) {
        return Ok(());
    }
    Err(feature_not_present(
        py,
        "poison_unmapped needs a SimulatedDevice: on a real device the driver decides what an address shows after \
         vkUnmapMemory",
    ))
}
