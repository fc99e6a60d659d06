//! Blits: mip chains, scaling, mirrors, conversions.

use ash::vk;
use vkmem_vulkan::{Driver, LayoutChange, SimulatedDriver, TransferCommand, first_texels};

use crate::image_copies::{Buffers, GENERAL, TestImage, bytes, run};
use crate::{assert_one_violation, driver, image_info};

const UNDEFINED: vk::ImageLayout = vk::ImageLayout::UNDEFINED;
const BARRIER: TransferCommand = TransferCommand::Barrier;

fn layers(level: u32) -> vk::ImageSubresourceLayers {
    vk::ImageSubresourceLayers {
        aspect_mask: vk::ImageAspectFlags::COLOR,
        mip_level: level,
        base_array_layer: 0,
        layer_count: 1,
    }
}

fn corners(width: i32, height: i32, depth: i32) -> [vk::Offset3D; 2] {
    [vk::Offset3D::default(), vk::Offset3D { x: width, y: height, z: depth }]
}

/// A blit of an image in `GENERAL` to levels or images without contents.
fn blit(
    source: (&TestImage<'_>, u32, [vk::Offset3D; 2]),
    target: (&TestImage<'_>, u32, [vk::Offset3D; 2]),
    filter: vk::Filter,
) -> TransferCommand {
    let (source, from, src_offsets) = source;
    let (target, to, dst_offsets) = target;
    let format = vk::Format::R8G8B8A8_UNORM;
    TransferCommand::BlitImage {
        source: source.image,
        target: target.image,
        region: vk::ImageBlit {
            src_subresource: layers(from),
            src_offsets,
            dst_subresource: layers(to),
            dst_offsets,
        },
        filter,
        source_layouts: LayoutChange::of_layers(format, layers(from), GENERAL, GENERAL),
        target_layouts: LayoutChange::of_layers(format, layers(to), UNDEFINED, GENERAL),
    }
}

#[test]
fn a_mip_chain_has_the_averages() {
    let profiles = ["nvidia-h200", "lavapipe", "moltenvk"];
    for driver in profiles.map(driver) {
        let buffers = Buffers::new(&driver);
        let format = vk::Format::R8G8B8A8_UNORM;
        let image = TestImage::new(&driver, &image_info(format, 8, 4).mip_levels(4));
        let given = bytes(8 * 4 * 4, 5);
        buffers.write(&given);
        let extent = vk::Extent3D { width: 8, height: 4, depth: 1 };
        let mut commands = vec![buffers.upload(&image, format, first_texels(0, extent), UNDEFINED)];
        let sizes = [(8, 4), (4, 2), (2, 1), (1, 1)];
        for level in 1..4_u32 {
            let corners_of = |level: u32| {
                let (width, height) = sizes[level as usize];
                corners(width, height, 1)
            };
            commands.push(BARRIER);
            commands.push(blit(
                (&image, level - 1, corners_of(level - 1)),
                (&image, level, corners_of(level)),
                vk::Filter::LINEAR,
            ));
        }
        commands.push(BARRIER);
        for level in 1..4_u32 {
            let (width, height) = sizes[level as usize];
            let extent = vk::Extent3D { width: width as u32, height: height as u32, depth: 1 };
            let mut region = first_texels(256 * u64::from(level), extent);
            region.image_subresource = layers(level);
            commands.push(buffers.download(&image, format, region));
        }
        run(&driver, &commands);
        let found = buffers.read(1024);
        // Each level is the average of 2 x 2 texels of the one before, or of what there is.
        let mut before = given;
        for level in 1..4 {
            let ((width, height), (from_width, from_height)) = (sizes[level], sizes[level - 1]);
            let mut expected = Vec::new();
            for y in 0..height {
                for x in 0..width {
                    for channel in 0..4 {
                        let texel = |x: i32, y: i32| {
                            let (x, y) = (x.min(from_width - 1), y.min(from_height - 1));
                            f64::from(before[((y * from_width + x) * 4 + channel) as usize])
                        };
                        let rows = if from_height == 1 { [0, 0] } else { [2 * y, 2 * y + 1] };
                        let sum: f64 = rows
                            .iter()
                            .map(|row| texel(2 * x, *row) + texel(2 * x + 1, *row))
                            .sum();
                        expected.push((sum / 4.0).round() as u8);
                    }
                }
            }
            let start = 256 * level;
            assert_eq!(found[start..start + expected.len()], expected, "level {level}");
            before = expected;
        }
        drop((image, buffers));
        driver.assert_clean();
    }
}

/// Blits a whole image of one row to another one; returns the bytes of the target.
fn row(
    driver: &SimulatedDriver,
    (from, to): (vk::Format, vk::Format),
    given: &[u8],
    (width, target_width): (u32, u32),
    filter: vk::Filter,
    mirrored: bool,
) -> Vec<u8> {
    let buffers = Buffers::new(driver);
    let source = TestImage::new(driver, &image_info(from, width, 1));
    let target = TestImage::new(driver, &image_info(to, target_width, 1));
    buffers.write(given);
    let extent = |width| vk::Extent3D { width, height: 1, depth: 1 };
    let mut ends = corners(target_width as i32, 1, 1);
    if mirrored {
        (ends[0].x, ends[1].x) = (ends[1].x, ends[0].x);
    }
    let commands = [
        buffers.upload(&source, from, first_texels(0, extent(width)), UNDEFINED),
        BARRIER,
        blit((&source, 0, corners(width as i32, 1, 1)), (&target, 0, ends), filter),
        BARRIER,
        buffers.download(&target, to, first_texels(0, extent(target_width))),
    ];
    run(driver, &commands);
    let size = vkmem_vulkan::format::block(to).unwrap().bytes * target_width;
    buffers.read(size as usize)
}

#[test]
fn texels_are_filtered_converted_and_mirrored() {
    use vk::Format as F;
    let driver = driver("nvidia-h200");
    let linear = vk::Filter::LINEAR;
    let (r8, nearest) = ((F::R8_UNORM, F::R8_UNORM), vk::Filter::NEAREST);
    // Magnified by two: a quarter of the way between the centres, and the edge.
    let found = row(&driver, r8, &[0, 100], (2, 4), linear, false);
    assert_eq!(found, [0, 25, 75, 100]);
    let found = row(&driver, r8, &[0, 100], (2, 4), linear, true);
    assert_eq!(found, [100, 75, 25, 0]);
    let found = row(&driver, r8, &[1, 2, 3, 4], (4, 2), nearest, false);
    assert_eq!(found, [2, 4]);
    let found = row(&driver, r8, &[1, 2, 3, 4], (4, 2), nearest, true);
    assert_eq!(found, [4, 2]);
    let swapped = (F::R8G8B8A8_UNORM, F::B8G8R8A8_UNORM);
    let found = row(&driver, swapped, &[1, 2, 3, 4], (1, 1), nearest, false);
    assert_eq!(found, [3, 2, 1, 4]);
    // Averages are of light, not of its encoding.
    let srgb = (F::R8G8B8A8_SRGB, F::R8G8B8A8_SRGB);
    let found = row(&driver, srgb, &[0, 0, 0, 0, 255, 255, 255, 255], (2, 1), linear, false);
    assert_eq!(found, [188, 188, 188, 128]);
    let floats = [1.0_f32, 4.0].map(f32::to_le_bytes).concat();
    let found = row(&driver, (F::R32_SFLOAT, F::R32_SFLOAT), &floats, (2, 1), linear, false);
    assert_eq!(found, 2.5_f32.to_le_bytes());
    let to_half = (F::R32_SFLOAT, F::R16_SFLOAT);
    assert_eq!(row(&driver, to_half, &floats, (2, 1), linear, false), [0x00, 0x41]);
    let words = [10_u16, 30].map(u16::to_le_bytes).concat();
    let found = row(&driver, (F::R16_UNORM, F::R16_UNORM), &words, (2, 1), linear, false);
    assert_eq!(found, 20_u16.to_le_bytes());
    let found = row(&driver, (F::R8_UINT, F::R16_UINT), &[200], (1, 1), nearest, false);
    assert_eq!(found, [200, 0]);
    driver.assert_clean();
}

#[test]
fn volumes_are_filtered_in_three_directions() {
    let driver = driver("integrated");
    let buffers = Buffers::new(&driver);
    let format = vk::Format::R8_UNORM;
    let mut info = image_info(format, 2, 2).image_type(vk::ImageType::TYPE_3D).mip_levels(2);
    info.extent.depth = 2;
    let image = TestImage::new(&driver, &info);
    buffers.write(&[0, 8, 16, 24, 32, 40, 48, 56]);
    let mut second = first_texels(0, vk::Extent3D { width: 1, height: 1, depth: 1 });
    second.image_subresource = layers(1);
    let commands = [
        buffers.upload(&image, format, first_texels(0, info.extent), UNDEFINED),
        BARRIER,
        blit((&image, 0, corners(2, 2, 2)), (&image, 1, corners(1, 1, 1)), vk::Filter::LINEAR),
        BARRIER,
        buffers.download(&image, format, second),
    ];
    run(&driver, &commands);
    assert_eq!(buffers.read(1), [28]);
    drop((image, buffers));
    driver.assert_clean();
}

#[test]
fn what_vulkan_forbids_about_blits() {
    use vk::Format as F;
    let refuse = |profile: &str, formats: (F, F), filter, flags, word: &str| {
        let driver = driver(profile);
        let source = TestImage::new(&driver, &image_info(formats.0, 8, 8));
        let target = TestImage::new(&driver, &image_info(formats.1, 8, 8));
        let ready = TransferCommand::TransitionImage {
            image: source.image,
            layouts: LayoutChange::of_whole(formats.0, UNDEFINED, GENERAL),
        };
        run(&driver, &[ready]);
        driver.set_queue_flags(flags);
        let whole = corners(8, 8, 1);
        let command = blit((&source, 0, whole), (&target, 0, whole), filter);
        // SAFETY: handles of this driver.
        assert!(unsafe { driver.run(&[command]) }.is_err());
        assert_one_violation(&driver, word);
        drop((source, target));
        driver.assert_clean();
    };
    let (linear, nearest) = (vk::Filter::LINEAR, vk::Filter::NEAREST);
    let graphics = vk::QueueFlags::GRAPHICS;
    let plain = (F::R8G8B8A8_UNORM, F::R8G8B8A8_UNORM);
    let compute = vk::QueueFlags::COMPUTE | vk::QueueFlags::TRANSFER;
    refuse("lavapipe", plain, linear, compute, "without GRAPHICS");
    refuse("lavapipe", plain, vk::Filter::CUBIC_EXT, graphics, "filter");
    let integers = (F::R8_UINT, F::R8_UINT);
    refuse("lavapipe", integers, linear, graphics, "SAMPLED_IMAGE_FILTER_LINEAR");
    refuse("lavapipe", (F::R8_UINT, F::R8_SINT), nearest, graphics, "different kinds");
    refuse("lavapipe", (F::R8_UINT, F::R8_UNORM), nearest, graphics, "different kinds");
    let floats = (F::R32_SFLOAT, F::R32_SFLOAT);
    refuse("raspberry-pi", floats, linear, graphics, "SAMPLED_IMAGE_FILTER_LINEAR");
    let blocks = (F::R8G8B8A8_UNORM, F::BC7_UNORM_BLOCK);
    refuse("nvidia-h200", blocks, nearest, graphics, "BLIT_DST");
}

#[test]
fn regions_of_blits_are_checked() {
    let driver = driver("lavapipe");
    let info = image_info(vk::Format::R8G8B8A8_UNORM, 8, 8).mip_levels(2);
    let image = TestImage::new(&driver, &info);
    let ready = TransferCommand::TransitionImage {
        image: image.image,
        layouts: LayoutChange::of_whole(info.format, UNDEFINED, GENERAL),
    };
    run(&driver, &[ready]);
    let refuse = |command, word: &str| {
        // SAFETY: handles of this driver.
        assert!(unsafe { driver.run(&[command]) }.is_err());
        assert_one_violation(&driver, word);
    };
    let (whole, half) = (corners(8, 8, 1), corners(4, 4, 1));
    let linear = vk::Filter::LINEAR;
    refuse(blit((&image, 0, corners(9, 8, 1)), (&image, 1, half), linear), "outside");
    refuse(blit((&image, 0, whole), (&image, 1, corners(4, 5, 1)), linear), "outside");
    refuse(blit((&image, 0, whole), (&image, 1, corners(0, 4, 1)), linear), "empty");
    refuse(blit((&image, 0, whole), (&image, 2, half), linear), "no mip level 2");
    let mut same = blit((&image, 0, half), (&image, 0, whole), linear);
    if let TransferCommand::BlitImage { target_layouts, .. } = &mut same {
        target_layouts.old = GENERAL;
    }
    refuse(same, "overlaps its target");
    drop(image);
    driver.assert_clean();
}
