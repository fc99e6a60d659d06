//! Commands of the program's own command buffers, which only the program puts in an order.
//!
//! What this library submits or records lies between two full barriers of its own. Everything else needs a barrier
//! of the program against earlier commands of the same queue, also against those of earlier submissions, and a wait
//! of the host between two queues: a simulated device has no semaphores for programs.

use vkmem_engine::{Call, Finding};

use crate::driver::submission::TransferCommand;
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::hazards::{Access, find_hazard};
use crate::simulated::transfer::LastCopy;

/// How many commands are remembered: a program that never waits forgets the others.
const MOST_COMMANDS: usize = 4096;

/// Which queue a submission is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Main,
    Second,
}

/// A command that has been submitted, and whose end the program has not waited for.
#[derive(Debug)]
struct Loose {
    submission: u64,
    /// Its number in the submission, not counting barriers.
    at: usize,
    side: Side,
    /// Whether a barrier of its queue came after it.
    has_barrier: bool,
    accesses: Vec<Access>,
}

impl Loose {
    fn name(&self) -> String {
        format!("command {} of submission {}", self.at, self.submission)
    }
}

/// Commands of the program that nothing orders yet.
#[derive(Debug, Default)]
pub(super) struct Unordered(Vec<Loose>);

impl Unordered {
    /// The program knows that submissions up to a number have ended.
    pub(super) fn ended(&mut self, up_to: u64) {
        self.0.retain(|it| it.submission > up_to);
    }

    /// A full barrier on a queue: what comes after it is ordered.
    pub(super) fn barrier(&mut self, side: Side) {
        self.0.iter_mut().filter(|it| it.side == side).for_each(|it| it.has_barrier = true);
    }

    /// Adds commands that have no barrier between them; returns the first two that nothing orders, if one is new.
    fn add(&mut self, group: Vec<Loose>) -> Option<Finding> {
        let side = group.first()?.side;
        let open = self.0.iter().filter(|it| it.side != side || !it.has_barrier);
        let told = open.clone().count();
        let all: Vec<&Loose> = open.chain(&group).collect();
        let accesses = all.iter().enumerate();
        let accesses = accesses.flat_map(|(at, it)| it.accesses.iter().map(move |it| (at, it)));
        // Two of one submission are found when it is executed.
        let hazard = find_hazard(accesses, |one, other| {
            one.max(other) >= told && all[one].submission != all[other].submission
        });
        let found = hazard.map(|hazard| {
            let [first, second] = hazard.commands.map(|at| all[at]);
            let who = format!("{} and {}", first.name(), second.name());
            let same = first.side == second.side;
            hazard.finding(&who, &first.name(), if same { "barrier" } else { "wait" })
        });
        self.0.extend(group);
        let surplus = self.0.len().saturating_sub(MOST_COMMANDS);
        self.0.drain(..surplus);
        found
    }
}

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
        let (mut at, mut last) = (0, LastCopy::default());
        let is_barrier = |command: &TransferCommand| matches!(command, TransferCommand::Barrier);
        for (index, group) in commands.split(is_barrier).enumerate() {
            if index > 0 {
                unordered.barrier(side);
            }
            let mut loose = Vec::with_capacity(group.len());
            for command in group {
                // What is invalid is told when the command is executed.
                let plan = self.plan(command, &mut last);
                let accesses = plan.map(|plan| plan.accesses).unwrap_or_default();
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
            unordered.0.retain(|it| !it.has_barrier);
        }
        is_ordered
    }
}
