//! The engine of transfers on simulated devices: bytes, waits, failures.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ash::vk;
use vkmem_engine::{
    AllocationCreateFlags, AllocationCreateInfo, AllocationId, AllocatorOptions, Call, DeviceError,
};
use vkmem_vulkan::{
    BufferPart, Completion, DeviceAllocator, Job, Progress, ResourceHandle, SimulatedDriver,
    Target, TransferCall, TransferEngine,
};

use crate::{KIB, buffer_info, driver};

struct Setup {
    driver: Arc<SimulatedDriver>,
    allocator: DeviceAllocator,
    engine: TransferEngine,
    buffer: vk::Buffer,
    id: AllocationId,
}

fn bytes(size: u64, seed: u64) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + at / 251 + seed * 31) as u8).collect()
}

impl Setup {
    fn new(profile: &str, size: u64, ring: u64) -> Self {
        let driver = Arc::new(driver(profile));
        let allocator = DeviceAllocator::new(driver.clone(), &AllocatorOptions::default()).unwrap();
        let usage = vk::BufferUsageFlags::TRANSFER_SRC | vk::BufferUsageFlags::TRANSFER_DST;
        let create = AllocationCreateInfo {
            flags: AllocationCreateFlags::DEDICATED_MEMORY,
            ..Default::default()
        };
        // SAFETY: made here.
        let (buffer, allocation) = unsafe {
            allocator.create_buffer(&buffer_info(size, usage), &create, |on, request| {
                on.allocate(request)
            })
        }
        .unwrap();
        let engine = TransferEngine::new(ring);
        Self { driver, allocator, engine, buffer, id: allocation.id }
    }

    fn call<'a>(&'a self, job: &'a Arc<Job>, batch: Option<u64>, offset: u64) -> TransferCall<'a> {
        TransferCall {
            allocator: &self.allocator,
            job,
            batch,
            part: BufferPart { buffer: self.buffer, offset, is_shared: false },
            pause: &|| false,
            between: &|_| false,
        }
    }

    fn upload(&self, data: &[u8], offset: u64, batch: Option<u64>) -> Arc<Job> {
        let job = Arc::new(Job::new(data.len() as u64));
        let source = data.as_ptr().expose_provenance();
        let fill = |from: u64, length: usize, to: usize| {
            // SAFETY: inside of the data, and the engine's own memory.
            unsafe { std::ptr::copy((source + from as usize) as *const u8, to as *mut u8, length) };
            Ok(())
        };
        self.engine.upload(&self.call(&job, batch, offset), &fill, 1, false).unwrap();
        job
    }

    fn download(&self, target: &mut [u8], offset: u64) -> Arc<Job> {
        let job = Arc::new(Job::new(target.len() as u64));
        let to = target.as_mut_ptr().expose_provenance();
        // SAFETY: every test waits for the job before the target goes.
        unsafe { self.engine.download(&self.call(&job, None, offset), to, Target::InUse) }.unwrap();
        job
    }

    fn wait(&self, job: &Job) {
        assert_eq!(self.engine.wait(&self.allocator, job, None, &|| false), Ok(true));
    }

    fn read(&self, size: u64, offset: u64) -> Vec<u8> {
        let mut found = vec![0; size as usize];
        let job = self.download(&mut found, offset);
        self.wait(&job);
        assert_eq!(job.progress(), Progress::Ended(None));
        found
    }

    fn end(self) {
        // SAFETY: every job has ended.
        assert!(unsafe { self.engine.release(&self.allocator) });
        // SAFETY: nothing uses it.
        drop(unsafe { self.allocator.destroy(ResourceHandle::Buffer(self.buffer), Some(self.id)) });
        drop(self.allocator);
        assert_eq!(self.driver.live_buffers(), 0);
        self.driver.assert_clean();
    }
}

#[test]
fn bytes_arrive_whatever_their_number() {
    for profile in ["non-coherent", "discrete-8gib", "lavapipe"] {
        for completion in [Completion::AtOnce, Completion::WhenWaited] {
            let setup = Setup::new(profile, 600 * KIB, 64 * KIB);
            setup.driver.set_completion(completion);
            for (seed, size, offset) in [
                (1, 1, 0),
                (2, 4 * KIB, 3),
                (3, 16 * KIB, 0),
                (4, 16 * KIB + 1, 5),
                (5, 64 * KIB, 1),
                (6, 600 * KIB, 0),
                (7, 333_333, 12_345),
            ] {
                let data = bytes(size, seed);
                let job = setup.upload(&data, offset, None);
                setup.wait(&job);
                assert_eq!(job.progress(), Progress::Ended(None));
                assert_eq!(setup.read(size, offset), data);
            }
            let counts = setup.engine.counts();
            assert!(counts.waits > 0 && counts.ring_bytes == 128 * KIB, "{counts:?}");
            setup.end();
        }
    }
}

