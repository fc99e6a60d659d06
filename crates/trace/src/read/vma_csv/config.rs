//! The lines between `Config,Begin` and `Config,End`: device, extensions, macros.

use vkmem_engine::{
    AllocatorOptions, DeviceInfo, DeviceType, Limits, MemoryHeap, MemoryHeapFlags,
    MemoryPropertyFlags, MemoryType, check_info,
};

use crate::description::Description;
use crate::format::device_type;

/// `VK_MAX_MEMORY_HEAPS` and `VK_MAX_MEMORY_TYPES`
const MOST: (usize, usize) = (16, 32);

/// What was read so far.
pub(super) struct Config {
    device: DeviceInfo,
    /// The version of the application, which may be lower than that of the device.
    used_api_version: Option<u32>,
    pub ended: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            device: DeviceInfo {
                name: String::new(),
                driver: String::new(),
                vendor_id: 0,
                device_id: 0,
                device_type: DeviceType::Other,
                api_version: 1 << 22,
                limits: Limits {
                    max_memory_allocation_count: 0,
                    max_memory_allocation_size: 0,
                    buffer_image_granularity: 0,
                    non_coherent_atom_size: 0,
                    // What VMA does not record is what most devices have.
                    min_memory_map_alignment: 64,
                    min_uniform_buffer_offset_alignment: 256,
                    min_storage_buffer_offset_alignment: 16,
                    min_texel_buffer_offset_alignment: 16,
                    optimal_buffer_copy_offset_alignment: 1,
                },
                heaps: Vec::new(),
                types: Vec::new(),
                amd_device_coherent: false,
            },
            used_api_version: None,
            ended: false,
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    let short: String = text.chars().take(40).collect();
    text.trim().parse().map_err(|_| format!("not a number that fits: {short:?}"))
}

/// Returns an entry of a list that is filled in any order, of `most` entries at most.
fn entry<T: Clone>(
    list: &mut Vec<T>,
    index: usize,
    most: usize,
    empty: T,
) -> Result<&mut T, String> {
    if index >= most {
        return Err(format!("a device has {most} of these at most"));
    }
    if index >= list.len() {
        list.resize(index + 1, empty);
    }
    Ok(&mut list[index])
}

impl Config {
    /// Takes a line. What is not known is kept as a setting.
    pub fn line(&mut self, line: &str, description: &mut Description) -> Result<(), String> {
        let columns: Vec<&str> = line.splitn(5, ',').map(str::trim).collect();
        let device = &mut self.device;
        let limits = &mut device.limits;
        match columns[..] {
            ["VulkanApiVersion", major, minor] => {
                let (major, minor): (u32, u32) = (number(major)?, number(minor)?);
                if major > 127 || minor > 1023 {
                    return Err(format!("no version of Vulkan is {major}.{minor}"));
                }
                self.used_api_version = Some(major << 22 | minor << 12);
            }
            ["PhysicalDevice", "apiVersion", it] => device.api_version = number(it)?,
            ["PhysicalDevice", "driverVersion", it] => {
                description.driver_version = Some(number(it)?);
                device.driver = format!("driver version {it}");
            }
            ["PhysicalDevice", "vendorID", it] => device.vendor_id = number(it)?,
            ["PhysicalDevice", "deviceID", it] => device.device_id = number(it)?,
            ["PhysicalDevice", "deviceType", it] => device.device_type = device_type(number(it)?),
            ["PhysicalDevice", "deviceName", ..] => {
                // A name may contain commas.
                device.name = line.splitn(3, ',').nth(2).unwrap_or("").trim().into();
            }
            ["PhysicalDeviceLimits", "maxMemoryAllocationCount", it] => {
                limits.max_memory_allocation_count = number(it)?;
            }
            ["PhysicalDeviceLimits", "bufferImageGranularity", it] => {
                limits.buffer_image_granularity = number(it)?;
            }
            ["PhysicalDeviceLimits", "nonCoherentAtomSize", it] => {
                limits.non_coherent_atom_size = number(it)?;
            }
            ["PhysicalDeviceMemory", "HeapCount" | "TypeCount", it] => _ = number::<u32>(it)?,
            ["PhysicalDeviceMemory", "Heap", index, what, it] => {
                let empty = MemoryHeap { size: 0, flags: MemoryHeapFlags::empty() };
                let heap = entry(&mut device.heaps, number(index)?, MOST.0, empty)?;
                match what {
                    "size" => heap.size = number(it)?,
                    "flags" => heap.flags = MemoryHeapFlags::from_bits_retain(number(it)?),
                    _ => {}
                }
            }
            ["PhysicalDeviceMemory", "Type", index, what, it] => {
                let empty = MemoryType { heap_index: 0, flags: MemoryPropertyFlags::empty() };
                let memory_type = entry(&mut device.types, number(index)?, MOST.1, empty)?;
                match what {
                    "heapIndex" => memory_type.heap_index = number(it)?,
                    "propertyFlags" => {
                        memory_type.flags = MemoryPropertyFlags::from_bits_retain(number(it)?);
                    }
                    _ => {}
                }
            }
            ["Extension", name, it] => {
                let enabled = number::<u32>(it)? != 0;
                device.amd_device_coherent |= enabled && name == "VK_AMD_device_coherent_memory";
                description.extensions.push((name.into(), enabled));
            }
            ["Macro", name, value] => {
                description.settings.push((name.into(), value.into()));
                if name == "VMA_DEFAULT_LARGE_HEAP_BLOCK_SIZE" {
                    let preferred_block_size = Some(number(value)?).filter(|it| *it != 0);
                    let options = AllocatorOptions { preferred_block_size, ..Default::default() };
                    description.options = Some(options);
                }
            }
            _ => {
                let (name, value) = line.rsplit_once(',').unwrap_or((line, ""));
                description.settings.push((name.into(), value.into()));
            }
        }
        Ok(())
    }

    /// Completes the device, if the lines described one.
    pub fn end(&mut self, description: &mut Description) -> Result<(), String> {
        self.ended = true;
        let mut device = self.device.clone();
        if device.heaps.is_empty() && device.types.is_empty() {
            return Ok(());
        }
        device.api_version = self.used_api_version.unwrap_or(device.api_version);
        device.limits = device.limits.without_zeros();
        check_info(&device).map_err(|error| error.to_string())?;
        description.device = Some(device);
        Ok(())
    }
}
