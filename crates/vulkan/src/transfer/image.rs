//! Images: their copies in pieces, and the layouts that these find and leave.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ash::vk;
use vkmem_engine::Error;

use crate::allocator::DeviceAllocator;
use crate::driver::contract::Driver;
use crate::driver::submission::{LayoutChange, Submission, TransferCommand};
use crate::transfer::batch::{Batch, BufferPart};
use crate::transfer::engine::{Fill, Pause, Stopped, TransferEngine};
use crate::transfer::job::Job;
use crate::transfer::lane::CopyOut;
use crate::transfer::layout::TrackedLayout;
use crate::transfer::pieces::{TransferCall, threads};
use crate::transfer::region::{ImageRegion, Piece};
use crate::transfer::ring::{Place, SegmentState};
use crate::transfer::staging::{Staging, TransferDirection};

/// An image that commands use, and the layouts that they leave it in.
#[derive(Clone, Debug)]
pub struct UsedImage {
    /// Live until the transfer has ended.
    pub image: vk::Image,
    /// Its memory may be that of another resource as well.
    pub is_shared: bool,
    /// All its subresources, with each aspect that a barrier has to name.
    pub range: vk::ImageSubresourceRange,
    /// Its layout when the commands are submitted.
    pub layout: Arc<TrackedLayout>,
    /// The layout that it is left in; without one that which it was in.
    pub leave: Option<vk::ImageLayout>,
    /// The layout that it is left in if it was in one that no image can be brought into.
    pub otherwise: vk::ImageLayout,
}

/// Texels of an image that a transfer copies.
#[derive(Clone, Debug)]
pub struct ImagePart {
    /// The image.
    pub image: UsedImage,
    /// The texels.
    pub region: ImageRegion,
}

/// A command of a batch that uses an image.
#[derive(Debug)]
struct ImageCommand {
    /// Its place among the commands of the batch.
    at: usize,
    image: UsedImage,
    /// It needs the contents that the image has.
    reads: bool,
}

/// A chain of mip levels, each of which becomes the one before at half the size.
#[derive(Clone, Debug)]
pub struct MipChain {
    /// The image.
    pub image: UsedImage,
    /// The aspect to filter.
    pub aspect: vk::ImageAspectFlags,
    /// Sides of the first level in texels.
    pub extent: vk::Extent3D,
    /// Its levels; 2 at least.
    pub mip_levels: u32,
    /// Its array layers.
    pub array_layers: u32,
    /// How texels are averaged.
    pub filter: vk::Filter,
}

impl MipChain {
    fn part(&self, mip_level: u32) -> vk::ImageSubresourceLayers {
        let (base_array_layer, layer_count) = (0, self.array_layers);
        let aspect_mask = self.aspect;
        vk::ImageSubresourceLayers { aspect_mask, mip_level, base_array_layer, layer_count }
    }

    fn corners(&self, mip_level: u32) -> [vk::Offset3D; 2] {
        let side = |length: u32| (length >> mip_level).max(1).cast_signed();
        let vk::Extent3D { width, height, depth } = self.extent;
        let end = vk::Offset3D { x: side(width), y: side(height), z: side(depth) };
        [vk::Offset3D::default(), end]
    }

    /// The blit that makes a level of the one before.
    fn blit(&self, mip_level: u32) -> TransferCommand {
        let region = vk::ImageBlit {
            src_subresource: self.part(mip_level - 1),
            src_offsets: self.corners(mip_level - 1),
            dst_subresource: self.part(mip_level),
            dst_offsets: self.corners(mip_level),
        };
        let layouts = |level: u32| {
            let base_mip_level = level;
            let range =
                vk::ImageSubresourceRange { base_mip_level, level_count: 1, ..self.image.range };
            LayoutChange { range, ..LayoutChange::of_new_image(self.image.otherwise) }
        };
        TransferCommand::BlitImage {
            source: self.image.image,
            target: self.image.image,
            region,
            filter: self.filter,
            source_layouts: layouts(mip_level - 1),
            target_layouts: layouts(mip_level),
        }
    }
}

/// Texels that a command uses.
#[derive(Clone, Copy, Debug)]
struct Touched {
    part: vk::ImageSubresourceLayers,
    is_written: bool,
    leave: Option<vk::ImageLayout>,
    /// Address of the job, of which no two parts meet.
    job: usize,
    /// It uses the whole image, in several layouts.
    is_alone: bool,
}

