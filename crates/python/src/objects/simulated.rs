//! `vk_mem.SimulatedDevice`: a GPU of any kind without a driver, for tests and for machines without a GPU.

use std::sync::Arc;
use std::time::Duration;

use ash::vk;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use vkmem_engine::words::counted;
use vkmem_engine::{
    Call, DeviceError, DeviceMemory, DeviceType, MemoryHeapFlags, MemoryPropertyFlags,
    SimulatedDevice as EngineDevice, profile_info, simulated_info,
};
use vkmem_vulkan::{Completion, Driver, QueueLock, SimulatedDriver};

use super::device::Device;
use crate::arguments::iterables;
use crate::arguments::numbers::{
    DEVICE_TYPE, FlagClass, MEMORY_HEAP_FLAGS, MEMORY_PROPERTY_FLAGS, QUEUE_FLAGS, of_class, real,
    refuse_handle, unsigned, unsigned_32,
};
use crate::arguments::text::Text;
use crate::errors::{IntoPyResult, invalid};
use crate::interpreter::detach;
use crate::lifetime::ownership::DeviceCore;
use crate::lifetime::queue_lock::OwnersLock;

/// Maximum number of heaps of a device (`VK_MAX_MEMORY_HEAPS`).
const MOST_HEAPS: usize = 16;

/// A device that needs no driver and behaves like an existing GPU, or like one that is described.
///
/// `profile` is one of `profile_names()`, "nvidia-h200" by default:
///
/// - "nvidia-h200": 140 GiB on the device, 94 GiB on the host; the only one with `VK_EXT_memory_budget`,
///   `VK_EXT_device_fault`, `VK_EXT_memory_priority`, `VK_EXT_pageable_device_local_memory` and device addresses; Vulkan 1.4,
///   the others 1.3;
/// - "lavapipe": 2 GiB, one type for all; Mesa's CPU driver;
/// - "discrete-8gib": 8 GiB on the device, 16 GiB on the host, at most 4096 memory objects;
/// - "discrete-8gib-bar": like "discrete-8gib", with 256 MiB of the device host-visible; AMD's uncached
///   types;
/// - "integrated": 12 GiB shared with the host;
/// - "raspberry-pi": 2 GiB, one type for all;
/// - "moltenvk": 11 GiB shared with the host, and a lazily allocated type; no external memory;
/// - "non-coherent": host-visible types that are not coherent, pages of 64 KiB
///   (`buffer_image_granularity`).
///
/// Alternatively, `heaps` are pairs of a size in bytes and `MemoryHeapFlags`, and `types` pairs of a heap
/// index and `MemoryPropertyFlags`. The other keywords set one limit each, of a profile or of the described
/// device; a maximum of 0 is one that the driver does not report. Memory that can be mapped is real, copies
/// between buffers take place, and violations of Vulkan's rules are listed in `violations`.
///
/// `transfer_queue` says whether the device has a second queue, of a family that can only copy. "nvidia-h200",
/// "discrete-8gib" and "discrete-8gib-bar" have one otherwise, whose family copies buffers and, but for the last,
/// images.
///
/// `queue_flags` (`QueueFlags`) are what the queue of the device can do; everything without them. With 0 the device
/// has no queue, as one that was wrapped without. `queue_lock` is a context manager that is entered around each
/// submission of this library, as that of `Device.wrap`. `fault_reports` is as in `Device.open`, on a device that has what it
/// needs.
///
/// With `poison_unmapped`, memory reads as bytes of 0xDD through the address of a mapping that has ended, and what is
/// written there is lost; the address stays valid. The next mapping shows the bytes again. Freed memory goes on to
/// read so, up to 256 MiB of it. Not for memory that is imported or can be exported. A memory object that was mapped
/// several times is not kept mapped then, and each map and unmap copies all of it.
///
/// With `watch_unbound`, a host write to mapped memory that no buffer or image is bound to is among the `violations`,
/// through whatever address it was made. It is found when the memory is unmapped, flushed, invalidated or freed, and by
/// `check_unbound()`. Memory that is used without a buffer or image counts as such. Each look reads the memory object.
///
/// Raises `InvalidArgumentError` for a device that violates Vulkan's limits, such as a page size that is not
/// a power of two.
#[pyclass(module = "vk_mem", extends = Device, frozen)]
pub struct SimulatedDevice {
    driver: Arc<SimulatedDriver>,
    pub(super) core: Arc<DeviceCore>,
}

