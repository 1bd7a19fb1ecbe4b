// The page: open files, the one that is shown, and the buttons.

import * as api from "./api.js";
import { $, lastAt, make, resize } from "./dom.js";
import * as downloads from "./downloads.js";
import * as inspector from "./inspector.js";
import { Camera, predictVideo, Recording, thumbnail } from "./media.js";
import * as overview from "./overview.js";
import { annotated, heat, number, paint, percent } from "./overlay.js";
import { clock, Timeline } from "./timeline.js";
import { Zoom } from "./zoom.js";

const POINTS = { points: "68" };
const ACTIVE = ["waiting", "running"];

const items = [];
const view = { boxes: true, points: false, axes: false, heat: false, measures: true };
let current = null; // the item that is shown
let cards = {};
let limits = {};
let columns = {}; // model → columns of a table of its results
let canExplain = false;
let camera = null;

// ── messages ──

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

const reason = (item) => (item.state === "failed" ? item.message : item.kind === "image" && item.results[0]?.status === "unreadable" ? item.results[0].message : "");

function summary(item) {
  if (reason(item)) return `${item.name} cannot be read. ${reason(item)}`;
  if (item.kind !== "image") return `${item.name}: ${item.results.length} frames${item.canceled ? ", then canceled" : ""}.`;
  const result = now(item);
  if (!result) return "";
  if (!result.faces.length) return `${item.name}: no face found.`;
  const faces = result.faces.slice(0, 5).map((face, i) =>
    `Face ${i + 1}: ${face.certain ? face.label : `uncertain, nearest ${face.label}`}, ${percent(face.confidence)}.`);
  return `${item.name}: ${result.faces.length === 1 ? "one face" : `${result.faces.length} faces`}. ${faces.join(" ")}`;
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;

// ── open files ──

const kindOf = (file) => (file.type.startsWith("video/") || /\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|ogv|3gp|wmv|flv)$/i.test(file.name) ? "video" : "image");

function open(files) {
  const added = [...files].map((file) => {
    const kind = kindOf(file), limit = limits[`${kind}_bytes`];
    const item = { file, kind, name: file.name || "pasted image", url: URL.createObjectURL(file), results: [], explanations: {}, state: "waiting", selected: 0, time: 0 };
    if (file.size > limit) Object.assign(item, { state: "failed", message: `It has ${megabytes(file.size)}; this server accepts at most ${megabytes(limit)}. It was not sent.` });
    if (kind === "video") thumbnail(item.url).then((url) => { item.thumb = url; strip(); });
    return item;
  });
  if (!added.length) return;
  stopCamera();
  items.push(...added);
  choose(added[0]);
  queue.push(...added.filter((item) => item.state === "waiting"));
  work();
}

function remove(item) {
  if (item.job) api.endJob(item.job).catch(() => {});
  if (item.kind !== "recording") URL.revokeObjectURL(item.url);
  const place = items.indexOf(item);
  items.splice(place, 1);
  if (queue.includes(item)) queue.splice(queue.indexOf(item), 1);
  item.removed = true;
  if (item === current) choose(items[Math.min(place, items.length - 1)] ?? null);
  else strip();
  say(`${item.name} removed.`);
}

const queue = [];
let working = 0;
async function work() {
  while (queue.length && working < 3) {
    working += 1;
    predict(queue.shift()).finally(() => {
      working -= 1;
      work();
    });
  }
}

async function predict(item) {
  Object.assign(item, { state: "running", results: [], explanations: {}, canceled: false, progress: undefined, seen: null });
  refresh(item);
  const options = { ...POINTS, model: $("model").value };
  try {
    if (item.kind === "video") await predictVideo(item, options, () => refresh(item));
    else {
      item.results = [await api.predict(item.file, options)];
      item.state = "done";
    }
  } catch (error) {
    item.state = "failed";
    item.message = error.message;
  }
  if (item.removed) return;
  refresh(item);
  if (item !== current) return;
  say(summary(item));
  if (view.heat) explain();
}

// The result that is shown: of a video the last one at or before the current time.
function now(item) {
  if (!item || item.kind === "image") return item?.results[0];
  return lastAt(item.results, item.time) ?? item.results[0];
}

