//! [`Unordered`]: commands of the program that neither a barrier nor a wait puts in an order.

use vkmem_engine::Finding;

use crate::simulated::hazards::{Access, find_hazard};

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
pub(super) struct Loose {
    pub(super) submission: u64,
    /// Its number in the submission, not counting barriers.
    pub(super) at: usize,
    pub(super) side: Side,
    /// Whether a barrier of its queue came after it.
    pub(super) has_barrier: bool,
    pub(super) accesses: Vec<Access>,
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

    /// Forgets what no command of another queue can meet either.
    pub(super) fn forget_ordered(&mut self) {
        self.0.retain(|it| !it.has_barrier);
    }

    /// Adds commands that have no barrier between them; returns the first two that nothing orders, if one is new.
    pub(super) fn add(&mut self, group: Vec<Loose>) -> Option<Finding> {
        let side = group.first()?.side;
        let open = self.0.iter().filter(|it| it.side != side || !it.has_barrier);
        let told = open.clone().count();
        let all: Vec<&Loose> = open.chain(&group).collect();
        let accesses: Vec<_> = all.iter().map(|it| &it.accesses).enumerate().collect();
        // Two of one submission are found when it is executed.
        let hazard = find_hazard(&accesses, |one, other| {
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
