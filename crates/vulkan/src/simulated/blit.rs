//! Blits: texels of a target from those of a source, scaled with a filter and converted.

use ash::vk;
use vkmem_engine::SimulatedDevice;

use crate::simulated::codec::{Codec, Texel};
use crate::simulated::surface::Surface;

/// One direction of a blit: where the target begins, its length, and how its texels are mapped to the source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// First texel of the target, and the number of texels.
    pub(super) first: u64,
    pub(super) count: u64,
    /// The source coordinate of the edge of the target's first texel, and the step to the next one; negative for
    /// a mirrored blit.
    start: f64,
    step: f64,
    /// Texels of the source in this direction.
    source: u64,
}

impl Axis {
    /// `Err` if a side lies outside of its image.
    pub(super) fn of(
        from: (i32, i32),
        to: (i32, i32),
        source: u32,
        target: u32,
    ) -> Result<Self, String> {
        let outside = |(one, two): (i32, i32), whole: u32| {
            let (low, high) = (one.min(two), one.max(two));
            low < 0 || i64::from(high) > i64::from(whole) || low == high
        };
        if outside(from, source) || outside(to, target) {
            return Err(format!(
                "from {} to {} of {source} texels, to {} to {} of {target}, which lies outside or is empty",
                from.0, from.1, to.0, to.1
            ));
        }
        let step = f64::from(from.1 - from.0) / f64::from(to.1 - to.0);
        let first = to.0.min(to.1);
        Ok(Self {
            first: u64::from(first.unsigned_abs()),
            count: u64::from(to.0.abs_diff(to.1)),
            start: f64::from(from.0) + f64::from(first - to.0) * step,
            step,
            source: source.into(),
        })
    }

    /// Returns the two texels of the source that a texel of the target lies between, and the share of the second
    /// one ("Texel Selection" of Vulkan, clamped to the edge).
    fn samples(&self, at: u64, filter: vk::Filter) -> (u64, u64, f64) {
        let coordinate = self.start + (at as f64 + 0.5) * self.step;
        let last = self.source - 1;
        let clamp = |texel: f64| (texel.max(0.0) as u64).min(last);
        if filter == vk::Filter::NEAREST {
            let texel = clamp(coordinate.floor());
            return (texel, texel, 0.0);
        }
        let low = (coordinate - 0.5).floor();
        (clamp(low), clamp(low + 1.0), coordinate - 0.5 - low)
    }

    /// Returns the texels of the source between the edges.
    pub(super) fn source_box(&self) -> (u64, u64) {
        let end = self.start + self.count as f64 * self.step;
        (self.start.min(end).round() as u64, self.start.max(end).round() as u64)
    }
}

/// A blit of one aspect, after all checks.
#[derive(Debug)]
pub(super) struct Blit {
    pub(super) source: Surface,
    pub(super) target: Surface,
    pub(super) source_layer: u64,
    pub(super) target_layer: u64,
    pub(super) layers: u64,
    pub(super) axes: [Axis; 3],
    pub(super) filter: vk::Filter,
    /// `None`: the bytes are copied.
    pub(super) codecs: Option<(Codec, Codec)>,
}

impl Blit {
    /// Writes the texels of the target.
    pub(super) fn run(&self, device: &SimulatedDevice) {
        let [x, y, z] = &self.axes;
        let (stored, size) = (self.source.block as usize, self.target.block as usize);
        let columns: Vec<_> = (0..x.count).map(|at| x.samples(at, self.filter)).collect();
        for layer in 0..self.layers {
            let row_bytes = self.source.extent.width as usize * stored;
            let rows = |slice: u64, row: u64| {
                let at = self.source.row_at(self.source_layer + layer, slice, row);
                device.device_read(self.source.memory, at, row_bytes as u64)
            };
            for slice in 0..z.count {
                let (near, far, depth) = z.samples(slice, self.filter);
                for row in 0..y.count {
                    let (upper, lower, down) = y.samples(row, self.filter);
                    let sources =
                        [rows(near, upper), rows(near, lower), rows(far, upper), rows(far, lower)];
                    if sources.iter().any(|it| it.len() < row_bytes) {
                        return;
                    }
                    let mut written = vec![0; x.count as usize * size];
                    for ((left, right, across), texel) in
                        columns.iter().zip(written.chunks_exact_mut(size))
                    {
                        let at = |row: &Vec<u8>, column: u64| {
                            let start = column as usize * stored;
                            row[start..start + stored].to_vec()
                        };
                        let Some((from, to)) = &self.codecs else {
                            texel.copy_from_slice(&at(&sources[0], *left));
                            continue;
                        };
                        let read = |row, column| from.decode(&at(row, column));
                        let along = |row| mix(read(row, *left), read(row, *right), *across);
                        let sheet = |upper, lower| mix(along(upper), along(lower), down);
                        let [one, two, three, four] = &sources;
                        let value = if depth == 0.0 && down == 0.0 && *across == 0.0 {
                            read(one, *left)
                        } else {
                            mix(sheet(one, two), sheet(three, four), depth)
                        };
                        // Formats that cannot be written are no targets.
                        let _ = to.encode(value, texel);
                    }
                    let to = self.target.row_at(
                        self.target_layer + layer,
                        z.first + slice,
                        y.first + row,
                    );
                    let start = to + x.first * self.target.block;
                    device.device_fill(self.target.memory, start, written.len() as u64, &written);
                }
            }
        }
    }
}

fn mix(one: Texel, two: Texel, share: f64) -> Texel {
    std::array::from_fn(|at| {
        // Not a sum of products: infinity times zero is no number.
        if share == 0.0 { one[at] } else { one[at] * (1.0 - share) + two[at] * share }
    })
}
