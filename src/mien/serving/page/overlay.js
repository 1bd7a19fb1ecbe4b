// Bounding boxes, tags, landmarks and heat maps over an image: as SVG on the page, and on a canvas for the annotated copy.

const SVG = "http://www.w3.org/2000/svg";
const UNCERTAIN = "#b9bfc8";
const PLATE = "rgba(16, 18, 22, 0.86)", TEXT = "#f6f7f9";

// The colors of mien.visualization.faces, so that annotated images look alike wherever they are made.
export const COLORS = {
  neutral: "#d5dee6", happiness: "#f5e92e", surprise: "#ffae42", sadness: "#6cb0fa", anger: "#d9541e",
  disgust: "#3ccb92", fear: "#be62a8", contempt: "#7a65ef", other: "#8a7a62",
};

export const color = (face) => (face.certain ? COLORS[face.label] ?? "#b0c8b0" : UNCERTAIN);
export const percent = (share) => `${Math.round(share * 100)} %`;
export const title = (face) => `${face.certain ? face.label : `uncertain: ${face.label}`}  ${percent(face.confidence)}`;
export const number = (face, place) => face.track ?? place + 1;

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

const overlap = (a, b) => Math.max(0, Math.min(a.left + a.width, b.left + b.width) - Math.max(a.left, b.left))
  * Math.max(0, Math.min(a.top + a.height, b.top + b.height) - Math.max(a.top, b.top));

// The tag of each face. It lies inside the upper edge of its own box, so that it never covers another face, detected or not.
// A box too small for words gets a numbered dot on its edge, where it overlaps other boxes and dots least; the list has the words.
function tags(faces, scale, area, height, measure) {
  const boxes = faces.map(({ box }) => ({
    left: box.left * scale, top: box.top * scale, width: (box.right - box.left) * scale, height: (box.bottom - box.top) * scale,
  }));
  const dots = [];
  return faces.map((face, i) => {
    const box = boxes[i];
    for (const text of [title(face), face.certain ? face.label : "uncertain"]) {
      const width = measure(text) + height * 1.35;
      if (width <= box.width - 4 && box.height >= 3.6 * height) {
        return { text, left: Math.max(box.left + (box.width - width < 8 ? (box.width - width) / 2 : 4), 2), top: Math.max(box.top + 4, 2), width, height };
      }
    }
    if (faces.length === 1 && box.top + box.height + height + 4 < area.height) { // below is this person's neck
      const text = title(face), width = measure(text) + height * 1.35;
      return { text, left: Math.min(Math.max(box.left + (box.width - width) / 2, 2), Math.max(area.width - width - 2, 2)), top: box.top + box.height + 4, width, height };
    }
    const text = String(number(face, i)), side = Math.min(Math.max(box.width * 0.7, height * 0.52), height * 0.82); // small on small faces
    const size = side / (height * 0.82), width = Math.max(side, (measure(text) + height * 0.4) * size);
    const tries = [];
    for (const y of [box.top, box.top + box.height, box.top + box.height / 2]) {
      for (const x of [box.left, box.left + box.width, box.left + box.width / 2]) {
        if (y === box.top + box.height / 2 && x === box.left + box.width / 2) continue;
        tries.push({
          left: Math.min(Math.max(x - width / 2, 1), Math.max(area.width - width - 1, 1)),
          top: Math.min(Math.max(y - side / 2, 1), Math.max(area.height - side - 1, 1)), width, height: side,
        });
      }
    }
    const cost = (spot) => dots.reduce((sum, dot) => sum + 4 * overlap(spot, dot), 0)
      + boxes.reduce((sum, other, j) => sum + (j === i ? 0.3 : 1) * overlap(spot, other), 0);
    const costs = tries.map(cost), best = { ...tries[costs.indexOf(Math.min(...costs))], text, dot: true, size };
    dots.push(best);
    return best;
  });
}

