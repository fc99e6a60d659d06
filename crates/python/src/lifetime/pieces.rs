//! A queue that grows in small pieces, so that adding to it never needs a large allocation.

use std::collections::LinkedList;

/// Number of items in a piece.
const PIECE: usize = 32;

/// A queue: first in, first out.
pub struct Pieces<T>(LinkedList<Vec<T>>);

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Self(LinkedList::new())
    }
}

impl<T> Pieces<T> {
    /// Adds an item at the end.
    pub fn push(&mut self, item: T) {
        match self.0.back_mut() {
            Some(piece) if piece.len() < PIECE => piece.push(item),
            _ => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(item);
                self.0.push_back(piece);
            }
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of items. O(count / 32).
    pub fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    /// Iterates over all items in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    /// Removes and returns items from the front while they are `wanted`, at most one piece; empty if the
    /// first item is not wanted.
    pub fn take_first(&mut self, wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let Some(piece) = self.0.front_mut() else { return Vec::new() };
        let count = piece.iter().take_while(|it| wanted(it)).count();
        if count < piece.len() {
            return piece.drain(..count).collect();
        }
        self.0.pop_front().unwrap_or_default()
    }

    /// Removes and returns all `wanted` items.
    pub fn take_all(&mut self, wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for mut piece in std::mem::take(&mut self.0) {
            taken.extend(piece.extract_if(.., |it| wanted(it)));
            if !piece.is_empty() {
                self.0.push_back(piece);
            }
        }
        taken
    }
}
