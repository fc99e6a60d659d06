//! Events of the engine as events of traces.

use vkmem_engine::recording::{Subject, ToldObject};
use vkmem_engine::{
    AllocationId, AllocationRequest, DeviceError, MoveKind, PoolCreateInfo, PoolId, ResourceUse,
};

use super::raw::{Head, RawEnd, RawMany, What};
use super::raw_failure::RawFailure;
use super::writing::Writing;
use crate::event::{Call, Data, GroupKind, MoveResult, Object};
use crate::values::{BufferInfo, Failure, ImageInfo, Numbers, Request, Resource};

/// Returns the resource as traces have it, and the size of a buffer.
fn resource(subject: &Subject) -> (Resource, Option<u64>) {
    match *subject {
        Subject::None => (Resource::Unknown, None),
        Subject::Buffer { size, flags, usage, sharing_mode } => {
            (Resource::Buffer(BufferInfo { flags, usage, sharing_mode }), Some(size))
        }
        Subject::Image {
            flags,
            image_type,
            format,
            extent,
            mip_levels,
            array_layers,
            samples,
            tiling,
            usage,
            sharing_mode,
            initial_layout,
        } => {
            let image = ImageInfo {
                flags,
                image_type,
                format,
                extent,
                mip_levels,
                array_layers,
                samples,
                tiling,
                usage,
                sharing_mode,
                initial_layout,
            };
            (Resource::Image(image), None)
        }
    }
}

pub(super) fn failure(of: &RawFailure) -> Option<Box<Failure<'_>>> {
    let RawFailure { reason, result, figures, ref message } = *of;
    Some(Box::new(Failure { reason, result, figures, message: Some(message) }))
}

impl Writing {
    /// Encodes what happened.
    pub(super) fn write(&mut self, head: &Head, what: &What) {
        let of = head.allocator;
        match what {
            What::Allocate(request, subject, made) => self.allocated(head, request, subject, made),
            What::Free(id) => {
                if let Some(allocation) = self.numbers.remove(of, *id) {
                    self.push(head, Call::Free { allocation });
                }
            }
            What::Refused(request, subject, why) => self.refused(head, request, subject, Some(why)),
            What::AllocateMany(many) => self.allocated_many(head, many),
            What::FreeMany(ids) => {
                let freed: Vec<u32> =
                    ids.iter().filter_map(|id| self.numbers.remove(of, *id)).collect();
                let calls = freed.iter().map(|&allocation| Call::Free { allocation });
                self.group(head, GroupKind::Free, calls);
            }
            What::Flush { ranges, invalidates } => {
                let found = ranges.iter().filter_map(|it| {
                    let allocation = self.numbers.get(of, it.id)?;
                    let (offset, size) = (it.offset, it.size);
                    Some(match invalidates {
                        false => Call::Flush { allocation, offset, size },
                        true => Call::Invalidate { allocation, offset, size },
                    })
                });
                let calls: Vec<Call<'static>> = found.collect();
                match (ranges.len(), invalidates) {
                    (1, _) => calls.into_iter().for_each(|call| self.push(head, call)),
                    (_, false) => self.group(head, GroupKind::Flush, calls.into_iter()),
                    (_, true) => self.group(head, GroupKind::Invalidate, calls.into_iter()),
                }
            }
            What::CreateAllocator(options) => {
                self.push(head, Call::CreateAllocator { options: Some(options.clone()) });
            }
            What::Close => {
                self.push(head, Call::DestroyAllocator {});
                self.numbers.forget(of);
            }
            What::Frame(frame) => {
                self.frames.insert(of, *frame);
                self.push(head, Call::BeginFrame {});
            }
            What::Map(id) => self.about(head, *id, |allocation| Call::Map { allocation }),
            What::Unmap(id) => self.about(head, *id, |allocation| Call::Unmap { allocation }),
            What::MakeEvictable(id, priority) => {
                let priority = Some(*priority);
                self.about(head, *id, |allocation| Call::MakeEvictable { allocation, priority });
            }
            What::EndEvictable(id) => {
                let priority = None;
                self.about(head, *id, |allocation| Call::MakeEvictable { allocation, priority });
            }
            What::Touch(id) => {
                if let Some(number) = self.numbers.get(of, *id) {
                    self.push(head, Call::Touch { allocations: Numbers::new(&[number]) });
                }
            }
            What::Name(named, name) => {
                let name = name.as_deref();
                let call = |it| Call::Name { object: Object::Allocation(it), name };
                self.about_object(head, *named, call);
            }
            What::Data(object, text) => {
                let data = text.as_deref().map_or(Data::None, Data::Text);
                self.about_object(head, *object, |allocation| Call::SetData { allocation, data });
            }
            What::NamePool(id, name) => {
                if let Some(pool) = self.numbers.pool(of, *id) {
                    let (object, name) = (Object::Pool(pool), name.as_deref());
                    self.push(head, Call::Name { object, name });
                }
            }
            What::AllocateMemory(info, made) => {
                if head.is_state && made.is_ok_and(|it| self.numbers.has_memory(of, it)) {
                    return;
                }
                let memory = made.ok().map(|handle| self.numbers.add_memory(of, handle));
                self.push(
                    head,
                    Call::AllocateMemory {
                        memory,
                        memory_type: Some(info.memory_type_index),
                        size: info.size,
                        priority: info.priority,
                        export_handle_types: info.export_handle_types,
                        names_resource: info.dedicated.is_some(),
                        is_imported: info.import.is_some(),
                        result: made.err().map_or(0, DeviceError::vk_result),
                    },
                );
            }
            What::FreeMemory(handle) => {
                if let Some(memory) = self.numbers.remove_memory(of, *handle) {
                    self.push(head, Call::FreeMemory { memory });
                }
            }
            What::Space(space, it) => self.write_space(head, *space, it),
            What::Mark(text) => self.push(head, Call::Mark { text }),
            What::Site(number, frames) => self.define_site(of, *number, frames),
            _ => self.write_rare(head, what),
        }
    }

