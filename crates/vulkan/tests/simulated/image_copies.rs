//! Copies of texels: every format, aspect, level and layer; from image to image.

use ash::vk;
use vkmem_engine::{DeviceMemory, MemoryHandle};
use vkmem_vulkan::{
    Driver, LayoutChange, SimulatedDriver, TransferCommand, first_texels, format, texel,
};

use crate::{MIB, bound_buffer, driver, image_info, of_type, read, write};

pub(crate) const GENERAL: vk::ImageLayout = vk::ImageLayout::GENERAL;
const UNDEFINED: vk::ImageLayout = vk::ImageLayout::UNDEFINED;

/// Returns all formats that the tables know.
fn known_formats() -> Vec<vk::Format> {
    let ranges = [
        1..=184,
        1_000_054_000..=1_000_054_007,
        1_000_066_000..=1_000_066_013,
        1_000_156_000..=1_000_156_033,
        1_000_330_000..=1_000_330_003,
        1_000_340_000..=1_000_340_001,
        1_000_470_000..=1_000_470_001,
    ];
    let all = ranges.into_iter().flatten().map(vk::Format::from_raw);
    all.filter(|it| format::block(*it).is_some() || !format::planes(*it).is_empty()).collect()
}

pub(crate) fn aspects_of(format: vk::Format) -> Vec<vk::ImageAspectFlags> {
    let all = texel::aspects(format).as_raw();
    let bits = (0..32).map(|bit| all & (1 << bit)).filter(|bit| *bit != 0);
    bits.map(vk::ImageAspectFlags::from_raw).collect()
}

/// An image bound to memory of its own.
pub(crate) struct TestImage<'a> {
    driver: &'a SimulatedDriver,
    pub(crate) image: vk::Image,
    pub(crate) memory: MemoryHandle,
}

impl<'a> TestImage<'a> {
    pub(crate) fn new(driver: &'a SimulatedDriver, info: &vk::ImageCreateInfo<'_>) -> Self {
        // SAFETY: the chains of create infos in these tests are valid.
        unsafe {
            let image = driver.create_image(info).unwrap();
            let needs = driver.image_requirements(image);
            let memory_type = needs.memory_type_bits.trailing_zeros();
            let memory = driver.allocate(&of_type(memory_type, needs.size)).unwrap();
            driver.bind_image(image, memory, 0).unwrap();
            Self { driver, image, memory }
        }
    }
}

impl Drop for TestImage<'_> {
    fn drop(&mut self) {
        // SAFETY: created here.
        unsafe { self.driver.destroy_image(self.image) };
        self.driver.free(self.memory);
    }
}

/// Host-visible source and target of a test's copies, of 1 MiB each.
pub(crate) struct Buffers<'a> {
    driver: &'a SimulatedDriver,
    pub(crate) source: (vk::Buffer, MemoryHandle),
    pub(crate) target: (vk::Buffer, MemoryHandle),
    memory_type: u32,
}

impl<'a> Buffers<'a> {
    pub(crate) fn new(driver: &'a SimulatedDriver) -> Self {
        let visible = vkmem_engine::MemoryPropertyFlags::HOST_VISIBLE
            | vkmem_engine::MemoryPropertyFlags::HOST_COHERENT;
        let types = &driver.info().types;
        let memory_type = types.iter().position(|it| it.flags.contains(visible)).unwrap() as u32;
        let source = bound_buffer(driver, memory_type, MIB);
        let target = bound_buffer(driver, memory_type, MIB);
        Self { driver, source, target, memory_type }
    }

    pub(crate) fn write(&self, bytes: &[u8]) {
        assert!(self.memory_type < 32);
        write(self.driver.map(self.source.1).unwrap(), bytes);
        self.driver.unmap(self.source.1);
    }

    pub(crate) fn read(&self, size: usize) -> Vec<u8> {
        let bytes = read(self.driver.map(self.target.1).unwrap(), size);
        self.driver.unmap(self.target.1);
        bytes
    }

