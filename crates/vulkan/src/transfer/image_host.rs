//! Copies between arrays and images that the host carries out itself: no ring, no commands, no submission.

use ash::vk;
use vkmem_engine::Error;

use crate::driver::contract::Driver;
use crate::driver::host_image_copy::{HostImageCopy, HostRegion};
use crate::driver::submission::{LayoutChange, Submission};
use crate::transfer::engine::{Between, Fill, Pause, Stopped};
use crate::transfer::image::{ImagePart, UsedImage, is_initial};
use crate::transfer::lane::SLICE;
use crate::transfer::layout::TrackedLayout;
use crate::transfer::region::ImageRegion;
use crate::transfer::staging::TransferDirection;

/// Bytes that are gathered at once where the device cannot read an array as it lies.
const GATHERED: u64 = 16 << 20;
/// Bytes that are copied between two calls of [`HostImageCall::between`].
const STEP: u64 = 128 << 20;

/// The layouts of an image before, during and after a copy by the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLayouts {
    before: vk::ImageLayout,
    during: vk::ImageLayout,
    /// The layout that the image is left in.
    pub after: vk::ImageLayout,
}

impl HostLayouts {
    /// Chooses them for an image in a layout. A new image is left in `GENERAL` where the host cannot bring it into
    /// the one that its usage suggests.
    ///
    /// # Errors
    /// What the host cannot do, as a part of a sentence about the image.
    pub fn of(
        copies: &dyn HostImageCopy,
        image: &UsedImage,
        before: vk::ImageLayout,
        direction: TransferDirection,
    ) -> Result<Self, &'static str> {
        let (sources, targets) = (copies.source_layouts(), copies.target_layouts());
        let copied = match direction {
            TransferDirection::Upload => targets,
            TransferDirection::Download => sources,
        };
        let can_enter = |it: vk::ImageLayout| sources.contains(&it) || targets.contains(&it);
        let mut after = image.after(before);
        if after != before && image.leave.is_none() && !can_enter(after) {
            after = vk::ImageLayout::GENERAL;
        }
        let during = [before, after, vk::ImageLayout::GENERAL]
            .into_iter()
            .find(|it| copied.contains(it))
            .unwrap_or(vk::ImageLayout::GENERAL);
        if before != during && !is_initial(before) && !sources.contains(&before) {
            return Err("the host can neither copy in its layout nor bring it into another one");
        }
        if during != after && !(sources.contains(&during) && can_enter(after)) {
            return Err("the host cannot bring it into the layout that it is to be left in");
        }
        Ok(Self { before, during, after })
    }
}

/// Texels in the host's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostTexels {
    /// Address of the first byte.
    address: usize,
    /// Bytes from one row of blocks to the next, and from one slice to the next; none: without gaps.
    pitches: Option<(usize, usize)>,
}

impl HostTexels {
    /// Texels without gaps between them.
    pub fn packed(address: usize) -> Self {
        Self { address, pitches: None }
    }

    /// Texels whose rows lie `row_pitch` bytes apart, and whose slices `slice_pitch` bytes; `None` if Vulkan
    /// cannot express that, as it counts both in whole texels.
    pub fn pitched(
        region: &ImageRegion,
        address: usize,
        row_pitch: usize,
        slice_pitch: usize,
    ) -> Option<Self> {
        let texels = Self { address, pitches: Some((row_pitch, slice_pitch)) };
        let [columns, rows, _] = region.sides();
        let (row, slice) = (row_pitch as u64, slice_pitch as u64);
        let bytes = u64::from(region.block.bytes);
        let fits = row >= columns * bytes
            && slice >= rows * row
            && row.is_multiple_of(bytes)
            && slice.is_multiple_of(row);
        (fits && texels.lengths(region).is_some()).then_some(texels)
    }

    /// `memoryRowLength` and `memoryImageHeight`.
    fn lengths(&self, region: &ImageRegion) -> Option<(u32, u32)> {
        let Some((row, slice)) = self.pitches else { return Some((0, 0)) };
        let (blocks, rows) = (row as u64 / u64::from(region.block.bytes), (slice / row) as u64);
        let texels = |blocks: u64, side: u32| u32::try_from(blocks * u64::from(side)).ok();
        Some((texels(blocks, region.block.width)?, texels(rows, region.block.height)?))
    }