const selected = (item, result) => {
  if (!result?.faces.length) return -1;
  if (item.kind === "image") return Math.min(item.selected, result.faces.length - 1);
  const place = result.faces.findIndex((face) => face.track === item.track);
  return place >= 0 ? place : 0;
};

// ── the item that is shown ──

function choose(item) {
  $("video").pause();
  current = item;
  const video = $("video"), image = $("image");
  $("stage").dataset.state = item ? item.kind : "empty";
  $("welcome").hidden = Boolean(item);
  image.hidden = !["image", "recording"].includes(item?.kind);
  video.hidden = !["video", "camera"].includes(item?.kind);
  video.classList.toggle("mirrored", item?.kind === "camera");
  image.classList.toggle("mirrored", item?.kind === "recording");
  item && (item.broken = false);
  if (item?.kind === "image") {
    image.src = item.url;
    image.alt = item.name;
  } else image.removeAttribute("src");
  if (item?.kind === "video") {
    video.src = item.url;
    video.currentTime = item.time;
  } else if (item?.kind !== "camera") video.removeAttribute("src");
  zoom.enabled = Boolean(item) && item.kind !== "camera";
  zoom.reset();
  if (item?.kind === "recording") still(item);
  refresh(item);
  say(item ? summary(item) : "");
  if (view.heat) explain();
}

// The element that shows the current item.
const shown = () => (["image", "recording"].includes(current?.kind) ? $("image") : $("video"));

function refresh(item) {
  strip();
  document.body.classList.toggle("working", items.some((each) => ACTIVE.includes(each.state)));
  if (item !== current) return;
  const video = current?.kind === "video", active = ACTIVE.includes(current?.state), failed = Boolean(current && reason(current));
  $("tools").hidden = !current;
  $("unreadable").hidden = !failed;
  $("frame").hidden = !current || failed;
  $("views").hidden = failed;
  $("zoom").hidden = !current || failed || current.kind === "camera";
  if (failed) {
    $("unreadable-name").textContent = current.name;
    $("unreadable-reason").textContent = reason(current);
  }
  $("timeline").hidden = !current || current.kind === "image" || failed;
  $("show-measures").hidden = $("timeline").hidden;
  $("play").hidden = !video;
  $("cancel").hidden = !(video && active);
  $("progress").hidden = !(active && current.kind !== "camera");
  const share = video ? current.progress : null;
  $("progress").classList.toggle("endless", share === null || share === undefined);
  $("progress").firstElementChild.style.width = `${100 * (share ?? 0.3)}%`;
  if (share === null || share === undefined) $("progress").removeAttribute("aria-valuenow");
  else $("progress").setAttribute("aria-valuenow", Math.round(100 * share));
  for (const button of document.querySelectorAll("[data-save]")) button.disabled = !current?.results.length || failed;
  draw();
}

function draw() {
  const result = now(current);
  const frame = $("frame"), source = shown();
  const natural = [source.naturalWidth ?? source.videoWidth, source.naturalHeight ?? source.videoHeight];
  const size = natural[0] ? natural : result?.width ? [result.width, result.height] : [4, 3];
  $("stage").style.setProperty("--ratio", size[0] / size[1]);
  frame.classList.toggle("blind", Boolean(current?.broken));
  notice(result);
  const width = frame.clientWidth, height = frame.clientHeight, scale = result?.width ? width / result.width : 1;
  const place = selected(current, result), face = result?.faces[place];
  const mirrored = ["camera", "recording"].includes(current?.kind);
  paint($("overlay"), width ? result : null, { scale, width, height, mirrored, ...view, selected: place });
  const explanation = current?.kind === "image" ? current.explanations[place] : null;
  $("show-heat").hidden = !canExplain || current?.kind !== "image" || !face;
  $("heat").hidden = !(view.heat && explanation);
  if (view.heat && explanation) heat($("heat"), explanation, { scale, width, height });
  inspector.show(face, cards[$("model").value], result, place, current);
  inspector.regions(view.heat ? explanation : null);
  who(result, place);
  if (current && current.kind !== "image") time();
}

