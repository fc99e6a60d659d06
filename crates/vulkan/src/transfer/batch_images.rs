//! Commands of a batch that use images: what is recorded, and the layouts when it is submitted.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ash::vk;
use vkmem_engine::{CallError, Error};

use crate::driver::resource_handle::ResourceHandle;
use crate::driver::submission::{LayoutChange, Submission, TransferCommand, has_run};
use crate::transfer::batch::Batch;
use crate::transfer::image::{ImageCommand, ImagePart, MipChain, Touched};
use crate::transfer::job::Job;
use crate::transfer::layout::TrackedLayout;
use crate::transfer::region::Piece;
use crate::transfer::uses::BufferPart;

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
        self.note(ResourceHandle::Buffer(host.buffer), host.sharing);
        self.note(ResourceHandle::Image(image.image), image.sharing);
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
    pub(super) fn submit(
        &self,
        submit: impl FnOnce(&[TransferCommand]) -> Result<Submission, CallError>,
    ) -> Result<Submission, Error> {
        if !self.has_images() {
            return Ok(submit(&self.commands)?);
        }
        let mut layouts: Vec<&Arc<TrackedLayout>> =
            self.images.all.iter().map(|it| &it.image.layout).collect();
        // In one order in all threads, so that none waits for another one that waits for it.
        layouts.sort_by_key(|it| Arc::as_ptr(it).addr());
        layouts.dedup_by_key(|it| Arc::as_ptr(it).addr());
        let address = |it: &Arc<TrackedLayout>| Arc::as_ptr(it).addr();
        let now = layouts.iter().map(|it| (address(it), it.begin())).collect();
        let (submitted, then) = match self.with_layouts(now) {
            Ok((commands, then)) => {
                let submitted = submit(&commands);
                let then = has_run(submitted).map_or_else(|_| HashMap::new(), |_| then);
                (submitted.map_err(Error::from), then)
            }
            Err(error) => (Err(error), HashMap::new()),
        };
        for it in layouts {
            let submission = submitted.as_ref().map_or(Submission::NONE, |it| *it);
            it.end(submission, then.get(&address(it)).copied());
        }
        for it in self.images.all.iter().filter(|it| !it.reads) {
            it.image.layout.unrecord(1);
        }
        submitted
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

#[cfg(test)]
mod tests {
    use ash::vk::Handle;

    use super::*;
    use crate::driver::format::FormatBlock;
    use crate::driver::transfer_queue::Sharing;
    use crate::transfer::image::UsedImage;
    use crate::transfer::region::ImageRegion;

    const UNDEFINED: vk::ImageLayout = vk::ImageLayout::UNDEFINED;
    const GENERAL: vk::ImageLayout = vk::ImageLayout::GENERAL;
    const READ: vk::ImageLayout = vk::ImageLayout::SHADER_READ_ONLY_OPTIMAL;

    fn used(number: u64, leave: Option<vk::ImageLayout>) -> UsedImage {
        UsedImage {
            image: vk::Image::from_raw(number),
            is_shared: false,
            sharing: Sharing::Exclusive,
            range: LayoutChange::of_new_image(UNDEFINED).range,
            layout: Arc::new(TrackedLayout::new(UNDEFINED)),
            leave,
            otherwise: READ,
        }
    }

    fn copy(batch: &mut Batch, image: &UsedImage, mip_level: u32, job: &Arc<Job>, writes: bool) {
        let region = ImageRegion {
            aspect: vk::ImageAspectFlags::COLOR,
            mip_level,
            base_layer: 0,
            layer_count: 1,
            offset: vk::Offset3D::default(),
            extent: vk::Extent3D { width: 4, height: 4, depth: 1 },
            block: FormatBlock { bytes: 4, width: 1, height: 1 },
        };
        let host = BufferPart {
            buffer: vk::Buffer::null(),
            offset: 0,
            is_shared: false,
            sharing: Sharing::Exclusive,
        };
        let part = ImagePart { image: image.clone(), region };
        for piece in region.pieces(0, 64) {
            batch.copy_image(host, &part, &piece, job, writes);
        }
    }

    fn job() -> Arc<Job> {
        Arc::new(Job::new(64))
    }

    /// The layouts before and after each use of an image; `None` for a barrier.
    fn layouts(
        batch: &Batch,
        now: &[(&UsedImage, vk::ImageLayout)],
    ) -> Vec<Option<(vk::ImageLayout, vk::ImageLayout)>> {
        let now = now.iter().map(|(image, layout)| (image.key(), *layout)).collect();
        let (commands, _) = batch.with_layouts(now).unwrap();
        let of = |command: &TransferCommand| {
            command.images()[0].map(|(_, _, layouts)| (layouts.old, layouts.new))
        };
        commands.iter().map(of).collect()
    }

    #[test]
    fn layouts_follow_each_other_from_the_one_at_submission() {
        let (image, mut batch) = (used(1, None), Batch::default());
        copy(&mut batch, &image, 0, &job(), true);
        copy(&mut batch, &image, 1, &job(), true);
        copy(&mut batch, &image, 0, &job(), false);
        let general = UsedImage { leave: Some(GENERAL), ..image.clone() };
        copy(&mut batch, &general, 0, &job(), true);
        let new = layouts(&batch, &[(&image, UNDEFINED)]);
        let (first, kept) = (Some((UNDEFINED, READ)), Some((READ, READ)));
        assert_eq!(new, [first, first, None, kept, None, Some((READ, GENERAL))]);
        let old = layouts(&batch, &[(&image, GENERAL)]);
        let kept = Some((GENERAL, GENERAL));
        assert_eq!(old, [kept, kept, None, kept, None, kept]);
    }

    #[test]
    fn texels_that_are_written_twice_have_a_barrier_between_them() {
        let (image, mut batch) = (used(1, None), Batch::default());
        let barriers = |batch: &Batch| {
            batch.commands.iter().filter(|it| matches!(it, TransferCommand::Barrier)).count()
        };
        let one = job();
        copy(&mut batch, &image, 0, &one, true);
        copy(&mut batch, &image, 0, &one, true);
        assert_eq!(barriers(&batch), 0, "parts of one transfer never meet");
        copy(&mut batch, &image, 0, &job(), true);
        assert_eq!(barriers(&batch), 1);
        copy(&mut batch, &used(2, None), 0, &job(), true);
        copy(&mut batch, &image, 1, &job(), true);
        assert_eq!(barriers(&batch), 1);
    }

    #[test]
    fn what_has_no_contents_is_not_read() {
        let (image, mut batch) = (used(1, None), Batch::default());
        copy(&mut batch, &image, 0, &job(), false);
        let now = HashMap::from([(image.key(), UNDEFINED)]);
        assert!(matches!(batch.with_layouts(now), Err(Error::InvalidArgument(_))));
    }

    #[test]
    fn mip_levels_are_made_one_of_the_other() {
        let (image, mut batch) = (used(1, None), Batch::default());
        let chain = MipChain {
            image: image.clone(),
            aspect: vk::ImageAspectFlags::COLOR,
            extent: vk::Extent3D { width: 5, height: 2, depth: 1 },
            mip_levels: 3,
            array_layers: 2,
            filter: vk::Filter::LINEAR,
        };
        copy(&mut batch, &image, 0, &job(), true);
        batch.make_mips(&chain);
        copy(&mut batch, &image, 2, &job(), false);
        let now = HashMap::from([(image.key(), GENERAL)]);
        let (commands, then) = batch.with_layouts(now).unwrap();
        assert_eq!(then[&image.key()], GENERAL);
        let blits: Vec<_> = commands
            .iter()
            .filter_map(|it| match it {
                TransferCommand::BlitImage { region, source_layouts, target_layouts, .. } => {
                    Some((region, source_layouts, target_layouts))
                }
                _ => None,
            })
            .collect();
        let end = |region: &vk::ImageBlit| (region.dst_offsets[1].x, region.dst_offsets[1].y);
        assert_eq!((end(blits[0].0), end(blits[1].0)), ((2, 1), (1, 1)));
        for (level, (region, source, target)) in (0..).zip(&blits) {
            assert_eq!(
                (region.src_subresource.mip_level, source.range.base_mip_level),
                (level, level)
            );
            assert_eq!(target.range.base_mip_level, level + 1);
            assert_eq!((source.old, source.new), (GENERAL, GENERAL));
            assert_eq!((target.old, target.new), (UNDEFINED, GENERAL));
        }
        let barriers = commands.iter().filter(|it| matches!(it, TransferCommand::Barrier)).count();
        assert_eq!(barriers, 3);
    }
}
