// The page: what is open, what is shown of it, and what its buttons do.

import * as api from "./api.js";
import * as downloads from "./downloads.js";
import * as inspector from "./inspector.js";
import { Camera, readVideo } from "./media.js";
import { annotated, heat, paint, percent } from "./overlay.js";
import { clock, Timeline } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const KEPT = 60; // seconds of a camera that the timeline shows
const POINTS = { points: "68" };

const items = [];
const view = { boxes: true, points: false, heat: false };
let current = null; // the item that is shown
let cards = {};
let canExplain = false;
let camera = null;

// ── saying things ──

function say(text) {
  $("status").textContent = text;
}

let hiding;
function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => ($("toast").hidden = true), 7000);
}

function summary(item) {
  const result = now(item);
  if (!result) return "";
  if (result.status === "unreadable") return `${item.name} cannot be read. ${result.message}`;
  if (!result.faces.length) return `${item.name}: no face found.`;
  const faces = result.faces.slice(0, 5).map((face, i) =>
    `Face ${i + 1}: ${face.certain ? face.label : `uncertain, nearest ${face.label}`}, ${percent(face.confidence)}.`);
  return `${item.name}: ${result.faces.length === 1 ? "one face" : `${result.faces.length} faces`}. ${faces.join(" ")}`;
}

// ── what is open ──

const kindOf = (file) => (file.type.startsWith("video/") || /\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|ogv|3gp|wmv|flv)$/i.test(file.name) ? "video" : "image");

function open(files) {
  const added = [...files].map((file) => ({
    file, kind: kindOf(file), name: file.name || "pasted image", url: URL.createObjectURL(file), results: [], state: "waiting", selected: 0, time: 0,
  }));
  if (!added.length) return;
  stopCamera();
  items.push(...added);
  choose(added[0]);
  queue.push(...added);
  work();
}

const queue = [];
let working = 0;
async function work() {
  while (queue.length && working < 3) {
    working += 1;
    read(queue.shift()).finally(() => {
      working -= 1;
      work();
    });
  }
}

async function read(item) {
  item.state = "reading";
  item.results = [];
  item.explanations = {};
  refresh(item);
  try {
    if (item.kind === "video") await readVideo(item, { ...POINTS, model: $("model").value }, () => refresh(item));
    else {
      item.results = [await api.predict(item.file, { ...POINTS, model: $("model").value })];
      item.state = "done";
    }
  } catch (error) {
    item.state = "failed";
    item.message = error.message;
    toast(`${item.name}: ${error.message}`);
  }
  item.thumb = null;
  refresh(item);
  if (item === current) say(item.kind === "video" ? videoSummary(item) : summary(item));
}

function videoSummary(item) {
  if (item.state === "failed") return `${item.name} cannot be read. ${item.message}`;
  return `${item.name}: ${item.results.length} frames read${item.canceled ? ", then canceled" : ""}.`;
}

// The result that is shown: of a video the last one at or before the present time.
function now(item) {
  if (!item || item.kind === "image") return item?.results[0];
  let low = 0, high = item.results.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((item.results[middle].time ?? 0) <= item.time + 1e-3) low = middle + 1;
    else high = middle;
  }
  return item.results[Math.max(low - 1, 0)];
}

const selected = (item, result) => {
  if (!result?.faces.length) return -1;
  if (item.kind === "image") return Math.min(item.selected, result.faces.length - 1);
  const place = result.faces.findIndex((face) => face.track === item.track);
  return place >= 0 ? place : 0;
};

// ── showing it ──

function choose(item) {
  $("video").pause();
  current = item;
  const video = $("video"), image = $("image");
  $("stage").dataset.state = item ? item.kind : "empty";
  $("welcome").hidden = Boolean(item);
  $("frame").hidden = !item;
  image.hidden = item?.kind !== "image";
  video.hidden = !item || item.kind === "image";
  video.classList.toggle("mirrored", item?.kind === "camera");
  item && (item.broken = false);
  if (item?.kind === "image") {
    image.src = item.url;
    image.alt = item.name;
  } else image.removeAttribute("src");
  if (item?.kind === "video") {
    video.src = item.url;
    video.currentTime = item.time;
  } else if (item?.kind !== "camera") video.removeAttribute("src");
  refresh(item);
  say(item ? summary(item) : "");
}

