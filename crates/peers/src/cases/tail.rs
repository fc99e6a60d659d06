//! The slowest calls when the driver is slow.

use std::hint::spin_loop;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use vkmem_engine::{
    AllocatorOptions, DeviceError, DeviceInfo, DeviceMemory, DriverBudget, HostAddress,
    MemoryAllocateInfo, MemoryHandle, MemoryRange, SimulatedDevice,
};

use super::Effort;
use super::memory::{Memory, Ours, Vma, device, h200};
use crate::measure::Figure;
use crate::random::Random;
use crate::report::{Bar, Peer, Report};
use crate::vma;

/// A device whose memory objects take as long as those of an H200: 64 KiB from 160 to 1,050 us, 256 MiB
/// from 7 to 106 ms, interpolated in between.
pub struct SlowDevice {
    inner: Arc<SimulatedDevice>,
    random: Mutex<Random>,
}

impl SlowDevice {
    /// Creates a device with the same delays in every run.
    pub fn new(info: &DeviceInfo) -> Self {
        Self { inner: device(info), random: Mutex::new(Random(21)) }
    }

    fn delay(&self, size: u64) -> Duration {
        let (small, large) = ((64 << 10) as f64, (256 << 20) as f64);
        let at = ((size as f64).max(small) / small).ln() / (large / small).ln();
        // Between the shortest and the longest, most of them short.
        let low = 160e-6 * (7e-3_f64 / 160e-6).powf(at);
        let high = 1_050e-6 * (106e-3_f64 / 1_050e-6).powf(at);
        let luck = self.random.lock().fraction();
        Duration::from_secs_f64(low * (high / low).powf(luck))
    }
}

impl DeviceMemory for SlowDevice {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn allocate(&self, info: &MemoryAllocateInfo) -> Result<MemoryHandle, DeviceError> {
        sleep(self.delay(info.size));
        self.inner.allocate(info)
    }

    fn free(&self, memory: MemoryHandle) {
        self.inner.free(memory);
    }

    fn map(&self, memory: MemoryHandle) -> Result<HostAddress, DeviceError> {
        self.inner.map(memory)
    }

    fn unmap(&self, memory: MemoryHandle) {
        self.inner.unmap(memory);
    }

    fn flush(&self, ranges: &[MemoryRange]) -> Result<(), DeviceError> {
        self.inner.flush(ranges)
    }

    fn invalidate(&self, ranges: &[MemoryRange]) -> Result<(), DeviceError> {
        self.inner.invalidate(ranges)
    }

    fn budget(&self) -> Option<Vec<DriverBudget>> {
        self.inner.budget()
    }
}

/// No allocator: reads 64 cold cache lines, which takes about as long as a create. The slowest of these
/// show what the machine does to every contestant.
struct ColdReads {
    lines: Vec<[u64; 8]>,
    random: Mutex<Random>,
}

impl ColdReads {
    fn new() -> Self {
        Self { lines: vec![[1; 8]; 1 << 16], random: Mutex::new(Random(23)) }
    }
}

impl Memory for ColdReads {
    type Handle = u64;

    fn allocate(&self, _: u64, _: u32) -> Option<u64> {
        let mut random = self.random.lock();
        Some((0..64).map(|_| self.lines[random.below(1 << 16) as usize][0]).sum())
    }

    fn free(&self, _: u64) {}
}

/// Returns how long this thread has been ready to run without a core; 0 if the system does not report it.
fn time_without_core() -> Duration {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = said.split_whitespace().nth(1).and_then(|it| it.parse().ok());
    Duration::from_nanos(waited.unwrap_or(0))
}

/// Durations of the create calls in microseconds, in their order.
struct Taken {
    /// Wall time.
    all: Vec<f64>,
    /// Wall time without the time that the thread waited for a core.
    own: Vec<f64>,
}

/// Creates one allocation per millisecond until `bytes` are live. The thread spins in between: on a
/// virtual machine the first microseconds after a sleep may take a millisecond, whatever runs in them.
fn grow<M: Memory>(memory: &M, bytes: u64) -> Taken {
    let mut random = Random(22);
    let (mut live, mut held) = (Vec::new(), 0);
    let mut taken = Taken { all: Vec::new(), own: Vec::new() };
    let mut next = Instant::now();
    while held < bytes {
        // A late frame does not make the next ones early.
        next = next.max(Instant::now());
        let size = random.size();
        let before = time_without_core();
        let start = Instant::now();
        let handle = memory.allocate(size, 1 << 1);
        let all = start.elapsed();
        let waited = time_without_core().saturating_sub(before);
        taken.all.push(all.as_secs_f64() * 1e6);
        taken.own.push(all.saturating_sub(waited).as_secs_f64() * 1e6);
        live.push(handle.expect("there is room"));
        held += size;
        next += Duration::from_millis(1);
        while Instant::now() < next {
            spin_loop();
        }
    }
    live.into_iter().for_each(|it| memory.free(it));
    taken
}

/// Returns the value below which this share of the durations lies.
fn quantile(taken: &[f64], share: f64) -> Figure {
    let mut sorted = taken.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() as f64 * share) as usize;
    Figure::exact(sorted[index.min(sorted.len() - 1)])
}

/// Measures p99.99 and the slowest call, with prefetched blocks.
pub fn tail(report: &mut Report, effort: Effort) {
    let bytes: u64 = if effort.quick { 1 << 30 } else { 20 << 30 };
    report.section(&format!(
        "one create a ms until {} GiB live, a driver as slow as an H200's: time of a create call",
        bytes >> 30
    ));
    let options = AllocatorOptions { prefetch: true, ..AllocatorOptions::default() };
    let slow = || Arc::new(SlowDevice::new(&h200()));
    let ours = grow(&Ours::new(slow(), &options), bytes);
    let theirs = grow(&Vma::new(slow(), &vma::Options::default()), bytes);
    let nobodys = grow(&ColdReads::new(), bytes);
    let n = ours.all.len() as u64;
    let bar = Some(Bar::AtMost(100.0));
    let beside = |of: fn(&Taken) -> &[f64], share| {
        let peers = [("vma default", &theirs), ("no allocator", &nobodys)];
        peers.map(|(name, taken)| Peer::new(name, &quantile(of(taken), share)))
    };
    for (case, share, bar) in [
        ("p50 of a create", 0.5, None),
        ("p99 of a create", 0.99, None),
        ("p99.99 of a create", 0.9999, bar),
        ("slowest create", 1.0, None),
    ] {
        let peers = beside(|it| &it.all, share);
        report.add_with_bar(case, n, "us", &quantile(&ours.all, share), bar, &peers);
    }
    // If other processes use the cores, an empty call takes one of their time slices now and then.
    for (case, share, bar) in
        [("p99.99, core waits left out", 0.9999, bar), ("slowest, core waits left out", 1.0, None)]
    {
        let peers = beside(|it| &it.own, share);
        report.add_with_bar(case, n, "us", &quantile(&ours.own, share), bar, &peers);
    }
    // The first call creates everything.
    let after = quantile(&ours.own[1..], 1.0);
    let peers = [Peer::new("vma default", &quantile(&theirs.own[1..], 1.0))];
    report.add("slowest but the first, the same", n, "us", &after, &peers);
    let slow: Vec<_> = (0..).zip(&ours.own).filter(|(_, it)| **it > 100.0).collect();
    let few: Vec<_> = slow.iter().take(12).map(|(at, it)| format!("{at}: {it:.0}")).collect();
    println!("    ours above 100 us: {} of {n}; the first ones {}", slow.len(), few.join(", "));
}