/// Returns the call with a name if it is `wanted`; raises for any other call.
fn call_named(py: Python<'_>, name: &str, wanted: fn(Call) -> bool) -> PyResult<Call> {
    let found = Call::ALL.into_iter().find(|call| call.name() == name);
    if let Some(call) = found.filter(|call| wanted(*call)) {
        return Ok(call);
    }
    let names = Call::ALL.into_iter().filter(|call| wanted(*call)).map(Call::name);
    let names = names.collect::<Vec<_>>().join(", ");
    Err(invalid(
        py,
        match found {
            Some(_) => format!("{name} cannot fail; these can: {names}"),
            None => format!("no call is named '{}'; there are {names}", name.escape_debug()),
        },
    ))
}

/// Reads a `VkResult` that is an error, which is negative.
fn failure(value: Option<&Bound<'_, PyAny>>) -> PyResult<DeviceError> {
    let Some(value) = value else { return Ok(DeviceError::OutOfDeviceMemory) };
    let py = value.py();
    refuse_handle(value, "vk_result")?;
    match value.extract::<i32>() {
        Ok(result) if result < 0 => Ok(DeviceError::from_vk_result(result)),
        Ok(result) => {
            Err(invalid(py, format!("vk_result is {result}; a VkResult that fails is negative")))
        }
        Err(error) if error.is_instance_of::<PyOverflowError>(py) => {
            Err(invalid(py, "vk_result does not fit 32 bits: it is no VkResult"))
        }
        Err(error) if error.is_instance_of::<PyTypeError>(py) => {
            let kind = value.get_type().name()?;
            Err(PyTypeError::new_err(format!("vk_result must be an integer, not {kind}")))
        }
        Err(error) => Err(error),
    }
}

/// Returns the `VkPhysicalDeviceType` of a number.
fn device_type(py: Python<'_>, value: u32) -> PyResult<DeviceType> {
    Ok(match value {
        0 => DeviceType::Other,
        1 => DeviceType::IntegratedGpu,
        2 => DeviceType::DiscreteGpu,
        3 => DeviceType::VirtualGpu,
        4 => DeviceType::Cpu,
        other => return Err(invalid(py, format!("no DeviceType is {other}"))),
    })
}

fn any(_: Call) -> bool {
    true
}

impl SimulatedDevice {
    /// Returns the device; raises in the child of a fork, where its locks may be held for ever.
    fn device(&self, py: Python<'_>) -> PyResult<&EngineDevice> {
        Ok(self.driver(py)?.device())
    }

    pub(super) fn driver(&self, py: Python<'_>) -> PyResult<&SimulatedDriver> {
        self.core.check_process(py)?;
        Ok(&self.driver)
    }
}

/// Reads pairs of numbers, as in `[(size, flags), ...]`.
fn pairs(value: &Bound<'_, PyAny>, name: &str, class: &FlagClass) -> PyResult<Vec<(u64, u32)>> {
    let pair = |item: &Bound<'_, PyAny>| {
        let (number, flags): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        Ok((unsigned(&number, name)?, of_class(&flags, name, class)?))
    };
    // `VK_MAX_MEMORY_TYPES` is 32, and there are fewer heaps.
    iterables::read(value, name, 32, pair)
}