// Axes of the head and rays of the gaze, projected into the image: the same lengths and colors as in mien.visualization.faces.
const NOSE = [0, -0.463, 7.587], EYES = { right: [-3.26, 2.83, 3.82], left: [3.26, 2.83, 3.82] }, RAY = 9;
const AXES = [[[6, 0, 0], "#e85d4c"], [[0, 6, 0], "#68c467"], [[0, 0, 6], "#5398f0"]], RAY_INK = "#fad650";
const radians = (degrees) => (degrees * Math.PI) / 180;

function arrows({ pose, gaze }, { width, height }) {
  if (!pose) return [];
  const [sx, sy, sz] = [pose.pitch, pose.yaw, pose.roll].map((turn) => Math.sin(radians(turn)));
  const [cx, cy, cz] = [pose.pitch, pose.yaw, pose.roll].map((turn) => Math.cos(radians(turn)));
  const rotation = [
    [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx], [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx], [-sy, cy * sx, cy * cx],
  ];
  const focal = height / 2 / Math.tan(radians(pose.fov) / 2);
  const turned = (point) => rotation.map((row) => row.reduce((sum, value, i) => sum + value * point[i], 0));
  const project = (point) => {
    const [x, y, z] = turned(point), depth = -Math.min(z + pose.z, -1e-6);
    return [((x + pose.x) / depth) * focal + width / 2, height / 2 - ((y + pose.y) / depth) * focal];
  };
  const line = (from, direction, ink, tip) => ({ from: project(from), to: project(from.map((value, i) => value + direction[i])), ink, tip });
  const axes = [...AXES].sort((a, b) => turned(a[0])[2] - turned(b[0])[2]).map(([axis, ink]) => line(NOSE, axis, ink, axis[2] > 0));
  const rays = Object.entries(EYES).filter(([side]) => gaze?.[side]).map(([side, eye]) => {
    const yaw = radians(gaze[side].head_yaw), pitch = radians(gaze[side].head_pitch);
    const direction = [Math.sin(yaw) * Math.cos(pitch), -Math.sin(pitch), Math.cos(yaw) * Math.cos(pitch)];
    return line(eye, direction.map((value) => RAY * value), RAY_INK, true);
  });
  return [...axes, ...rays];
}

const context = document.createElement("canvas").getContext("2d");
const FAMILY = getComputedStyle(document.documentElement).getPropertyValue("--font");
const HEIGHT = 22; // of a tag

export function paint(svg, result, { scale, width, height, mirrored, boxes, points, axes, selected }) {
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  if (!result) return;
  context.font = `600 12.5px ${FAMILY}`;
  const faces = result.faces.map((face) => (mirrored ? flipped(face, result.width) : face));
  if (points) for (const face of faces) {
    const dots = element("g", { fill: color(face), opacity: 0.9 }, svg);
    const radius = Math.max(1, Math.min(2.4, (face.box.right - face.box.left) * scale / 90));
    for (const [x, y] of face.points ?? []) element("circle", { cx: x * scale, cy: y * scale, r: radius }, dots);
  }
  if (axes) for (const face of result.faces) {
    const at = ([x, y]) => [(mirrored ? result.width - x : x) * scale, y * scale];
    const stroke = Math.max(1.5, Math.min(3, ((face.box.right - face.box.left) * scale) / 60));
    for (const { from, to, ink, tip } of arrows(face, result)) {
      const [x1, y1] = at(from), [x2, y2] = at(to), group = element("g", { class: "axis", stroke: ink, fill: ink }, svg);
      element("line", { x1, y1, x2, y2, "stroke-width": stroke, "stroke-linecap": "round" }, group);
      if (tip) element("circle", { cx: x2, cy: y2, r: 1.5 * stroke, stroke: "none" }, group);
    }
  }
  if (!boxes) return;
  faces.forEach((face, i) => {
    const { box } = face, chosen = i === selected;
    const group = element("g", { class: chosen ? "face chosen" : "face", "data-face": i }, svg);
    element("title", {}, group).textContent = title(face);
    const shape = {
      x: box.left * scale, y: box.top * scale, width: (box.right - box.left) * scale, height: (box.bottom - box.top) * scale, rx: 5,
    };
    element("rect", { ...shape, fill: "transparent", stroke: "rgba(0,0,0,.45)", "stroke-width": chosen ? 5 : 3.6 }, group);
    element("rect", {
      ...shape, fill: "none", stroke: color(face), "stroke-width": chosen ? 3 : 1.8, ...(!face.certain && { "stroke-dasharray": "7 5" }),
    }, group);
  });
  const spots = tags(faces, scale, { width, height }, HEIGHT, (text) => context.measureText(text).width);
  const order = faces.map((_, i) => i).sort((a, b) => (a === selected) - (b === selected));
  for (const i of order) {
    const face = faces[i], spot = spots[i];
    const group = element("g", { class: spot.dot ? "tag dot" : "tag", "data-face": i, transform: `translate(${spot.left} ${spot.top})` }, svg);
    element("title", {}, group).textContent = title(face);
    element("rect", {
      width: spot.width, height: spot.height, rx: spot.dot ? spot.height / 2 : spot.height / 3.4,
      fill: spot.dot && i === selected ? TEXT : PLATE, ...(spot.dot && { stroke: color(face), "stroke-width": 1.6 }),
    }, group);
    if (!spot.dot) {
      const mark = { cx: spot.height * 0.5, cy: spot.height / 2, r: spot.height * 0.19 };
      element("circle", { ...mark, ...(face.certain ? { fill: color(face) } : { fill: "none", stroke: UNCERTAIN, "stroke-width": 1.5, "stroke-dasharray": "2.5 2" }) }, group);
    }
    const place = spot.dot
      ? { x: spot.width / 2, y: spot.height * 0.71, "text-anchor": "middle", "font-size": 11.5 * spot.size, fill: i === selected ? "#101216" : TEXT }
      : { x: spot.height * 0.95, y: spot.height * 0.68, "font-size": 12.5, fill: TEXT };
    const text = element("text", { ...place, "font-family": FAMILY, "font-weight": 600, "xml:space": "preserve" }, group);
    text.textContent = spot.text;
  }
}

