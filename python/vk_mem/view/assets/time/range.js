// The table of a range: what was made, freed and left in it, by name, call site or use.

const RANGE_COLUMNS = [
  { key: "title", title: "Group" },
  { key: "made", title: "Made", about: "Allocated or imported in the range" },
  { key: "freed", title: "Freed", about: "Freed or lost in the range, whenever they were made" },
  { key: "left", title: "Left", about: "Made in the range and alive at its end" },
  { key: "leaked", title: "Leaked", about: "Made in the range and alive at the end of the trace" },
];
// More groups than this are summed up in the last line.
const MOST_LINES = 500;

// Sums up the events from moment `from` on up to moment `to`. O(allocations).
function sumRange({ trace, lives }, grouping, from, to) {
  const { place } = trace;
  // Four counts and four sums of bytes for each key, then those of all.
  const sums = new Float64Array(8 * (grouping.count + 1)), last = 8 * grouping.count;
  const add = (key, what, bytes) => {
    sums[8 * key + what]++;
    sums[8 * key + what + 4] += bytes;
    sums[last + what]++;
    sums[last + what + 4] += bytes;
  };
  for (let life = 0; life < lives.first.length; life++) {
    const i = lives.first[life], begin = place.begin[i], end = lives.end[life];
    if (place.base[i]) continue;
    const key = grouping.keyOf(i), bytes = place.size[i];
    const made = begin >= from && begin < to && place.cause[i] !== CAUSE.existed;
    if (made) {
      add(key, 0, bytes);
      if (end >= to) add(key, 2, bytes);
      if (lives.ending[life] === ENDING.open) add(key, 3, bytes);
    }
    if (end >= from && end < to) add(key, 1, bytes);
  }
  const lineOf = (key, title) => {
    const of = { key, title };
    ["made", "freed", "left", "leaked"].forEach((what, at) => {
      of[what] = sums[8 * key + at];
      of[`${what}Bytes`] = sums[8 * key + at + 4];
    });
    return of;
  };
  const lines = [];
  for (let key = 0; key < grouping.count; key++)
    if (sums[8 * key] || sums[8 * key + 1]) lines.push(lineOf(key, grouping.title(key)));
  return { lines, all: lineOf(grouping.count, "All") };
}

function makeRange(state, history, chart) {
  const { trace } = history;
  const table = byId("range-table"), about = byId("range-about"), by = byId("range-by");
  let sortedBy = "made", descending = true, groupings = {};

  function set(from, to) {
    state.range = from === null || to === from ? null : [Math.min(from, to), Math.max(from, to)];
    state.emit("range");
  }

  function draw() {
    const [from, to] = state.range ?? [0, trace.events];
    const grouping = (groupings[by.value] ??= groupingBy(trace, by.value));
    const { lines, all } = sumRange(history, grouping, from, to);
    const compare = sortedBy === "title"
      ? (a, b) => (a.title < b.title ? -1 : a.title > b.title ? 1 : 0)
      : (a, b) => a[`${sortedBy}Bytes`] - b[`${sortedBy}Bytes`] || a[sortedBy] - b[sortedBy];
    lines.sort((a, b) => (descending ? compare(b, a) : compare(a, b)));
    const span = chart.axis.hasTimes
      ? `, ${timeText(chart.axis.timeOf(to) - chart.axis.timeOf(from + 1))}` : "";
    const what = `${(from + 1).toLocaleString("en")} to ${to.toLocaleString("en")}${span}`;
    about.textContent = !trace.events ? "The trace has no events."
      : state.range ? `Events ${what}.`
        : `The whole trace: events ${what}. Drag in the timeline to choose a range.`;
    byId("range-clear").hidden = !state.range;
    const head = element("tr", {}, ...RANGE_COLUMNS.map(header));
    const body = element("tbody", {}, line(all, "all"), ...lines.slice(0, MOST_LINES).map((it) => line(it)));
    if (lines.length > MOST_LINES) {
      const rest = lines.length - MOST_LINES;
      body.append(element("tr", {}, element("td", { colSpan: 5, className: "quiet" },
        `and ${countText(rest, "group")} more`)));
    }
    table.replaceChildren(element("thead", {}, head), body);
    state.rangeSums = { from, to, lines, all };
  }

  function header({ key, title, about: hint }) {
    const mine = key === sortedBy;
    const text = title + (mine ? (descending ? " ↓" : " ↑") : "");
    const button = element("button", { type: "button", title: hint ?? "" }, text);
    button.addEventListener("click", () => {
      descending = key === sortedBy ? !descending : key !== "title";
      sortedBy = key;
      draw();
      table.querySelector(`[data-key=${key}] button`).focus();
    });
    const sort = mine ? (descending ? "descending" : "ascending") : "none";
    return element("th", { scope: "col", "data-key": key, "aria-sort": sort }, button);
  }

  function line(it, className = "") {
    const name = element("th", { scope: "row", title: cut(it.title, 600) }, cut(it.title, 300));
    const cell = (what) => {
      if (!it[what]) return element("td", { className: "none" }, "–");
      const bytes = `${it[`${what}Bytes`].toLocaleString("en")} B`;
      return element("td", { title: bytes }, sizeText(it[`${what}Bytes`]),
        element("div", { className: "quiet" }, it[what].toLocaleString("en")));
    };
    return element("tr", { className }, name, cell("made"), cell("freed"), cell("left"), cell("leaked"));
  }

  // `at` is one of the two panels beside the map.
  function tab(at) {
    for (const name of ["allocations", "range"]) {
      const button = byId(`tab-${name}`);
      button.setAttribute("aria-selected", String(name === at));
      button.tabIndex = name === at ? 0 : -1;
    }
    byId("table").hidden = at !== "allocations";
    byId("range").hidden = at !== "range";
    state.tab = at;
    if (at === "range") draw();
  }

  for (const name of ["allocations", "range"]) {
    byId(`tab-${name}`).addEventListener("click", () => tab(name));
    byId(`tab-${name}`).addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      const other = name === "range" ? "allocations" : "range";
      tab(other);
      byId(`tab-${other}`).focus();
    });
  }
  by.addEventListener("change", draw);
  byId("range-clear").addEventListener("click", () => set(null, null));
  let timer = 0;
  state.on("range", () => {
    clearTimeout(timer);
    if (state.range && state.tab !== "range") tab("range");
    else if (state.tab === "range") timer = setTimeout(draw, 30);
  });
  tab("allocations");
  return { set, tab, draw };
}