    /// The boxes that `size` bytes of a region from an offset on fill, both in whole blocks.
    fn regions(&self, region: &ImageRegion, from: u64, size: u64) -> Vec<HostRegion> {
        let (row_length, image_height) = self.lengths(region).unwrap_or_default();
        let pieces = region.pieces(from, size);
        pieces
            .iter()
            .map(|piece| {
                let copy = region.copy(piece, 0);
                let [column, row, slice] = piece.first.map(|it| it as usize);
                let offset = match self.pitches {
                    None => piece.from as usize,
                    Some((row_pitch, slice_pitch)) => {
                        slice * slice_pitch + row * row_pitch + column * region.block.bytes as usize
                    }
                };
                HostRegion {
                    address: self.address + offset,
                    row_length,
                    image_height,
                    subresource: copy.image_subresource,
                    offset: copy.image_offset,
                    extent: copy.image_extent,
                }
            })
            .collect()
    }
}

/// What an upload reads.
pub enum HostSource<'a> {
    /// Texels that the device can read as they lie.
    Texels(HostTexels),
    /// What has to be gathered or converted first.
    Gathered(&'a Fill<'a>),
}

/// A copy between an array and an image, by the host.
pub struct HostImageCall<'a> {
    /// The driver of the image.
    pub driver: &'a dyn Driver,
    /// The texels.
    pub part: ImagePart,
    /// Whether to stop a wait.
    pub pause: Pause<'a>,
    /// Called between pieces.
    pub between: Between<'a>,
}

/// Keeps other threads from submitting commands that use the image meanwhile.
struct Leaving<'a> {
    layout: &'a TrackedLayout,
    now: vk::ImageLayout,
}

impl<'a> Leaving<'a> {
    fn of(layout: &'a TrackedLayout) -> Self {
        Self { now: layout.begin(), layout }
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.layout.end(Submission::NONE, Some(self.now));
    }
}

