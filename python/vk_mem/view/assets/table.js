// The table of allocations. Only the rows in sight exist, however many there are.

const ROW_HEIGHT = 26;
// Browsers end at some 17 million pixels. Beyond this, scrolling is in a smaller scale.
const TALLEST = 6000000;

const COLUMNS = [
  { key: "name", title: "Name" },
  { key: "size", title: "Size" },
  { key: "kind", title: "Use" },
  { key: "place", title: "Place" },
];

function makeTable(state) {
  const { data } = state;
  const table = byId("table"), rows = byId("rows"), columns = byId("columns");
  let sortedBy = "size", descending = true;
  let all = new Uint32Array(0), shown = new Uint32Array(0);
  let waiting = false;
  let ranks = null;
  const pool = [];

  for (const column of COLUMNS) {
    const button = element("button", { type: "button", tabIndex: 0 }, column.title);
    button.addEventListener("click", () => sortBy(column.key));
    columns.append(element("span", { role: "columnheader", "data-key": column.key }, button));
  }

  const allocations = () => {
    const found = new Uint32Array(data.count);
    let count = 0;
    for (let row = 0; row < data.count; row++)
      if (data.isAllocation[row]) found[count++] = row;
    return found.slice(0, count);
  };

  // The rank of each text by the alphabet, without regard to case.
  function nameRanks() {
    if (ranks) return ranks;
    const lower = data.texts.slice(0, data.names).map((text) => text.toLowerCase());
    const compare = (a, b) => (lower[a] < lower[b] ? -1 : lower[a] > lower[b] ? 1 : a - b);
    const order = Array.from(lower.keys()).sort(compare);
    ranks = new Uint32Array(order.length);
    order.forEach((text, rank) => { ranks[text] = rank; });
    return ranks;
  }

  function sortBy(key) {
    if (key === sortedBy) descending = !descending;
    else { sortedBy = key; descending = key === "size"; }
    sort();
    filter();
  }

  function sort() {
    const { size, name } = data.columns;
    const rows = allocations();
    if (sortedBy === "size") {
      all = sorted(rows, (row) => size[2 * row], (row) => size[2 * row + 1], descending);
    } else if (sortedBy === "name") {
      const rank = nameRanks();
      all = sorted(rows, (row) => rank[name[row]], null, descending);
    } else if (sortedBy === "kind") {
      const first = data.compares ? 256 : 0;
      all = sorted(rows, (row) => changeOf(data, row) * first + data.kind[row], null, descending);
    } else {
      all = descending ? rows.reverse() : rows;
    }
    for (const header of columns.children) {
      const mine = header.dataset.key === sortedBy;
      const column = COLUMNS.find((it) => it.key === header.dataset.key);
      header.setAttribute("aria-sort", mine ? (descending ? "descending" : "ascending") : "none");
      const grouped = column.key === "kind" && state.colourBy === "group";
      const title = grouped ? "Group" : column.title;
      header.firstChild.textContent = title + (mine ? (descending ? " ↓" : " ↑") : "");
    }
  }

  function filter() {
    shown = state.filtered ? all.filter((row) => state.match[row]) : all;
    table.setAttribute("aria-rowcount", shown.length + 1);
    byId("rows-height").style.height = `${height()}px`;
    draw();
  }

  const height = () => Math.min(shown.length * ROW_HEIGHT, TALLEST);
  // Rows a pixel of scrolling.
  const stretch = () => {
    const seen = rows.clientHeight;
    return Math.max((shown.length * ROW_HEIGHT - seen) / Math.max(height() - seen, 1), 1);
  };

  function schedule() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }

  function draw() {
    const top = rows.scrollTop * stretch();
    const first = Math.max(Math.floor(top / ROW_HEIGHT), 0);
    const count = Math.min(Math.ceil(rows.clientHeight / ROW_HEIGHT) + 1, shown.length - first);
    while (pool.length < count) {
      const made = makeRow();
      pool.push(made);
      rows.append(made.element);
    }
    pool.forEach((made, i) => {
      made.element.hidden = i >= count;
      const y = rows.scrollTop + (first + i) * ROW_HEIGHT - top;
      if (i < count) fill(made, shown[first + i], first + i, y);
    });
    // The headings stand above their columns, whatever a scroll bar takes.
    columns.style.paddingRight = `${10 + rows.offsetWidth - rows.clientWidth}px`;
    const active = pool.find((made, i) => i < count && made.row === state.selected);
    if (active) table.setAttribute("aria-activedescendant", active.element.id);
    else table.removeAttribute("aria-activedescendant");
    let empty = rows.querySelector(".empty");
    if (!shown.length && !empty) {
      empty = element("p", { className: "empty" });
      rows.append(empty);
    }
    if (empty) {
      empty.hidden = shown.length > 0;
      empty.textContent = all.length ? "Nothing is like that." : "No allocations.";
    }
  }

  function makeRow() {
    const cell = (className) => element("span", { className, role: "gridcell" });
    const swatch = element("i"), use = document.createTextNode("");
    const name = cell("name"), size = cell("number"), kind = cell("kind"), place = cell("quiet");
    const row = element("div", { className: "row", role: "row", id: `row-${pool.length}` });
    kind.append(swatch, use);
    row.append(name, size, kind, place);
    const made = { element: row, name, size, kind, place, swatch, use, row: -1 };
    const select = (close) => state.select(made.row, { from: "table", close });
    row.addEventListener("click", () => select(false));
    row.addEventListener("dblclick", () => select(true));
    return made;
  }

  function fill(made, row, index, y) {
    const name = nameOf(data, row);
    made.row = row;
    made.element.style.transform = `translateY(${y}px)`;
    made.element.style.top = "0";
    made.element.setAttribute("aria-rowindex", index + 2);
    made.element.setAttribute("aria-selected", row === state.selected);
    made.name.textContent = name || "no name";
    made.name.classList.toggle("unnamed", !name);
    made.size.textContent = sizeText(data.size[row]);
    made.swatch.style.background = colourOf(state, row);
    made.use.data = useText(state, row);
    made.place.textContent = shortPlace(data, row);
    made.place.title = placeText(data, row);
  }

  // Selects what is so many rows further; the first if nothing is selected.
  function step(by) {
    if (!shown.length) return;
    const now = shown.indexOf(state.selected), last = shown.length - 1;
    const start = now >= 0 ? now + by : by < 0 ? last : 0;
    state.select(shown[Math.min(Math.max(start, 0), last)], { from: "keys" });
  }

  function reveal(row) {
    const index = shown.indexOf(row);
    if (index < 0) return;
    const at = index * ROW_HEIGHT, top = rows.scrollTop * stretch();
    if (at < top || at + ROW_HEIGHT > top + rows.clientHeight)
      rows.scrollTop = (at - rows.clientHeight / 2 + ROW_HEIGHT) / stretch();
  }

  rows.addEventListener("scroll", schedule, { passive: true });
  new ResizeObserver(schedule).observe(rows);
  state.on("filter", filter);
  state.on("colour", draw);
  state.on("select", () => {
    if (!state.how.from || state.how.from !== "table") reveal(state.selected);
    draw();
  });
  table.addEventListener("keydown", (event) => {
    if (event.target.closest("#columns")) return;
    const page = Math.max(Math.floor(rows.clientHeight / ROW_HEIGHT) - 1, 1);
    const ends = { Home: 0, End: shown.length - 1 };
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    if (!(event.key in ends) && !(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key in steps) step(steps[event.key]);
    else if (shown.length) state.select(shown[ends[event.key]], { from: "keys" });
  });
  const start = () => {
    sort();
    filter();
  };
  // After other rows took the place of those that were there.
  const refresh = start;
  return { start, refresh, step, first: () => (shown.length ? shown[0] : -1) };
}

