// Starts everything, and the keys.

// `more` are more keys, and what each does.
function start(data, more = {}) {
  const state = makeState(data);
  byId("summary").textContent = data.header.summary.join("\n");
  const preferred = window.matchMedia("(prefers-color-scheme: dark)");
  state.dark = preferred.matches;
  showHeaps(data);
  showLegend(state);
  const { clear, search } = listenToFilters(state);
  listenToDetails(state);
  const tip = makeTip(state);
  const map = makeMap(state);
  const table = makeTable(state);
  listenToPointers(state, map, tip);
  state.on("select", () => {
    const { selected, how } = state;
    if (selected >= 0 && how.from !== "map") map.reveal(selected, how.close);
  });
  listenToTheme(state, preferred);
  listenToKeys(state, map, table, tip, { clear, search, more });
  byId("help-diff").hidden = !data.compares;
  table.start();
  map.resize();
  // For programs that look at the page.
  window.vkMem = { data, state, map, table, inflateByHand };
  requestAnimationFrame(() => {
    performance.mark("vk-mem-ready");
    document.documentElement.dataset.ready = "yes";
  });
  return { state, map, table, tip };
}

function listenToTheme(state, preferred) {
  const turn = (dark) => { state.dark = dark; state.recolour(); };
  const toggle = () => {
    document.documentElement.dataset.theme = state.dark ? "light" : "dark";
    turn(!state.dark);
  };
  byId("theme").addEventListener("click", toggle);
  preferred.addEventListener("change", () => {
    if (!document.documentElement.dataset.theme) turn(preferred.matches);
  });
  state.toggleTheme = toggle;
}

function listenToKeys(state, map, table, tip, { clear, search, more }) {
  const help = byId("help");
  const middle = () => map.view.gutter + map.mapWidth() / 2;
  const zoomBy = (factor) => map.setZoom(map.view.zoom * factor, middle());
  byId("zoom-in").addEventListener("click", () => zoomBy(2));
  byId("zoom-out").addEventListener("click", () => zoomBy(0.5));
  byId("fit").addEventListener("click", map.fit);
  byId("help-button").addEventListener("click", () => help.showModal());

  const step = () => map.mapWidth() / 6;
  const page = () => map.view.height * 0.9;
  const actions = {
    "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), "0": map.fit,
    ArrowLeft: () => map.pan(-step(), 0), ArrowRight: () => map.pan(step(), 0),
    ArrowUp: () => map.pan(0, -60), ArrowDown: () => map.pan(0, 60),
    PageUp: () => map.pan(0, -page()), PageDown: () => map.pan(0, page()),
    n: () => table.step(1), p: () => table.step(-1),
    t: () => state.toggleTheme(),
    "/": () => search.focus(), "?": () => help.showModal(),
    Escape: () => (state.selected >= 0 ? state.select(-1) : clear()),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (help.open || event.defaultPrevented) return;
    const typing = event.target.matches("input, select, textarea");
    if (typing) {
      if (event.key === "Escape") {
        clear();
        map.canvas.focus();
      } else if (event.key === "Enter" && event.target === search) {
        state.filter.text = search.value.trim();
        state.apply();
        if (table.first() >= 0) state.select(table.first(), { from: "keys" });
      }
      return;
    }
    // Buttons keep the keys that press them.
    if (event.key === "Enter") {
      if (event.target.closest("button, a") || state.selected < 0) return;
      event.preventDefault();
      map.reveal(state.selected, true);
      return;
    }
    if (event.key === " " && event.target.closest("button, a")) return;
    const act = more[event.key] ?? actions[event.key];
    if (!act) return;
    event.preventDefault();
    tip.hide();
    act(event);
  });
}

function showTrouble(error) {
  const trouble = byId("trouble");
  trouble.hidden = false;
  byId("summary").textContent = "";
  trouble.textContent = `The data of this page cannot be read: ${error.message}`;
  document.documentElement.dataset.ready = "failed";
  console.error(error);
}
