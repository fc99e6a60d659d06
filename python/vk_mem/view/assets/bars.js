// Draws the regions of one bar into the pixels.
//
// What is at least a pixel wide is a rectangle. Narrower regions share a column: filled from below
// by their share of its bytes, so that a look shows how much of it is free. Where a bar has many
// more regions than pixels, the columns come from bins that were summed up before.

const BIN_LIMIT = 1 << 16;
const KEPT_BINS = 24;
// Of the height of its track: from here down, aliases lie on what they share memory with. The same
// as in pieces.py.
const HEAD = 1.1;
const inset = (lanes) => HEAD / (HEAD + lanes);

function makePainter(state, pixels) {
  const { data } = state;
  const { size, position, columns } = data;
  const kept = new Map();
  let columnBytes = new Float64Array(0);
  let columnCount = new Uint32Array(0);
  let columnShade = new Int32Array(0);
  let theme = null;

  function setTheme() {
    const colours = data.header.themes[state.dark ? "dark" : "light"];
    const words = data.kinds.map((kind) => packed(state.dark ? kind.dark : kind.light));
    words.push(packed(colours.dimmed));
    const { ground, free, hatch } = colours;
    theme = { colours, words, ground: packed(ground), free: packed(free), hatch: packed(hatch) };
  }

  // The halves of a bar that a side is drawn in: before above, after below.
  const tracksOf = (bar) => (!data.compares ? [0] : bar.side ? [bar.side] : [1, 2]);
  const shows = (track, side) => !track || !side || side === track;

  // Bytes by shade in equal bins of a bar, and sums of 2, 4, 8 ... bins.
  function binsOf(bar, track) {
    const key = `${bar.index} ${track}`;
    const found = kept.get(key);
    if (found && found.version === state.version) {
      kept.delete(key);
      kept.set(key, found);
      return found;
    }
    const shades = state.shadeCount;
    const count = binCount(bar);
    let level = new Float32Array(count * shades);
    const width = bar.size / count;
    for (let i = 0; i < baseCount(bar); i++) {
      const row = baseRow(bar, i);
      const shade = state.shade[row];
      if (shade === data.freeKind || !shows(track, columns.side[row])) continue;
      const end = position[row] + size[row];
      let bin = Math.min(Math.floor(position[row] / width), count - 1);
      for (let at = position[row]; at < end && bin < count; bin++) {
        const next = Math.min(end, (bin + 1) * width);
        if (next > at) level[bin * shades + shade] += next - at;
        at = Math.max(at, next);
      }
    }
    const levels = [level];
    for (let half = count; half > 1; half >>= 1) {
      const above = new Float32Array((half >> 1) * shades);
      for (let i = 0; i < half; i++)
        for (let s = 0; s < shades; s++) above[(i >> 1) * shades + s] += level[i * shades + s];
      levels.push(above);
      level = above;
    }
    const made = { version: state.version, levels, width };
    kept.delete(key);
    kept.set(key, made);
    if (kept.size > KEPT_BINS) kept.delete(kept.keys().next().value);
    return made;
  }

  function binCount(bar) {
    let count = 1024;
    while (count < bar.rows / 2 && count < BIN_LIMIT) count *= 2;
    return count;
  }

  // `place` says where a bar is in pixels: x0, x1 what is seen of it; left, the x of its byte 0;
  // scale, pixels a byte; y0, y1. Returns what is wide enough to bear a name.
  function paint(bar, place) {
    const names = [];
    const { x0, x1, y0, y1 } = place;
    if (x1 <= x0) return names;
    const hatches = pixels.hatch(theme.free, theme.hatch, Math.max(4, Math.round(7 * place.ratio)));
    if (columnCount.length < pixels.width) {
      columnBytes = new Float64Array(pixels.width * state.shadeCount);
      columnCount = new Uint32Array(pixels.width);
      columnShade = new Int32Array(pixels.width);
    }
    for (const track of tracksOf(bar)) {
      const [top, bottom] = trackRange(track, y0, y1);
      const line = pixels.line[0];
      line.fill(0, x0, x1);
      const from = firstEndingAfter(data, bar, (x0 - place.left) / place.scale);
      const until = firstStartingFrom(bar, (x1 - place.left) / place.scale);
      const dense = until - from > 4 * (x1 - x0) && bar.size / binCount(bar) * place.scale <= 1;
      if (dense) {
        const stacks = columnsFromBins(bar, track, place, line);
        pixels.spread(line, x0, x1, top, bottom, hatches);
        for (const stack of stacks) pile(stack.x, stack.bytes, stack.all, top, bottom);
      } else {
        const crowded = gather(bar, track, place, line, from, until, names);
        pixels.spread(line, x0, x1, top, bottom, hatches);
        for (const x of crowded) pileColumn(x, place, top, bottom);
      }
    }
    if (bar.shared) paintShared(bar, place, names);
    return names;
  }

  function trackRange(track, y0, y1) {
    const middle = (y0 + y1) >> 1;
    return track === 1 ? [y0, middle] : track === 2 ? [middle, y1] : [y0, y1];
  }

  function firstStartingFrom(bar, at) {
    let low = 0, high = baseCount(bar);
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (position[baseRow(bar, middle)] < at) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // Wide regions go into the line, narrow ones are summed up by column; returns the columns that
  // hold more than one.
  function gather(bar, track, place, line, from, until, names) {
    const { x0, x1, left, scale, ratio } = place;
    const shades = state.shadeCount;
    const used = [];
    const seam = ratio >= 1.5 ? 2 : 1;
    for (let i = from; i < until; i++) {
      const row = baseRow(bar, i);
      const shade = state.shade[row];
      if (shade === data.freeKind || !shows(track, columns.side[row])) continue;
      const start = left + position[row] * scale, width = size[row] * scale;
      if (width >= 1) {
        const a = Math.max(Math.round(start), x0);
        const b = Math.min(Math.max(Math.round(start + width), Math.round(start) + 1), x1);
        if (b <= a) continue;
        line.fill(theme.words[shade], a, b);
        if (width >= 4 * seam && Math.round(start + width) <= x1)
          line.fill(theme.ground, Math.max(b - seam, a), b);
        if (width >= 44 * ratio) {
          const whole = !columns.side[row];
          if (!(track === 2 && whole))
            names.push({ row, x0: a, x1: b, track: whole ? 0 : track, lane: 0 });
        }
      } else {
        const x = Math.min(Math.max(Math.floor(start), x0), x1 - 1);
        if (columnCount[x] === 0) used.push(x);
        // A margin is drawn by its share of the bytes, even alone: there are two for each allocation.
        columnCount[x] += shade === data.marginKind ? 2 : 1;
        columnShade[x] = shade;
        columnBytes[x * shades + shade] += size[row];
      }
    }
    const crowded = [];
    for (const x of used) {
      if (columnCount[x] > 1) {
        crowded.push(x);
        continue;
      }
      // Alone in its column: all of it, however small, so that nothing is invisible.
      line.fill(theme.words[columnShade[x]], x, Math.min(x + Math.max(1, Math.round(ratio)), x1));
      columnBytes[x * shades + columnShade[x]] = 0;
      columnCount[x] = 0;
    }
    return crowded;
  }

  function pileColumn(x, place, top, bottom) {
    const shades = state.shadeCount;
    pile(x, columnBytes.subarray(x * shades, (x + 1) * shades), 1 / place.scale, top, bottom);
    columnBytes.fill(0, x * shades, (x + 1) * shades);
    columnCount[x] = 0;
  }

  // One column, filled from below: bytes by shade, of `all` bytes.
  function pile(x, bytes, all, top, bottom) {
    const height = bottom - top, { words, width, height: rows } = pixels;
    let sum = 0;
    const least = (s) => (s === data.marginKind ? 0 : 1.5);
    const tall = (s) => Math.max((bytes[s] / all) * height, least(s));
    for (let s = 0; s < bytes.length; s++) if (bytes[s] > 0) sum += tall(s);
    const squeeze = sum > height ? height / sum : 1;
    let y = bottom;
    for (let s = 0; s < bytes.length; s++) {
      if (!(bytes[s] > 0)) continue;
      const next = y - tall(s) * squeeze;
      for (let at = Math.max(Math.round(next), 0); at < Math.min(Math.round(y), rows); at++)
        words[at * width + x] = theme.words[s];
      y = next;
    }
  }

  function columnsFromBins(bar, track, place, line) {
    const { x0, x1, left, scale } = place;
    const bins = binsOf(bar, track);
    let depth = 0, width = bins.width;
    while (depth + 1 < bins.levels.length && width * 2 * scale <= 1) {
      depth++;
      width *= 2;
    }
    const level = bins.levels[depth], shades = state.shadeCount;
    const count = level.length / shades;
    const stacks = [];
    for (let x = x0; x < x1; x++) {
      let a = Math.floor((x - left) / scale / width);
      const b = Math.min(Math.max(Math.floor((x + 1 - left) / scale / width), a + 1), count);
      a = Math.max(a, 0);
      if (b <= a) continue;
      const bytes = new Float64Array(shades);
      let only = -1, kinds = 0, sum = 0;
      for (let s = 0; s < shades; s++) {
        for (let bin = a; bin < b; bin++) bytes[s] += level[bin * shades + s];
        if (bytes[s] > 0) {
          only = s;
          kinds++;
          sum += bytes[s];
        }
      }
      if (kinds === 1 && sum >= (b - a) * width * 0.999) line[x] = theme.words[only];
      else if (kinds) stacks.push({ x, bytes, all: (b - a) * width });
    }
    return stacks;
  }

  function paintShared(bar, place, names) {
    const { x0, x1, left, scale, ratio } = place;
    const outline = Math.max(1, Math.round(ratio));
    for (const row of bar.shared) {
      const start = left + position[row] * scale, end = start + size[row] * scale;
      if (end < x0 || start > x1) continue;
      const [top, bottom] = sharedRange(bar, row, place.y0, place.y1);
      const a = Math.max(Math.round(start), x0);
      const b = Math.min(Math.max(Math.round(end), a + outline), x1);
      const before = Math.max(a - outline, x0), behind = Math.min(b + outline, x1);
      pixels.fill(before, top - outline, behind, bottom + outline, theme.ground);
      pixels.fill(a, top, b, bottom, theme.words[state.shade[row]]);
      if (b - a >= 44 * ratio) names.push({ row, x0: a, x1: b, track: 0, lane: columns.lane[row] });
    }
  }

  function sharedRange(bar, row, y0, y1) {
    const [top, bottom] = trackRange(data.compares ? columns.side[row] : 0, y0, y1);
    const thick = ((bottom - top) * (1 - inset(bar.lanes))) / Math.max(bar.lanes, 1);
    const from = top + (bottom - top) * inset(bar.lanes) + thick * (columns.lane[row] - 1);
    return [Math.round(from), Math.max(Math.round(from + thick) - 2, Math.round(from) + 1)];
  }

  return { paint, setTheme, sharedRange, trackRange, theme: () => theme };
}
