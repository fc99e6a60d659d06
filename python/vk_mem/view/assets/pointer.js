// Mouse, wheel and fingers on the map.

function listenToPointers(state, map, tip) {
  const { canvas, view } = map;
  const held = new Map();
  let moved = 0, spread = 0;

  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  canvas.addEventListener("wheel", (event) => {
    const [x] = point(event);
    const overLabels = x < view.gutter || x > view.gutter + map.mapWidth();
    if (overLabels && !event.ctrlKey) return;
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? view.height : 1;
    const dx = event.deltaX * unit, dy = event.deltaY * unit;
    if (event.shiftKey || Math.abs(dx) > Math.abs(dy)) map.pan(dx || dy, 0);
    else map.setZoom(view.zoom * Math.exp(-dy * (event.ctrlKey ? 0.01 : 0.0018)), x);
    hover(event);
  }, { passive: false });

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    held.set(event.pointerId, [event.clientX, event.clientY]);
    try { canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that a test made up */ }
    moved = 0;
    spread = 0;
    canvas.classList.add("dragging");
  });

  canvas.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    if (!before) {
      hover(event);
      return;
    }
    const dx = event.clientX - before[0], dy = event.clientY - before[1];
    held.set(event.pointerId, [event.clientX, event.clientY]);
    moved += Math.abs(dx) + Math.abs(dy);
    if (held.size === 1) {
      map.pan(-dx, -dy);
    } else if (held.size === 2) {
      const [[ax, ay], [bx, by]] = [...held.values()];
      const now = Math.hypot(ax - bx, ay - by);
      const middle = (ax + bx) / 2 - canvas.getBoundingClientRect().left;
      if (spread > 0) map.setZoom(view.zoom * (now / spread), middle);
      map.pan(-dx / 2, -dy / 2);
      spread = now;
    }
    tip.hide();
  });

  const release = (event) => {
    if (!held.delete(event.pointerId)) return;
    spread = 0;
    if (held.size) return;
    canvas.classList.remove("dragging");
    if (event.type === "pointerup" && moved < 4) {
      const row = map.rowAt(...point(event));
      state.select(row, { from: "map" });
    }
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => {
    view.hover = -1;
    tip.hide();
    map.schedule();
  });

  function hover(event) {
    const row = map.rowAt(...point(event));
    if (row !== view.hover) {
      view.hover = row;
      map.schedule();
    }
    if (row < 0) tip.hide();
    else tip.show(row, event.clientX, event.clientY);
  }
}
