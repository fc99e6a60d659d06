//! What a physical device says about itself.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use vkmem_engine::words::{bytes, counted};
use vkmem_engine::{DeviceInfo, Limits};
use vkmem_vulkan::PhysicalDeviceSummary;

use crate::arguments::numbers::flags;

/// `VK_MAKE_API_VERSION` as major, minor and patch.
pub fn version_tuple(version: u32) -> (u32, u32, u32) {
    ((version >> 22) & 0x7f, (version >> 12) & 0x3ff, version & 0xfff)
}

/// Name, kind and limits of a device.
#[pyclass(module = "vk_mem", frozen)]
pub struct DeviceProperties {
    info: DeviceInfo,
}

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $type:ty),* $(,)?) => {
        #[pymethods]
        impl DeviceProperties {
            /// As the driver gives it.
            #[getter]
            fn device_name(&self) -> &str {
                &self.info.name
            }

            /// Name and version, for people.
            #[getter]
            fn driver(&self) -> &str {
                &self.info.driver
            }

            /// PCI vendor, or a `VkVendorId`.
            #[getter]
            fn vendor_id(&self) -> u32 {
                self.info.vendor_id
            }

            /// Of that vendor.
            #[getter]
            fn device_id(&self) -> u32 {
                self.info.device_id
            }

            /// `DeviceType`
            #[getter]
            fn device_type<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                flags(py, "DeviceType", self.info.device_type as u64)
            }

            /// The newest version in use: major, minor and patch.
            #[getter]
            fn api_version(&self) -> (u32, u32, u32) {
                version_tuple(self.info.api_version)
            }

            $($(#[$doc])*
            #[getter]
            fn $name(&self) -> $type {
                self.limits().$name
            })*

            fn __repr__(&self) -> String {
                format!("<vk_mem.DeviceProperties of {}>", self.info.name)
            }
        }
    };
}

limits! {
    /// Memory objects that may live at once.
    max_memory_allocation_count: u32,
    /// Bytes of one memory object.
    max_memory_allocation_size: u64,
    /// Bytes of a page that a buffer and an optimal image must not share.
    buffer_image_granularity: u64,
    /// Bytes to which flushes and invalidates are rounded.
    non_coherent_atom_size: u64,
    /// Of mapped addresses, in bytes.
    min_memory_map_alignment: u64,
    /// Of uniform buffer offsets, in bytes.
    min_uniform_buffer_offset_alignment: u64,
    /// Of storage buffer offsets, in bytes.
    min_storage_buffer_offset_alignment: u64,
    /// Of texel buffer offsets, in bytes.
    min_texel_buffer_offset_alignment: u64,
    /// Advice for copies between buffers and images, in bytes.
    optimal_buffer_copy_offset_alignment: u64,
}

impl DeviceProperties {
    pub fn new(info: &DeviceInfo) -> Self {
        Self { info: info.clone() }
    }

    fn limits(&self) -> &Limits {
        &self.info.limits
    }
}

/// `VkMemoryHeap`
#[pyclass(module = "vk_mem", frozen)]
pub struct MemoryHeap {
    size: u64,
    bits: u32,
}

#[pymethods]
impl MemoryHeap {
    /// In bytes.
    #[getter]
    fn size(&self) -> u64 {
        self.size
    }

    /// `MemoryHeapFlags`
    #[getter]
    fn flags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        flags(py, "MemoryHeapFlags", self.bits.into())
    }

    fn __repr__(&self) -> String {
        format!("<vk_mem.MemoryHeap of {}>", bytes(self.size))
    }
}

/// `VkMemoryType`
#[pyclass(module = "vk_mem", frozen)]
pub struct MemoryType {
    heap_index: u32,
    bits: u32,
}

#[pymethods]
impl MemoryType {
    /// Index into `memory_heaps`.
    #[getter]
    fn heap_index(&self) -> u32 {
        self.heap_index
    }

    /// `MemoryPropertyFlags`
    #[getter]
    fn property_flags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        flags(py, "MemoryPropertyFlags", self.bits.into())
    }

    fn __repr__(&self) -> String {
        let flags = vkmem_engine::MemoryPropertyFlags::from_bits_retain(self.bits);
        let names = vkmem_engine::memory_property_names(flags);
        format!("<vk_mem.MemoryType of heap {}, {names}>", self.heap_index)
    }
}

/// `VkPhysicalDeviceMemoryProperties`
#[pyclass(module = "vk_mem", frozen)]
pub struct MemoryProperties {
    info: DeviceInfo,
}

impl MemoryProperties {
    pub fn new(info: &DeviceInfo) -> Self {
        Self { info: info.clone() }
    }
}

#[pymethods]
impl MemoryProperties {
    fn __repr__(&self) -> String {
        let (heaps, types) = (self.info.heaps.len(), self.info.types.len());
        format!(
            "<vk_mem.MemoryProperties of {} and {}>",
            counted(heaps, "heap"),
            counted(types, "type")
        )
    }

    /// All heaps.
    #[getter]
    fn memory_heaps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let heaps = self.info.heaps.iter();
        let heaps =
            heaps.map(|it| Py::new(py, MemoryHeap { size: it.size, bits: it.flags.bits() }));
        PyTuple::new(py, heaps.collect::<PyResult<Vec<_>>>()?)
    }

    /// All types.
    #[getter]
    fn memory_types<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let types =
            self.info.types.iter().map(|it| {
                Py::new(py, MemoryType { heap_index: it.heap_index, bits: it.flags.bits() })
            });
        PyTuple::new(py, types.collect::<PyResult<Vec<_>>>()?)
    }
}

/// A device that could be opened.
#[pyclass(module = "vk_mem", frozen)]
pub struct PhysicalDevice {
    summary: PhysicalDeviceSummary,
}

impl From<PhysicalDeviceSummary> for PhysicalDevice {
    fn from(summary: PhysicalDeviceSummary) -> Self {
        Self { summary }
    }
}

#[pymethods]
impl PhysicalDevice {
    /// Name, kind and limits.
    #[getter]
    fn properties(&self) -> DeviceProperties {
        DeviceProperties::new(&self.summary.info)
    }

    /// Heaps and types.
    #[getter]
    fn memory_properties(&self) -> MemoryProperties {
        MemoryProperties::new(&self.summary.info)
    }

    /// Names of the extensions that the device has.
    #[getter]
    fn extensions(&self) -> Vec<String> {
        self.summary.extensions.clone()
    }

    fn __repr__(&self) -> String {
        format!("<vk_mem.PhysicalDevice {}>", self.summary.info.name)
    }
}