#[test]
fn large_transfers_are_shared_by_threads() {
    // The first is copied out while the call runs, the second one, which fits the ring, by the wait for it.
    for (size, ring) in [(40 << 20, 4 << 20), (13 << 20, 32 << 20)] {
        for completion in [Completion::AtOnce, Completion::WhenWaited] {
            let setup = Setup::new("discrete-8gib", size, ring);
            setup.driver.set_completion(completion);
            let data = bytes(size, 9);
            let job = setup.upload(&data, 0, None);
            assert!(setup.read(size, 0) == data);
            let mut target = vec![0xee; size as usize];
            let part = &mut target[4321..size as usize - 99];
            let back = setup.download(part, 77);
            setup.wait(&back);
            assert!(*part == data[77..77 + part.len()]);
            assert!(target[..4321].iter().all(|it| *it == 0xee));
            assert!(target[size as usize - 99..].iter().all(|it| *it == 0xee));
            setup.wait(&job);
            setup.end();
        }
    }
}

#[test]
fn a_download_arrives_part_by_part() {
    let setup = Setup::new("non-coherent", 256 * KIB, 256 * KIB);
    let data = bytes(100 * KIB, 5);
    let job = setup.upload(&data, 0, None);
    setup.wait(&job);
    setup.driver.set_completion(Completion::Held);
    let mut target = vec![0; data.len()];
    let job = setup.download(&mut target, 0);
    let pieces = setup.driver.pending_submissions();
    assert!(pieces > 4, "{pieces}");
    setup.driver.complete_submissions(pieces / 2);
    let until = Some(Instant::now() + Duration::from_millis(20));
    assert_eq!(setup.engine.wait(&setup.allocator, &job, until, &|| false), Ok(false));
    let arrived = target.iter().zip(&data).take_while(|(found, sent)| found == sent).count();
    assert!(arrived > data.len() / 3 && arrived < data.len() - 1000, "{arrived}");
    setup.driver.complete_submissions(pieces);
    setup.wait(&job);
    assert_eq!((job.progress(), target), (Progress::Ended(None), data));
    setup.end();
}

#[test]
fn a_batch_is_one_submission() {
    let setup = Setup::new("non-coherent", 64 * KIB, 64 * KIB);
    let batch = setup.engine.open_batch();
    let jobs: Vec<_> =
        (0..12).map(|it| setup.upload(&bytes(512, it), it * 512, Some(batch))).collect();
    assert_eq!(setup.engine.counts().submits, 0);
    assert_eq!(jobs[3].progress(), Progress::Recorded(batch));
    assert!(!setup.engine.poll(&setup.allocator, &jobs[3]));
    setup.engine.close_batch(&setup.allocator, batch);
    assert_eq!(setup.engine.counts().submits, 1);
    for (seed, job) in (0..).zip(&jobs) {
        setup.wait(job);
        assert_eq!(setup.read(512, seed * 512), bytes(512, seed));
    }
    // Who waits for a part of an open batch has it submitted.
    let batch = setup.engine.open_batch();
    let job = setup.upload(&bytes(512, 50), 0, Some(batch));
    setup.wait(&job);
    assert_eq!(setup.read(512, 0), bytes(512, 50));
    setup.engine.close_batch(&setup.allocator, batch);
    // One batch writes the bytes twice: the later write stays.
    let batch = setup.engine.open_batch();
    let first = setup.upload(&bytes(512, 51), 0, Some(batch));
    let second = setup.upload(&bytes(512, 52), 0, Some(batch));
    setup.engine.flush(&setup.allocator);
    setup.wait(&first);
    setup.wait(&second);
    assert_eq!(setup.read(512, 0), bytes(512, 52));
    // A full ring submits what others have gathered.
    let more: Vec<_> =
        (0..40).map(|it| setup.upload(&bytes(4 * KIB, it), 0, Some(batch))).collect();
    setup.engine.close_batch(&setup.allocator, batch);
    more.iter().for_each(|job| setup.wait(job));
    setup.end();
}

