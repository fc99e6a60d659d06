//! Bytes that are written where nobody may write: each is found, with exact figures, and nothing else is.

use std::sync::Mutex;

use ash::vk;
use vkmem_engine::{
    Algorithm, Allocation, AllocationCreateFlags as Create, DeviceMemory, Difference, GuardedUse,
    MemoryPropertyFlags as Flags, PoolId, QuarantineOwner, Quarantined, profile_names,
};
use vkmem_vulkan::{Checked, FillTarget, Finding};

use crate::{FREED, MARGIN, MIB, NEW, World, bare, driver, options};

/// Who writes a byte.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Writer {
    Device,
    /// Without a flush.
    Host,
}

impl World {
    /// Inverts bits of one byte of a memory object.
    pub(crate) fn flip(&self, writer: Writer, allocation: &Allocation, offset: i64) {
        let at = allocation.offset.checked_add_signed(offset).unwrap();
        let device = self.driver.device();
        match writer {
            Writer::Device => {
                let byte = device.device_read(allocation.memory, at, 1)[0];
                device.device_fill(allocation.memory, at, 1, &[byte ^ 0x41]);
            }
            Writer::Host => {
                let held = self.allocator.engine().guarded_ranges(!0, None, false).unwrap();
                let held = held.iter().find(|it| it.memory.handle() == allocation.memory).unwrap();
                let mapped = held.memory.map().unwrap();
                let byte =
                    std::ptr::with_exposed_provenance_mut::<u8>(mapped.address.at(at).0.get());
                // SAFETY: mapped, and no other thread is there.
                unsafe { *byte ^= 0x41 };
            }
        }
    }

    /// Asserts that one byte that differs is all that is found, with exact figures.
    #[track_caller]
    pub(crate) fn assert_found(
        &self,
        allocation: &Allocation,
        offset: i64,
        is: GuardedUse,
        what: &dyn std::fmt::Debug,
    ) {
        let checked = self.check();
        let [found] = &checked.findings[..] else { panic!("{what:?}: {checked:?}") };
        let at = allocation.offset.checked_add_signed(offset).unwrap();
        assert_eq!(found.difference, Difference { offset: at, length: 1, count: 1 }, "{what:?}");
        assert_eq!((found.range.is, found.range.id), (is, Some(allocation.id)), "{what:?}");
        assert_eq!(found.memory, allocation.memory, "{what:?}");
        assert_eq!(found.memory_type_index, allocation.memory_type_index, "{what:?}");
        assert_eq!((found.found.len(), found.expected.len()), (1, 1), "{what:?}");
        assert_eq!(found.found[0], found.expected[0] ^ 0x41, "{what:?}");
    }
}

fn sizes() -> [u64; 5] {
    [100, 1000, 4096, 333, 64]
}

/// Checks one place that allocations can lie in.
fn each_byte_is_found_in(world: &World, pool: PoolId, what: &str) {
    let info = world.allocator.engine().pool_info(pool).unwrap();
    let flags = world.flags(info.memory_type_index);
    let made: Vec<Allocation> = sizes()
        .into_iter()
        .zip([1, 4, 256, 16, 64])
        .map(|(size, alignment)| world.memory(pool, size, alignment))
        .collect();
    let targets: Vec<FillTarget> = made.iter().map(|it| bare(it.id)).collect();
    assert_eq!(world.prepare(&targets), [], "{what}");
    made.iter().for_each(|it| {
        assert_eq!(it.size, world.contents(it).len() as u64, "{what}");
        assert!(world.contents(it).iter().all(|byte| *byte == NEW), "{what}");
    });
    assert_eq!(world.assert_intact().ranges, 2 * made.len() as u64, "{what}");
    // One of the five goes to quarantine, between live ones.
    let gone = made[2];
    world.free(&targets[2]);
    let checked = world.assert_intact();
    assert_eq!(checked.ranges, 2 * made.len() as u64 + 1, "{what}");
    assert_eq!(checked.memory_type_bits, 1 << info.memory_type_index, "{what}");
    let is_visible = flags.contains(Flags::HOST_VISIBLE);
    let writers = [Some(Writer::Device), is_visible.then_some(Writer::Host)];
    for writer in writers.into_iter().flatten() {
        for it in &made {
            let what = (what, writer, it.size);
            for offset in [-1, -(MARGIN as i64)] {
                world.flip(writer, it, offset);
                world.assert_found(it, offset, GuardedUse::FrontMargin, &(what, offset));
                world.flip(writer, it, offset);
            }
            for offset in [it.size, it.size + MARGIN - 1].map(u64::cast_signed) {
                world.flip(writer, it, offset);
                world.assert_found(it, offset, GuardedUse::BackMargin, &(what, offset));
                world.flip(writer, it, offset);
            }
        }
        for offset in [0, 2048, 4095] {
            let what = (what, writer, offset);
            world.flip(writer, &gone, offset);
            world.assert_found(&gone, offset, GuardedUse::Quarantined, &what);
            world.flip(writer, &gone, offset);
        }
    }
    world.assert_intact();
    for it in [0, 1, 3, 4] {
        drop(world.allocator.engine().free(made[it].id).unwrap());
    }
    world.allocator.engine().destroy_pool(pool).unwrap();
}

