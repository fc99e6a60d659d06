//! Which batches are open and which are being submitted, so that no command overtakes an earlier one that
//! uses the same bytes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::transfer::batch::Batch;
use crate::transfer::job::Job;
use crate::transfer::uses::Use;

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
    open: HashMap<u64, Batch>,
    leaving: Vec<Arc<Batch>>,
}

impl Batches {
    /// Begins one.
    pub(super) fn open(&mut self, number: u64) {
        self.open.insert(number, Batch::default());
    }

    /// Those that are open.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.open.keys().copied().collect()
    }

    /// One that is open, or a new one.
    pub(super) fn get(&mut self, number: u64) -> &mut Batch {
        self.open.entry(number).or_default()
    }

    /// What a batch has gathered, to be submitted; it stays open. `None` if that is nothing.
    pub(super) fn take(&mut self, number: u64) -> Option<Arc<Batch>> {
        let batch = self.open.get_mut(&number).filter(|it| !it.commands.is_empty())?.take();
        Some(self.leave(batch))
    }

    /// Ends a batch; what it has gathered is to be submitted.
    pub(super) fn close(&mut self, number: u64) -> Option<Arc<Batch>> {
        let batch = self.open.remove(&number).filter(|it| !it.commands.is_empty())?;
        Some(self.leave(batch))
    }

    fn leave(&mut self, batch: Batch) -> Arc<Batch> {
        let batch = Arc::new(batch);
        self.leaving.push(batch.clone());
        batch
    }

    /// A batch was submitted, or will never be.
    pub(super) fn left(&mut self, batch: &Arc<Batch>) {
        self.leaving.retain(|it| !Arc::ptr_eq(it, batch));
    }

    /// Whether a batch is the only one: nothing else waits for its submission.
    pub(super) fn is_only(&self, number: u64) -> bool {
        self.leaving.is_empty() && self.open.len() == 1 && self.open.contains_key(&number)
    }

    /// What has to be submitted before a part of `job` is recorded into a batch. Parts of one job never meet.
    pub(super) fn first(&mut self, number: u64, job: &Arc<Job>, new: &Use, shared: bool) -> First {
        let may_meet = |batch: &Batch| !batch.commands.is_empty() && !batch.is_of(job);
        let meets = |batch: &Batch| {
            let mut uses = batch.commands.iter().flat_map(Use::of).flatten();
            shared || batch.uses_shared || uses.any(|it| it.meets(new))
        };
        if self.leaving.iter().any(|it| may_meet(it) && meets(it)) {
            return First::Leaving;
        }
        if self.open.len() > 1 {
            for (other, batch) in &mut self.open {
                if *other == number || !may_meet(batch) {
                    continue;
                }
                if shared || batch.uses_shared || batch.index.meets(&batch.commands, new) {
                    return First::Batch(*other);
                }
            }
        }
        First::Nothing
    }
}

#[cfg(test)]
mod tests {
    use ash::vk::{self, Handle};

    use super::*;
    use crate::transfer::batch::{BufferPart, Part};

    fn add(batches: &mut Batches, number: u64, job: &Arc<Job>, buffer: u64, start: u64) {
        let host = BufferPart { buffer: vk::Buffer::null(), offset: 0, is_shared: false };
        let part =
            BufferPart { buffer: vk::Buffer::from_raw(buffer), offset: start, is_shared: false };
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
        assert_eq!(batches.first(2, &other, &upload(5, 0), false), First::Batch(1));
        assert_eq!(batches.first(1, &other, &upload(5, 0), false), First::Nothing);
        assert_eq!(batches.first(2, &one, &upload(5, 0), false), First::Nothing);
        assert_eq!(batches.first(2, &other, &upload(5, 16), false), First::Nothing);
        assert_eq!(batches.first(2, &other, &upload(6, 0), false), First::Nothing);
        assert_eq!(batches.first(2, &other, &upload(6, 0), true), First::Batch(1));
        add(&mut batches, 1, &one, 6, 0);
        assert_eq!(batches.first(2, &other, &upload(6, 8), false), First::Batch(1));
        let leaving = batches.take(1).unwrap();
        assert_eq!(batches.first(2, &other, &upload(6, 8), false), First::Leaving);
        // The owner of the batch must not overtake what it has gathered before either.
        assert_eq!(batches.first(1, &other, &upload(6, 8), false), First::Leaving);
        assert_eq!(batches.first(2, &other, &upload(7, 8), false), First::Nothing);
        batches.left(&leaving);
        assert_eq!(batches.first(2, &other, &upload(6, 8), false), First::Nothing);
        assert!(batches.take(1).is_none());
    }
}
