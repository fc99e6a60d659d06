// The moment that the map shows: the same data as those of a dump, filled anew for each.

const MOST_LANES = 4;

function makeMoments(history) {
  const { trace } = history, { header, place, memory } = trace;
  const bars = barsOf(history);
  const lanes = lanesOf(history, bars);
  const capacity = rowsNeeded(history, bars.length);
  const numbers = (width = 1) => new Uint32Array(capacity * width);
  const columns = {
    use: numbers(), name: numbers(), data: numbers(), site: numbers(), moved: numbers(),
    offset: numbers(2), size: numbers(2), parent: numbers(), side: new Uint8Array(capacity),
    lane: new Uint8Array(capacity),
  };
  const { kinds } = header;
  const data = {
    header, columns, bars, kinds, texts: trace.texts, names: trace.names, compares: false,
    count: capacity, capacity,
    size: new Float64Array(capacity), position: new Float64Array(capacity),
    kind: new Uint8Array(capacity), isAllocation: new Uint8Array(capacity),
    group: new Uint8Array(capacity),
    freeKind: kinds.findIndex((it) => it.key === "free"),
    // The place of each row, NONE for what is free; and the row of each place.
    places: numbers(), moment: -1,
  };
  const kindOfUse = Uint8Array.from(header.uses, (use) => use.kind);
  const rowOfPlace = new Uint32Array(place.begin.length);
  let row = 0;

  function put(bar, i, position, offset, size) {
    columns.offset[2 * row] = offset % 4294967296;
    columns.offset[2 * row + 1] = offset / 4294967296;
    columns.size[2 * row] = size % 4294967296;
    columns.size[2 * row + 1] = size / 4294967296;
    data.position[row] = position;
    data.size[row] = size;
    data.places[row] = i;
    columns.lane[row] = 0;
    columns.parent[row] = NONE;
    if (i === NONE) {
      data.kind[row] = data.group[row] = data.freeKind;
      data.isAllocation[row] = columns.name[row] = columns.data[row] = columns.site[row] = 0;
    } else {
      rowOfPlace[i] = row;
      columns.use[row] = place.use[i];
      data.kind[row] = kindOfUse[place.use[i]];
      data.group[row] = data.groupOfPlace ? data.groupOfPlace[i] : 0;
      data.isAllocation[row] = 1;
      columns.name[row] = place.name[i];
      columns.data[row] = place.data[i];
      columns.site[row] = place.site[i] ? trace.names + place.site[i] - 1 : 0;
      if (place.base[i]) {
        columns.lane[row] = lanes.get(i) ?? 1;
        const base = place.base[i] - 1;
        const known = rowOfPlace[base];
        if (known < row && data.places[known] === base && known >= bar.first) columns.parent[row] = known;
      } else {
        bar.allocated += size;
        bar.allocations++;
      }
    }
    row++;
  }

  function fillBlock(bar, moment) {
    const m = memoryAt(bar, memory, moment);
    bar.size = bar.allocated = bar.allocations = bar.fragmentation = 0;
    if (m < 0) return;
    bar.id = String(memory.number[m]);
    bar.size = memory.size[m];
    const { order, starts, begin, end: ends } = history;
    let end = 0, free = 0, largest = 0;
    const gap = (until) => {
      if (until <= end) return;
      put(bar, NONE, end, end, until - end);
      free += until - end;
      largest = Math.max(largest, until - end);
    };
    for (let at = starts[m + 1]; at < starts[m + 2]; at++) {
      if (begin[at] >= moment || moment > ends[at]) continue;
      const i = order[at];
      if (!place.base[i]) {
        gap(place.offset[i]);
        end = Math.max(end, place.offset[i] + place.size[i]);
      }
      put(bar, i, place.offset[i], place.offset[i], place.size[i]);
    }
    gap(bar.size);
    bar.fragmentation = free ? 1 - largest / free : 0;
  }

  // Dedicated memory has no place in a block: it lies one behind the other.
  function fillStrip(bar, moment) {
    const { order, starts } = history;
    let end = 0;
    bar.allocated = bar.allocations = 0;
    for (const m of bar.memories) {
      if (!existsAt(memory, m, moment)) continue;
      for (let at = starts[m + 1]; at < starts[m + 2]; at++) {
        const i = order[at];
        if (!existsAt(place, i, moment)) continue;
        put(bar, i, end, place.offset[i], place.size[i]);
        if (!place.base[i]) end += place.size[i];
      }
    }
    bar.size = end;
  }

  data.show = (moment) => {
    row = 0;
    for (const bar of bars) {
      bar.first = row;
      if (bar.dedicated) fillStrip(bar, moment);
      else fillBlock(bar, moment);
      bar.rows = row - bar.first;
      if (!bar.lanes) continue;
      splitLanes(bar, columns.lane);
      bar.reach = reachOf(bar, data.size, data.position);
    }
    data.count = row;
    data.moment = moment;
    figuresOfPools(header, bars);
  };
  data.rowOf = (i) => (rowOfPlace[i] < data.count && data.places[rowOfPlace[i]] === i ? rowOfPlace[i] : -1);
  return data;
}

