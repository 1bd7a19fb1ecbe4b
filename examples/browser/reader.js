// Inference on one face crop with a file written by `mien export`: the embedded card describes its input.

const RUNTIME = "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
const NETWORK = "face.onnx";
const LARGEST = 1024; // pixels on a side; larger images are shrunk by the browser first
const SMALLEST = 8; // pixels on a side of a square that is marked; less is a click

import { metadata, prepared, toml } from "./network.js";

export { metadata, prepared, resized, toml } from "./network.js";

// A square of an image as RGB, transparent parts laid over white.
function cut(bitmap, { left, top, width, height }) {
  const shrunk = Math.min(1, LARGEST / Math.max(width, height));
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(width * shrunk)), Math.max(1, Math.round(height * shrunk)));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, left, top, width, height, 0, 0, canvas.width, canvas.height);
  const { width: across, height: along, data: opaque } = context.getImageData(0, 0, canvas.width, canvas.height);
  const data = new Uint8Array(across * along * 3);
  for (let i = 0; i < data.length; i++) data[i] = opaque[i + Math.trunc(i / 3)];
  return { width: across, height: along, data };
}

// --- the network

async function opened(bytes) {
  const text = metadata(bytes)["mien.card"];
  if (text === undefined) throw new Error("this file has no card: write it with mien export");
  const card = toml(text);
  if (!card.input || !card.outputs?.scores) throw new Error(`${card.name} is not an expression classifier`);
  const ort = await import(RUNTIME).catch(() => { throw new Error("onnxruntime-web is missing: npm install"); });
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  if (session.inputNames.length > 1) throw new Error(`${card.name} also takes ${session.inputNames.slice(1).join(", ")}: not in this page`);
  return { card, ort, session };
}

async function scores({ card, ort, session }, pixels) {
  const answer = await session.run({ [session.inputNames[0]]: new ort.Tensor(...prepared(pixels, card.input)) }, [card.outputs.scores]);
  const shares = answer[card.outputs.scores].data;
  return card.labels.map((label, i) => [label, shares[i]]);
}

// --- the page

const $ = (id) => document.getElementById(id);
const canvas = $("canvas");
let network, bitmap, square, queue = Promise.resolve();

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").toggleAttribute("data-wrong", wrong);
}

// One after another: a session runs once at a time.
const inTurn = (job) => (queue = queue.then(job).catch((error) => say(error.message, true)));

function paint() {
  const { width, height } = bitmap, scale = canvas.width / width, context = canvas.getContext("2d");
  canvas.ariaLabel = `The image; ${square.width} × ${square.height} pixels at ${square.left}, ${square.top} are the input`;
  context.imageSmoothingEnabled = scale < 1;
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  if (square.width === width && square.height === height) return;
  const box = [square.left, square.top, square.width, square.height].map((each) => each * scale);
  for (const [line, style] of [[6, "black"], [2, "white"]]) {
    context.lineWidth = line;
    context.strokeStyle = style;
    context.strokeRect(...box);
  }
}

async function read() {
  const start = performance.now(), found = await scores(network, cut(bitmap, square)), took = performance.now() - start;
  found.sort((one, other) => other[1] - one[1]);
  const [[label, share]] = found, { calibration, limits = "" } = network.card;
  $("label").textContent = share >= (calibration?.threshold ?? 0) ? label : `Uncertain; nearest is ${label}`;
  $("scores").replaceChildren(...found.map(([name, value]) => {
    const row = document.createElement("li"), meter = document.createElement("meter");
    const [left, right] = [name, `${Math.round(value * 100)} %`].map((text) => Object.assign(document.createElement("span"), { textContent: text }));
    meter.value = value;
    meter.setAttribute("aria-label", name);
    row.append(left, meter, right);
    return row;
  }));
  $("fine").textContent = limits;
  $("reading").hidden = false;
  say(`${network.card.name}: ${square.width} × ${square.height} pixels in ${took.toFixed(0)} ms.`);
}

const whole = () => ({ left: 0, top: 0, width: bitmap.width, height: bitmap.height });

async function show(file) {
  bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => { throw new Error(`${file.name} is not an image that this browser reads`); });
  square = whole();
  const scale = Math.min(800 / Math.max(bitmap.width, bitmap.height), 8);
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  paint();
  await read();
}

async function use(bytes) {
  say("Loading the network …");
  const before = network;
  network = await opened(new Uint8Array(bytes));
  await before?.session.release();
  $("image").disabled = false;
  say(`${network.card.name} is open. Choose an image.`);
  if (bitmap) await read();
}

$("network").addEventListener("change", ({ target: { files: [file] } }) => file && inTurn(async () => use(await file.arrayBuffer())));
$("image").addEventListener("change", ({ target: { files: [file] } }) => file && inTurn(() => show(file)));
$("whole").addEventListener("click", () => inTurn(async () => { square = whole(); paint(); await read(); }));

canvas.addEventListener("pointerdown", (down) => {
  const box = canvas.getBoundingClientRect(), scale = bitmap.width / box.width;
  const within = (value, most) => Math.min(Math.max(Math.round(value * scale), 0), most);
  const place = (event) => [within(event.clientX - box.left, bitmap.width), within(event.clientY - box.top, bitmap.height)];
  const [x, y] = place(down), before = square;
  canvas.setPointerCapture(down.pointerId);
  const move = (event) => {
    const [across, along] = place(event), left = across < x, above = along < y;
    const room = Math.min(left ? x : bitmap.width - x, above ? y : bitmap.height - y);
    const side = Math.min(Math.max(Math.abs(across - x), Math.abs(along - y)), room);
    square = side < SMALLEST ? before : { left: left ? x - side : x, top: above ? y - side : y, width: side, height: side };
    paint();
  };
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("lostpointercapture", () => {
    canvas.removeEventListener("pointermove", move);
    if (square !== before) inTurn(read);
  }, { once: true });
});

inTurn(async () => {
  const answer = await fetch(NETWORK);
  if (!answer.ok) return say(`${NETWORK} is missing beside this page: choose a network.`);
  await use(await answer.arrayBuffer());
});