    /// Writes texels to an image that is `GENERAL` afterwards.
    pub(crate) fn upload(
        &self,
        image: &TestImage<'_>,
        format: vk::Format,
        region: vk::BufferImageCopy,
        old: vk::ImageLayout,
    ) -> TransferCommand {
        let layouts = LayoutChange::of_layers(format, region.image_subresource, old, GENERAL);
        let (buffer, image) = (self.source.0, image.image);
        TransferCommand::CopyBufferToImage { buffer, image, region, layouts }
    }

    pub(crate) fn download(
        &self,
        image: &TestImage<'_>,
        format: vk::Format,
        region: vk::BufferImageCopy,
    ) -> TransferCommand {
        let layouts = LayoutChange::of_layers(format, region.image_subresource, GENERAL, GENERAL);
        let (buffer, image) = (self.target.0, image.image);
        TransferCommand::CopyImageToBuffer { buffer, image, region, layouts }
    }
}

impl Drop for Buffers<'_> {
    fn drop(&mut self) {
        for (buffer, memory) in [self.source, self.target] {
            // SAFETY: created here.
            unsafe { self.driver.destroy_buffer(buffer) };
            self.driver.free(memory);
        }
    }
}

#[track_caller]
pub(crate) fn run(driver: &SimulatedDriver, commands: &[TransferCommand]) {
    // SAFETY: the resources of these tests live until the end.
    let ran = unsafe { driver.run(commands) };
    assert!(ran.is_ok(), "{:?}", driver.device().take_violations());
}

pub(crate) fn bytes(size: usize, seed: usize) -> Vec<u8> {
    (0..size).map(|at| ((at + seed) * 7 + at / 251 + 1) as u8).collect()
}

/// The regions of all aspects and levels, one behind the other in a buffer: all layers of each.
fn whole(info: &vk::ImageCreateInfo<'_>) -> (Vec<(vk::BufferImageCopy, texel::CopiedTexels)>, u64) {
    let (mut regions, mut end) = (Vec::new(), 0_u64);
    for aspect in aspects_of(info.format) {
        for level in 0..info.mip_levels {
            let smaller = |side: u32| (side >> level).max(1);
            let vk::Extent3D { width, height, depth } = info.extent;
            let texels = texel::copied(info.format, aspect).unwrap();
            let extent = texels.extent(vk::Extent3D {
                width: smaller(width),
                height: smaller(height),
                depth: smaller(depth),
            });
            // A multiple of any block.
            let offset = end.next_multiple_of(960);
            let mut region = first_texels(offset, extent);
            region.image_subresource.aspect_mask = aspect;
            region.image_subresource.mip_level = level;
            region.image_subresource.layer_count = info.array_layers;
            end = offset + texels.size_of(extent).unwrap() * u64::from(info.array_layers);
            regions.push((region, texels));
        }
    }
    (regions, end)
}

#[test]
fn every_format_comes_back_as_it_went() {
    let formats = known_formats();
    assert!(formats.len() > 240, "{}", formats.len());
    for profile in ["nvidia-h200", "lavapipe", "non-coherent", "raspberry-pi"] {
        let driver = driver(profile);
        for format in &formats {
            let has_planes = !format::planes(*format).is_empty();
            let disjoint = [vk::ImageCreateFlags::empty(), vk::ImageCreateFlags::DISJOINT];
            for flags in &disjoint[..if has_planes { 2 } else { 1 }] {
                let mut info = image_info(*format, 26, 18).array_layers(3).flags(*flags);
                info.mip_levels = if has_planes { 1 } else { 4 };
                let buffers = Buffers::new(&driver);
                let image = TestImage::new(&driver, &info);
                let (regions, size) = whole(&info);
                let given = bytes(size as usize, 3);
                buffers.write(&given);
                let mut commands = Vec::new();
                for (region, _) in &regions {
                    commands.push(buffers.upload(&image, *format, *region, UNDEFINED));
                }
                commands.push(TransferCommand::Barrier);
                for (region, _) in &regions {
                    commands.push(buffers.download(&image, *format, *region));
                }
                run(&driver, &commands);
                let found = buffers.read(size as usize);
                for (region, texels) in regions {
                    let count = texels.size_of(region.image_extent).unwrap() * 3;
                    let start = region.buffer_offset as usize;
                    for at in start..start + count as usize {
                        let in_block = (at - start) as u32 % texels.block.bytes;
                        let expected = if in_block < texels.used { given[at] } else { 0 };
                        assert_eq!(found[at], expected, "{format:?}, byte {at} of {region:?}");
                    }
                }
            }
        }
        driver.assert_clean();
    }
}