    fn write_rare(&mut self, head: &Head, what: &What) {
        let of = head.allocator;
        match what {
            What::Import(it) => {
                let (request, subject, made) = &**it;
                let (whole, _) = self.request(of, &request.whole, subject);
                let (allocation, placed) =
                    (self.numbers.add(of, made), self.numbers.placed(of, made));
                self.push(
                    head,
                    Call::Import {
                        allocation,
                        request: whole,
                        whole_size: request.whole.requirements.size,
                        offset: request.offset,
                        size: request.size,
                        handle_type: request.import.handle_type,
                        memory_type_index: request.memory_type_index,
                        is_opaque: request.is_opaque,
                        placed: Some(placed),
                    },
                );
            }
            What::Alias { base, requirements, kind, of: it } => {
                let (subject, made, handle) = &**it;
                let request = AllocationRequest {
                    requirements: *requirements,
                    create_info: Default::default(),
                    kind: *kind,
                    resource_use: ResourceUse::Unknown,
                    dedicated: None,
                };
                let (request, _) = self.request(of, &request, subject);
                let Some(number) = self.numbers.get(of, base.id) else { return };
                let allocation = self.numbers.add_alias(of, *handle);
                let (size, offset) = (Some(requirements.size), made.offset - base.offset);
                self.push(head, Call::Alias { allocation, base: number, request, size, offset });
            }
            What::Retire(object) => {
                self.about_object(head, *object, |allocation| Call::RequestFree { allocation });
            }
            What::EndAlias(handle, is_image) => {
                let handle = (*handle, *is_image);
                if let Some(allocation) = self.numbers.remove_alias(of, handle) {
                    self.push(head, Call::Free { allocation });
                }
            }
            What::CreatePool(info, made) => self.created_pool(head, info, made),
            What::DestroyPool(id) => {
                if let Some(pool) = self.numbers.remove_pool(of, *id) {
                    self.push(head, Call::DestroyPool { pool });
                }
            }
            What::Failed(function, id, why) => {
                let object = id.and_then(|id| self.numbers.get(of, id)).map(Object::Allocation);
                if let Some(failure) = failure(why) {
                    self.push(head, Call::Failed { function, object, failure });
                }
            }
            What::QueryBudget(trims) => self.push(head, Call::QueryBudget { trims: *trims }),
            What::Budget { heap, block_count, block_bytes, usage, budget } => {
                let (allocation_count, allocation_bytes) = self.live_in_heap(of, *heap);
                self.push(
                    head,
                    Call::Budget {
                        heap: *heap,
                        block_count: *block_count,
                        block_bytes: *block_bytes,
                        allocation_count,
                        allocation_bytes,
                        usage: *usage,
                        budget: *budget,
                    },
                );
            }
            What::Lose(ids) => {
                let lost: Vec<u32> =
                    ids.iter().filter_map(|id| self.numbers.lose(of, *id)).collect();
                self.push(head, Call::Lose { allocations: Numbers::new(&lost) });
            }
            What::RefuseLosses(ids) => {
                let kept = self.all_of(of, ids);
                self.push(head, Call::RefuseLosses { allocations: Numbers::new(&kept) });
            }
            What::MakeLost(pool, count) => {
                let pool = pool.map(|id| self.numbers.pool(of, id));
                if pool != Some(None) {
                    let count = Some(*count as u64);
                    self.push(head, Call::MakeLost { pool: pool.flatten(), count });
                }
            }
            What::EvictOverBudget(bytes) => {
                self.push(head, Call::EvictOverBudget { bytes: *bytes })
            }
            What::Trim(bytes) => self.push(head, Call::Trim { bytes: *bytes }),
            What::EndQuarantine(all) => self.push(head, Call::EndQuarantine { all: *all }),
            What::Merge(key) => {
                if let Some((pool, memory_type)) = self.numbers.pool_of(of, *key) {
                    self.push(head, Call::MergeFreed { pool, memory_type });
                }
            }
            What::Prefetch(key) => {
                if let Some((pool, memory_type)) = self.numbers.pool_of(of, *key) {
                    self.push(head, Call::Prefetch { pool, memory_type });
                }
            }
            _ => self.write_move(head, what),
        }
    }

