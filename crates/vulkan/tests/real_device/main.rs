//! `VulkanDevice` on a real driver with the validation layer enabled. Mesa's CPU driver suffices.

mod debugging;
mod images;
mod submissions;

use std::cell::RefCell;
use std::ffi::{CStr, c_char};
use std::mem;
use std::sync::OnceLock;

use ash::vk::{self, Handle};
use vkmem_engine::{
    DedicatedTarget, DeviceError, DeviceMemory, MemoryAllocateInfo, MemoryHandle,
    MemoryPropertyFlags, MemoryRange, MemoryRequirements,
};
use vkmem_vulkan::{
    DeviceSelector, Driver, LayoutChange, OpenError, OpenOptions, TransferCommand, ValidationLog,
    VulkanDevice, WrapOptions, enumerate, first_texels,
};

const V1_0: u32 = vk::API_VERSION_1_0;
const V1_1: u32 = vk::API_VERSION_1_1;
const V1_2: u32 = vk::API_VERSION_1_2;
const V1_3: u32 = vk::API_VERSION_1_3;
const V1_9: u32 = vk::make_api_version(0, 1, 9, 0);

// ---- helpers ----

fn validated() -> OpenOptions {
    OpenOptions { validation: true, ..Default::default() }
}

#[track_caller]
fn open(options: &OpenOptions) -> VulkanDevice {
    VulkanDevice::open(options).unwrap_or_else(|error| {
        panic!(
            "these tests need a Vulkan driver (a CPU driver will do) and the validation layer; \
             `make test` installs them: {error}"
        )
    })
}

#[track_caller]
fn assert_clean(log: &ValidationLog) {
    let messages = log.messages();
    assert!(messages.is_empty(), "the validation layer says:\n{}", messages.join("\n"));
}

/// Runs `run` with an opened device, drops the device, and asserts that the validation layer reported
/// nothing.
#[track_caller]
fn with_device(options: &OpenOptions, run: impl FnOnce(&VulkanDevice)) {
    let device = open(options);
    let log = device.validation_log().expect("validation is on");
    run(&device);
    assert_clean(&log);
    assert_eq!(device.validation_messages(), Vec::<String>::new());
    drop(device);
    assert_clean(&log);
}

fn memory_type(
    device: &VulkanDevice,
    requirements: &MemoryRequirements,
    flags: MemoryPropertyFlags,
) -> u32 {
    (0..32)
        .find(|index| {
            requirements.memory_type_bits & (1 << index) != 0
                && device.info().flags_of(*index).contains(flags)
        })
        .expect("a memory type that serves")
}

fn allocate(
    device: &VulkanDevice,
    requirements: &MemoryRequirements,
    flags: MemoryPropertyFlags,
    dedicated: Option<DedicatedTarget>,
) -> MemoryHandle {
    let memory_type_index = memory_type(device, requirements, flags);
    let info = MemoryAllocateInfo {
        dedicated,
        ..MemoryAllocateInfo::of_type(memory_type_index, requirements.size)
    };
    device.allocate(&info).expect("memory")
}

fn buffer_info(size: u64) -> vk::BufferCreateInfo<'static> {
    vk::BufferCreateInfo::default().size(size).usage(
        vk::BufferUsageFlags::TRANSFER_SRC
            | vk::BufferUsageFlags::TRANSFER_DST
            | vk::BufferUsageFlags::STORAGE_BUFFER,
    )
}

const EXTENT: vk::Extent3D = vk::Extent3D { width: 37, height: 21, depth: 1 };
const IMAGE_BYTES: usize = 37 * 21 * 4;

fn image_info() -> vk::ImageCreateInfo<'static> {
    vk::ImageCreateInfo::default()
        .image_type(vk::ImageType::TYPE_2D)
        .format(vk::Format::R8G8B8A8_UNORM)
        .extent(EXTENT)
        .mip_levels(2)
        .array_layers(1)
        .samples(vk::SampleCountFlags::TYPE_1)
        .tiling(vk::ImageTiling::OPTIMAL)
        .usage(
            vk::ImageUsageFlags::TRANSFER_SRC
                | vk::ImageUsageFlags::TRANSFER_DST
                | vk::ImageUsageFlags::SAMPLED,
        )
        .initial_layout(vk::ImageLayout::UNDEFINED)
}

