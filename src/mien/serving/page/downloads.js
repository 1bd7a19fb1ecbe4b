// Results as files.

import { make } from "./dom.js";

// A spreadsheet would run what begins like a formula; the same rules as mien.inference.results.
const safe = (value) => (typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : value);
const PIXELS = ["left", "top", "right", "bottom"], WHOLE = ["width", "height", "frame", "face", "track"];
const cell = (name, value) => {
  const text = typeof value === "number" && !WHOLE.includes(name) ? value.toFixed(PIXELS.includes(name) ? 2 : 6) : String(safe(value) ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

// Column → value of a face, under the names of mien.types.Face.row.
function row(face) {
  const { pose, gaze, unsmoothed, action_units, action_units_estimated, blendshapes, scores, box, ...plain } = face;
  const groups = {
    score: scores, unsmoothed: unsmoothed?.scores ?? scores, pose, gaze, gaze_left: gaze?.left, gaze_right: gaze?.right,
    unit: action_units, estimated: action_units_estimated, blendshape: blendshapes,
  };
  const named = Object.entries(groups).flatMap(([group, values]) => Object.entries(values ?? {}).map(([name, value]) => [`${group}_${name}`, value]));
  return { ...plain, ...box, ...Object.fromEntries(named) };
}

// A table with the columns of `mien predict --csv`; those of frames without smoothing only where there are any.
export function csv(results, columns) {
  const smoothed = results.some((result) => result.faces.some((face) => face.unsmoothed));
  const names = columns.filter((name) => smoothed || !name.startsWith("unsmoothed_"));
  const lines = [names];
  for (const result of results) {
    const head = { ...result, notes: result.notes.join("; ") };
    const faces = result.faces.length ? result.faces.map((face, i) => ({ ...head, face: i + 1, ...row(face) })) : [head];
    for (const values of faces) lines.push(names.map((name) => cell(name, values[name])));
  }
  return new Blob(lines.map((line) => `${line.join(",")}\r\n`), { type: "text/csv" });
}

export const json = (results) => new Blob([JSON.stringify(results.length === 1 ? results[0] : results, null, 1)], { type: "application/json" });
export const jsonLines = (results) => new Blob(results.map((result) => `${JSON.stringify(result)}\n`), { type: "application/jsonl" });

export function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const stem = (name) => name.replace(/\.[^.]*$/, "") || "mien";
