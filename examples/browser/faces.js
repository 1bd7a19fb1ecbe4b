// Facial expression recognition in the browser: BlazeFace finds faces, the face mesh aligns them, and a network exported by mien
// classifies the crops. The same steps as mien.load(points=False, blendshapes=False), without its tiles for small faces.

import { metadata, prepared, toml } from "./network.js";

const RUNTIME = "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
const SIDE = 192, CELLS = 48; // input and output cells of BlazeFace; the mesh has the same input
const THRESHOLD = 0.5, SAME_FACE = 0.3, PRESENCE = 0.5;
const LARGEST = 1280; // longer side of an image; larger ones are shrunk first
const DETECT_EVERY = 10; // camera frames from one detection to the next; in between the mesh follows its faces

// The five points of the crop templates: eyes, nose tip, corners of the mouth (mien.faces.alignment.TEMPLATES).
const TEMPLATES = {
  fer2013: [48, [[14.3, 18.2], [32.7, 18.2], [23.5, 27.5], [16.1, 36.7], [30.9, 36.7]]],
  arcface112: [112, [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]],
};
// The same points in the mesh: each is the mean of these vertices.
const FIVE = [[33, 133, 159, 145], [263, 362, 386, 374], [4], [61], [291]];

// --- geometry: a matrix [a, b, c, d, e, f] maps (x, y) to (a x + c y + e, b x + d y + f); pixel centers are whole numbers

const apply = ([a, b, c, d, e, f], [x, y]) => [a * x + c * y + e, b * x + d * y + f];

function invert([a, b, c, d, e, f]) {
  const area = a * d - b * c;
  return [d / area, -b / area, -c / area, a / area, (c * f - d * e) / area, (b * e - a * f) / area];
}

// The least-squares similarity from points to others (Umeyama without reflection).
export function similarity(from, to) {
  const mean = (points) => [0, 1].map((i) => points.reduce((sum, point) => sum + point[i], 0) / points.length);
  const [fx, fy] = mean(from), [tx, ty] = mean(to);
  let real = 0, imaginary = 0, spread = 0;
  from.forEach(([x, y], i) => {
    const [u, v, s, t] = [x - fx, y - fy, to[i][0] - tx, to[i][1] - ty];
    real += u * s + v * t;
    imaginary += u * t - v * s;
    spread += u * u + v * v;
  });
  const a = real / spread, b = imaginary / spread;
  return [a, b, -b, a, tx - a * fx + b * fy, ty - b * fx - a * fy];
}

// The square region around a box or mesh: center, side, and turn in radians.
function regionOfBox([left, top, right, bottom], roll) {
  return { x: (left + right) / 2, y: (top + bottom) / 2, side: 1.425 * Math.max(right - left, bottom - top), roll };
}

function regionOfMesh(points) {
  const roll = Math.atan2(points[263][1] - points[33][1], points[263][0] - points[33][0]);
  const [cosine, sine] = [Math.cos(roll), Math.sin(roll)];
  const turned = points.map(([x, y]) => [x * cosine + y * sine, -x * sine + y * cosine]);
  const [low, high] = [Math.min, Math.max].map((pick) => [0, 1].map((i) => turned.reduce((found, point) => pick(found, point[i]), turned[0][i])));
  const [u, v] = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
  return { x: u * cosine - v * sine, y: u * sine + v * cosine, side: 1.5 * Math.max(high[0] - low[0], high[1] - low[1]), roll };
}

function regionMatrix({ x, y, side, roll }, size) {
  const scale = size / Math.max(side, 1), [a, b] = [Math.cos(roll) * scale, -Math.sin(roll) * scale];
  return [a, b, -b, a, size / 2 - a * x + b * y, size / 2 - b * x - a * y];
}

// A square crop of an image by a matrix, as RGBA.
function warp(source, [a, b, c, d, e, f], size) {
  const canvas = new OffscreenCanvas(size, size), context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "black";
  context.fillRect(0, 0, size, size);
  context.imageSmoothingQuality = "high";
  context.setTransform(a, b, c, d, e + 0.5 - (a + c) / 2, f + 0.5 - (b + d) / 2); // a canvas counts from the corner of a pixel
  context.drawImage(source, 0, 0);
  return context.getImageData(0, 0, size, size).data;
}

function rgb(data, scale, offset) {
  const values = new Float32Array(data.length / 4 * 3);
  for (let i = 0; i < values.length; i++) values[i] = data[i + Math.trunc(i / 3)] * scale + offset;
  return values;
}

// --- networks