/// A buffer in host-visible dedicated memory.
struct HostBuffer<'a> {
    device: &'a VulkanDevice,
    buffer: vk::Buffer,
    memory: MemoryHandle,
    size: usize,
}

impl<'a> HostBuffer<'a> {
    fn new(device: &'a VulkanDevice, size: usize) -> Self {
        // SAFETY: the info has no pointers; the buffer and the memory are used only here.
        unsafe {
            let buffer = device.create_buffer(&buffer_info(size as u64)).expect("a buffer");
            let requirements = device.buffer_requirements(buffer);
            assert!(requirements.size >= size as u64 && requirements.alignment.is_power_of_two());
            let memory = allocate(device, &requirements, MemoryPropertyFlags::HOST_VISIBLE, None);
            device.bind_buffer(buffer, memory, 0).expect("bound");
            Self { device, buffer, memory, size }
        }
    }

    fn range(&self) -> [MemoryRange; 1] {
        [MemoryRange { memory: self.memory, offset: 0, size: vk::WHOLE_SIZE }]
    }

    fn write(&self, bytes: &[u8]) {
        let address = self.device.map(self.memory).expect("mapped").0.get();
        let alignment = self.device.info().limits.min_memory_map_alignment;
        assert_eq!(address as u64 % alignment, 0);
        let target = std::ptr::with_exposed_provenance_mut::<u8>(address);
        assert!(bytes.len() <= self.size);
        // SAFETY: the memory is mapped and at least as large as the buffer.
        unsafe { target.copy_from(bytes.as_ptr(), bytes.len()) };
        self.device.flush(&self.range()).expect("flushed");
        self.device.unmap(self.memory);
    }

    fn read(&self) -> Vec<u8> {
        let address = self.device.map(self.memory).expect("mapped").0.get();
        self.device.invalidate(&self.range()).expect("invalidated");
        let source = std::ptr::with_exposed_provenance::<u8>(address);
        // SAFETY: the memory is mapped and at least as large as the buffer.
        let bytes = unsafe { std::slice::from_raw_parts(source, self.size) }.to_vec();
        self.device.unmap(self.memory);
        bytes
    }
}

impl Drop for HostBuffer<'_> {
    fn drop(&mut self) {
        // SAFETY: no transfer runs.
        unsafe { self.device.destroy_buffer(self.buffer) };
        self.device.free(self.memory);
    }
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index * 7 + index / 256) as u8).collect()
}

// ---- the suite that every device passes, opened or wrapped ----

fn run_suite(device: &VulkanDevice) {
    host_round_trip(device);
    requirements_agree(device);
    dedicated_memory(device);
    device_address_memory(device);
    fill_and_copy(device);
    image_round_trip(device);
    budget_follows_the_extension(device);
    device.flush(&[]).expect("nothing to flush");
    device.invalidate(&[]).expect("nothing to invalidate");
    if !device.is_owned() {
        // The validation layer reports objects that are not destroyed.
        // SAFETY: the device is live.
        unsafe { device.release_submissions() };
    }
}

fn host_round_trip(device: &VulkanDevice) {
    let buffer = HostBuffer::new(device, 1000);
    buffer.write(&pattern(1000));
    assert_eq!(buffer.read(), pattern(1000));
}

fn requirements_agree(device: &VulkanDevice) {
    // SAFETY: the infos have no pointers; the resources are used only here.
    unsafe {
        for size in [1, 4096, 1 << 20] {
            let of_info = device.buffer_requirements_of_info(&buffer_info(size)).expect("known");
            let buffer = device.create_buffer(&buffer_info(size)).expect("a buffer");
            assert_eq!(of_info, device.buffer_requirements(buffer));
            device.destroy_buffer(buffer);
        }
        for tiling in [vk::ImageTiling::OPTIMAL, vk::ImageTiling::LINEAR] {
            let info = image_info().tiling(tiling).mip_levels(1);
            let of_info = device.image_requirements_of_info(&info).expect("known");
            let image = device.create_image(&info).expect("an image");
            assert_eq!(of_info, device.image_requirements(image));
            device.destroy_image(image);
        }
    }
}

