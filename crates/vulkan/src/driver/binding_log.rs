//! [`BindingLog`]: which objects the device's addresses are and were bound to.

use std::collections::{HashMap, HashSet, VecDeque};

use ash::vk;
use vkmem_engine::lock::{Mutex, rank};

use crate::driver::faults::AddressBinding;

/// Maximum number of bindings that are over; the oldest are dropped.
const MOST_UNBOUND: usize = 65_536;

/// Maximum number of bindings at one time, about 100 MiB of them; more are not noted.
const MOST_BOUND: usize = 1 << 20;

#[derive(Debug, Default)]
struct Tables {
    /// By type and handle of the object: a sparse one has many ranges.
    bound: HashMap<(vk::ObjectType, u64), Vec<AddressBinding>>,
    bound_count: usize,
    /// Bindings in force that are not told, by type, handle and address.
    hidden: HashSet<(vk::ObjectType, u64, u64)>,
    unbound: VecDeque<AddressBinding>,
    /// Number of bindings and unbindings so far.
    count: u64,
}

/// The bindings of addresses that a device has reported. What is bound stays in it; of what is not any more, the
/// newest 65,536 do.
#[derive(Debug, Default)]
pub struct BindingLog(Mutex<Tables, rank::AddressBindings>);

impl BindingLog {
    /// Notes that a range was bound to an object, or unbound from it. The order and the end are set here.
    pub fn note(&self, binding: AddressBinding, is_bound: bool) {
        let key = (binding.object_type, binding.object);
        let mut tables = self.0.lock();
        tables.count += 1;
        let order = tables.count;
        let known = tables.take(key, binding.address);
        let was_hidden = tables.hidden.remove(&(key.0, key.1, binding.address));
        if is_bound {
            tables.add(key, AddressBinding { order, is_unbound: false, ..binding });
            return;
        }
        if was_hidden {
            return;
        }
        // Its name is that of its life: most drivers tell none at the end.
        let name = binding.name.or_else(|| known.and_then(|it| it.name));
        if tables.unbound.len() == MOST_UNBOUND {
            tables.unbound.pop_front();
        } else if tables.unbound.try_reserve(1).is_err() {
            return;
        }
        tables.unbound.push_back(AddressBinding { name, order, is_unbound: true, ..binding });
    }

    /// Leaves out the bindings that an object has now, also once they are over: the program knows nothing of objects
    /// that this library makes for itself. To be called when the object is bound, as another one may have its handle
    /// once it is destroyed.
    pub fn hide(&self, object_type: vk::ObjectType, object: u64) {
        let mut tables = self.0.lock();
        let Tables { bound, hidden, .. } = &mut *tables;
        for it in bound.get(&(object_type, object)).into_iter().flatten() {
            if hidden.try_reserve(1).is_ok() {
                hidden.insert((object_type, object, it.address));
            }
        }
    }

    /// Returns the bindings, now and before, that have an address from `low` to `high`. Those in force come
    /// first, then the newest.
    pub fn covering(&self, low: u64, high: u64) -> Vec<AddressBinding> {
        let tables = self.0.lock();
        let covers = |it: &&AddressBinding| {
            it.size > 0 && it.address <= high && low <= it.address.saturating_add(it.size - 1)
        };
        let is_told = |it: &&AddressBinding| {
            !tables.hidden.contains(&(it.object_type, it.object, it.address))
        };
        let bound = tables.bound.values().flatten().filter(is_told);
        let all = bound.chain(&tables.unbound);
        let mut found: Vec<_> = all.filter(covers).cloned().collect();
        drop(tables);
        found.sort_by_key(|it| (it.is_unbound, std::cmp::Reverse(it.order)));
        found
    }

    /// Returns the lowest address that is bound to an object now.
    pub fn address_of(&self, object_type: vk::ObjectType, object: u64) -> Option<u64> {
        let tables = self.0.lock();
        tables.bound.get(&(object_type, object))?.iter().map(|it| it.address).min()
    }
}

