// What the chart shows of each column of pixels: least and most bytes, and the bytes of each group.

// Least and most of a series in each column; a column that has no moment of its own has the value before.
function extremes(numbers, bounds) {
  const count = bounds.length - 1;
  const low = new Float64Array(count), high = new Float64Array(count);
  for (let c = 0; c < count; c++) {
    let least = numbers[bounds[c]], most = least;
    for (let p = bounds[c] + 1; p < bounds[c + 1]; p++) {
      const value = numbers[p];
      if (value < least) least = value;
      if (value > most) most = value;
    }
    low[c] = least;
    high[c] = most;
  }
  return { low, high };
}

// The moment of each column at which most is live, so that no peak is missed.
function fullest(heaps, bounds) {
  const count = bounds.length - 1, moments = new Uint32Array(count);
  for (let c = 0; c < count; c++) {
    let most = -1;
    for (let p = bounds[c]; p < Math.max(bounds[c + 1], bounds[c] + 1); p++) {
      let live = 0;
      for (const it of heaps) live += it.live[p];
      if (live > most) { most = live; moments[c] = p; }
    }
  }
  return moments;
}

// Bytes of each group in each column. O(events + places).
function stackOf({ trace, series }, groups, bounds) {
  const { place, events } = trace;
  const moments = fullest(series.heaps, bounds), columns = moments.length;
  // The first column whose moment is not before each moment.
  const from = new Uint16Array(events + 2).fill(columns);
  for (let c = columns - 1, p = events + 1; c >= 0; c--) {
    for (; p > moments[c]; p--) from[p] = c + 1;
    if (c === 0) for (; p >= 0; p--) from[p] = 0;
  }
  const bytes = groups.list.map(() => new Float64Array(columns + 1));
  for (let i = 0; i < place.begin.length; i++) {
    if (place.base[i]) continue;
    const a = from[place.begin[i] + 1];
    const b = place.end[i] === FOREVER ? columns : from[place.end[i] + 1];
    if (a === b) continue;
    const of = bytes[groups.of[i]];
    of[a] += place.size[i];
    of[b] -= place.size[i];
  }
  for (const of of bytes) for (let c = 1; c < of.length; c++) of[c] += of[c - 1];
  return { moments, bytes };
}
