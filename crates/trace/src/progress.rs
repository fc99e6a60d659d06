//! [`Progress`]: who is told how far long work is.

/// Called now and then with how much is done, and all that there is to do: events, or bytes of a file.
pub type Progress<'a> = &'a dyn Fn(u64, u64);

/// Steps after which somebody is told.
pub(crate) const STEP: usize = 4096;

/// Tells nobody.
pub(crate) fn nobody(_: u64, _: u64) {}

/// Tells how many of some items were taken, and at last that all were.
pub(crate) fn watched<T>(
    mut items: impl ExactSizeIterator<Item = T>,
    progress: Progress<'_>,
) -> impl Iterator<Item = T> {
    let (total, mut taken) = (items.len(), 0);
    std::iter::from_fn(move || {
        let item = items.next();
        if item.is_none() || taken % STEP == 0 {
            progress(taken as u64, total as u64);
        }
        taken += 1;
        item
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn the_end_is_told() {
        let told = RefCell::new(Vec::new());
        let note = |done, total| told.borrow_mut().push((done, total));
        assert_eq!(watched(0..5000_usize, &note).count(), 5000);
        assert_eq!(*told.borrow(), [(0, 5000), (4096, 5000), (5000, 5000)]);
    }
}
