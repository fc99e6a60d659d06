//! Reading and writing the texels of a linear image by the host.

use ash::vk;
use vkmem_engine::{Error, HostWriter};
use vkmem_vulkan::{Stopped, Target, copy_bytes};

use super::image_place::ImagePlace;
use super::source::Reader;
use super::upload::{STEP, memory_range};
use super::watch::Watch;

/// A row of texel blocks: its offset in the image and among the bytes of the array.
struct Row {
    in_image: u64,
    in_array: u64,
}

/// The rows of a region of a linear image.
struct Rows {
    rows: Vec<Row>,
    /// Bytes of one.
    size: u64,
    /// From the start of the first one to the end of the last one, in the image.
    start: u64,
    end: u64,
}

impl Rows {
    fn of(place: &ImagePlace) -> Self {
        let region = &place.region;
        let [columns, rows, _] = region.sides();
        let block = u64::from(region.block.bytes);
        let size = columns * block;
        let driver = place.resource.allocator.device_allocator.driver();
        let mut found = Vec::new();
        // Inside of an image, whose sides have 31 bits.
        let number = |it: i32| u64::from(it.unsigned_abs());
        let column = number(region.offset.x) / u64::from(region.block.width) * block;
        let first_row = number(region.offset.y) / u64::from(region.block.height);
        for layer in region.base_layer..region.base_layer + region.layer_count {
            let subresource = vk::ImageSubresource {
                aspect_mask: region.aspect,
                mip_level: region.mip_level,
                array_layer: layer,
            };
            // SAFETY: a live, pinned image of this device and of linear tiling, and a subresource that it has.
            let layout = unsafe { driver.subresource_layout(place.image, subresource) };
            for depth in 0..u64::from(region.extent.depth) {
                let slice = layout.offset
                    + (number(region.offset.z) + depth) * layout.depth_pitch
                    + first_row * layout.row_pitch
                    + column;
                found.extend((0..rows).map(|row| slice + row * layout.row_pitch));
            }
        }
        let rows: Vec<Row> = found
            .into_iter()
            .zip(0..)
            .map(|(in_image, index)| Row { in_image, in_array: index * size })
            .collect();
        let start = rows.iter().map(|it| it.in_image).min().unwrap_or(0);
        let end = rows.iter().map(|it| it.in_image + size).max().unwrap_or(0);
        Self { rows, size, start, end }
    }

    /// Copies row by row.
    fn each(
        &self,
        watch: &Watch,
        mut copy: impl FnMut(&Row) -> Result<(), Stopped>,
    ) -> Result<(), Stopped> {
        let mut next = STEP as u64;
        for row in &self.rows {
            copy(row)?;
            let done = row.in_array + self.size;
            if done >= next {
                next += STEP as u64;
                if watch.between(done) {
                    return Err(Stopped::Interrupted);
                }
            }
        }
        Ok(())
    }
}

/// Runs something with the address of the image.
fn mapped(
    place: &ImagePlace,
    run: impl FnOnce(usize) -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let resource = &place.resource;
    let (address, is_counted) = match resource.allocation().mapped {
        Some(address) => (address, false),
        None => (resource.map()?, true),
    };
    let done = run(address.0.get());
    let unmapped: Result<(), Error> = if is_counted { resource.unmap() } else { Ok(()) };
    done.and(unmapped.map_err(Stopped::Failed))
}

/// Writes the texels.
pub fn write(place: &ImagePlace, reader: &Reader<'_>, watch: &Watch) -> Result<(), Stopped> {
    let (resource, rows) = (&place.resource, Rows::of(place));
    let (start, size) = (rows.start, rows.end - rows.start);
    mapped(place, |address| {
        let driver = resource.allocator.device_allocator.driver();
        driver.host_access(memory_range(resource, start, size), true);
        // Between the rows nothing is written: what the device has there must not be lost by the flush.
        let writer = resource.begin_write(start, size, HostWriter::View)?;
        let filled = rows.each(watch, |row| {
            let to = address + row.in_image as usize;
            // SAFETY: the source is held, the target mapped, pinned by the caller and in range.
            unsafe { reader.fill(row.in_array as usize, rows.size as usize, to) }
        });
        let flushed = writer.map_or(Ok(()), |writer| resource.end_write(writer, start, size));
        filled.and(flushed.map_err(Stopped::Failed))
    })
}

/// Reads the texels.
pub fn read(place: &ImagePlace, to: usize, kind: Target, watch: &Watch) -> Result<(), Stopped> {
    let (resource, rows) = (&place.resource, Rows::of(place));
    let (start, size) = (rows.start, rows.end - rows.start);
    mapped(place, |address| {
        if resource.atom_size().is_some() {
            resource.refresh(start, size)?;
        }
        let driver = resource.allocator.device_allocator.driver();
        driver.host_access(memory_range(resource, start, size), false);
        rows.each(watch, |row| {
            let (from, to) = (address + row.in_image as usize, to + row.in_array as usize);
            // SAFETY: the source is mapped, pinned and in range, the target held and as long.
            unsafe { copy_bytes(from, to, rows.size as usize, kind) };
            Ok(())
        })
    })
}
