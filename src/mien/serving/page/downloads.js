// Results as files.

const COLUMNS = ["source", "status", "width", "height", "time", "face", "left", "top", "right", "bottom", "detection",
  "label", "confidence", "certain", "valence", "arousal", "track", "model", "message"];
const POSE = ["pitch", "yaw", "roll", "x", "y", "z"], GAZE = ["yaw", "pitch", "head_yaw", "head_pitch", "camera_angle", "at_camera"];

// A spreadsheet would run what begins like a formula; the same rule as mien.inference.results.
const safe = (text) => (/^[=+\-@\t\r]/.test(text ?? "") ? `'${text}` : text);
const cell = (value) => {
  const text = value === null || value === undefined ? "" : typeof value === "number" && !Number.isInteger(value) ? value.toFixed(6) : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

export function csv(results, labels) {
  const some = results.flatMap((result) => result.faces).find((face) => face.pose);
  const [pose, gaze] = some ? [POSE, GAZE] : [[], []];
  const lines = [[...COLUMNS, ...labels.map((label) => `score_${label}`), ...pose.map((name) => `pose_${name}`), ...gaze.map((name) => `gaze_${name}`)]];
  for (const result of results) {
    const head = [safe(result.source), result.status, result.width, result.height, result.time];
    const tail = [safe(result.model), safe(result.message)];
    if (!result.faces.length) lines.push([...head, ...Array(12).fill(null), ...tail, ...[...labels, ...pose, ...gaze].map(() => null)]);
    result.faces.forEach((face, i) => {
      const box = ["left", "top", "right", "bottom"].map((side) => face.box[side].toFixed(2));
      const read = [face.detection, safe(face.label), face.confidence, face.certain, face.valence, face.arousal, face.track];
      lines.push([...head, i + 1, ...box, ...read, ...tail, ...labels.map((label) => face.scores[label]),
        ...pose.map((name) => face.pose?.[name]), ...gaze.map((name) => face.gaze?.[name])]);
    });
  }
  return new Blob(lines.map((line) => `${line.map(cell).join(",")}\r\n`), { type: "text/csv" });
}

export const json = (results) => new Blob([JSON.stringify(results.length === 1 ? results[0] : results, null, 1)], { type: "application/json" });
export const jsonLines = (results) => new Blob(results.map((result) => `${JSON.stringify(result)}\n`), { type: "application/jsonl" });

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const stem = (name) => name.replace(/\.[^.]*$/, "") || "mien";
