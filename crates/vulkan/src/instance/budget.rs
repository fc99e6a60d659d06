//! The driver's report on its heaps (`VK_EXT_memory_budget`).

use std::iter;

use ash::vk;
use vkmem_engine::DriverBudget;

use crate::instance::functions::Properties2Functions;

/// Returns usage and budget of the first `heaps` heaps in bytes.
///
/// # Safety
/// The device is live, belongs to the functions' instance, and has `VK_EXT_memory_budget`.
pub(crate) unsafe fn read_budget(
    functions: &Properties2Functions,
    device: vk::PhysicalDevice,
    heaps: usize,
) -> Vec<DriverBudget> {
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let mut properties = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
    // SAFETY: the caller guarantees a valid device; the chain lives for the call.
    unsafe { (functions.get_physical_device_memory_properties2)(device, &mut properties) };
    iter::zip(budget.heap_usage, budget.heap_budget)
        .take(heaps)
        .map(|(usage, budget)| DriverBudget { usage, budget })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::mem;

    use super::*;
    use crate::instance::functions::Provider;

    unsafe extern "system" fn memory_properties2(
        _device: vk::PhysicalDevice,
        properties: *mut vk::PhysicalDeviceMemoryProperties2<'_>,
    ) {
        // SAFETY: called by `read_budget` with one structure in the chain.
        let budget = unsafe {
            &mut *(*properties).p_next.cast::<vk::PhysicalDeviceMemoryBudgetPropertiesEXT<'_>>()
        };
        assert_eq!(budget.s_type, vk::StructureType::PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT);
        budget.heap_usage[..2].copy_from_slice(&[1, 2]);
        budget.heap_budget[..2].copy_from_slice(&[10, 20]);
    }

    #[test]
    fn usage_and_budget_come_by_heap() {
        let fake: vk::PFN_vkGetPhysicalDeviceMemoryProperties2 = memory_properties2;
        let find = |_: &CStr| {
            // SAFETY: any function type passes through the other one.
            Some(unsafe {
                mem::transmute::<
                    vk::PFN_vkGetPhysicalDeviceMemoryProperties2,
                    unsafe extern "system" fn(),
                >(fake)
            })
        };
        // SAFETY: only the function that it is right for is called.
        let functions = unsafe { Properties2Functions::load(Provider::VULKAN_1_1, &find) };
        let functions = functions.expect("all are found");
        // SAFETY: the function above does not use the device.
        let budget = unsafe { read_budget(&functions, vk::PhysicalDevice::null(), 2) };
        assert_eq!(
            budget,
            [DriverBudget { usage: 1, budget: 10 }, DriverBudget { usage: 2, budget: 20 }]
        );
    }
}