async function run({ ort, session }, data) {
  const answer = await session.run({ [session.inputNames[0]]: new ort.Tensor("float32", data, [1, SIDE, SIDE, 3]) });
  return session.outputNames.map((name) => answer[name].data);
}

const iou = (a, b) => {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);
  return width * height / (area(a) + area(b) - width * height);
};

// Faces of an image, best first: { box, roll, score } in its pixels. Overlapping detections are averaged by their scores.
export async function detect(networks, source, width, height) {
  const scale = SIDE / Math.max(width, height), [across, along] = [width * scale, height * scale];
  const [left, top] = [(SIDE - across) / 2, (SIDE - along) / 2];
  const matrix = [scale, 0, 0, scale, left + scale / 2 - 0.5, top + scale / 2 - 0.5];
  const [offsets, logits] = await run(networks.detector, rgb(warp(source, matrix, SIDE), 1 / 127.5, -1));
  const found = [];
  logits.forEach((logit, cell) => {
    const score = 1 / (1 + Math.exp(-logit));
    if (score <= THRESHOLD) return;
    const own = [(cell % CELLS + 0.5) / CELLS * SIDE, (Math.floor(cell / CELLS) + 0.5) / CELLS * SIDE];
    const at = (i) => [0, 1].map((k) => offsets[cell * 16 + 2 * i + k] + own[k]);
    const [x, y] = at(0), [w, h] = [offsets[cell * 16 + 2] / 2, offsets[cell * 16 + 3] / 2];
    found.push({ score, values: [x - w, y - h, x + w, y + h, ...at(2), ...at(3)] });
  });
  found.sort((one, other) => other.score - one.score);
  const faces = [];
  while (found.length) {
    const group = [], best = found[0];
    for (let i = found.length - 1; i >= 0; i--) if (iou(found[i].values, best.values) > SAME_FACE) group.push(...found.splice(i, 1));
    const total = group.reduce((sum, { score }) => sum + score, 0);
    const mean = best.values.map((_, i) => group.reduce((sum, { score, values }) => sum + score * values[i], 0) / total);
    const pixels = mean.map((value, i) => (value - (i % 2 ? top : left)) / scale);
    const roll = Math.atan2(pixels[7] - pixels[5], pixels[6] - pixels[4]);
    faces.push({ box: pixels.slice(0, 4), roll, score: best.score });
  }
  return faces;
}

// The 468 mesh points of a face in image pixels, null where the region shows none.
async function mesh(networks, source, region) {
  const matrix = regionMatrix(region, SIDE);
  const [values, [logit]] = await run(networks.mesh, rgb(warp(source, matrix, SIDE), 1 / 255, 0));
  if (1 / (1 + Math.exp(-logit)) < PRESENCE) return null;
  const back = invert(matrix);
  return Array.from({ length: values.length / 3 }, (_, i) => apply(back, [values[3 * i], values[3 * i + 1]]));
}

function crop({ card }, source, points) {
  const [size, template] = TEMPLATES[card.crop.template], side = card.input.size[0], margin = card.crop.margin ?? 1;
  const five = FIVE.map((vertices) => [0, 1].map((i) => vertices.reduce((sum, vertex) => sum + points[vertex][i], 0) / vertices.length));
  const target = template.map((point) => point.map((value) => (value * side / size - side / 2) / margin + side / 2));
  const data = warp(source, similarity(five, target), side), pixels = new Uint8Array(data.length / 4 * 3);
  for (let i = 0; i < pixels.length; i++) pixels[i] = data[i + Math.trunc(i / 3)];
  return { width: side, height: side, data: pixels };
}

// All faces of an image: { box, points, scores: [[label, probability], …] }; `followed` are the meshes of the frame before.
export async function recognize(networks, source, width, height, followed = []) {
  const regions = followed.length ? followed.map(regionOfMesh) : (await detect(networks, source, width, height)).map(({ box, roll }) => regionOfBox(box, roll));
  const faces = [];
  for (const region of regions) {
    const points = await mesh(networks, source, region);
    if (!points) continue;
    const { card, session, ort } = networks.classifier;
    const answer = await session.run({ [session.inputNames[0]]: new ort.Tensor(...prepared(crop(networks.classifier, source, points), card.input)) }, [card.outputs.scores]);
    const shares = answer[card.outputs.scores].data;
    const [xs, ys] = [0, 1].map((i) => points.map((point) => point[i]));
    faces.push({ points, box: [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)], scores: card.labels.map((label, i) => [label, shares[i]]) });
  }
  return faces;
}

