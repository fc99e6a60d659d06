//! Measuring contestants in alternating rounds, and the figures that result.

use std::time::Duration;

/// The results of one contestant's rounds.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Median of the rounds.
    pub median: f64,
    /// Minimum of the rounds.
    pub low: f64,
    /// Maximum of the rounds.
    pub high: f64,
    /// All rounds, in their order.
    rounds: Vec<f64>,
}

impl Figure {
    /// Computes the figure of some rounds.
    ///
    /// # Panics
    /// Without rounds.
    pub fn of(rounds: Vec<f64>) -> Self {
        let sorted = sorted(rounds.iter().copied());
        Self { median: middle(&sorted), low: sorted[0], high: sorted[sorted.len() - 1], rounds }
    }

    /// Returns the figure of a count that is the same in every round.
    pub fn exact(value: f64) -> Self {
        Self::of(vec![value])
    }

    /// Divides this by another figure, round by round. Both have the same number of rounds.
    pub fn over(&self, other: &Self) -> Self {
        assert_eq!(self.rounds.len(), other.rounds.len(), "contestants that took turns");
        Self::of(
            self.rounds.iter().zip(&other.rounds).map(|(ours, theirs)| ours / theirs).collect(),
        )
    }

    /// Returns the ratio to another figure: the median of the ratios within a round, because a shared
    /// machine may be twice as fast in one round as in the next, for both alike. For contestants with
    /// different numbers of rounds, which did not alternate, the ratio of the medians.
    pub fn ratio_to(&self, other: &Self) -> f64 {
        if self.rounds.len() != other.rounds.len() {
            return self.median / other.median;
        }
        self.over(other).median
    }
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

fn middle(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// One contestant: runs a round of its work and returns the number of items.
pub type Round<'a> = Box<dyn FnMut() -> u64 + 'a>;

/// Returns the CPU time of this thread. Other processes do not count: on shared cores wall time includes
/// their time slices.
#[cfg(target_os = "linux")]
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is the system's.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Returns the time since the first call.
#[cfg(not(target_os = "linux"))]
pub fn thread_time() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

/// Runs the contestants in turns (A B C A B C ...); returns nanoseconds of [`thread_time`] per item for
/// each.
pub fn in_turns(rounds: usize, contestants: &mut [Round<'_>]) -> Vec<Figure> {
    let mut taken = vec![Vec::new(); contestants.len()];
    for _ in 0..rounds {
        for (contestant, taken) in contestants.iter_mut().zip(&mut taken) {
            let start = thread_time();
            let items = contestant();
            taken.push((thread_time() - start).as_nanos() as f64 / items as f64);
        }
    }
    taken.into_iter().map(Figure::of).collect()
}

/// Returns the bytes of the C heap in use. VMA's allocation callbacks do not see its node pools, so its
/// metadata is measured as the growth of the heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn heap_bytes() -> usize {
    /// `struct mallinfo2` of glibc.
    #[repr(C)]
    struct Mallinfo2 {
        before: [usize; 4],
        mapped: usize,
        between: [usize; 2],
        used: usize,
        after: [usize; 2],
    }
    unsafe extern "C" {
        fn mallinfo2() -> Mallinfo2;
    }
    // SAFETY: it has no parameters and only reads.
    let info = unsafe { mallinfo2() };
    info.mapped + info.used
}
