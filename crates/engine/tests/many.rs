//! Batches compared with single calls, and batches that fail at item k.

mod common;

use common::{KIB, MIB, World, buffer, flagged, mapped, one_heap};
use vkmem_engine::{
    AllocationCreateFlags as Create, AllocationId, Call, DeviceError, Error, FailedItem,
    PoolCreateInfo,
};

fn ids(made: &[vkmem_engine::Allocation]) -> Vec<AllocationId> {
    made.iter().map(|it| it.id).collect()
}

#[test]
fn the_same_places_as_one_by_one() {
    let requests: Vec<_> = (0..2_000).map(|index| buffer(64 + index % 9 * 100)).collect();
    let (many, single) = (World::new(one_heap(1 << 30)), World::new(one_heap(1 << 30)));
    let made = many.allocator.allocate_many(&requests).unwrap();
    let alone: Vec<_> =
        requests.iter().map(|request| single.allocator.allocate(request).unwrap()).collect();
    let place = |it: &vkmem_engine::Allocation| (it.offset, it.size, it.memory_type_index);
    assert_eq!(
        made.iter().map(place).collect::<Vec<_>>(),
        alone.iter().map(place).collect::<Vec<_>>()
    );
    assert_eq!(many.calls(), single.calls());
    drop(many.allocator.free_many(&ids(&made)));
    alone.iter().for_each(|it| drop(single.allocator.free(it.id)));
    many.assert_empty();
    single.assert_empty();
}

#[test]
fn item_k_fails_and_nothing_is_left() {
    for k in 0..6 {
        for request in [
            flagged(KIB, Create::DEDICATED_MEMORY),
            flagged(KIB, Create::DEDICATED_MEMORY | Create::MAPPED | Create::HOST_ACCESS_RANDOM),
        ] {
            let world = World::new(one_heap(64 * MIB));
            let kept = world.allocator.allocate(&mapped(KIB)).unwrap();
            let before = world.allocator.statistics();
            let is_mapped = request.create_info.flags.contains(Create::MAPPED);
            let calls_each = if is_mapped { 2 } else { 1 };
            world.device.fail_call(k * calls_each, DeviceError::DeviceLost);
            let failed = world.allocator.allocate_many(&[request; 6]).unwrap_err();
            assert_eq!(
                failed,
                FailedItem { index: k as usize, error: Error::DeviceLost("vkAllocateMemory") }
            );
            assert_eq!(world.allocator.statistics(), before);
            world.device.clear_failures();
            let made = world.allocator.allocate_many(&[request; 6]).unwrap();
            drop(world.allocator.free_many(&ids(&made)));
            drop(world.allocator.free(kept.id));
            world.assert_empty();
        }
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_happens() {
    let world = World::new(one_heap(64 * MIB));
    let mut batch = vec![buffer(KIB); 5];
    batch[3].requirements.alignment = 3;
    let failed = world.allocator.allocate_many(&batch).unwrap_err();
    assert_eq!(failed.index, 3);
    assert!(matches!(failed.error, Error::InvalidArgument(_)));
    assert_eq!(world.calls(), 0);
}

#[test]
fn blocks_of_a_batch_that_failed_go_back() {
    let world = World::new(one_heap(64 * MIB));
    let failed = world.allocator.allocate_many(&[buffer(3 * MIB); 40]).unwrap_err();
    assert!(matches!(failed.error, Error::OutOfDeviceMemory { .. }), "{failed:?}");
    assert!(failed.index > 10);
    world.assert_empty();
}

#[test]
fn a_full_pool_with_fallback_goes_on_elsewhere() {
    let world = World::new(one_heap(64 * MIB));
    let rules = PoolCreateInfo {
        block_size: Some(4 * KIB),
        max_block_count: 1,
        fallback: true,
        ..PoolCreateInfo::default()
    };
    let pool = world.allocator.create_pool(&rules).unwrap();
    let mut request = buffer(KIB);
    request.create_info.pool = Some(pool);
    let made = world.allocator.allocate_many(&[request; 6]).unwrap();
    assert_eq!(world.allocator.statistics_of_pool(pool).unwrap().allocation_count, 4);
    drop(world.allocator.free_many(&ids(&made)));
    world.allocator.destroy_pool(pool).unwrap();
    world.assert_empty();
}

#[test]
fn freeing_passes_over_stale_ones_and_gives_the_names() {
    let world = World::new(one_heap(64 * MIB));
    let batch = [buffer(KIB), flagged(KIB, Create::DEDICATED_MEMORY), mapped(KIB), buffer(KIB)];
    let made = ids(&world.allocator.allocate_many(&batch).unwrap());
    world.allocator.set_name(made[1], Some("one")).unwrap();
    world.allocator.set_name(made[3], Some("three")).unwrap();
    drop(world.allocator.free(made[0]));
    let twice: Vec<_> = made.iter().chain(&made).copied().collect();
    let mut freed = world.allocator.free_many(&twice);
    assert_eq!(freed.names, [(1, "one".to_string()), (3, "three".to_string())]);
    freed.releases.clear();
    let released = world.device.call_count(Call::Free);
    assert!(released >= 1);
    world.assert_empty();
}
