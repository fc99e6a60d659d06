// A picture in memory that rectangles are filled into: filling 32-bit words is many times faster
// than asking a canvas for each of a hundred thousand rectangles.

function packed(colour) {
  const value = parseInt(colour.slice(1), 16);
  return (0xff000000 | ((value & 0xff) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}

function makePixels() {
  const pixels = { width: 0, height: 0, words: null, image: null, hatches: [], line: null };

  pixels.resize = (width, height) => {
    if (pixels.width === width && pixels.height === height) return;
    pixels.width = width;
    pixels.height = height;
    pixels.image = new ImageData(width, height);
    pixels.words = new Uint32Array(pixels.image.data.buffer);
    pixels.line = [new Uint32Array(width), new Uint32Array(width)];
    pixels.hatches = [];
  };

  pixels.fill = (x0, y0, x1, y1, word) => {
    x0 = Math.max(x0, 0); x1 = Math.min(x1, pixels.width);
    y0 = Math.max(y0, 0); y1 = Math.min(y1, pixels.height);
    if (x1 <= x0) return;
    for (let y = y0; y < y1; y++) {
      const start = y * pixels.width;
      pixels.words.fill(word, start + x0, start + x1);
    }
  };

  // Lines of the pattern of free memory, one for each phase.
  pixels.hatch = (free, stroke, step) => {
    if (pixels.hatches.length === step && pixels.hatches.of === free) return pixels.hatches;
    const thick = Math.max(1, Math.round(step / 7));
    const made = [];
    for (let phase = 0; phase < step; phase++) {
      const line = new Uint32Array(pixels.width);
      for (let x = 0; x < line.length; x++) line[x] = (x + phase) % step < thick ? stroke : free;
      made.push(line);
    }
    made.of = free;
    pixels.hatches = made;
    return made;
  };

  // A bar's height of one line of colours; where it is 0, memory is free and shows the pattern.
  pixels.spread = (line, x0, x1, y0, y1, hatches) => {
    const { words, width } = pixels;
    for (let y = Math.max(y0, 0); y < Math.min(y1, pixels.height); y++) {
      const pattern = hatches[y % hatches.length];
      const start = y * width;
      for (let x = x0; x < x1; x++) words[start + x] = line[x] || pattern[x];
    }
  };
  return pixels;
}
