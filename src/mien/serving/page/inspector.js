// The result of one face in words and bars.

import { $, make, resize } from "./dom.js";
import { percent } from "./overlay.js";

const rows = (list, count, innerHTML) => resize(list, count, () => make("li", { innerHTML }));

const BAR = '<span class="name"></span><span class="rail" aria-hidden="true"><i></i></span><span class="value"></span>';
const WING = '<span class="value right"></span><span class="rail right" aria-hidden="true"><i></i></span><span class="name"></span>'
  + '<span class="rail left" aria-hidden="true"><i></i></span><span class="value left"></span>';

export function bars(list, entries) {
  rows(list, entries.length, BAR).forEach((row, i) => {
    const { name, share, text, tone, strong, from = 0 } = entries[i];
    const [label, rail, value] = row.children;
    if (label.textContent !== name) label.textContent = name;
    value.textContent = text ?? percent(share);
    row.classList.toggle("strong", Boolean(strong));
    const bar = rail.firstChild;
    bar.className = tone ?? "plain";
    bar.style.left = `${100 * Math.min(from, share)}%`;
    bar.style.width = `${100 * Math.abs(share - from)}%`;
  });
}

const words = (name) => name.replace(/(Left|Right)$/, "").replace(/([A-Z])/g, " $1").toLowerCase();

function pairs(blendshapes) {
  const found = new Map();
  for (const [name, value] of Object.entries(blendshapes)) {
    if (name === "_neutral") continue;
    const side = name.endsWith("Left") ? "left" : name.endsWith("Right") ? "right" : null;
    // jawLeft and mouthLeft are movements to a side, not a side of the face
    const alone = side === null || ["jawLeft", "jawRight", "mouthLeft", "mouthRight"].includes(name);
    const key = alone ? name.replace(/(Left|Right)$/, " to $1") : words(name);
    const row = found.get(key) ?? { name: alone ? words(key).replace("  ", " ") : key, left: 0, right: 0 };
    if (alone) row.left = row.right = value;
    else row[side] = value;
    found.set(key, row);
  }
  return [...found.values()];
}

function wings(list, entries) {
  rows(list, entries.length, WING).forEach((row, i) => {
    const { name, left, right } = entries[i];
    const [rightText, rightRail, label, leftRail, leftText] = row.children;
    if (label.textContent !== name) label.textContent = name;
    rightText.textContent = percent(right);
    leftText.textContent = percent(left);
    rightRail.firstChild.style.width = `${100 * right}%`;
    leftRail.firstChild.style.width = `${100 * left}%`;
  });
}

const UNITS = {
  AU1: "inner brow raiser", AU2: "outer brow raiser", AU4: "brow lowerer", AU5: "upper lid raiser", AU6: "cheek raiser",
  AU7: "lid tightener", AU9: "nose wrinkler", AU10: "upper lip raiser", AU12: "lip corner puller", AU14: "dimpler",
  AU15: "lip corner depressor", AU16: "lower lip depressor", AU17: "chin raiser", AU18: "lip pucker", AU20: "lip stretcher",
  AU22: "lip funneler", AU23: "lip tightener", AU24: "lip pressor", AU25: "lips part", AU26: "jaw drop", AU27: "mouth stretch",
  AU28: "lip suck", AU43: "eyes closed", AU45: "blink",
};

const degrees = (value) => `${Math.round(value) < 0 ? "−" : ""}${Math.abs(Math.round(value))}°`;

// An angle as a bar from the middle: −90° … 90°.
const angle = (name, value) => ({ name, share: Math.min(Math.max(0.5 + value / 180, 0), 1), from: 0.5, text: degrees(value) });

function direction(face) {
  const { pose, gaze } = face;
  $("direction").hidden = !pose && !gaze;
  if (!pose && !gaze) return;
  bars($("angles"), [
    ...(pose ? [angle("head yaw", pose.yaw), angle("head pitch", pose.pitch), angle("head roll", pose.roll)] : []),
    ...(gaze ? [angle("gaze yaw", gaze.yaw), angle("gaze pitch", gaze.pitch)] : []),
  ]);
  $("contact").textContent = (gaze ? `Looks ${gaze.at_camera ? "at the camera" : `${degrees(gaze.camera_angle)} past the camera`}. ` : "")
    + "Yaw: positive to the right of the image. Pitch: positive down.";
}

function units(face) {
  const found = face.action_units ?? face.action_units_estimated;
  $("units").hidden = !found;
  if (!found) return;
  $("facs-kind").textContent = face.action_units ? "probability" : "estimated intensity";
  const all = Object.entries(found).filter(([name]) => !name.includes("_")).map(([name, value]) => ({
    name: UNITS[name] ? `${name} ${UNITS[name]}` : name, share: Math.min(Math.max(value, 0), 1),
  }));
  const strongest = [...all].sort((a, b) => b.share - a.share).slice(0, 5);
  bars($("unit-bars"), strongest);
  bars($("unit-rest"), all);
}

