// The map: lines of headings and bars, zoomed in one scale for all, scrolled by the browser.

const LINES = { heap: 40, pool: 40, bar: 24, two: 30, lane: 16, gap: 7, none: 26 };
const NARROWEST_BAR = 0.06;
// A byte of 256 GiB is some pixels then.
const LARGEST_ZOOM = 1e9;

function makeMap(state) {
  const { data } = state;
  const canvas = byId("canvas"), scroll = byId("scroll");
  const context = canvas.getContext("2d", { alpha: false });
  const pixels = makePixels();
  const painter = makePainter(state, pixels);
  const lines = layLines(data);
  // `left` is in widths of the map, `gutter` and `right` are what the labels beside it take.
  const view = { zoom: 1, left: 0, width: 0, height: 0, ratio: 1, gutter: 0, right: 0, hover: -1 };
  const lineOfBar = new Map(lines.filter((line) => line.bar).map((line) => [line.bar.index, line]));
  const total = lines.length ? lines[lines.length - 1].y + lines[lines.length - 1].height + 52 : 60;
  byId("height").style.height = "1px";
  let waiting = false;
  let font = "";

  const mapWidth = () => Math.max(view.width - view.gutter - view.right, 40);
  const span = () => view.zoom * mapWidth();

  function schedule() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }

  function resize() {
    view.width = scroll.clientWidth;
    view.height = scroll.clientHeight;
    view.ratio = Math.min(window.devicePixelRatio || 1, 3);
    const narrow = view.width < 560;
    view.gutter = narrow ? 76 : 166;
    view.right = narrow ? 12 : 140;
    canvas.width = Math.max(Math.round(view.width * view.ratio), 1);
    canvas.height = Math.max(Math.round(view.height * view.ratio), 1);
    canvas.style.width = `${view.width}px`;
    canvas.style.height = `${view.height}px`;
    // The canvas sticks to the top of what scrolls, and takes part in its height.
    byId("height").style.height = `${Math.max(total - view.height, 0)}px`;
    pixels.resize(canvas.width, canvas.height);
    draw();
  }

  // Where a bar lies: its left end and its width, in pixels of the page.
  function barPlace(line) {
    const left = view.gutter - view.left * span();
    return { left, width: shareOf(line.bar, line.largest) * span() };
  }

  function draw() {
    if (!view.width || !view.height) return;
    font = getComputedStyle(document.body).fontFamily;
    painter.setTheme();
    const theme = painter.theme(), { ratio } = view;
    pixels.words.fill(theme.ground);
    const top = scroll.scrollTop, found = visibleLines(lines, top, view.height);
    const named = [];
    for (const line of found) {
      if (!line.bar) continue;
      const place = devicePlace(line, top);
      for (const it of painter.paint(line.bar, place)) named.push({ ...it, bar: line.bar, place });
    }
    context.putImageData(pixels.image, 0, 0);
    context.save();
    context.scale(ratio, ratio);
    for (const it of named) drawName(it);
    for (const line of found) drawLine(line, line.y - top, theme.colours);
    mark(view.hover, theme.colours.quiet, 1.5);
    mark(state.selected, theme.colours.accent, 2.5);
    context.restore();
    byId("zoom").textContent = `${zoomText(view.zoom)}×`;
  }

  const zoomText = (zoom) =>
    zoom < 10 ? String(Number(zoom.toFixed(1))) : Math.round(zoom).toLocaleString("en");

  // The same in pixels of the screen, and what of it is seen.
  function devicePlace(line, top) {
    const { ratio } = view, { left, width } = barPlace(line);
    const x0 = Math.round(Math.max(left, view.gutter) * ratio);
    const x1 = Math.round(Math.min(left + width, view.gutter + mapWidth()) * ratio);
    const y0 = Math.round((line.y - top) * ratio);
    const y1 = Math.round((line.y - top + line.inner) * ratio);
    const scale = (width * ratio) / (line.bar.size || 1);
    return { x0, x1, y0, y1, left: left * ratio, scale, ratio };
  }

  function drawName(it) {
    const { ratio } = view, { row, bar, place } = it;
    let [y0, y1] = painter.trackRange(it.track, place.y0, place.y1);
    if (it.lane) [y0, y1] = painter.sharedRange(bar, row, place.y0, place.y1);
    else if (bar.shared && hasAlias(bar, row)) y1 = y0 + (y1 - y0) * inset(bar.lanes);
    const height = (y1 - y0) / ratio;
    if (height < 10) return;
    const shade = state.shade[row];
    if (shade === state.dimmed) return;
    const kind = data.kinds[shade];
    context.font = `10.5px ${font}`;
    context.textAlign = "left";
    context.fillStyle = state.dark ? kind.onDark : kind.onLight;
    const name = nameOf(data, row) || data.kinds[data.kind[row]].title;
    const text = fitted(name, (it.x1 - it.x0) / ratio - 7);
    if (text) context.fillText(text, it.x0 / ratio + 4, y0 / ratio + height / 2 + 3.8);
  }

  function hasAlias(bar, row) {
    const next = row + 1;
    return next < bar.first + bar.rows && data.columns.lane[next] > 0;
  }

  // As much as fits, with an ellipsis.
  function fitted(text, room) {
    const short = text.length > 200 ? text.slice(0, 200) : text;
    if (context.measureText(short).width <= room) return short;
    let low = 0, high = short.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (context.measureText(short.slice(0, middle) + "…").width <= room) low = middle;
      else high = middle - 1;
    }
    return low < 3 ? "" : short.slice(0, low).trimEnd() + "…";
  }

  function write(text, x, y, colour, style = "12px", align = "left", room = Infinity) {
    context.font = `${style} ${font}`;
    context.textAlign = align;
    context.fillStyle = colour;
    const shown = room === Infinity ? text : fitted(text, room);
    context.fillText(shown, x, y);
    return context.measureText(shown).width;
  }

  // A heading, and something quiet behind it.
  function writeTwo(head, rest, y, colours, style, room) {
    const used = write(visible(head), 14, y, colours.ink, style, "left", room);
    write(visible(rest), 14 + used + 10, y, colours.quiet, "12px", "left", room - used - 20);
  }

  function drawLine(line, y, colours) {
    const end = view.width - 12;
    if (line.bar) {
      drawBarTexts(line, y, colours, end);
      return;
    }
    const room = end - 14;
    if (line.heap) {
      if (line.y > 0) {
        context.fillStyle = colours.track;
        context.fillRect(14, y + 8, room, 1);
      }
      const columns = view.width < 560 ? 0 : 140;
      writeTwo(line.heap.name, line.heap.flags, y + 29, colours, "600 13px", room - columns);
      if (columns) {
        write("used", view.gutter + mapWidth() + 44, y + 29, colours.quiet, "12px", "right");
        write("fragmented", end, y + 29, colours.quiet, "12px", "right");
      }
    } else if (line.pool) {
      const { figures } = line.pool;
      context.font = `12px ${font}`;
      const width = view.width < 560 ? 0 : context.measureText(figures).width + 16;
      writeTwo(line.title, line.flags, y + 27, colours, "600 12px", room - width);
      if (width) write(figures, end, y + 27, colours.quiet, "12px", "right");
    } else {
      write(line.text, 14, y + 17, colours.quiet, "12px", "left", room);
    }
  }

  function drawBarTexts(line, y, colours, end) {
    const { bar } = line, middle = y + line.inner / 2 + 4;
    const narrow = view.width < 560;
    // The line of a block that there is at another moment.
    if (!bar.size) {
      context.fillStyle = colours.track;
      context.fillRect(view.gutter, middle - 4, mapWidth(), 1);
      return;
    }
    const size = sizeText(bar.size);
    context.font = `12px ${font}`;
    const sizeWidth = narrow ? 0 : context.measureText(size).width + 8;
    const names = bar.dedicated ? ["Dedicated", "own"] : [`Block ${bar.id}`, `#${bar.id}`];
    const name = visible(names[narrow ? 1 : 0]);
    const isFreed = bar.side === 1;
    const ink = isFreed ? colours.quiet : colours.ink;
    write(name, 14, middle, ink, "12px", "left", view.gutter - 24 - sizeWidth);
    if (!narrow) write(size, view.gutter - 10, middle, colours.quiet, "12px", "right");
    const { left, width } = barPlace(line);
    const a = Math.max(left, view.gutter), b = Math.min(left + width, view.gutter + mapWidth());
    context.strokeStyle = colours.edge;
    context.lineWidth = 1;
    const [top, bottom] = painter.trackRange(bar.side, y, y + line.inner);
    if (b > a) context.strokeRect(a + 0.5, top + 0.5, b - a - 1, bottom - top - 1);
    // A bar that is shorter than what is looked at ends left of it.
    else write("‹", view.gutter + 2, middle, colours.quiet, "14px");
    if (narrow || bar.dedicated) return;
    if (isFreed) {
      write("freed", end, middle, colours.quiet, "12px", "right");
      return;
    }
    const x = view.gutter + mapWidth();
    write(percent(bar.allocated, bar.size), x + 44, middle, colours.ink, "12px", "right");
    context.fillStyle = colours.track;
    context.fillRect(x + 56, middle - 7, 30, 6);
    context.fillStyle = colours.fragmented;
    const { fragmentation } = bar;
    if (fragmentation) context.fillRect(x + 56, middle - 7, Math.max(30 * fragmentation, 1.5), 6);
    const inkOfShare = fragmentation ? colours.ink : colours.quiet;
    write(percent(fragmentation, 1), end, middle, inkOfShare, "12px", "right");
  }

  // Where a row lies, in pixels of the canvas, never thinner than can be seen; null if it is out of
  // sight.
  function rectOf(row) {
    if (row < 0) return null;
    const bar = barOf(data, row), line = lineOfBar.get(bar.index);
    const { left, width } = barPlace(line), scale = width / (bar.size || 1);
    const y0 = line.y - scroll.scrollTop;
    const y1 = y0 + line.inner;
    const [top, bottom] = data.columns.lane[row]
      ? painter.sharedRange(bar, row, y0, y1)
      : painter.trackRange(data.compares ? data.columns.side[row] : 0, y0, y1);
    const x = left + data.position[row] * scale;
    const a = Math.max(x, view.gutter);
    const b = Math.min(x + Math.max(data.size[row] * scale, 1), view.gutter + mapWidth());
    if (b <= a || bottom < 0 || top > view.height) return null;
    return { x: a, y: top, width: b - a, height: bottom - top };
  }

  // A frame around a row; a wider one around what is narrow.
  function mark(row, colour, thick) {
    const rect = rectOf(row);
    if (!rect) return;
    const x = thick / 2 + (rect.width < 6 ? 2 : 0), y = thick / 2 + 1;
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.strokeRect(rect.x - x, rect.y - y, rect.width + 2 * x, rect.height + 2 * y);
  }

  // What lies at a point of the canvas: a row, or -1.
  function rowAt(x, y) {
    const at = y + scroll.scrollTop;
    const hit = (it) => it.bar && at >= it.y && at < it.y + it.inner;
    const line = visibleLines(lines, at, 0).find(hit);
    if (!line || x < view.gutter || x > view.gutter + mapWidth()) return -1;
    const { bar } = line, { left, width } = barPlace(line), scale = width / (bar.size || 1);
    if (x > left + width) return -1;
    const byte = (x - left) / scale, slack = 3 / scale;
    const inside = (row) => {
      const from = byte - data.position[row];
      return from >= 0 && from < Math.max(data.size[row], 1 / scale);
    };
    if (bar.shared) {
      for (const row of bar.shared) {
        const [y0, y1] = painter.sharedRange(bar, row, line.y, line.y + line.inner);
        if (at >= y0 - 1 && at <= y1 + 1 && inside(row)) return row;
      }
    }
    const track = data.compares ? (at < line.y + line.inner / 2 ? 1 : 2) : 0;
    let free = -1, near = -1, distance = Infinity;
    for (let i = firstEndingAfter(data, bar, byte - slack); i < baseCount(bar); i++) {
      const row = baseRow(bar, i);
      if (data.position[row] > byte + slack) break;
      const side = data.columns.side[row];
      if (track && side && side !== track) continue;
      if (data.kind[row] === data.freeKind) {
        if (inside(row)) free = row;
        continue;
      }
      if (byte >= data.position[row] && byte < data.position[row] + data.size[row]) return row;
      const away = Math.max(data.position[row] - byte, byte - data.position[row] - data.size[row]);
      if (away < distance) { distance = away; near = row; }
    }
    return near >= 0 ? near : free;
  }

  function setZoom(zoom, x = view.gutter + mapWidth() / 2) {
    const at = (x - view.gutter) / mapWidth();
    const under = view.left + at / view.zoom;
    view.zoom = Math.min(Math.max(zoom, 1), LARGEST_ZOOM);
    moveTo(under - at / view.zoom);
  }

  function moveTo(left) {
    view.left = Math.min(Math.max(left, 0), 1 - 1 / view.zoom);
    schedule();
  }

  // Browsers scroll by whole pixels; what is left of them is kept for the next time.
  let rest = 0;
  const pan = (dx, dy) => {
    const whole = Math.trunc(rest + dy);
    rest += dy - whole;
    if (whole) scroll.scrollTop += whole;
    moveTo(view.left + dx / span());
  };

  function fit() {
    view.zoom = 1;
    moveTo(0);
  }

  // Brings a row into sight; `close` zooms until it is wide.
  function reveal(row, close = false) {
    if (row < 0) return;
    const bar = barOf(data, row), line = lineOfBar.get(bar.index);
    const top = scroll.scrollTop;
    if (line.y < top + 10 || line.y + line.inner > top + view.height - 10)
      scroll.scrollTop = line.y - view.height / 2 + line.inner / 2;
    const share = shareOf(bar, line.largest) / (bar.size || 1);
    const start = data.position[row] * share, width = Math.max(data.size[row] * share, 1e-12);
    const pixelsNow = width * span();
    const zoomTo = (zoom) => { view.zoom = Math.min(Math.max(zoom, 1), LARGEST_ZOOM); };
    if (close) zoomTo(0.5 / width);
    else if (pixelsNow < 6) zoomTo(Math.max(24 / mapWidth() / width, view.zoom));
    const shown = 1 / view.zoom;
    if (close || start < view.left || start + Math.min(width, shown) > view.left + shown)
      view.left = start + width / 2 - shown / 2;
    moveTo(view.left);
  }

  // After other rows took the place of those that were there.
  function follow() {
    view.hover = -1;
    schedule();
  }

  scroll.addEventListener("scroll", schedule, { passive: true });
  new ResizeObserver(resize).observe(scroll);
  for (const name of ["select", "filter", "colour"]) state.on(name, schedule);
  return {
    canvas, scroll, view, resize, schedule, rowAt, rectOf, setZoom, pan, fit, reveal, follow, mapWidth,
  };
}