impl Touched {
    fn meets(&self, other: &Self) -> bool {
        // All commands between two barriers find and leave the whole image in one layout.
        if self.is_alone
            || other.is_alone
            || self.is_written != other.is_written
            || self.leave != other.leave
        {
            return true;
        }
        let (one, two) = (&self.part, &other.part);
        self.is_written
            && self.job != other.job
            && one.aspect_mask.intersects(two.aspect_mask)
            && one.mip_level == two.mip_level
            && one.base_array_layer < two.base_array_layer + two.layer_count
            && two.base_array_layer < one.base_array_layer + one.layer_count
    }
}

/// What the commands of a batch do to images.
#[derive(Debug, Default)]
pub(super) struct ImageCommands {
    all: Vec<ImageCommand>,
    /// What was used since the last barrier.
    touched: HashMap<vk::Image, Vec<Touched>>,
}

impl ImageCommands {
    /// A barrier was recorded.
    pub(super) fn forget_touched(&mut self) {
        self.touched.clear();
    }
}

/// Whether an image can only leave a layout.
fn is_initial(layout: vk::ImageLayout) -> bool {
    matches!(layout, vk::ImageLayout::UNDEFINED | vk::ImageLayout::PREINITIALIZED)
}

impl UsedImage {
    /// The layout that it is left in.
    fn after(&self, before: vk::ImageLayout) -> vk::ImageLayout {
        let kept = if is_initial(before) { self.otherwise } else { before };
        self.leave.unwrap_or(kept)
    }

    fn key(&self) -> usize {
        Arc::as_ptr(&self.layout).addr()
    }
}

impl Batch {
    /// Adds the copy of a piece between the ring and an image; `writes` says which way.
    pub(super) fn copy_image(
        &mut self,
        host: BufferPart,
        part: &ImagePart,
        piece: &Piece,
        job: &Arc<Job>,
        writes: bool,
    ) {
        let ImagePart { image, region } = part;
        let copy = region.copy(piece, host.offset);
        let new = Touched {
            part: copy.image_subresource,
            is_written: writes,
            leave: image.leave,
            job: Arc::as_ptr(job).addr(),
            is_alone: false,
        };
        let touched = self.images.touched.get(&image.image);
        if self.has_shared(image.is_shared)
            || touched.is_some_and(|all| all.iter().any(|it| it.meets(&new)))
        {
            self.barrier();
        }
        self.note_shared(image.is_shared);
        self.images.touched.entry(image.image).or_default().push(new);
        let at = self.commands.len();
        self.images.all.push(ImageCommand { at, image: image.clone(), reads: !writes });
        if writes {
            image.layout.record();
        }
        // Both layouts are known when it is submitted.
        let layouts = LayoutChange {
            range: image.range,
            ..LayoutChange::of_new_image(image.after(vk::ImageLayout::UNDEFINED))
        };
        let (buffer, image) = (host.buffer, image.image);
        self.commands.push(if writes {
            TransferCommand::CopyBufferToImage { buffer, image, region: copy, layouts }
        } else {
            TransferCommand::CopyImageToBuffer { image, buffer, region: copy, layouts }
        });
        self.bytes += piece.size;
    }

    /// Adds the blits of a chain of mip levels.
    pub(super) fn make_mips(&mut self, chain: &MipChain) {
        let image = &chain.image;
        if self.has_shared(image.is_shared) || self.images.touched.contains_key(&image.image) {
            self.barrier();
        }
        for level in 1..chain.mip_levels {
            if level > 1 {
                self.barrier();
            }
            self.images.all.push(ImageCommand {
                at: self.commands.len(),
                image: image.clone(),
                reads: true,
            });
            self.commands.push(chain.blit(level));
        }
        self.note_shared(image.is_shared);
        let (part, leave) = (chain.part(0), image.leave);
        let all = Touched { part, is_written: true, leave, job: 0, is_alone: true };
        self.images.touched.entry(image.image).or_default().push(all);
    }

