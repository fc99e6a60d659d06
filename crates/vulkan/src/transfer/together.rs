//! Many small arrays that are uploaded together: one segment of the ring and one job for all of them.

use std::sync::Arc;

use crate::allocator::DeviceAllocator;
use crate::host::copy::{Target, copy_bytes};
use crate::transfer::batch::{BufferPart, Part};
use crate::transfer::batches::{Batches, First};
use crate::transfer::engine::{Pause, Stopped, TransferEngine};
use crate::transfer::job::Job;
use crate::transfer::ring::SegmentState;
use crate::transfer::staging::TransferDirection;
use crate::transfer::uses::Use;
use crate::transfer::workers::{Pieces, threads};

/// Each array begins at a multiple of this in the segment: with a line of the cache.
const ALIGNMENT: u64 = 64;

/// How many of them a thread takes at once.
const AT_ONCE: u64 = 32;

/// One of the arrays.
#[derive(Clone, Copy, Debug)]
struct Small {
    address: usize,
    size: u64,
    /// In bytes from the start of the segment.
    place: u64,
    part: BufferPart,
}

/// Arrays that are uploaded together, later ones over earlier ones.
#[derive(Debug, Default)]
pub struct SmallUploads {
    all: Vec<Small>,
    /// Bytes of the arrays, and of their segment.
    size: u64,
    room: u64,
}

impl SmallUploads {
    /// None, with room for so many.
    pub fn with_capacity(count: usize) -> Self {
        Self { all: Vec::with_capacity(count), size: 0, room: 0 }
    }

    /// Adds `size` bytes, more than 0, from an address to a buffer.
    pub fn push(&mut self, address: usize, size: u64, part: BufferPart) {
        self.all.push(Small { address, size, place: self.room, part });
        self.size += size;
        self.room += room(size);
    }

    /// Bytes of all arrays.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Returns the bytes of a segment that an array of `size` bytes takes.
fn room(size: u64) -> u64 {
    size.next_multiple_of(ALIGNMENT)
}

impl TransferEngine {
    /// Returns how many of the first arrays, given by their sizes in bytes, one upload can take together: 0 if
    /// the first one alone is too large for it.
    pub fn fit_together(&self, sizes: impl Iterator<Item = u64>) -> usize {
        let mut left = self.most_of_a_batch();
        let fits = |size: u64| {
            let room = room(size);
            let fits = size > 0 && room <= left;
            left -= if fits { room } else { 0 };
            fits
        };
        sizes.map(fits).take_while(|it| *it).count()
    }

    /// Copies arrays, which [fit together](Self::fit_together), to buffers: later ones over earlier ones. When it
    /// returns, they may change. An error of the driver is that of the job, and so of all of them.
    ///
    /// # Errors
    /// `Interrupted` alone; nothing was copied then.
    ///
    /// # Safety
    /// The arrays are valid for reading until it returns.
    pub unsafe fn upload_together(
        &self,
        allocator: &DeviceAllocator,
        job: &Arc<Job>,
        batch: u64,
        arrays: &SmallUploads,
        pause: Pause<'_>,
    ) -> Result<(), Stopped> {
        // SAFETY: of the caller.
        let copied = unsafe { self.copy_together(allocator, job, batch, arrays, pause) };
        self.end(job, copied)
    }

    /// # Safety
    /// As of `upload_together`.
    unsafe fn copy_together(
        &self,
        allocator: &DeviceAllocator,
        job: &Arc<Job>,
        batch: u64,
        arrays: &SmallUploads,
        pause: Pause<'_>,
    ) -> Result<(), Stopped> {
        let up = TransferDirection::Upload;
        let size = arrays.room;
        let (place, staging) = self.reserve(allocator, up, size, self.ring_size(), pause)?;
        allocator.driver().host_access(staging.range(place.offset, size), true);
        let start = staging.address() + place.offset as usize;
        let pieces = Pieces::new(arrays.all.len() as u64, AT_ONCE, 0);
        pieces.run(threads(size, Target::InUse), &|| false, &|_| false, &|_, _| {
            while let Some((first, count)) = pieces.take() {
                for it in &arrays.all[first as usize..][..count as usize] {
                    let (to, size) = (start + it.place as usize, it.size as usize);
                    // SAFETY: the source is the caller's; each has a place of its own in the segment.
                    unsafe { copy_bytes(it.address, to, size, Target::InUse) };
                }
            }
            Ok(())
        })?;
        if let Err(error) = staging.flush(allocator, place.offset, size) {
            self.up.set([place.number].into_iter(), SegmentState::Free);
            return Err(error.into());
        }
        job.recorded(batch, None);
        self.up.recorded(place.number, batch, None);
        let part = Part { job: job.clone(), segment: Some((up, place.number)) };
        let first = |batches: &mut Batches| {
            let mut uses = arrays.all.iter().map(|it| {
                let BufferPart { buffer, offset, is_shared } = it.part;
                batches.first(batch, job, &Use::of_buffer(buffer, offset, it.size, true), is_shared)
            });
            uses.find(|it| *it != First::Nothing).unwrap_or(First::Nothing)
        };
        self.record_all(allocator, batch, part, &first, &mut |batch| {
            batch.reserve(arrays.all.len());
            for it in &arrays.all {
                let offset = place.offset + it.place;
                let host = BufferPart { buffer: staging.buffer(), offset, is_shared: false };
                batch.copy(host, it.part, it.size, true);
            }
        });
        Ok(())
    }
}
