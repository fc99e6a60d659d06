//! Failures, latencies, records, budgets, threads.

use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use vkmem_engine::{
    Call, DedicatedTarget, DeviceError, DeviceMemory, DriverBudget, MemoryAllocateInfo,
    MemoryHandle, SimulatedDevice,
};

use super::{MIB, assert_one_violation, device, of_type, range, small_info};

#[test]
fn the_nth_fallible_call_fails() {
    let device = device("non-coherent");
    device.fail_call(0, DeviceError::OutOfHostMemory);
    device.fail_call(3, DeviceError::DeviceLost);
    assert_eq!(device.allocate(&of_type(1, 1024)), Err(DeviceError::OutOfHostMemory));
    let memory = device.allocate(&of_type(1, 1024)).unwrap();
    device.map(memory).unwrap();
    // Infallible calls do not count.
    device.unmap(memory);
    assert_eq!(device.map(memory), Err(DeviceError::DeviceLost));
    assert!(!device.memory(memory).unwrap().mapped);
    device.map(memory).unwrap();
    device.fail_call(1, DeviceError::DeviceLost);
    device.flush(&[range(memory, 0, 256)]).unwrap();
    assert_eq!(device.invalidate(&[range(memory, 0, 256)]), Err(DeviceError::DeviceLost));
    device.fail_call(0, DeviceError::TooManyObjects);
    assert_eq!(device.enter(Call::CreateBuffer), Err(DeviceError::TooManyObjects));
    device.free(memory);
    device.assert_clean();
    assert_eq!(device.fallible_call_count(), 8);
}

#[test]
fn calls_of_one_kind_fail_as_often_as_asked() {
    let device = SimulatedDevice::new(small_info());
    device.fail_next(Call::Allocate, 2, DeviceError::OutOfDeviceMemory);
    device.fail_next(Call::Allocate, 1, DeviceError::OutOfHostMemory);
    device.fail_next(Call::BindBuffer, u64::MAX, DeviceError::DeviceLost);
    let outcomes: Vec<_> = (0..4).map(|_| device.allocate(&of_type(0, 64)).err()).collect();
    let out = Some(DeviceError::OutOfDeviceMemory);
    assert_eq!(outcomes, [out, out, Some(DeviceError::OutOfHostMemory), None]);
    assert_eq!(device.live_memory_objects(), 1, "failures changed nothing");
    assert!((0..10).all(|_| device.enter(Call::BindBuffer) == Err(DeviceError::DeviceLost)));
    device.fail_call(0, DeviceError::DeviceLost);
    device.clear_failures();
    assert_eq!(device.enter(Call::BindBuffer), Ok(()));
}

#[test]
#[should_panic(expected = "vkFreeMemory cannot fail")]
fn a_call_that_cannot_fail_is_not_made_to() {
    device("lavapipe").fail_next(Call::Free, 1, DeviceError::DeviceLost);
}

#[test]
fn the_log_holds_what_was_called() {
    let device = device("non-coherent");
    let unseen = device.allocate(&of_type(1, 512)).unwrap();
    assert!(device.log().is_empty(), "off at first");
    device.record_log(true);
    let memory = device.allocate(&of_type(2, 1024)).unwrap();
    device.fail_next(Call::Map, 1, DeviceError::MemoryMapFailed);
    assert!(device.map(memory).is_err());
    device.occupy(1, u64::MAX);
    assert!(device.allocate(&of_type(1, 64)).is_err());
    device.enter_about(Call::BindBuffer, &[range(memory, 256, 64)]).unwrap();
    device.free(memory);
    device.record_log(false);
    device.free(unseen);
    let log = device.log();
    let calls: Vec<_> = log.iter().map(|record| (record.number, record.call)).collect();
    let expected = [Call::Allocate, Call::Map, Call::Allocate, Call::BindBuffer, Call::Free];
    assert!(calls.into_iter().eq((1..).zip(expected)));
    assert_eq!(log[0].ranges, [range(memory, 0, 1024)]);
    assert_eq!((log[0].memory_type_index, log[0].result), (Some(2), Ok(())));
    assert_eq!(log[1].result, Err(DeviceError::MemoryMapFailed));
    assert_eq!(log[2].result, Err(DeviceError::OutOfDeviceMemory));
    assert_eq!(log[2].ranges, [range(MemoryHandle(0), 0, 64)]);
    assert_eq!(log[3].ranges, [range(memory, 256, 64)]);
    assert_eq!(log[4].ranges, [range(memory, 0, 1024)]);
    assert!(log.iter().all(|record| record.thread == thread::current().id()));
    assert!(log.is_sorted_by_key(|record| record.began));
    assert_eq!(device.call_count(Call::Allocate), 3);
    device.clear_log();
    assert!(device.log().is_empty());
}

