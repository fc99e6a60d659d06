// Groups of allocations: by name, by call site, by use. The largest have colours, the rest share one.

const MOST_GROUPS = 10;

// A name without its numbers: `mesh 1` and `mesh 2` are both `mesh #`.
const pattern = (name) => name.replace(/\d+/g, "#");

// How rows are grouped: the key of each place, and the title of each key.
function groupingBy(trace, by) {
  const { place, header, texts, names } = trace;
  if (by === "name") {
    const patterns = new Map(), of = new Uint32Array(names);
    const title = [];
    for (let i = 0; i < names; i++) {
      const text = pattern(texts[i]);
      if (!patterns.has(text)) { patterns.set(text, title.length); title.push(text); }
      of[i] = patterns.get(text);
    }
    // A pattern of a single name is that name.
    const only = new Int32Array(title.length);
    for (const name of place.name) {
      const known = only[of[name]];
      only[of[name]] = known === 0 || known === name ? name : -1;
    }
    only.forEach((name, key) => { if (name > 0) title[key] = texts[name]; });
    return { keyOf: (i) => of[place.name[i]], count: title.length, title: (key) => visible(title[key]) || "no name" };
  }
  if (by === "site") {
    const title = (key) => (key ? visible(siteTitle(texts[names + key - 1])) : "no call site");
    const full = (key) => (key ? texts[names + key - 1] : "");
    return { keyOf: (i) => place.site[i], count: trace.site.caller.length + 1, title, full };
  }
  const kinds = header.kinds;
  const kindOf = Uint8Array.from(header.uses, (use) => use.kind);
  return { keyOf: (i) => kindOf[place.use[i]], count: kinds.length, title: (key) => kinds[key].title };
}

// `load in scene.py:20 ‹ main`: the innermost functions that have a line, by the names of their files.
function siteTitle(stack) {
  const frames = stack.split("\n");
  const known = frames.filter((it) => /:\d+( in |$)/.test(it));
  const short = (frame) => frame.replace(/^.*[/\\]/, "");
  return (known.length ? known : frames).slice(0, 3).map(short).join(" ‹ ");
}

// The groups of a trace: those that hold most bytes for most of the time, then the rest.
function makeGroups(trace, by) {
  const { place, header, events } = trace;
  const grouping = groupingBy(trace, by), { keyOf, count } = grouping;
  const weight = new Float64Array(count), seen = new Uint8Array(count);
  for (let i = 0; i < place.begin.length; i++) {
    if (place.base[i]) continue;
    const key = keyOf(i);
    seen[key] = 1;
    weight[key] += place.size[i] * (Math.min(place.end[i], events) - place.begin[i]);
  }
  const keys = Array.from(seen.keys()).filter((key) => seen[key]);
  keys.sort((a, b) => weight[b] - weight[a]);
  const isKind = by === "kind";
  const most = isKind ? keys.length : MOST_GROUPS;
  const shown = keys.slice(0, most), rest = keys.length - shown.length;
  const numbers = new Uint8Array(count).fill(shown.length);
  shown.forEach((key, number) => { numbers[key] = number; });
  const first = header.kinds.findIndex((it) => it.key === "group 0");
  const restKind = header.kinds.findIndex((it) => it.key === "group rest");
  const list = shown.map((key, number) => ({
    title: grouping.title(key), full: grouping.full?.(key) ?? "", kind: isKind ? key : first + number,
  }));
  if (rest) list.push({ title: `${countText(rest, "other")}`, full: "", kind: restKind });
  const of = new Uint8Array(place.begin.length);
  for (let i = 0; i < of.length; i++) of[i] = numbers[keyOf(i)];
  return { by, list, of, grouping };
}

// Bytes of each group at a moment.
function bytesByGroup({ place }, groups, moment) {
  const bytes = new Float64Array(groups.list.length);
  for (let i = 0; i < place.begin.length; i++)
    if (place.begin[i] < moment && moment <= place.end[i] && !place.base[i])
      bytes[groups.of[i]] += place.size[i];
  return bytes;
}
