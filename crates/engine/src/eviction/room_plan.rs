//! The search for a block in which the oldest allocations are to make room, and what stays is to move.

use std::collections::{HashMap, HashSet};

use super::attempt::Attempt;
use super::group::{Group, Mark, Spared};
use super::owner::EvictionOwner;
use super::packing::{self, Packed, Piece, Role, Row};
use super::rule::{Priority, Reach};
use crate::handle::{AllocationId, SlotKey};
use crate::pools::pool::Pool;
use crate::recording::{Told, is_active};
use crate::suballocator::moving::MovableRegion;
use crate::suballocator::{BlockIndex, RegionRequest};

/// The oldest allocations of a pool that are looked at.
const MOST_MARKS: usize = 1 << 16;
/// Blocks for which a plan is tried.
const BLOCKS: usize = 4;
/// Victims may have up to this many percent of the bytes of the request, where fewer leave no room.
const PERCENTS: [u64; 4] = [100, 103, 106, 110];

/// Room that could be made.
pub(super) struct PlannedRoom {
    pub packed: Packed,
    pub marks: Vec<Mark>,
    /// Requested bytes of the victims.
    pub bytes: u64,
}

impl PlannedRoom {
    /// Returns the highest priority and the newest use of a victim; `None` without victims.
    pub fn rank(&self) -> Option<(Priority, u64)> {
        self.marks.iter().map(Mark::rank).max()
    }
}

/// The oldest allocations of a block, the first to go first.
struct Candidate {
    block: BlockIndex,
    marks: Vec<Mark>,
    bytes: u64,
}

