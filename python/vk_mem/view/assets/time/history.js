// What exists at each moment. Moment p is that after p events.

const CAUSE = { made: 0, imported: 1, existed: 2, moved: 3, reserved: 4 };
const ENDING = { open: 0, freed: 1, lost: 2, moved: 3 };
const MARKS = { text: 0, failure: 1, loss: 2, frame: 3, trim: 4 };

const existsAt = (table, i, moment) => table.begin[i] < moment && moment <= table.end[i];

function makeHistory(trace) {
  const { place, memory, header } = trace;
  const heapOfPool = Uint32Array.from(header.pools, (pool) => header.types[pool.type].heap);
  const order = placesInOrder(place);
  // Lives in that order, so that a look for what exists reads one number after the other.
  const begin = order.map((i) => place.begin[i]), end = order.map((i) => place.end[i]);
  const history = { trace, heapOfPool, order, begin, end, starts: startsOf(order, place, memory.begin.length) };
  history.lives = livesOf(trace);
  history.series = makeSeries(trace, heapOfPool);
  return history;
}

// Places by memory object, and in each by offset.
function placesInOrder({ memory, offset }) {
  const rows = Uint32Array.from(memory.keys());
  const low = (row) => offset[row] % 4294967296, high = (row) => offset[row] / 4294967296;
  return sorted(sorted(rows, low, high, false), (row) => memory[row], null, false);
}

// Where the places of each memory object begin in that order; entry 0 are those without one.
function startsOf(order, { memory }, count) {
  const starts = new Uint32Array(count + 2);
  for (const row of order) starts[memory[row] + 1]++;
  for (let i = 1; i < starts.length; i++) starts[i] += starts[i - 1];
  return starts;
}

// The life of each allocation, over all its places.
function livesOf({ place }) {
  const rows = place.begin.length;
  const of = new Uint32Array(rows), first = new Uint32Array(rows), end = new Uint32Array(rows);
  const ending = new Uint8Array(rows), current = tableOf(place.allocation);
  let count = 0;
  for (let i = 0; i < rows; i++) {
    const cause = place.cause[i], number = place.allocation[i];
    const known = current.get(number);
    const follows = known !== undefined && (cause === CAUSE.moved || cause === CAUSE.reserved);
    const life = follows ? known : count++;
    if (!follows) {
      first[life] = i;
      current.set(number, life);
    }
    of[i] = life;
    if (cause === CAUSE.reserved) continue;
    end[life] = place.end[i];
    ending[life] = place.ending[i];
  }
  const cut = (table) => table.subarray(0, count);
  return { of, first: cut(first), end: cut(end), ending: cut(ending) };
}

// A map from object numbers: an array where they follow each other, as ours do.
function tableOf(numbers) {
  const most = numbers.reduce((a, b) => (a > b ? a : b), 0);
  if (most > 4 * numbers.length + 1024) return new Map();
  const values = new Int32Array(most + 1).fill(-1);
  return {
    get: (number) => (values[number] < 0 ? undefined : values[number]),
    set: (number, value) => { values[number] = value; },
  };
}

// Bytes held and live by heap, and numbers of both, at each moment.
function makeSeries(trace, heapOfPool) {
  const { memory, place, events, header } = trace;
  const used = new Set();
  for (const pool of memory.pool) used.add(heapOfPool[pool]);
  for (const pool of place.pool) used.add(heapOfPool[pool]);
  const heaps = [...used].sort((a, b) => a - b).map((heap) => ({
    heap,
    title: header.heaps[heap].name,
    held: new Float64Array(events + 1),
    live: new Float64Array(events + 1),
    budget: stepsOf(trace.budget, heap),
  }));
  const byHeap = new Map(heaps.map((it) => [it.heap, it]));
  const allocations = new Int32Array(events + 1), blocks = new Int32Array(events + 1);
  const change = (table, i, amount, of, count) => {
    of[table.begin[i] + 1] += amount;
    count[table.begin[i] + 1]++;
    if (table.end[i] === FOREVER) return;
    of[table.end[i] + 1] -= amount;
    count[table.end[i] + 1]--;
  };
  for (let i = 0; i < memory.begin.length; i++)
    change(memory, i, memory.size[i], byHeap.get(heapOfPool[memory.pool[i]]).held, blocks);
  for (let i = 0; i < place.begin.length; i++)
    if (!place.base[i])
      change(place, i, place.size[i], byHeap.get(heapOfPool[place.pool[i]]).live, allocations);
  for (const numbers of [allocations, blocks, ...heaps.flatMap((it) => [it.held, it.live])])
    for (let i = 1; i < numbers.length; i++) numbers[i] += numbers[i - 1];
  return { heaps, allocations, blocks, peak: peakOf(heaps, events) };
}

// The first moment at which most is live.
function peakOf(heaps, events) {
  let most = -1, peak = 0;
  for (let p = 0; p <= events; p++) {
    let live = 0;
    for (const it of heaps) live += it.live[p];
    if (live > most) { most = live; peak = p; }
  }
  return peak;
}

// The budgets of a heap: from which moment on, and how much.
function stepsOf({ event, heap, budget, usage }, wanted) {
  const steps = { moments: [], budget: [], usage: [] };
  for (let i = 0; i < event.length; i++) {
    if (heap[i] !== wanted) continue;
    steps.moments.push(event[i] + 1);
    steps.budget.push(budget[i]);
    steps.usage.push(usage[i]);
  }
  return steps;
}

// The number of entries of a sorted list that are at most `wanted`.
function countUpTo(sortedList, wanted, low = 0, high = sortedList.length) {
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sortedList[middle] <= wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

// The budget of a heap at a moment; null before the first that was told.
function budgetAt(steps, moment, of = "budget") {
  const count = countUpTo(steps.moments, moment);
  return count ? steps[of][count - 1] : null;
}