    fn write_move(&mut self, head: &Head, what: &What) {
        let of = head.allocator;
        match what {
            What::BeginRun { run, pool, algorithm, limits, max_regions, slides } => {
                let pools: Vec<u32> = match pool {
                    None => Vec::new(),
                    Some(id) => match self.numbers.pool(of, *id) {
                        Some(number) => vec![number],
                        None => return,
                    },
                };
                let run = self.begin_run(*run, *limits);
                self.push(
                    head,
                    Call::BeginDefragmentation {
                        run,
                        algorithm: Some(*algorithm),
                        pools: Numbers::new(&pools),
                        allocations: Numbers::new(&[]),
                        max_bytes: limits.0,
                        max_moves: limits.1,
                        max_regions: *max_regions,
                        slides: *slides,
                        limits: None,
                    },
                );
            }
            What::BeginPass { run, limits, moves, refused } => {
                let Some((run, is_changed)) = self.limit_run(*run, *limits) else { return };
                if is_changed {
                    let (max_bytes, max_moves) = *limits;
                    self.push(head, Call::LimitPasses { run, max_bytes, max_moves });
                }
                let refused = self.all_of(of, refused);
                if !refused.is_empty() {
                    let allocations = Numbers::new(&refused);
                    self.push(head, Call::RefuseMoves { run, allocations });
                }
                self.push(head, Call::BeginPass { run, moves: *moves });
            }
            What::ProposeMove { run, source, destination, slides } => {
                let (Some(run), Some(allocation)) = (self.run(*run), self.numbers.get(of, *source))
                else {
                    return;
                };
                let kind = if *slides { MoveKind::Slide } else { MoveKind::Apart };
                let placed = self.numbers.placed(of, destination);
                self.push(head, Call::ProposeMove { run, allocation, kind, placed });
            }
            What::EndMove { run, source, end } => self.ended_move(head, *run, *source, end),
            What::MoveForRoom(from, to) => {
                if let Some((allocation, _)) = self.numbers.relocate(of, *from, to, false) {
                    let placed = Some(self.numbers.placed(of, to));
                    let (run, result) = (None, MoveResult::Moved);
                    self.push(head, Call::EndMove { run, allocation, result, placed });
                }
            }
            What::KeepForRoom(from, to) => {
                if let Some((allocation, number)) = self.numbers.keep(of, *from, to.id) {
                    self.push(head, Call::KeepSource { allocation, of: number });
                }
            }
            What::AnswerMoves(ids) => {
                let movable = self.all_of(of, ids);
                self.push(head, Call::AnswerMoves { allocations: Numbers::new(&movable) });
            }
            What::MakeRoom { is_made, may_go_on, in_the_way } => {
                let (is_made, may_go_on) = (*is_made, *may_go_on);
                let in_the_way = self.all_of(of, in_the_way);
                let allocations = Numbers::new(&in_the_way);
                self.push(head, Call::MakeRoom { is_made, may_go_on, allocations });
            }
            What::EndPass(run, progressed) => {
                if let Some(run) = self.run(*run) {
                    self.push(head, Call::EndPass { run, progressed: *progressed });
                }
            }
            What::EndRun { run, bytes_moved, bytes_freed, allocations_moved, blocks_freed } => {
                let Some(run) = self.end_run(*run) else { return };
                self.push(
                    head,
                    Call::EndDefragmentation {
                        run,
                        bytes_moved: *bytes_moved,
                        bytes_freed: *bytes_freed,
                        allocations_moved: *allocations_moved,
                        blocks_freed: *blocks_freed,
                    },
                );
            }
            _ => {}
        }
    }

    fn ended_move(&mut self, head: &Head, run: u32, source: AllocationId, end: &RawEnd) {
        let of = head.allocator;
        let Some(run) = self.run(run) else { return };
        let (allocation, result, placed) = match end {
            RawEnd::Moved { to, keeps_source } => {
                let Some((number, old)) = self.numbers.relocate(of, source, to, *keeps_source)
                else {
                    return;
                };
                if let Some(allocation) = old {
                    self.push(head, Call::KeepSource { allocation, of: number });
                }
                (Some(number), MoveResult::Moved, Some(self.numbers.placed(of, to)))
            }
            RawEnd::Ignored => (self.numbers.get(of, source), MoveResult::Ignored, None),
            RawEnd::Kept => (self.numbers.get(of, source), MoveResult::Kept, None),
            RawEnd::Destroyed => (self.numbers.remove(of, source), MoveResult::Destroyed, None),
            RawEnd::Gone => (self.numbers.get(of, source), MoveResult::Gone, None),
        };
        if let Some(allocation) = allocation {
            self.push(head, Call::EndMove { run: Some(run), allocation, result, placed });
        }
    }