// One bar for each line of blocks of a pool, and one for its dedicated memory.
function barsOf({ trace }) {
  const { memory, header } = trace;
  const found = new Map();
  for (let m = 0; m < memory.begin.length; m++) {
    const key = `${memory.pool[m]} ${memory.slot[m]}`;
    if (!found.has(key)) found.set(key, { pool: memory.pool[m], slot: memory.slot[m], memories: [] });
    found.get(key).memories.push(m);
  }
  // Dedicated memory, which has slot 0, comes behind the blocks.
  const rank = ({ slot }) => slot || Infinity;
  const list = [...found.values()].sort((a, b) => a.pool - b.pool || rank(a) - rank(b));
  const bars = list.map(({ pool, slot, memories }, index) => ({
    index, id: "", pool: header.pools[pool], poolIndex: pool, slot, memories,
    dedicated: slot === 0, size: 0, side: 0, first: 0, rows: 0, allocations: 0, allocated: 0,
    fragmentation: 0, mapped: 0, lanes: 0, base: null, shared: null, reach: null,
    begins: Uint32Array.from(memories, (m) => memory.begin[m]),
  }));
  for (const bar of bars) bar.largest = bar.dedicated ? mostAtOnce(bar, memory) : mostOf(bar, memory);
  return bars;
}

const mostOf = (bar, memory) => bar.memories.reduce((most, m) => Math.max(most, memory.size[m]), 1);

// The most bytes of dedicated memory at one time.
function mostAtOnce(bar, memory) {
  const changes = [];
  for (const m of bar.memories) {
    changes.push([memory.begin[m], memory.size[m]]);
    if (memory.end[m] !== FOREVER) changes.push([memory.end[m], -memory.size[m]]);
  }
  changes.sort((a, b) => a[0] - b[0]);
  let now = 0, most = 1;
  for (const [, bytes] of changes) {
    now += bytes;
    most = Math.max(most, now);
  }
  return most;
}

// The memory object that a bar is at a moment, -1 for none.
function memoryAt(bar, memory, moment) {
  const index = countUpTo(bar.begins, moment - 1) - 1;
  if (index < 0) return -1;
  const m = bar.memories[index];
  return existsAt(memory, m, moment) ? m : -1;
}

// A lane for each place that shares memory, so that no two in a lane overlap while both exist.
function lanesOf({ trace }, bars) {
  const { place, memory } = trace;
  const lanes = new Map(), byMemory = new Map();
  for (let i = 0; i < place.begin.length; i++) {
    if (!place.base[i] || !place.memory[i]) continue;
    const m = place.memory[i] - 1;
    if (!byMemory.has(m)) byMemory.set(m, []);
    const others = byMemory.get(m);
    const taken = new Set();
    // The most recent ones are enough: more than four lanes are not drawn.
    for (const other of others.slice(-64)) {
      const apart = place.end[other] <= place.begin[i] ||
        place.offset[other] >= place.offset[i] + place.size[i] ||
        place.offset[i] >= place.offset[other] + place.size[other];
      if (!apart) taken.add(lanes.get(other));
    }
    let lane = 1;
    while (taken.has(lane) && lane < MOST_LANES) lane++;
    lanes.set(i, lane);
    others.push(i);
  }
  const barOfSlot = new Map(bars.map((bar) => [`${bar.poolIndex} ${bar.slot}`, bar]));
  for (const [i, lane] of lanes) {
    const m = place.memory[i] - 1;
    const bar = barOfSlot.get(`${memory.pool[m]} ${memory.slot[m]}`);
    bar.lanes = Math.max(bar.lanes, lane);
  }
  return lanes;
}

// The most rows that a moment needs: all that exists, and the free memory around it.
function rowsNeeded({ trace }, bars) {
  const { place, events } = trace;
  const change = new Int32Array(events + 2);
  for (let i = 0; i < place.begin.length; i++) {
    change[place.begin[i] + 1]++;
    if (place.end[i] !== FOREVER) change[place.end[i] + 1]--;
  }
  let now = 0, most = 0;
  for (const by of change) {
    now += by;
    most = Math.max(most, now);
  }
  return 2 * most + 2 * bars + 2;
}

// `3 blocks, 1 dedicated, 20 MiB of 48 MiB` for each pool.
function figuresOfPools(header, bars) {
  const sums = header.pools.map(() => ({ blocks: 0, dedicated: 0, allocated: 0, size: 0 }));
  for (const bar of bars) {
    const sum = sums[bar.poolIndex];
    if (bar.dedicated) sum.dedicated += bar.allocations;
    else if (bar.size) sum.blocks++;
    sum.allocated += bar.allocated;
    sum.size += bar.size;
  }
  sums.forEach(({ blocks, dedicated, allocated, size }, index) => {
    const counts = blocks ? [countText(blocks, "block")] : [];
    if (dedicated) counts.push(`${dedicated.toLocaleString("en")} dedicated`);
    const texts = [...counts, shareText(allocated, size)];
    header.pools[index].figures = size ? texts.join(", ") : "empty";
  });
}
