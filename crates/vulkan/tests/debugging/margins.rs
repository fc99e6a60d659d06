//! How far margins reach: from the end of a buffer to the end of what its region takes up, and what ends that.

use ash::vk;
use vkmem_engine::{
    Algorithm, AliasRequest, Allocation, AllocationCreateFlags as Create, AllocationCreateInfo,
    Call, DebugOptions, DeviceMemory, GuardedUse, MemoryPropertyFlags as Flags, MemoryRequirements,
    ResourceKind, profile_names,
};
use vkmem_vulkan::{FillTarget, LeftOutPart, ResourceHandle, SimulatedDriver};

use crate::{FREED, MIB, NEW, World, bare, driver, options};

const USAGE: vk::BufferUsageFlags = vk::BufferUsageFlags::STORAGE_BUFFER;

impl World {
    /// Creates a buffer in a pool, with memory of its own where there is no algorithm.
    fn buffer_in(
        &self,
        index: u32,
        algorithm: Option<Algorithm>,
        size: u64,
    ) -> (FillTarget, Allocation) {
        let Some(algorithm) = algorithm else {
            return self.buffer(index, size, USAGE, Create::DEDICATED_MEMORY);
        };
        let pool = Some(self.pool(index, Some(algorithm)));
        let info = vk::BufferCreateInfo::default().size(size).usage(USAGE);
        let create = AllocationCreateInfo { pool, ..Default::default() };
        // SAFETY: a plain create info.
        let (buffer, made) =
            unsafe { self.allocator.create_buffer(&info, &create, |on, it| on.allocate(it)) }
                .unwrap();
        let handle = ResourceHandle::Buffer(buffer);
        let usage = USAGE.as_raw().into();
        (FillTarget { handle, usage, buffer_size: size, image: None, id: made.id }, made)
    }

    /// Inverts bits of a byte, as the device sees it.
    fn invert(&self, it: &Allocation, offset: i64) {
        let at = it.offset.checked_add_signed(offset).unwrap();
        let byte = self.driver.device().device_read(it.memory, at, 1)[0];
        self.driver.device().device_fill(it.memory, at, 1, &[byte ^ 0x41]);
    }

    /// Returns what is found while a byte is wrong: where, counted from the start of the allocation.
    fn found_at(&self, it: &Allocation, offset: i64) -> Option<(GuardedUse, i64)> {
        self.invert(it, offset);
        let findings = self.check().findings;
        self.invert(it, offset);
        let [found] = &findings[..] else {
            assert_eq!(findings, [], "{offset}");
            return None;
        };
        assert_eq!(found.range.id, Some(it.id));
        let at = (found.difference.offset - found.range.offset).cast_signed();
        Some((found.range.is, found.range.from_start + at))
    }
}

#[test]
fn each_byte_around_a_buffer_that_is_its_own_is_found() {
    for profile in profile_names() {
        let world = World::new(profile);
        let mut left = Vec::new();
        for index in world.types() {
            for algorithm in Algorithm::ALL.into_iter().map(Some).chain([None]) {
                let what = format!("{profile} {index} {algorithm:?}");
                let (target, made) = world.buffer_in(index, algorithm, 1001);
                assert_eq!(world.prepare(&[target]), [], "{what}");
                assert!(made.size > 1001, "{what}: the driver rounds");
                let place = world.allocator.engine().hold_memory_of(made.id).unwrap();
                let bands = place.bands;
                assert_eq!(bands.slack, made.size - 1001, "{what}");
                drop(place);
                let front = -bands.front.cast_signed();
                let end = (made.size + bands.back).cast_signed() - 1;
                for offset in [-1, front / 2, front] {
                    let expected = Some((GuardedUse::FrontMargin, offset));
                    assert_eq!(world.found_at(&made, offset), expected, "{what}");
                }
                for offset in [1001, made.size.cast_signed() - 1, made.size.cast_signed(), end] {
                    let expected = Some((GuardedUse::BackMargin, offset));
                    assert_eq!(world.found_at(&made, offset), expected, "{what}");
                }
                assert_eq!(world.found_at(&made, 1000), None, "{what}: its last byte");
                assert_eq!(world.read(&made, 0, 1001), [NEW; 1001], "{what}");

                // In quarantine its margins are as they were.
                world.free(&target);
                world.assert_intact();
                assert_eq!(world.found_at(&made, 1000), Some((GuardedUse::Quarantined, 1000)));
                assert_eq!(world.found_at(&made, 1001), Some((GuardedUse::BackMargin, 1001)));
                assert_eq!(world.found_at(&made, front), Some((GuardedUse::FrontMargin, front)));
                left.push(made);
            }
        }
        world.allocator.engine().end_quarantines();
        assert_eq!(world.check().ranges, 0);
        world.end(&[]);
    }
}

