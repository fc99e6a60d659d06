//! Writes recordings as the Vulkan Memory Allocator did, version 1,8: the configuration, and which calls it can say.

use std::fmt::Write;

use super::vma_calls::Calls;
use super::vma_text::one_line;
use super::written::Written;
use crate::description::Description;
use crate::error::Format;
use crate::progress::{Progress, nobody};
use crate::trace::Trace;

/// Writes a trace as a recording of VMA, version 1,8.
///
/// VMA 2.3 has no `AUTO` usages: such an allocation is written with the memory type that it got as the only one, or with
/// the older usage that is nearest if that is not known. Strategies and flags that VMA 2.3 does not have are left out,
/// and so are virtual blocks, imports, aliases and all that happened within calls.
pub fn write_vma_csv(trace: &Trace) -> Written {
    write_vma_csv_with(trace, &nobody)
}

/// As [`write_vma_csv`]; tells how many events are written.
pub fn write_vma_csv_with(trace: &Trace, progress: Progress<'_>) -> Written {
    let text = "Vulkan Memory Allocator,Calls recording\n1,8\n".into();
    let mut out = Written { text, ..Written::default() };
    write_config(&mut out.text, trace.description()).expect("memory takes all that is written");
    Calls::new(trace).write(&mut out, progress).expect("memory takes all that is written");
    out
}

fn write_config(out: &mut String, description: &Description) -> std::fmt::Result {
    let is_from_vma = description.format == Format::VmaCsv;
    if description.device.is_none() && !is_from_vma {
        return Ok(());
    }
    writeln!(out, "Config,Begin")?;
    if let Some(device) = &description.device {
        let version = device.api_version;
        writeln!(out, "VulkanApiVersion,{},{}", version >> 22 & 0x7F, version >> 12 & 0x3FF)?;
        for (name, value) in [
            ("apiVersion", version),
            ("driverVersion", description.driver_version.unwrap_or(0)),
            ("vendorID", device.vendor_id),
            ("deviceID", device.device_id),
            ("deviceType", device.device_type as u32),
        ] {
            writeln!(out, "PhysicalDevice,{name},{value}")?;
        }
        writeln!(out, "PhysicalDevice,deviceName,{}", one_line(&device.name))?;
        let limits = &device.limits;
        for (name, value) in [
            ("maxMemoryAllocationCount", u64::from(limits.max_memory_allocation_count)),
            ("bufferImageGranularity", limits.buffer_image_granularity),
            ("nonCoherentAtomSize", limits.non_coherent_atom_size),
        ] {
            writeln!(out, "PhysicalDeviceLimits,{name},{value}")?;
        }
        writeln!(out, "PhysicalDeviceMemory,HeapCount,{}", device.heaps.len())?;
        for (index, heap) in device.heaps.iter().enumerate() {
            writeln!(out, "PhysicalDeviceMemory,Heap,{index},size,{}", heap.size)?;
            writeln!(out, "PhysicalDeviceMemory,Heap,{index},flags,{}", heap.flags.bits())?;
        }
        writeln!(out, "PhysicalDeviceMemory,TypeCount,{}", device.types.len())?;
        for (index, it) in device.types.iter().enumerate() {
            let flags = it.flags.bits();
            writeln!(out, "PhysicalDeviceMemory,Type,{index},heapIndex,{}", it.heap_index)?;
            writeln!(out, "PhysicalDeviceMemory,Type,{index},propertyFlags,{flags}")?;
        }
    }
    for (name, enabled) in &description.extensions {
        writeln!(out, "Extension,{},{}", one_line(name), u32::from(*enabled))?;
    }
    for (name, value) in &description.settings {
        let (name, value) = (one_line(name), one_line(value));
        match name.starts_with("VMA_") {
            true => writeln!(out, "Macro,{name},{value}")?,
            false if is_from_vma => writeln!(out, "{name},{value}")?,
            false => {}
        }
    }
    let options = description.options.as_ref();
    let block_size = options.and_then(|it| it.preferred_block_size);
    if description.setting("VMA_DEFAULT_LARGE_HEAP_BLOCK_SIZE").is_none()
        && let Some(size) = block_size
    {
        writeln!(out, "Macro,VMA_DEFAULT_LARGE_HEAP_BLOCK_SIZE,{size}")?;
    }
    writeln!(out, "Config,End")
}
