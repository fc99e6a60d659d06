//! The end of a resource: destroyed, retired, or let go of.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use vkmem_engine::{Release, human_bytes};
use vkmem_vulkan::prefetch_line;

use super::counted::{Owned, Spare};
use super::ownership::{Live, PendingRelease, Resource, ResourceRef};
use super::pins::NotClosed;
use super::unflushed;
use crate::errors::pinned;
use crate::interpreter::{detach, try_attach, warn_unclosed};

/// What `retire` is called in errors.
const RETIRE: &str = "retire";

thread_local! {
    static SPARES: RefCell<Vec<Spare<Resource>>> = const { RefCell::new(Vec::new()) };
}

impl Owned for Resource {
    #[inline]
    fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }

    #[inline]
    fn last_reference_dropped(&self) {
        if !(self.pins.is_closed() && !self.is_listed() || self.allocator.device.is_forked()) {
            self.leave_behind();
        }
    }

    #[inline(always)]
    fn with_spares<R>(look: impl FnOnce(&RefCell<Vec<Spare<Self>>>) -> R) -> Option<R> {
        SPARES.try_with(look).ok()
    }
}

impl Resource {
    /// What has to be given back of it.
    #[inline]
    pub(crate) fn pending_release(&self) -> PendingRelease {
        let alias_of = self.alias().map(|alias| alias.base.downgrade());
        let (id, size) = (self.allocation().id, self.own_size());
        PendingRelease { handle: self.handle(), id, size, alias_of, _held: self.take_held() }
    }

    /// Ends it, unless a view or a call uses it. Nothing happens the second time.
    #[inline]
    pub fn destroy(&self, py: Python<'_>) -> PyResult<()> {
        // Once the allocator is closed, so is this. The driver may call back, and from there the
        // interpreter may be let go of: so it stays open.
        let Some(_inside) = self.allocator.pins.pin(py) else { return Ok(()) };
        prefetch_line(self.allocation().hint.0);
        self.allocator.device.check_process(py)?;
        if !self.end(py, "destroy")? {
            return Ok(());
        }
        if let Some(lost) = self.lost_writes() {
            self.give_back(py);
            return unflushed::warn(py, &lost);
        }
        self.give_back(py);
        Ok(())
    }

    /// Destroys the handle and frees the memory.
    #[inline(always)]
    fn give_back(&self, py: Python<'_>) {
        let release = self.pending_release().release(&self.allocator);
        if release.calls_driver() {
            self.end_release(py, release);
        }
    }

    #[cold]
    #[inline(never)]
    fn end_release(&self, py: Python<'_>, release: Release) {
        detach(py, || drop(release));
        self.allocator.tell_device_memory(py);
    }

    /// Closes it and leaves the list of live things; false if that was done before.
    #[inline]
    fn end(&self, py: Python<'_>, verb: &str) -> PyResult<bool> {
        match self.pins.close(py) {
            Err(NotClosed::Already) => return Ok(false),
            Err(NotClosed::InUse) if verb == RETIRE && self.has_views_alone() => {
                self.pins.close_to_new(py);
            }
            Err(NotClosed::InUse) => return Err(self.still_in_use(verb)),
            Ok(()) => {}
        }
        // From here on nothing new is bound to it.
        let bound = self.bound_here.load(Ordering::Acquire);
        // What was retired before it is released before it.
        let waits = || verb == RETIRE && bound == self.allocator.waiting_in(self);
        if bound > 0 && !waits() {
            self.pins.reopen(py);
            return Err(self.still_bound(verb));
        }
        self.unlist_and_keep_name();
        Ok(true)
    }

    /// Destroys one that nobody has seen yet.
    #[cold]
    pub fn discard(&self, py: Python<'_>) {
        if self.pins.close(py).is_ok() {
            self.leave();
            self.give_back(py);
        }
    }

    /// Ends it for Python; the device may go on for the frames in flight, and open views until they end.
    pub fn retire(this: &ResourceRef, py: Python<'_>) -> PyResult<()> {
        this.allocator.device.check_process(py)?;
        if this.end(py, RETIRE)? {
            this.retired.store(true, Ordering::Relaxed);
            if this.has_users() {
                // What a view wrote is flushed with its end.
                this.allocator.collect_viewed(this);
                return Ok(());
            }
            let lost = this.lost_writes();
            this.allocator.collect(this);
            if let Some(lost) = lost {
                return unflushed::warn(py, &lost);
            }
        }
        Ok(())
    }

    /// Whether all that uses it are open views, of it or of its aliases.
    fn has_views_alone(&self) -> bool {
        self.pins.count() <= self.open_mappings.load(Ordering::Acquire)
    }

    /// Whether a view, a call or a resource that is bound here still needs its memory.
    pub(crate) fn has_users(&self) -> bool {
        self.pins.is_in_use()
            || self.open_mappings.load(Ordering::Acquire) > 0
            || self.bound_here.load(Ordering::Acquire) > 0
    }

    /// The exception where something is bound to its memory.
    pub(crate) fn still_bound(&self, verb: &str) -> PyErr {
        let what = self.describe();
        pinned(format!("cannot {verb} {what}: a buffer or an image is bound to it"))
    }

    /// The exception where a view or a call uses it.
    pub(crate) fn still_in_use(&self, verb: &str) -> PyErr {
        pinned(format!(
            "cannot {verb} {}: a view of its memory is open, or another thread uses it",
            self.describe()
        ))
    }

    /// Remembers the name for errors and leaves the list of live things.
    #[inline]
    fn unlist_and_keep_name(&self) {
        if self.was_named.load(Ordering::Relaxed)
            && let Ok(Some(name)) = self.name()
        {
            self.remember_name(name);
        }
        self.leave();
    }

    /// Leaves the list of live things.
    #[inline]
    fn leave(&self) {
        self.leave_list(&mut self.allocator.live.lock());
    }

    /// Leaves the list of live things, for who has it locked.
    #[inline]
    pub(crate) fn leave_list(&self, live: &mut Live) {
        if self.is_listed() {
            live.remove(self.place.load(Ordering::Relaxed), self);
            self.listed.store(false, Ordering::Release);
        }
    }

    /// Ends it for a closing allocator or pool, which releases all remains together.
    pub fn close_for_allocator(&self, py: Python<'_>) -> Option<PendingRelease> {
        self.pins.close(py).ok()?;
        self.unlist_and_keep_name();
        Some(self.pending_release())
    }

    #[cold]
    fn leave_behind(&self) {
        if self.pins.is_closed() || self.allocator.pins.is_closed() {
            return self.leave();
        }
        // Nobody holds it any more, but the device may still be using it.
        let description = self.describe();
        let lost = self.lost_writes();
        self.leave();
        let remains_size = self.allocator.collect(self);
        try_attach(|py| {
            let made = self.made_at(py);
            warn_unclosed(
                py,
                &format!(
                    "unclosed {description}, {}{made}: it is released when no frame in flight can \
                     use it, or with its allocator",
                    human_bytes(remains_size)
                ),
            );
            unflushed::warn_in_finaliser(py, lost.as_slice());
        });
    }
}
