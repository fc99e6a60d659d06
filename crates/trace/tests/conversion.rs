//! Recordings of ours in the formats of others: what those can say is kept, the rest is counted.

use vkmem_engine::{
    AllocationCreateFlags, AllocationCreateInfo, AllocationRequest, MemoryRequirements,
    MemoryUsage, PoolCreateInfo, ResourceKind, ResourceUse, profile_info, profile_names,
};
use vkmem_trace::{
    BufferInfo, Call, Data, Description, Event, Failure, Format, GroupKind, Kind, Object, Placed,
    Request, Resource, Trace, TraceBuilder, VERSION, load, write_rmm_csv, write_vma_csv,
};

const SIZE: u64 = 4096;

fn request(usage: MemoryUsage, flags: AllocationCreateFlags, resource: Resource) -> Request {
    let kind = match resource {
        Resource::Buffer(_) => ResourceKind::Buffer,
        _ => ResourceKind::Unknown,
    };
    let engine = AllocationRequest {
        requirements: MemoryRequirements {
            size: SIZE,
            alignment: 256,
            memory_type_bits: 0xF,
            prefers_dedicated: false,
            requires_dedicated: false,
        },
        create_info: AllocationCreateInfo { usage, flags, ..AllocationCreateInfo::default() },
        kind,
        resource_use: ResourceUse::Device,
        dedicated: None,
    };
    Request::of_engine(&engine, None, resource)
}

fn allocate(allocation: u32, request: Request) -> Call<'static> {
    let is_buffer = matches!(request.resource, Resource::Buffer(_));
    Call::Allocate {
        allocation,
        request,
        size: Some(SIZE),
        buffer_size: is_buffer.then_some(SIZE - 100),
        placed: Some(Placed {
            memory_type: Some(2),
            memory: Some(0),
            offset: 512,
            is_dedicated: false,
        }),
        name: None,
        data: Data::None,
    }
}

fn trace(calls: impl IntoIterator<Item = Call<'static>>) -> Trace {
    let device = profile_info(profile_names()[0]);
    let description = Description { device, ..Description::new(Format::VkMem, VERSION) };
    let mut trace = TraceBuilder::new(description);
    for (number, call) in (0..).zip(calls) {
        trace.push(&Event::new(number, number * 1_000_000, call)).expect("small");
    }
    trace.finish()
}

fn buffer() -> Resource {
    Resource::Buffer(BufferInfo { flags: 0, usage: 0x82, sharing_mode: 0 })
}

#[test]
fn usages_of_vma_3_become_the_memory_type_that_was_chosen() {
    let flags = AllocationCreateFlags::HOST_ACCESS_RANDOM | AllocationCreateFlags::MAPPED;
    let auto = request(MemoryUsage::Auto, flags, buffer());
    let failed = Call::AllocateFailed {
        request: auto,
        size: Some(SIZE),
        buffer_size: Some(SIZE),
        failure: Some(Box::new(Failure::default())),
    };
    let ours = trace([allocate(0, auto), failed, Call::Free { allocation: 0 }]);
    let written = write_vma_csv(&ours);
    assert_eq!(written.left_out, []);
    let again = load(written.text.as_bytes()).expect("sound");
    assert_eq!(
        again.description().device.as_ref().map(|it| &it.heaps),
        ours.description().device.as_ref().map(|it| &it.heaps)
    );
    let Call::Allocate { request, buffer_size, size, .. } = again.event(0).call else {
        panic!("{:?}", again.event(0))
    };
    assert_eq!((buffer_size, size), (Some(SIZE - 100), None));
    assert_eq!((request.usage, request.allowed_types), (MemoryUsage::Unknown, 1 << 2));
    assert_eq!(request.flags, AllocationCreateFlags::MAPPED);
    assert_eq!(request.resource, buffer());
    let Call::AllocateFailed { request, .. } = again.event(1).call else {
        panic!("{:?}", again.event(1))
    };
    assert_eq!(request.usage, MemoryUsage::GpuToCpu);
    assert_eq!(again.event(2).call, Call::Free { allocation: 0 });
}

