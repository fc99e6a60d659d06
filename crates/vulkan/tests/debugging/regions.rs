//! Margins that are read together with what lies between them.

use vkmem_engine::{Algorithm, DeviceMemory, GuardedUse};

use crate::corruption::Writer;
use crate::{World, bare};

#[test]
fn margins_near_each_other_and_far_apart_are_checked_byte_by_byte() {
    let world = World::new("discrete-8gib");
    let pool = world.pool(world.hidden_type(), Some(Algorithm::Tlsf));
    let sizes = [16, 4000, 4096, 4100, 9000, 64, 100_000, 4064, 4080, 32];
    let made = sizes.map(|size| world.memory(pool, size, 16));
    world.prepare(&made.map(|it| bare(it.id)));
    for it in &made {
        // Contents change, also right beside the margins.
        for offset in [0, 7, it.size.cast_signed() - 1] {
            world.flip(Writer::Device, it, offset);
        }
    }
    let checked = world.assert_intact();
    assert_eq!((checked.ranges, checked.submissions), (20, 1));
    for it in &made {
        let size = it.size.cast_signed();
        for (offset, is) in [
            (-16, GuardedUse::FrontMargin),
            (-1, GuardedUse::FrontMargin),
            (size, GuardedUse::BackMargin),
            (size + 15, GuardedUse::BackMargin),
        ] {
            world.flip(Writer::Device, it, offset);
            world.assert_found(it, offset, is, &(it.size, offset));
            world.flip(Writer::Device, it, offset);
        }
    }
    made.iter().for_each(|it| world.free(&bare(it.id)));
    world.allocator.engine().destroy_pool(pool).unwrap();
    world.end(&[]);
}

#[test]
fn contents_that_the_host_has_not_flushed_are_not_read() {
    let world = World::new("non-coherent");
    let index = world.types().into_iter().find(|it| world.driver.info().is_non_coherent(*it));
    let pool = world.pool(index.unwrap(), Some(Algorithm::Tlsf));
    let made = [100; 3].map(|size| world.memory(pool, size, 4));
    world.prepare(&made.map(|it| bare(it.id)));
    let engine = world.allocator.engine();
    for it in &made {
        let address = engine.map(it.id).unwrap();
        let at = std::ptr::with_exposed_provenance_mut::<u8>(address.0.get());
        // SAFETY: the allocation is mapped, and no other thread is there.
        unsafe { at.write_bytes(7, 100) };
    }
    assert_eq!(world.assert_intact().submissions, 1);
    world.driver.device().assert_no_violations();
    for it in &made {
        engine.flush(it.id, 0, 100).unwrap();
        assert_eq!(world.contents(it), [7; 100]);
        engine.unmap(it.id).unwrap();
        world.free(&bare(it.id));
    }
    engine.destroy_pool(pool).unwrap();
    world.end(&[]);
}