function colourOf(state, row) {
  const { data } = state;
  const change = state.colourBy === "change" && data.isAllocation[row];
  const key = CHANGE_KEYS[changeOf(data, row)];
  const own = state.colourBy === "group" ? data.group[row] : data.kind[row];
  const kind = change ? data.kinds.find((it) => it.key === key) : data.kinds[own];
  return state.dark ? kind.dark : kind.light;
}

function useText(state, row) {
  const { data } = state;
  if (state.colourBy === "change") return CHANGES[changeOf(data, row)];
  if (state.colourBy === "group") return state.groupTitles.get(data.group[row]);
  return data.kinds[data.kind[row]].title;
}

// `Type 3 / 0`, `pool 1 / 0` of a pool that is called `1 - ring`, and `2: Type 3 / 0` of allocator 2: short,
// so that the block is not cut off. Dedicated memory has no block.
function shortPlace(data, row) {
  const bar = barOf(data, row), { name, title } = bar.pool;
  const number = /^(\d+)( - |$)/.exec(name ?? "");
  const [, type, allocator] = /^(.*?)(?: of allocator (\d+))?$/s.exec(title);
  const where = `${allocator ? `${allocator}: ` : ""}${number ? `pool ${number[1]}` : type}`;
  return visible(`${where} / ${bar.dedicated ? "–" : bar.id}`);
}

// `Type 3, block 0`
function placeText(data, row) {
  const bar = barOf(data, row);
  return visible(`${bar.pool.title}, ${bar.dedicated ? "dedicated" : `block ${bar.id}`}`);
}
