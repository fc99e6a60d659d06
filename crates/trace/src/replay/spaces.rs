//! Virtual blocks and sets of them.

use std::collections::HashMap;

use vkmem_engine::{Error, VirtualBlock, VirtualBlocks, VirtualRequest};

use super::objects::{LiveVirtual, Space};
use super::tally::reason;
use super::worker::{NO_OBJECT, Worker};
use crate::event::{Call, Event, Kind};
use crate::values::Failure;

/// A place in a virtual block or set: its block, its handle, its offset.
type Made = (u32, vkmem_engine::VirtualAllocation);

impl Space {
    fn allocate(&mut self, request: &VirtualRequest) -> Result<Option<Made>, Error> {
        match self {
            Self::Block(block) => block.allocate(request).map(|it| Some((0, it))),
            Self::Set(set, _) => set.allocate(request.size, request.alignment),
        }
    }
}

/// What came of a recorded request: the number of the allocation, its block if it is in a set, its offset.
type Then = (u32, Option<u32>, u64);

/// Returns the space and the request of an event, and what came of it; `None` if it failed.
fn parts(call: &Call<'_>) -> Option<(u32, VirtualRequest, Option<Then>)> {
    Some(match *call {
        Call::VirtualAllocate {
            space,
            allocation,
            size,
            alignment,
            upper,
            strategy,
            block,
            offset,
        } => {
            let request = VirtualRequest { size, alignment, upper, strategy };
            (space, request, Some((allocation, block, offset)))
        }
        Call::VirtualAllocateFailed { space, size, alignment, upper, strategy, .. } => {
            (space, VirtualRequest { size, alignment, upper, strategy }, None)
        }
        _ => return None,
    })
}

