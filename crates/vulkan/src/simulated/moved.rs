//! Resources that have moved, and commands that are submitted with their old handles.
//!
//! A program records a command buffer, the resource moves, and the command buffer is submitted afterwards: it
//! reads what was there before the move, or writes where nobody looks any more. Validation layers are silent as
//! long as the old handle lives.

use ash::vk::{self, Handle};
use vkmem_engine::Call;

use crate::driver::resource_handle::ResourceHandle;
use crate::driver::submission::{ImageUse, TransferCommand};
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::pending::Moved;

/// How many moves are remembered: a device that lives for long forgets the others.
const MOST_MOVES: usize = 1 << 20;

/// The resources that a command uses, and whether it writes them. A change of the layout counts as a write.
fn uses(command: &TransferCommand) -> Vec<(ResourceHandle, bool)> {
    let (read, written) = match *command {
        TransferCommand::FillBuffer { buffer, .. } => (None, Some(buffer)),
        TransferCommand::CopyBuffer { source, target, .. } => (Some(source), Some(target)),
        TransferCommand::CopyBufferToImage { buffer, .. } => (Some(buffer), None),
        TransferCommand::CopyImageToBuffer { buffer, .. } => (None, Some(buffer)),
        TransferCommand::CopyImage { .. }
        | TransferCommand::BlitImage { .. }
        | TransferCommand::ClearImage { .. }
        | TransferCommand::TransitionImage { .. }
        | TransferCommand::Barrier => (None, None),
    };
    let buffers = [(read, false), (written, true)];
    let buffers =
        buffers.into_iter().filter_map(|(buffer, is_written): (Option<vk::Buffer>, _)| {
            Some((ResourceHandle::Buffer(buffer?), is_written))
        });
    let images = command.images().into_iter().flatten();
    let images =
        images.map(|(image, of_use, _)| (ResourceHandle::Image(image), of_use != ImageUse::Read));
    buffers.chain(images).collect()
}

impl SimulatedDriver {
    /// Implements [`Driver::moved`](crate::Driver::moved).
    pub(super) fn note_moved(&self, moves: &[(ResourceHandle, ResourceHandle)]) {
        let known = &mut self.submissions.state.lock().moved;
        if known.len() + moves.len() > MOST_MOVES {
            known.clear();
        }
        // Without room for it a move is forgotten: only a message is lost.
        if known.try_reserve(moves.len()).is_ok() {
            known.extend(moves.iter().copied());
        }
    }

    /// A violation for each command that writes to the old place of a resource that has moved, or uses an old
    /// place that was released. While the old place lives it may be read: what it contains is what the resource
    /// had when it moved.
    pub(super) fn check_late(&self, moved: &Moved, commands: &[TransferCommand]) {
        if moved.is_empty() {
            return;
        }
        for (old, is_written) in commands.iter().flat_map(uses) {
            let Some(new) = moved.get(&old) else { continue };
            let lives = match old {
                ResourceHandle::Memory => continue,
                ResourceHandle::Buffer(it) => self.buffers.lock().get(it.as_raw()).is_ok(),
                ResourceHandle::Image(it) => self.images.lock().get(it.as_raw()).is_ok(),
            };
            let why = match (lives, is_written) {
                (false, _) => {
                    "a command that is submitted now still uses the old place, which was released"
                }
                (true, true) => {
                    "a command that is submitted now writes to the old place: the write is lost"
                }
                (true, false) => continue,
            };
            let class = old.class().to_lowercase();
            let (old, new) = (old.raw(), new.raw());
            let what = format!("{class} {old:#x} was moved to {new:#x} by defragmentation; {why}");
            self.device.report_violation(Call::Submit, what);
        }
    }
}
