//! The second queue of a simulated device, and which family owns what of an exclusive resource.
//!
//! Every part belongs to the main queue's family until the other one takes it, by an acquisition or by
//! overwriting it. A command that needs the contents of a part that its family does not own is a violation.

use ash::vk::{self, Handle};
use vkmem_engine::{Call, CallError, DeviceError, VALIDATION_FAILED};

use crate::driver::image_layouts::ImageParts;
use crate::driver::ownership::{Owned, Ownership, buffer_ranges, resources};
use crate::driver::resource_handle::ResourceHandle;
use crate::driver::submission::{Submission, TransferCommand};
use crate::driver::transfer_queue::TransferQueue;
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::ownership::Away;
use crate::simulated::pending::{Completion, Pending, State};
use crate::simulated::unordered::Side;

impl SimulatedDriver {
    /// Gives the device a second queue, or takes it away.
    #[must_use]
    pub fn with_transfer_queue(mut self, queue: Option<TransferQueue>) -> Self {
        self.second_queue = queue;
        self
    }

    /// A queue of a family that can copy buffers and any texels of images.
    pub const COPY_ENGINE: TransferQueue = TransferQueue {
        family_index: 1,
        main_family_index: 0,
        flags: vk::QueueFlags::from_raw(
            vk::QueueFlags::TRANSFER.as_raw() | vk::QueueFlags::SPARSE_BINDING.as_raw(),
        ),
        granularity: vk::Extent3D { width: 1, height: 1, depth: 1 },
        fills: true,
        buffers_have_no_owner: false,
    };

    /// Returns the second queue that devices of a profile have.
    pub(super) fn transfer_queue_of_profile(name: &str) -> Option<TransferQueue> {
        match name {
            "nvidia-h200" | "discrete-8gib" => Some(Self::COPY_ENGINE),
            // As AMD's drivers report it.
            "discrete-8gib-bar" => Some(TransferQueue {
                family_index: 2,
                granularity: vk::Extent3D { width: 16, height: 16, depth: 8 },
                ..Self::COPY_ENGINE
            }),
            _ => None,
        }
    }

    /// Implements [`Driver::submit_to_transfer_queue`](crate::Driver::submit_to_transfer_queue).
    pub(super) fn submit_to_second(
        &self,
        commands: &[TransferCommand],
        exclusive: &[ResourceHandle],
    ) -> Result<Submission, CallError> {
        if commands.is_empty() {
            return Ok(Submission::NONE);
        }
        let failed = |error: DeviceError| error.of(Call::Submit.name());
        // Its three parts; the last two are tried twice.
        self.device.enter(Call::Submit).map_err(failed)?;
        let at_last = || match self.device.enter(Call::Submit) {
            Err(error) if error != DeviceError::DeviceLost => self.device.enter(Call::Submit),
            outcome => outcome,
        };
        at_last().map_err(failed)?;
        let acquired = at_last();
        let mut state = self.submissions.state.lock();
        self.check_late(&state.moved, commands);
        // Its first part, on the main queue, begins with a barrier.
        state.unordered.barrier(Side::Main);
        state.last += 1;
        let number = state.last;
        self.check_flushed(number, commands);
        state.on_second.insert(number, exclusive.to_vec());
        if state.completion == Completion::AtOnce {
            let allowed = self.execute_submission(&mut state, number, commands);
            state.done = number;
            acquired.map_err(failed)?;
            return if allowed { Ok(Submission(number)) } else { Err(failed(VALIDATION_FAILED)) };
        }
        let uses = self.memory_of(commands);
        state.pending.push_back(Pending { number, commands: commands.to_vec(), uses });
        if let Err(error) = acquired {
            // The copies run, and nobody could wait for them.
            self.execute_up_to(&mut state, number);
            return Err(failed(error));
        }
        Ok(Submission(number))
    }

    /// Executes a submission on its queue; returns whether everything in it is valid.
    pub(super) fn execute_submission(
        &self,
        state: &mut State,
        number: u64,
        commands: &[TransferCommand],
    ) -> bool {
        let second = state.on_second.remove(&number);
        let (Some(exclusive), Some(queue)) = (second, self.second_queue) else {
            let allowed = self.use_all(&mut state.away, commands, Side::Main);
            return self.execute_all(commands) && allowed;
        };
        let mut allowed = true;
        let mut refuse = |what: String| {
            self.device.report_violation(Call::Submit, what);
            allowed = false;
        };
        if !queue.can_do_all(commands) {
            refuse("the transfer queue cannot carry out a command".into());
        }
        for handle in resources(commands) {
            if let Some(wrong) = self.wrong_sharing(handle, &exclusive, &queue) {
                refuse(format!("{} {:#x} {wrong}", handle.class(), handle.raw()));
            }
        }
        let ownership = Ownership::of(commands, &exclusive);
        self.take_all(&mut state.away, &ownership.there);
        allowed &= self.use_all(&mut state.away, commands, Side::Second);
        allowed &= self.execute_all(commands);
        self.give_all(&mut state.away, &ownership.back) && allowed
    }

