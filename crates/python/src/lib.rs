//! The PyO3 extension module: registration only.

mod allocator;
mod arguments;
mod debugging;
mod errors;
mod interop;
mod interpreter;
mod lifetime;
mod memory;
mod moving;
mod objects;
mod observe;
mod package;
mod process;
mod recording;
mod trace;
mod transfer;

use pyo3::prelude::*;
use pyo3::wrap_pyfunction;

/// The native part of vk_mem.
#[pymodule]
fn _vk_mem(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    // Before anything is created that all interpreters would share.
    interpreter::check_is_main(py)?;
    interpreter::attach_once(py);
    process::host_memory::fill_reserve();
    arguments::numbers::set_handles(|it| {
        it.is_instance_of::<objects::resource::ResourceObject>()
            || it.is_instance_of::<objects::pool::Pool>()
    });
    #[cfg(all(unix, any(debug_assertions, feature = "validate")))]
    interpreter::check_locks_by_gil(py);
    vkmem_vulkan::set_wait(interpreter::wait_without_gil);

    module.add_class::<objects::allocation::Allocation>()?;
    module.add_class::<objects::allocation_create_info::AllocationCreateInfo>()?;
    module.add_class::<allocator::Allocator>()?;
    module.add_class::<allocator::heap_debugger::HeapDebugger>()?;
    module.add_class::<objects::buffer::Buffer>()?;
    module.add_class::<objects::device::Device>()?;
    module.add_class::<lifetime::device_memory::DeviceMemoryEvent>()?;
    module.add_class::<objects::device_info::DeviceProperties>()?;
    module.add_class::<objects::device_info::MemoryHeap>()?;
    module.add_class::<objects::device_info::MemoryProperties>()?;
    module.add_class::<objects::device_info::MemoryType>()?;
    module.add_class::<objects::device_info::PhysicalDevice>()?;
    module.add_class::<objects::image::Image>()?;
    module.add_class::<memory::exports::HostBytes>()?;
    module.add_class::<memory::mapping::Mapping>()?;
    module.add_class::<objects::watch::EventCounter>()?;
    module.add_class::<objects::watch::Watch>()?;
    module.add_class::<objects::pool::Pool>()?;
    module.add_class::<objects::resource::ResourceObject>()?;
    module.add_class::<objects::recording::Recording>()?;
    module.add_class::<objects::recording::Ring>()?;
    module.add_class::<objects::simulated::SimulatedDevice>()?;
    module.add_class::<objects::statistics::HeapBudget>()?;
    module.add_class::<objects::statistics::PoolStatistics>()?;
    module.add_class::<objects::statistics::Statistics>()?;
    module.add_class::<objects::statistics::TotalStatistics>()?;
    module.add_class::<objects::violation::Violation>()?;
    module.add_class::<objects::virtual_block::VirtualAllocation>()?;
    module.add_class::<objects::virtual_block::VirtualBlock>()?;
    module.add_class::<objects::virtual_blocks::Range>()?;
    module.add_class::<objects::virtual_blocks::VirtualBlocks>()?;
    module.add_class::<moving::passes::Defragmentation>()?;
    module.add_class::<moving::moves::DefragmentationDestination>()?;
    module.add_class::<moving::moves::DefragmentationMove>()?;
    module.add_class::<moving::passes::DefragmentationPass>()?;
    module.add_class::<trace::column::TraceColumn>()?;
    module.add_class::<trace::data::TraceData>()?;
    module.add_class::<trace::replayed::ReplayedData>()?;
    module.add_class::<transfer::register::RegisteredArray>()?;
    module.add_class::<transfer::state::Transfer>()?;
    module.add_class::<transfer::batch::TransferBatch>()?;
    module.add_class::<transfer::transfers::Transfers>()?;
    arguments::fast_call::add::<allocator::create::CreateBuffer, _>(py)?;

    module.add_function(wrap_pyfunction!(allocator::record::record, module)?)?;
    module.add_function(wrap_pyfunction!(allocator::record::_record_ranges, module)?)?;
    module.add_function(wrap_pyfunction!(lifetime::close::_close_all_at_exit, module)?)?;
    module.add_function(wrap_pyfunction!(objects::device::list_physical_devices, module)?)?;
    module.add_function(wrap_pyfunction!(process::forks::_after_fork_in_child, module)?)?;
    module.add_function(wrap_pyfunction!(package::_look_up_names, module)?)?;
    module.add_function(wrap_pyfunction!(package::_look_up_other_names, module)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