// Headings and bars from top to bottom.
function layLines(data) {
  const { header, bars } = data;
  const lines = [];
  let y = 0;
  const add = (line, inner, gap = 0) => {
    lines.push({ ...line, y, inner, height: inner + gap });
    y += inner + gap;
  };
  const byPool = new Map();
  for (const bar of bars) {
    if (!byPool.has(bar.poolIndex)) byPool.set(bar.poolIndex, []);
    byPool.get(bar.poolIndex).push(bar);
  }
  header.heaps.forEach((heap, heapIndex) => {
    add({ heap }, LINES.heap);
    const empty = [];
    header.types.forEach((type, typeIndex) => {
      if (type.heap !== heapIndex) return;
      let shown = false;
      header.pools.forEach((pool, poolIndex) => {
        const here = byPool.get(poolIndex) ?? [];
        if (pool.type !== typeIndex || (!here.length && pool.name === null)) return;
        shown = true;
        addPool(data, add, pool, type, here);
      });
      if (shown) return;
      // A dump without single blocks has their totals.
      const totals = `${countText(type.blocks, "block")}, ${shareText(type.allocated, type.held)}`;
      const { name: title, flags } = type;
      if (type.blocks) add({ pool: { figures: totals }, title, flags }, LINES.pool);
      else empty.push(visible(type.name));
    });
    if (empty.length) add({ text: `Nothing in ${empty.join(", ")}` }, LINES.none);
  });
  if (!header.heaps.length) add({ text: "This dump names no heap." }, LINES.none);
  return lines;
}