#[test]
fn strategies_have_their_older_names() {
    for (flags, kept) in [
        (AllocationCreateFlags::STRATEGY_MIN_MEMORY, true),
        (AllocationCreateFlags::STRATEGY_MIN_TIME, true),
        (AllocationCreateFlags::STRATEGY_MIN_OFFSET, false),
        (AllocationCreateFlags::CAN_ALIAS, false),
        (AllocationCreateFlags::WITHIN_BUDGET, true),
        (AllocationCreateFlags::CAN_MAKE_OTHER_LOST, true),
    ] {
        let one = request(MemoryUsage::GpuOnly, flags, Resource::Unknown);
        let text = write_vma_csv(&trace([allocate(0, one)])).text;
        let again = load(text.as_bytes()).expect("sound");
        let Call::Allocate { request, .. } = again.event(0).call else {
            panic!("{:?}", again.event(0))
        };
        assert_eq!(request.flags == flags, kept, "{flags:?}");
        assert_eq!((request.alignment, request.memory_type_bits), (Some(256), Some(0xF)));
    }
}

#[test]
fn names_that_come_later_are_kept() {
    let one = request(MemoryUsage::GpuOnly, AllocationCreateFlags::empty(), buffer());
    // A name that could be a pointer.
    let name = Call::Name { object: Object::Allocation(0), name: Some("cafe") };
    let pool = Call::CreatePool {
        pool: Some(0),
        info: PoolCreateInfo { memory_type_index: 1, ..PoolCreateInfo::default() },
        has_next: false,
        failure: None,
    };
    let of_pool = Call::Name { object: Object::Pool(0), name: Some("two\nlines") };
    let ours = trace([pool, of_pool, allocate(0, one), name.clone()]);
    let again = load(write_vma_csv(&ours).text.as_bytes()).expect("sound");
    assert_eq!(again.event(3).call, name);
    let joined = Call::Name { object: Object::Pool(0), name: Some("two lines") };
    assert_eq!(again.event(1).call, joined);
}

#[test]
fn groups_are_one_call_where_there_is_one() {
    let memory = request(MemoryUsage::GpuOnly, AllocationCreateFlags::empty(), Resource::Unknown);
    let one = request(MemoryUsage::GpuOnly, AllocationCreateFlags::empty(), buffer());
    let group = |kind, count| Call::Group { kind, count };
    let ours = trace([
        group(GroupKind::Allocate, 2),
        allocate(0, memory),
        allocate(1, memory),
        group(GroupKind::Free, 2),
        Call::Free { allocation: 1 },
        Call::Free { allocation: 0 },
        // Buffers are created one by one; a group that is longer than the trace is none.
        group(GroupKind::Allocate, 2),
        allocate(2, one),
        allocate(3, one),
        group(GroupKind::Free, 100),
        Call::Free { allocation: 2 },
    ]);
    let written = write_vma_csv(&ours);
    let functions: Vec<&str> = written
        .text
        .lines()
        .filter_map(|line| line.split(',').nth(3).filter(|it| it.starts_with("vma")))
        .collect();
    assert_eq!(
        functions,
        [
            "vmaAllocateMemoryPages",
            "vmaFreeMemoryPages",
            "vmaCreateBuffer",
            "vmaCreateBuffer",
            "vmaDestroyBuffer",
        ]
    );
    assert_eq!(load(written.text.as_bytes()).expect("sound").warnings(), []);
}

#[test]
fn what_others_cannot_say_is_counted() {
    let one = request(MemoryUsage::GpuOnly, AllocationCreateFlags::empty(), buffer());
    let alias = Call::Alias { allocation: 1, base: 0, request: one, size: Some(64), offset: 0 };
    let ours = trace([
        allocate(0, one),
        alias,
        Call::Mark { text: "here" },
        Call::Mark { text: "there" },
        Call::Map { allocation: 0 },
        Call::Map { allocation: 1 },
        Call::Free { allocation: 1 },
        Call::Free { allocation: 0 },
    ]);
    let vma = write_vma_csv(&ours);
    assert_eq!(vma.left_out, [(Kind::Alias, 1), (Kind::Mark, 2), (Kind::Map, 1), (Kind::Free, 1)]);
    let rmm = write_rmm_csv(&ours);
    assert_eq!(rmm.left_out, [(Kind::Alias, 1), (Kind::Mark, 2), (Kind::Map, 2), (Kind::Free, 1)]);
    assert_eq!(load(rmm.text.as_bytes()).expect("sound").columns().sizes(), [SIZE, 0]);
}

#[test]
fn requests_go_back_to_the_engine() {
    for resource in [Resource::Unknown, buffer()] {
        let flags = AllocationCreateFlags::STRATEGY_MIN_MEMORY;
        let ours = request(MemoryUsage::AutoPreferHost, flags, resource);
        let engine = ours.to_engine(SIZE, None, 7).expect("the requirements are known");
        assert_eq!(Request::of_engine(&engine, None, resource), ours);
    }
    assert_eq!(Request::default().to_engine(SIZE, None, 0), None);
}