fn dedicated_memory(device: &VulkanDevice) {
    let any = MemoryPropertyFlags::empty();
    // SAFETY: the infos have no pointers; the resources are used only here.
    unsafe {
        let buffer = device.create_buffer(&buffer_info(5000)).expect("a buffer");
        let requirements = device.buffer_requirements(buffer);
        let target = DedicatedTarget::Buffer(buffer.as_raw());
        let memory = allocate(device, &requirements, any, Some(target));
        device.bind_buffer(buffer, memory, 0).expect("bound");
        device.destroy_buffer(buffer);
        device.free(memory);

        let image = device.create_image(&image_info()).expect("an image");
        let requirements = device.image_requirements(image);
        let target = DedicatedTarget::Image(image.as_raw());
        let memory = allocate(device, &requirements, any, Some(target));
        device.bind_image(image, memory, 0).expect("bound");
        device.destroy_image(image);
        device.free(memory);
    }
}

/// Allocates memory for device addresses; without the allocate flag the validation layer would report an error.
fn device_address_memory(device: &VulkanDevice) {
    if !device.buffer_device_address() {
        return;
    }
    let info = buffer_info(256).usage(vk::BufferUsageFlags::SHADER_DEVICE_ADDRESS);
    // SAFETY: the info has no pointers; the buffer is used only here.
    unsafe {
        let buffer = device.create_buffer(&info).expect("a buffer");
        let requirements = device.buffer_requirements(buffer);
        let memory = allocate(device, &requirements, MemoryPropertyFlags::empty(), None);
        device.bind_buffer(buffer, memory, 0).expect("bound");
        device.destroy_buffer(buffer);
        device.free(memory);
    }
}

fn fill_and_copy(device: &VulkanDevice) {
    let source = HostBuffer::new(device, 4096);
    let target = HostBuffer::new(device, 4096);
    target.write(&[0xee; 4096]);
    let commands = [
        TransferCommand::FillBuffer {
            buffer: source.buffer,
            offset: 0,
            size: 4096,
            value: 0x0102_0304,
        },
        TransferCommand::Barrier,
        TransferCommand::FillBuffer { buffer: source.buffer, offset: 1024, size: 1024, value: 0 },
        TransferCommand::Barrier,
        TransferCommand::CopyBuffer {
            source: source.buffer,
            source_offset: 512,
            target: target.buffer,
            target_offset: 0,
            size: 2048,
        },
    ];
    // SAFETY: the ranges lie inside the buffers, and nothing else uses them.
    unsafe { device.run(&commands) }.expect("transferred");
    let mut expected = vec![0xee; 4096];
    for (index, chunk) in expected[..2048].chunks_exact_mut(4).enumerate() {
        let zero = (128..384).contains(&index);
        chunk.copy_from_slice(&if zero { 0 } else { 0x0102_0304_u32 }.to_ne_bytes());
    }
    assert_eq!(target.read(), expected);
    // SAFETY: the list of commands is empty.
    unsafe { device.run(&[]) }.expect("nothing to do");
}

fn image_round_trip(device: &VulkanDevice) {
    let source = HostBuffer::new(device, IMAGE_BYTES);
    let target = HostBuffer::new(device, IMAGE_BYTES + 16);
    source.write(&pattern(IMAGE_BYTES));
    // SAFETY: the info has no pointers; the ranges lie inside the buffers.
    unsafe {
        let image = device.create_image(&image_info()).expect("an image");
        let requirements = device.image_requirements(image);
        let memory = allocate(device, &requirements, MemoryPropertyFlags::empty(), None);
        device.bind_image(image, memory, 0).expect("bound");
        let layout = vk::ImageLayout::SHADER_READ_ONLY_OPTIMAL;
        let upload = TransferCommand::CopyBufferToImage {
            buffer: source.buffer,
            image,
            region: first_texels(0, EXTENT),
            layouts: LayoutChange::of_new_image(layout),
        };
        let region = first_texels(16, EXTENT);
        let download = TransferCommand::CopyImageToBuffer {
            image,
            buffer: target.buffer,
            region,
            layouts: LayoutChange::kept(&region, layout),
        };
        // In two submissions: the second one checks the layout that the first one left.
        device.run(&[upload]).expect("uploaded");
        device.run(&[download, TransferCommand::Barrier, download]).expect("downloaded");
        device.destroy_image(image);
        device.free(memory);
    }
    assert_eq!(target.read()[16..], pattern(IMAGE_BYTES));
}

