//! [`plan`]: how the regions of a block make room for a request, if some of them are freed and others move to where
//! those were.
//!
//! A window of neighbours becomes free. What is freed elsewhere leaves gaps, into which what stays moves out of the
//! window, the largest first, each into the smallest gap that it fits.

use std::collections::BTreeSet;

use crate::handle::SlotKey;
use crate::pools::arena::room::{Refill, RoomPlan};
use crate::suballocator::evicting::{Evicting, Range};
use crate::suballocator::moving::MovableRegion;
use crate::suballocator::{BlockIndex, RegionRequest};

/// Windows that are tried, those from which the fewest bytes move first.
const WINDOWS: usize = 16;
/// Gaps that are tried for each region that moves.
const GAPS: usize = 8;
/// The most that moves for one request.
const MOST_BYTES: u64 = 256 << 20;
const MOST_MOVES: usize = 1024;

/// What may become of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It stays where it is.
    Fixed,
    /// It may move.
    Movable,
    /// It may be freed.
    Victim,
}

/// A live region of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub region: MovableRegion,
    pub role: Role,
}

/// All live regions of a block, by ascending offset.
pub(super) struct Row<'a> {
    pub block: BlockIndex,
    /// Size of the block in bytes.
    pub size: u64,
    pub pieces: &'a [Piece],
}

/// A gap outside of the window, and what moves there.
struct Gap {
    range: Range,
    victims: Vec<SlotKey>,
    sources: Vec<MovableRegion>,
    requests: Vec<RegionRequest>,
    /// Bytes that are not taken yet.
    left: u64,
}

/// Pieces `first..end`, and the bytes that move out of there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Window {
    moved: u64,
    first: usize,
    end: usize,
}

/// A plan, with each region that moves and its offset from then on, in the order of the refills.
pub(super) struct Packed {
    pub plan: RoomPlan,
    pub moves: Vec<(MovableRegion, u64)>,
}

/// Returns how a block makes room for a request; `None` if it cannot. The row is that of the block now.
///
/// # Time complexity
/// O(regions of the block), plus the windows that are tried times what moves times its logarithm.
pub(super) fn plan(
    suballocator: &dyn Evicting,
    row: &Row<'_>,
    request: &RegionRequest,
) -> Option<Packed> {
    let mut windows = row.windows(suballocator, request);
    windows.sort_unstable();
    windows.iter().take(WINDOWS).find_map(|window| row.pack(suballocator, window))
}

