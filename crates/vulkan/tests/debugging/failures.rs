//! Each driver call fails once: nothing is lost, nothing is reported, and the next call does all of it.

use vkmem_engine::{Algorithm, Call, DeviceError, DeviceMemory, Error};
use vkmem_vulkan::{CheckStopped, Checked, Completion};

use crate::{FREED, NEW, World, bare};

/// Returns the outcome of a check that nobody stops.
fn checked(outcome: Result<Checked, CheckStopped>) -> Result<Checked, Error> {
    outcome.map_err(|stopped| match stopped {
        CheckStopped::Failed(error) => error,
        CheckStopped::Interrupted(_) => unreachable!("nobody stops it"),
    })
}

/// Runs `run` with a failure of its nth fallible call, for each n, until it makes fewer calls.
fn each_call_fails(
    world: &World,
    error: DeviceError,
    mut run: impl FnMut() -> Result<(), Error>,
) -> u64 {
    for n in 0.. {
        let device = world.driver.device();
        let (buffers, objects) = (world.driver.live_buffers(), device.live_memory_objects());
        device.fail_call(n, error);
        let outcome = run();
        device.clear_failures();
        let now = (world.driver.live_buffers(), device.live_memory_objects());
        assert_eq!(now, (buffers, objects), "call {n}: something is left");
        device.assert_no_violations();
        match outcome {
            Ok(()) => return n,
            Err(found) => {
                let is_named = match &found {
                    Error::Device(it) => it.result == error && it.call.starts_with("vk"),
                    Error::DeviceLost(call) => call.starts_with("vk"),
                    Error::MemoryMap(_) => true,
                    Error::OutOfHostMemory { call, .. } => call.starts_with("vk"),
                    _ => false,
                };
                assert!(is_named, "call {n}: {found:?}");
            }
        }
    }
    unreachable!("the loop ends when nothing fails")
}

const ERRORS: [DeviceError; 3] =
    [DeviceError::OutOfHostMemory, DeviceError::OutOfDeviceMemory, DeviceError::DeviceLost];

#[test]
fn a_failure_while_memory_is_written_leaves_nothing_behind() {
    for profile in ["nvidia-h200", "non-coherent", "discrete-8gib"] {
        for error in ERRORS {
            let world = World::new(profile);
            for index in world.types() {
                let pool = world.pool(index, Some(Algorithm::Tlsf));
                let made = [1003, 64, 5000].map(|size| world.memory(pool, size, 4));
                let targets = made.map(|it| bare(it.id));
                let calls = each_call_fails(&world, error, || {
                    // SAFETY: live and not in use.
                    let outcome =
                        unsafe { world.debugger.prepare(&world.allocator, &targets, Some(NEW)) };
                    if outcome.is_err() {
                        // What is not known to hold the pattern is not looked at.
                        let checked = world.check();
                        assert_eq!(checked.findings, [], "{profile} {index}");
                    }
                    outcome.map(|left_out| assert_eq!(left_out, []))
                });
                assert!(calls > 0, "{profile} {index}");
                assert_eq!(world.assert_intact().ranges, 6);
                each_call_fails(&world, error, || {
                    // SAFETY: live and not in use.
                    let outcome =
                        unsafe { world.debugger.fill_freed(&world.allocator, &targets, FREED) };
                    outcome.map(|left_out| assert_eq!(left_out, []))
                });
                for it in &made {
                    assert!(world.contents(it).iter().all(|byte| *byte == FREED));
                    drop(world.allocator.engine().free(it.id).unwrap());
                }
                world.allocator.engine().destroy_pool(pool).unwrap();
            }
            world.end(&[]);
        }
    }
}

#[test]
fn a_failure_while_memory_is_checked_is_told_and_no_finding() {
    for profile in ["nvidia-h200", "non-coherent", "discrete-8gib"] {
        for error in ERRORS {
            let world = World::new(profile);
            let mut all = Vec::new();
            for index in world.types() {
                let pool = world.pool(index, Some(Algorithm::Buddy));
                let made = [1000, 64].map(|size| world.memory(pool, size, 16));
                let targets = made.map(|it| bare(it.id));
                world.prepare(&targets);
                world.free(&targets[1]);
                all.push((pool, made[0]));
            }
            let calls = each_call_fails(&world, error, || {
                let freed = |_| Some(FREED);
                let checked =
                    checked(world.debugger.check(&world.allocator, (!0, None), &freed, &|| false))?;
                assert_eq!((checked.findings, checked.unchecked), (vec![], vec![]));
                assert_eq!(checked.ranges, 5 * all.len() as u64);
                Ok(())
            });
            assert!(calls > 0, "{profile}");
            for (pool, made) in all {
                drop(world.allocator.engine().free(made.id).unwrap());
                world.allocator.engine().destroy_pool(pool).unwrap();
            }
            world.end(&[]);
        }
    }
}

#[test]
fn work_that_ends_late_is_waited_for() {
    for completion in [Completion::WhenWaited, Completion::AtOnce] {
        let world = World::new("nvidia-h200");
        world.driver.set_completion(completion);
        let pool = world.pool(world.hidden_type(), Some(Algorithm::Linear));
        let made = world.memory(pool, 1003, 4);
        let target = bare(made.id);
        assert_eq!(world.prepare(&[target]), []);
        assert_eq!(world.driver.pending_submissions(), 0);
        assert!(world.contents(&made).iter().all(|it| *it == NEW));
        world.assert_intact();
        world.free(&target);
        world.assert_intact();
        assert_eq!(world.driver.device().call_count(Call::Submit), 4);
        world.allocator.engine().destroy_pool(pool).unwrap();
        world.end(&[]);
    }
}

/// Without a queue the host reads what the device has written, after an invalidate.
#[test]
fn a_failure_of_the_invalidate_is_told_and_no_finding() {
    for error in ERRORS {
        let world = World::new("non-coherent");
        let index = world.types().into_iter().find(|it| world.driver.info().is_non_coherent(*it));
        let pool = world.pool(index.expect("a type like that"), Some(Algorithm::Tlsf));
        let made = world.memory(pool, 1000, 16);
        world.prepare(&[bare(made.id)]);
        world.driver.set_queue_flags(ash::vk::QueueFlags::empty());
        let invalidates = || world.driver.device().call_count(Call::Invalidate);
        let before = invalidates();
        let calls = each_call_fails(&world, error, || {
            let done = world.debugger.check(&world.allocator, (!0, None), &|_| None, &|| false);
            let checked = checked(done)?;
            assert_eq!((checked.findings, checked.unchecked), (vec![], vec![]));
            assert_eq!(checked.ranges, 2);
            Ok(())
        });
        assert!(calls > 0 && invalidates() - before >= 2, "it was called, and it failed");
        drop(world.allocator.engine().free(made.id).unwrap());
        world.allocator.engine().destroy_pool(pool).unwrap();
        world.end(&[]);
    }
}