    fn take_all(&self, away: &mut Away, owned: &Owned) {
        owned.buffers.iter().for_each(|range| away.take(range));
        for part in &owned.images {
            away.owned_of(part.image).extend(self.subresources(part.image, &part.range));
        }
    }

    /// Gives parts back; a violation if the second queue's family does not own one.
    fn give_all(&self, away: &mut Away, owned: &Owned) -> bool {
        let mut wrong = None;
        for range in &owned.buffers {
            if !away.has_all(range) {
                wrong = Some(range.buffer.as_raw());
            }
            away.give(range);
        }
        for part in &owned.images {
            let parts = self.subresources(part.image, &part.range);
            let had = away.owned_of(part.image);
            if parts.iter().any(|it| !had.remove(it)) {
                wrong = Some(part.image.as_raw());
            }
        }
        if let Some(handle) = wrong {
            let what = format!("{handle:#x}: a queue releases a part that its family does not own");
            self.device.report_violation(Call::Submit, what);
        }
        wrong.is_none()
    }

    /// Notes which parts commands take over, and looks whether they own those whose contents they need.
    fn use_all(&self, away: &mut Away, commands: &[TransferCommand], side: Side) -> bool {
        if side == Side::Main && self.second_queue.is_none() {
            return true;
        }
        let mut wrong = Vec::new();
        let is_barrier = |command: &TransferCommand| matches!(command, TransferCommand::Barrier);
        for group in commands.split(is_barrier) {
            for (range, is_needed) in group.iter().flat_map(buffer_ranges) {
                if self.is_shared(ResourceHandle::Buffer(range.buffer)) {
                    continue;
                }
                let is_owned = match side {
                    Side::Main => !away.has_any(&range),
                    Side::Second => away.has_all(&range),
                };
                if is_needed && !is_owned {
                    wrong.push(range.buffer.as_raw());
                }
                match side {
                    Side::Main => away.give(&range),
                    Side::Second => away.take(&range),
                }
            }
            for part in ImageParts::of(group).parts {
                if self.is_shared(ResourceHandle::Image(part.image)) {
                    continue;
                }
                let parts = self.subresources(part.image, &part.range);
                let owned = away.owned_of(part.image);
                let is_needed = part.old != vk::ImageLayout::UNDEFINED;
                let has = |it: &(u32, u32)| owned.contains(it) == (side == Side::Second);
                if is_needed && !parts.iter().all(has) {
                    wrong.push(part.image.as_raw());
                }
                match side {
                    Side::Main => owned.retain(|it| !parts.contains(it)),
                    Side::Second => owned.extend(parts),
                }
            }
        }
        for handle in &wrong {
            let what = format!(
                "{handle:#x}: a command needs contents that another queue family owns: they were not \
                 released to this one and acquired"
            );
            self.device.report_violation(Call::Submit, what);
        }
        wrong.is_empty()
    }

    /// Returns the families that share a resource; none for an exclusive one.
    fn families(&self, handle: ResourceHandle) -> Vec<u32> {
        let found = match handle {
            ResourceHandle::Buffer(buffer) => {
                self.buffers.lock().get(buffer.as_raw()).map(|it| it.families.clone())
            }
            ResourceHandle::Image(image) => {
                self.images.lock().get(image.as_raw()).map(|it| it.families.clone())
            }
            ResourceHandle::Memory => Ok(Vec::new()),
        };
        found.unwrap_or_default()
    }

    fn is_shared(&self, handle: ResourceHandle) -> bool {
        !self.families(handle).is_empty()
    }

    fn wrong_sharing(
        &self,
        handle: ResourceHandle,
        exclusive: &[ResourceHandle],
        queue: &TransferQueue,
    ) -> Option<&'static str> {
        let families = self.families(handle);
        let both = [queue.family_index, queue.main_family_index];
        match (families.is_empty(), exclusive.contains(&handle)) {
            (true, false) => Some("is exclusive, and its owner is not changed"),
            (false, true) => Some("is shared, and has no owner to change"),
            (false, false) if both.iter().any(|it| !families.contains(it)) => {
                Some("is not shared by the families of both queues")
            }
            _ => None,
        }
    }

    /// Returns the mip levels and layers of a range.
    fn subresources(&self, image: vk::Image, range: &vk::ImageSubresourceRange) -> Vec<(u32, u32)> {
        let images = self.images.lock();
        let Ok(found) = images.get(image.as_raw()) else { return Vec::new() };
        let end = |start: u32, count: u32, whole: u32| start.saturating_add(count).min(whole);
        let levels = range.base_mip_level
            ..end(range.base_mip_level, range.level_count, found.shape.mip_levels);
        let layers = range.base_array_layer
            ..end(range.base_array_layer, range.layer_count, found.shape.array_layers);
        levels.flat_map(|level| layers.clone().map(move |layer| (level, layer))).collect()
    }
}