#[test]
fn each_byte_is_found_in_each_memory_type_of_each_device() {
    for profile in profile_names() {
        let world = World::new(profile);
        for index in world.types() {
            let algorithms = Algorithm::ALL.into_iter().map(Some).chain([None]);
            for algorithm in algorithms {
                let pool = world.pool(index, algorithm);
                each_byte_is_found_in(&world, pool, &format!("{profile} {index} {algorithm:?}"));
            }
        }
        world.end(&[]);
    }
}

#[test]
fn without_a_queue_the_host_finds_what_can_be_mapped() {
    for profile in ["discrete-8gib", "non-coherent"] {
        let world = World::new(profile);
        world.driver.set_queue_flags(vk::QueueFlags::empty());
        for index in world.types() {
            let pool = world.pool(index, Some(Algorithm::Tlsf));
            let made = world.memory(pool, 4096, 256);
            let left_out = world.prepare(&[bare(made.id)]);
            let is_visible = world.flags(index).contains(Flags::HOST_VISIBLE);
            assert_eq!(left_out.len(), if is_visible { 0 } else { 2 }, "{profile} {index}");
            let checked = world.assert_intact();
            assert_eq!(checked.ranges, if is_visible { 2 } else { 0 });
            if is_visible {
                for writer in [Writer::Host, Writer::Device] {
                    for (offset, is) in
                        [(-1, GuardedUse::FrontMargin), (4096, GuardedUse::BackMargin)]
                    {
                        world.flip(writer, &made, offset);
                        world.assert_found(&made, offset, is, &(profile, index, writer, offset));
                        world.flip(writer, &made, offset);
                        if world.driver.info().is_non_coherent(index)
                            && matches!(writer, Writer::Device)
                        {
                            // The host has seen it, too.
                            world.flip(Writer::Host, &made, offset);
                        }
                    }
                }
            }
            drop(world.allocator.engine().free(made.id).unwrap());
            world.allocator.engine().destroy_pool(pool).unwrap();
        }
        world.end(&[]);
    }
}

/// Host writes that are not flushed yet are not lost by a check, in atoms that margins share with payloads.
#[test]
fn a_check_loses_no_write_of_the_host() {
    let world = World::new("non-coherent");
    let index = world.types().into_iter().find(|it| world.driver.info().is_non_coherent(*it));
    let pool = world.pool(index.unwrap(), Some(Algorithm::Tlsf));
    for without_queue in [false, true] {
        let made = world.memory(pool, 100, 4);
        world.prepare(&[bare(made.id)]);
        if without_queue {
            world.driver.set_queue_flags(vk::QueueFlags::empty());
        }
        let address = world.allocator.engine().map(made.id).unwrap();
        let at = std::ptr::with_exposed_provenance_mut::<u8>(address.0.get());
        // SAFETY: mapped, and no other thread is there.
        unsafe { at.add(99).write(7) };
        world.assert_intact();
        // SAFETY: as above.
        assert_eq!(unsafe { at.add(99).read() }, 7);
        world.allocator.engine().flush(made.id, 0, 100).unwrap();
        assert_eq!(world.contents(&made)[98..], [NEW, 7]);
        world.allocator.engine().unmap(made.id).unwrap();
        world.free(&bare(made.id));
    }
    world.allocator.engine().destroy_pool(pool).unwrap();
    world.end(&[]);
}

