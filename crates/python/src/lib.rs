//! The PyO3 face of vk-mem: registration only.

mod allocation;
mod allocation_info;
mod allocator;
mod bindings;
mod buffer;
mod call_site;
mod close;
mod create_info;
mod destroy_many;
mod device;
mod device_info;
mod errors;
mod external;
mod extras;
mod face;
mod fast_call;
mod handlers;
mod held;
mod held_buffer;
mod host_copy;
mod image;
mod links;
mod live;
mod many;
mod mapping;
mod memory_access;
mod numbers;
mod observed;
mod pins;
mod plain;
mod pool;
mod quads;
mod remains;
mod resource;
mod resource_object;
mod simulated;
mod state;
mod statistics;
mod text;
mod transfers;
mod virtual_block;
mod virtual_blocks;

use pyo3::prelude::*;

/// The native half of vk_mem.
#[pymodule]
mod _vk_mem {
    #[pymodule_export]
    use crate::allocation::Allocation;
    #[pymodule_export]
    use crate::allocation_info::AllocationCreateInfo;
    #[pymodule_export]
    use crate::allocator::Allocator;
    #[pymodule_export]
    use crate::buffer::Buffer;
    #[pymodule_export]
    use crate::close::_close_all_at_exit;
    #[pymodule_export]
    use crate::device::{Device, list_physical_devices};
    #[pymodule_export]
    use crate::device_info::{
        DeviceProperties, MemoryHeap, MemoryProperties, MemoryType, PhysicalDevice,
    };
    #[pymodule_export]
    use crate::image::Image;
    #[pymodule_export]
    use crate::links::_after_fork_in_child;
    #[pymodule_export]
    use crate::mapping::Mapping;
    #[pymodule_export]
    use crate::observed::Watch;
    #[pymodule_export]
    use crate::pool::Pool;
    #[pymodule_export]
    use crate::resource_object::ResourceObject;
    #[pymodule_export]
    use crate::simulated::SimulatedDevice;
    #[pymodule_export]
    use crate::statistics::{HeapBudget, PoolStatistics, Statistics, TotalStatistics};
    #[pymodule_export]
    use crate::virtual_block::{VirtualAllocation, VirtualBlock};
    #[pymodule_export]
    use crate::virtual_blocks::{Range, VirtualBlocks};

    #[pymodule_init]
    fn init(module: &super::Bound<'_, super::PyModule>) -> super::PyResult<()> {
        use super::PyModuleMethods;
        vkmem_vulkan::wait_by(super::state::wait_without_interpreter);
        super::fast_call::add::<super::allocator::create::CreateBuffer, _>(module.py())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
