// Reads what crates/trace/src/page wrote: columns of LEB128 numbers, and texts.

// Columns whose numbers may be larger than 32 bits. They are exact up to 2^53.
const WIDE = new Set(["event.time", "memory.size", "place.offset", "place.size", "mark.value",
  "run.moves", "run.moved", "run.freed", "budget.budget", "budget.usage"]);

function readNumbers(out, bytes, at, delta) {
  let last = 0;
  for (let i = 0; i < out.length; i++) {
    let byte = bytes[at++], value = byte & 127;
    for (let scale = 128; byte > 127; scale *= 128) {
      byte = bytes[at++];
      value += (byte & 127) * scale;
    }
    if (delta) {
      last += value % 2 ? -(value + 1) / 2 : value / 2;
      value = last;
    }
    out[i] = value;
  }
  return out;
}

async function readTrace() {
  const header = JSON.parse(byId("header").textContent);
  const lump = byId("lump");
  const bytes = new Uint8Array(await inflate(lump.textContent));
  lump.remove();
  const columns = {};
  let at = 0;
  for (const [name, encoding, count, size] of header.columns) {
    const out = WIDE.has(name) ? new Float64Array(count) : new Uint32Array(count);
    columns[name] = readNumbers(out, bytes, at, encoding === "delta");
    at += size;
  }
  const texts = JSON.parse(new TextDecoder().decode(bytes.subarray(at, at + header.texts)));
  const table = (name) => {
    const found = {};
    for (const key of Object.keys(columns))
      if (key.startsWith(`${name}.`)) found[key.slice(name.length + 1)] = columns[key];
    return found;
  };
  const trace = { header, texts, names: texts.length, events: header.events };
  for (const name of ["event", "memory", "place", "site", "mark", "run", "budget"])
    trace[name] = table(name);
  for (const name of ["memory", "place", "run"]) trace[name].end = endsOf(trace[name]);
  appendSites(trace);
  return trace;
}

// The last moment at which something exists.
const FOREVER = 0xffffffff;

function endsOf({ begin, life }) {
  const end = new Uint32Array(begin.length);
  for (let i = 0; i < end.length; i++) end[i] = life[i] ? begin[i] + life[i] : FOREVER;
  return end;
}

// Call stacks as texts behind all others: the innermost function first. Callers are shared, as
// browsers join texts without copying them.
function appendSites({ texts, site, names }) {
  for (let i = 0; i < site.caller.length; i++) {
    const frame = frameText(texts, site, i);
    texts.push(site.caller[i] ? `${frame}\n${texts[names + site.caller[i] - 1]}` : frame);
  }
}

function frameText(texts, site, i) {
  const file = texts[site.file[i]], line = site.line[i];
  const place = line ? `${file}:${line}` : file;
  const name = texts[site.function[i]];
  return name ? `${place} in ${name}` : place;
}