impl HostImageCall<'_> {
    /// Copies a source to the image.
    ///
    /// # Errors
    /// Those of the driver, those of the source, and `Interrupted`; the image may have some of the texels then.
    ///
    /// # Safety
    /// The image is live, bound, has `HOST_TRANSFER` usage, and is used by no submission of others; the
    /// texels are valid for reading.
    pub unsafe fn upload(&self, source: &HostSource<'_>) -> Result<(), Stopped> {
        let region = &self.part.region;
        let no_room = || Error::NoHostMemory("texels that are gathered");
        self.run(TransferDirection::Upload, |copies, layout| {
            let step = match source {
                HostSource::Texels(_) => STEP,
                HostSource::Gathered(_) => GATHERED,
            };
            let mut gathered: Vec<u8> = Vec::new();
            self.steps(step, |from, size| {
                let regions = match source {
                    HostSource::Texels(texels) => texels.regions(region, from, size),
                    HostSource::Gathered(fill) => {
                        let bytes = size as usize;
                        if gathered.is_empty() {
                            gathered.try_reserve_exact(bytes).map_err(|_| no_room())?;
                            gathered.resize(bytes, 0);
                        }
                        let address = gathered.as_mut_ptr().expose_provenance();
                        fill(from, bytes, address)?;
                        let first = address.wrapping_sub(from as usize);
                        HostTexels::packed(0)
                            .regions(region, from, size)
                            .into_iter()
                            .map(|it| HostRegion { address: first.wrapping_add(it.address), ..it })
                            .collect()
                    }
                };
                // SAFETY: of the caller, who vouches for image and texels; it was brought into the layout.
                Ok(unsafe { copies.copy_memory_to_image(self.part.image.image, layout, &regions) }
                    .map_err(Error::from)?)
            })
        })
    }

    /// Copies the image to an address.
    ///
    /// # Errors
    /// Those of the driver, and `Interrupted`.
    ///
    /// # Safety
    /// The image is live, bound, has `HOST_TRANSFER` usage, and is used by no submission of others; the
    /// target is valid for writing for as many bytes as the region has.
    pub unsafe fn download(&self, target: usize) -> Result<(), Stopped> {
        let texels = HostTexels::packed(target);
        self.run(TransferDirection::Download, |copies, layout| {
            self.steps(STEP, |from, size| {
                let regions = texels.regions(&self.part.region, from, size);
                // SAFETY: of the caller, who vouches for image and target; it was brought into the layout.
                Ok(unsafe { copies.copy_image_to_memory(self.part.image.image, layout, &regions) }
                    .map_err(Error::from)?)
            })
        })
    }

    /// Calls something for each piece of at most `most` bytes, if a block is not larger.
    fn steps(
        &self,
        most: u64,
        mut copy: impl FnMut(u64, u64) -> Result<(), Stopped>,
    ) -> Result<(), Stopped> {
        let size = self.part.region.size().unwrap_or(0);
        let grain = self.part.region.grain(most);
        let step = (most / grain * grain).max(grain);
        let mut from = 0;
        while from < size {
            let length = step.min(size - from);
            copy(from, length)?;
            from += length;
            if size > step && (self.between)(from) {
                return Err(Stopped::Interrupted);
            }
        }
        Ok(())
    }

    /// Waits for what other threads have submitted since the call was checked.
    fn wait_for_device(&self) -> Result<(), Stopped> {
        let last = self.part.image.layout.last();
        if last == Submission::NONE || self.driver.is_done(last) == Ok(true) {
            return Ok(());
        }
        let slice = u64::try_from(SLICE.as_nanos()).unwrap_or(u64::MAX);
        while !self.driver.wait(last, slice).map_err(Error::from)? {
            if (self.pause)() {
                return Err(Stopped::Interrupted);
            }
        }
        Ok(())
    }

    /// Brings the image into the layout that it is copied in, runs the copy, and leaves it in the right one.
    fn run(
        &self,
        direction: TransferDirection,
        copy: impl FnOnce(&dyn HostImageCopy, vk::ImageLayout) -> Result<(), Stopped>,
    ) -> Result<(), Stopped> {
        let image = &self.part.image;
        let refused = |why: &str| Error::InvalidArgument(format!("an image: {why}"));
        let Some(copies) = self.driver.host_image_copy() else {
            return Err(refused("the device has no copies of images by the host").into());
        };
        let mut state = Leaving::of(&image.layout);
        self.wait_for_device()?;
        // Another thread may have changed it since the call was checked.
        if direction == TransferDirection::Download && state.now == vk::ImageLayout::UNDEFINED {
            return Err(refused("it has no contents to read: its layout is UNDEFINED").into());
        }
        let layouts = HostLayouts::of(copies, image, state.now, direction).map_err(refused)?;
        let bring = |state: &mut Leaving<'_>, new: vk::ImageLayout| {
            if state.now != new {
                let change = LayoutChange { range: image.range, old: state.now, new };
                // SAFETY: the callers of `upload` and `download` vouch for the image; its layout is tracked.
                unsafe { copies.transition_image_layout(image.image, change) }
                    .map_err(Error::from)?;
                state.now = new;
            }
            Ok::<(), Error>(())
        };
        bring(&mut state, layouts.during)?;
        copy(copies, layouts.during)?;
        Ok(bring(&mut state, layouts.after)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ash::vk::Handle;
    use vkmem_engine::{Call, DeviceError};

    use super::*;
    use crate::driver::format::FormatBlock;
    use crate::driver::submission::TransferCommand;
    use crate::driver::transfer_queue::Sharing;
    use crate::simulated::driver::SimulatedDriver;
    use crate::simulated::pending::Completion;

    use vk::ImageLayout as L;

    fn region(extent: [u32; 3], layer_count: u32, block: (u32, u32, u32)) -> ImageRegion {
        let [width, height, depth] = extent;
        ImageRegion {
            aspect: vk::ImageAspectFlags::COLOR,
            mip_level: 0,
            base_layer: 0,
            layer_count,
            offset: vk::Offset3D::default(),
            extent: vk::Extent3D { width, height, depth },
            block: FormatBlock { bytes: block.0, width: block.1, height: block.2 },
        }
    }

    fn used(before: L, leave: Option<L>, otherwise: L) -> UsedImage {
        UsedImage {
            image: vk::Image::from_raw(7),
            is_shared: false,
            sharing: Sharing::Exclusive,
            range: LayoutChange::of_new_image(L::UNDEFINED).range,
            layout: Arc::new(TrackedLayout::new(before)),
            leave,
            otherwise,
        }
    }

    #[test]
    fn layouts_are_those_that_the_host_can_copy_in() {
        let driver = SimulatedDriver::profile("nvidia-h200").unwrap();
        let copies = driver.host_image_copy().unwrap();
        let of = |before, leave, otherwise, direction| {
            let found = HostLayouts::of(copies, &used(before, leave, otherwise), before, direction);
            found.map(|it| (it.during, it.after)).ok()
        };
        let up = |before, leave| of(before, leave, L::SHADER_READ_ONLY_OPTIMAL, UPLOAD);
        let down = |before| of(before, None, L::GENERAL, TransferDirection::Download);
        const UPLOAD: TransferDirection = TransferDirection::Upload;
        let same = |layout| Some((layout, layout));
        assert_eq!(up(L::UNDEFINED, None), same(L::SHADER_READ_ONLY_OPTIMAL));
        assert_eq!(up(L::GENERAL, None), same(L::GENERAL));
        assert_eq!(up(L::GENERAL, Some(L::TRANSFER_SRC_OPTIMAL)), {
            Some((L::GENERAL, L::TRANSFER_SRC_OPTIMAL))
        });
        // Copied from, and not to: it goes there and back.
        assert_eq!(up(L::TRANSFER_SRC_OPTIMAL, None), {
            Some((L::GENERAL, L::TRANSFER_SRC_OPTIMAL))
        });
        // Copied to, and not from: nothing leads out of it.
        assert_eq!(up(L::TRANSFER_DST_OPTIMAL, None), same(L::TRANSFER_DST_OPTIMAL));
        assert_eq!(up(L::TRANSFER_DST_OPTIMAL, Some(L::GENERAL)), None);
        assert_eq!(down(L::TRANSFER_DST_OPTIMAL), None);
        assert_eq!(up(L::COLOR_ATTACHMENT_OPTIMAL, None), None);
        assert_eq!(up(L::GENERAL, Some(L::COLOR_ATTACHMENT_OPTIMAL)), None);
        assert_eq!(of(L::UNDEFINED, None, L::COLOR_ATTACHMENT_OPTIMAL, UPLOAD), same(L::GENERAL));
        assert_eq!(down(L::TRANSFER_SRC_OPTIMAL), same(L::TRANSFER_SRC_OPTIMAL));
        assert_eq!(down(L::PREINITIALIZED), same(L::GENERAL));
    }

    #[test]
    fn texels_lie_where_their_pitches_say() {
        let region = region([5, 3, 1], 4, (4, 1, 1));
        let of = |row, slice| HostTexels::pitched(&region, 1000, row, slice);
        let found = of(32, 160).unwrap();
        let all = found.regions(&region, 0, region.size().unwrap());
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].address, all[0].row_length, all[0].image_height), (1000, 8, 5));
        // The second row of the third slice.
        let row = found.regions(&region, (2 * 3 + 1) * 20, 20);
        assert_eq!((row.len(), row[0].address), (1, 1000 + 2 * 160 + 32));
        assert_eq!((row[0].subresource.base_array_layer, row[0].offset.y), (2, 1));
        // Rows that overlap, that begin inside of a texel, and slices that begin inside of a row.
        assert_eq!((of(16, 160), of(34, 170), of(32, 168), of(32, 64)), (None, None, None, None));
        let packed = HostTexels::packed(1000).regions(&region, 60, 60);
        assert_eq!((packed[0].address, packed[0].row_length, packed[0].image_height), (1060, 0, 0));
    }

    #[test]
    fn rows_of_blocks_are_counted_in_texels() {
        let region = region([18, 10, 1], 1, (8, 4, 4));
        let found = HostTexels::pitched(&region, 0, 64, 256).unwrap();
        assert_eq!(found.lengths(&region), Some((32, 16)));
    }

    #[test]
    fn a_failure_leaves_the_layout_as_it_was() {
        let driver = SimulatedDriver::profile("integrated").unwrap();
        driver.device().fail_next(Call::TransitionImageLayout, 1, DeviceError::OutOfHostMemory);
        let image = used(L::UNDEFINED, None, L::GENERAL);
        let layout = image.layout.clone();
        let part = ImagePart { image, region: region([4, 4, 1], 1, (4, 1, 1)) };
        let call = HostImageCall { driver: &driver, part, pause: &|| true, between: &|_| false };
        // SAFETY: the driver fails before it looks at the image or the texels.
        let failed = unsafe { call.upload(&HostSource::Texels(HostTexels::packed(0))) };
        assert!(matches!(failed, Err(Stopped::Failed(_))));
        // It is free again, in the layout that it was in.
        assert_eq!(layout.begin(), L::UNDEFINED);
        layout.end(Submission::NONE, None);
    }

    #[test]
    fn the_host_waits_for_what_other_threads_have_submitted_meanwhile() {
        let driver = SimulatedDriver::profile("integrated").unwrap();
        let image = used(L::UNDEFINED, None, L::GENERAL);
        let layout = image.layout.clone();
        let part = ImagePart { image, region: region([4, 4, 1], 1, (4, 1, 1)) };
        let call = HostImageCall { driver: &driver, part, pause: &|| true, between: &|_| false };
        for completion in [Completion::Held, Completion::WhenWaited] {
            driver.set_completion(completion);
            // SAFETY: it uses nothing.
            let submission = unsafe { driver.submit(&[TransferCommand::Barrier]) }.unwrap();
            layout.begin();
            layout.end(submission, None);
            driver.device().fail_next(Call::TransitionImageLayout, 1, DeviceError::OutOfHostMemory);
            // SAFETY: the driver fails before it looks at the image or the texels.
            let ended = unsafe { call.upload(&HostSource::Texels(HostTexels::packed(0))) };
            let is_done = driver.is_done(submission).unwrap();
            match completion {
                Completion::Held => {
                    assert_eq!((ended, is_done), (Err(Stopped::Interrupted), false));
                    driver.device().clear_failures();
                    driver.complete_submissions(1);
                }
                _ => assert!(matches!(ended, Err(Stopped::Failed(_))) && is_done),
            }
        }
    }
}
