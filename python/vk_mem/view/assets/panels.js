// Around the map: heaps, legend, filters, what is said of a region.

function showHeaps(data) {
  const { heaps } = data.header;
  byId("heaps").replaceChildren();
  byId("heaps").hidden = !heaps.length;
  for (const heap of heaps) {
    const whole = Math.max(heap.size ?? 0, heap.budget ?? 0, heap.usage ?? 0, heap.held ?? 0, 1);
    const label = heap.texts.map(([, text]) => text).join(", ");
    const bar = element("div", { className: "budget", role: "img", "aria-label": label });
    const held = heap.held ?? 0, allocated = heap.allocated ?? 0;
    const margin = heap.margins ?? 0, quarantine = heap.quarantined ?? 0;
    const share = (size) => `${(100 * size) / whole}%`;
    const reserved = held - allocated - margin - quarantine, foreign = (heap.usage ?? 0) - held;
    const parts = { allocated, margin, quarantine, reserved, foreign };
    for (const [className, size] of Object.entries(parts)) {
      // Margins are many and small: their share alone is shown.
      const width = className === "margin" ? share(size) : `max(2px, ${share(size)})`;
      if (size > 0) bar.append(element("i", { className, style: { width } }));
    }
    const left = `calc(${share(heap.budget)} - 2px)`;
    if (heap.budget) bar.append(element("i", { className: "tick", style: { left } }));
    const figures = element("div", { className: "figures" });
    for (const [name, text] of heap.texts) {
      const over = name === "budget" && heap.over;
      const mark = element("i", { className: name === "budget" ? "budget-mark" : name });
      figures.append(element("span", { className: over ? "over" : "" }, mark, text));
    }
    const name = element("div", { className: "name" }, element("b", {}, visible(heap.name)),
      element("span", { className: "quiet" }, visible(heap.flags)));
    byId("heaps").append(element("div", { className: "heap" }, name, bar, figures));
  }
}

function showLegend(state) {
  const { data } = state;
  const legend = byId("legend");
  const swatches = [];
  const chip = (text, colour, set, value) => {
    const swatch = element("i");
    swatches.push([swatch, colour]);
    const button = element("button", { type: "button", className: "chip" }, swatch, text);
    button.title = `Show or hide: ${text}`;
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      if (!set.delete(value)) set.add(value);
      state.apply();
    });
    state.on("filter", () => button.setAttribute("aria-pressed", String(!set.has(value))));
    legend.append(button);
  };
  if (data.compares) {
    for (const side of [1, 0, 3, 2]) {
      const key = CHANGE_KEYS[side];
      if (side === 3 && !data.columns.moved.some((it) => it)) continue;
      const kind = data.kinds.find((it) => it.key === key);
      chip(kind.title, () => (state.colourBy === "change" ? kind : null), state.filter.sides, side);
    }
    legend.append(element("span", { className: "legend-gap" }));
  }
  const present = new Set(data.header.uses.map((use) => use.kind));
  data.kinds.forEach((kind, number) => {
    if (!present.has(number) || number === data.freeKind || kind.held) return;
    chip(kind.title, () => (state.colourBy === "kind" ? kind : null), state.filter.kinds, number);
  });
  data.kinds.forEach((kind, number) => {
    if (present.has(number) && kind.held)
      chip(kind.title, () => kind, state.filter.kinds, number);
  });
  const free = element("i", { className: "free-chip" });
  legend.append(element("span", { className: "chip" }, free, "Free"));
  const paint = () => {
    for (const [swatch, colour] of swatches) {
      const kind = colour();
      swatch.hidden = !kind;
      if (kind) swatch.style.background = state.dark ? kind.dark : kind.light;
    }
  };
  state.on("colour", paint);
  paint();
}

function listenToFilters(state) {
  const { data, filter } = state;
  const place = byId("place"), search = byId("search");
  place.append(element("option", { value: "" }, "All types and pools"));
  data.header.types.forEach((type, number) => {
    if (!data.bars.some((bar) => bar.pool.type === number)) return;
    place.append(element("option", { value: `type ${number}` }, visible(type.name)));
    data.header.pools.forEach((pool, index) => {
      if (pool.type !== number || pool.name === null) return;
      place.append(element("option", { value: `pool ${index}` }, `\u2003${visible(pool.name)}`));
    });
  });
  place.addEventListener("change", () => { filter.place = place.value; state.apply(); });

  let timer = 0;
  const soon = (change) => {
    clearTimeout(timer);
    timer = setTimeout(() => { change(); state.apply(); }, 90);
  };
  search.addEventListener("input", () => soon(() => { filter.text = search.value.trim(); }));
  for (const key of ["smallest", "largest"]) {
    const input = byId(key);
    input.addEventListener("input", () => {
      const size = parseSize(input.value);
      input.classList.toggle("wrong", Number.isNaN(size));
      input.setAttribute("aria-invalid", String(Number.isNaN(size)));
      soon(() => { filter[key] = Number.isNaN(size) ? null : size; });
    });
  }
  const colours = byId("colours");
  colours.hidden = !data.compares;
  colours.addEventListener("change", () => { state.colourBy = colours.value; state.recolour(); });

  const clear = () => {
    clearTimeout(timer);
    Object.assign(filter, { text: "", place: "", smallest: null, largest: null, group: null });
    filter.kinds.clear();
    filter.sides.clear();
    search.value = place.value = byId("smallest").value = byId("largest").value = "";
    for (const key of ["smallest", "largest"]) byId(key).classList.remove("wrong");
    state.apply();
  };
  byId("clear").addEventListener("click", clear);
  const tell = () => {
    byId("clear").hidden = !state.filtered;
    byId("found").textContent = state.filtered
      ? `${countText(state.found, "allocation")} of ${sizeText(state.foundBytes)}`
      : "";
  };
  state.on("filter", tell);
  state.on("moment", tell);
  tell();
  return { clear, search };
}

