//! Violations as records.

use vkmem_engine::{Call, DeviceMemory, MemoryHandle, ViolationKind};

use super::{device, of_type, range};

#[test]
fn ranges_name_the_bytes_outside() {
    let device = device("non-coherent");
    let memory = device.allocate(&of_type(1, 1000)).unwrap();
    for (offset, size, outside) in
        [(990, 20, (1000, 10)), (2000, 8, (2000, 8)), (1000, 1, (1000, 1))]
    {
        device.device_fill(memory, offset, size, &[1]);
        let found = device.take_violation_records();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].call, found[0].memory_type_index), (Call::Submit, Some(1)));
        assert_eq!(found[0].finding.kind, ViolationKind::OutOfBounds);
        assert_eq!(found[0].finding.place, Some(range(memory, outside.0, outside.1)));
        assert!(found[0].to_string().starts_with("vkQueueSubmit: range"));
    }
    device.free(memory);
    device.free(memory);
    device.unmap(MemoryHandle(5));
    let kinds: Vec<_> = device.take_violation_records().iter().map(|it| it.finding.kind).collect();
    assert_eq!(kinds, [ViolationKind::UseAfterFree, ViolationKind::Rule]);
    device.assert_clean();
}

#[test]
fn what_the_device_wrote_since_the_last_invalidate() {
    let device = device("non-coherent");
    let memory = device.allocate(&of_type(1, 200_000)).unwrap();
    let all = range(memory, 0, 200_000);
    assert_eq!(device.not_invalidated(all), None);
    device.device_fill(memory, 70_000, 1, &[1]);
    device.device_fill(memory, 140_001, 2, &[2]);
    assert_eq!(device.not_invalidated(all), Some(70_000..140_003));
    assert_eq!(device.not_invalidated(range(memory, 70_001, 1000)), None);
    assert_eq!(device.not_invalidated(range(memory, 140_002, 1)), Some(140_002..140_003));
    assert_eq!(device.unflushed(all), None);
    device.map(memory).unwrap();
    device.invalidate(&[all]).unwrap();
    assert_eq!(device.not_invalidated(all), None);
    device.free(memory);
    device.assert_clean();
}

#[test]
fn kinds_have_names() {
    use ViolationKind as K;
    for (kind, name) in [
        (K::Rule, "rule"),
        (K::MissingFlush, "missing_flush"),
        (K::MissingInvalidate, "missing_invalidate"),
        (K::MissingBarrier, "missing_barrier"),
        (K::InUse, "in_use"),
        (K::OutOfBounds, "out_of_bounds"),
        (K::UseAfterFree, "use_after_free"),
    ] {
        assert_eq!(kind.name(), name);
    }
}
