//! [`Numbering`]: places in a table for the object numbers of a trace.

use std::collections::HashMap;

use crate::event::{Call, Kind};
use crate::trace::Trace;

/// Maps the numbers of one kind of object to places from 0 on: as many as there are objects, whatever the numbers are.
#[derive(Debug)]
pub(crate) enum Numbering {
    /// Numbers that follow each other, as all our recordings have them.
    Dense {
        first: u32,
        count: usize,
    },
    Sparse(HashMap<u32, usize>),
}

impl Numbering {
    /// Creates places for numbers, each of which may occur more than once.
    pub fn new(numbers: impl Iterator<Item = u32> + Clone) -> Self {
        let (mut first, mut last, mut count) = (u32::MAX, 0, 0_usize);
        for number in numbers.clone() {
            (first, last, count) = (first.min(number), last.max(number), count + 1);
        }
        let span = if count == 0 { 0 } else { (last - first) as usize + 1 };
        if span <= count.saturating_mul(2) {
            return Self::Dense { first, count: span };
        }
        let mut places = HashMap::new();
        for number in numbers {
            let next = places.len();
            places.entry(number).or_insert(next);
        }
        Self::Sparse(places)
    }

    /// Creates places for all allocations, aliases, imports and virtual allocations of a trace.
    pub fn of_objects(trace: &Trace, is_made: impl Fn(Kind) -> bool + Copy) -> Self {
        let columns = trace.columns();
        let made = (0..columns.len()).filter(move |index| is_made(columns.kind(*index)));
        Self::new(made.map(|index| columns.objects()[index]))
    }

    /// Creates places for all memory objects of a trace.
    pub fn of_memories(trace: &Trace) -> Self {
        let columns = trace.columns();
        let all = columns.kinds().iter().zip(columns.memories());
        let made = all.filter(|(kind, _)| **kind == Kind::AllocateMemory as u8);
        Self::new(made.map(|(_, number)| *number).filter(|it| *it != u32::MAX))
    }

    /// Creates places for the objects that `number` finds in events of one kind, which are few.
    pub fn of_calls(trace: &Trace, kind: Kind, number: impl Fn(&Call<'_>) -> Option<u32>) -> Self {
        let kinds = trace.columns().kinds().iter().enumerate();
        let of_kind = kinds.filter(|(_, it)| **it == kind as u8);
        let numbers: Vec<u32> =
            of_kind.filter_map(|(index, _)| number(&trace.event(index).call)).collect();
        Self::new(numbers.iter().copied())
    }

    /// Returns the number of places.
    pub fn len(&self) -> usize {
        match self {
            Self::Dense { count, .. } => *count,
            Self::Sparse(places) => places.len(),
        }
    }

    /// Returns the place of a number, if it has one.
    #[inline]
    pub fn place(&self, number: u32) -> Option<usize> {
        match self {
            Self::Dense { first, count } => {
                let place = number.checked_sub(*first)? as usize;
                (place < *count).then_some(place)
            }
            Self::Sparse(places) => places.get(&number).copied(),
        }
    }
}

/// Returns whether calls of a kind make an object with the number of an allocation.
pub(crate) fn makes_allocation(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Allocate | Kind::Alias | Kind::Import | Kind::CreateLost | Kind::KeepSource
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_as_many_as_numbers() {
        let dense = Numbering::new([7, 5, 6, 6].into_iter());
        assert_eq!((dense.len(), dense.place(5), dense.place(7)), (3, Some(0), Some(2)));
        assert_eq!((dense.place(4), dense.place(8)), (None, None));
        let sparse = Numbering::new([u32::MAX, 0, 9, 0].into_iter());
        assert_eq!(sparse.len(), 3);
        assert_eq!(
            (sparse.place(u32::MAX), sparse.place(0), sparse.place(9)),
            (Some(0), Some(1), Some(2))
        );
        assert_eq!(sparse.place(1), None);
        let empty = Numbering::new([].into_iter());
        assert_eq!((empty.len(), empty.place(0)), (0, None));
    }
}
