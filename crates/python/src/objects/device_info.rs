//! Properties of a physical device.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use vkmem_engine::words::{bytes, counted};
use vkmem_engine::{DeviceInfo, Limits};
use vkmem_vulkan::PhysicalDeviceSummary;

use crate::arguments::numbers::flags;

/// Converts a `VK_MAKE_API_VERSION` to major, minor and patch.
pub fn version_tuple(version: u32) -> (u32, u32, u32) {
    ((version >> 22) & 0x7f, (version >> 12) & 0x3ff, version & 0xfff)
}

/// Name, type and limits of a device (`VkPhysicalDeviceProperties`).
#[pyclass(module = "vk_mem", frozen)]
pub struct DeviceProperties {
    info: DeviceInfo,
}

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $type:ty),* $(,)?) => {
        #[pymethods]
        impl DeviceProperties {
            /// Name of the device, from the driver.
            #[getter]
            fn device_name(&self) -> &str {
                &self.info.name
            }

            /// Name and version of the driver, as text.
            #[getter]
            fn driver(&self) -> &str {
                &self.info.driver
            }

            /// PCI vendor id, or a `VkVendorId`.
            #[getter]
            fn vendor_id(&self) -> u32 {
                self.info.vendor_id
            }

            /// Device id, assigned by the vendor.
            #[getter]
            fn device_id(&self) -> u32 {
                self.info.device_id
            }

            /// `DeviceType`.
            #[getter]
            fn device_type<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                flags(py, "DeviceType", self.info.device_type as u64)
            }

            /// The highest Vulkan version in use: major, minor and patch.
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
    /// Maximum number of memory objects.
    max_memory_allocation_count: u32,
    /// Maximum size of a memory object, in bytes.
    max_memory_allocation_size: u64,
    /// Size in bytes of the pages that a buffer or linear image must not share with an optimal image.
    buffer_image_granularity: u64,
    /// Size in bytes that flushes and invalidates are rounded to.
    non_coherent_atom_size: u64,
    /// Minimum alignment of mapped addresses, in bytes.
    min_memory_map_alignment: u64,
    /// Minimum alignment of uniform buffer offsets, in bytes.
    min_uniform_buffer_offset_alignment: u64,
    /// Minimum alignment of storage buffer offsets, in bytes.
    min_storage_buffer_offset_alignment: u64,
    /// Minimum alignment of texel buffer offsets, in bytes.
    min_texel_buffer_offset_alignment: u64,
    /// Optimal alignment of buffer offsets in copies between buffers and images, in bytes.
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

/// A memory heap (`VkMemoryHeap`).
#[pyclass(module = "vk_mem", frozen)]
pub struct MemoryHeap {
    size: u64,
    bits: u32,
}

#[pymethods]
impl MemoryHeap {
    /// Size in bytes.
    #[getter]
    fn size(&self) -> u64 {
        self.size
    }

    /// `MemoryHeapFlags`.
    #[getter]
    fn flags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        flags(py, "MemoryHeapFlags", self.bits.into())
    }

    fn __repr__(&self) -> String {
        format!("<vk_mem.MemoryHeap of {}>", bytes(self.size))
    }
}

/// A memory type (`VkMemoryType`).
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

    /// `MemoryPropertyFlags`.
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

/// Heaps and types of a device (`VkPhysicalDeviceMemoryProperties`).
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

    /// All memory heaps.
    #[getter]
    fn memory_heaps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let heaps = self.info.heaps.iter();
        let heaps =
            heaps.map(|it| Py::new(py, MemoryHeap { size: it.size, bits: it.flags.bits() }));
        PyTuple::new(py, heaps.collect::<PyResult<Vec<_>>>()?)
    }

    /// All memory types.
    #[getter]
    fn memory_types<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let types =
            self.info.types.iter().map(|it| {
                Py::new(py, MemoryType { heap_index: it.heap_index, bits: it.flags.bits() })
            });
        PyTuple::new(py, types.collect::<PyResult<Vec<_>>>()?)
    }
}

/// A physical device that can be opened (`VkPhysicalDevice`).
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
    /// Name, type and limits.
    #[getter]
    fn properties(&self) -> DeviceProperties {
        DeviceProperties::new(&self.summary.info)
    }

    /// Memory heaps and memory types.
    #[getter]
    fn memory_properties(&self) -> MemoryProperties {
        MemoryProperties::new(&self.summary.info)
    }

    /// Names of the extensions that the device supports.
    #[getter]
    fn extensions(&self) -> Vec<String> {
        self.summary.extensions.clone()
    }

    fn __repr__(&self) -> String {
        format!("<vk_mem.PhysicalDevice {}>", self.summary.info.name)
    }
}
