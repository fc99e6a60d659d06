// Sizes and names as people read them; the same rules as text.py.

const ODD = new RegExp(
  "[\\x00-\\x1f\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e" +
    "\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\ufffe\\uffff]|\\p{Cs}|[\\u{e0000}-\\u{e007f}]",
  "gu",
);

// A text with controls and marks of direction spelled out: \x00, \u202e.
function visible(text) {
  return text.replace(ODD, (char) => {
    const code = char.codePointAt(0);
    const [start, digits] = code < 0x100 ? ["\\x", 2] : ["\\u", 4];
    return start + code.toString(16).padStart(digits, "0");
  });
}

function sizeText(size) {
  if (size < 1024) return `${Math.round(size)} B`;
  let value = size;
  for (const unit of ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]) {
    value /= 1024;
    if (value < 1023.95 || unit === "EiB") return `${value.toFixed(1).replace(/\.0$/, "")} ${unit}`;
  }
}

function countText(count, what) {
  return `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
}

// What is not zero does not read 0, what is not all does not read 100.
function percent(part, whole) {
  if (!part || !whole) return "0 %";
  const value = (100 * part) / whole;
  if (value < 1) return "< 1 %";
  return `${part < whole ? Math.min(Math.round(value), 99) : Math.round(value)} %`;
}

// Bytes from "64", "16k", "1.5 MiB"; NaN if it is none, null if it is empty.
function parseSize(text) {
  const trimmed = text.trim();
  if (!trimmed) return null;
  const match = /^(\d+(?:[.,]\d+)?)\s*([kmgtp]?)(?:i?b)?$/i.exec(trimmed);
  if (!match) return NaN;
  const power = " kmgtp".indexOf((match[2] || " ").toLowerCase());
  return parseFloat(match[1].replace(",", ".")) * 1024 ** power;
}

// An element with text and children. Texts never become markup.
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "style") Object.assign(made.style, value);
    else if (/^(aria-|data-|role$)/.test(name)) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const byId = (id) => document.getElementById(id);
