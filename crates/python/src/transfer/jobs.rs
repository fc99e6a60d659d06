//! A list of what is in flight, job by job, as transfers of one job end together.

use std::collections::VecDeque;
use std::slice;
use std::sync::Arc;

use vkmem_vulkan::Job;

/// Transfers that have one job.
pub enum OneJob<T> {
    /// One transfer.
    Alone(Arc<Job>, T),
    /// Several ones, at least one.
    Together(Arc<Job>, Arc<[T]>),
}

impl<T> OneJob<T> {
    /// The job.
    pub fn job(&self) -> &Job {
        match self {
            Self::Alone(job, _) | Self::Together(job, _) => job,
        }
    }

    /// All of them.
    pub fn transfers(&self) -> &[T] {
        match self {
            Self::Alone(_, it) => slice::from_ref(it),
            Self::Together(_, all) => all,
        }
    }

    /// Another reference to them.
    fn share(&self, clone: impl FnOnce(&T) -> T) -> Self {
        match self {
            Self::Alone(job, it) => Self::Alone(job.clone(), clone(it)),
            Self::Together(job, all) => Self::Together(job.clone(), all.clone()),
        }
    }
}

/// What is in flight, oldest first.
pub struct InFlight<T> {
    jobs: VecDeque<OneJob<T>>,
    /// Transfers of all of them.
    count: usize,
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self { jobs: VecDeque::new(), count: 0 }
    }
}

impl<T> InFlight<T> {
    /// Adds the newest.
    pub fn push(&mut self, new: OneJob<T>) {
        self.count += new.transfers().len();
        self.jobs.push_back(new);
    }

    /// Returns the number of transfers.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether a transfer is one that the caller looks for.
    pub fn any(&self, is_it: impl Fn(&T) -> bool) -> bool {
        self.jobs.iter().any(|it| it.transfers().iter().any(&is_it))
    }

    /// Returns references to those of the oldest jobs, of `count` jobs at most.
    pub fn oldest(&self, count: usize, clone: impl Fn(&T) -> T) -> Vec<OneJob<T>> {
        self.jobs.iter().take(count).map(|it| it.share(&clone)).collect()
    }

    /// Takes those out at the front that are known to have ended.
    pub fn take_first_ended(&mut self) -> Vec<OneJob<T>> {
        let ended = |it: &&OneJob<T>| it.job().is_known_to_have_ended();
        let count = self.jobs.iter().take_while(ended).count();
        let gone: Vec<_> = self.jobs.drain(..count).collect();
        self.count -= gone.iter().map(|it| it.transfers().len()).sum::<usize>();
        gone
    }

    /// Takes all out that are known to have ended.
    pub fn take_ended(&mut self) -> Vec<OneJob<T>> {
        let (gone, left): (Vec<_>, Vec<_>) =
            self.jobs.drain(..).partition(|it| it.job().is_known_to_have_ended());
        self.jobs = left.into();
        self.count -= gone.iter().map(|it| it.transfers().len()).sum::<usize>();
        gone
    }
}