#[test]
fn parts_of_volumes_and_partial_blocks() {
    let driver = driver("nvidia-h200");
    for format in [vk::Format::R16G16_UINT, vk::Format::BC1_RGB_UNORM_BLOCK] {
        let block = format::block(format).unwrap();
        let mut info = image_info(format, 22, 10).image_type(vk::ImageType::TYPE_3D);
        info.extent.depth = 6;
        let buffers = Buffers::new(&driver);
        let image = TestImage::new(&driver, &info);
        let (regions, size) = whole(&info);
        let given = bytes(size as usize, 9);
        buffers.write(&given);
        run(&driver, &[buffers.upload(&image, format, regions[0].0, UNDEFINED)]);
        // From the second block to the edge, which cuts blocks of 4 x 4 texels, in gapped rows and slices.
        let offset = vk::Offset3D { x: block.width as i32, y: block.height as i32, z: 2 };
        let extent = vk::Extent3D { width: 22 - block.width, height: 10 - block.height, depth: 3 };
        let mut region = first_texels(16, extent);
        region.image_offset = offset;
        region.buffer_row_length = 32;
        region.buffer_image_height = 16;
        run(&driver, &[buffers.download(&image, format, region)]);
        let found = buffers.read(MIB as usize);
        let unit = block.bytes as usize;
        let across = |texels: u32| texels.div_ceil(block.width) as usize;
        let down = |texels: u32| texels.div_ceil(block.height) as usize;
        for slice in 0..3 {
            for row in 0..down(extent.height) {
                for column in 0..across(extent.width) {
                    let to = 16 + ((slice * down(16) + row) * across(32) + column) * unit;
                    let from =
                        (((slice + 2) * down(10) + row + 1) * across(22) + column + 1) * unit;
                    assert_eq!(found[to..to + unit], given[from..from + unit], "{format:?}");
                }
            }
        }
        drop((image, buffers));
    }
    driver.assert_clean();
}

fn layers(
    aspect: vk::ImageAspectFlags,
    level: u32,
    base: u32,
    count: u32,
) -> vk::ImageSubresourceLayers {
    vk::ImageSubresourceLayers {
        aspect_mask: aspect,
        mip_level: level,
        base_array_layer: base,
        layer_count: count,
    }
}

const COLOR: vk::ImageAspectFlags = vk::ImageAspectFlags::COLOR;

