//! [`Lanes`]: tracks for slices that may overlap.

use std::collections::{BTreeSet, HashMap};

use super::output::TrackId;

/// Tracks for slices that may overlap: each takes the first track that is free.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    tracks: Vec<TrackId>,
    free: BTreeSet<usize>,
    taken: HashMap<u32, usize>,
}

impl Lanes {
    /// Takes a track for a number, which must have none. `create` makes a new one.
    pub fn take<E>(
        &mut self,
        number: u32,
        create: impl FnOnce(usize) -> Result<TrackId, E>,
    ) -> Result<TrackId, E> {
        let lane = match self.free.pop_first() {
            Some(lane) => lane,
            None => {
                self.tracks.push(create(self.tracks.len())?);
                self.tracks.len() - 1
            }
        };
        self.taken.insert(number, lane);
        Ok(self.tracks[lane])
    }

    /// Returns the track of a number.
    pub fn of(&self, number: u32) -> Option<TrackId> {
        self.taken.get(&number).map(|lane| self.tracks[*lane])
    }

    /// Gives the track of a number back.
    pub fn give_back(&mut self, number: u32) -> Option<TrackId> {
        let lane = self.taken.remove(&number)?;
        self.free.insert(lane);
        Some(self.tracks[lane])
    }

    /// Returns and removes all numbers that have a track, in order.
    pub fn take_all(&mut self) -> Vec<TrackId> {
        let mut lanes: Vec<usize> = std::mem::take(&mut self.taken).into_values().collect();
        lanes.sort_unstable();
        lanes.into_iter().map(|lane| self.tracks[lane]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_track_is_taken() {
        let mut lanes = Lanes::default();
        let take = |lanes: &mut Lanes, number| {
            lanes.take(number, |lane| Ok::<_, ()>(TrackId(100 + lane as u64))).map(|it| it.0)
        };
        assert_eq!(take(&mut lanes, 7), Ok(100));
        assert_eq!(take(&mut lanes, 8), Ok(101));
        assert_eq!(lanes.give_back(7), Some(TrackId(100)));
        assert_eq!((lanes.of(7), lanes.give_back(7)), (None, None));
        assert_eq!(take(&mut lanes, 9), Ok(100));
        assert_eq!(lanes.of(9), Some(TrackId(100)));
        assert_eq!(lanes.take_all(), [TrackId(100), TrackId(101)]);
        assert!(lanes.take_all().is_empty());
    }
}
