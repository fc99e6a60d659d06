//! The list of everything that an allocator gave out and that has not ended.

use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::{Arc, Weak};

use crate::resource::Resource;

/// Weak references, in any order.
#[derive(Default)]
pub struct Live {
    /// Of [`Weak::into_raw`]; null where nothing is.
    places: Vec<*const Resource>,
    vacant: Vec<u32>,
}

// SAFETY: the pointers stand for weak references, which may go to other threads.
unsafe impl Send for Live {}

/// Where something stands in the list, and the reference that stands there.
#[derive(Clone, Copy)]
pub struct Listed {
    pub place: u32,
    pub reference: *const Resource,
}

impl Live {
    /// Enters one.
    #[inline]
    pub fn insert(&mut self, resource: &Arc<Resource>) -> Listed {
        let reference = Weak::into_raw(Arc::downgrade(resource));
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.places.push(ptr::null());
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 resources")
        });
        self.places[place as usize] = reference;
        Listed { place, reference }
    }

    /// Takes one off. What stands at its place is not looked at, only written: by now it has left the
    /// cache.
    ///
    /// # Safety
    /// It is what [`insert`](Self::insert) gave, and was not taken off before.
    #[inline]
    pub unsafe fn remove(&mut self, Listed { place, reference }: Listed) {
        debug_assert!(ptr::eq(self.places[place as usize], reference));
        self.places[place as usize] = ptr::null();
        self.vacant.push(place);
        // SAFETY: of `insert`, and the list gives this reference up here.
        drop(unsafe { Weak::from_raw(reference) });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.vacant.len()
    }

    /// All that somebody still holds. To be let go of without the lock of the list.
    pub fn all(&self) -> Vec<Arc<Resource>> {
        self.places.iter().filter_map(|&it| upgrade(it)).collect()
    }

    /// Those at `count` places from `start` on, and where to go on, if there is more: so that a long walk
    /// can let go of the lock now and then.
    pub fn chunk(&self, start: usize, count: usize) -> (Vec<Arc<Resource>>, Option<usize>) {
        let start = start.min(self.places.len());
        let end = start.saturating_add(count).min(self.places.len());
        let chunk = self.places[start..end].iter().filter_map(|&it| upgrade(it)).collect();
        (chunk, (end < self.places.len()).then_some(end))
    }
}

fn upgrade(reference: *const Resource) -> Option<Arc<Resource>> {
    if reference.is_null() {
        return None;
    }
    // SAFETY: the list holds this reference, and keeps it.
    ManuallyDrop::new(unsafe { Weak::from_raw(reference) }).upgrade()
}

impl Drop for Live {
    fn drop(&mut self) {
        for &reference in self.places.iter().filter(|it| !it.is_null()) {
            // SAFETY: the list holds it, and ends.
            drop(unsafe { Weak::from_raw(reference) });
        }
    }
}
