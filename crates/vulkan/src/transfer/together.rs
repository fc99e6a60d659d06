//! Many small arrays that are uploaded together: one segment of the ring and one job for all of them.

use std::sync::Arc;

use crate::allocator::DeviceAllocator;
use crate::host::copy::{Target, copy_bytes};
use crate::transfer::batch::{BufferPart, Part};
use crate::transfer::engine::{Pause, Stopped, TransferEngine};
use crate::transfer::job::Job;
use crate::transfer::ring::SegmentState;
use crate::transfer::staging::TransferDirection;

/// Each array begins at a multiple of this in the segment: with a line of the cache.
const ALIGNMENT: u64 = 64;

/// One of the arrays.
#[derive(Clone, Copy, Debug)]
pub struct SmallUpload {
    /// Address of its first byte.
    pub address: usize,
    /// In bytes; not 0.
    pub size: u64,
    /// Where it goes to.
    pub part: BufferPart,
}

impl SmallUpload {
    /// Bytes of the segment that an array of `size` bytes takes.
    fn room(size: u64) -> u64 {
        size.next_multiple_of(ALIGNMENT)
    }
}

impl TransferEngine {
    /// Returns how many of the first arrays, given by their sizes in bytes, one upload can take together: 0 if
    /// the first one alone is too large for it.
    pub fn fit_together(&self, sizes: impl Iterator<Item = u64>) -> usize {
        let mut left = self.most_of_a_batch();
        let fits = |size: u64| {
            let room = SmallUpload::room(size);
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
        arrays: &[SmallUpload],
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
        arrays: &[SmallUpload],
        pause: Pause<'_>,
    ) -> Result<(), Stopped> {
        let up = TransferDirection::Upload;
        let size: u64 = arrays.iter().map(|it| SmallUpload::room(it.size)).sum();
        let (place, staging) = self.reserve(allocator, up, size, self.ring_size(), pause)?;
        allocator.driver().host_access(staging.range(place.offset, size), true);
        let mut to = staging.address() + place.offset as usize;
        for it in arrays {
            // SAFETY: the source is the caller's; the segment has room for all of them.
            unsafe { copy_bytes(it.address, to, it.size as usize, Target::InUse) };
            to += SmallUpload::room(it.size) as usize;
        }
        if let Err(error) = staging.flush(allocator, place.offset, size) {
            self.up.set([place.number].into_iter(), SegmentState::Free);
            return Err(error.into());
        }
        job.recorded(batch, None);
        self.up.recorded(place.number, batch, None);
        let part = Part { job: job.clone(), segment: Some((up, place.number)) };
        self.record_all(allocator, batch, part, &mut |batch| {
            let mut offset = place.offset;
            batch.reserve(arrays.len());
            for it in arrays {
                let host = BufferPart { buffer: staging.buffer(), offset, is_shared: false };
                batch.copy(host, it.part, it.size, true);
                offset += SmallUpload::room(it.size);
            }
        });
        Ok(())
    }
}
