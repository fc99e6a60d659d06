// Draws the timeline: a lane for each heap, or one of groups on top of each other; marks above, the axis below.

// Heights in pixels; lanes of few heaps are higher.
const CHART = { marks: 22, lanes: [110, 84, 68], stack: 150, gap: 10, axis: 22, gutter: 178 };

function makeChart(state, history, axis) {
  const { trace, series } = history;
  const base = byId("chart"), over = byId("chart-over"), box = byId("chart-box");
  const plain = base.getContext("2d"), above = over.getContext("2d");
  const view = { width: 0, height: 0, ratio: 1, narrow: false, lanes: [] };
  const chart = { view, mode: "heaps", groups: null, stack: null, bounds: null, box };
  let waiting = 0, font = "";

  const columns = () => Math.max(Math.min(Math.floor(axis.width), 8000), 1);
  const themeOf = () => trace.header.themes[state.dark ? "dark" : "light"];
  const colourOfKind = (number) => trace.header.kinds[number][state.dark ? "dark" : "light"];

  function layLanes() {
    const head = view.narrow ? 20 : 0;
    let y = CHART.marks;
    const lanes = [];
    const add = (lane, height) => {
      lanes.push({ ...lane, y: y + head, height, head });
      y += head + height + CHART.gap;
    };
    const height = CHART.lanes[Math.min(series.heaps.length, CHART.lanes.length) - 1];
    if (chart.mode === "heaps") for (const heap of series.heaps) add({ heap }, height);
    else add({ heap: null }, CHART.stack);
    view.lanes = lanes;
    view.bottom = y - CHART.gap;
    view.height = view.bottom + CHART.axis;
  }

  chart.resize = () => {
    view.width = Math.max(box.clientWidth, 120);
    view.narrow = window.innerWidth < 664;
    view.ratio = Math.min(window.devicePixelRatio || 1, 3);
    layLanes();
    axis.left = view.narrow ? 10 : CHART.gutter;
    axis.width = Math.max(view.width - axis.left - 12, 40);
    axis.version++;
    for (const canvas of [base, over]) {
      canvas.width = Math.round(view.width * view.ratio);
      canvas.height = Math.round(view.height * view.ratio);
      canvas.style.width = `${view.width}px`;
      canvas.style.height = `${view.height}px`;
    }
    box.style.height = `${view.height}px`;
    chart.draw();
  };

  chart.setMode = (mode) => {
    chart.mode = mode;
    chart.groups = mode === "heaps" ? null : makeGroups(trace, mode);
    chart.stack = null;
    chart.resize();
  };

  // Everything, or (2) only what lies above: the moment, the range, what is pointed at.
  chart.schedule = (what = 1) => {
    const first = !waiting;
    waiting |= what === 2 ? 2 : 3;
    if (first) requestAnimationFrame(() => {
      const all = waiting & 1;
      waiting = 0;
      if (all) chart.draw(); else drawOver();
    });
  };

  let drawn = -1;
  function measure() {
    if (drawn === axis.version && chart.bounds) return;
    drawn = axis.version;
    chart.bounds = axis.bounds(columns());
    chart.stack = null;
    for (const it of series.heaps) it.columns = null;
  }

  chart.draw = () => {
    font = getComputedStyle(document.body).fontFamily;
    measure();
    const theme = themeOf();
    plain.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
    plain.clearRect(0, 0, view.width, view.height);
    for (const lane of view.lanes) if (lane.heap) drawHeap(lane, theme); else drawStack(lane, theme);
    drawMarks(theme);
    drawAxis(theme);
    drawOver();
  };

  const yOf = (lane, bytes) => lane.y + lane.height * (1 - Math.min(bytes / lane.most, 1));

  // Fills below a row of values, one for each column.
  function area(lane, values, colour) {
    const step = axis.width / values.length;
    plain.fillStyle = colour;
    plain.beginPath();
    plain.moveTo(axis.left, lane.y + lane.height);
    for (let c = 0; c < values.length; c++) {
      const y = yOf(lane, values[c]);
      plain.lineTo(axis.left + c * step, y);
      plain.lineTo(axis.left + (c + 1) * step, y);
    }
    plain.lineTo(axis.left + axis.width, lane.y + lane.height);
    plain.fill();
  }

  function frame(lane, theme) {
    plain.fillStyle = theme.ground;
    plain.fillRect(axis.left, lane.y, axis.width, lane.height);
    plain.fillStyle = theme.edge;
    plain.fillRect(axis.left, lane.y + lane.height, axis.width, 1);
    plain.globalAlpha = 0.5;
    plain.fillRect(axis.left, lane.y, axis.width, 1);
    plain.globalAlpha = 1;
  }

  // The peak of all of the trace, readable on whatever is drawn below it.
  function drawPeak(bytes, lane, theme) {
    const text = `peak ${sizeText(bytes)}`, width = measureText(text);
    const right = axis.left + axis.width;
    plain.fillStyle = theme.ground;
    plain.globalAlpha = 0.85;
    plain.fillRect(right - width - 9, lane.y + 2, width + 8, 14);
    plain.globalAlpha = 1;
    write(text, right - 5, lane.y + 12.5, theme.quiet, "10.5px", "right");
  }

  function drawHeap(lane, theme) {
    const { heap } = lane;
    heap.columns ??= { held: extremes(heap.held, chart.bounds), live: extremes(heap.live, chart.bounds) };
    const larger = (a, b) => (a > b ? a : b);
    heap.peak ??= Math.max(heap.held.reduce(larger, 0), heap.live.reduce(larger, 0));
    lane.most = Math.max(heap.peak, 1) * 1.06;
    frame(lane, theme);
    area(lane, heap.columns.held.high, theme.reserved);
    plain.globalAlpha = 0.55;
    area(lane, heap.columns.live.high, theme.allocated);
    plain.globalAlpha = 1;
    area(lane, heap.columns.live.low, theme.allocated);
    drawBudget(lane, theme);
    drawPeak(heap.peak, lane, theme);
  }

  function drawBudget(lane, theme) {
    const { moments, budget } = lane.heap.budget;
    plain.strokeStyle = theme.budget;
    plain.lineWidth = 1.5;
    plain.setLineDash([5, 3]);
    plain.beginPath();
    let on = false;
    const end = axis.left + axis.width;
    for (let i = 0; i < moments.length; i++) {
      const x0 = axis.xOf(moments[i]), x1 = i + 1 < moments.length ? axis.xOf(moments[i + 1]) : end;
      if (x1 < axis.left || x0 > end || budget[i] > lane.most) { on = false; continue; }
      const y = yOf(lane, budget[i]), a = Math.max(x0, axis.left), b = Math.min(x1, end);
      if (on) plain.lineTo(a, y); else plain.moveTo(a, y);
      plain.lineTo(b, y);
      on = true;
    }
    plain.stroke();
    plain.setLineDash([]);
  }

  function drawStack(lane, theme) {
    chart.stack ??= stackOf(history, chart.groups, chart.bounds);
    const { bytes, moments } = chart.stack;
    chart.peak ??= totalLive(series.peak);
    lane.most = Math.max(chart.peak, 1) * 1.04;
    frame(lane, theme);
    const sums = new Float64Array(moments.length);
    for (const of of bytes) for (let c = 0; c < sums.length; c++) sums[c] += of[c];
    // From the topmost down: each covers what lies below it.
    for (let g = bytes.length - 1; g >= 0; g--) {
      area(lane, sums, colourOfKind(chart.groups.list[g].kind));
      for (let c = 0; c < sums.length; c++) sums[c] -= bytes[g][c];
    }
    drawPeak(chart.peak, lane, theme);
  }

  const totalLive = (moment) => series.heaps.reduce((sum, it) => sum + it.live[moment], 0);

  function drawAxis(theme) {
    for (const { x, text } of ticksOf(axis, view.narrow ? 90 : 120)) {
      plain.fillStyle = theme.edge;
      plain.fillRect(x, view.bottom, 1, 5);
      const width = measureText(text);
      const at = Math.min(Math.max(x, axis.left + width / 2), axis.left + axis.width - width / 2);
      write(text, at, view.bottom + 17, theme.quiet, "10.5px", "center");
    }
  }

  const measureText = (text) => {
    plain.font = `10.5px ${font}`;
    return plain.measureText(text).width;
  };

  function write(text, x, y, colour, style, align = "left", context = plain) {
    context.font = `${style} ${font}`;
    context.textAlign = align;
    context.fillStyle = colour;
    context.fillText(text, x, y);
  }

  function drawMarks(theme) {
    const { mark, run } = trace, y = CHART.marks - 8;
    if (!view.narrow) write("Marks", 12, y + 3, theme.quiet, "10.5px");
    for (let i = 0; i < run.begin.length; i++) {
      const a = Math.max(axis.xOf(run.begin[i] + 1), axis.left);
      const b = Math.min(run.end[i] === FOREVER ? Infinity : axis.xOf(run.end[i] + 1), axis.left + axis.width);
      if (b < axis.left || a > axis.left + axis.width) continue;
      plain.fillStyle = theme.accent;
      plain.globalAlpha = 0.35;
      plain.fillRect(a, y - 5, Math.max(b - a, 2), 10);
      plain.globalAlpha = 1;
    }
    // One of each kind for each pixel, however many there are.
    const last = [-9, -9, -9, -9, -9], frames = frameSpacing();
    for (let i = 0; i < mark.event.length; i++) {
      const kind = mark.kind[i], x = axis.xOf(mark.event[i] + 1);
      if (x < axis.left - 1 || x > axis.left + axis.width + 1) continue;
      if (x - last[kind] < (kind === MARKS.frame ? 1 : 3)) continue;
      last[kind] = x;
      if (kind !== MARKS.frame || frames >= 4) drawMark(plain, kind, x, y, theme);
    }
  }

  // Pixels between frames, on average.
  function frameSpacing() {
    let frames = 0;
    for (const kind of trace.mark.kind) if (kind === MARKS.frame) frames++;
    return frames ? (axis.scale() * (axis.last() - axis.first())) / frames : 0;
  }

  function drawOver() {
    const theme = themeOf();
    above.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
    above.clearRect(0, 0, view.width, view.height);
    const top = CHART.marks - 4, height = view.bottom - top;
    if (state.range) {
      const a = Math.max(axis.xOf(state.range[0]), axis.left), b = Math.min(axis.xOf(state.range[1]), axis.left + axis.width);
      if (b >= a) {
        above.fillStyle = theme.accent;
        above.globalAlpha = 0.16;
        above.fillRect(a, top, Math.max(b - a, 1), height);
        above.globalAlpha = 1;
        above.fillRect(a, top, 1, height);
        above.fillRect(Math.max(b, a + 1), top, 1, height);
      }
    }
    drawLife(theme);
    line(chart.hover, theme.quiet, 1);
    line(state.moment, theme.accent, 2, true);
    for (const lane of view.lanes) drawFigures(lane, theme);
  }

  // When the selected allocation exists.
  function drawLife(theme) {
    const life = state.life;
    if (!life) return;
    const a = Math.max(axis.xOf(life.begin + 1), axis.left);
    const b = Math.min(life.end === FOREVER ? Infinity : axis.xOf(life.end + 1), axis.left + axis.width);
    if (b < axis.left || a > axis.left + axis.width) return;
    above.fillStyle = theme.accent;
    above.fillRect(a, view.bottom - 3, Math.max(b - a, 3), 4);
  }

  function line(moment, colour, thick, handle = false) {
    if (moment === null || moment === undefined) return;
    const x = axis.xOf(moment);
    if (x < axis.left - 1 || x > axis.left + axis.width + 1) return;
    above.fillStyle = colour;
    above.fillRect(x - thick / 2, CHART.marks - 6, thick, view.bottom - CHART.marks + 6);
    if (!handle) return;
    above.beginPath();
    above.moveTo(x - 6, CHART.marks - 13);
    above.lineTo(x + 6, CHART.marks - 13);
    above.lineTo(x + 6, CHART.marks - 8);
    above.lineTo(x, CHART.marks - 1);
    above.lineTo(x - 6, CHART.marks - 8);
    above.fill();
  }

  // What the lane shows at the moment, beside it or above it.
  function drawFigures(lane, theme) {
    const { moment } = state, { heap } = lane;
    const rows = [];
    if (heap) {
      rows.push([null, theme.ink, heap.title, "600 12px"]);
      rows.push([theme.reserved, theme.ink, `${sizeText(heap.held[moment])} held`]);
      rows.push([theme.allocated, theme.ink, `${sizeText(heap.live[moment])} live`]);
      const budget = budgetAt(heap.budget, moment);
      const over = budget !== null && heap.held[moment] > budget;
      if (budget !== null) rows.push([theme.budget, over ? theme.alarm : theme.quiet, `${sizeText(budget)} budget`]);
    } else {
      rows.push([null, theme.ink, "Live", "600 12px"]);
      rows.push([null, theme.ink, sizeText(totalLive(moment))]);
      rows.push([null, theme.quiet, countText(series.allocations[moment], "allocation")]);
    }
    let x = 12, y = lane.y + 11;
    if (view.narrow) y = lane.y - 7;
    for (const [swatch, ink, text, style = "12px"] of rows) {
      if (swatch) {
        above.fillStyle = swatch;
        above.fillRect(x, y - 8, 9, 9);
      }
      const left = x + (swatch ? 15 : 0);
      const room = view.narrow ? view.width : CHART.gutter - left - 10;
      above.font = `${style} ${font}`;
      let shown = visible(text);
      while (shown.length > 4 && above.measureText(shown).width > room) shown = `${shown.slice(0, -2).trimEnd()}…`;
      write(shown, left, y, ink, style, "left", above);
      if (view.narrow) x = left + above.measureText(shown).width + 12;
      else y += 16;
    }
  }

  new ResizeObserver(chart.resize).observe(box.parentElement);
  state.on("colour", () => chart.schedule());
  state.on("range", () => chart.schedule(2));
  return chart;
}

// A triangle for a failure, a diamond for a loss, a flag for a mark of the program, strokes for the rest.
function drawMark(context, kind, x, y, theme) {
  context.beginPath();
  if (kind === MARKS.failure) {
    context.fillStyle = theme.alarm;
    context.moveTo(x - 5, y - 5); context.lineTo(x + 5, y - 5); context.lineTo(x, y + 5);
  } else if (kind === MARKS.loss) {
    context.fillStyle = theme.budget;
    context.moveTo(x, y - 5); context.lineTo(x + 4, y); context.lineTo(x, y + 5); context.lineTo(x - 4, y);
  } else if (kind === MARKS.text) {
    context.fillStyle = theme.accent;
    context.rect(x - 0.5, y - 6, 1.5, 12);
    context.moveTo(x + 1, y - 6); context.lineTo(x + 8, y - 3); context.lineTo(x + 1, y);
  } else {
    context.fillStyle = kind === MARKS.frame ? theme.edge : theme.quiet;
    context.rect(x - 0.5, kind === MARKS.frame ? y + 4 : y - 2, 1, kind === MARKS.frame ? 4 : 7);
  }
  context.fill();
}
