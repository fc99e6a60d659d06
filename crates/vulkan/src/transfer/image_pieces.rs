//! Uploads and downloads of images in pieces.

use std::sync::Arc;

use crate::allocator::DeviceAllocator;
use crate::host::copy::Target;
use crate::transfer::batch::Part;
use crate::transfer::engine::{Fill, Pause, Stopped, TransferEngine};
use crate::transfer::image::{ImagePart, MipChain};
use crate::transfer::job::Job;
use crate::transfer::lane::{CopyOut, CopyTo};
use crate::transfer::pieces::TransferCall;
use crate::transfer::region::Piece;
use crate::transfer::ring::{Place, SegmentState};
use crate::transfer::staging::{Staging, TransferDirection};
use crate::transfer::uses::{BufferPart, Use};
use crate::transfer::workers::threads;

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
        let host = staging.part(offset);
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
        let to = CopyTo::Address(target);
        let then = CopyOut { job: job.clone(), to, offset, size: piece.size };
        job.recorded(batch, Some(place.number));
        self.lane(down).recorded(place.number, batch, Some(then));
        let host = staging.part(offset);
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
        let threads = if is_serial { 1 } else { threads(size, Target::InUse) };
        let one = |batch: u64, from: u64, length: u64, pause: Pause<'_>| {
            for piece in region.pieces(from, length) {
                self.upload_texels(allocator, job, part, batch, &piece, cut.limit, fill, pause)?;
            }
            Ok(())
        };
        self.end(job, self.pieces(call, cut, threads, &one))
    }

    /// Records a copy between an image and a buffer of the caller's, as one of an array's own pages is; `writes` says
    /// that it goes to the image. The offset in the buffer is a multiple of [`ImageRegion::buffer_unit`].
    #[allow(clippy::too_many_arguments, reason = "what a copy is")]
    pub fn copy_whole_image(
        &self,
        allocator: &DeviceAllocator,
        job: &Arc<Job>,
        batch: u64,
        host: BufferPart,
        part: &ImagePart,
        writes: bool,
    ) {
        // What the host's buffer holds may be part of another transfer of the batch.
        let (host, mut part) = (BufferPart { is_shared: true, ..host }, part.clone());
        part.image.is_shared = true;
        for piece in part.region.pieces(0, job.size) {
            job.recorded(batch, None);
            let uses = std::iter::once((Use::of_image(part.image.image), true));
            let whose = Part { job: job.clone(), segment: None };
            let host = BufferPart { offset: host.offset + piece.from, ..host };
            self.record_all(allocator, batch, whose, uses, |batch| {
                batch.copy_image(host, &part, &piece, job, writes);
            });
        }
        job.close();
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
        kind: Target,
    ) -> Result<(), Stopped> {
        let (size, region) = (call.job.size, &call.part.region);
        let TransferCall { allocator, job, ref part, .. } = *call;
        let cut = self.cut(size, region.grain(self.cut(size, 1).piece));
        let is_large = size > self.ring_size() / 2;
        let threads = if is_large { threads(size, kind) } else { 1 };
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
        self.end(job, self.pieces(call, cut, threads, &one))
    }
}