export async function load() {
  const ort = await import(RUNTIME);
  ort.env.wasm.numThreads = 1;
  const bytes = async (name) => {
    const answer = await fetch(name);
    if (!answer.ok) throw new Error(`${name} is missing: see README.md`);
    return new Uint8Array(await answer.arrayBuffer());
  };
  const open = async (data) => ({ ort, session: await ort.InferenceSession.create(data, { executionProviders: ["wasm"] }) });
  const classifier = await bytes("face.onnx"), card = toml(metadata(classifier)["mien.card"] ?? "");
  if (!(card.crop?.template in TEMPLATES) || card.input.dtype === "uint8") throw new Error("face.onnx must have a fer2013 or arcface112 crop and no preprocessing inside");
  return {
    detector: await open(await bytes("blazeface.onnx")), mesh: await open(await bytes("mesh468.onnx")),
    classifier: { card, ...(await open(classifier)) },
  };
}

// --- the page

const $ = (id) => document.getElementById(id);

function draw(networks, source, width, height, faces) {
  const canvas = $("canvas"), context = canvas.getContext("2d"), threshold = networks.classifier.card.calibration?.threshold ?? 0;
  canvas.hidden = false;
  [canvas.width, canvas.height] = [width, height];
  context.drawImage(source, 0, 0);
  const unit = Math.max(width, height) / 60;
  context.font = `600 ${unit}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const texts = faces.map(({ scores }) => {
    const [label, share] = scores.reduce((best, one) => (one[1] > best[1] ? one : best));
    return share >= threshold ? `${label} ${Math.round(share * 100)} %` : "uncertain";
  });
  faces.forEach(({ box: [left, top, right, bottom] }, i) => {
    for (const [line, style] of [[unit / 3, "black"], [unit / 7, "white"]]) {
      context.lineWidth = line;
      context.strokeStyle = style;
      context.strokeRect(left, top, right - left, bottom - top);
    }
    const text = `${i + 1}`, wide = context.measureText(text).width + unit * 0.8;
    context.fillStyle = "black";
    context.fillRect(left, top - unit * 1.4, wide, unit * 1.4);
    context.fillStyle = "white";
    context.fillText(text, left + unit * 0.4, top - unit * 0.7);
  });
  $("faces").replaceChildren(...texts.map((text, i) => Object.assign(document.createElement("li"), { textContent: `${i + 1}: ${text}` })));
  canvas.ariaLabel = faces.length ? texts.join("; ") : "no face found";
}

if ($("faces")) {
  let networks, running = false;
  const say = (text) => ($("status").textContent = text);

  $("image").addEventListener("change", async ({ target: { files: [file] } }) => {
    if (!file) return;
    running = false;
    try {
      const whole = await createImageBitmap(file, { colorSpaceConversion: "none" });
      const scale = Math.min(1, LARGEST / Math.max(whole.width, whole.height));
      const bitmap = scale === 1 ? whole : await createImageBitmap(whole, { resizeWidth: Math.round(whole.width * scale), resizeHeight: Math.round(whole.height * scale), resizeQuality: "high" });
      const start = performance.now(), faces = await recognize(networks, bitmap, bitmap.width, bitmap.height);
      draw(networks, bitmap, bitmap.width, bitmap.height, faces);
      say(`${faces.length === 1 ? "One face" : faces.length ? `${faces.length} faces` : "No face found"} in ${Math.round(performance.now() - start)} ms.`);
    } catch (error) {
      say(`${file.name} cannot be read: ${error.message}`);
    }
  });

  $("camera").addEventListener("click", async () => {
    const video = $("video");
    if (running) return void (running = false);
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, facingMode: "user" } });
    } catch (error) {
      return say(`The camera cannot be used: ${error.message}`);
    }
    await video.play();
    running = true;
    $("camera").textContent = "Stop the camera";
    let faces = [], time = performance.now();
    for (let frame = 0; running; frame++) {
      const bitmap = await createImageBitmap(video);
      faces = await recognize(networks, bitmap, bitmap.width, bitmap.height, frame % DETECT_EVERY ? faces.map(({ points }) => points) : []);
      draw(networks, bitmap, bitmap.width, bitmap.height, faces);
      const now = performance.now();
      say(`${faces.length === 1 ? "One face" : faces.length ? `${faces.length} faces` : "No face found"}, ${(1000 / (now - time)).toFixed(0)} frames per second.`);
      time = now;
      bitmap.close();
      await new Promise(requestAnimationFrame);
    }
    video.srcObject?.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    $("camera").textContent = "Start the camera";
  });

  try {
    networks = await load();
    $("image").disabled = $("camera").disabled = false;
    $("fine").textContent = networks.classifier.card.limits ?? "";
    say("Ready: choose an image or start the camera.");
  } catch (error) {
    say(error.message);
  }
}
