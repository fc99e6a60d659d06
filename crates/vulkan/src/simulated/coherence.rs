//! Flushes and invalidates that are missing: on non-coherent memory the host and the device see bytes of their own.

use vkmem_engine::words::bytes;
use vkmem_engine::{Call, DeviceMemory, Finding, MemoryRange, ViolationKind};

use crate::driver::submission::TransferCommand;
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::transfer::LastCopy;
use crate::simulated::work::{Piece, Plan, Work};

impl SimulatedDriver {
    /// A violation for each command that reads bytes which the host wrote and did not flush before the submission.
    /// They are read as they were before, which is allowed, and hardly ever meant.
    pub(super) fn check_flushed(&self, submission: u64, commands: &[TransferCommand]) {
        let info = self.device.info();
        let types = 0..info.types.len() as u32;
        if !types.into_iter().any(|index| info.is_non_coherent(index)) {
            return;
        }
        let is_barrier = |command: &&TransferCommand| matches!(command, TransferCommand::Barrier);
        let commands = commands.iter().filter(|command| !is_barrier(command));
        let mut last = LastCopy::default();
        for (at, command) in commands.enumerate() {
            // What is invalid is told when the command is executed.
            let Ok(plan) = self.plan(command, &mut last) else { continue };
            let Some(lost) = self.unflushed_source(&plan) else { continue };
            let MemoryRange { memory, offset, size } = lost;
            let source = plan.accesses.iter().find(|it| !it.writes).map_or(0, |it| it.resource);
            let reader = format!("command {at} of submission {submission}");
            let text = format!(
                "the host wrote {} at offset {offset} of memory {:#x} and did not flush them before {reader}, \
                 which reads {source:#x} there and sees what was there before",
                bytes(size),
                memory.0,
            );
            let found = Finding::new(ViolationKind::MissingFlush, text).at(lost).of(source);
            self.device.report(Call::Submit, found.with(reader));
        }
    }

    /// Returns the smallest range with all bytes that a command reads and the host has not flushed.
    fn unflushed_source(&self, plan: &Plan) -> Option<MemoryRange> {
        let Work::Copy(pieces) = &plan.work else { return None };
        let mut all: Option<MemoryRange> = None;
        for Piece { from: (memory, offset), size, .. } in pieces {
            let range = MemoryRange { memory: *memory, offset: *offset, size: *size };
            let Some(found) = self.device.unflushed(range) else { continue };
            let (mut start, mut end) = (found.start, found.end);
            if let Some(before) = all {
                start = start.min(before.offset);
                end = end.max(before.offset + before.size);
            }
            all = Some(MemoryRange { memory: *memory, offset: start, size: end - start });
        }
        all
    }

    /// A violation where the host reads what the device wrote since the last invalidate.
    pub(super) fn check_invalidated(&self, range: MemoryRange) {
        let Some(found) = self.device.not_invalidated(range) else { return };
        let stale = MemoryRange { offset: found.start, size: found.end - found.start, ..range };
        let text = format!(
            "the device wrote {} at offset {} of memory {:#x}, and the host reads there without an invalidate: it \
             sees what was there before",
            bytes(stale.size),
            stale.offset,
            stale.memory.0
        );
        let found = Finding::new(ViolationKind::MissingInvalidate, text).at(stale);
        self.device.report(Call::Invalidate, found.with("the device"));
    }
}
