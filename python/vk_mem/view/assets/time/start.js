// The page of a trace: that of a dump, of the moment that the timeline shows.

function startTrace(trace) {
  const history = makeHistory(trace);
  const data = makeMoments(history);
  data.show(history.series.peak);
  const held = { data, more: {} };
  const { state, table, map, tip } = start(data, held.more);
  state.moment = -1;
  state.range = state.life = null;
  const axis = makeAxis(history);
  const chart = makeChart(state, history, axis);
  chart.axis = axis;
  const clock = makeClock(state, history, axis, chart);
  const range = makeRange(state, history, chart);
  const timeTip = makeTimeTip(state, history, axis, chart);
  Object.assign(held.more, 
    listenToTimeline(state, history, map, { axis, chart, clock, range, tip: timeTip }));
  let chosen = NONE, latest = 0, timer = 0;
  const follow = () => {
    clearTimeout(timer);
    timer = 0;
    latest = performance.now();
    table.refresh();
    state.emit("moment");
  };

  // Fills the map for a moment. The table, which has to be sorted, comes after the next picture; while
  // the timeline plays, five times a second.
  state.showMoment = (moment, playing) => {
    data.show(moment);
    const row = chosen === NONE ? -1 : data.rowOf(chosen);
    state.selected = row;
    state.refresh();
    showHeapsAt(history, moment);
    byId("summary").textContent = summaryAt(history, moment);
    map.follow();
    if (!timer) timer = setTimeout(follow, playing ? Math.max(latest + 200 - performance.now(), 0) : 0);
    tip.hide();
  };
  state.on("select", () => {
    if (state.selected >= 0) chosen = data.places[state.selected];
    else chosen = NONE;
    state.life = chosen === NONE ? null : lifeOf(history, chosen);
    chart.schedule(2);
  });
  data.facts = (row) => factsOf(history, axis, data.places[row]);
  listenToModes(state, history, axis, chart, clock, data);
  chart.resize();
  clock.measure();
  clock.go(history.series.peak);
  window.vkMem = { ...window.vkMem, trace, history, axis, chart, clock, range };
}

// The life of the allocation of a place.
function lifeOf({ trace, lives }, i) {
  const life = lives.of[i];
  return { begin: trace.place.begin[lives.first[life]], end: lives.end[life], life };
}

// When an allocation was made and freed.
function factsOf(history, axis, i) {
  if (i === NONE) return [];
  const { trace, lives } = history, { place } = trace;
  const { begin, end, life } = lifeOf(history, i);
  const at = (event) => {
    const number = `event ${(event + 1).toLocaleString("en")}`;
    return axis.hasTimes ? `${timeText(axis.timeOf(event + 1))}, ${number}` : number;
  };
  const first = lives.first[life], found = [];
  const made = { [CAUSE.imported]: "Imported", [CAUSE.existed]: "Existed" }[place.cause[first]] ?? "Made";
  found.push([made, made === "Existed" ? "before the recording" : at(begin)]);
  if (place.cause[i] === CAUSE.reserved) found.push(["Move", "reserved as its destination"]);
  else if (place.cause[i] === CAUSE.moved) found.push(["Moved here", at(place.begin[i])]);
  if (end === FOREVER) found.push(["Freed", "never in this trace"]);
  else found.push([lives.ending[life] === ENDING.lost ? "Lost" : "Freed", at(end)]);
  return found;
}

// `In 3 memory objects of 48 MiB: 300 allocations of 20 MiB, 42 % used`
function summaryAt({ trace, series }, moment) {
  let held = 0, live = 0;
  for (const it of series.heaps) { held += it.held[moment]; live += it.live[moment]; }
  const now = `${countText(series.allocations[moment], "allocation")} of ${sizeText(live)} in ` +
    `${countText(series.blocks[moment], "memory object")} of ${sizeText(held)}, ${percent(live, held)} used`;
  return [...trace.header.summary, now].join("\n");
}

// The cards of the heaps, as a dump of that moment has them.
function showHeapsAt({ trace, series }, moment) {
  const heaps = series.heaps.map((it) => {
    const heap = trace.header.heaps[it.heap];
    const allocated = it.live[moment], held = Math.max(it.held[moment], allocated);
    const budget = budgetAt(it.budget, moment), usage = budgetAt(it.budget, moment, "usage");
    const texts = [["allocated", `${sizeText(allocated)} allocated`],
      ["reserved", `${sizeText(held - allocated)} free in blocks`]];
    const over = budget !== null && held > budget;
    if (budget !== null) {
      const excess = over ? `, ${sizeText(held - budget)} over it` : "";
      texts.push(["budget", `${percent(held, budget)} of ${sizeText(budget)} budget${excess}`]);
    }
    if (heap.size !== null) texts.push(["track", `${sizeText(heap.size)} heap`]);
    // What is used besides is known where the driver was asked, and not at other moments.
    return { ...heap, held, allocated, apart: 0, budget, usage: usage === null ? null : held, texts, over };
  });
  showHeaps({ header: { heaps } });
}

function listenToModes(state, history, axis, chart, clock, data) {
  const mode = byId("time-mode"), by = byId("time-axis"), legend = byId("time-legend");
  const { trace } = history;
  by.hidden = !axis.hasTimes;
  by.addEventListener("change", () => {
    axis.setBy(by.value, state.moment);
    clock.measure();
    chart.schedule();
  });
  // A choice that would show one group is no choice.
  const has = { site: trace.place.site.some((it) => it), name: trace.place.name.some((it) => it) };
  for (const option of [...mode.options, ...byId("range-by").options])
    if (has[option.value] === false) option.remove();
  const chips = () => {
    legend.replaceChildren();
    legend.hidden = !chart.groups;
    (chart.groups?.list ?? []).forEach((group) => {
      const kind = trace.header.kinds[group.kind];
      const swatch = element("i", { style: { background: kind[state.dark ? "dark" : "light"] } });
      const chip = element("button", { type: "button", className: "chip", title: cut(visible(group.full) || group.title, 500) },
        swatch, cut(group.title, 60));
      const { group: only } = state.filter;
      chip.setAttribute("aria-pressed", String(only === null || only === group.kind));
      chip.addEventListener("click", () => {
        state.filter.group = only === group.kind ? null : group.kind;
        state.apply();
      });
      legend.append(chip);
    });
  };
  mode.addEventListener("change", () => {
    state.filter.group = null;
    chart.setMode(mode.value);
    data.groupOfPlace = chart.groups && Uint8Array.from(chart.groups.of, (it) => chart.groups.list[it].kind);
    state.groupTitles = new Map(chart.groups?.list.map((it) => [it.kind, it.title]));
    state.colourBy = ["name", "site"].includes(mode.value) ? "group" : "kind";
    state.showMoment(state.moment, false);
    state.apply();
    state.emit("colour");
    chips();
  });
  state.on("filter", chips);
  state.on("colour", chips);
}
