// Boxes, plates, points and heat maps on an image: as SVG on the page, and the same on a canvas for the annotated copy.

const SVG = "http://www.w3.org/2000/svg";
const UNCERTAIN = "#b9bfc8";
const PLATE = "rgba(16, 18, 22, 0.86)";

// Those of mien.visualization.faces, so that annotated images look alike wherever they are made.
export const COLORS = {
  neutral: "#d5dee6", happiness: "#f5e92e", surprise: "#ffae42", sadness: "#6cb0fa", anger: "#d9541e",
  disgust: "#3ccb92", fear: "#be62a8", contempt: "#7a65ef", other: "#8a7a62",
};

export const color = (face) => (face.certain ? COLORS[face.label] ?? "#b0c8b0" : UNCERTAIN);
export const percent = (share) => `${Math.round(share * 100)} %`;
export const title = (face) => `${face.certain ? face.label : `uncertain: ${face.label}`}  ${percent(face.confidence)}`;

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

// Where the plate of a box goes: above it or below, shifted so that it covers neither another plate nor, if it can be, a face.
function places(faces, scale, size, height, text, measure) {
  const boxes = faces.map(({ box }) => ({
    left: box.left * scale, top: box.top * scale, width: (box.right - box.left) * scale, height: (box.bottom - box.top) * scale,
  }));
  const overlap = (a, b) => Math.max(0, Math.min(a.left + a.width, b.left + b.width) - Math.max(a.left, b.left))
    * Math.max(0, Math.min(a.top + a.height, b.top + b.height) - Math.max(a.top, b.top));
  const taken = [];
  return faces.map((face, i) => {
    const box = boxes[i], width = measure(text(face)) + height * 1.35, tries = [];
    for (const top of [box.top - height - 4, box.top + box.height + 4]) {
      for (const left of [box.left, box.left + (box.width - width) / 2, box.left + box.width - width]) {
        tries.push({
          left: Math.min(Math.max(left, 2), Math.max(size.width - width - 2, 2)),
          top: Math.min(Math.max(top, 2), Math.max(size.height - height - 2, 2)), width, height,
        });
      }
    }
    const cost = (spot) => 4 * taken.reduce((sum, each) => sum + overlap(spot, each), 0)
      + boxes.reduce((sum, each) => sum + overlap(spot, each), 0);
    const costs = tries.map(cost), best = tries[costs.indexOf(Math.min(...costs))];
    taken.push(best);
    return best;
  });
}

const context = document.createElement("canvas").getContext("2d");
const FONT = `600 12.5px ${getComputedStyle(document.documentElement).getPropertyValue("--font")}`;

export function paint(svg, result, { scale, width, height, mirrored, boxes, points, selected }) {
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  if (!result) return;
  context.font = FONT;
  const faces = result.faces.map((face) => (mirrored ? flipped(face, result.width) : face));
  if (points) for (const face of faces) {
    const dots = element("g", { fill: color(face), opacity: 0.9 }, svg);
    const radius = Math.max(1, Math.min(2.4, (face.box.right - face.box.left) * scale / 90));
    for (const [x, y] of face.points ?? []) element("circle", { cx: x * scale, cy: y * scale, r: radius }, dots);
  }
  if (!boxes) return;
  // in a crowd a word must do; the chosen face has all of it
  const crowd = faces.length > 9, short = (face) => (face.certain ? face.label : "?");
  const spots = places(faces, scale, { width, height }, crowd ? 16 : 23, crowd ? short : title, (text) => context.measureText(text).width * (crowd ? 0.8 : 1));
  if (crowd && faces[selected]) [spots[selected]] = places([faces[selected]], scale, { width, height }, 23, title, (text) => context.measureText(text).width);
  faces.forEach((face, i) => {
    const { box } = face, ink = color(face), chosen = i === selected;
    const group = element("g", { class: chosen ? "face chosen" : "face", "data-face": i }, svg);
    const shape = {
      x: box.left * scale, y: box.top * scale, width: (box.right - box.left) * scale, height: (box.bottom - box.top) * scale, rx: 5,
    };
    element("rect", { ...shape, fill: "transparent", stroke: "rgba(0,0,0,.45)", "stroke-width": chosen ? 5 : 3.6 }, group);
    element("rect", {
      ...shape, fill: "none", stroke: ink, "stroke-width": chosen ? 3 : 1.8, ...(!face.certain && { "stroke-dasharray": "7 5" }),
    }, group);
  });
  const order = faces.map((_, i) => i).sort((a, b) => (a === selected) - (b === selected));
  order.forEach((i) => {
    const face = faces[i], spot = spots[i], small = crowd && i !== selected;
    const group = element("g", { class: "plate", "data-face": i, transform: `translate(${spot.left} ${spot.top})` }, svg);
    element("rect", { width: spot.width, height: spot.height, rx: spot.height / 3.4, fill: PLATE }, group);
    const mark = { cx: spot.height * 0.5, cy: spot.height / 2, r: spot.height * 0.19 };
    element("circle", { ...mark, ...(face.certain ? { fill: color(face) } : { fill: "none", stroke: UNCERTAIN, "stroke-width": 1.5, "stroke-dasharray": "2.500 2" }) }, group);
    const text = element("text", { x: spot.height * 0.95, y: spot.height * 0.68, class: small ? "small" : "" }, group);
    text.textContent = small ? short(face) : title(face);
  });
}

