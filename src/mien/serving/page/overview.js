// All files at a glance: the share of each expression, and a table that sorts by any column.

import { percent } from "./overlay.js";

const $ = (id) => document.getElementById(id);
const COLUMNS = [["name", "File"], ["state", "State"], ["faces", "Faces"], ["label", "Expression"], ["confidence", "Probability"]];
let sorted = { by: null, down: false };

export const SPOKEN = { failed: "cannot be read", canceled: "canceled", waiting: "waiting", running: "processing", done: "done" };

// The faces of an item: of an image all, of a video or recording those of every frame.
const faces = (item) => item.results.flatMap((result) => result.faces);

// The most frequent label of certain faces; of a single face its own.
function row(item) {
  const all = faces(item), state = item.state === "done" && item.results[0]?.status === "unreadable" && item.results.length === 1 ? "failed" : item.canceled ? "canceled" : item.state;
  const counts = {};
  for (const face of all) counts[face.certain ? face.label : "uncertain"] = (counts[face.certain ? face.label : "uncertain"] ?? 0) + 1;
  const [label, count] = Object.entries(counts).sort((a, b) => b[1] - a[1])[0] ?? ["", 0];
  const confidence = all.length === 1 ? all[0].confidence : null;
  const several = item.kind === "image" ? all.length : new Set(all.map((face) => face.track)).size;
  return { item, name: item.name, state: SPOKEN[state], faces: several, label, confidence, share: all.length > 1 ? count / all.length : null };
}

export function show(items, pick) {
  $("overview").hidden = items.length < 2;
  if (items.length < 2) return;
  const rows = items.map(row);
  chart(items);
  const { by, down } = sorted;
  if (by) rows.sort((a, b) => (a[by] === b[by] ? 0 : (a[by] ?? "") > (b[by] ?? "") ? 1 : -1) * (down ? -1 : 1));
  const head = document.createElement("tr");
  for (const [key, text] of COLUMNS) {
    const cell = document.createElement("th"), button = Object.assign(document.createElement("button"), { type: "button", className: "link", textContent: text });
    cell.setAttribute("aria-sort", by === key ? (down ? "descending" : "ascending") : "none");
    cell.className = ["faces", "confidence"].includes(key) ? "right" : "";
    button.addEventListener("click", () => {
      sorted = { by: key, down: by === key && !down };
      show(items, pick);
    });
    cell.append(button);
    head.append(cell);
  }
  const [thead, body] = [document.createElement("thead"), document.createElement("tbody")];
  thead.append(head);
  for (const entry of rows) {
    const line = document.createElement("tr");
    line.dataset.state = entry.state;
    const name = Object.assign(document.createElement("button"), { type: "button", className: "link", textContent: entry.name });
    name.addEventListener("click", () => pick(entry.item));
    const label = document.createElement("span");
    label.append(Object.assign(document.createElement("i"), { className: entry.label ? `c-${entry.label}` : "c-none" }));
    label.append(entry.label ? `${entry.label}${entry.share === null ? "" : ` (${percent(entry.share)} of ${entry.item.kind === "image" ? "faces" : "frames"})`}` : entry.state === SPOKEN.done ? "no face" : entry.state);
    const cells = [name, entry.state, entry.state === SPOKEN.done || entry.faces ? String(entry.faces) : "–", label, entry.confidence === null ? "" : percent(entry.confidence)];
    cells.forEach((content, i) => {
      const cell = document.createElement("td");
      if ([2, 4].includes(i)) cell.className = "right";
      cell.append(content);
      line.append(cell);
    });
    body.append(line);
  }
  $("table").replaceChildren(thead, body);
}

// One bar: the share of each expression among all faces, each image counted by its faces and each video by its frames.
function chart(items) {
  const counts = new Map();
  const images = items.filter((item) => item.kind === "image");
  for (const face of (images.length ? images : items).flatMap(faces)) {
    const label = face.certain ? face.label : "uncertain";
    counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  const ordered = [...counts].sort((a, b) => b[1] - a[1]);
  $("shares").hidden = !total;
  $("shares").replaceChildren(...ordered.map(([label, count]) => {
    const part = document.createElement("i");
    part.className = `c-${label}`;
    part.style.flexGrow = count;
    part.title = `${label}: ${count} of ${total}`;
    return part;
  }));
  $("legend").replaceChildren(...ordered.map(([label, count]) => {
    const entry = document.createElement("li");
    entry.append(Object.assign(document.createElement("i"), { className: `c-${label}` }), `${label} ${count} (${percent(count / total)})`);
    return entry;
  }));
  $("overview-title").textContent = `${items.length} files, ${total} ${images.length ? "faces in images" : "faces in frames"}`;
}