impl Worker<'_> {
    /// Calls a function with a block or set and counts that.
    fn in_space<R>(
        &mut self,
        kind: Kind,
        number: u32,
        call: impl FnOnce(&mut Space) -> Result<R, Error>,
    ) -> Option<Result<R, Error>> {
        let world = self.world;
        let mut slot = world.spaces.lock(number);
        let Some(space) = slot.as_mut().and_then(|it| it.as_mut()) else {
            self.tally.skip(NO_OBJECT);
            return None;
        };
        Some(self.timed(kind, || call(space)))
    }

    /// Plays a virtual allocation that succeeded or failed.
    pub fn virtual_allocate(&mut self, index: usize, event: &Event<'_>) {
        let Some((space, request, _)) = parts(&event.call) else { return };
        let kind = event.call.kind();
        if let Some(made) = self.in_space(kind, space, |it| it.allocate(&request)) {
            self.made_virtual(index, event, made);
        }
    }

    fn made_virtual(&mut self, index: usize, event: &Event<'_>, made: Result<Option<Made>, Error>) {
        let Some((space, request, then)) = parts(&event.call) else { return };
        let VirtualRequest { size, alignment, upper, strategy } = request;
        match (then, made) {
            (Some((allocation, block, offset)), Ok(Some((now, it)))) => {
                if self.world.is_exact {
                    self.tally.placements.checked += 1;
                    if it.offset != offset || block.is_some_and(|block| block != now) {
                        let place = |block: u32, offset| format!("block {block}, offset {offset}");
                        let recorded = place(block.unwrap_or(0), offset);
                        self.tally.placements.differ(index, recorded, place(now, it.offset));
                    }
                }
                let live =
                    LiveVirtual { space, block: now, key: it.key, event: index as u32, data: None };
                self.world.virtuals.put(allocation, live);
                let (block, offset) = (block.map(|_| now), it.offset);
                let call = Call::VirtualAllocate {
                    space,
                    allocation,
                    size,
                    alignment,
                    upper,
                    strategy,
                    block,
                    offset,
                };
                self.record(event, call);
            }
            (None, Ok(Some((block, it)))) => {
                self.tally.succeeded_now.add(index, 0, || "a virtual allocation".into());
                let is_set = self.world.spaces.with(space, |space| match space {
                    Space::Block(one) => {
                        let _ = one.free(it.key);
                        false
                    }
                    Space::Set(set, _) => {
                        let _ = set.free(block, it.key);
                        true
                    }
                });
                let number = self.recording.as_mut().map(|it| it.number_virtual());
                if let (Some(allocation), Some(is_set)) = (number, is_set) {
                    let (block, offset) = (is_set.then_some(block), it.offset);
                    let call = Call::VirtualAllocate {
                        space,
                        allocation,
                        size,
                        alignment,
                        upper,
                        strategy,
                        block,
                        offset,
                    };
                    self.record(event, call);
                    self.record(event, Call::VirtualFree { space, allocation });
                }
            }
            (then, made) => {
                let message = made.as_ref().err().map(reason);
                match then {
                    Some(_) => self.tally.failed_now.add(index, 0, || {
                        message.clone().unwrap_or_else(|| "no block of the set has room".into())
                    }),
                    None => self.tally.failed_again += 1,
                }
                let failure = made.as_ref().err().zip(message.as_deref());
                let failure = failure.map(|(error, message)| Box::new(Failure::of(error, message)));
                let call = Call::VirtualAllocateFailed {
                    space,
                    size,
                    alignment,
                    upper,
                    strategy,
                    failure,
                };
                self.record(event, call);
            }
        }
    }

    /// Plays a call that allocates many, up to the first that fails.
    pub fn virtual_allocate_many(
        &mut self,
        index: usize,
        event: &Event<'_>,
        events: &[Event<'_>],
    ) -> bool {
        let all: Vec<_> = events.iter().filter_map(|it| parts(&it.call)).collect();
        let Some(&(space, ..)) = all.first() else { return false };
        if all.iter().any(|it| it.0 != space) {
            return false;
        }
        let mut made = Vec::new();
        let result = self.in_space(Kind::Group, space, |space| match space {
            Space::Block(block) => {
                block.allocate_many(all.iter().map(|it| it.1), |it| made.push((0, it)))
            }
            Space::Set(set, _) => {
                for (_, request, _) in &all {
                    match set.allocate(request.size, request.alignment)? {
                        Some(it) => made.push(it),
                        None => break,
                    }
                }
                Ok(())
            }
        });
        let Some(result) = result else { return true };
        self.record(event, event.call.clone());
        let count = made.len();
        for ((index, event), it) in (index + 1..).zip(events).zip(made) {
            self.made_virtual(index, event, Ok(Some(it)));
        }
        // The first that has no place failed; the others were not tried.
        if let Some(event) = events.get(count) {
            self.made_virtual(index + 1 + count, event, result.map(|()| None));
        }
        true
    }

    /// Plays a virtual free.
    pub fn virtual_free(&mut self, event: &Event<'_>, space: u32, allocation: u32) {
        let Some(live) = self.world.virtuals.take(allocation).filter(|it| it.space == space) else {
            return self.tally.skip(NO_OBJECT);
        };
        let _ = self.in_space(Kind::VirtualFree, space, |space| match space {
            Space::Block(block) => block.free(live.key),
            Space::Set(set, _) => set.free(live.block, live.key).map(drop),
        });
        self.record(event, event.call.clone());
    }

    /// Plays a call that frees many.
    pub fn virtual_free_many(&mut self, _: usize, event: &Event<'_>, events: &[Event<'_>]) -> bool {
        let mut all = Vec::new();
        for it in events {
            if let Call::VirtualFree { space, allocation } = it.call {
                match self.world.virtuals.take(allocation).filter(|it| it.space == space) {
                    Some(live) => all.push(live),
                    None => self.tally.skip(NO_OBJECT),
                }
            }
        }
        if let Some(first) = all.first().copied() {
            let _ = self.in_space(Kind::Group, first.space, |space| match space {
                Space::Block(block) => block.free_many(all.iter().map(|it| it.key)),
                Space::Set(set, _) => {
                    all.iter().try_for_each(|it| set.free(it.block, it.key).map(drop))
                }
            });
        }
        self.record(event, event.call.clone());
        events.iter().for_each(|it| self.record(it, it.call.clone()));
        true
    }

    /// Plays what happens to a block or set as a whole.
    pub fn space(&mut self, index: usize, event: &Event<'_>) {
        let kind = event.call.kind();
        match event.call {
            Call::CreateSpace { space, size, algorithm, alignment, margin } => {
                let algorithm = self.world.settings.algorithm.unwrap_or(algorithm);
                let units = margin.unwrap_or(0);
                let made = self.timed(kind, || match size {
                    Some(size) => VirtualBlock::with_margin(size, algorithm, units)
                        .map(|it| Space::Block(Box::new(it))),
                    None => {
                        let set = VirtualBlocks::with_margin(algorithm, alignment, units);
                        Ok(Space::Set(Box::new(set), HashMap::new()))
                    }
                });
                match made {
                    Ok(made) => _ = self.world.spaces.put(space, made),
                    Err(error) => {
                        return self.tally.failed_now.add(index, 0, || reason(&error));
                    }
                }
                let call = Call::CreateSpace { space, size, algorithm, alignment, margin };
                return self.record(event, call);
            }
            Call::DestroySpace { space } => {
                if self.world.spaces.take(space).is_none() {
                    return self.tally.skip(NO_OBJECT);
                }
                let _ = self.timed(kind, || Ok(()));
            }
            Call::ClearSpace { space } => {
                let cleared = self.in_space(kind, space, |it| match it {
                    Space::Block(block) => {
                        block.clear();
                        Ok(())
                    }
                    Space::Set(..) => Err(Error::InvalidArgument("a set is not cleared".into())),
                });
                if cleared.is_none() {
                    return;
                }
            }
            Call::GrowSpace { space, size } => {
                let _ = self.in_space(kind, space, |it| match it {
                    Space::Block(block) => block.grow(size),
                    Space::Set(..) => Err(Error::InvalidArgument("a set does not grow".into())),
                });
            }
            Call::AddBlock { space, block, size } => {
                let made = self.in_space(kind, space, |it| match it {
                    Space::Set(set, added) => {
                        let number = set.add(size)?;
                        added.insert(number, index as u32);
                        Ok(number)
                    }
                    Space::Block(_) => Err(Error::InvalidArgument("this is no set".into())),
                });
                let Some(Ok(now)) = made else { return };
                if self.world.is_exact && now != block {
                    let recorded = format!("block {block}");
                    self.tally.placements.differ(index, recorded, format!("block {now}"));
                }
                return self.record(event, Call::AddBlock { space, block: now, size });
            }
            Call::RemoveBlock { space, block } => {
                let _ = self.in_space(kind, space, |it| match it {
                    Space::Set(set, _) => set.remove(block),
                    Space::Block(_) => Err(Error::InvalidArgument("this is no set".into())),
                });
            }
            Call::DefragmentSpace { space, algorithm } => {
                let _ = self.in_space(kind, space, |it| match it {
                    Space::Block(block) => block.defragment(algorithm).map(drop),
                    Space::Set(..) => {
                        Err(Error::InvalidArgument("a set is not defragmented".into()))
                    }
                });
            }
            Call::MergeSpace { space } => {
                let merged = self.in_space(kind, space, |it| match it {
                    Space::Block(block) => {
                        let _ = block.statistics();
                        Ok(())
                    }
                    Space::Set(..) => Err(Error::InvalidArgument("a set is not counted".into())),
                });
                if merged.is_none() {
                    return;
                }
            }
            Call::SetVirtualData { allocation, .. } => {
                let noted = self.world.virtuals.with(allocation, |it| it.data = Some(index as u32));
                if noted.is_none() {
                    return self.tally.skip(NO_OBJECT);
                }
            }
            // It was done with the defragmentation; where the allocation is now can be compared.
            Call::VirtualMove { space, allocation, offset } => {
                return self.check_virtual(index, event, space, allocation, offset);
            }
            _ => {}
        }
        self.record(event, event.call.clone());
    }

    fn check_virtual(
        &mut self,
        index: usize,
        event: &Event<'_>,
        space: u32,
        allocation: u32,
        offset: u64,
    ) {
        let Some(live) = self.world.virtuals.with(allocation, |it| *it) else {
            return self.tally.skip(NO_OBJECT);
        };
        let now = self.world.spaces.with(space, |it| match it {
            Space::Block(block) => block.info(live.key).ok().map(|it| it.offset),
            Space::Set(..) => None,
        });
        let now = now.flatten();
        if self.world.is_exact {
            self.tally.placements.checked += 1;
            if now != Some(offset) {
                let now = format!("offset {now:?}");
                self.tally.placements.differ(index, format!("offset {offset}"), now);
            }
        }
        if let Some(offset) = now {
            self.record(event, Call::VirtualMove { space, allocation, offset });
        }
    }
}
