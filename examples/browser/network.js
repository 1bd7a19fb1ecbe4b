// Files written by mien export: their card, and the input that it describes.

// --- the card: entry `mien.card` of the fields 14 (metadata_props) of an ONNX file, which is one protobuf message

function* fields(bytes) {
  let at = 0;
  const varint = () => {
    for (let value = 0, unit = 1; at < bytes.length; unit *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * unit;
      if (byte < 128) return value;
    }
    throw new Error("this is not an ONNX file, or it is cut short");
  };
  while (at < bytes.length) {
    const tag = varint(), kind = tag % 8;
    const length = kind === 0 ? (varint(), 0) : { 1: () => 8, 2: varint, 5: () => 4 }[kind]?.();
    if (length === undefined || at + length > bytes.length) throw new Error("this is not an ONNX file, or it is cut short");
    yield [Math.floor(tag / 8), bytes.subarray(at, at + length)];
    at += length;
  }
}

export function metadata(bytes) {
  const text = new TextDecoder(), found = {};
  for (const [number, entry] of fields(bytes)) {
    if (number !== 14) continue;
    const { 1: key, 2: value = new Uint8Array() } = Object.fromEntries(fields(entry));
    found[text.decode(key)] = text.decode(value);
  }
  return found;
}

// The TOML that cards are written in: everything but dates and numbers that are not decimal.
export function toml(text) {
  let at = 0;
  const match = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at = pattern.lastIndex;
    return found;
  };
  const gap = () => match(/(?:\s|#.*)*/y);
  const take = (pattern) => { const found = match(pattern); gap(); return found; };
  const need = (pattern) => {
    const found = take(pattern);
    if (!found) throw new Error(`the card cannot be read at ${JSON.stringify(text.slice(at, at + 30))}`);
    return found;
  };
  const unquoted = ([whole]) => (whole[0] === '"' ? JSON.parse(whole) : whole[0] === "'" ? whole.slice(1, -1) : whole);
  const path = () => {
    const keys = [];
    do keys.push(unquoted(need(/"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[\w-]+/y))); while (take(/\./y));
    return keys;
  };
  const inside = (table, keys) => keys.reduce((each, key) => {
    const next = (each[key] ??= Object.create(null));
    return Array.isArray(next) ? next.at(-1) : next;
  }, table);
  const assign = (table) => {
    const keys = path(), last = keys.pop();
    need(/=/y);
    inside(table, keys)[last] = value();
  };
  const several = (end, item) => { while (!take(end)) { item(); if (!take(/,/y)) { need(end); break; } } };
  const value = () => {
    if (take(/\[/y)) { const list = []; several(/\]/y, () => list.push(value())); return list; }
    if (take(/\{/y)) { const table = Object.create(null); several(/\}/y, () => assign(table)); return table; }
    const long = take(/"""\n?([^]*?)"""(?!")|'''\n?([^]*?)'''(?!')/y);
    if (long) return long[2] ?? JSON.parse(`"${long[1].replace(/\\\s*\n\s*/g, "").replace(/(?<!\\)"/g, '\\"').replace(/\n/g, "\\n")}"`);
    const found = need(/"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|true|false|[-+]?(?:inf|nan|\d[\d_]*(?:\.[\d_]+)?(?:[eE][-+]?\d+)?)(?![\w:-])/y);
    if (/^["']/.test(found[0])) return unquoted(found);
    if (/^[tf]/.test(found[0])) return found[0] === "true";
    return Number(found[0].replaceAll("_", "").replace("inf", "Infinity"));
  };
  const root = Object.create(null);
  let table = root;
  for (gap(); at < text.length;) {
    const header = take(/\[\[?/y);
    if (!header) { assign(table); continue; }
    const keys = path(), last = keys.pop(), parent = inside(root, keys);
    table = header[0] === "[" ? inside(parent, [last]) : (parent[last] ??= []).at((parent[last].push(Object.create(null))) - 1);
    need(header[0] === "[" ? /\]/y : /\]\]/y);
  }
  return root;
}

// --- what the network is fed

// One axis of Pillow's antialiased bilinear resizing: for each new pixel the first old one and the shares, in units of 2⁻²².
function axis(old, size) {
  const scale = old / size, reach = Math.max(scale, 1);
  return Array.from({ length: size }, (_, i) => {
    const center = (i + 0.5) * scale, first = Math.max(Math.trunc(center - reach + 0.5), 0);
    const last = Math.min(Math.trunc(center + reach + 0.5), old), shares = [];
    for (let x = first; x < last; x++) shares.push(Math.max(1 - Math.abs((x - center + 0.5) / reach), 0));
    const sum = shares.reduce((total, share) => total + share, 0);
    return [first, shares.map((share) => Math.trunc((share / sum) * 2 ** 22 + 0.5))];
  });
}

const rounded = (sum) => Math.min(Math.max(Math.floor(sum / 2 ** 22 + 0.5), 0), 255);

// { width, height, data } with three bytes a pixel → the same at another size: columns first, rounded after each pass.
export function resized({ width, height, data }, newHeight, newWidth) {
  const across = new Uint8Array(height * newWidth * 3), out = new Uint8Array(newHeight * newWidth * 3);
  const sum = (values, from, step, shares) => {
    let total = 0;
    for (let i = 0; i < shares.length; i++) total += shares[i] * values[from + i * step];
    return rounded(total);
  };
  axis(width, newWidth).forEach(([first, shares], x) => {
    for (let y = 0; y < height; y++) for (let c = 0; c < 3; c++) {
      across[(y * newWidth + x) * 3 + c] = sum(data, (y * width + first) * 3 + c, 3, shares);
    }
  });
  const row = newWidth * 3;
  axis(height, newHeight).forEach(([first, shares], y) => {
    for (let x = 0; x < row; x++) out[y * row + x] = sum(across, first * row + x, row, shares);
  });
  return { width: newWidth, height: newHeight, data: out };
}

// RGB pixels → [type, values, shape] of the network's input, as its card says.
export function prepared(pixels, given) {
  const input = { color: "rgb", layout: "NCHW", scale: 1 / 127.5, offset: [-1], std: [], resize: "pil-bilinear", ...given };
  input.color = (given.color ?? given.colour ?? input.color).replace("grey", "gray"); // files of version 0.1 have a colour
  if (input.dtype === "uint8") return ["uint8", pixels.data, [1, pixels.height, pixels.width, 3]]; // it prepares them itself
  if (input.resize !== "pil-bilinear") throw new Error("this network resizes as OpenCV does: export it with --raw-input");
  const [height, width] = input.size, { data } = resized(pixels, height, width);
  const gray = input.color === "gray", count = height * width, channels = gray ? 1 : 3;
  const values = new Float32Array(count * channels), of = (list, c) => Math.fround(list[list.length > 1 ? c : 0]);
  const scale = Math.fround(input.scale); // float32 at each step, as mien has it: an 8-bit network rounds what comes out
  for (let i = 0; i < count; i++) for (let c = 0; c < channels; c++) {
    const level = gray // ITU-R 601, as Pillow rounds it
      ? (data[3 * i] * 19595 + data[3 * i + 1] * 38470 + data[3 * i + 2] * 7471 + 0x8000) >> 16
      : data[3 * i + (input.color === "bgr" ? 2 - c : c)];
    const value = Math.fround(Math.fround(level * scale) + of(input.offset, c)) / (input.std.length ? of(input.std, c) : 1);
    values[input.layout === "NCHW" ? c * count + i : i * channels + c] = value;
  }
  return ["float32", values, input.layout === "NCHW" ? [1, channels, height, width] : [1, height, width, channels]];
}