impl Row<'_> {
    fn key(&self, at: usize) -> Option<SlotKey> {
        self.pieces.get(at).map(|it| it.region.key)
    }

    fn is_victim(&self, at: usize) -> bool {
        self.pieces.get(at).is_some_and(|it| it.role == Role::Victim)
    }

    fn below(&self, first: usize) -> Option<SlotKey> {
        first.checked_sub(1).and_then(|at| self.key(at))
    }

    /// Returns the windows in which the request fits, between two regions that stay.
    fn windows(&self, suballocator: &dyn Evicting, request: &RegionRequest) -> Vec<Window> {
        let (mut windows, mut end, mut moved, mut count) = (Vec::new(), 0, 0, 0);
        let is_moved = |at: usize| self.pieces[at].role == Role::Movable;
        // The window is first..end; it grows until the request fits.
        for first in 0..self.pieces.len() {
            if end < first {
                (end, moved, count) = (first, 0, 0);
            }
            let fits = |end: usize| {
                let (below, above) = (self.below(first), self.key(end));
                let range = Range { block: self.block, below, above };
                end > first && suballocator.fit_between(&range, request).is_some()
            };
            while !fits(end) {
                match self.pieces.get(end).map(|it| it.role) {
                    // Windows that begin here or above.
                    None => return windows,
                    Some(Role::Fixed) => break,
                    Some(_) => {}
                }
                if is_moved(end) {
                    (moved, count) = (moved + self.pieces[end].region.size, count + 1);
                }
                end += 1;
            }
            if self.pieces[first].role != Role::Fixed
                && fits(end)
                && !first.checked_sub(1).is_some_and(|at| self.is_victim(at))
                && count <= MOST_MOVES
                && moved <= MOST_BYTES
            {
                let victims = (end..).take_while(|&at| self.is_victim(at)).count();
                windows.push(Window { moved, first, end: end + victims });
            }
            if end > first && is_moved(first) {
                (moved, count) = (moved - self.pieces[first].region.size, count - 1);
            }
        }
        windows
    }

    /// Returns the gaps outside of a window, each between two regions that stay.
    fn gaps(&self, window: &Window) -> Vec<Gap> {
        let (mut gaps, mut victims) = (Vec::new(), Vec::new());
        let (mut below, mut start): (Option<SlotKey>, u64) = (None, 0);
        for at in 0..=self.pieces.len() {
            let piece = self.pieces.get(at);
            let is_inside = (window.first..window.end).contains(&at);
            if let Some(piece) = piece
                && piece.role == Role::Victim
                && !is_inside
            {
                victims.push(piece.region.key);
                continue;
            }
            let was_inside = at > 0 && (window.first..window.end).contains(&(at - 1));
            let end = piece.map_or(self.size, |it| it.region.offset);
            // Between two regions of the window, or beside it, is nothing of use.
            if !is_inside && !was_inside && end > start {
                gaps.push(Gap {
                    range: Range { block: self.block, below, above: self.key(at) },
                    victims: std::mem::take(&mut victims),
                    sources: Vec::new(),
                    requests: Vec::new(),
                    left: end - start,
                });
            }
            if let Some(piece) = piece {
                start = piece.region.offset + piece.region.footprint;
                below = Some(piece.region.key);
            }
        }
        gaps
    }

    fn pack(&self, suballocator: &dyn Evicting, window: &Window) -> Option<Packed> {
        let inside = &self.pieces[window.first..window.end];
        let mut moved: Vec<MovableRegion> =
            inside.iter().filter(|it| it.role == Role::Movable).map(|it| it.region).collect();
        moved.sort_by_key(|it| (std::cmp::Reverse(it.footprint), it.offset));
        let mut gaps = self.gaps(window);
        let mut by_size: BTreeSet<(u64, usize)> =
            gaps.iter().enumerate().map(|(at, gap)| (gap.left, at)).collect();
        for region in moved {
            let found = by_size.range((region.size, 0)..).take(GAPS).copied();
            let mut tried = found.collect::<Vec<_>>().into_iter();
            let taken = tried.find(|&(_, at)| gaps[at].take(suballocator, &region))?;
            by_size.remove(&taken);
            by_size.insert((gaps[taken.1].left, taken.1));
        }
        gaps.retain(|it| !it.sources.is_empty());
        let mut moves = Vec::new();
        for gap in &gaps {
            let offsets = suballocator.fit_all(&gap.range, &gap.requests)?;
            moves.extend(gap.sources.iter().copied().zip(offsets));
        }
        let keys = |role: Option<Role>| {
            let wanted = move |it: &&Piece| role.is_none_or(|role| it.role == role);
            inside.iter().filter(wanted).map(|it| it.region.key).collect()
        };
        let refill = |gap: Gap| Refill {
            range: gap.range,
            victims: gap.victims,
            sources: gap.sources.iter().map(|it| it.key).collect(),
            requests: gap.requests,
        };
        let (below, above) = (self.below(window.first), self.key(window.end));
        let plan = RoomPlan {
            block: self.block,
            window: Range { block: self.block, below, above },
            inside: keys(None),
            lost_inside: keys(Some(Role::Victim)),
            refills: gaps.into_iter().map(refill).collect(),
        };
        Some(Packed { plan, moves })
    }
}

impl Gap {
    /// Takes a place for a region, above those that were taken before; false if there is none.
    fn take(&mut self, suballocator: &dyn Evicting, region: &MovableRegion) -> bool {
        self.requests.push(region.request());
        let fits = suballocator.fit_all(&self.range, &self.requests).is_some();
        match fits {
            true => {
                self.sources.push(*region);
                self.left = self.left.saturating_sub(region.footprint);
            }
            false => drop(self.requests.pop()),
        }
        fits
    }
}
