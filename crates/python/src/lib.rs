//! The PyO3 face of vk-mem: registration only.

mod allocation;
mod allocation_info;
mod allocator;
mod bind;
mod bindings;

mod buffer;
mod call_site;
mod chains;
mod close;
mod create_info;
mod destroy_many;
mod device;
mod device_info;
mod device_memory;
mod errors;
mod external;
mod extras;
mod face;
mod fast_call;
mod handlers;
mod held;
mod held_buffer;
mod host_copy;
mod host_memory;
mod image;
mod interpreter;
mod links;
mod live;
mod many;
mod mapping;
mod memory_access;
mod numbers;
mod observed;
mod package;
mod pieces;
mod pins;
mod plain;
mod pool;
mod quads;
mod remains;
mod resource;
mod resource_object;
mod sequences;
mod simulated;
mod state;
mod statistics;
mod text;
mod transfers;
mod unflushed;
mod virtual_block;
mod virtual_blocks;

use pyo3::prelude::*;
use pyo3::wrap_pyfunction;

/// The native half of vk_mem.
#[pymodule]
fn _vk_mem(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    // Before anything is made that all interpreters would share.
    interpreter::check_is_main(py)?;
    interpreter::attach_once(py);
    host_memory::fill_reserve();
    vkmem_vulkan::wait_by(state::wait_without_interpreter);

    module.add_class::<allocation::Allocation>()?;
    module.add_class::<allocation_info::AllocationCreateInfo>()?;
    module.add_class::<allocator::Allocator>()?;
    module.add_class::<buffer::Buffer>()?;
    module.add_class::<device::Device>()?;
    module.add_class::<device_memory::DeviceMemoryEvent>()?;
    module.add_class::<device_info::DeviceProperties>()?;
    module.add_class::<device_info::MemoryHeap>()?;
    module.add_class::<device_info::MemoryProperties>()?;
    module.add_class::<device_info::MemoryType>()?;
    module.add_class::<device_info::PhysicalDevice>()?;
    module.add_class::<image::Image>()?;
    module.add_class::<mapping::Mapping>()?;
    module.add_class::<observed::Watch>()?;
    module.add_class::<pool::Pool>()?;
    module.add_class::<resource_object::ResourceObject>()?;
    module.add_class::<simulated::SimulatedDevice>()?;
    module.add_class::<statistics::HeapBudget>()?;
    module.add_class::<statistics::PoolStatistics>()?;
    module.add_class::<statistics::Statistics>()?;
    module.add_class::<statistics::TotalStatistics>()?;
    module.add_class::<virtual_block::VirtualAllocation>()?;
    module.add_class::<virtual_block::VirtualBlock>()?;
    module.add_class::<virtual_blocks::Range>()?;
    module.add_class::<virtual_blocks::VirtualBlocks>()?;
    fast_call::add::<allocator::create::CreateBuffer, _>(py)?;

    module.add_function(wrap_pyfunction!(close::_close_all_at_exit, module)?)?;
    module.add_function(wrap_pyfunction!(device::list_physical_devices, module)?)?;
    module.add_function(wrap_pyfunction!(links::_after_fork_in_child, module)?)?;
    module.add_function(wrap_pyfunction!(package::_look_up_names, module)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