const shareText = (part, whole) => `${sizeText(part)} of ${sizeText(whole)}`;

function addPool(data, add, pool, type, bars) {
  const blocks = bars.filter((bar) => !bar.dedicated);
  const flags = pool.name !== null && pool.flags ? pool.flags : type.flags;
  add({ pool, title: pool.title, flags }, LINES.pool);
  // One scale for a pool: that of its largest block.
  const scaled = blocks.length ? blocks : bars;
  const largest = scaled.reduce((most, bar) => Math.max(most, bar.largest ?? bar.size), 1);
  for (const bar of bars) add({ bar, largest }, barHeight(bar, data.compares), LINES.gap);
}

// The width of a bar, as a share of that of the largest block of its pool.
const shareOf = (bar, largest) =>
  bar.size ? Math.max(Math.min(bar.size / largest, 1), NARROWEST_BAR) : 0;

// A name has to fit into every lane.
function barHeight(bar, compares) {
  if (!bar.lanes) return compares ? LINES.two : LINES.bar;
  return Math.round(LINES.lane * (HEAD + bar.lanes) * (compares ? 1.6 : 1));
}

// The lines that touch a range of heights.
function visibleLines(lines, top, height) {
  let low = 0, high = lines.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (lines[middle].y + lines[middle].height < top) low = middle + 1;
    else high = middle;
  }
  const found = [];
  for (let i = low; i < lines.length && lines[i].y <= top + height; i++) found.push(lines[i]);
  return found;
}