impl Tables {
    /// Removes a binding that is in force.
    fn take(&mut self, key: (vk::ObjectType, u64), address: u64) -> Option<AddressBinding> {
        let of_object = self.bound.get_mut(&key)?;
        let at = of_object.iter().position(|it| it.address == address)?;
        let taken = of_object.swap_remove(at);
        if of_object.is_empty() {
            self.bound.remove(&key);
        }
        self.bound_count -= 1;
        Some(taken)
    }

    /// Adds a binding, if there is room.
    fn add(&mut self, key: (vk::ObjectType, u64), binding: AddressBinding) {
        if self.bound_count < MOST_BOUND && self.bound.try_reserve(1).is_ok() {
            self.bound.entry(key).or_default().push(binding);
            self.bound_count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(object: u64, address: u64, size: u64) -> AddressBinding {
        AddressBinding {
            address,
            size,
            object_type: vk::ObjectType::BUFFER,
            object,
            name: None,
            is_internal: false,
            order: 0,
            is_unbound: false,
        }
    }

    fn handles(found: &[AddressBinding]) -> Vec<(u64, bool)> {
        found.iter().map(|it| (it.object, it.is_unbound)).collect()
    }

    #[test]
    fn what_is_bound_comes_before_what_was() {
        let log = BindingLog::default();
        for object in 1..=3 {
            log.note(binding(object, 4096, 256), true);
            if object < 3 {
                log.note(binding(object, 4096, 256), false);
            }
        }
        assert_eq!(handles(&log.covering(4100, 4100)), [(3, false), (2, true), (1, true)]);
        assert_eq!(handles(&log.covering(0, 4095)), []);
        assert_eq!(handles(&log.covering(4352, u64::MAX)), []);
        assert_eq!(log.covering(4351, u64::MAX).len(), 3);
        assert_eq!(log.address_of(vk::ObjectType::BUFFER, 3), Some(4096));
        assert_eq!(log.address_of(vk::ObjectType::BUFFER, 2), None);
        assert_eq!(log.address_of(vk::ObjectType::IMAGE, 3), None);
    }

    #[test]
    fn what_is_hidden_is_not_told_and_its_handle_can_be_used_again() {
        let log = BindingLog::default();
        log.note(binding(1, 0, 64), true);
        log.note(binding(1, 0, 64), false);
        log.note(binding(1, 0, 64), true);
        log.hide(vk::ObjectType::BUFFER, 1);
        assert_eq!(handles(&log.covering(0, 0)), [(1, true)], "the earlier one with its handle");
        log.note(binding(1, 0, 64), false);
        assert_eq!(handles(&log.covering(0, 0)), [(1, true)]);
        log.note(binding(1, 0, 64), true);
        assert_eq!(handles(&log.covering(0, 0)), [(1, false), (1, true)]);
        log.note(binding(1, 0, 64), false);
        assert_eq!(handles(&log.covering(0, 0)), [(1, true), (1, true)]);
    }

    #[test]
    fn a_name_outlives_its_object() {
        let log = BindingLog::default();
        log.note(AddressBinding { name: Some("mesh".into()), ..binding(7, 0, 16) }, true);
        log.note(binding(7, 0, 16), false);
        assert_eq!(log.covering(0, 0)[0].name.as_deref(), Some("mesh"));
    }

    #[test]
    fn the_oldest_that_are_over_are_dropped_and_none_that_is_bound() {
        let log = BindingLog::default();
        log.note(binding(u64::MAX, 0, u64::MAX), true);
        let count = MOST_UNBOUND as u64 + 10;
        for object in 0..count {
            log.note(binding(object, 0, 8), true);
            log.note(binding(object, 0, 8), false);
        }
        let found = log.covering(0, 0);
        assert_eq!(found.len(), 1 + MOST_UNBOUND);
        assert_eq!(handles(&found[..2]), [(u64::MAX, false), (count - 1, true)]);
        assert_eq!(found.last().map(|it| it.object), Some(10));
    }

    #[test]
    fn an_empty_range_covers_nothing() {
        let log = BindingLog::default();
        log.note(binding(1, 64, 0), true);
        assert_eq!(log.covering(0, u64::MAX), []);
    }
}