function flipped(face, width) {
  const { left, right, ...rest } = face.box;
  return {
    ...face, box: { ...rest, left: width - right, right: width - left },
    points: face.points?.map(([x, y]) => [width - x, y]) ?? null,
  };
}

// The annotated image, at its own size.
export async function annotated(source, result) {
  const canvas = document.createElement("canvas");
  canvas.width = result.width;
  canvas.height = result.height;
  const pen = canvas.getContext("2d");
  pen.drawImage(source, 0, 0, result.width, result.height);
  const unit = Math.max(Math.sqrt(result.width * result.height) / 45, 11);
  pen.font = `600 ${unit * 0.62}px system-ui, sans-serif`;
  const spots = places(result.faces, 1, result, unit * 1.15, title, (text) => pen.measureText(text).width);
  result.faces.forEach((face, i) => {
    const { box } = face, spot = spots[i];
    pen.lineWidth = unit / 7;
    pen.strokeStyle = color(face);
    pen.setLineDash(face.certain ? [] : [unit * 0.5, unit * 0.35]);
    pen.strokeRect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    pen.setLineDash([]);
    pen.fillStyle = PLATE;
    pen.beginPath();
    pen.roundRect(spot.left, spot.top, spot.width, spot.height, spot.height / 3.5);
    pen.fill();
    pen.fillStyle = color(face);
    pen.beginPath();
    pen.arc(spot.left + spot.height * 0.5, spot.top + spot.height / 2, spot.height * 0.19, 0, 7);
    pen.fill();
    pen.fillStyle = "#f6f7f9";
    pen.textBaseline = "middle";
    pen.fillText(title(face), spot.left + spot.height * 0.95, spot.top + spot.height * 0.53);
  });
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

const FAINT = 0.1;

// A grid of importances over a box of the image, as a translucent map: cold is nothing, warm is much.
export function heat(canvas, explanation, { scale, width, height }) {
  const ratio = devicePixelRatio;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const { values, corners } = explanation.map, rows = values.length, columns = values[0].length;
  const strength = Math.min(1, Math.max(...explanation.regions.map(({ importance }) => importance)) / FAINT); // what hardly matters stays faint
  const small = new OffscreenCanvas(columns, rows), pen = small.getContext("2d"), pixels = pen.createImageData(columns, rows);
  values.flat().forEach((value, i) => {
    const share = value * Math.max(strength, 0.15);
    pixels.data.set([255, 210 - 170 * share, 60 - 40 * share, 235 * share ** 0.8], i * 4);
  });
  pen.putImageData(pixels, 0, 0);
  const into = canvas.getContext("2d");
  const [a, b, c] = corners.map(([x, y]) => [x * scale * ratio, y * scale * ratio]); // upper left, upper right, lower left
  into.imageSmoothingQuality = "high";
  into.setTransform((b[0] - a[0]) / columns, (b[1] - a[1]) / columns, (c[0] - a[0]) / rows, (c[1] - a[1]) / rows, a[0], a[1]);
  into.drawImage(small, 0, 0);
}