impl Attempt<'_> {
    /// Returns room that could be made in one block; those in `stay` do not move.
    pub fn plan_room(
        &self,
        pool: &Pool,
        group: &Group,
        region: &RegionRequest,
        owner: &dyn EvictionOwner,
        stay: &Spared,
    ) -> Option<PlannedRoom> {
        let candidates = self.candidates(pool, group, region.size)?;
        candidates.iter().find_map(|it| self.plan_in_block(pool, group, region, owner, (it, stay)))
    }

    /// Returns the blocks with the oldest allocations: first the one in which these have the bytes of the request
    /// first.
    fn candidates(&self, pool: &Pool, group: &Group, need: u64) -> Option<Vec<Candidate>> {
        let rule = self.eviction.rule(group, &self.reach)?;
        let mut records = group.lock();
        let mut walk = records.oldest(&rule);
        let enough = need.saturating_add(need / 10);
        let mut by_block: HashMap<BlockIndex, Candidate> = HashMap::new();
        let first = pool.arena().search(|regions| {
            regions.evicting().ok()?;
            for _ in 0..MOST_MARKS {
                let mark = walk.next(&mut records, &self.spared)?;
                let Some(region) = regions.look(mark.id.key) else { continue };
                if !regions.is_loose(mark.id.key, region.tag) {
                    continue;
                }
                let block = region.block;
                let new = || Candidate { block, marks: Vec::new(), bytes: 0 };
                let of_block = by_block.entry(block).or_insert_with(new);
                of_block.marks.push(mark);
                of_block.bytes += region.size;
                if of_block.bytes >= enough {
                    return Some(block);
                }
            }
            None
        });
        walk.close(&mut records);
        drop(records);
        let mut candidates: Vec<Candidate> = by_block.into_values().collect();
        candidates
            .sort_by_key(|it| (Some(it.block) != first, std::cmp::Reverse(it.bytes), it.block.0));
        candidates.truncate(BLOCKS);
        Some(candidates)
    }

    fn plan_in_block(
        &self,
        pool: &Pool,
        group: &Group,
        request: &RegionRequest,
        owner: &dyn EvictionOwner,
        (of, stay): (&Candidate, &Spared),
    ) -> Option<PlannedRoom> {
        let size = pool.arena().block(of.block)?.size;
        let mut pieces = self.pieces(pool, group, of.block, owner, stay)?;
        let used: u64 = pieces.iter().map(|it| it.region.footprint).sum();
        let free = size.saturating_sub(used);
        let parts = PERCENTS.map(|percent| request.size.saturating_mul(percent).div_ceil(100));
        let targets = [request.size.saturating_sub(free)].into_iter().chain(parts);
        let (mut count, mut bytes, mut tried) = (0, 0, None);
        let sizes: HashMap<SlotKey, usize> =
            pieces.iter().enumerate().map(|(at, it)| (it.region.key, at)).collect();
        for target in targets {
            while bytes < target
                && let Some(mark) = of.marks.get(count)
            {
                // One that was freed meanwhile makes room as well.
                if let Some(&at) = sizes.get(&mark.id.key) {
                    pieces[at].role = Role::Victim;
                    bytes += pieces[at].region.size;
                }
                count += 1;
            }
            if tried.replace(count) == Some(count) {
                continue;
            }
            if let Some(packed) = pack(pool, (of.block, size), &pieces, request) {
                return Some(chosen(packed, &of.marks[..count], &pieces));
            }
        }
        None
    }

    /// Returns the regions of a block, and which of them can move.
    fn pieces(
        &self,
        pool: &Pool,
        group: &Group,
        block: BlockIndex,
        owner: &dyn EvictionOwner,
        stay: &Spared,
    ) -> Option<Vec<Piece>> {
        let idle = self.eviction.rule(group, &Reach::default());
        let (mut found, mut asked) = (Vec::new(), Vec::new());
        {
            let records = group.lock();
            let listed =
                pool.arena().search_block(block, |regions| regions.list(block, &mut found));
            if listed != Some(true) {
                return None;
            }
            let none = Spared::new();
            for (region, is_loose) in &found {
                let id = pool.id_of(region.key);
                if *is_loose && region.alignment.is_power_of_two() && !stay.contains(&id) {
                    let is_idle = idle
                        .as_ref()
                        .is_some_and(|rule| records.eligible(region.key, rule, &none).is_some());
                    asked.push((id, is_idle));
                }
            }
        }
        let answers = owner.movable(&asked);
        let can_move: Vec<AllocationId> =
            asked.iter().zip(answers).filter(|(_, can)| *can).map(|((id, _), _)| *id).collect();
        if is_active() {
            group.tell_room(&Told::AnswerMoves(&can_move));
        }
        let can_move: HashSet<AllocationId> = can_move.into_iter().collect();
        let role = |region: &MovableRegion| match can_move.contains(&pool.id_of(region.key)) {
            true => Role::Movable,
            false => Role::Fixed,
        };
        Some(
            found.iter().map(|(region, _)| Piece { region: *region, role: role(region) }).collect(),
        )
    }
}

/// Packs a block if it still has these regions.
fn pack(
    pool: &Pool,
    (block, size): (BlockIndex, u64),
    pieces: &[Piece],
    request: &RegionRequest,
) -> Option<Packed> {
    let keys: Vec<SlotKey> = pieces.iter().map(|it| it.region.key).collect();
    let whole = crate::suballocator::evicting::Range { block, below: None, above: None };
    let packed = pool.arena().search_block(block, |regions| {
        let suballocator = regions.evicting().ok()?;
        let is_same = suballocator.holds_exactly(&whole, &keys);
        is_same
            .then(|| packing::plan(suballocator, &Row { block, size, pieces }, request))
            .flatten()
    });
    packed.flatten()
}

/// Returns a plan with the marks of those whom it costs.
fn chosen(packed: Packed, marks: &[Mark], pieces: &[Piece]) -> PlannedRoom {
    let plan = &packed.plan;
    let lost = plan.refills.iter().flat_map(|it| &it.victims).chain(&plan.lost_inside);
    let lost: HashSet<SlotKey> = lost.copied().collect();
    let of_lost = pieces.iter().filter(|it| lost.contains(&it.region.key));
    let bytes = of_lost.map(|it| it.region.size).sum();
    let marks = marks.iter().filter(|it| lost.contains(&it.id.key)).copied().collect();
    PlannedRoom { packed, marks, bytes }
}