function flipped(face, width) {
  const { left, right, ...rest } = face.box;
  return {
    ...face, box: { ...rest, left: width - right, right: width - left },
    points: face.points?.map(([x, y]) => [width - x, y]) ?? null,
  };
}

// The annotated image, at its own size: the overlay of the page as an SVG image over it.
export async function annotated(source, result, view) {
  const { width, height } = result, canvas = Object.assign(document.createElement("canvas"), { width, height });
  const unit = Math.max(Math.sqrt(width * height) / 38, 16) / HEIGHT; // pixels of the image for one of the overlay
  const svg = document.createElementNS(SVG, "svg");
  paint(svg, result, { ...view, boxes: true, scale: 1 / unit, width: width / unit, height: height / unit });
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  const drawn = new Image(), pen = canvas.getContext("2d");
  drawn.src = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" }));
  await drawn.decode();
  pen.drawImage(source, 0, 0, width, height);
  pen.drawImage(drawn, 0, 0, width, height);
  URL.revokeObjectURL(drawn.src);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

const FAINT = 1; // log-odds below which a map is drawn fainter

// A grid of importance over a box of the image, as a translucent map: transparent is unimportant, red is important.
export function heat(canvas, explanation, { scale, width, height }) {
  const ratio = devicePixelRatio;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const { values, strength, corners } = explanation.map, rows = values.length, columns = values[0].length;
  const small = new OffscreenCanvas(columns, rows), pen = small.getContext("2d"), pixels = pen.createImageData(columns, rows);
  values.flat().forEach((value, i) => {
    const share = value * Math.max(Math.min(strength / FAINT, 1), 0.15);
    pixels.data.set([255, 210 - 170 * share, 60 - 40 * share, 235 * share ** 0.8], i * 4);
  });
  pen.putImageData(pixels, 0, 0);
  const into = canvas.getContext("2d");
  const [a, b, c] = corners.map(([x, y]) => [x * scale * ratio, y * scale * ratio]); // upper left, upper right, lower left
  into.imageSmoothingQuality = "high";
  into.setTransform((b[0] - a[0]) / columns, (b[1] - a[1]) / columns, (c[0] - a[0]) / rows, (c[1] - a[1]) / rows, a[0], a[1]);
  into.drawImage(small, 0, 0);
}
