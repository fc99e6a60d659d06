//! [`Objects`]: values of the objects that exist, by their numbers.

use std::collections::HashMap;

use crate::dictionary::Mixing;
use crate::numbering::Numbering;

/// Values of the objects that exist, by their numbers.
#[derive(Debug)]
pub(crate) enum Objects<T> {
    /// Of a whole trace, whose numbers are known: a place for each, which is the fastest.
    Placed(Numbering, Vec<Option<T>>),
    /// Of events that still come: as large as the most objects at a time, whatever the number of events.
    Growing(HashMap<u32, T, Mixing>),
}

impl<T: Copy> Objects<T> {
    /// Creates a place for each number; others are ignored.
    pub fn placed(places: Numbering) -> Self {
        let table = vec![None; places.len()];
        Self::Placed(places, table)
    }

    /// Takes any number.
    pub fn growing() -> Self {
        Self::Growing(HashMap::with_hasher(Mixing::new()))
    }

    /// Returns the value of an object.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        match self {
            Self::Placed(places, table) => table.get(places.place(number)?)?.as_ref(),
            Self::Growing(map) => map.get(&number),
        }
    }

    /// Returns the value of an object, to be changed.
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        match self {
            Self::Placed(places, table) => table.get_mut(places.place(number)?)?.as_mut(),
            Self::Growing(map) => map.get_mut(&number),
        }
    }

    /// Sets the value of an object; returns whether it had none before.
    #[inline]
    pub fn insert(&mut self, number: u32, value: T) -> bool {
        match self {
            Self::Placed(places, table) => {
                let place = places.place(number).and_then(|place| table.get_mut(place));
                place.is_some_and(|it| it.replace(value).is_none())
            }
            Self::Growing(map) => map.insert(number, value).is_none(),
        }
    }

    /// Removes an object; returns its value.
    #[inline]
    pub fn remove(&mut self, number: u32) -> Option<T> {
        match self {
            Self::Placed(places, table) => table.get_mut(places.place(number)?)?.take(),
            Self::Growing(map) => map.remove(&number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_keep_the_same() {
        let mut all = [Objects::placed(Numbering::new(5..9)), Objects::growing()];
        for it in &mut all {
            assert!(it.insert(7, 70) && !it.insert(7, 71) && it.insert(5, 50));
            *it.get_mut(5).expect("it is there") += 1;
            assert_eq!((it.get(7), it.get(5), it.get(6)), (Some(&71), Some(&51), None));
            assert_eq!((it.remove(7), it.remove(7), it.remove(99)), (Some(71), None, None));
            assert!(it.get(7).is_none() && it.get_mut(99).is_none());
        }
        // A trace tells all of its numbers.
        assert!(!all[0].insert(99, 1) && all[1].insert(99, 1));
    }
}