function refresh(item) {
  strip();
  document.body.classList.toggle("working", items.some((each) => ["waiting", "reading"].includes(each.state)));
  if (item !== current) return;
  $("blendshapes").hidden = !current;
  $("timeline").hidden = !current || current.kind === "image";
  $("play").hidden = current?.kind !== "video";
  $("cancel").hidden = !(current?.kind === "video" && ["waiting", "reading"].includes(current.state));
  const reading = current && ["waiting", "reading"].includes(current.state) && current.kind !== "camera";
  $("progress").hidden = !reading;
  const share = current?.kind === "video" ? current.progress : null;
  $("progress").classList.toggle("endless", share === null || share === undefined);
  $("progress").firstElementChild.style.width = `${100 * (share ?? 0.3)}%`;
  if (share === null || share === undefined) $("progress").removeAttribute("aria-valuenow");
  else $("progress").setAttribute("aria-valuenow", Math.round(100 * share));
  for (const button of document.querySelectorAll("[data-save]")) button.disabled = !current?.results.length;
  draw();
}

function draw() {
  const result = now(current);
  const frame = $("frame"), source = current?.kind === "image" ? $("image") : $("video");
  const natural = current?.kind === "image" ? [source.naturalWidth, source.naturalHeight] : [source.videoWidth, source.videoHeight];
  const size = natural[0] ? natural : result?.width ? [result.width, result.height] : [4, 3];
  frame.style.setProperty("--ratio", size[0] / size[1]);
  frame.classList.toggle("blind", Boolean(current?.broken));
  notice(result);
  const width = frame.clientWidth, height = frame.clientHeight, scale = result?.width ? width / result.width : 1;
  const place = selected(current, result), face = result?.faces[place];
  paint($("overlay"), result, { scale, width, height, mirrored: current?.kind === "camera", boxes: view.boxes, points: view.points, selected: place });
  const explanation = current?.kind === "image" ? current.explanations?.[place] : null;
  $("show-heat").hidden = !canExplain || current?.kind !== "image" || !face;
  $("heat").hidden = !(view.heat && explanation);
  if (view.heat && explanation) heat($("heat"), explanation, { scale, width, height });
  inspector.show(face, cards[$("model").value], result, place);
  inspector.regions(view.heat ? explanation : null);
  who(result, place);
  if (current && current.kind !== "image") time();
}

function notice(result) {
  let text = "";
  if (current?.state === "failed") text = current.message;
  else if (result?.status === "unreadable") text = result.message;
  else if (result?.status === "no face" && current.kind !== "camera") text = "No face found.";
  else if (current?.broken && current.kind === "video") text = "This browser cannot play this video. Its readings are below.";
  else if (current?.broken) text = "This browser cannot show this kind of image. Its reading is on the side.";
  else if (current?.kind === "video" && current.message) text = current.message;
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

// One button for each face, with the face itself on it.
function who(result, place) {
  const box = $("who"), faces = result?.faces ?? [];
  const live = current?.kind !== "image";
  box.hidden = faces.length < 2;
  while (box.children.length > faces.length) box.lastChild.remove();
  while (box.children.length < faces.length) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(Object.assign(document.createElement("canvas"), { width: 96, height: 96 }));
    button.addEventListener("click", () => pick([...box.children].indexOf(button)));
    box.append(button);
  }
  faces.forEach((face, i) => {
    const button = box.children[i];
    button.setAttribute("aria-pressed", String(i === place));
    button.setAttribute("aria-label", `Face ${live && face.track !== null ? face.track : i + 1}: ${face.certain ? face.label : "uncertain"}`);
    button.className = face.certain ? `face c-${face.label}` : "face c-uncertain";
    if (box.hidden) return;
    const mark = `${current.name} ${current.url} ${i} ${live ? Math.round(performance.now() / 500) : face.box.left}`;
    if (button.mark === mark) return;
    const source = current.kind === "image" ? $("image") : $("video"), ratio = (source.naturalWidth ?? source.videoWidth) / result.width;
    if (!ratio || current.broken) return;
    button.mark = mark;
    const { left, top, right, bottom } = face.box, side = Math.max(right - left, bottom - top) * 1.35;
    const x = (left + right - side) / 2, y = (top + bottom - side) / 2;
    const pen = button.firstChild.getContext("2d");
    pen.clearRect(0, 0, 96, 96);
    try {
      pen.drawImage(source, x * ratio, y * ratio, side * ratio, side * ratio, 0, 0, 96, 96);
    } catch { button.mark = null; } // not loaded yet
  });
}

function pick(place) {
  if (!current) return;
  current.selected = place;
  current.track = now(current)?.faces[place]?.track ?? current.track;
  draw();
  if (view.heat) explain();
  const face = now(current)?.faces[place];
  if (face) say(`Face ${place + 1}: ${face.certain ? face.label : "uncertain"}, ${percent(face.confidence)}`);
}

