// Reads what columns.py wrote: the header, the columns and the texts.

const NONE = 0xffffffff;

async function readData() {
  const header = JSON.parse(byId("header").textContent);
  const lump = byId("lump");
  const buffer = await inflate(lump.textContent);
  lump.remove();
  const columns = {};
  let at = 0;
  for (const [name, width, count] of header.columns) {
    const part = buffer.slice(at, at + width * count);
    at += width * count;
    columns[name] = width === 1 ? new Uint8Array(part) : new Uint32Array(part);
  }
  const texts = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, at, header.texts)));
  return prepare(header, columns, texts);
}

// Numbers of 64 bits: exact for a text, as a double for drawing.
function doubles(halves) {
  const made = new Float64Array(halves.length / 2);
  for (let i = 0; i < made.length; i++) made[i] = halves[2 * i] + halves[2 * i + 1] * 4294967296;
  return made;
}

const exactly = (halves, row) => (BigInt(halves[2 * row + 1]) << 32n) + BigInt(halves[2 * row]);

function prepare(header, columns, texts) {
  const count = header.rows;
  const size = doubles(columns.size);
  const position = doubles(columns.offset);
  const kind = new Uint8Array(count);
  const kindOfUse = Uint8Array.from(header.uses, (use) => use.kind);
  for (let row = 0; row < count; row++) kind[row] = kindOfUse[columns.use[row]];
  const freeKind = header.kinds.findIndex((it) => it.key === "free");
  const marginKind = header.kinds.findIndex((it) => it.key === "margin");
  // Whether each row is an allocation, neither free nor held back as a margin or in quarantine.
  const isUse = Uint8Array.from(header.kinds, (it, number) => (number === freeKind || it.held ? 0 : 1));
  const isAllocation = kind.map((it) => isUse[it]);
  const bars = makeBars(header);
  for (const bar of bars) {
    if (bar.dedicated) layEndToEnd(bar, columns, size, position);
    if (bar.lanes) splitLanes(bar, columns.lane);
    if (bar.lanes || header.compares) bar.reach = reachOf(bar, size, position);
  }
  const { kinds, compares } = header;
  return {
    header, columns, texts, count, size, position, kind, kinds, freeKind, marginKind,
    isAllocation, bars, compares,
  };
}

const BAR_COLUMNS = [
  "size", "side", "first", "rows", "allocations", "allocated", "fragmentation", "mapped", "lanes",
];

function makeBars(header) {
  const from = header.bars;
  return from.id.map((id, index) => {
    const pool = header.pools[from.pool[index]];
    const bar = { index, id, pool, poolIndex: from.pool[index] };
    for (const name of BAR_COLUMNS) bar[name] = from[name][index];
    bar.dedicated = from.dedicated[index] === 1;
    // Rows that lie beside each other, and those that share memory with one of them.
    bar.base = null;
    bar.shared = null;
    bar.reach = null;
    return bar;
  });
}

// Dedicated memory has no place in a block: a strip shows it one behind the other.
function layEndToEnd(bar, columns, size, position) {
  let end = 0;
  for (let row = bar.first; row < bar.first + bar.rows; row++) {
    const parent = columns.parent[row];
    if (parent !== NONE) {
      const apart = Number(exactly(columns.offset, row) - exactly(columns.offset, parent));
      position[row] = position[parent] + Math.max(apart, 0);
    } else {
      position[row] = end;
      end += size[row];
    }
  }
}

function splitLanes(bar, lane) {
  const base = [], shared = [];
  for (let row = bar.first; row < bar.first + bar.rows; row++)
    (lane[row] ? shared : base).push(row);
  bar.base = Uint32Array.from(base);
  bar.shared = Uint32Array.from(shared);
}

// The furthest end of all rows up to each: where rows overlap, ends alone are not in order.
function reachOf(bar, size, position) {
  const count = baseCount(bar);
  const reach = new Float64Array(count);
  let furthest = 0;
  for (let i = 0; i < count; i++) {
    const row = baseRow(bar, i);
    furthest = Math.max(furthest, position[row] + size[row]);
    reach[i] = furthest;
  }
  return reach;
}

const baseCount = (bar) => (bar.base ? bar.base.length : bar.rows);
const baseRow = (bar, i) => (bar.base ? bar.base[i] : bar.first + i);

// The number, among the base rows of a bar, of the first that ends behind a position.
function firstEndingAfter(data, bar, at) {
  let low = 0, high = baseCount(bar);
  while (low < high) {
    const middle = (low + high) >>> 1;
    const row = baseRow(bar, middle);
    const end = bar.reach ? bar.reach[middle] : data.position[row] + data.size[row];
    if (end > at) high = middle;
    else low = middle + 1;
  }
  return low;
}

// The bar of a row.
function barOf(data, row) {
  let low = 0, high = data.bars.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if (data.bars[middle].first <= row) low = middle;
    else high = middle - 1;
  }
  return data.bars[low];
}
