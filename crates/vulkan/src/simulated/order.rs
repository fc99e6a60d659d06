//! Commands of the program's own command buffers, which only the program puts in an order.
//!
//! What this library submits or records lies between two full barriers of its own. Everything else needs a barrier
//! of the program against earlier commands of the same queue, also against those of earlier submissions, and a wait
//! of the host between two queues: a simulated device has no semaphores for programs.

use vkmem_engine::Call;

use crate::driver::submission::TransferCommand;
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::unordered::{Loose, Side, Unordered};

impl SimulatedDriver {
    /// Adds the commands of the program's submission; a violation for those that are not ordered against earlier
    /// submissions. Returns whether all are.
    pub(super) fn check_order(
        &self,
        unordered: &mut Unordered,
        submission: u64,
        commands: &[TransferCommand],
        side: Side,
    ) -> bool {
        let mut is_ordered = true;
        let mut at = 0;
        let is_barrier = |command: &TransferCommand| matches!(command, TransferCommand::Barrier);
        for (index, group) in commands.split(is_barrier).enumerate() {
            if index > 0 {
                unordered.barrier(side);
            }
            let mut loose = Vec::with_capacity(group.len());
            for command in group {
                // What is invalid is told when the command is executed.
                let accesses = self.plan(command).map(|plan| plan.accesses).unwrap_or_default();
                loose.push(Loose { submission, at, side, has_barrier: false, accesses });
                at += 1;
            }
            if let Some(found) = unordered.add(loose) {
                self.device.report(Call::Submit, found);
                is_ordered = false;
            }
        }
        if self.second_queue.is_none() {
            // Nothing but the same queue could still meet them.
            unordered.forget_ordered();
        }
        is_ordered
    }
}