/// A copy between images in `GENERAL`.
fn copy(
    (source, from): (&TestImage<'_>, vk::Format),
    (target, to): (&TestImage<'_>, vk::Format),
    region: vk::ImageCopy,
) -> TransferCommand {
    TransferCommand::CopyImage {
        source: source.image,
        target: target.image,
        region,
        source_layouts: LayoutChange::of_layers(from, region.src_subresource, GENERAL, GENERAL),
        target_layouts: LayoutChange::of_layers(to, region.dst_subresource, UNDEFINED, GENERAL),
    }
}

#[test]
fn blocks_are_copied_to_texels_of_their_size() {
    let driver = driver("discrete-8gib");
    let (blocks, words) = (vk::Format::BC1_RGB_UNORM_BLOCK, vk::Format::R32G32_UINT);
    let buffers = Buffers::new(&driver);
    // 5 x 3 blocks, of which the last ones are cut.
    let compressed = TestImage::new(&driver, &image_info(blocks, 18, 10).mip_levels(2));
    let plain = TestImage::new(&driver, &image_info(words, 7, 5));
    let given = bytes(5 * 3 * 8, 4);
    buffers.write(&given);
    let extent = vk::Extent3D { width: 18, height: 10, depth: 1 };
    let region = vk::ImageCopy {
        src_subresource: layers(COLOR, 0, 0, 1),
        src_offset: vk::Offset3D::default(),
        dst_subresource: layers(COLOR, 0, 0, 1),
        dst_offset: vk::Offset3D { x: 2, y: 2, z: 0 },
        extent,
    };
    let back = vk::ImageCopy {
        src_subresource: layers(COLOR, 0, 0, 1),
        src_offset: vk::Offset3D { x: 2, y: 2, z: 0 },
        dst_subresource: layers(COLOR, 1, 0, 1),
        dst_offset: vk::Offset3D::default(),
        extent: vk::Extent3D { width: 3, height: 2, depth: 1 },
    };
    let mut second = first_texels(1024, vk::Extent3D { width: 9, height: 5, depth: 1 });
    second.image_subresource.mip_level = 1;
    let mut part = first_texels(0, vk::Extent3D { width: 5, height: 3, depth: 1 });
    part.image_offset = vk::Offset3D { x: 2, y: 2, z: 0 };
    let barrier = TransferCommand::Barrier;
    let commands = [
        buffers.upload(&compressed, blocks, first_texels(0, extent), UNDEFINED),
        barrier,
        copy((&compressed, blocks), (&plain, words), region),
        barrier,
        // 3 x 2 texels are the 9 x 5 texels of the second level in blocks.
        copy((&plain, words), (&compressed, blocks), back),
        barrier,
        buffers.download(&plain, words, part),
        buffers.download(&compressed, blocks, second),
    ];
    run(&driver, &commands);
    let found = buffers.read(2048);
    assert_eq!(found[..120], given);
    let row = |at: usize| &given[at * 40..at * 40 + 24];
    assert_eq!(found[1024..1072], [row(0), row(1)].concat());
    drop((compressed, plain, buffers));
    driver.assert_clean();
}

#[test]
fn slices_become_layers_and_planes_become_images() {
    let driver = driver("integrated");
    let buffers = Buffers::new(&driver);
    let format = vk::Format::R8G8_UNORM;
    let mut info = image_info(format, 6, 4).image_type(vk::ImageType::TYPE_3D);
    info.extent.depth = 5;
    let volume = TestImage::new(&driver, &info);
    let array = TestImage::new(&driver, &image_info(format, 6, 4).array_layers(4));
    let nv12 = vk::Format::G8_B8R8_2PLANE_420_UNORM;
    let video = TestImage::new(&driver, &image_info(nv12, 12, 8));
    let given = bytes(6 * 4 * 5 * 2, 8);
    buffers.write(&given);
    let whole = vk::Extent3D { width: 6, height: 4, depth: 5 };
    let slices = vk::ImageCopy {
        src_subresource: layers(COLOR, 0, 0, 1),
        src_offset: vk::Offset3D { x: 0, y: 0, z: 1 },
        dst_subresource: layers(COLOR, 0, 1, 3),
        dst_offset: vk::Offset3D::default(),
        extent: vk::Extent3D { depth: 3, ..whole },
    };
    // A layer to a slice of the volume, and to the chroma of a video frame.
    let to_slice = vk::ImageCopy {
        src_subresource: layers(COLOR, 0, 2, 2),
        src_offset: vk::Offset3D::default(),
        dst_subresource: layers(COLOR, 0, 0, 1),
        dst_offset: vk::Offset3D { x: 0, y: 0, z: 3 },
        extent: vk::Extent3D { depth: 2, ..whole },
    };
    let to_plane = vk::ImageCopy {
        src_subresource: layers(COLOR, 0, 3, 1),
        dst_subresource: layers(vk::ImageAspectFlags::PLANE_1, 0, 0, 1),
        dst_offset: vk::Offset3D::default(),
        extent: vk::Extent3D { depth: 1, ..whole },
        ..to_slice
    };
    let mut chroma = first_texels(4096, vk::Extent3D { depth: 1, ..whole });
    chroma.image_subresource.aspect_mask = vk::ImageAspectFlags::PLANE_1;
    let barrier = TransferCommand::Barrier;
    let mut into_volume = copy((&array, format), (&volume, format), to_slice);
    if let TransferCommand::CopyImage { target_layouts, .. } = &mut into_volume {
        target_layouts.old = GENERAL;
    }
    let commands = [
        buffers.upload(&volume, format, first_texels(0, whole), UNDEFINED),
        barrier,
        copy((&volume, format), (&array, format), slices),
        barrier,
        into_volume,
        barrier,
        copy((&array, format), (&video, nv12), to_plane),
        barrier,
        buffers.download(&volume, format, first_texels(0, whole)),
        buffers.download(&video, nv12, chroma),
    ];
    run(&driver, &commands);
    let found = buffers.read(8192);
    let slice = |at: usize| &given[at * 48..(at + 1) * 48];
    assert_eq!(found[..240], [slice(0), slice(1), slice(2), slice(2), slice(3)].concat());
    assert_eq!(&found[4096..4144], slice(3));
    drop((volume, array, video, buffers));
    driver.assert_clean();
}

#[test]
fn depth_and_stencil_are_copied_together_and_samples_too() {
    let driver = driver("discrete-8gib");
    let buffers = Buffers::new(&driver);
    let format = vk::Format::D24_UNORM_S8_UINT;
    let both = vk::ImageAspectFlags::DEPTH | vk::ImageAspectFlags::STENCIL;
    let info = image_info(format, 8, 8);
    let (one, two) = (TestImage::new(&driver, &info), TestImage::new(&driver, &info));
    let (regions, size) = whole(&info);
    buffers.write(&vec![5; size as usize]);
    let extent = info.extent;
    let region = vk::ImageCopy {
        src_subresource: layers(both, 0, 0, 1),
        dst_subresource: layers(both, 0, 0, 1),
        extent,
        ..Default::default()
    };
    let barrier = TransferCommand::Barrier;
    let [depth, stencil] = [regions[0].0, regions[1].0];
    let commands = [
        buffers.upload(&one, format, depth, UNDEFINED),
        buffers.upload(&one, format, stencil, UNDEFINED),
        barrier,
        copy((&one, format), (&two, format), region),
        barrier,
        buffers.download(&two, format, depth),
        buffers.download(&two, format, stencil),
    ];
    run(&driver, &commands);
    let found = buffers.read(size as usize);
    assert_eq!(found[..4], [5, 5, 5, 0]);
    assert!(found[stencil.buffer_offset as usize..].iter().all(|it| *it == 5));

    // Nothing but the device writes samples.
    let colour = vk::Format::R8G8B8A8_UNORM;
    let info = image_info(colour, 8, 8).samples(vk::SampleCountFlags::TYPE_4);
    let (three, four) = (TestImage::new(&driver, &info), TestImage::new(&driver, &info));
    let samples = bytes(8 * 8 * 4 * 4, 1);
    driver.device().device_fill(three.memory, 0, 1024, &samples);
    let region = vk::ImageCopy {
        src_subresource: layers(COLOR, 0, 0, 1),
        dst_subresource: layers(COLOR, 0, 0, 1),
        extent,
        ..Default::default()
    };
    let general = TransferCommand::TransitionImage {
        image: three.image,
        layouts: LayoutChange::of_whole(colour, UNDEFINED, GENERAL),
    };
    run(&driver, &[general, barrier, copy((&three, colour), (&four, colour), region)]);
    assert_eq!(driver.device().device_read(four.memory, 0, 1024), samples);
    drop((one, two, three, four, buffers));
    driver.assert_clean();
}