#[test]
fn an_alias_ends_the_margin_inside_of_the_memory() {
    let world = World::new("discrete-8gib");
    for index in [world.hidden_type(), world.visible_type()] {
        let (target, made) = world.buffer_in(index, Some(Algorithm::Tlsf), 1001);
        assert_eq!(world.prepare(&[target]), []);
        let alias = |size| {
            let request = AliasRequest {
                requirements: MemoryRequirements {
                    size,
                    alignment: 1,
                    memory_type_bits: !0,
                    prefers_dedicated: false,
                    requires_dedicated: false,
                },
                kind: ResourceKind::Buffer,
                local_offset: 0,
            };
            world.allocator.engine().alias(&made, &request).unwrap();
        };
        alias(1000);
        assert!(world.found_at(&made, 1001).is_some());
        alias(1004);
        assert_eq!(world.found_at(&made, 1003), None);
        assert_eq!(world.found_at(&made, 1004), Some((GuardedUse::BackMargin, 1004)));
        alias(made.size);
        assert_eq!(world.found_at(&made, made.size.cast_signed() - 1), None);
        let end = made.size.cast_signed();
        assert_eq!(world.found_at(&made, end), Some((GuardedUse::BackMargin, end)));
        world.free(&target);
    }
    world.end(&[]);
}

#[test]
fn what_an_importer_may_use_is_not_written_when_it_is_freed() {
    for profile in ["nvidia-h200", "discrete-8gib"] {
        let world = World::new(profile);
        for index in [world.hidden_type(), world.visible_type()] {
            let pool = world.pool(index, Some(Algorithm::Tlsf));
            let [one, other] = [1000, 2000].map(|size| world.memory(pool, size, 16));
            let targets = [one, other].map(|it| bare(it.id));
            world.prepare(&targets);
            world.allocator.engine().note_exported(one.id).unwrap();
            // The handle is one of the whole memory object.
            // SAFETY: live and not in use.
            let left_out =
                unsafe { world.debugger.fill_freed(&world.allocator, &targets, FREED) }.unwrap();
            assert_eq!(left_out.iter().map(|it| it.id).collect::<Vec<_>>(), [one.id, other.id]);
            for it in left_out {
                assert_eq!(it.part, LeftOutPart::Contents);
                assert!(it.why.contains("exported"), "{}", it.why);
            }
            for it in [one, other] {
                assert!(world.contents(&it).iter().all(|byte| *byte == NEW), "{profile} {index}");
            }
            // New memory is filled as everywhere.
            let new = world.memory(pool, 3000, 16);
            assert_eq!(world.prepare(&[bare(new.id)]), []);
            assert!(world.contents(&new).iter().all(|byte| *byte == NEW));
            for it in [one, other, new] {
                drop(world.allocator.engine().free(it.id).unwrap());
            }
        }
        world.allocator.engine().end_quarantines();
        world.end(&[]);
    }
}

#[test]
fn contents_are_reached_where_the_driver_only_prefers_dedicated_memory() {
    for profile in profile_names() {
        let debug = DebugOptions { reaches_contents: true, ..DebugOptions::default() };
        let world = World::with(driver(profile), debug);
        let mut targets = Vec::new();
        for index in world.types() {
            let (target, made) = world.buffer(index, 5001, USAGE, Create::DEDICATED_MEMORY);
            assert_eq!(world.prepare(&[target]), [], "{profile} {index}");
            assert_eq!(world.read(&made, 0, 5001), [NEW; 5001], "{profile} {index}");
            assert_eq!(world.driver.device().memory(made.memory).unwrap().dedicated, None);
            targets.push(target);
        }
        world.end(&targets);
    }
}