#[test]
fn figures_of_several_bytes_are_exact() {
    let world = World::new("discrete-8gib");
    for index in [world.hidden_type(), world.visible_type()] {
        let pool = world.pool(index, Some(Algorithm::Tlsf));
        let made = [300 * 1024, 5000].map(|size| world.memory(pool, size, 64));
        let targets = made.map(|it| bare(it.id));
        assert_eq!(world.prepare(&targets), []);
        world.free(&targets[0]);
        let device = world.driver.device();
        for at in [17, 100_000, 200_001] {
            device.device_fill(made[0].memory, made[0].offset + at, 1, &[1]);
        }
        // Over the end of the other one: all of its margin.
        device.device_fill(made[1].memory, made[1].offset + 4990, 10 + MARGIN, &[0]);
        let findings = world.check().findings;
        let [first, second] = &findings[..] else { panic!("{findings:?}") };
        let difference =
            Difference { offset: made[0].offset + 17, length: 200_001 - 17 + 1, count: 3 };
        assert_eq!((first.difference, first.found.len()), (difference, 64));
        assert_eq!(first.found[..2], [1, FREED]);
        assert_eq!(first.expected, [FREED; 64]);
        assert_eq!(second.difference.offset, made[1].offset + 5000);
        assert_eq!(second.found, [0; MARGIN as usize]);
        assert_eq!(second.range.id, Some(made[1].id));
        let zeros = second.expected.iter().filter(|it| **it != 0).count() as u64;
        assert_eq!(second.difference.count, zeros);
        drop(world.allocator.engine().free(made[1].id).unwrap());
        world.allocator.engine().destroy_pool(pool).unwrap();
    }
    world.end(&[]);
}

#[test]
fn neighbours_are_named_and_a_check_of_one_allocation_looks_at_no_other() {
    let world = World::new("nvidia-h200");
    for index in [world.hidden_type(), world.visible_type()] {
        let pool = world.pool(index, Some(Algorithm::Tlsf));
        let made = [256; 3].map(|size| world.memory(pool, size, 16));
        world.prepare(&made.map(|it| bare(it.id)));
        let mut order = made;
        order.sort_by_key(|it| it.offset);
        let ids = order.map(|it| it.id);
        world.flip(Writer::Device, &order[1], -1);
        let findings = world.check().findings;
        let [found] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!(found.range.neighbours, [Some(ids[0]), Some(ids[2])]);
        let some = |ids: &[_]| world.debugger.check_some(&world.allocator, ids, &|| false).unwrap();
        assert_eq!(some(&[ids[0], ids[2]]).findings, []);
        assert_eq!(some(&[ids[0], ids[2]]).ranges, 4);
        let checked = some(&[ids[2], ids[1]]);
        let [found] = &checked.findings[..] else { panic!("{checked:?}") };
        assert_eq!(found.range.id, Some(ids[1]));
        ids.iter().for_each(|it| drop(world.allocator.engine().free(*it).unwrap()));
        assert!(world.debugger.check_some(&world.allocator, &ids[..1], &|| false).is_err());
        world.allocator.engine().destroy_pool(pool).unwrap();
    }
    world.end(&[]);
}

#[test]
fn one_submission_reads_a_block_whatever_the_number_of_allocations() {
    let world = World::new("nvidia-h200");
    let pool = world.pool(world.hidden_type(), Some(Algorithm::Tlsf));
    let mut targets = Vec::new();
    let mut blocks = std::collections::HashSet::new();
    while blocks.len() < 3 {
        let made = world.memory(pool, 64 * (1 + targets.len() as u64 % 64), 16);
        blocks.insert(made.memory);
        targets.push(bare(made.id));
    }
    let before = world.driver.device().call_count(vkmem_engine::Call::Submit);
    assert_eq!(world.prepare(&targets), []);
    let submits = || world.driver.device().call_count(vkmem_engine::Call::Submit) - before;
    assert_eq!(submits(), 1, "all of them are written together");
    let checked = world.assert_intact();
    assert_eq!((checked.ranges, checked.submissions), (2 * targets.len() as u64, 3));
    assert_eq!(submits(), 4);
    targets.iter().for_each(|it| drop(world.allocator.engine().free(it.id).unwrap()));
    world.allocator.engine().destroy_pool(pool).unwrap();
    world.end(&[]);
}