    /// The commands with the layouts that images have now, by address, and the layouts that they have then.
    fn with_layouts(
        &self,
        mut now: HashMap<usize, vk::ImageLayout>,
    ) -> Result<(Vec<TransferCommand>, HashMap<usize, vk::ImageLayout>), Error> {
        let mut commands = self.commands.clone();
        // Between two barriers all commands have the same layouts of one image.
        let mut group: HashMap<usize, (vk::ImageLayout, vk::ImageLayout)> = HashMap::new();
        let mut wishes = self.images.all.iter().peekable();
        for (at, command) in commands.iter_mut().enumerate() {
            if let TransferCommand::Barrier = command {
                group.clear();
                continue;
            }
            let Some(wish) = wishes.next_if(|it| it.at == at) else { continue };
            let key = wish.image.key();
            let current = now.entry(key).or_insert(vk::ImageLayout::UNDEFINED);
            if wish.reads && *current == vk::ImageLayout::UNDEFINED {
                let why = "an image has no contents to read: its layout is UNDEFINED";
                return Err(Error::InvalidArgument(why.into()));
            }
            let (before, after) =
                *group.entry(key).or_insert_with(|| (*current, wish.image.after(*current)));
            *current = after;
            match command {
                TransferCommand::CopyBufferToImage { layouts, .. }
                | TransferCommand::CopyImageToBuffer { layouts, .. } => {
                    (layouts.old, layouts.new) = (before, after);
                }
                TransferCommand::BlitImage { source_layouts, target_layouts, .. } => {
                    (source_layouts.old, source_layouts.new) = (before, after);
                    // What the level holds is replaced.
                    (target_layouts.old, target_layouts.new) = (vk::ImageLayout::UNDEFINED, after);
                }
                _ => {}
            }
        }
        Ok((commands, now))
    }

    /// Submits the commands, with the layouts that images have by then.
    ///
    /// # Safety
    /// That of [`Driver::submit`].
    pub(super) unsafe fn submit(&self, driver: &dyn Driver) -> Result<Submission, Error> {
        if !self.has_images() {
            // SAFETY: of the caller.
            return Ok(unsafe { driver.submit(&self.commands) }?);
        }
        let mut layouts: Vec<&Arc<TrackedLayout>> =
            self.images.all.iter().map(|it| &it.image.layout).collect();
        // In one order in all threads, so that none waits for another one that waits for it.
        layouts.sort_by_key(|it| Arc::as_ptr(it).addr());
        layouts.dedup_by_key(|it| Arc::as_ptr(it).addr());
        let address = |it: &Arc<TrackedLayout>| Arc::as_ptr(it).addr();
        let now = layouts.iter().map(|it| (address(it), it.begin())).collect();
        let submitted = self.with_layouts(now).and_then(|(commands, then)| {
            // SAFETY: of the caller.
            Ok((unsafe { driver.submit(&commands) }?, then))
        });
        for it in layouts {
            it.end(submitted.as_ref().ok().and_then(|(_, then)| then.get(&address(it)).copied()));
        }
        for it in self.images.all.iter().filter(|it| !it.reads) {
            it.image.layout.unrecord(1);
        }
        submitted.map(|(submission, _)| submission)
    }
}

/// Images that submissions use which may not have ended, oldest first.
#[derive(Debug, Default)]
pub(super) struct ImagesInFlight(VecDeque<(Submission, Vec<Arc<TrackedLayout>>)>);

impl ImagesInFlight {
    /// Adds those of a submission; forgets those up to `done`.
    pub(super) fn add(&mut self, submission: Submission, batch: &Batch, done: Submission) {
        self.0.retain(|(number, _)| *number > done);
        let layouts = batch.images.all.iter().map(|it| it.image.layout.clone()).collect();
        self.0.push_back((submission, layouts));
    }

    /// Nobody knows what the submissions after one have left.
    pub(super) fn lose(&mut self, after: Submission) {
        for (_, layouts) in self.0.iter().filter(|(number, _)| *number > after) {
            layouts.iter().for_each(|it| it.set(vk::ImageLayout::UNDEFINED));
        }
        self.0.clear();
    }
}

impl Batch {
    /// Whether commands of it use an image.
    pub(super) fn has_images(&self) -> bool {
        !self.images.all.is_empty()
    }
}

/// Room in the ring for a piece, and where it begins there.
struct Room {
    place: Place,
    staging: Staging,
    offset: u64,
}

impl TransferEngine {
    fn room(
        &self,
        allocator: &DeviceAllocator,
        direction: TransferDirection,
        part: &ImagePart,
        size: u64,
        limit: u64,
        pause: Pause<'_>,
    ) -> Result<Room, Stopped> {
        let limits = &allocator.driver().info().limits;
        let unit = part.region.buffer_unit(limits.optimal_buffer_copy_offset_alignment);
        // Segments are aligned to 64 bytes at least.
        let slack = if unit.is_power_of_two() && unit <= 64 { 0 } else { unit };
        let (place, staging) = self.reserve(allocator, direction, size + slack, limit, pause)?;
        Ok(Room { place, staging, offset: place.offset.next_multiple_of(unit) })
    }

