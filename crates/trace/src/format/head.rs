//! The block with the [`Description`]: fields with a number and a length, so that unknown ones can be skipped.

use vkmem_engine::{
    DeviceInfo, DeviceType, Limits, MemoryHeap, MemoryHeapFlags, MemoryPropertyFlags, MemoryType,
    check_info,
};

use crate::bytes::{Input, put, put_bytes};
use crate::description::Description;
use crate::dictionary::Dictionary;
use crate::error::Damage;
use crate::field::{Field, Output};

const DEVICE: u8 = 1;
const DRIVER_VERSION: u8 = 2;
const OPTIONS: u8 = 3;
const EXTENSION: u8 = 4;
const SETTING: u8 = 5;
const PROGRAM: u8 = 6;
const PROCESS: u8 = 7;
const LIBRARY: u8 = 8;
const START: u8 = 9;
const RESOLUTION: u8 = 10;

/// Appends the fields of a description. The format and its version are those of the file.
pub(super) fn put_description(out: &mut Vec<u8>, description: &Description) {
    let mut field = |number: u8, fill: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        fill(&mut bytes);
        out.push(number);
        put_bytes(out, &bytes);
    };
    let it = description;
    it.device.iter().for_each(|device| field(DEVICE, &|out| put_device(out, device)));
    it.driver_version.iter().for_each(|&it| field(DRIVER_VERSION, &|out| put(out, u64::from(it))));
    if let Some(options) = &it.options {
        // Options contain no text and no request.
        let mut unused = Dictionary::default();
        let mut bytes = Vec::new();
        options.put(&mut Output { bytes: &mut bytes, dictionary: &mut unused });
        field(OPTIONS, &|out| out.extend_from_slice(&bytes));
    }
    for (name, enabled) in &it.extensions {
        field(EXTENSION, &|out| {
            out.push(u8::from(*enabled));
            put_bytes(out, name.as_bytes());
        });
    }
    for (name, value) in &it.settings {
        field(SETTING, &|out| {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
        });
    }
    it.program.iter().for_each(|it| field(PROGRAM, &|out| put_bytes(out, it.as_bytes())));
    it.process.iter().for_each(|&it| field(PROCESS, &|out| put(out, u64::from(it))));
    it.library.iter().for_each(|it| field(LIBRARY, &|out| put_bytes(out, it.as_bytes())));
    it.start.iter().for_each(|&it| field(START, &|out| put(out, it)));
    field(RESOLUTION, &|out| put(out, it.resolution));
}

/// Reads the fields of a description into `description`.
pub(super) fn get_description(
    input: &mut Input<'_>,
    description: &mut Description,
) -> Result<(), Damage> {
    let unused = Dictionary::default();
    while !input.is_empty() {
        let number = input.byte()?;
        let base = input.offset();
        let bytes = input.sized()?;
        let mut field = Input::new(bytes, base);
        let it = &mut *description;
        match number {
            DEVICE => it.device = Some(get_device(&mut field)?),
            DRIVER_VERSION => it.driver_version = Some(field.small()?),
            OPTIONS => {
                // The dictionary is empty, so what is taken from it is an error.
                it.options = Some(Field::get(&mut field, &unused)?);
            }
            EXTENSION => {
                let enabled = field.byte()? != 0;
                it.extensions.push((field.text()?.into(), enabled));
            }
            SETTING => it.settings.push((field.text()?.into(), field.text()?.into())),
            PROGRAM => it.program = Some(field.text()?.into()),
            PROCESS => it.process = Some(field.small()?),
            LIBRARY => it.library = Some(field.text()?.into()),
            START => it.start = Some(field.number()?),
            RESOLUTION => it.resolution = field.number()?,
            _ => {}
        }
    }
    Ok(())
}

fn put_device(out: &mut Vec<u8>, device: &DeviceInfo) {
    put_bytes(out, device.name.as_bytes());
    put_bytes(out, device.driver.as_bytes());
    let limits = &device.limits;
    for number in [
        u64::from(device.vendor_id),
        u64::from(device.device_id),
        u64::from(device.device_type as u32),
        u64::from(device.api_version),
        u64::from(device.amd_device_coherent),
        u64::from(limits.max_memory_allocation_count),
        limits.max_memory_allocation_size,
        limits.buffer_image_granularity,
        limits.non_coherent_atom_size,
        limits.min_memory_map_alignment,
        limits.min_uniform_buffer_offset_alignment,
        limits.min_storage_buffer_offset_alignment,
        limits.min_texel_buffer_offset_alignment,
        limits.optimal_buffer_copy_offset_alignment,
        device.heaps.len() as u64,
    ] {
        put(out, number);
    }
    for heap in &device.heaps {
        put(out, heap.size);
        put(out, u64::from(heap.flags.bits()));
    }
    put(out, device.types.len() as u64);
    for memory_type in &device.types {
        put(out, u64::from(memory_type.heap_index));
        put(out, u64::from(memory_type.flags.bits()));
    }
}

fn get_device(input: &mut Input<'_>) -> Result<DeviceInfo, Damage> {
    let start = *input;
    let mut info = DeviceInfo {
        name: input.text()?.into(),
        driver: input.text()?.into(),
        vendor_id: input.small()?,
        device_id: input.small()?,
        device_type: device_type(input.small()?),
        api_version: input.small()?,
        amd_device_coherent: input.number()? != 0,
        limits: Limits {
            max_memory_allocation_count: input.small()?,
            max_memory_allocation_size: input.number()?,
            buffer_image_granularity: input.number()?,
            non_coherent_atom_size: input.number()?,
            min_memory_map_alignment: input.number()?,
            min_uniform_buffer_offset_alignment: input.number()?,
            min_storage_buffer_offset_alignment: input.number()?,
            min_texel_buffer_offset_alignment: input.number()?,
            optimal_buffer_copy_offset_alignment: input.number()?,
        },
        heaps: Vec::new(),
        types: Vec::new(),
    };
    for _ in 0..input.number()? {
        let (size, flags) = (input.number()?, input.small()?);
        let flags = MemoryHeapFlags::from_bits_retain(flags);
        info.heaps.push(MemoryHeap { size, flags });
    }
    for _ in 0..input.number()? {
        let (heap_index, flags) = (input.small()?, input.small()?);
        let flags = MemoryPropertyFlags::from_bits_retain(flags);
        info.types.push(MemoryType { heap_index, flags });
    }
    info.limits = info.limits.without_zeros();
    match check_info(&info) {
        Ok(()) => Ok(info),
        Err(error) => start.wrong(error.to_string()),
    }
}

/// Returns the kind of device of a `VkPhysicalDeviceType`; unknown ones are `Other`.
pub(crate) fn device_type(number: u32) -> DeviceType {
    match number {
        1 => DeviceType::IntegratedGpu,
        2 => DeviceType::DiscreteGpu,
        3 => DeviceType::VirtualGpu,
        4 => DeviceType::Cpu,
        _ => DeviceType::Other,
    }
}