fn budget_follows_the_extension(device: &VulkanDevice) {
    let enabled = device.extensions().iter().any(|name| name == "VK_EXT_memory_budget");
    let budget = device.budget();
    assert_eq!(budget.is_some(), enabled);
    if let Some(budget) = budget {
        assert_eq!(budget.len(), device.info().heaps.len());
        assert!(budget.iter().all(|heap| heap.budget > 0));
    }
}

// ---- opening ----

#[test]
fn every_version_serves() {
    for cap in [Some(V1_0), Some(V1_1), Some(V1_2), Some(V1_3), Some(V1_9), None] {
        with_device(&OpenOptions { api_version: cap, ..validated() }, |device| {
            assert!(device.is_owned());
            assert!(device.info().api_version <= cap.unwrap_or(u32::MAX));
            run_suite(device);
        });
    }
}

#[test]
fn no_extension_is_needed() {
    for cap in [Some(V1_0), Some(V1_1), None] {
        let without_extensions = enumerate().expect("a Vulkan driver").swap_remove(0).extensions;
        let options = OpenOptions { api_version: cap, without_extensions, ..validated() };
        with_device(&options, |device| {
            // On a device that is not fully conformant this one must be enabled.
            let optional = |name: &&String| name.as_str() != "VK_KHR_portability_subset";
            assert_eq!(device.extensions().iter().filter(optional).count(), 0);
            run_suite(device);
        });
    }
}

#[test]
fn what_needs_a_left_out_extension_is_left_out() {
    let out = "VK_KHR_external_memory";
    let options = OpenOptions {
        without_extensions: vec![out.to_owned()],
        api_version: Some(V1_0),
        ..validated()
    };
    with_device(&options, |device| {
        assert!(!device.extensions().iter().any(|name| name.contains("external_memory")));
        run_suite(device);
    });
}

#[test]
fn the_device_describes_itself() {
    let all = enumerate().expect("a Vulkan driver; `make test` installs one");
    let first = &all[0];
    assert!(!first.info.name.is_empty() && !first.driver_version.is_empty());
    let options = OpenOptions { selector: DeviceSelector::Index(0), ..validated() };
    with_device(&options, |device| {
        let info = device.info();
        assert_eq!(info.name, first.info.name);
        assert_eq!(info.driver, first.info.driver);
        assert!(!info.heaps.is_empty() && !info.types.is_empty());
        assert!(info.types.iter().all(|t| (t.heap_index as usize) < info.heaps.len()));
        assert!(info.limits.max_memory_allocation_count > 0);
        assert!(info.limits.max_memory_allocation_size > 0);
        assert!(info.limits.buffer_image_granularity.is_power_of_two());
        assert!(info.limits.non_coherent_atom_size.is_power_of_two());
        assert!(device.extensions().iter().all(|name| first.extensions.contains(name)));
    });
}

#[test]
fn a_device_is_found_by_a_part_of_its_name() {
    let name = open(&OpenOptions::default()).info().name.clone();
    let selector = DeviceSelector::Name(name.to_uppercase());
    with_device(&OpenOptions { selector, ..validated() }, |device| {
        assert_eq!(device.info().name, name);
    });
}

#[test]
fn a_wrong_selector_lists_what_there_is() {
    let name = open(&OpenOptions::default()).info().name.clone();
    for selector in [DeviceSelector::Index(99), DeviceSelector::Name("no such GPU".to_owned())] {
        let options = OpenOptions { selector, ..Default::default() };
        let error = VulkanDevice::open(&options).map(|_| ()).unwrap_err();
        assert!(matches!(error, OpenError::NoSuchDevice { .. }), "{error:?}");
        assert!(error.to_string().contains(&name), "{error}");
    }
}

#[test]
fn a_version_below_1_0_is_refused() {
    let options = OpenOptions { api_version: Some(3), ..Default::default() };
    let error = VulkanDevice::open(&options).map(|_| ()).unwrap_err();
    assert_eq!(error, OpenError::ApiVersionTooLow { version: 3 });
}

#[test]
fn what_is_not_destroyed_is_reported() {
    let device = open(&validated());
    let log = device.validation_log().expect("validation is on");
    // SAFETY: the info has no pointers.
    unsafe { device.create_buffer(&buffer_info(64)) }.expect("a buffer");
    drop(device);
    let messages = log.messages();
    assert!(messages.iter().any(|message| message.contains("VkBuffer")), "{messages:?}");
}

