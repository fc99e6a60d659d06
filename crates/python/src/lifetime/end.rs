//! The end of a resource: destroyed, retired or garbage-collected.

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
use crate::interpreter::{detach, in_finaliser, try_attach, warn_unclosed};
use crate::observe::event::EventKind;

/// The verb for `retire` in error messages.
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
            self.collect_unclosed();
        }
    }

    #[inline(always)]
    fn with_spares<R>(look: impl FnOnce(&RefCell<Vec<Spare<Self>>>) -> R) -> Option<R> {
        SPARES.try_with(look).ok()
    }
}

impl Resource {
    /// Returns what has to be released: handle, memory and held objects. From then on it cannot be lost. To be
    /// called with the GIL, or by the last reference.
    #[inline]
    pub(crate) fn pending_release(&self) -> PendingRelease {
        if let Some(losable) = self.losable() {
            // SAFETY: as the caller guarantees.
            unsafe { losable.end() };
        }
        let alias_of = self.alias().map(|alias| alias.base.downgrade());
        let (id, size) = (self.allocation().id, self.own_size());
        PendingRelease { handle: self.handle(), id, size, alias_of, _held: self.take_held() }
    }

    /// Destroys the resource, unless a view or a call uses it. Does nothing if it has ended before.
    #[inline]
    pub fn destroy(&self, py: Python<'_>) -> PyResult<()> {
        // A closed allocator has ended all its resources. The pin keeps it open: the driver may call back
        // Python code, which may release the GIL.
        let Some(_inside) = self.allocator.pins.pin(py) else { return Ok(()) };
        prefetch_line(self.allocation().hint.0);
        self.allocator.device.check_process(py)?;
        if !self.end(py, "destroy")? {
            self.forget_loss(py);
            return Ok(());
        }
        if let Some(lost) = self.lost_writes() {
            return self.give_back(py).and(unflushed::warn(py, &lost));
        }
        self.give_back(py)
    }

    /// Destroys the handle and frees the memory. An exception, after that, if the memory beside it was overwritten.
    #[inline(always)]
    fn give_back(&self, py: Python<'_>) -> PyResult<()> {
        let pending = self.pending_release();
        if self.allocator.events.is_heard(EventKind::Free) {
            return self.give_back_heard(py, &pending);
        }
        let release = pending.release_told(&self.allocator);
        if release.calls_driver() {
            self.end_release(py, release);
        }
        Ok(())
    }

    /// Does that where somebody listens.
    #[cold]
    #[inline(never)]
    fn give_back_heard(&self, py: Python<'_>, pending: &PendingRelease) -> PyResult<()> {
        self.allocator.tell_freed_by_call(py, std::slice::from_ref(pending));
        let release = pending.release_told(&self.allocator);
        if release.calls_driver() {
            self.end_release(py, release);
        }
        self.allocator.raise_found(py)
    }

    #[cold]
    #[inline(never)]
    fn end_release(&self, py: Python<'_>, release: Release) {
        detach(py, || drop(release));
        self.allocator.tell_device_memory(py);
    }

    /// Closes the resource and removes it from the list of live ones; false if that was done before.
    #[inline]
    fn end(&self, py: Python<'_>, verb: &str) -> PyResult<bool> {
        match self.pins.close(py) {
            Err(NotClosed::Already) => return Ok(false),
            Err(NotClosed::InUse) => self.close_after_transfers(py, verb)?,
            Ok(()) => {}
        }
        // The pins are closed from here on, so nothing new is bound to it.
        let bound = self.bound_here.load(Ordering::Acquire);
        // Retired aliases do not count: they are released before it.
        let waits = || verb == RETIRE && bound == self.allocator.waiting_in(self);
        if bound > 0 && !waits() {
            self.pins.reopen(py);
            return Err(self.still_bound(verb));
        }
        self.unlist_and_keep_name();
        Ok(true)
    }

    /// Destroys a resource that no other code refers to yet.
    #[cold]
    pub fn discard(&self, py: Python<'_>) {
        if self.pins.close(py).is_ok() {
            self.unlist();
            in_finaliser(py, || self.give_back(py));
        }
    }

