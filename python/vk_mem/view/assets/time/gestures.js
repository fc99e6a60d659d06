// Mouse, wheel, fingers and keys on the timeline.

function listenToTimeline(state, history, map, { axis, chart, clock, range, tip }) {
  const { box, view } = chart;
  const held = new Map();
  let start = null, moved = 0, spread = 0, what = "";

  const point = (event) => {
    const place = box.getBoundingClientRect();
    return [event.clientX - place.left, event.clientY - place.top];
  };
  const inside = (x) => Math.min(Math.max(x, axis.left), axis.left + axis.width);

  box.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const [x, y] = point(event);
    if (x < axis.left - 8) return;
    held.set(event.pointerId, x);
    try { box.setPointerCapture(event.pointerId); } catch { /* a pointer that a test made up */ }
    moved = 0;
    spread = 0;
    start = x;
    // A finger moves the moment, and so does a mouse at the handle; elsewhere a mouse chooses a range.
    const atHandle = y < CHART.marks + 2 && Math.abs(x - axis.xOf(state.moment)) < 9;
    what = event.pointerType === "touch" || atHandle ? "moment" : "range";
    if (what === "moment" && !atHandle) clock.go(axis.momentAt(inside(x)));
  });

  box.addEventListener("pointermove", (event) => {
    const [x, y] = point(event);
    if (!held.has(event.pointerId)) { hover(x, y, event); return; }
    const before = held.get(event.pointerId);
    held.set(event.pointerId, x);
    moved += Math.abs(x - before);
    if (held.size === 2) {
      const [a, b] = [...held.values()], now = Math.abs(a - b);
      if (spread > 0 && now > 0) axis.zoom(now / spread, (a + b) / 2);
      axis.pan((before - x) / 2);
      spread = now;
      chart.schedule();
    } else if (what === "moment") {
      clock.go(axis.momentAt(inside(x)));
    } else if (moved >= 4) {
      range.set(axis.momentAt(inside(Math.min(start, x))), axis.momentAt(inside(Math.max(start, x))));
    }
    hide();
  });

  const release = (event) => {
    if (!held.delete(event.pointerId) || held.size) return;
    if (event.type !== "pointerup" || moved >= 4 || what === "moment") return;
    const [x, y] = point(event);
    const mark = y < CHART.marks ? markAt(x) : -1;
    clock.go(mark >= 0 ? history.trace.mark.event[mark] + 1 : axis.momentAt(inside(x)));
  };
  box.addEventListener("pointerup", release);
  box.addEventListener("pointercancel", release);
  box.addEventListener("pointerleave", hide);
  box.addEventListener("dblclick", () => {
    if (state.range) {
      const [a, b] = state.range.map((it) => axis.valueOf(it));
      axis.show(a, b);
    } else axis.fit();
    chart.schedule();
  });
  box.addEventListener("wheel", (event) => {
    const [x] = point(event);
    const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? view.height : 1;
    const dx = event.deltaX * unit, dy = event.deltaY * unit;
    if (x < axis.left && !event.ctrlKey) return;
    event.preventDefault();
    if (event.shiftKey || Math.abs(dx) > Math.abs(dy)) axis.pan(dx || dy);
    else axis.zoom(Math.exp(-dy * (event.ctrlKey ? 0.01 : 0.0018)), inside(x));
    chart.schedule();
  }, { passive: false });

  function hide() {
    chart.hover = null;
    tip.hide();
    chart.schedule(2);
  }

  // The mark nearest to a point, -1 for none.
  function markAt(x) {
    const { event, kind } = history.trace.mark;
    const near = axis.momentAt(inside(x - 7)) - 1;
    let best = -1, distance = 7;
    for (let i = countUpTo(event, near - 1); i < event.length; i++) {
      const away = Math.abs(axis.xOf(event[i] + 1) - x);
      if (axis.xOf(event[i] + 1) > x + 7) break;
      if (away < distance || (away === distance && kind[i] !== MARKS.frame)) { best = i; distance = away; }
    }
    return best;
  }

  function hover(x, y, event) {
    if (x < axis.left || x > axis.left + axis.width || !history.trace.events) { hide(); return; }
    chart.hover = axis.momentAt(x);
    chart.schedule(2);
    const mark = y < CHART.marks ? markAt(x) : -1;
    tip.at(chart.hover, mark, bandAt(x, y), event.clientX, event.clientY);
  }

  // The group at a point of the stack, -1 for none.
  function bandAt(x, y) {
    const lane = view.lanes.find((it) => !it.heap);
    if (!lane || !chart.stack || y < lane.y || y > lane.y + lane.height) return -1;
    const { bytes, moments } = chart.stack;
    const c = Math.min(Math.floor(((x - axis.left) / axis.width) * moments.length), moments.length - 1);
    const wanted = (1 - (y - lane.y) / lane.height) * lane.most;
    let sum = 0;
    for (let g = 0; g < bytes.length; g++) {
      sum += bytes[g][c];
      if (sum >= wanted) return g;
    }
    return -1;
  }

  const whole = () => Math.max(Math.round(history.trace.events / 100), 1);
  const steps = (event) => (event.shiftKey ? whole() : 1);
  const keys = {
    ArrowLeft: (event) => clock.step(-steps(event)), ArrowRight: (event) => clock.step(steps(event)),
    ArrowUp: () => zoomBy(1.5), ArrowDown: () => zoomBy(1 / 1.5),
    "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5),
    0: () => { axis.fit(); chart.schedule(); },
    PageUp: () => clock.mark(-1), PageDown: () => clock.mark(1),
    Home: clock.start, End: clock.end, " ": clock.toggle, Escape: () => range.set(null, null),
  };
  const zoomBy = (factor) => {
    axis.zoom(factor, inside(axis.xOf(state.moment)));
    chart.schedule();
  };
  const listen = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = keys[event.key];
    if (!act || (event.key === "Escape" && !state.range)) return;
    event.preventDefault();
    event.stopPropagation();
    act(event);
  };
  box.addEventListener("keydown", listen);
  byId("moment").addEventListener("keydown", listen);
  byId("time-in").addEventListener("click", () => zoomBy(2));
  byId("time-out").addEventListener("click", () => zoomBy(0.5));
  byId("time-fit").addEventListener("click", keys[0]);
  byId("zoom-range").addEventListener("click", () => {
    if (!state.range) return;
    axis.show(axis.valueOf(state.range[0]), axis.valueOf(state.range[1]));
    chart.schedule();
  });

  // Keys that work everywhere but in fields and on buttons.
  const ends = { start: 0, end: history.trace.events };
  const mark = (which) => {
    const [from, to] = state.range ?? [0, history.trace.events];
    if (which === "start") range.set(state.moment, Math.max(to, state.moment));
    else range.set(Math.min(from, state.moment), state.moment);
  };
  byId("range-from").addEventListener("click", () => mark("start"));
  byId("range-to").addEventListener("click", () => mark("end"));
  // Where all of the map is in sight, it has no use for the arrows.
  const arrow = (key, by) => (event) => (map.view.zoom > 1 ? by() : keys[key](event));
  return {
    ArrowLeft: arrow("ArrowLeft", () => map.pan(-map.mapWidth() / 6, 0)),
    ArrowRight: arrow("ArrowRight", () => map.pan(map.mapWidth() / 6, 0)),
    " ": clock.toggle, Home: () => clock.go(ends.start, { reveal: true }),
    End: () => clock.go(ends.end, { reveal: true }),
    ",": () => clock.step(-1), ".": () => clock.step(1), "<": () => clock.mark(-1), ">": () => clock.mark(1),
    k: clock.peak, "[": () => mark("start"), "]": () => mark("end"),
  };
}