#[test]
fn transfers_of_many_threads_take_turns() {
    with_device(&validated(), |device| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5).for_each(|_| fill_and_copy(device)));
            }
        });
    });
}

// ---- wrapping ----

fn wrap_options(device: &VulkanDevice, api_version: u32, extensions: bool) -> WrapOptions {
    let handles = device.handles();
    let mut names = Vec::new();
    if extensions {
        names.extend_from_slice(device.extensions());
        names.extend_from_slice(device.instance_extensions());
    }
    WrapOptions {
        instance: handles.instance,
        physical_device: handles.physical_device,
        device: handles.device,
        api_version,
        extensions: names,
        queue: handles.queue,
        queue_family_index: handles.queue_family_index,
        buffer_device_address: extensions && device.buffer_device_address(),
        ..Default::default()
    }
}

fn wrap(options: WrapOptions) -> Result<VulkanDevice, OpenError> {
    // SAFETY: the options come from `wrap_options`, of a device that lives longer.
    unsafe { VulkanDevice::wrap(options) }
}

/// Returns the address of the loader's `vkGetInstanceProcAddr`, found independently of the library.
fn loader_address() -> u64 {
    static ENTRY: OnceLock<ash::Entry> = OnceLock::new();
    // SAFETY: the entry is never dropped.
    let entry = ENTRY.get_or_init(|| unsafe { ash::Entry::load() }.expect("a Vulkan loader"));
    entry.static_fn().get_instance_proc_addr as usize as u64
}

#[test]
fn a_wrapped_device_serves() {
    for cap in [V1_0, V1_1, V1_2, V1_3] {
        with_device(&OpenOptions { api_version: Some(cap), ..validated() }, |opened| {
            let version = opened.info().api_version;
            // Listing less than was enabled is allowed, too.
            for (said, extensions) in [(version, true), (version, false), (V1_0, false)] {
                let wrapped = wrap(wrap_options(opened, said, extensions)).expect("wrapped");
                assert!(!wrapped.is_owned());
                assert_eq!(wrapped.handles(), opened.handles());
                assert_eq!(wrapped.info().types, opened.info().types);
                run_suite(&wrapped);
            }
            run_suite(opened);
        });
    }
}

#[test]
fn a_version_of_the_future_is_accepted() {
    with_device(&validated(), |opened| {
        let wrapped = wrap(wrap_options(opened, V1_9, true)).expect("wrapped");
        // All versions of the device; an older validation layer may have limited the opened one.
        assert!(wrapped.info().api_version >= opened.info().api_version);
        run_suite(&wrapped);
    });
}

#[test]
fn a_callers_loader_is_used() {
    with_device(&validated(), |opened| {
        let mut options = wrap_options(opened, opened.info().api_version, true);
        options.get_instance_proc_addr = loader_address();
        run_suite(&wrap(options).expect("wrapped"));
    });
}

#[test]
fn a_device_without_a_queue_cannot_transfer() {
    with_device(&validated(), |opened| {
        let mut options = wrap_options(opened, opened.info().api_version, true);
        options.queue = 0;
        let wrapped = wrap(options).expect("wrapped");
        // SAFETY: the list of commands is empty.
        let result = unsafe { wrapped.run(&[]) };
        assert_eq!(result, Err(DeviceError::FeatureNotPresent.of("vkGetDeviceQueue")));
        host_round_trip(&wrapped);
    });
}

#[test]
fn null_handles_are_refused() {
    let error = wrap(WrapOptions { api_version: V1_3, ..Default::default() }).map(|_| ());
    assert_eq!(error, Err(OpenError::NullHandle { what: "the instance" }));
    with_device(&validated(), |opened| {
        let error = wrap(WrapOptions { device: 0, ..wrap_options(opened, V1_3, true) });
        assert_eq!(error.err(), Some(OpenError::NullHandle { what: "the device" }));
        let error = wrap(wrap_options(opened, 0, true)).err();
        assert_eq!(error, Some(OpenError::ApiVersionTooLow { version: 0 }));
    });
}

// ---- a loader that hides functions and records what is looked up ----

