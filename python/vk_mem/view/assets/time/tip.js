// What is said of a moment of the timeline, beside the pointer.

const MARK_NAMES = ["Mark", "Failure", "Loss", "Frame", "Blocks given back"];

function makeTimeTip(state, history, axis, chart) {
  const { trace, series } = history;
  const tip = byId("tip");
  const row = (what, value, colour = null) => element("div", {},
    colour ? element("i", { className: "swatch", style: { background: colour } }) : "",
    element("span", { className: "quiet" }, `${what}: `), value);
  const exact = (bytes) => (bytes < 1024 ? sizeText(bytes) : `${sizeText(bytes)} (${bytes.toLocaleString("en")} B)`);

  function markRows(mark) {
    const kind = trace.mark.kind[mark], value = trace.mark.value[mark];
    const text = visible(cut(trace.texts[trace.mark.text[mark]], 400));
    const title = kind === MARKS.frame ? `Frame ${value.toLocaleString("en")}` : MARK_NAMES[kind];
    const rows = [element("b", {}, title)];
    if (text) rows.push(element("div", {}, text));
    if (value && kind !== MARKS.frame) rows.push(row("Size", exact(value)));
    const site = trace.mark.site[mark];
    if (site && kind !== MARKS.frame)
      rows.push(element("div", { className: "site" }, siteLines(trace.texts[trace.names + site - 1])));
    return rows;
  }

  function heapRows(moment) {
    const theme = trace.header.themes[state.dark ? "dark" : "light"];
    return series.heaps.flatMap((heap) => {
      const budget = budgetAt(heap.budget, moment), usage = budgetAt(heap.budget, moment, "usage");
      const rows = [
        row(`${heap.title} held`, exact(heap.held[moment]), theme.reserved),
        row(`${heap.title} live`, exact(heap.live[moment]), theme.allocated),
      ];
      if (budget !== null) rows.push(row(`${heap.title} budget`, exact(budget), theme.budget));
      if (usage) rows.push(row(`${heap.title} in use`, exact(usage)));
      return rows;
    });
  }

  function groupRows(moment, band) {
    const { groups } = chart;
    const bytes = bytesByGroup(trace, groups, moment);
    const colour = (group) => trace.header.kinds[group.kind][state.dark ? "dark" : "light"];
    const rows = [];
    groups.list.forEach((group, number) => {
      if (number !== band && (!bytes[number] || band >= 0)) return;
      rows.unshift(row(cut(group.title, 120), exact(bytes[number]), colour(group)));
    });
    if (band >= 0 && groups.list[band].full)
      rows.push(element("div", { className: "site" }, siteLines(groups.list[band].full)));
    return rows;
  }

  return {
    hide() { tip.hidden = true; },
    at(moment, mark, band, x, y) {
      const title = element("b", {}, momentText(trace, axis, moment));
      const rows = chart.groups ? groupRows(moment, band) : heapRows(moment);
      tip.replaceChildren(...(mark >= 0 ? markRows(mark) : [title, ...rows]));
      placeTip(tip, x, y);
    },
  };
}

const siteLines = (stack) => cut(stack.split("\n").slice(0, 6).map(visible).join("\n"), 800);