// All that is known of a row, as pairs.
function facts(state, row) {
  const { data } = state, { columns, header } = data;
  const use = header.uses[columns.use[row]], bar = barOf(data, row);
  const apart = !data.isAllocation[row];
  const size = exactly(columns.size, row);
  const bytes = size >= 1024n ? ` (${size.toLocaleString("en")} B)` : "";
  const found = [["Size", sizeText(data.size[row]) + bytes]];
  if (!bar.dedicated) found.push(["Offset", exactly(columns.offset, row).toLocaleString("en")]);
  found.push(["Place", placeText(data, row)]);
  if (data.compares && !apart) found.push(["Change", changeText(data, row)]);
  if (apart) return found;
  found.push(["Kind", `${data.kinds[data.kind[row]].title} (${visible(use.class)})`]);
  if (use.flags) found.push(["Usage", visible(use.flags)]);
  if (use.layout !== null) found.push(["Layout", String(use.layout)]);
  if (use.detail) found.push(["Detail", visible(use.detail)]);
  if (columns.data[row]) found.push(["User data", visible(data.texts[columns.data[row]])]);
  return data.facts ? [...found, ...data.facts(row)] : found;
}

const titleOf = (data, row) =>
  data.isAllocation[row] ? nameOf(data, row) || "No name" : data.kinds[data.kind[row]].title;

// A call site has lines of its own; everything else in it is spelled out.
const siteOf = (data, row) =>
  data.texts[data.columns.site[row]].split("\n").map(visible).join("\n");

const cut = (text, length) => (text.length > length ? text.slice(0, length) + "…" : text);

const swatchOf = (state, row) =>
  element("i", { className: "swatch", style: { background: colourOf(state, row) } });

function makeTip(state) {
  const { data } = state;
  const tip = byId("tip");
  let last = -1;
  return {
    hide() { tip.hidden = true; last = -1; },
    show(row, x, y) {
      if (row !== last) {
        last = row;
        const name = cut(titleOf(data, row), 300);
        tip.replaceChildren(element("b", {}, swatchOf(state, row), name));
        for (const [what, value] of facts(state, row)) {
          const label = element("span", { className: "quiet" }, `${what}: `);
          tip.append(element("div", {}, label, cut(value, 300)));
        }
        const site = siteOf(data, row).split("\n").slice(0, 4).join("\n");
        if (site) tip.append(element("div", { className: "site" }, cut(site, 600)));
      }
      placeTip(tip, x, y);
    },
  };
}

// Beside a point of the window, and inside of it.
function placeTip(tip, x, y) {
  tip.hidden = false;
  const { offsetWidth: width, offsetHeight: height } = tip;
  const right = x + 16 + width > window.innerWidth - 8 ? x - 16 - width : x + 16;
  const below = y + 18 + height > window.innerHeight - 8 ? y - 14 - height : y + 18;
  tip.style.left = `${Math.max(right, 8)}px`;
  tip.style.top = `${Math.max(below, 8)}px`;
}

function listenToDetails(state) {
  const { data } = state;
  const details = byId("details");
  const show = () => {
    const row = state.selected;
    details.hidden = row < 0;
    if (row < 0) return;
    const list = element("dl");
    const put = (what, ...values) =>
      list.append(element("dt", {}, what), element("dd", {}, ...values));
    for (const [what, value] of facts(state, row)) put(what, value);
    const parent = data.columns.parent[row];
    if (parent !== NONE) put("Shares", link(parent));
    const sharing = sharedWith(row).slice(0, 20);
    if (sharing.length) put("Shared by", ...sharing.flatMap((it) => [", ", link(it)]).slice(1));
    const site = siteOf(data, row);
    if (site) list.append(element("dt", {}, "Made in"), element("dd", { className: "site" }, site));
    details.replaceChildren(element("h2", {}, swatchOf(state, row), titleOf(data, row)), list);
    details.scrollTop = 0;
  };
  const link = (row) => {
    const made = element("button", { type: "button", className: "link" }, titleOf(data, row));
    made.addEventListener("click", () => state.select(row, { from: "details" }));
    return made;
  };
  const sharedWith = (row) => {
    const bar = barOf(data, row), found = [];
    for (const it of bar.shared ?? []) if (data.columns.parent[it] === row) found.push(it);
    return found;
  };
  state.on("select", show);
  state.on("colour", show);
  state.on("moment", show);
  show();
}
