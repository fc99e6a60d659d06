//! [`Attached`]: what an allocator has while it is recorded.

use std::collections::HashSet;
use std::sync::Arc;

use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_trace::{Source, set_call_site};

use super::session::Session;
use crate::observe::call_site::CallSites;

/// What an allocator has while it is recorded.
pub struct Attached {
    pub session: Arc<Session>,
    pub source: Arc<Source>,
    /// Whether the recording ends with the allocator.
    pub is_own: bool,
    /// Call sites that the recording knows.
    sites: Mutex<HashSet<u32>, rank::AttachedAllocators>,
}

impl Attached {
    pub fn new(session: Arc<Session>, source: Arc<Source>, is_own: bool) -> Arc<Self> {
        Arc::new(Self { session, source, is_own, sites: Mutex::default() })
    }

    /// Notes where the call is made that creates something next on this thread.
    pub fn note_call_site(&self, py: Python<'_>, sites: &CallSites) {
        let site = sites.capture_tracked(py);
        if let Some(site) = site {
            let is_new = self.sites.lock().insert(site);
            if is_new {
                self.source.define_call_site(site, sites.frames(py, site));
            }
        }
        set_call_site(site);
    }
}