thread_local! {
    static HIDDEN: RefCell<&'static str> = const { RefCell::new("") };
    static LOOKED_UP: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn note(name: *const c_char) -> bool {
    // SAFETY: Vulkan names end with NUL.
    let name = unsafe { CStr::from_ptr(name) }.to_str().expect("an ASCII name").to_owned();
    let hidden = HIDDEN.with_borrow(|hidden| *hidden == name);
    LOOKED_UP.with_borrow_mut(|all| all.push(name));
    hidden
}

static REAL_DEVICE_PROC_ADDR: OnceLock<vk::PFN_vkGetDeviceProcAddr> = OnceLock::new();

unsafe extern "system" fn noting_device_proc_addr(
    device: vk::Device,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    if note(name) {
        return None;
    }
    let real = REAL_DEVICE_PROC_ADDR.get().expect("set before this function is handed out");
    // SAFETY: the arguments are passed on unchanged.
    unsafe { real(device, name) }
}

unsafe extern "system" fn noting_instance_proc_addr(
    instance: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    if note(name) {
        return None;
    }
    let address = loader_address() as usize as *const ();
    // SAFETY: the address is that of the function.
    let real = unsafe { mem::transmute::<*const (), vk::PFN_vkGetInstanceProcAddr>(address) };
    // SAFETY: the arguments are passed on unchanged.
    let found = unsafe { real(instance, name) }?;
    // SAFETY: Vulkan names end with NUL.
    if unsafe { CStr::from_ptr(name) } != c"vkGetDeviceProcAddr" {
        return Some(found);
    }
    // SAFETY: the type is that of the function of this name, and any function type can be stored as
    // another one.
    unsafe {
        let real =
            mem::transmute::<unsafe extern "system" fn(), vk::PFN_vkGetDeviceProcAddr>(found);
        REAL_DEVICE_PROC_ADDR.get_or_init(|| real);
        let noting: vk::PFN_vkGetDeviceProcAddr = noting_device_proc_addr;
        Some(mem::transmute::<vk::PFN_vkGetDeviceProcAddr, unsafe extern "system" fn()>(noting))
    }
}

fn through_the_noting_loader(mut options: WrapOptions, hidden: &'static str) -> WrapOptions {
    let noting: vk::PFN_vkGetInstanceProcAddr = noting_instance_proc_addr;
    options.get_instance_proc_addr = noting as usize as u64;
    HIDDEN.set(hidden);
    LOOKED_UP.set(Vec::new());
    options
}

#[test]
fn only_functions_of_what_is_enabled_are_looked_up() {
    with_device(&validated(), |opened| {
        let options = through_the_noting_loader(wrap_options(opened, V1_0, false), "");
        let wrapped = wrap(options).expect("wrapped");
        run_suite(&wrapped);
        let names = LOOKED_UP.take();
        assert!(names.contains(&"vkAllocateMemory".to_owned()), "{names:?}");
        let newer = |name: &&String| {
            name.contains('2')
                || name.ends_with("KHR")
                || name.ends_with("EXT")
                || name.starts_with("vkGetDeviceBuffer")
        };
        assert_eq!(names.iter().find(newer), None);
        assert!(names.len() < 60, "{}", names.len());
    });
}

#[test]
fn a_missing_function_is_named_with_its_extension() {
    let options = OpenOptions { api_version: Some(V1_2), ..validated() };
    with_device(&options, |opened| {
        for (hidden, provider) in [
            ("vkAllocateMemory", "Vulkan 1.0"),
            ("vkGetPhysicalDeviceMemoryProperties", "Vulkan 1.0"),
            ("vkGetPhysicalDeviceProperties2", "Vulkan 1.1"),
            ("vkGetBufferMemoryRequirements2", "Vulkan 1.1"),
            ("vkGetDeviceImageMemoryRequirementsKHR", "VK_KHR_maintenance4"),
        ] {
            let mut options = wrap_options(opened, V1_2, true);
            options.extensions.push("VK_KHR_maintenance4".to_owned());
            let options = through_the_noting_loader(options, hidden);
            let error = wrap(options).map(|_| ()).unwrap_err();
            assert_eq!(error, OpenError::FunctionMissing { function: hidden.to_owned(), provider });
            assert!(error.to_string().contains(hidden) && error.to_string().contains(provider));
        }
    });
}