#[test]
fn a_wait_ends_at_its_time_or_when_it_is_told() {
    let setup = Setup::new("non-coherent", 64 * KIB, 64 * KIB);
    setup.driver.set_completion(Completion::Held);
    let job = setup.upload(&bytes(KIB, 1), 0, None);
    let begun = Instant::now();
    let until = Some(begun + Duration::from_millis(120));
    let waited = setup.engine.wait(&setup.allocator, &job, until, &|| false);
    assert_eq!(waited, Ok(false));
    assert!(begun.elapsed() >= Duration::from_millis(120));
    let stopped = setup.engine.wait(&setup.allocator, &job, None, &|| true);
    assert!(stopped.is_err());
    assert!(!setup.engine.poll(&setup.allocator, &job));
    setup.driver.complete_submissions(1);
    assert!(setup.engine.poll(&setup.allocator, &job));
    // A download that has not ended may be looked at as often as one likes.
    let mut target = vec![0; 1024];
    let job = setup.download(&mut target, 0);
    assert!(!setup.engine.poll(&setup.allocator, &job) && target == [0; 1024]);
    setup.driver.complete_submissions(1);
    assert!(setup.engine.poll(&setup.allocator, &job));
    assert_eq!(target, bytes(KIB, 1));
    setup.end();
}

#[test]
fn the_host_must_not_touch_what_the_device_uses() {
    let setup = Setup::new("lavapipe", 64 * KIB, 64 * KIB);
    setup.driver.set_completion(Completion::Held);
    let job = setup.upload(&bytes(KIB, 1), 0, None);
    use vkmem_vulkan::Driver;
    let info = setup.allocator.engine().info(setup.id).unwrap();
    let range = vkmem_engine::MemoryRange { memory: info.memory, offset: info.offset, size: 16 };
    setup.driver.host_access(range, false);
    let found = setup.driver.device().violations();
    assert!(found.len() == 1 && found[0].contains("the host reads 16 bytes"), "{found:?}");
    setup.driver.complete_submissions(9);
    setup.wait(&job);
    setup.driver.host_access(range, true);
    assert_eq!(setup.driver.device().violations().len(), 1);
}

#[test]
fn many_threads_share_the_rings() {
    let setup = Setup::new("non-coherent", 8 * 64 * KIB, 64 * KIB);
    thread::scope(|scope| {
        for number in 0..8 {
            let setup = &setup;
            scope.spawn(move || {
                for round in 0..20 {
                    let size = if number == 0 { 60 * KIB } else { 1 + (round * 977) % (8 * KIB) };
                    let data = bytes(size, number * 100 + round);
                    let job = setup.upload(&data, number * 64 * KIB, None);
                    assert_eq!(setup.read(size, number * 64 * KIB), data);
                    setup.wait(&job);
                }
            });
        }
    });
    setup.end();
}

#[test]
fn each_call_of_the_driver_may_fail() {
    let mut failed = 0;
    for size in [KIB, 200 * KIB] {
        for error in [DeviceError::OutOfDeviceMemory, DeviceError::DeviceLost] {
            for number in 0..40 {
                let setup = Setup::new("non-coherent", 256 * KIB, 64 * KIB);
                setup.driver.set_completion(Completion::WhenWaited);
                let data = bytes(size, 3);
                setup.driver.device().fail_call(number, error);
                let job = setup.upload(&data, 0, None);
                setup.wait(&job);
                let mut target = vec![0; size as usize];
                let back = setup.download(&mut target, 0);
                setup.wait(&back);
                let ends = [job.progress(), back.progress()];
                failed += u32::from(ends.iter().any(|it| *it != Progress::Ended(None)));
                setup.driver.device().clear_failures();
                // Whatever failed, the rings go on.
                let job = setup.upload(&data, 0, None);
                assert_eq!(setup.read(size, 0), data, "call {number}");
                setup.wait(&job);
                assert_eq!(job.progress(), Progress::Ended(None));
                setup.end();
            }
        }
    }
    assert!(failed > 20, "{failed}");
}

#[test]
fn a_steady_state_allocates_nothing() {
    let setup = Setup::new("non-coherent", 256 * KIB, 64 * KIB);
    let data = bytes(200 * KIB, 3);
    let mut before = None;
    for _ in 0..5 {
        let job = setup.upload(&data, 0, None);
        assert!(setup.read(200 * KIB, 0) == data);
        setup.wait(&job);
        let calls = [Call::Allocate, Call::CreateBuffer, Call::Map];
        let now = calls.map(|call| setup.driver.device().call_count(call));
        assert_eq!(*before.get_or_insert(now), now);
    }
    setup.end();
}