export function show(face, card, result, place, item) {
  $("blank").hidden = Boolean(face);
  $("reading").hidden = !face;
  if (!face) {
    const none = item && result && result.status === "no face";
    $("blank-title").textContent = none ? "No face found" : item?.state === "failed" || result?.status === "unreadable" ? "Cannot be read" : item ? "Processing" : "No results yet";
    document.querySelector(".ghost").hidden = Boolean(item);
    $("blank-text").textContent = none ? "Faces that are very small, hidden or turned away may be missed."
      : item ? result?.message ?? item.message ?? "" : $("blank-text").dataset.text ??= $("blank-text").textContent;
    return;
  }
  const threshold = card?.calibration?.threshold ?? 0;
  const who = face.track === null ? `Face ${place + 1} of ${result.faces.length}` : `Face ${face.track}`;
  $("kind").textContent = result.faces.length > 1 || face.track !== null ? who : "One face";
  $("label").textContent = face.certain ? face.label : "Uncertain";
  $("verdict").classList.toggle("uncertain", !face.certain);
  $("chip").className = face.certain ? `c-${face.label}` : "c-uncertain";
  $("sure").textContent = face.certain
    ? `Probability ${percent(face.confidence)}`
    : `Nearest is ${face.label} with ${percent(face.confidence)}; this model abstains below ${percent(threshold)}.`;
  bars($("scores"), Object.entries(face.scores).map(([name, share]) => ({
    name, share, tone: face.certain ? `c-${name}` : "c-uncertain", strong: name === face.label,
  })));
  $("affect").hidden = face.valence === null;
  if (face.valence !== null) bars($("dimensional"), ["valence", "arousal"].filter((name) => face[name] !== null).map((name) => ({
    name, share: (face[name] + 1) / 2, from: 0.5, text: face[name].toFixed(2),
  })));
  direction(face);
  units(face);
  $("movements").hidden = !face.blendshapes;
  if (face.blendshapes) {
    const all = pairs(face.blendshapes);
    const strongest = [...all].sort((a, b) => Math.max(b.left, b.right) - Math.max(a.left, a.right)).slice(0, 7);
    wings($("strong"), strongest);
    if ($("movements").querySelector("details").open) wings($("every"), all);
    else $("every").pending = all;
  }
  const notes = [...result.notes, ...(result.message ? [result.message] : [])];
  $("notes").replaceChildren(...notes.map((text) => make("li", {}, text)));
}

const FULL = 4; // log-odds of a full bar: the odds fall to 1/55

export function regions(explanation) {
  $("regions").hidden = !explanation;
  if (!explanation) return;
  bars($("importance"), explanation.regions.map(({ name, importance }) => ({
    name, share: Math.min(Math.abs(importance) / FULL, 1), text: `${importance < 0 ? "▲" : "▼"} ${Math.abs(importance).toFixed(1)}`, tone: importance < 0 ? "plain" : "heat",
  })));
  const rises = explanation.regions.some(({ importance }) => importance <= -0.05);
  const alone = Math.max(...explanation.regions.map(({ importance }) => importance)) < 0.2;
  $("parts-hint").textContent = `▼ 1.0: the log-odds of ${explanation.label} fall by 1, so its odds are divided by 2.7, when this part is blurred.`
    + (rises ? " ▲: they rise, so this part speaks for another expression." : "")
    + (alone ? " No single part carries this prediction." : "");
}

$("movements").querySelector("details").addEventListener("toggle", (event) => {
  if (event.target.open && $("every").pending) wings($("every"), $("every").pending);
});

// ── the card ──

export function card(model) {
  const body = $("card-body"), facts = make("dl");
  const fact = (name, text) => text && facts.append(make("dt", {}, name), make("dd", {}, text));
  fact("Classes", model.labels.join(", "));
  fact("Trained on", model.data);
  fact("Abstains below", model.calibration?.threshold ? percent(model.calibration.threshold) : "");
  fact("License", [model.license, model.license_note].filter(Boolean).join(". "));
  fact("Origin", model.origin);
  fact("SHA-256", model.sha256);
  const limits = model.limits || "The card names none. Use its predictions with care.";
  body.replaceChildren(
    make("h2", { id: "card-name" }, `${model.name} ${model.version ?? "1"}`), make("p", {}, model.summary),
    make("section", { className: "limits" }, make("h3", {}, "Limits"), make("p", {}, limits)), facts,
  );
  const measured = (model.measured ?? []).filter((one) => one.split === "test");
  if (!measured.length) return;
  const row = (name, cells) => make("tr", {}, ...cells.map((text) => make(name, {}, text)));
  const rest = measured.map((one) => {
    const interval = one.low === undefined ? "" : `${one.low.toFixed(3)} … ${one.high.toFixed(3)}`;
    return row("td", [one.dataset, one.metric, one.value.toFixed(3), interval, one.n.toLocaleString("en"), one.note ?? ""]);
  });
  const head = make("thead", {}, row("th", ["Data", "Metric", "Value", "95 % interval", "n", "Of what"]));
  body.append(make("h3", {}, "Measured on test data"), make("div", { className: "scroll" }, make("table", {}, head, make("tbody", {}, ...rest))));
}
