// The horizontal axis: what part of the trace is in sight, by time or by event.

function makeAxis({ trace }) {
  const { events, header } = trace, times = trace.event.time;
  const spans = events > 1 && times[events - 1] > times[0];
  const axis = { hasTimes: header.resolution > 0 && spans, from: 0, to: 1, left: 0, width: 1, version: 0 };
  axis.by = axis.hasTimes ? "time" : "event";
  const byTime = () => axis.by === "time";
  axis.timeOf = (moment) => (events ? times[Math.max(moment, 1) - 1] : 0);
  axis.valueOf = (moment) => (byTime() ? axis.timeOf(moment) : moment);
  axis.momentOf = (value) =>
    byTime() ? countUpTo(times, value) : Math.min(Math.max(Math.round(value), 0), events);
  axis.first = () => (byTime() ? times[0] : 0);
  axis.last = () => (byTime() ? times[events - 1] : Math.max(events, 1));
  axis.xOf = (moment) => axis.left + (axis.valueOf(moment) - axis.from) * axis.scale();
  axis.scale = () => axis.width / Math.max(axis.to - axis.from, 1e-9);
  axis.valueAt = (x) => axis.from + (x - axis.left) / axis.scale();
  // The moment at a point: what is left of the trace is its start.
  axis.momentAt = (x) => {
    const value = axis.valueAt(x);
    return value < axis.first() ? 0 : axis.momentOf(value);
  };
  axis.show = (from, to) => {
    const first = axis.first(), last = axis.last(), whole = last - first;
    // No closer than 20 events, or what the clock can tell apart.
    const least = Math.min(byTime() ? Math.max(header.resolution * 10, 20) : 20, whole);
    const span = Math.min(Math.max(to - from, least), whole);
    const middle = (from + to) / 2;
    axis.from = Math.min(Math.max(middle - span / 2, first), last - span);
    axis.to = axis.from + span;
    axis.version++;
  };
  axis.fit = () => axis.show(axis.first(), axis.last());
  axis.isWhole = () => axis.to - axis.from >= (axis.last() - axis.first()) * 0.9999;
  axis.zoom = (factor, x) => {
    const under = axis.valueAt(x);
    axis.show(under - (under - axis.from) / factor, under + (axis.to - under) / factor);
  };
  axis.pan = (pixels) => {
    const by = pixels / axis.scale();
    axis.show(axis.from + by, axis.to + by);
  };
  // Brings a moment into sight.
  axis.reveal = (moment) => {
    const value = axis.valueOf(moment);
    if (value >= axis.from && value <= axis.to) return false;
    const half = (axis.to - axis.from) / 2;
    axis.show(value - half, value + half);
    return true;
  };
  axis.setBy = (by, moment) => {
    axis.by = by;
    axis.fit();
    axis.reveal(moment);
  };
  // The first moment of each column of pixels, and of the one behind the last.
  axis.bounds = (columns) => {
    const bounds = new Uint32Array(columns + 1), step = (axis.to - axis.from) / columns;
    for (let c = 0; c <= columns; c++) {
      const value = axis.from + c * step;
      bounds[c] = value < axis.first() ? 0 : byTime() ? countUpTo(times, value) : Math.floor(value + 1e-9);
    }
    if (axis.from <= axis.first()) bounds[0] = 0;
    return bounds;
  };
  axis.fit();
  return axis;
}

const UNITS = [[1, "ns"], [1e3, "µs"], [1e6, "ms"], [1e9, "s"]];

// `1.25 ms`, `3 min 20.5 s`; `step` is what has to be told apart.
function timeText(ns, step = 0) {
  if (ns >= 60e9) {
    const minutes = Math.floor(ns / 60e9), seconds = (ns - minutes * 60e9) / 1e9;
    const digits = step ? Math.min(Math.max(Math.ceil(-Math.log10(step / 1e9) - 1e-9), 0), 9) : 3;
    return `${minutes.toLocaleString("en")} min ${seconds.toFixed(digits)} s`;
  }
  const [size, unit] = UNITS.findLast(([it]) => ns >= it) ?? UNITS[0];
  const value = ns / size;
  const digits = step
    ? Math.min(Math.max(Math.ceil(-Math.log10(step / size) - 1e-9), 0), 9)
    : value >= 100 ? 1 : value >= 10 ? 2 : 3;
  const text = value.toFixed(digits);
  return `${step ? text : text.replace(/\.?0+$/, "") || "0"} ${unit}`;
}

// Round steps of the axis, at least so many pixels apart.
function ticksOf(axis, apart) {
  const least = ((axis.to - axis.from) / axis.width) * apart;
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1e-9)));
  let step = [1, 2, 5, 10].map((it) => it * power).find((it) => it >= least * 0.999);
  if (axis.by === "time" && step >= 60e9) step = Math.ceil(step / 60e9) * 60e9;
  if (axis.by === "event" || step < 1) step = Math.max(step, 1);
  const ticks = [];
  for (let at = Math.ceil(axis.from / step) * step; at <= axis.to && ticks.length < 200; at += step) {
    const text = axis.by === "time" ? timeText(at, step) : Math.round(at).toLocaleString("en");
    ticks.push({ x: axis.left + (at - axis.from) * axis.scale(), text });
  }
  return ticks;
}
