// All files at a glance: the share of each expression, and a table that sorts by any column.

import { $, make } from "./dom.js";
import { percent } from "./overlay.js";

const COLUMNS = [["name", "File"], ["state", "State"], ["faces", "Faces"], ["label", "Expression"], ["confidence", "Probability"]];
let sorted = { by: null, down: false };

export const SPOKEN = { failed: "cannot be read", canceled: "canceled", waiting: "waiting", running: "processing", done: "done" };

// The faces of an item: of an image all, of a video or recording those of every frame.
const faces = (item) => item.results.flatMap((result) => result.faces);

// Label → number of faces, the most frequent first.
function counted(all) {
  const counts = {};
  for (const face of all) counts[face.certain ? face.label : "uncertain"] = (counts[face.certain ? face.label : "uncertain"] ?? 0) + 1;
  return Object.entries(counts).sort((a, b) => b[1] - a[1]);
}

// The most frequent label of certain faces; of a single face its own.
function row(item) {
  const all = faces(item), state = item.state === "done" && item.results[0]?.status === "unreadable" && item.results.length === 1 ? "failed" : item.canceled ? "canceled" : item.state;
  const [label, count] = counted(all)[0] ?? ["", 0];
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
  const link = (text, onclick) => make("button", { type: "button", className: "link", onclick }, text);
  const right = (key) => (["faces", "confidence"].includes(key) ? "right" : "");
  const head = COLUMNS.map(([key, text]) => {
    const cell = make("th", { className: right(key) }, link(text, () => {
      sorted = { by: key, down: by === key && !down };
      show(items, pick);
    }));
    cell.setAttribute("aria-sort", by === key ? (down ? "descending" : "ascending") : "none");
    return cell;
  });
  const body = rows.map((entry) => {
    const of = entry.share === null ? "" : ` (${percent(entry.share)} of ${entry.item.kind === "image" ? "faces" : "frames"})`;
    const label = entry.label ? entry.label + of : entry.state === SPOKEN.done ? "no face" : entry.state;
    const cells = {
      name: link(entry.name, () => pick(entry.item)), state: entry.state,
      faces: entry.state === SPOKEN.done || entry.faces ? String(entry.faces) : "–",
      label: make("span", {}, make("i", { className: entry.label ? `c-${entry.label}` : "c-none" }), label),
      confidence: entry.confidence === null ? "" : percent(entry.confidence),
    };
    const line = make("tr", {}, ...COLUMNS.map(([key]) => make("td", { className: right(key) }, cells[key])));
    line.dataset.state = entry.state;
    return line;
  });
  $("table").replaceChildren(make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
}

// One bar: the share of each expression among all faces, each image counted by its faces and each video by its frames.
function chart(items) {
  const images = items.filter((item) => item.kind === "image");
  const all = (images.length ? images : items).flatMap(faces), total = all.length, ordered = counted(all);
  $("shares").hidden = !total;
  $("shares").replaceChildren(...ordered.map(([label, count]) => {
    const part = make("i", { className: `c-${label}`, title: `${label}: ${count} of ${total}` });
    part.style.flexGrow = count;
    return part;
  }));
  $("legend").replaceChildren(...ordered.map(([label, count]) =>
    make("li", {}, make("i", { className: `c-${label}` }), `${label} ${count} (${percent(count / total)})`)));
  $("overview-title").textContent = `${items.length} files, ${total} ${images.length ? "faces in images" : "faces in frames"}`;
}