#[test]
fn large_margins_are_written_and_read_in_pieces() {
    let debug = DebugOptions { margin: 16 * MIB, ..DebugOptions::default() };
    let world = World::with(driver("nvidia-h200"), debug);
    let index = world.hidden_type();
    let made: Vec<_> =
        (0..3).map(|_| world.buffer(index, 1000, USAGE, Create::DEDICATED_MEMORY)).collect();
    let targets: Vec<FillTarget> = made.iter().map(|it| it.0).collect();
    let submissions = || world.driver.device().call_count(Call::Submit);
    let before = submissions();
    assert_eq!(world.prepare(&targets), []);
    assert_eq!(submissions() - before, 2, "96 MiB, of which 64 at once");
    world.assert_intact();
    let last = (made[2].1.size + 16 * MIB).cast_signed() - 1;
    assert_eq!(world.found_at(&made[2].1, last), Some((GuardedUse::BackMargin, last)));
    world.end(&targets);
}

#[test]
fn protected_resources_are_left_out_and_no_rule_is_broken() {
    let plain = World::new("nvidia-h200");
    let mut info = plain.driver.info().clone();
    info.types[plain.hidden_type() as usize].flags |= Flags::PROTECTED;
    plain.end(&[]);
    let driver = SimulatedDriver::of_info(info, Some("nvidia-h200")).unwrap();
    let world = World::with(driver, options());
    for flags in [Create::empty(), Create::DEDICATED_MEMORY] {
        let info = vk::BufferCreateInfo::default()
            .size(1000)
            .usage(USAGE)
            .flags(vk::BufferCreateFlags::PROTECTED);
        let required_flags = Flags::PROTECTED;
        let create = AllocationCreateInfo { flags, required_flags, ..Default::default() };
        // SAFETY: a plain create info.
        let (buffer, made) =
            unsafe { world.allocator.create_buffer(&info, &create, |on, it| on.allocate(it)) }
                .unwrap();
        assert!(world.flags(made.memory_type_index).contains(Flags::PROTECTED));
        let handle = ResourceHandle::Buffer(buffer);
        let usage = USAGE.as_raw().into();
        let target = FillTarget { handle, usage, buffer_size: 1000, image: None, id: made.id };
        let left_out = world.prepare(&[target]);
        let parts: Vec<_> = left_out.iter().map(|it| it.part).collect();
        assert_eq!(parts, [LeftOutPart::Contents, LeftOutPart::Margins], "{left_out:?}");
        assert!(left_out[0].why.contains("PROTECTED"), "{}", left_out[0].why);
        // Nothing of it was filled, so nothing is looked at.
        let checked =
            world.debugger.check(&world.allocator, (!0, None), &|_| None, &|| false).unwrap();
        assert_eq!((checked.ranges, checked.unchecked), (0, vec![]));
        // SAFETY: live and not in use.
        let left_out =
            unsafe { world.debugger.fill_freed(&world.allocator, &[target], FREED) }.unwrap();
        assert_eq!(left_out.len(), 1);
        // SAFETY: live and not in use.
        drop(unsafe { world.allocator.destroy(handle, Some(made.id)) });
        world.driver.device().assert_no_violations();
    }
    world.allocator.engine().end_quarantines();
    world.end(&[]);
}

/// A sparse buffer has no memory of its own: the program binds what it has allocated to it.
#[test]
fn memory_for_sparse_resources_is_memory_like_any() {
    let world = World::new("nvidia-h200");
    let info = vk::BufferCreateInfo::default()
        .size(1 << 20)
        .usage(USAGE)
        .flags(vk::BufferCreateFlags::SPARSE_BINDING);
    // SAFETY: a plain create info.
    let refused = unsafe {
        world
            .allocator
            .create_buffer(&info, &AllocationCreateInfo::default(), |on, it| on.allocate(it))
    };
    assert!(refused.is_err(), "{refused:?}");
    let pool = world.pool(world.hidden_type(), None);
    let page = world.memory(pool, 64 << 10, 64 << 10);
    assert_eq!(world.prepare(&[bare(page.id)]), []);
    assert!(page.offset.is_multiple_of(64 << 10), "a page begins where it has to");
    assert_eq!(world.assert_intact().ranges, 2);
    let end = (64 << 10) - 1;
    assert_eq!(world.found_at(&page, end), None);
    assert_eq!(world.found_at(&page, end + 1), Some((GuardedUse::BackMargin, end + 1)));
    world.free(&bare(page.id));
    world.allocator.engine().end_quarantines();
    world.end(&[]);
}
