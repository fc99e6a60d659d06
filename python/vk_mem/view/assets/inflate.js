// Unpacks zlib data: by the browser, or by hand in browsers that cannot.

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflate(base64) {
  const bytes = bytesOf(base64);
  if (typeof DecompressionStream === "undefined") return inflateByHand(bytes).buffer;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

const LENGTHS = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99,
  115, 131, 163, 195, 227, 258];
const MORE_LENGTH = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCES = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025,
  1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577];
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

// The codes of a Huffman tree: how many there are of each length, and the symbols in their order.
function tree(lengths) {
  const counts = new Uint16Array(16), offsets = new Uint16Array(16);
  for (const length of lengths) if (length) counts[length]++;
  for (let i = 1; i < 15; i++) offsets[i + 1] = offsets[i] + counts[i];
  const symbols = new Uint16Array(lengths.length);
  lengths.forEach((length, symbol) => { if (length) symbols[offsets[length]++] = symbol; });
  return { counts, symbols };
}

// RFC 1950 and 1951.
function inflateByHand(bytes) {
  let at = 2, held = 0, bits = 0, out = new Uint8Array(bytes.length * 4 + 64), size = 0;
  const take = (count) => {
    while (bits < count) {
      if (at >= bytes.length) throw new Error("the data end too early");
      held |= bytes[at++] << bits;
      bits += 8;
    }
    const value = held & ((1 << count) - 1);
    held >>>= count;
    bits -= count;
    return value;
  };
  const symbol = ({ counts, symbols }) => {
    let code = 0, first = 0, index = 0;
    for (let length = 1; length < 16; length++) {
      code |= take(1);
      const count = counts[length];
      if (code - count < first) return symbols[index + code - first];
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    throw new Error("the data are damaged");
  };
  const room = (count) => {
    if (size + count <= out.length) return;
    const more = new Uint8Array(Math.max(out.length * 2, size + count));
    more.set(out.subarray(0, size));
    out = more;
  };
  const stored = () => {
    held = 0; bits = 0;
    const count = bytes[at] | (bytes[at + 1] << 8);
    at += 4;
    room(count);
    out.set(bytes.subarray(at, at + count), size);
    at += count;
    size += count;
  };
  const trees = () => {
    const literals = take(5) + 257, distances = take(5) + 1, codes = take(4) + 4;
    const first = new Array(19).fill(0);
    for (let i = 0; i < codes; i++) first[ORDER[i]] = take(3);
    const of = tree(first), lengths = [];
    while (lengths.length < literals + distances) {
      const next = symbol(of);
      if (next < 16) lengths.push(next);
      else {
        const value = next === 16 ? lengths[lengths.length - 1] : 0;
        const count = next === 16 ? 3 + take(2) : next === 17 ? 3 + take(3) : 11 + take(7);
        for (let i = 0; i < count; i++) lengths.push(value);
      }
    }
    return [tree(lengths.slice(0, literals)), tree(lengths.slice(literals, literals + distances))];
  };
  const fixed = () => [
    tree(Array.from({ length: 288 }, (_, i) => (i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8))),
    tree(new Array(30).fill(5)),
  ];
  for (let last = 0; !last;) {
    last = take(1);
    const kind = take(2);
    if (kind === 0) { stored(); continue; }
    if (kind === 3) throw new Error("the data are damaged");
    const [literals, distances] = kind === 1 ? fixed() : trees();
    for (let code = symbol(literals); code !== 256; code = symbol(literals)) {
      if (code < 256) { room(1); out[size++] = code; continue; }
      const count = LENGTHS[code - 257] + take(MORE_LENGTH[code - 257]);
      const far = symbol(distances);
      const back = DISTANCES[far] + take(far < 4 ? 0 : (far >> 1) - 1);
      room(count);
      for (let i = 0; i < count; i++, size++) out[size] = out[size - back];
    }
  }
  return out.slice(0, size);
}
