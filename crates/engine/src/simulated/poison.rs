//! What is seen through the address of memory that was unmapped: a pattern, while the bytes are kept aside.

use std::sync::Arc;

use super::store::{self, LazyStore};
use super::{Object, SimulatedDevice};

impl SimulatedDevice {
    /// The byte that unmapped memory consists of, seen through its old address.
    pub const POISON: u8 = store::POISON;

    /// Sets whether memory is filled with [`POISON`](Self::POISON) while it is not mapped, as far as the host sees
    /// it through the address of an earlier mapping. The device goes on to see the bytes, and so does the host from
    /// the next map on. Memory that is freed stays at its address, up to 256 MiB of it.
    ///
    /// Not applied to memory that was imported or can be exported, which others may have mapped. Each map and
    /// unmap copies the whole memory object.
    pub fn set_poison_unmapped(&self, on: bool) {
        self.unmapped.set_poisoned(on);
    }

    /// Returns whether unmapped memory is filled with a pattern.
    pub fn poisons_unmapped(&self) -> bool {
        self.unmapped.is_poisoned()
    }

    /// Returns the host's bytes of an object that unmapping it is to replace by the pattern.
    pub(super) fn to_poison(&self, object: &Object) -> Option<Arc<LazyStore>> {
        let public = &object.public;
        let is_shared = public.export_handle_types != 0 || public.import_handle_type != 0;
        (self.poisons_unmapped() && !is_shared).then(|| Arc::clone(&object.host))
    }

    /// Keeps the memory of an object that was freed at its address.
    pub(super) fn keep_freed(&self, object: &Object) {
        let Some(store) = self.to_poison(object).and_then(|host| host.peek()) else { return };
        if !store.is_poisoned() && !object.public.mapped {
            // Never mapped: nobody knows the address.
            return;
        }
        store.poison_for_good();
        self.unmapped.keep(store);
    }
}
