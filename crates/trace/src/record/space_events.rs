//! Events of virtual blocks and sets as events of traces, with the numbers of their allocations.

use std::collections::HashMap;

use super::raw::Head;
use super::raw_space::{RawSpace, RawVirtualMany, SpaceInfo};
use super::translate::failure;
use super::writing::Writing;
use crate::event::{Call, Data, GroupKind};
use vkmem_engine::{SlotKey, VirtualAllocation, VirtualRequest};

impl Writing {
    /// Encodes what happened in a virtual block or a set.
    pub(super) fn write_space(&mut self, head: &Head, space: u32, what: &RawSpace) {
        match what {
            RawSpace::Create(SpaceInfo { size, algorithm, alignment, margin }) => {
                let (size, algorithm, alignment) = (*size, *algorithm, *alignment);
                let margin = Some(*margin).filter(|it| *it != 0);
                self.push(head, Call::CreateSpace { space, size, algorithm, alignment, margin });
            }
            RawSpace::Destroy => {
                self.spaces.forget(space);
                self.push(head, Call::DestroySpace { space });
            }
            RawSpace::Clear => {
                self.spaces.of(space).clear();
                self.push(head, Call::ClearSpace { space });
            }
            RawSpace::Grow(size) => self.push(head, Call::GrowSpace { space, size: *size }),
            RawSpace::AddBlock(block, size) => {
                self.push(head, Call::AddBlock { space, block: *block, size: *size });
            }
            RawSpace::RemoveBlock(block) => {
                self.spaces.of(space).retain(|(of, _), _| of != block);
                self.push(head, Call::RemoveBlock { space, block: *block });
            }
            RawSpace::Merge => self.push(head, Call::MergeSpace { space }),
            RawSpace::Allocate(block, request, made) => {
                let call = self.virtual_allocated(space, *block, request, made);
                self.push(head, call);
            }
            RawSpace::Refused(request, why) => {
                let failure = why.as_deref().and_then(failure);
                self.push(head, virtual_failed(space, request, failure));
            }
            RawSpace::AllocateMany(many) => {
                let RawVirtualMany { made, failed } = &**many;
                let mut calls = Vec::with_capacity(made.len() + 1);
                for (request, it) in made {
                    calls.push(self.virtual_allocated(space, None, request, it));
                }
                if let Some((request, why)) = failed {
                    calls.push(virtual_failed(space, request, failure(why)));
                }
                self.group(head, GroupKind::VirtualAllocate, calls.into_iter());
            }
            RawSpace::Free(block, key) => {
                if let Some(allocation) = self.spaces.remove(space, *block, *key) {
                    self.push(head, Call::VirtualFree { space, allocation });
                }
            }
            RawSpace::FreeMany(keys) => {
                let found = keys.iter().filter_map(|key| self.spaces.remove(space, 0, *key));
                let found: Vec<u32> = found.collect();
                let calls = found.iter().map(|&allocation| Call::VirtualFree { space, allocation });
                self.group(head, GroupKind::VirtualFree, calls);
            }
            RawSpace::Data(key, text) => {
                if let Some(allocation) = self.spaces.get(space, 0, *key) {
                    let data = text.as_deref().map_or(Data::None, Data::Text);
                    self.push(head, Call::SetVirtualData { space, allocation, data });
                }
            }
            RawSpace::Defragment(algorithm, moves) => {
                self.push(head, Call::DefragmentSpace { space, algorithm: *algorithm });
                // With the buddy algorithm one allocation may move several times: where it ends is told.
                let last: HashMap<SlotKey, usize> =
                    moves.iter().enumerate().map(|(at, it)| (it.key, at)).collect();
                let mut calls = Vec::with_capacity(last.len());
                for (at, it) in moves.iter().enumerate() {
                    if last.get(&it.key) == Some(&at)
                        && let Some(allocation) = self.spaces.get(space, 0, it.key)
                    {
                        let offset = it.new_offset;
                        calls.push(Call::VirtualMove { space, allocation, offset });
                    }
                }
                let head = Head { number: head.number + 1, ..*head };
                self.group(&head, GroupKind::VirtualMove, calls.into_iter());
            }
        }
    }

    fn virtual_allocated(
        &mut self,
        space: u32,
        block: Option<u32>,
        request: &VirtualRequest,
        made: &VirtualAllocation,
    ) -> Call<'static> {
        let VirtualRequest { size, alignment, upper, strategy } = *request;
        let allocation = self.spaces.add(space, block.unwrap_or(0), made.key);
        let offset = made.offset;
        Call::VirtualAllocate { space, allocation, size, alignment, upper, strategy, block, offset }
    }
}

fn virtual_failed<'a>(
    space: u32,
    request: &VirtualRequest,
    failure: Option<Box<crate::values::Failure<'a>>>,
) -> Call<'a> {
    let VirtualRequest { size, alignment, upper, strategy } = *request;
    Call::VirtualAllocateFailed { space, size, alignment, upper, strategy, failure }
}