#[test]
fn a_slow_call_keeps_nobody_else_waiting() {
    let device = SimulatedDevice::new(small_info());
    device.set_latency(Call::Allocate, Duration::from_secs(1));
    thread::scope(|scope| {
        let began = Instant::now();
        let slow = scope.spawn(|| device.allocate(&of_type(0, 64)).unwrap());
        while device.call_count(Call::Allocate) == 0 {
            thread::yield_now();
        }
        for call in [Call::CreateBuffer, Call::BindBuffer] {
            device.enter(call).unwrap();
        }
        assert_eq!(device.live_memory_objects(), 0);
        device.set_latency_of_all(Duration::ZERO);
        let quick = device.allocate(&of_type(0, 64)).unwrap();
        device.map(quick).unwrap();
        device.free(quick);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        device.free(slow.join().unwrap());
        assert!(began.elapsed() >= Duration::from_secs(1));
    });
    device.assert_clean();
}

#[test]
fn budgets_are_fixed_or_counted() {
    let device = SimulatedDevice::new(small_info());
    assert_eq!(device.budget(), None);
    assert_eq!(device.call_count(Call::Budget), 0);
    let fixed = DriverBudget { usage: 5, budget: 10 };
    device.set_budget(Some(vec![fixed]));
    assert_eq!(device.budget(), Some(vec![fixed]));
    assert_eq!(device.call_count(Call::Budget), 1);
    device.set_live_budget(vec![MIB]);
    let memory = device.allocate(&of_type(0, 100)).unwrap();
    device.occupy(0, 1000);
    assert_eq!(device.budget(), Some(vec![DriverBudget { usage: 100, budget: MIB - 1000 }]));
    device.set_budget(None);
    assert_eq!(device.budget(), None);
    device.free(memory);
}

#[test]
fn many_threads_at_once() {
    const THREADS: u64 = 8;
    let device = device("non-coherent");
    let handles: Vec<HashSet<u64>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|worker| {
                let device = &device;
                scope.spawn(move || {
                    let mut seen = HashSet::new();
                    for round in 0..200 {
                        let info = MemoryAllocateInfo {
                            dedicated: Some(DedicatedTarget::Buffer(worker)),
                            ..of_type(1, 4096)
                        };
                        let memory = device.allocate(&info).unwrap();
                        assert!(seen.insert(memory.0));
                        device.map(memory).unwrap();
                        let value = (worker * 31 + round) as u8;
                        device.device_fill(memory, 0, 4096, &[value]);
                        device.invalidate(&[range(memory, 0, 4096)]).unwrap();
                        device.flush(&[range(memory, 256, 512)]).unwrap();
                        assert_eq!(device.device_read(memory, 1000, 2), [value, value]);
                        let known = device.memory(memory).unwrap();
                        assert_eq!(known.dedicated, info.dedicated);
                        if round % 2 == 0 {
                            device.unmap(memory);
                        }
                        device.free(memory);
                    }
                    seen
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let all: HashSet<_> = handles.iter().flatten().collect();
    assert_eq!(all.len() as u64, THREADS * 200, "handles are unique across threads");
    assert_eq!(device.live_bytes(1), 0);
    device.assert_clean();
}

#[test]
fn two_threads_at_one_object_are_a_violation() {
    let device = SimulatedDevice::new(small_info());
    let memory = device.allocate(&of_type(0, 64)).unwrap();
    device.set_latency(Call::Map, Duration::from_millis(300));
    let barrier = Barrier::new(2);
    let mapped = thread::scope(|scope| {
        let threads = [(); 2].map(|()| {
            scope.spawn(|| {
                barrier.wait();
                device.map(memory).is_ok()
            })
        });
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(mapped.into_iter().filter(|mapped| *mapped).count(), 1);
    assert_one_violation(&device, "in a vkMapMemory of another thread");
    device.free(memory);
    device.assert_clean();
}
