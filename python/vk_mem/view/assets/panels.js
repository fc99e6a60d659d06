// Around the map: heaps, legend, filters, what is said of a region.

function showHeaps(data) {
  const { heaps } = data.header;
  byId("heaps").hidden = !heaps.length;
  for (const heap of heaps) {
    const whole = Math.max(heap.size ?? 0, heap.budget ?? 0, heap.usage ?? 0, heap.held ?? 0, 1);
    const bar = element("div", { className: "budget", role: "img", "aria-label": heap.texts.map(([, text]) => text).join(", ") });
    const held = heap.held ?? 0, allocated = heap.allocated ?? 0;
    const parts = [["allocated", allocated], ["reserved", held - allocated], ["foreign", Math.max((heap.usage ?? 0) - held, 0)]];
    for (const [name, size] of parts)
      if (size > 0) bar.append(element("i", { className: name, style: { width: `max(2px, ${(100 * size) / whole}%)` } }));
    if (heap.budget)
      bar.append(element("i", { className: "tick", style: { left: `calc(${(100 * heap.budget) / whole}% - 2px)` } }));
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
    const button = element("button", { type: "button", className: "chip", "aria-pressed": "true", title: `Show or hide: ${text}` }, swatch, text);
    button.addEventListener("click", () => {
      if (!set.delete(value)) set.add(value);
      state.apply();
    });
    state.on("filter", () => button.setAttribute("aria-pressed", String(!set.has(value))));
    legend.append(button);
  };
  if (data.compares) {
    for (const [side, key] of [[1, "gone"], [0, "same"], [2, "new"]]) {
      const kind = data.kinds.find((it) => it.key === key);
      chip(kind.title, () => (state.colourBy === "change" ? kind : null), state.filter.sides, side);
    }
    legend.append(element("span", { className: "legend-gap" }));
  }
  const present = new Set(data.header.uses.map((use) => use.kind));
  data.kinds.forEach((kind, number) => {
    if (!present.has(number) || number === data.freeKind) return;
    chip(kind.title, () => (state.colourBy === "kind" ? kind : null), state.filter.kinds, number);
  });
  legend.append(element("span", { className: "chip" }, element("i", { className: "free-chip" }), "Free"));
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
    const pools = data.header.pools.map((pool, index) => ({ ...pool, index })).filter((pool) => pool.type === number);
    if (!data.bars.some((bar) => bar.pool.type === number)) return;
    place.append(element("option", { value: `type ${number}` }, visible(type.name)));
    for (const pool of pools)
      if (pool.name !== null) place.append(element("option", { value: `pool ${pool.index}` }, `\u2003${visible(pool.name)}`));
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
    Object.assign(filter, { text: "", place: "", smallest: null, largest: null });
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
  tell();
  return { clear, search };
}

// All that is known of a row, as pairs.
function facts(state, row) {
  const { data } = state, { columns, header } = data;
  const use = header.uses[columns.use[row]], bar = barOf(data, row);
  const free = data.kind[row] === data.freeKind;
  const size = exactly(columns.size, row);
  const found = [["Size", `${sizeText(data.size[row])}${size >= 1024n ? ` (${size.toLocaleString("en")} B)` : ""}`]];
  if (!bar.dedicated) found.push(["Offset", exactly(columns.offset, row).toLocaleString("en")]);
  found.push(["Place", placeText(data, row)]);
  if (data.compares && !free) found.push(["Change", ["In both", "Only before", "Only after"][columns.side[row]]]);
  if (free) return found;
  found.push(["Kind", `${data.kinds[data.kind[row]].title} (${visible(use.class)})`]);
  if (use.flags) found.push(["Usage", visible(use.flags)]);
  if (use.layout !== null) found.push(["Layout", String(use.layout)]);
  if (columns.data[row]) found.push(["User data", visible(data.texts[columns.data[row]])]);
  return found;
}

const titleOf = (data, row) => (data.kind[row] === data.freeKind ? "Free" : nameOf(data, row) || "No name");

// A call site has lines of its own; everything else in it is spelled out.
const siteOf = (data, row) => data.texts[data.columns.site[row]].split("\n").map(visible).join("\n");

function makeTip(state) {
  const { data } = state;
  const tip = byId("tip");
  let last = -1;
  return {
    hide() { tip.hidden = true; last = -1; },
    show(row, x, y) {
      if (row !== last) {
        last = row;
        const swatch = element("i", { className: "swatch", style: { background: colourOf(state, row) } });
        const name = titleOf(data, row);
        tip.replaceChildren(element("b", {}, swatch, name.length > 300 ? name.slice(0, 300) + "…" : name));
        for (const [what, value] of facts(state, row))
          tip.append(element("div", {}, element("span", { className: "quiet" }, `${what}: `), value.length > 300 ? value.slice(0, 300) + "…" : value));
        const site = siteOf(data, row);
        if (site) tip.append(element("div", { className: "site" }, site.split("\n").slice(0, 4).join("\n").slice(0, 600)));
      }
      tip.hidden = false;
      const { offsetWidth: width, offsetHeight: height } = tip;
      const right = x + 16 + width > window.innerWidth - 8 ? x - 16 - width : x + 16;
      const below = y + 18 + height > window.innerHeight - 8 ? y - 14 - height : y + 18;
      tip.style.left = `${Math.max(right, 8)}px`;
      tip.style.top = `${Math.max(below, 8)}px`;
    },
  };
}

function listenToDetails(state) {
  const { data } = state;
  const details = byId("details");
  const show = () => {
    const row = state.selected;
    details.hidden = row < 0;
    if (row < 0) return;
    const swatch = element("i", { className: "swatch", style: { background: colourOf(state, row) } });
    const list = element("dl");
    const put = (what, ...values) => list.append(element("dt", {}, what), element("dd", {}, ...values));
    for (const [what, value] of facts(state, row)) put(what, value);
    const parent = data.columns.parent[row];
    if (parent !== NONE) put("Shares", link(parent));
    const sharing = sharedWith(row);
    if (sharing.length) put("Shared by", ...sharing.slice(0, 20).flatMap((it, i) => (i ? [", ", link(it)] : [link(it)])));
    const site = siteOf(data, row);
    if (site) list.append(element("dt", {}, "Made in"), element("dd", { className: "site" }, site));
    details.replaceChildren(element("h2", {}, swatch, titleOf(data, row)), list);
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
  show();
}
