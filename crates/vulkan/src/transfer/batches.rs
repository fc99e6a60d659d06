//! Which batches are open and which are being submitted, so that no command overtakes an earlier one that
//! uses the same bytes.

use std::mem;
use std::sync::Arc;

use crate::transfer::batch::{Batch, Room};
use crate::transfer::job::Job;
use crate::transfer::uses::{Index, Use};

/// What has to be submitted before a command may be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Nothing.
    Nothing,
    /// The batch of this number.
    Batch(u64),
    /// What another thread submits right now.
    Leaving,
}

/// Batches that gather commands, and those that leave.
#[derive(Debug, Default)]
pub(super) struct Batches {
    /// With their numbers: hardly more than one for each thread.
    open: Vec<(u64, Batch)>,
    leaving: Vec<Leaving>,
    /// For the next one.
    room: Room,
}

/// A batch that is being submitted, and what its commands use, as far as another batch has asked.
#[derive(Debug)]
struct Leaving {
    batch: Arc<Batch>,
    index: Index,
}

impl Batches {
    /// Begins one.
    pub(super) fn open(&mut self, number: u64) {
        let room = mem::take(&mut self.room);
        self.open.push((number, Batch::with_room(room)));
    }

    /// Those that are open.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.open.iter().map(|(number, _)| *number).collect()
    }

    /// One that is open, or a new one.
    pub(super) fn get(&mut self, number: u64) -> &mut Batch {
        let index = match self.index(number) {
            Some(index) => index,
            None => {
                self.open(number);
                self.open.len() - 1
            }
        };
        &mut self.open[index].1
    }

    fn index(&self, number: u64) -> Option<usize> {
        self.open.iter().position(|(it, _)| *it == number)
    }

    /// What a batch has gathered, to be submitted; it stays open. `None` if that is nothing.
    pub(super) fn take(&mut self, number: u64) -> Option<Arc<Batch>> {
        let index = self.index(number)?;
        let open = Some(&mut self.open[index].1).filter(|it| !it.commands.is_empty())?;
        let batch = open.take();
        open.use_room(mem::take(&mut self.room));
        Some(self.leave(batch))
    }

    /// Ends a batch; what it has gathered is to be submitted.
    pub(super) fn close(&mut self, number: u64) -> Option<Arc<Batch>> {
        let index = self.index(number)?;
        let (_, batch) = self.open.swap_remove(index);
        if batch.commands.is_empty() {
            self.keep_room(batch.into_room());
            return None;
        }
        Some(self.leave(batch))
    }

    /// Keeps the room of a batch that was submitted for a later one.
    pub(super) fn keep_room(&mut self, room: Room) {
        if room.is_worth_more_than(&self.room) {
            self.room = room;
        }
    }

    fn leave(&mut self, mut batch: Batch) -> Arc<Batch> {
        let index = mem::take(&mut batch.index);
        let batch = Arc::new(batch);
        self.leaving.push(Leaving { batch: batch.clone(), index });
        batch
    }

    /// A batch was submitted, or will never be.
    pub(super) fn left(&mut self, batch: &Arc<Batch>) {
        self.leaving.retain(|it| !Arc::ptr_eq(&it.batch, batch));
    }

    /// What has to be submitted before a part of `job` is recorded into a batch; `uses` are what the part uses,
    /// and whether its memory may be that of another resource as well. Parts of one job never meet.
    pub(super) fn first(
        &mut self,
        number: u64,
        job: &Arc<Job>,
        uses: impl Iterator<Item = (Use, bool)> + Clone,
    ) -> First {
        let may_meet = |batch: &Batch| !batch.commands.is_empty() && !batch.is_of(job);
        let meets = |batch: &Batch, index: &mut Index| {
            batch.uses_shared
                || uses.clone().any(|(it, shared)| shared || index.meets(&batch.commands, &it))
        };
        for Leaving { batch, index } in &mut self.leaving {
            if may_meet(batch) && meets(batch, index) {
                return First::Leaving;
            }
        }
        if self.open.len() > 1 {
            for (other, batch) in &mut self.open {
                if *other == number || !may_meet(batch) {
                    continue;
                }
                let mut index = mem::take(&mut batch.index);
                let is_first = meets(batch, &mut index);
                batch.index = index;
                if is_first {
                    return First::Batch(*other);
                }
            }
        }
        First::Nothing
    }
}

#[cfg(test)]
mod tests {
    use std::iter::once;

    use ash::vk::{self, Handle};

    use super::*;
    use crate::driver::transfer_queue::Sharing;
    use crate::transfer::batch::Part;
    use crate::transfer::uses::BufferPart;

    fn add(batches: &mut Batches, number: u64, job: &Arc<Job>, buffer: u64, start: u64) {
        let of = |buffer, offset| BufferPart {
            buffer,
            offset,
            is_shared: false,
            sharing: Sharing::Exclusive,
        };
        let (host, part) = (of(vk::Buffer::null(), 0), of(vk::Buffer::from_raw(buffer), start));
        let batch = batches.get(number);
        batch.copy(host, part, 16, true);
        batch.parts.push(Part { job: job.clone(), segment: None });
    }

    #[test]
    fn what_waits_elsewhere_goes_first() {
        let mut batches = Batches::default();
        let (one, other) = (Arc::new(Job::new(16)), Arc::new(Job::new(16)));
        let upload = |buffer, start| Use::of_buffer(vk::Buffer::from_raw(buffer), start, 16, true);
        batches.open(1);
        batches.open(2);
        add(&mut batches, 1, &one, 5, 0);
        assert_eq!(batches.first(2, &other, once((upload(5, 0), false))), First::Batch(1));
        assert_eq!(batches.first(1, &other, once((upload(5, 0), false))), First::Nothing);
        assert_eq!(batches.first(2, &one, once((upload(5, 0), false))), First::Nothing);
        assert_eq!(batches.first(2, &other, once((upload(5, 16), false))), First::Nothing);
        assert_eq!(batches.first(2, &other, once((upload(6, 0), false))), First::Nothing);
        assert_eq!(batches.first(2, &other, once((upload(6, 0), true))), First::Batch(1));
        add(&mut batches, 1, &one, 6, 0);
        assert_eq!(batches.first(2, &other, once((upload(6, 8), false))), First::Batch(1));
        let leaving = batches.take(1).unwrap();
        assert_eq!(batches.first(2, &other, once((upload(6, 8), false))), First::Leaving);
        // The owner of the batch must not overtake what it has gathered before either.
        assert_eq!(batches.first(1, &other, once((upload(6, 8), false))), First::Leaving);
        assert_eq!(batches.first(2, &other, once((upload(7, 8), false))), First::Nothing);
        batches.left(&leaving);
        assert_eq!(batches.first(2, &other, once((upload(6, 8), false))), First::Nothing);
        assert!(batches.take(1).is_none());
    }
}