    /// Ends the resource for Python; its memory is released when no frame in flight can use it, and when
    /// the last open view has ended.
    pub fn retire(this: &ResourceRef, py: Python<'_>) -> PyResult<()> {
        this.allocator.device.check_process(py)?;
        if this.end(py, RETIRE)? {
            this.retired.store(true, Ordering::Relaxed);
            if this.alias().is_none()
                && let Some(debugger) = this.allocator.debugger()
            {
                let id = this.allocation().id;
                debugger.ends(py, &this.allocator, &mut std::iter::once(id));
            }
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

    /// Returns the exception for a resource with something bound to its memory.
    pub(crate) fn still_bound(&self, verb: &str) -> PyErr {
        let what = self.describe();
        pinned(format!("cannot {verb} {what}: a buffer or an image is bound to it"))
    }

    /// Closes one that is in use, if only transfers used it that the device is done with by now, or if what
    /// is retired has views alone.
    #[cold]
    #[inline(never)]
    pub(crate) fn close_after_transfers(&self, py: Python<'_>, verb: &str) -> PyResult<()> {
        let mut has_waited = true;
        // It may move again while this waits.
        while self.pins.is_moving() || has_waited {
            self.wait_while_moving(py)?;
            self.allocator.retire_background(py);
            let moves = self.allocator.moves();
            has_waited = moves.is_some_and(|it| it.wait_for(py, &self.allocator, self));
        }
        match self.pins.close(py) {
            Err(_) if verb == RETIRE && self.has_views_alone() => {
                self.pins.close_to_new(py);
                Ok(())
            }
            Err(_) => Err(self.still_in_use(verb)),
            Ok(()) => Ok(()),
        }
    }

    /// Returns the exception for a resource that a view, a call or a transfer uses.
    pub(crate) fn still_in_use(&self, verb: &str) -> PyErr {
        if self.allocator.is_used_in_background(self) {
            return pinned(format!(
                "cannot {verb} {}: a transfer of it is in flight; wait for it (Transfer.wait)",
                self.describe()
            ));
        }
        pinned(format!(
            "cannot {verb} {}: a view of its memory is open, or another thread uses it",
            self.describe()
        ))
    }

    /// Keeps the name for errors and removes the resource from the list of live ones.
    #[inline]
    fn unlist_and_keep_name(&self) {
        if self.was_named.load(Ordering::Relaxed)
            && let Ok(Some(name)) = self.name()
        {
            self.remember_name(name);
        }
        self.unlist();
    }

    /// Removes the resource from the list of live ones.
    #[inline]
    fn unlist(&self) {
        self.unlist_from(&mut self.allocator.live.lock());
    }

    /// Removes the resource from the list of live ones, which the caller has locked.
    #[inline]
    pub(crate) fn unlist_from(&self, live: &mut Live) {
        if self.is_listed() {
            live.remove(self.place.load(Ordering::Relaxed), self);
            self.listed.store(false, Ordering::Release);
        }
    }

    /// Ends the resource for a closing allocator or pool, which releases all returned values together.
    pub fn close_for_allocator(&self, py: Python<'_>) -> Option<PendingRelease> {
        self.pins.close(py).ok()?;
        self.unlist_and_keep_name();
        Some(self.pending_release())
    }

    #[cold]
    fn collect_unclosed(&self) {
        if self.pins.is_closed() || self.allocator.pins.is_closed() {
            return self.unlist();
        }
        // No reference is left, but the device may still be using the memory.
        let description = self.describe();
        let lost = self.lost_writes();
        self.unlist();
        let pending_bytes = self.allocator.collect(self);
        try_attach(|py| {
            let made = self.call_site_text(py);
            warn_unclosed(
                py,
                &format!(
                    "unclosed {description}, {}{made}: it is released when no frame in flight can \
                     use it, or with its allocator",
                    human_bytes(pending_bytes)
                ),
            );
            unflushed::warn_in_finaliser(py, lost.as_slice());
        });
    }
}