function strip() {
  const nav = $("strip");
  nav.hidden = items.length < 2;
  while (nav.children.length > items.length) nav.lastChild.remove();
  items.forEach((item, i) => {
    let button = nav.children[i];
    if (!button) {
      button = document.createElement("button");
      button.type = "button";
      button.innerHTML = '<span class="thumb"></span><i aria-hidden="true"></i><span class="name"></span>';
      button.addEventListener("click", () => choose(items[i]));
      nav.append(button);
    }
    const result = item.results[0], face = result?.faces[0];
    const fate = item.state === "failed" || result?.status === "unreadable" ? "cannot be read"
      : item.state !== "done" ? "being read" : item.kind === "video" ? `${item.results.length} frames`
        : !result?.faces.length ? "no face" : result.faces.length > 1 ? `${result.faces.length} faces` : face.certain ? face.label : "uncertain";
    button.setAttribute("aria-current", String(item === current));
    button.setAttribute("aria-label", `${item.name}: ${fate}`);
    button.title = item.name;
    button.dataset.fate = fate;
    button.lastChild.textContent = fate;
    button.children[1].className = face && item.state === "done" ? (face.certain ? `c-${face.label}` : "c-uncertain") : "c-none";
    const thumb = button.firstChild;
    if (item.kind === "image" && thumb.dataset.url !== item.url) {
      thumb.dataset.url = item.url;
      thumb.replaceChildren(Object.assign(document.createElement("img"), { src: item.url, alt: "" }));
    } else if (item.kind !== "image") {
      thumb.dataset.url = "";
      thumb.textContent = item.kind === "video" ? "▶" : "●";
    }
  });
}

// ── time ──

const timeline = new Timeline($("track"), (to) => {
  if (current?.kind !== "video") return;
  current.time = to;
  if (!current.broken) $("video").currentTime = to;
  draw();
});

function time() {
  const result = now(current), place = selected(current, result);
  if (place >= 0 && current.track === undefined) current.track = result.faces[place].track;
  const samples = current.results.map((each) => ({
    time: each.time ?? 0, face: each.faces.find((face) => face.track === current.track) ?? each.faces[0] ?? null,
  }));
  const last = samples.at(-1)?.time ?? 0;
  const live = current.kind === "camera";
  const length = live ? last : Math.max(last, Number.isFinite($("video").duration) ? $("video").duration : 0);
  timeline.set(samples, live ? Math.max(0, last - KEPT) : 0, live ? Math.max(last, 10) : length, live ? last : current.time, cards[$("model").value]?.labels);
  $("clock").textContent = clock(live ? last : current.time);
}

function tick() {
  const video = $("video");
  if (current?.kind === "video" && !video.paused) {
    current.time = video.currentTime;
    draw();
  }
  requestAnimationFrame(tick);
}

$("play").addEventListener("click", () => ($("video").paused ? $("video").play().catch(() => {}) : $("video").pause()));
for (const event of ["play", "pause", "ended"]) $("video").addEventListener(event, () => {
  const playing = !$("video").paused;
  $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
  $("play").querySelector("use").setAttribute("href", `icons.svg#${playing ? "pause" : "play"}`);
});

// ── the camera ──

async function toggleCamera() {
  if (camera) return stopCamera();
  const item = { kind: "camera", name: "Camera", url: "camera", results: [], state: "done", selected: 0, time: 0 };
  camera = new Camera($("video"));
  choose(item);
  $("live-text").textContent = `Live. Frames go to ${location.host} only and are not kept.`;
  try {
    await camera.start({ ...POINTS, model: $("model").value }, {
      onresult: (result) => {
        item.results.push(result);
        while (result.time - item.results[0].time > KEPT) item.results.shift();
        item.time = result.time;
        if (item.results.length === 1) refresh(item);
        else if (current === item) draw();
      },
      onend: (reason) => {
        toast(reason ? `The stream ended: ${reason}` : "The server ended the stream.");
        stopCamera();
      },
    });
    $("camera").setAttribute("aria-pressed", "true");
    $("camera-name").textContent = "Stop";
    $("live").hidden = false;
    say("The camera is on.");
    refresh(item);
  } catch (error) {
    toast(error.message);
    stopCamera();
  }
}

function stopCamera() {
  if (!camera) return;
  camera.stop();
  camera = null;
  $("live").hidden = true;
  $("camera").setAttribute("aria-pressed", "false");
  $("camera-name").textContent = "Camera";
  say("The camera is off.");
  if (current?.kind === "camera") choose(items.at(-1) ?? null);
}

// ── why ──

async function explain() {
  const item = current, result = now(item), place = selected(item, result);
  if (place < 0 || item.kind !== "image" || item.explanations[place]) return draw();
  document.body.classList.add("working");
  try {
    item.explanations[place] = await api.explain(item.file, { model: $("model").value, face: place });
  } catch (error) {
    toast(error.message);
  }
  document.body.classList.remove("working");
  if (item === current) draw();
}