#[pymethods]
impl SimulatedDevice {
    #[new]
    #[pyo3(signature = (
        profile = None, *, heaps = None, types = None, device_type = None,
        buffer_image_granularity = None, non_coherent_atom_size = None,
        max_memory_allocation_count = None, max_memory_allocation_size = None, transfer_queue = None,
        queue_flags = None, queue_lock = None, poison_unmapped = false, watch_unbound = false,
        fault_reports = false
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn new(
        py: Python<'_>,
        profile: Option<Text>,
        heaps: Option<&Bound<'_, PyAny>>,
        types: Option<&Bound<'_, PyAny>>,
        device_type: Option<&Bound<'_, PyAny>>,
        buffer_image_granularity: Option<&Bound<'_, PyAny>>,
        non_coherent_atom_size: Option<&Bound<'_, PyAny>>,
        max_memory_allocation_count: Option<&Bound<'_, PyAny>>,
        max_memory_allocation_size: Option<&Bound<'_, PyAny>>,
        transfer_queue: Option<bool>,
        queue_flags: Option<&Bound<'_, PyAny>>,
        queue_lock: Option<&Bound<'_, PyAny>>,
        poison_unmapped: bool,
        watch_unbound: bool,
        fault_reports: bool,
    ) -> PyResult<PyClassInitializer<Self>> {
        let profile = profile.as_ref().map(|text| text.0.as_str());
        let profile = match (profile, heaps, types) {
            (None, None, None) => Some("nvidia-h200"),
            (profile, ..) => profile,
        };
        let mut info = match (heaps, types) {
            (None, None) => {
                let name = profile.unwrap_or_default();
                profile_info(name).ok_or_else(|| {
                    let names = EngineDevice::profile_names().join(", ");
                    invalid(py, format!("no profile is named '{name}'; there are {names}"))
                })?
            }
            (Some(heaps), Some(types)) if profile.is_none() => {
                let heaps = pairs(heaps, "heaps", &MEMORY_HEAP_FLAGS)?
                    .into_iter()
                    .map(|(size, flags)| (size, MemoryHeapFlags::from_bits_retain(flags)));
                let types = pairs(types, "types", &MEMORY_PROPERTY_FLAGS)?.into_iter().map(
                    |(heap, flags)| {
                        let heap = u32::try_from(heap).unwrap_or(u32::MAX);
                        (heap, MemoryPropertyFlags::from_bits_retain(flags))
                    },
                );
                let (heaps, types): (Vec<_>, Vec<_>) = (heaps.collect(), types.collect());
                simulated_info(&heaps, &types)
            }
            _ => return Err(invalid(py, "either a profile, or heaps together with types")),
        };
        if let Some(kind) = device_type {
            info.device_type = self::device_type(py, of_class(kind, "device_type", &DEVICE_TYPE)?)?;
        }
        let limits = &mut info.limits;
        for (limit, value, name) in [
            (
                &mut limits.buffer_image_granularity,
                buffer_image_granularity,
                "buffer_image_granularity",
            ),
            (&mut limits.non_coherent_atom_size, non_coherent_atom_size, "non_coherent_atom_size"),
            (
                &mut limits.max_memory_allocation_size,
                max_memory_allocation_size,
                "max_memory_allocation_size",
            ),
        ] {
            if let Some(value) = value {
                *limit = unsigned(value, name)?;
            }
        }
        if let Some(count) = max_memory_allocation_count {
            limits.max_memory_allocation_count = unsigned_32(count, "max_memory_allocation_count")?;
        }
        let mut driver = SimulatedDriver::of_info(info, profile).or_raise(py)?;
        if let Some(has_one) = transfer_queue {
            let own = driver.transfer_queue().unwrap_or(SimulatedDriver::COPY_ENGINE);
            driver = driver.with_transfer_queue(has_one.then_some(own));
        }
        if let Some(flags) = queue_flags {
            let flags = of_class(flags, "queue_flags", &QUEUE_FLAGS)?;
            driver.set_queue_flags(vk::QueueFlags::from_raw(flags));
        }
        let lock = queue_lock.map(OwnersLock::new).transpose()?;
        let driver = driver.with_fault_reports(fault_reports);
        let driver = driver.with_queue_lock(lock.clone().map(|lock| lock as Arc<dyn QueueLock>));
        driver.device().set_poison_unmapped(poison_unmapped);
        driver.set_watch_unbound(watch_unbound);
        let driver = Arc::new(driver);
        let device = Device::simulated(driver.clone(), lock);
        let core = device.core.clone();
        Ok(PyClassInitializer::from(device).add_subclass(Self { driver, core }))
    }

    /// Returns the names of the profiles.
    #[staticmethod]
    fn profile_names(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        PyTuple::new(py, EngineDevice::profile_names())
    }

    /// Makes the `n`th call from now that can fail, counted from 0, fail with `vk_result`, an error
    /// (negative).
    #[pyo3(signature = (n = None, vk_result = None), text_signature = "($self, n=0, vk_result=-2)")]
    fn fail_call(
        &self,
        py: Python<'_>,
        n: Option<&Bound<'_, PyAny>>,
        vk_result: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (n, error) = (n.map_or(Ok(0), |n| unsigned(n, "n"))?, failure(vk_result)?);
        self.device(py)?.fail_call(n, error);
        Ok(())
    }