    fn about<'a>(&mut self, head: &Head, id: AllocationId, call: impl FnOnce(u32) -> Call<'a>) {
        self.about_object(head, ToldObject::Allocation(id), call);
    }

    /// Encodes a call about an allocation or an alias, by its number.
    fn about_object<'a>(
        &mut self,
        head: &Head,
        object: ToldObject,
        call: impl FnOnce(u32) -> Call<'a>,
    ) {
        let number = match object {
            ToldObject::Allocation(id) => self.numbers.get(head.allocator, id),
            ToldObject::Alias(handle, is_image) => {
                self.numbers.alias(head.allocator, (handle, is_image))
            }
        };
        if let Some(number) = number {
            self.push(head, call(number));
        }
    }

    fn all_of(&self, of: u16, ids: &[AllocationId]) -> Vec<u32> {
        ids.iter().filter_map(|id| self.numbers.get(of, *id)).collect()
    }

    /// Encodes a group and its members, which have the numbers after that of the group.
    pub(super) fn group<'a>(
        &mut self,
        head: &Head,
        kind: GroupKind,
        calls: impl ExactSizeIterator<Item = Call<'a>>,
    ) {
        if calls.len() == 0 {
            return;
        }
        self.push(head, Call::Group { kind, count: calls.len() as u32 });
        for (number, call) in (head.number + 1..).zip(calls) {
            self.push(&Head { number, ..*head }, call);
        }
    }

    /// Returns a request as traces have it, and the size of a buffer.
    fn request(
        &mut self,
        of: u16,
        request: &AllocationRequest,
        subject: &Subject,
    ) -> (Request, Option<u64>) {
        let pool = request.create_info.pool.and_then(|id| self.numbers.pool(of, id));
        let (resource, size) = resource(subject);
        (Request::of_engine(request, pool, resource), size)
    }

    fn allocated(
        &mut self,
        head: &Head,
        request: &AllocationRequest,
        subject: &Subject,
        made: &vkmem_engine::Allocation,
    ) {
        let of = head.allocator;
        if head.is_state && self.numbers.get(of, made.id).is_some() {
            // It was told when it was created, while what existed was listed.
            return;
        }
        let size = Some(request.requirements.size);
        let (request, buffer_size) = self.request(of, request, subject);
        let (allocation, placed) = (self.numbers.add(of, made), self.numbers.placed(of, made));
        let (placed, name, data) = (Some(placed), None, Data::None);
        self.push(
            head,
            Call::Allocate { allocation, request, size, buffer_size, placed, name, data },
        );
    }

    fn refused(
        &mut self,
        head: &Head,
        request: &AllocationRequest,
        subject: &Subject,
        why: Option<&RawFailure>,
    ) {
        let size = Some(request.requirements.size);
        let (request, buffer_size) = self.request(head.allocator, request, subject);
        let failure = why.and_then(failure);
        self.push(head, Call::AllocateFailed { request, size, buffer_size, failure });
    }

    fn allocated_many(&mut self, head: &Head, many: &RawMany) {
        let RawMany { requests, subjects, made } = many;
        if requests.is_empty() {
            return;
        }
        let (kind, count) = (GroupKind::Allocate, requests.len() as u32);
        self.push(head, Call::Group { kind, count });
        for (index, (request, number)) in requests.iter().zip(head.number + 1..).enumerate() {
            let head = Head { number, ..*head };
            let subject = subjects.get(index).unwrap_or(&Subject::None);
            match made {
                Ok(made) => self.allocated(&head, request, subject, &made[index]),
                Err((failed, why)) => {
                    let why = (*failed == index).then_some(&**why);
                    self.refused(&head, request, subject, why);
                }
            }
        }
    }

    fn created_pool(
        &mut self,
        head: &Head,
        info: &PoolCreateInfo,
        made: &Result<PoolId, Box<RawFailure>>,
    ) {
        let has_next = info.memory_allocate_next != 0;
        let info = PoolCreateInfo { memory_allocate_next: 0, ..*info };
        let (pool, failure) = match made {
            Ok(id) => (Some(self.numbers.add_pool(head.allocator, *id)), None),
            Err(why) => (None, failure(why)),
        };
        self.push(head, Call::CreatePool { pool, info, has_next, failure });
    }
}
