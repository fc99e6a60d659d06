// The moment that is shown: moved by the slider, the buttons and the keys, or played.

// Seconds that the whole of a trace takes at 1×.
const WHOLE = 30;
const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4, 10];

function makeClock(state, history, axis, chart) {
  const { trace, series } = history, { events } = trace;
  const slider = byId("moment"), play = byId("play"), speed = byId("speed");
  const clock = { playing: false, speed: 1 };
  let shown = -1, waiting = false, value = 0, last = 0;

  // Moves to a moment; the map follows before the next picture.
  clock.go = (moment, how = {}) => {
    const wanted = Math.min(Math.max(Math.round(moment), 0), events);
    if (!how.playing) clock.pause();
    if (wanted === state.moment && shown >= 0) return;
    state.moment = wanted;
    if (how.reveal && axis.reveal(wanted)) chart.schedule();
    slider.value = axis.valueOf(wanted);
    slider.setAttribute("aria-valuetext", momentText(trace, axis, wanted));
    byId("now").textContent = momentText(trace, axis, wanted);
    chart.schedule(2);
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      if (shown === state.moment) return;
      shown = state.moment;
      state.showMoment(shown, clock.playing);
    });
  };

  clock.step = (by) => clock.go(state.moment + by, { reveal: true });
  clock.start = () => clock.go(0, { reveal: true });
  clock.end = () => clock.go(events, { reveal: true });
  clock.peak = () => clock.go(series.peak, { reveal: true });

  // The next mark that is no frame, or the next frame if there is no other; -1: the one before.
  clock.mark = (direction) => {
    const { event, kind } = trace.mark;
    const others = kind.some((it) => it !== MARKS.frame);
    const fits = (i) => !others || kind[i] !== MARKS.frame;
    let i = direction > 0 ? countUpTo(event, state.moment - 1) : countUpTo(event, state.moment - 2) - 1;
    while (i >= 0 && i < event.length && !fits(i)) i += direction;
    if (i >= 0 && i < event.length) clock.go(event[i] + 1, { reveal: true });
  };

  function tick(now) {
    if (!clock.playing) return;
    const whole = axis.last() - axis.first();
    const seconds = Math.min((now - last) / 1000, 0.25);
    last = now;
    value += (whole / WHOLE) * clock.speed * seconds;
    const moment = value >= axis.last() ? events : Math.max(axis.momentOf(value), state.moment);
    if (axis.valueOf(moment) > axis.to) {
      const span = axis.to - axis.from;
      axis.show(axis.valueOf(moment) - span * 0.1, axis.valueOf(moment) + span * 0.9);
      chart.schedule();
    }
    clock.go(moment, { playing: true });
    if (moment >= events) clock.pause();
    else requestAnimationFrame(tick);
  }

  clock.play = () => {
    if (!events || clock.playing) return;
    if (state.moment >= events) clock.go(0, { reveal: true });
    clock.playing = true;
    value = axis.valueOf(state.moment);
    last = performance.now();
    show();
    requestAnimationFrame(tick);
  };
  clock.pause = () => {
    if (!clock.playing) return;
    clock.playing = false;
    show();
    // What playing leaves out.
    state.showMoment(state.moment, false);
  };
  clock.toggle = () => (clock.playing ? clock.pause() : clock.play());

  function show() {
    play.textContent = clock.playing ? "❚❚" : "▶";
    play.setAttribute("aria-label", clock.playing ? "Pause" : "Play");
    play.setAttribute("aria-pressed", String(clock.playing));
  }

  for (const factor of SPEEDS)
    speed.append(element("option", { value: String(factor), selected: factor === 1 }, `${factor}×`));
  speed.title = `1×: the whole trace in ${WHOLE} seconds`;
  speed.addEventListener("change", () => { clock.speed = Number(speed.value); });
  // The slider spans the trace as the axis does.
  clock.measure = () => {
    slider.min = axis.first();
    slider.max = axis.last();
    slider.value = axis.valueOf(state.moment);
  };
  slider.disabled = !events;
  slider.addEventListener("input", () => {
    const value = Number(slider.value);
    clock.go(value <= axis.first() ? 0 : axis.momentOf(value), { reveal: true });
  });
  play.disabled = !events;
  play.addEventListener("click", clock.toggle);
  byId("to-start").addEventListener("click", clock.start);
  byId("to-end").addEventListener("click", clock.end);
  byId("step-back").addEventListener("click", () => clock.step(-1));
  byId("step-on").addEventListener("click", () => clock.step(1));
  byId("to-peak").addEventListener("click", clock.peak);
  const marked = trace.mark.event.length > 0;
  byId("mark-back").disabled = byId("mark-on").disabled = !marked;
  byId("mark-back").addEventListener("click", () => clock.mark(-1));
  byId("mark-on").addEventListener("click", () => clock.mark(1));
  show();
  return clock;
}

// `1.25 s, event 1,204 of 20,000, frame 12`
function momentText(trace, axis, moment) {
  const parts = [];
  if (axis.hasTimes) parts.push(timeText(axis.timeOf(moment)));
  parts.push(`event ${moment.toLocaleString("en")} of ${trace.events.toLocaleString("en")}`);
  const frame = frameAt(trace, moment);
  if (frame !== null) parts.push(`frame ${frame.toLocaleString("en")}`);
  return parts.join(", ");
}

// The frame of a moment; null before the first, and where there are none.
function frameAt({ mark }, moment) {
  for (let i = countUpTo(mark.event, moment - 1) - 1; i >= 0; i--)
    if (mark.kind[i] === MARKS.frame) return mark.value[i];
  return null;
}