    /// Makes the next `count` calls of a Vulkan command that can fail, such as `"vkAllocateMemory"`, fail
    /// with `vk_result`, an error (negative).
    ///
    /// Raises `InvalidArgumentError` for a command that cannot fail, such as `vkFreeMemory`.
    #[pyo3(
        signature = (call, count = None, vk_result = None),
        text_signature = "($self, call, count=1, vk_result=-2)"
    )]
    fn fail_next(
        &self,
        py: Python<'_>,
        call: Text,
        count: Option<&Bound<'_, PyAny>>,
        vk_result: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let call = call_named(py, &call.0, Call::is_fallible)?;
        let count = count.map_or(Ok(1), |count| unsigned(count, "count"))?;
        let error = failure(vk_result)?;
        self.device(py)?.fail_next(call, count, error);
        Ok(())
    }

    /// Cancels all failures that were set.
    fn clear_failures(&self, py: Python<'_>) -> PyResult<()> {
        self.device(py)?.clear_failures();
        Ok(())
    }

    /// Makes a Vulkan command, or all of them, take `seconds` longer.
    #[pyo3(signature = (seconds, call = None))]
    fn set_latency(
        &self,
        py: Python<'_>,
        seconds: &Bound<'_, PyAny>,
        call: Option<&str>,
    ) -> PyResult<()> {
        let seconds = real(seconds, "seconds")?;
        let latency = Duration::try_from_secs_f64(seconds)
            .map_err(|_| invalid(py, format!("a latency of {seconds} seconds")))?;
        let device = self.device(py)?;
        match call {
            None => device.set_latency_of_all(latency),
            Some(call) => device.set_latency(call_named(py, call, any)?, latency),
        }
        Ok(())
    }

    /// Sets the budget of each heap in bytes, as `VK_EXT_memory_budget` tells it; usage is what is allocated. None
    /// stands for a device without that extension. An allocator asks for budgets if there are some when it is created,
    /// and then at least once in each frame.
    fn set_heap_budgets(&self, py: Python<'_>, budgets: &Bound<'_, PyAny>) -> PyResult<()> {
        let device = self.device(py)?;
        if budgets.is_none() {
            device.set_budget(None);
            return Ok(());
        }
        let heaps = device.info().heaps.len();
        let budgets =
            iterables::read(budgets, "budgets", MOST_HEAPS, |it| unsigned(it, "budgets"))?;
        if budgets.len() != heaps {
            let why = format!("budgets has {} items for {}", budgets.len(), counted(heaps, "heap"));
            return Err(invalid(py, why));
        }
        device.set_live_budget(budgets);
        Ok(())
    }

    /// Makes resources created from now on require dedicated memory.
    fn set_requires_dedicated(&self, requires: bool) {
        self.driver.set_requires_dedicated(requires);
    }

    /// Sets whether more memory objects than `maxMemoryAllocationCount` are refused, which is the default:
    /// some drivers allow more than they report.
    fn set_enforces_allocation_count(&self, py: Python<'_>, enforces: bool) -> PyResult<()> {
        self.device(py)?.enforce_allocation_count(enforces);
        Ok(())
    }

    /// Says when what is submitted from now on is carried out: "at once", inside of the submission;
    /// "when waited", in the first wait for it or for a later one; or "held", when `complete_submissions`
    /// says so, which waits wait for.
    fn set_completion(&self, py: Python<'_>, completion: Text) -> PyResult<()> {
        let completion = match completion.0.as_str() {
            "at once" => Completion::AtOnce,
            "when waited" => Completion::WhenWaited,
            "held" => Completion::Held,
            other => {
                let other = other.escape_debug();
                let why = "it must be 'at once', 'when waited' or 'held'";
                return Err(invalid(py, format!("completion is '{other}'; {why}")));
            }
        };
        let driver = self.driver(py)?;
        detach(py, || driver.set_completion(completion));
        Ok(())
    }

    /// Carries out the oldest submissions that have not ended, `count` at most, all without one; how many
    /// they were.
    #[pyo3(signature = (count = None))]
    fn complete_submissions(
        &self,
        py: Python<'_>,
        count: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<usize> {
        let count = count.map_or(Ok(u64::MAX), |count| unsigned(count, "count"))?;
        let driver = self.driver(py)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Ok(detach(py, || driver.complete_submissions(count)))
    }

    /// Submissions that have not ended.
    #[getter]
    fn pending_submissions(&self, py: Python<'_>) -> PyResult<usize> {
        let driver = self.driver(py)?;
        Ok(detach(py, || driver.pending_submissions()))
    }

    /// Returns how often a Vulkan command, or any of them, was called.
    #[pyo3(signature = (call = None))]
    fn call_count(&self, py: Python<'_>, call: Option<&str>) -> PyResult<u64> {
        let device = self.device(py)?;
        Ok(match call {
            None => Call::ALL.into_iter().map(|call| device.call_count(call)).sum(),
            Some(call) => device.call_count(call_named(py, call, any)?),
        })
    }

    /// Number of calls so far that can fail.
    #[getter]
    fn fallible_call_count(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.device(py)?.fallible_call_count())
    }

    /// Number of live `VkDeviceMemory` objects.
    #[getter]
    fn live_memory_objects(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.device(py)?.live_memory_objects())
    }

    /// Returns the size of the live memory objects of a heap, in bytes.
    fn live_bytes(&self, py: Python<'_>, heap: &Bound<'_, PyAny>) -> PyResult<u64> {
        let heap = unsigned_32(heap, "heap")?;
        if heap as usize >= self.driver.info().heaps.len() {
            return Err(invalid(py, format!("the device has no heap {heap}")));
        }
        Ok(self.device(py)?.live_bytes(heap))
    }

    /// Number of live buffers.
    #[getter]
    fn live_buffers(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.driver(py)?.live_buffers())
    }

    /// Number of live images.
    #[getter]
    fn live_images(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.driver(py)?.live_images())
    }
}
