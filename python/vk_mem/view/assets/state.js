// What is filtered, selected and coloured how; tells those who draw when it changes.

function makeState(data) {
  const listeners = {};
  // The rows of a trace are filled anew for each moment, as many as there are at most.
  const capacity = data.capacity ?? data.count;
  const state = {
    data,
    dark: false,
    selected: -1,
    colourBy: data.compares ? "change" : "kind",
    // `kinds` and `sides` are what is hidden.
    filter: {
      text: "", place: "", smallest: null, largest: null, kinds: new Set(), sides: new Set(), group: null,
    },
    filtered: false,
    match: new Uint8Array(capacity),
    shade: new Uint8Array(capacity),
    found: 0,
    foundBytes: 0,
    version: 0,
    on(name, listener) { (listeners[name] ??= []).push(listener); },
    emit(name) { for (const listener of listeners[name] ?? []) listener(); },
    select(row, how = {}) {
      state.selected = row;
      state.how = how;
      state.emit("select");
    },
    // After other rows took the place of those that were there.
    refresh() {
      applyFilter(state);
      applyShades(state);
      state.version++;
    },
    apply() {
      state.refresh();
      state.emit("filter");
    },
    recolour() {
      applyShades(state);
      state.version++;
      state.emit("colour");
    },
  };
  state.dimmed = data.kinds.length;
  state.shadeCount = data.kinds.length + 1;
  applyFilter(state);
  applyShades(state);
  return state;
}

// Which texts contain what is searched: each is looked at once, however many rows have it.
function textsWith(texts, wanted) {
  const needle = wanted.toLowerCase();
  const hit = (text, index) => (index && text.toLowerCase().includes(needle) ? 1 : 0);
  return Uint8Array.from(texts, hit);
}

function applyFilter(state) {
  const { data, filter, match } = state;
  const { columns, size, kind, freeKind, isAllocation } = data;
  const hits = filter.text ? textsWith(data.texts, filter.text) : null;
  const smallest = filter.smallest ?? 0, largest = filter.largest ?? Infinity;
  const hiddenKind = new Uint8Array(data.kinds.length);
  for (const number of filter.kinds) hiddenKind[number] = 1;
  const hiddenSide = new Uint8Array(4);
  for (const side of filter.sides) hiddenSide[side] = 1;
  state.filtered = Boolean(filter.text || filter.place || smallest > 0 || largest < Infinity ||
    filter.kinds.size || filter.sides.size || filter.group !== null);
  // Margins and what is in quarantine have neither name nor group to ask for.
  const asked = hits || smallest > 0 || largest < Infinity || filter.group !== null;
  let found = 0, bytes = 0;
  for (const bar of data.bars) {
    const here = inPlace(data, bar, filter.place);
    for (let row = bar.first, end = bar.first + bar.rows; row < end; row++) {
      const seen = here && !hiddenKind[kind[row]] && !hiddenSide[changeOf(data, row)];
      if (!isAllocation[row]) {
        match[row] = seen && !asked && kind[row] !== freeKind ? 1 : 0;
        continue;
      }
      const ok = seen && size[row] >= smallest && size[row] <= largest &&
        (filter.group === null || data.group[row] === filter.group) &&
        (!hits || hits[columns.name[row]] || hits[columns.data[row]] || hits[columns.site[row]]);
      match[row] = ok ? 1 : 0;
      if (ok) {
        found++;
        if (columns.parent[row] === NONE) bytes += size[row];
      }
    }
  }
  state.found = found;
  state.foundBytes = bytes;
}

// A place is "type 3" or "pool 5", by their numbers in the header.
function inPlace(data, bar, place) {
  if (!place) return true;
  const [what, number] = place.split(" ");
  return (what === "pool" ? bar.poolIndex : bar.pool.type) === Number(number);
}

function applyShades(state) {
  const { data, match, shade, filtered, dimmed } = state;
  const { kind, freeKind, isAllocation } = data;
  const number = (key) => data.kinds.findIndex((it) => it.key === key);
  const byChange = CHANGE_KEYS.map(number);
  const change = state.colourBy === "change";
  const shadeOf = state.colourBy === "group" ? data.group : kind;
  for (let row = 0; row < data.count; row++) {
    if (kind[row] === freeKind) shade[row] = freeKind;
    else if (filtered && !match[row]) shade[row] = dimmed;
    else shade[row] = change && isAllocation[row] ? byChange[changeOf(data, row)] : shadeOf[row];
  }
}

// By the change of a row: its side, or 3 for what has moved.
const CHANGES = ["In both", "Only before", "Only after", "Moved"];
const CHANGE_KEYS = ["same", "gone", "new", "moved"];

const changeOf = (data, row) => (data.columns.moved[row] ? 3 : data.columns.side[row]);

const changeText = (data, row) =>
  data.columns.moved[row]
    ? `Moved ${visible(data.texts[data.columns.moved[row]])}`
    : CHANGES[data.columns.side[row]];

const nameOf = (data, row) => visible(data.texts[data.columns.name[row]]);

// Rows in order of a column, by sorting two halves of 32 bits, 16 bits at a time: a million in well
// under a second. `low` and `high` give the halves of the key of a row.
function sorted(rows, low, high, descending) {
  let from = Uint32Array.from(rows), to = new Uint32Array(from.length);
  for (const [half, shift] of [[low, 0], [low, 16], [high, 0], [high, 16]]) {
    if (!half) continue;
    const counts = new Uint32Array(65537);
    for (let i = 0; i < from.length; i++) counts[((half(from[i]) >>> shift) & 0xffff) + 1]++;
    if (counts.some((count, digit) => digit > 0 && count === from.length)) continue;
    for (let digit = 1; digit < counts.length; digit++) counts[digit] += counts[digit - 1];
    for (const row of from) to[counts[(half(row) >>> shift) & 0xffff]++] = row;
    [from, to] = [to, from];
  }
  return descending ? from.reverse() : from;
}