#[test]
fn what_is_not_known_to_be_filled_is_not_checked() {
    let world = World::new("discrete-8gib");
    let pool = world.pool(world.hidden_type(), Some(Algorithm::Tlsf));
    let made = world.memory(pool, 1000, 16);
    // Never prepared.
    assert_eq!(world.assert_intact(), Checked::default());
    drop(world.allocator.engine().free(made.id).unwrap());
    let checked = world.debugger.check(&world.allocator, (!0, None), &|_| None, &|| false).unwrap();
    assert_eq!(checked, Checked::default());
    let findings = world.check().findings;
    assert_eq!(findings.len(), 1, "it was not filled when it was freed");
    world.allocator.engine().destroy_pool(pool).unwrap();
    world.end(&[]);
}

/// Checks what leaves the quarantine.
struct Owner {
    world: World,
    found: Mutex<Vec<Finding>>,
}

impl QuarantineOwner for &'static Owner {
    fn leaving(&self, allocations: &[Quarantined]) {
        let (debugger, allocator) = (&self.world.debugger, &self.world.allocator);
        let checked = debugger.check_leaving(allocator, allocations, &|_| Some(FREED)).unwrap();
        assert_eq!(checked.unchecked, []);
        self.found.lock().unwrap().extend(checked.findings);
    }
}

/// Margins that the device writes over what the host has written and flushed before are not taken for overwritten, and
/// what the host then writes into them without a flush is found.
#[test]
fn margins_that_the_device_wrote_are_seen_by_the_host() {
    let world = World::new("non-coherent");
    let index = world.types().into_iter().find(|it| world.driver.info().is_non_coherent(*it));
    let pool = world.pool(index.unwrap(), Some(Algorithm::Tlsf));
    let made = world.memory(pool, 100, 4);
    let address = world.allocator.engine().map(made.id).unwrap();
    let at = std::ptr::with_exposed_provenance_mut::<u8>(address.0.get());
    let write = |offset: isize, byte: u8, count: usize| {
        // SAFETY: the allocation and its margins are mapped, and no other thread is there.
        unsafe { at.offset(offset).write_bytes(byte, count) };
    };
    write(-16, 1, 132);
    world.allocator.engine().flush(made.id, 0, 100).unwrap();
    // SAFETY: live and not in use.
    let left_out =
        unsafe { world.debugger.by_device().prepare(&world.allocator, &[bare(made.id)], None) };
    assert_eq!(left_out, Ok(vec![]));
    world.assert_intact();
    // What lies in an atom with a margin is still there.
    assert_eq!(world.contents(&made), [1; 100]);
    for (offset, is) in [(-1, GuardedUse::FrontMargin), (100, GuardedUse::BackMargin)] {
        world.flip(Writer::Host, &made, offset);
        world.assert_found(&made, offset, is, &offset);
        world.flip(Writer::Host, &made, offset);
    }
    world.allocator.engine().unmap(made.id).unwrap();
    world.free(&bare(made.id));
    world.allocator.engine().destroy_pool(pool).unwrap();
    world.end(&[]);
}