    #[allow(clippy::too_many_arguments, reason = "what a piece is")]
    fn upload_texels(
        &self,
        allocator: &DeviceAllocator,
        job: &Arc<Job>,
        part: &ImagePart,
        batch: u64,
        piece: &Piece,
        limit: u64,
        fill: &Fill<'_>,
        pause: Pause<'_>,
    ) -> Result<(), Stopped> {
        let up = TransferDirection::Upload;
        let Room { place, staging, offset } =
            self.room(allocator, up, part, piece.size, limit, pause)?;
        allocator.driver().host_access(staging.range(offset, piece.size), true);
        let filled = fill(piece.from, piece.size as usize, staging.address() + offset as usize)
            .and_then(|()| Ok(staging.flush(allocator, offset, piece.size)?));
        if let Err(stopped) = filled {
            self.lane(up).set([place.number].into_iter(), SegmentState::Free);
            return Err(stopped);
        }
        job.recorded(batch, None);
        self.lane(up).recorded(place.number, batch, None);
        let host = BufferPart { buffer: staging.buffer(), offset, is_shared: false };
        self.record_texels(allocator, batch, job, host, part, piece, (up, place.number));
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "what a piece is")]
    fn download_texels(
        &self,
        allocator: &DeviceAllocator,
        job: &Arc<Job>,
        part: &ImagePart,
        batch: u64,
        piece: &Piece,
        limit: u64,
        target: usize,
        pause: Pause<'_>,
    ) -> Result<u64, Stopped> {
        let down = TransferDirection::Download;
        let Room { place, staging, offset } =
            self.room(allocator, down, part, piece.size, limit, pause)?;
        let target = target + piece.from as usize;
        let then = CopyOut { job: job.clone(), target, offset, size: piece.size };
        job.recorded(batch, Some(place.number));
        self.lane(down).recorded(place.number, batch, Some(then));
        let host = BufferPart { buffer: staging.buffer(), offset, is_shared: false };
        self.record_texels(allocator, batch, job, host, part, piece, (down, place.number));
        Ok(place.number)
    }

    /// Copies a source to an image, as [`upload`](Self::upload) does to a buffer. Texels go in the order of
    /// their columns, rows, depths and layers. The source may be read from any whole block on.
    ///
    /// # Errors
    /// `Interrupted` alone.
    pub fn upload_image(
        &self,
        call: &TransferCall<'_, ImagePart>,
        fill: &Fill<'_>,
        is_serial: bool,
    ) -> Result<(), Stopped> {
        let (size, region) = (call.job.size, &call.part.region);
        let TransferCall { allocator, job, ref part, .. } = *call;
        let cut = self.cut(size, region.grain(self.cut(size, 1).piece));
        let threads = if is_serial { 1 } else { threads(size, 1) };
        let one = |batch: u64, from: u64, length: u64, pause: Pause<'_>| {
            for piece in region.pieces(from, length) {
                self.upload_texels(allocator, job, part, batch, &piece, cut.limit, fill, pause)?;
            }
            Ok(())
        };
        self.end(call, self.pieces(call, cut, threads, &one))
    }

    /// Records the blits of a chain of mip levels into a batch.
    pub fn generate_mips(
        &self,
        allocator: &DeviceAllocator,
        job: &Arc<Job>,
        batch: u64,
        chain: &MipChain,
    ) {
        job.recorded(batch, None);
        self.record_mips(allocator, batch, job, chain);
        job.close();
    }

    /// Copies an image to the host, as [`download`](Self::download) does with a buffer.
    ///
    /// # Errors
    /// `Interrupted` alone.
    ///
    /// # Safety
    /// `target` is valid for as many bytes as the job has, until that has ended.
    pub unsafe fn download_image(
        &self,
        call: &TransferCall<'_, ImagePart>,
        target: usize,
    ) -> Result<(), Stopped> {
        let (size, region) = (call.job.size, &call.part.region);
        let TransferCall { allocator, job, ref part, .. } = *call;
        let cut = self.cut(size, region.grain(self.cut(size, 1).piece));
        let is_large = size > self.ring_size() / 2;
        let threads = if is_large { threads(size, 2) } else { 1 };
        let one = |batch: u64, from: u64, length: u64, pause: Pause<'_>| {
            let mut numbers = Vec::new();
            for piece in region.pieces(from, length) {
                numbers.push(self.download_texels(
                    allocator, job, part, batch, &piece, cut.limit, target, pause,
                )?);
            }
            if is_large {
                self.flush_batch(allocator, batch);
                numbers.into_iter().try_for_each(|it| self.finish_piece(allocator, it, pause))?;
            }
            Ok(())
        };
        self.end(call, self.pieces(call, cut, threads, &one))
    }
}
