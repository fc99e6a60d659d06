//! Which queue a batch is submitted to.

use std::collections::HashMap;

use crate::driver::contract::Driver;
use crate::driver::ownership::resources;
use crate::driver::resource_handle::ResourceHandle;
use crate::driver::submission::TransferCommand;
use crate::driver::transfer_queue::Sharing;
use crate::transfer::batch::Batch;

/// The queue that transfers run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueChoice {
    /// The transfer queue for large transfers, the main queue for small ones.
    #[default]
    BySize,
    /// The main queue.
    Main,
    /// The transfer queue, for all that it can carry out.
    Transfer,
}

/// From how many bytes on a transfer goes to the transfer queue by itself. That takes three `vkQueueSubmit`s and
/// two semaphores in place of one `vkQueueSubmit`: some tens of microseconds, in which a card copies about 1 MiB.
const LARGE: u64 = 1 << 20;

impl QueueChoice {
    /// Returns whether a transfer of so many bytes from or to a resource goes to the transfer queue, if that can
    /// carry it out.
    pub fn is_transfer(self, driver: &dyn Driver, size: u64, sharing: Sharing) -> bool {
        let wanted = match self {
            Self::Main => false,
            Self::Transfer => true,
            Self::BySize => size >= LARGE,
        };
        wanted && sharing != Sharing::MainQueueOnly && driver.transfer_queue().is_some()
    }

    /// Returns the exclusive resources of a batch for the transfer queue; `None`: its commands, which have their
    /// layouts by now, go to the main queue.
    pub(super) fn exclusive_of(
        self,
        driver: &dyn Driver,
        batch: &Batch,
        commands: &[TransferCommand],
    ) -> Option<Vec<ResourceHandle>> {
        let largest = batch.parts.iter().map(|part| part.job.largest).max().unwrap_or(0);
        let queue = driver.transfer_queue();
        let queue = queue.filter(|_| self.is_transfer(driver, largest, Sharing::Concurrent))?;
        let noted: HashMap<ResourceHandle, Sharing> = batch.sharing.iter().copied().collect();
        let mut exclusive = Vec::new();
        for resource in resources(commands) {
            match noted.get(&resource) {
                Some(Sharing::Exclusive) => exclusive.push(resource),
                Some(Sharing::Concurrent) => {}
                Some(Sharing::MainQueueOnly) | None => return None,
            }
        }
        queue.can_do_all(commands).then_some(exclusive)
    }
}
