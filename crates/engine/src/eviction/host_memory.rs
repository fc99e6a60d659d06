//! Lists of a search, which end it without harm where there is no host memory for them.

use std::collections::VecDeque;

/// Appends to a list; `None` without host memory.
pub(super) fn push<T>(list: &mut Vec<T>, item: T) -> Option<()> {
    list.try_reserve(1).ok()?;
    list.push(item);
    Some(())
}

/// Appends to a queue; `None` without host memory.
pub(super) fn push_back<T>(queue: &mut VecDeque<T>, item: T) -> Option<()> {
    queue.try_reserve(1).ok()?;
    queue.push_back(item);
    Some(())
}

/// Returns a list of all items; `None` without host memory.
pub(super) fn collect<T>(items: impl ExactSizeIterator<Item = T>) -> Option<Vec<T>> {
    let mut list = Vec::new();
    list.try_reserve_exact(items.len()).ok()?;
    list.extend(items);
    Some(list)
}
