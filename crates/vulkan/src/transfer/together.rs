//! Many small arrays that are copied together: one segment of a ring and one job for all of them.

use std::sync::Arc;

use crate::allocator::DeviceAllocator;
use crate::host::copy::{Target, copy_bytes};
use crate::transfer::batch::Part;
use crate::transfer::engine::{Pause, Stopped, TransferEngine};
use crate::transfer::job::Job;
use crate::transfer::lane::{Arrays, CopyOut, CopyTo};
use crate::transfer::ring::{Place, SegmentState};
use crate::transfer::staging::{Staging, TransferDirection};
use crate::transfer::uses::{BufferPart, Use};
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

/// Arrays that are copied together, in their order where they meet.
#[derive(Debug)]
pub struct SmallTransfers {
    all: Vec<Small>,
    /// What the host's memory is like, if it is written to.
    target: Target,
    /// Bytes of the arrays, of their segment, and of the largest array.
    size: u64,
    room: u64,
    largest: u64,
}

impl SmallTransfers {
    /// None, with room for so many. `target` is what the memory of downloads is like.
    pub fn with_capacity(count: usize, target: Target) -> Self {
        Self { all: Vec::with_capacity(count), target, size: 0, room: 0, largest: 0 }
    }

    /// Adds `size` bytes, more than 0, at an address of the host and in a buffer.
    pub fn push(&mut self, address: usize, size: u64, part: BufferPart) {
        self.all.push(Small { address, size, place: self.room, part });
        self.size += size;
        self.room += room(size);
        self.largest = self.largest.max(size);
    }

    /// The job that carries all of them out.
    pub fn job(&self) -> Arc<Job> {
        Arc::new(Job::of_many(self.size, self.largest))
    }

    /// Copies the arrays to a segment that begins at an address.
    ///
    /// # Safety
    /// The arrays are valid for reading, and the segment for writing.
    unsafe fn copy_to_segment(&self, start: usize) {
        self.share(Target::InUse, &|it| {
            let (to, size) = (start + it.place as usize, it.size as usize);
            // SAFETY: of the caller; each has a place of its own in the segment.
            unsafe { copy_bytes(it.address, to, size, Target::InUse) };
        });
    }

    /// Copies each array, in several threads where that pays.
    fn share(&self, target: Target, copy: &(dyn Fn(&Small) + Sync)) {
        let pieces = Pieces::new(self.all.len() as u64, AT_ONCE, 0);
        let done = pieces.run(threads(self.size, target), &|| false, &|_| false, &|_, _| {
            while let Some((first, count)) = pieces.take() {
                self.all[first as usize..][..count as usize].iter().for_each(copy);
            }
            Ok(())
        });
        debug_assert_eq!(done, Ok(()), "nothing here can fail");
    }
}

impl Arrays for SmallTransfers {
    unsafe fn copy_from_segment(&self, start: usize) {
        self.share(self.target, &|it| {
            let (from, size) = (start + it.place as usize, it.size as usize);
            // SAFETY: of the caller.
            unsafe { copy_bytes(from, it.address, size, Target::InUse) };
        });
    }
}

/// Returns the bytes of a segment that an array of `size` bytes takes.
fn room(size: u64) -> u64 {
    size.next_multiple_of(ALIGNMENT)
}

impl TransferEngine {
    /// Returns how many of the first arrays, given by their sizes in bytes, one job can take together: 0 if
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
        arrays: &SmallTransfers,
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
        arrays: &SmallTransfers,
        pause: Pause<'_>,
    ) -> Result<(), Stopped> {
        let (up, size) = (TransferDirection::Upload, arrays.room);
        let (place, staging) = self.reserve(allocator, up, size, self.ring_size(), pause)?;
        allocator.driver().host_access(staging.range(place.offset, size), true);
        // SAFETY: the arrays are the caller's, the segment is this thread's.
        unsafe { arrays.copy_to_segment(staging.address() + place.offset as usize) };
        if let Err(error) = staging.flush(allocator, place.offset, size) {
            self.up.set([place.number].into_iter(), SegmentState::Free);
            return Err(error.into());
        }
        job.recorded(batch, None);
        self.up.recorded(place.number, batch, None);
        self.record_together(allocator, job, batch, (place, &staging), &arrays.all, up);
        Ok(())
    }

    /// Copies buffers to arrays, which [fit together](Self::fit_together): they are on their way when it returns,
    /// and copied out when the job is waited for. An error of the driver is that of the job, and so of all of them.
    ///
    /// # Errors
    /// `Interrupted` alone; nothing is copied then.
    ///
    /// # Safety
    /// The arrays are valid for writing until the job has ended.
    pub unsafe fn download_together(
        &self,
        allocator: &DeviceAllocator,
        job: &Arc<Job>,
        batch: u64,
        arrays: SmallTransfers,
        pause: Pause<'_>,
    ) -> Result<(), Stopped> {
        let (down, size) = (TransferDirection::Download, arrays.room);
        let taken = self.reserve(allocator, down, size, self.ring_size(), pause);
        let recorded = taken.map(|(place, staging)| {
            // The segment keeps them from now on.
            let all = arrays.all.clone();
            let (offset, to) = (place.offset, CopyTo::Arrays(Box::new(arrays)));
            job.recorded(batch, Some(place.number));
            let then = CopyOut { job: job.clone(), to, offset, size };
            self.down.recorded(place.number, batch, Some(then));
            self.record_together(allocator, job, batch, (place, &staging), &all, down);
        });
        self.end(job, recorded)
    }

    /// Records the copies between a segment and buffers.
    fn record_together(
        &self,
        allocator: &DeviceAllocator,
        job: &Arc<Job>,
        batch: u64,
        (place, staging): (Place, &Staging),
        all: &[Small],
        direction: TransferDirection,
    ) {
        let writes = direction == TransferDirection::Upload;
        let uses = all.iter().map(|it| {
            let BufferPart { buffer, offset, is_shared, .. } = it.part;
            (Use::of_buffer(buffer, offset, it.size, writes), is_shared)
        });
        let part = Part { job: job.clone(), segment: Some((direction, place.number)) };
        self.record_all(allocator, batch, part, uses, |batch| {
            batch.reserve(all.len());
            for it in all {
                let host = staging.part(place.offset + it.place);
                batch.copy(host, it.part, it.size, writes);
            }
        });
    }
}