// ── buttons ──

const DEEDS = {
  choose: () => $("files").click(),
  camera: toggleCamera,
  sample: async () => {
    const blob = await (await fetch("/sample.png")).blob();
    open([new File([blob], "sample.png", { type: "image/png" })]);
  },
  about: () => {
    inspector.card(cards[$("model").value]);
    $("card").showModal();
  },
};
for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => DEEDS[button.dataset.do]());
$("about").addEventListener("click", DEEDS.about);
$("card").addEventListener("click", (event) => event.target === $("card") && $("card").close());
$("cancel").addEventListener("click", () => current?.job && api.endJob(current.job).catch((error) => toast(error.message)));
$("files").addEventListener("change", () => {
  open($("files").files);
  $("files").value = "";
});
$("overlay").addEventListener("click", (event) => {
  const face = event.target.closest("[data-face]");
  if (face) pick(Number(face.dataset.face));
});
for (const [id, name] of [["show-boxes", "boxes"], ["show-points", "points"], ["show-heat", "heat"]]) $(id).addEventListener("click", () => {
  view[name] = !view[name];
  $(id).setAttribute("aria-pressed", String(view[name]));
  if (name === "heat" && view.heat) explain();
  else draw();
});
for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", async () => {
  const results = current.results, name = downloads.stem(current.name), labels = cards[$("model").value].labels;
  const kind = button.dataset.save;
  if (kind === "csv") downloads.save(downloads.csv(results, labels), `${name}.csv`);
  else if (kind === "json") current.kind === "image" ? downloads.save(downloads.json(results), `${name}.json`) : downloads.save(downloads.jsonLines(results), `${name}.jsonl`);
  else {
    const source = current.kind === "image" ? $("image") : $("video");
    downloads.save(await annotated(source, now(current)), `${name}-read.png`);
  }
});
$("model").addEventListener("change", () => {
  for (const item of items) if (!queue.includes(item)) {
    if (item.job) api.endJob(item.job).catch(() => {});
    item.state = "waiting";
    queue.push(item);
  }
  if (camera) {
    stopCamera();
    toggleCamera();
  }
  work();
});

// ── dropping, pasting, sizes ──

let depth = 0;
const carries = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => carries(event) && (event.preventDefault(), (depth += 1), document.body.classList.add("dropping")));
addEventListener("dragleave", () => (depth = Math.max(depth - 1, 0)) || document.body.classList.remove("dropping"));
addEventListener("dragover", (event) => carries(event) && event.preventDefault());
addEventListener("drop", (event) => {
  depth = 0;
  document.body.classList.remove("dropping");
  if (!carries(event)) return;
  event.preventDefault();
  open(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) open(files);
});
new ResizeObserver(() => current && draw()).observe($("frame"));
for (const [element, loaded] of [[$("image"), "load"], [$("video"), "loadeddata"]]) {
  element.addEventListener(loaded, () => current && draw());
  element.addEventListener("error", () => {
    if (!current || current.kind === "camera" || !element.getAttribute("src")) return;
    current.broken = true;
    draw();
  });
}
$("video").addEventListener("seeked", () => current && draw());

// ── theme ──

const THEMES = ["auto", "light", "dark"], SPOKEN = { auto: "as the system", light: "light", dark: "dark" };
function theme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("mien-theme", name);
  $("theme-name").textContent = `Theme: ${SPOKEN[name]}`;
  $("theme").title = `Theme: ${SPOKEN[name]}`;
  if (current) draw();
}
$("theme").addEventListener("click", () => theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % 3]));
theme(THEMES.includes(localStorage.getItem("mien-theme")) ? localStorage.getItem("mien-theme") : "auto");
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => current && draw());

// ── begin ──

refresh(null);
const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
$("where").textContent = local ? "on this machine" : `on ${location.host}`;
$("promise").textContent = local
  ? `Images and frames go to ${location.host}, which is this machine, and nowhere else. Nothing is kept.`
  : `Images and frames go to ${location.host} and nowhere else. Nothing is kept.`;
inspector.bars(document.querySelector(".ghost"), [0.92, 0.3, 0.55, 0.18, 0.4, 0.12, 0.24].map((share) => ({ name: "", share, text: "" })));

try {
  const told = await api.models();
  cards = Object.fromEntries(told.models.map((model) => [model.name, model]));
  canExplain = told.explain;
  $("model").replaceChildren(...told.models.map((model) => new Option(model.name, model.name, model.name === told.default, model.name === told.default)));
} catch (error) {
  toast(error.message);
}
tick();
document.body.dataset.ready = "true";