function notice(result) {
  let text = "";
  if (!current || reason(current)) text = "";
  else if (result?.status === "no face" && current.kind !== "camera") text = current.kind === "image" ? "No face found in this image." : "No face found in this frame.";
  else if (current.broken && current.kind === "video") text = "This browser cannot play this video. Its results are below.";
  else if (current.broken) text = "This browser cannot show this kind of image. Its result is on the side.";
  else if (current.canceled) text = `Canceled after ${current.results.length} frames.`;
  else if (current.kind === "video" && current.message) text = current.message;
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

// One button for each face: its crop, its number on the image, its label.
function who(result, place) {
  const box = $("who"), faces = result?.faces ?? [];
  const live = current?.kind !== "image";
  box.hidden = faces.length < 2;
  const buttons = resize(box, faces.length, () => make("button", { type: "button", onclick: (event) => pick([...box.children].indexOf(event.currentTarget)) },
    make("canvas", { width: 96, height: 96 }), make("b"), make("span")));
  faces.forEach((face, i) => {
    const button = buttons[i], label = face.certain ? face.label : "uncertain";
    button.setAttribute("aria-pressed", String(i === place));
    button.setAttribute("aria-label", `Face ${number(face, i)}: ${label}`);
    button.className = face.certain ? `face c-${face.label}` : "face c-uncertain";
    button.children[1].textContent = number(face, i);
    button.children[2].textContent = label;
    if (box.hidden) return;
    const mark = `${current.name} ${current.url} ${i} ${live ? Math.round(performance.now() / 500) : face.box.left}`;
    if (button.mark === mark) return;
    button.mark = mark;
    const source = shown(), { left, top, right, bottom } = face.box;
    const ratio = (source.naturalWidth || source.videoWidth) / result.width;
    const side = Math.max(right - left, bottom - top) * 1.15;
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
  $("who").children[place]?.scrollIntoView({ block: "nearest" });
  const face = now(current)?.faces[place];
  if (face) say(`Face ${number(face, place)}: ${face.certain ? face.label : "uncertain"}, ${percent(face.confidence)}`);
}

function fate(item) {
  const result = item.results[0], face = result?.faces[0];
  if (reason(item)) return "cannot be read";
  if (item.canceled) return "canceled";
  if (item.state !== "done") return "processing";
  if (item.kind !== "image") return `${item.results.length} frames`;
  if (!face) return "no face";
  return result.faces.length > 1 ? `${result.faces.length} faces` : face.certain ? face.label : "uncertain";
}

const TILE = '<button type="button" class="tile"><span class="thumb"></span><i aria-hidden="true"></i><b class="name"></b><span class="fate"></span></button>'
  + '<button type="button" class="remove" title="Remove"><svg aria-hidden="true"><use href="icons.svg#close"/></svg></button>';

function strip() {
  const nav = $("strip");
  nav.hidden = items.length < 1;
  const tiles = resize(nav, items.length, () => {
    const tile = make("div", { innerHTML: TILE }), item = () => items[[...nav.children].indexOf(tile)];
    tile.firstChild.addEventListener("click", () => choose(item()));
    tile.lastChild.addEventListener("click", () => remove(item()));
    return tile;
  });
  items.forEach((item, i) => {
    const [button, cross] = tiles[i].children, [thumb, mark, name, state] = button.children;
    const result = item.results[0], face = result?.faces[0];
    button.setAttribute("aria-current", String(item === current));
    button.setAttribute("aria-label", `${item.name}: ${fate(item)}`);
    cross.setAttribute("aria-label", `Remove ${item.name}`);
    button.title = item.name;
    name.textContent = item.name;
    state.textContent = fate(item);
    button.classList.toggle("bad", Boolean(reason(item)));
    mark.className = face && item.state === "done" && item.kind === "image" ? (face.certain ? `c-${face.label}` : "c-uncertain") : "c-none";
    const url = reason(item) ? "" : item.kind === "image" ? item.url : item.thumb ?? "";
    const key = `${url} ${item.kind} ${reason(item)}`;
    if (thumb.dataset.key === key) return;
    thumb.dataset.key = key;
    const icon = reason(item) ? "broken" : { image: "image", video: "play", camera: "camera", recording: "camera" }[item.kind];
    thumb.innerHTML = `<svg aria-hidden="true"><use href="icons.svg#${icon}"/></svg>`;
    if (!url) return;
    // The icon stays for kinds of images that the browser does not know.
    thumb.append(make("img", { alt: "", src: url, onerror: (event) => event.target.remove() }));
  });
  overview.show(items.filter((item) => item.kind !== "camera"), choose);
}

// ── time ──

const timeline = new Timeline($("track"), (to) => {
  if (!["video", "recording"].includes(current?.kind)) return;
  current.time = to;
  if (current.kind === "recording") still(current);
  else if (!current.broken) $("video").currentTime = to;
  draw();
});

function time() {
  const result = now(current), place = selected(current, result);
  if (place >= 0 && current.track === undefined) current.track = result.faces[place].track;
  const last = current.results.at(-1)?.time ?? 0, live = current.kind === "camera", seen = `${current.results.length} ${last} ${current.track}`;
  if (current.seen !== seen) Object.assign(current, { seen, samples: current.results.map((each) => ({
    time: each.time ?? 0, face: each.faces.find((face) => face.track === current.track) ?? each.faces[0] ?? null,
  })) });
  const length = current.kind === "video" ? Math.max(last, Number.isFinite($("video").duration) ? $("video").duration : 0) : last;
  const samples = live ? current.samples.filter(({ time }) => time > last - 60) : current.samples;
  timeline.set(samples, live ? Math.max(0, last - 60) : 0, live ? Math.max(last, 10) : length, live ? last : current.time, cards[$("model").value]?.labels, view.measures);
  $("clock").textContent = clock(live ? last : current.time);
}

// The stored frame of a recording at its current time.
function still(item) {
  const blob = item.recording.at(item.time);
  if (!blob || item.shown === blob) return item.url && item === current && !$("image").getAttribute("src") && ($("image").src = item.url);
  if (item.url) URL.revokeObjectURL(item.url);
  item.shown = blob;
  item.url = URL.createObjectURL(blob);
  if (item === current) $("image").src = item.url;
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

// ── camera ──

async function toggleCamera() {
  if (camera) return stopCamera();
  const recording = new Recording();
  const item = { kind: "camera", name: "Camera", url: "", results: recording.results, recording, explanations: {}, state: "done", selected: 0, time: 0 };
  camera = new Camera($("video"));
  choose(item);
  $("live-text").textContent = `Live. Frames go to ${location.host} only, which does not keep them.`;
  try {
    await camera.start({ ...POINTS, model: $("model").value }, {
      onresult: (result, blob) => {
        recording.add(result, blob);
        item.results = recording.results;
        item.time = result.time;
        if (item.results.length === 1) refresh(item);
        else if (current === item) draw();
      },
      onend: (why) => {
        toast(why ? `The stream ended: ${why}` : "The server ended the stream.");
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

// Ends the camera; its recording becomes an item.
function stopCamera() {
  if (!camera) return;
  camera.stop();
  camera = null;
  $("live").hidden = true;
  $("camera").setAttribute("aria-pressed", "false");
  $("camera-name").textContent = "Camera";
  say("The camera is off.");
  const item = current;
  if (item?.kind !== "camera") return;
  if (!item.results.length) return choose(items.at(-1) ?? null);
  const count = items.filter((each) => each.kind === "recording").length + 1;
  const start = item.results[0].time;
  item.results.forEach((result) => (result.source = `recording ${count}`));
  Object.assign(item, { kind: "recording", name: `Recording ${count}`, url: "", time: start });
  items.push(item);
  choose(item);
  const first = item.recording.at(start);
  if (first) item.thumb = URL.createObjectURL(first);
  strip();
}

// ── explanations ──

async function explain() {
  const item = current, result = now(item), place = selected(item, result), model = $("model").value;
  if (place < 0 || item.kind !== "image" || item.state !== "done" || item.explanations[place]) return current && draw();
  const known = item.explanations;
  $("explaining").hidden = false;
  document.body.classList.add("working");
  try {
    known[place] = await api.explain(item.file, { model, face: place });
  } catch (error) {
    toast(error.message);
  }
  $("explaining").hidden = true;
  document.body.classList.toggle("working", items.some((each) => ACTIVE.includes(each.state)));
  if (item === current) draw(); // a prediction of another model has replaced item.explanations, and this one is not shown
}

// ── buttons ──

const ACTIONS = {
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
  clear: () => {
    stopCamera();
    for (const item of [...items]) remove(item);
  },
  "all-csv": () => downloads.save(downloads.csv(items.flatMap((item) => item.results), columns[$("model").value]), "mien.csv"),
  "all-jsonl": () => downloads.save(downloads.jsonLines(items.flatMap((item) => item.results)), "mien.jsonl"),
  "zoom-in": () => zoom.by(1.6),
  "zoom-out": () => zoom.by(1 / 1.6),
  "zoom-fit": () => zoom.by(0),
};
for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => ACTIONS[button.dataset.do]());
$("about").addEventListener("click", ACTIONS.about);
$("card").addEventListener("click", (event) => event.target === $("card") && $("card").close());
$("cancel").addEventListener("click", () => current?.job && api.endJob(current.job).catch((error) => toast(error.message)));
$("unreadable-remove").addEventListener("click", () => remove(current));
$("files").addEventListener("change", () => {
  open($("files").files);
  $("files").value = "";
});
$("overlay").addEventListener("click", (event) => {
  const face = event.target.closest("[data-face]");
  if (face) pick(Number(face.dataset.face));
});
for (const name of Object.keys(view)) $(`show-${name}`).addEventListener("click", () => {
  view[name] = !view[name];
  $(`show-${name}`).setAttribute("aria-pressed", String(view[name]));
  if (name === "heat" && view.heat) explain();
  else draw();
});
for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", async () => {
  const results = current.results, name = downloads.stem(current.name);
  const kind = button.dataset.save;
  if (kind === "csv") downloads.save(downloads.csv(results, columns[$("model").value]), `${name}.csv`);
  else if (kind === "json") current.kind === "image" ? downloads.save(downloads.json(results), `${name}.json`) : downloads.save(downloads.jsonLines(results), `${name}.jsonl`);
  else downloads.save(await annotated(shown(), now(current), view), `${name}-annotated.png`);
});
$("model").addEventListener("change", () => {
  for (const item of items) if (item.file && !queue.includes(item) && !item.message?.includes("not sent")) {
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

// ── drop, paste, sizes ──

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
const zoom = new Zoom($("stage"), $("frame"), () => current && draw());
new ResizeObserver(() => current && draw()).observe($("frame"));
for (const [element, loaded] of [[$("image"), "load"], [$("video"), "loadeddata"]]) {
  element.addEventListener(loaded, () => current && draw());
  element.addEventListener("error", () => {
    if (!current || current.kind === "camera" || !element.getAttribute("src")) return;
    current.broken = true;
    draw();
  });
}
$("video").addEventListener("seeked", () => {
  if (current?.kind !== "video" || $("video").seeking) return;
  current.time = $("video").currentTime;
  draw();
});

// ── theme ──

const THEMES = ["auto", "light", "dark"], SPOKEN = { auto: "system", light: "light", dark: "dark" };
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

// ── start ──

refresh(null);
const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
$("where").textContent = local ? "on this machine" : `on ${location.host}`;
$("promise").textContent = local
  ? `Images and frames go to ${location.host}, which is this machine, and nowhere else. Nothing is kept.`
  : `Images and frames go to ${location.host} and nowhere else. Nothing is kept.`;
inspector.bars(document.querySelector(".ghost"), [0.92, 0.3, 0.55, 0.18, 0.4, 0.12, 0.24].map((share) => ({ name: "", share, text: "" })));

try {
  const found = await api.models();
  cards = Object.fromEntries(found.models.map((model) => [model.name, model]));
  canExplain = found.explain;
  limits = found.limits;
  columns = found.columns;
  $("model").replaceChildren(...found.models.map((model) => new Option(model.name, model.name, model.name === found.default, model.name === found.default)));
} catch (error) {
  toast(error.message);
}
tick();
document.body.dataset.ready = "true";