#[test]
fn what_leaves_the_quarantine_is_looked_at_once_more() {
    let debug = vkmem_engine::DebugOptions {
        quarantine: Some(vkmem_engine::QuarantineLimit::Bytes(10_000)),
        ..options()
    };
    for profile in ["discrete-8gib", "non-coherent"] {
        let world = World::with(driver(profile), debug);
        let types = world.types();
        // The engine keeps its owner for as long as it lives.
        let owner: &'static Owner = Box::leak(Box::new(Owner { world, found: Mutex::default() }));
        let world = &owner.world;
        world.allocator.engine().set_quarantine_owner(Some(std::sync::Arc::new(owner)));
        for index in types {
            for algorithm in [Some(Algorithm::Tlsf), None] {
                let pool = world.pool(index, algorithm);
                let made = [4000, 8000].map(|size| world.memory(pool, size, 64));
                let targets = made.map(|it| bare(it.id));
                world.prepare(&targets);
                world.free(&targets[0]);
                world.flip(Writer::Device, &made[0], 1234);
                world.flip(Writer::Device, &made[0], 4000);
                // Now there are more bytes in it than it may have.
                world.free(&targets[1]);
                let found = std::mem::take(&mut *owner.found.lock().unwrap());
                let what = format!("{profile} {index} {algorithm:?}: {found:?}");
                let at: Vec<_> = found
                    .iter()
                    .map(|it| (it.range.id, it.range.is, it.difference.offset - made[0].offset))
                    .collect();
                let id = Some(made[0].id);
                let (contents, margin) = (GuardedUse::Quarantined, GuardedUse::BackMargin);
                assert_eq!(at, [(id, contents, 1234), (id, margin, 4000)], "{what}");
                world.allocator.engine().destroy_pool(pool).unwrap();
                assert_eq!(owner.found.lock().unwrap()[..], [], "{what}");
            }
        }
        world.allocator.engine().set_quarantine_owner(None);
        world.allocator.engine().close();
        world.driver.device().assert_no_violations();
        assert_eq!(world.driver.live_buffers(), 0);
    }
}

#[test]
fn memory_that_is_freed_while_it_is_checked_is_no_finding() {
    let world = World::new("discrete-8gib");
    let index = world.visible_type();
    let pool = world.pool(index, Some(Algorithm::Tlsf));
    let barrier = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            barrier.wait();
            for round in 0..3000_u64 {
                let made = world.memory(pool, 64 + round % 7 * 100, 16);
                let target = bare(made.id);
                world.prepare(&[target]);
                world.free(&target);
                if round % 16 == 0 {
                    world.allocator.engine().end_quarantines();
                }
            }
        });
        barrier.wait();
        for _ in 0..200 {
            world.assert_intact();
        }
    });
    world.allocator.engine().destroy_pool(pool).unwrap();
    world.end(&[]);
}

#[test]
fn memory_that_is_dedicated_to_a_resource_is_said_to_be_unchecked() {
    let world = World::new("nvidia-h200");
    world.driver.set_requires_dedicated(true);
    let usage = vk::BufferUsageFlags::STORAGE_BUFFER | vk::BufferUsageFlags::TRANSFER_DST;
    let (target, made) = world.buffer(world.hidden_type(), 5003, usage, Create::empty());
    assert!(made.is_dedicated());
    assert_eq!(world.prepare(&[target]), []);
    world.free(&target);
    let checked = world.check();
    assert_eq!((&checked.findings[..], checked.ranges, checked.unchecked.len()), (&[][..], 0, 1));
    assert!(checked.unchecked[0].why.contains("VkMemoryDedicatedAllocateInfo"));
    assert_eq!(checked.unchecked[0].ranges, 1);
    assert_eq!(checked.memory_type_bits, 0);
    world.end(&[]);
}

#[test]
fn memory_larger_than_one_buffer_is_read_through_several() {
    let world = World::new("nvidia-h200");
    let pool = world.pool(world.hidden_type(), None);
    // Nothing of it is touched but what is written here: the simulated device stores pages.
    let made = world.memory(pool, 2560 * MIB, 256);
    // SAFETY: live, and not in use.
    let left_out = unsafe { world.debugger.prepare(&world.allocator, &[bare(made.id)], None) };
    assert_eq!(left_out, Ok(vec![]));
    assert_eq!(world.assert_intact().ranges, 2);
    world.flip(Writer::Device, &made, made.size.cast_signed());
    world.assert_found(&made, made.size.cast_signed(), GuardedUse::BackMargin, &"behind");
    drop(world.allocator.engine().free(made.id).unwrap());
    world.allocator.engine().destroy_pool(pool).unwrap();
    world.end(&[]);
}
