//! [`Order`]: events of several threads in the order of their numbers.

use super::raw::Raw;

/// Puts events in the order of their numbers. A thread may be stopped between the moment at which its event took effect and
/// the moment at which it tells it, so each event waits for a round: what is told up to then goes before it.
#[derive(Default)]
pub(super) struct Order {
    waiting: Vec<Raw>,
}

impl Order {
    /// Takes the events of a round, and leaves those in `events` whose turn it is; with `all`, none waits.
    pub fn turn(&mut self, events: &mut Vec<Raw>, all: bool) {
        let last = self.waiting.last().map(|it| it.head.number);
        self.waiting.append(events);
        self.waiting.sort_by_key(|it| it.head.number);
        let ready = match all {
            true => self.waiting.len(),
            false => self.waiting.partition_point(|it| Some(it.head.number) <= last),
        };
        events.extend(self.waiting.drain(..ready));
    }

    /// Returns whether events wait for the next round.
    pub fn holds_any(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::raw::{Head, NO_SITE, What};
    use super::*;

    fn events(numbers: &[u64]) -> Vec<Raw> {
        let raw = |&number: &u64| {
            let (time, thread, allocator) = (0, 0, 0);
            let head = Head { number, time, thread, site: NO_SITE, allocator, is_state: false };
            Raw { head, what: What::Trim(0) }
        };
        numbers.iter().map(raw).collect()
    }

    #[test]
    fn an_event_waits_for_those_before_it() {
        let mut order = Order::default();
        let mut turn = |numbers: &[u64], all| {
            let mut events = events(numbers);
            order.turn(&mut events, all);
            let ready: Vec<u64> = events.iter().map(|it| it.head.number).collect();
            (ready, order.holds_any())
        };
        assert_eq!(turn(&[], false), (vec![], false));
        assert_eq!(turn(&[1, 3], false), (vec![], true));
        assert_eq!(turn(&[5, 2, 4], false), (vec![1, 2, 3], true));
        assert_eq!(turn(&[], false), (vec![4, 5], false));
        assert_eq!(turn(&[8, 6], false), (vec![], true));
        assert_eq!(turn(&[7, 9], true), (vec![6, 7, 8, 9], false));
    }
}
