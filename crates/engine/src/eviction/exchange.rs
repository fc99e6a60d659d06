//! A place for a request in exchange for whole memory objects: its own block, another one's dedicated memory, or new
//! memory.
//!
//! A new memory object is allocated first where only a limit or a budget is in the way, so nobody is lost if the
//! driver refuses it. Where the driver itself has no memory, room that needs no new object is taken before. What
//! remains: a driver that refuses memory again, or to map it, right after as many bytes of the heap were freed in
//! one exchange has cost their owners.

use super::attempt::{Attempt, Taken, commit_in_group};
use super::group::{Group, GroupKey, Mark};
use super::heap_memory::{Need, Unit};
use crate::device::DeviceError;
use crate::error::Error;
use crate::handle::{Allocation, AllocationId};
use crate::heap::ledger::Offer;
use crate::pools::arena::evicting::Hole;
use crate::pools::pool::Pool;
use crate::pools::pool::exchange::Booked;
use crate::request::AllocationRequest;
use crate::suballocator::RegionRequest;

/// The oldest dedicated allocations among which one with fitting memory is looked for.
const MOST_DEDICATED: usize = 1024;

/// Returns what is freed with these memory objects.
fn offer(units: &[Unit]) -> Offer {
    let bytes = units.iter().fold(0u64, |sum, unit| sum.saturating_add(unit.bytes()));
    Offer { bytes, objects: units.len() as u32 }
}

impl Attempt<'_> {
    /// Allocates a memory object for a request that a limit or a budget refuses, and takes others away for it.
    pub fn in_exchange(
        &mut self,
        pool: &Pool,
        request: &AllocationRequest,
        taken: &mut Taken,
    ) -> Option<Allocation> {
        while self.again() {
            let need = Need::of_limits(pool, request)?;
            let chosen = self.choose_units(&need)?;
            let mut prepared = match pool.prepare(request, offer(&chosen).bytes) {
                Ok(prepared) => prepared,
                Err(memory_could_help) => {
                    self.may_free = memory_could_help;
                    return None;
                }
            };
            let mut placed = None;
            self.take_units(&chosen, taken, &mut || {
                placed = prepared.install();
                placed.is_some()
            });
            if let Some(placed) = placed {
                return Some(prepared.finish(&placed, &taken.releases));
            }
        }
        None
    }

    /// Places a request in a block of its pool, in place of all that is in it.
    pub fn in_block(
        &mut self,
        pool: &Pool,
        group: &Group,
        (request, region): (&AllocationRequest, &RegionRequest),
        taken: &mut Taken,
    ) -> Option<Allocation> {
        while self.again() {
            let unit = self.choose_units(&Need::of_block(pool, region.size))?.pop()?;
            let (block, marks) = unit.into_block()?;
            let hold = self.hold(pool, request, marks.first()?.id)?;
            let hole = Hole::Block(block);
            if let Some(placed) = self.take_hole(pool, group, (&hole, &marks), region, taken) {
                let made = pool.placed(placed, request).ok();
                drop(hold);
                return made;
            }
        }
        None
    }

    /// Gives a request the memory object of a dedicated allocation, if one was allocated as the request would have it.
    pub fn in_dedicated(
        &mut self,
        pool: &Pool,
        request: &AllocationRequest,
        taken: &mut Taken,
    ) -> Option<Allocation> {
        let group = self.eviction.group(GroupKey { pool: pool.pool_key(), dedicated: true })?;
        while self.again() {
            let rule = self.eviction.rule(&group, &self.reach)?;
            let marks = self.oldest(&group, &rule, MOST_DEDICATED)?;
            let fits = |mark: &Mark| pool.is_loose(mark.id) && pool.could_reuse(request, mark.id);
            let mark = marks.into_iter().find(fits)?;
            let hold = self.hold(pool, request, mark.id)?;
            let mut placed = None;
            taken.reserve(1, 0)?;
            self.ask(&[mark.id], &mut || {
                commit_in_group(&group, &[mark], |_| {
                    let id = AllocationId::new(pool.pool_key(), true, mark.id.key);
                    placed = pool.reuse(request, id, &mut |tag| taken.note(id, tag));
                    placed.is_some()
                })
            });
            if let Some(placed) = placed {
                let made = pool.placed_in_dedicated(placed, request).ok();
                drop(hold);
                return made;
            }
        }
        None
    }

    /// Frees memory for a request that the driver refuses, once. The exchange is booked before anybody is taken away.
    pub fn in_freed(
        &mut self,
        pool: &Pool,
        request: &AllocationRequest,
        taken: &mut Taken,
    ) -> Option<Allocation> {
        while self.may_free && self.again() {
            // Somebody else may have freed enough meanwhile.
            let too_many = match pool.allocate(request) {
                Ok(made) => return Some(made),
                Err(Error::OutOfDeviceMemory { .. }) => false,
                Err(Error::TooManyObjects { .. }) => true,
                Err(Error::Refused { result: DeviceError::TooManyObjects, .. }) => true,
                Err(_) => return None,
            };
            let chosen = self.choose_units(&Need::of_driver(pool, request, too_many))?;
            let offer = offer(&chosen);
            // Where there are only too many objects, there is memory.
            let most = if too_many { u64::MAX } else { offer.bytes };
            let mut booked: Option<Booked> = None;
            let done = self.take_units(&chosen, taken, &mut || {
                booked = pool.book(request, offer, most);
                booked.is_some()
            });
            let Some(mut booked) = booked.filter(|_| done) else { continue };
            booked.pay(&taken.releases);
            // Memory objects are freed here, after the owner has destroyed what was in them.
            taken.releases.clear();
            let placed = pool.take_booked(request, booked).and_then(|mut prepared| {
                let placed = prepared.install()?;
                Some(prepared.finish(&placed, &[]))
            });
            // A refusal must not cost even more.
            return placed.or_else(|| pool.allocate(request).ok());
        }
        None
    }
}
