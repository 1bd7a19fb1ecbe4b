// One face over time, or the first of the others where it is out of sight: its expressions as stacked bands that always add up to
// one, with gray marks where the model was not certain; head pose and gaze in degrees; the action units that vary most.

import { lastAt } from "./dom.js";
import { COLORS } from "./overlay.js";

const LEFT = 10, RIGHT = 38, TOP = 8, BAND = 56, MARKS = 8, TITLE = 18, LINES = 42, ROW = 12, GAP = 4, AXIS = 18;
const STRIPS = [
  { title: "Head pose", names: ["pitch", "yaw", "roll"], of: (face) => face.pose },
  { title: "Gaze", names: ["pitch", "yaw"], of: (face) => face.gaze },
];
const UNITS = 5; // rows of action units
const unitsOf = (face) => face.action_units ?? face.action_units_estimated;
const FONT = "11px system-ui, sans-serif";

export class Timeline {
  constructor(canvas, onseek) {
    Object.assign(this, { canvas, onseek, samples: [], start: 0, end: 1, now: 0, measures: true });
    this.layer = document.createElement("canvas"); // everything but the current time
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.point(event);
      canvas.onpointermove = (moved) => this.point(moved);
    });
    canvas.addEventListener("pointerup", () => (canvas.onpointermove = null));
    canvas.addEventListener("keydown", (event) => {
      const span = this.end - this.start;
      const steps = { ArrowLeft: -0.2, ArrowRight: 0.2, PageUp: -span / 10, PageDown: span / 10, Home: -Infinity, End: Infinity };
      if (!(event.key in steps)) return;
      event.preventDefault();
      this.seek(this.now + steps[event.key]);
    });
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    this.seek(this.start + share * (this.end - this.start));
  }

  seek(time) {
    this.onseek(Math.min(Math.max(time, this.start), this.end));
  }

  // samples: [{time, face or null}], in order; measures: whether to show strips of head pose, gaze and action units
  set(samples, start, end, now, labels, measures) {
    Object.assign(this, { samples, start, end: Math.max(end, start + 0.1), now, labels, measures });
    this.draw();
    const canvas = this.canvas, at = lastAt(samples, now);
    for (const [name, value] of Object.entries({ min: start, max: end, now })) canvas.setAttribute(`aria-value${name}`, value.toFixed(1));
    const said = at?.face ? `${at.face.certain ? "" : "uncertain, "}${at.face.label}` : "no face";
    canvas.setAttribute("aria-valuetext", `${now.toFixed(1)} seconds, ${said}`);
  }

  draw() {
    const { canvas, layer } = this, ratio = devicePixelRatio, width = canvas.clientWidth;
    if (!width) return;
    const style = getComputedStyle(canvas), ink = (name) => style.getPropertyValue(`--${name}`);
    const state = [this.samples, this.start, this.end, this.labels, this.measures, width, ratio, ink("paper")];
    if (!this.state || state.some((value, i) => value !== this.state[i])) this.paint(width, ratio, ink);
    this.state = state;
    canvas.width = layer.width;
    canvas.height = layer.height;
    const pen = canvas.getContext("2d"), x = Math.min(Math.max(this.x(this.now, width), LEFT), width - RIGHT);
    pen.drawImage(layer, 0, 0);
    pen.scale(ratio, ratio);
    pen.fillStyle = ink("ink");
    pen.fillRect(x - 1, TOP - 4, 2, layer.height / ratio - AXIS - TOP + 4);
    pen.beginPath();
    pen.arc(x, TOP - 3, 4, 0, 7);
    pen.fill();
  }

  x(time, width) {
    return LEFT + ((time - this.start) / (this.end - this.start)) * (width - LEFT - RIGHT);
  }

  paint(width, ratio, ink) {
    const step = Math.ceil(this.samples.length / (2 * width)) || 1; // no more samples than can be seen
    const samples = this.samples.filter((_, i) => i % step === 0), faces = samples.flatMap(({ face }) => face ?? []);
    const strips = this.measures ? STRIPS.filter(({ of }) => faces.some(of)) : [], units = this.measures ? varied(faces) : [];
    const height = TOP + BAND + MARKS + strips.length * (TITLE + LINES + GAP) + (units.length && TITLE + ROW * units.length + GAP) + AXIS;
    this.canvas.style.height = `${height}px`;
    this.layer.width = width * ratio;
    this.layer.height = height * ratio;
    const pen = this.layer.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = FONT;
    const gap = spacing(samples), runs = unbroken(samples, gap), x = (time) => Math.min(this.x(time, width), width - RIGHT);
    const rail = (y, tall) => {
      pen.fillStyle = ink("rail");
      pen.fillRect(LEFT, y, width - LEFT - RIGHT, tall);
    };
    const label = (text, at, y, color = ink("quiet"), align = "left") => {
      Object.assign(pen, { fillStyle: color, textAlign: align });
      pen.fillText(text, at, y);
      return at + pen.measureText(text).width;
    };
    const scale = (texts, y, tall) => texts.forEach((text, i) => label(text, width - RIGHT + 5, y + 8 + ((tall - 8) * i) / (texts.length - 1)));

    rail(TOP, BAND);
    for (const run of runs) this.bands(pen, run, gap, x, ink);
    scale(["1", "0"], TOP, BAND);
    let y = TOP + BAND + MARKS;
    for (const { title, names, of } of strips) {
      let at = label(title, LEFT, y + 13, ink("ink"));
      for (const name of names) at = label(name, at + 10, y + 13, ink(name));
      y += TITLE;
      rail(y, LINES);
      const most = Math.max(...faces.map(of).flatMap((values) => (values ? names.map((name) => Math.abs(values[name])) : [0])));
      const bound = Math.max(20, 10 * Math.ceil(most / 10)); // the noise of a still head does not fill the strip
      pen.fillStyle = ink("line");
      pen.fillRect(LEFT, y + LINES / 2 - 0.5, width - LEFT - RIGHT, 1);
      for (const name of names) {
        Object.assign(pen, { strokeStyle: ink(name), lineWidth: 1.5, lineJoin: "round" });
        for (const run of runs) {
          pen.beginPath();
          for (const { time, face } of run) if (of(face)) pen.lineTo(x(time), y + (LINES / 2) * (1 - of(face)[name] / bound));
          pen.stroke();
        }
      }
      scale([`${bound}°`, "0°", `−${bound}°`], y, LINES);
      y += LINES + GAP;
    }
    if (units.length) {
      const at = label("Action units", LEFT, y + 13, ink("ink"));
      label(faces.some((face) => face.action_units) ? "probability" : "estimated", at + 10, y + 13);
      const ramp = pen.createLinearGradient(width - RIGHT - 70, 0, width - RIGHT - 14, 0);
      ramp.addColorStop(0, ink("rail"));
      ramp.addColorStop(1, ink("units"));
      label("0", width - RIGHT - 75, y + 13, ink("quiet"), "right");
      label("1", width - RIGHT, y + 13, ink("quiet"), "right");
      pen.fillStyle = ramp;
      pen.fillRect(width - RIGHT - 70, y + 5, 56, 8);
      y += TITLE;
      rail(y, ROW * units.length);
      units.forEach((name, i) => {
        pen.fillStyle = ink("units");
        for (const run of runs) run.forEach(({ time, face }, j) => {
          const from = Math.round(x(time)), to = Math.round(x(run[j + 1]?.time ?? time + gap)); // whole pixels: no seams
          pen.globalAlpha = Math.min(Math.max(unitsOf(face)?.[name] ?? 0, 0), 1);
          pen.fillRect(from, y + i * ROW, Math.max(to - from, 1), ROW - 1);
        });
        pen.globalAlpha = 1;
        label(name, width - RIGHT + 5, y + i * ROW + 9.5);
      });
      y += ROW * units.length + GAP;
    }
    this.seconds(width, y + 13, x, label);
  }

  // The expressions of an unbroken run, stacked.
  bands(pen, run, gap, x, ink) {
    const floor = TOP + BAND, below = run.map(() => 0);
    for (const label of this.labels ?? []) {
      pen.beginPath();
      const edge = run.map(({ face }, i) => below[i] + (face.scores[label] ?? 0));
      run.forEach(({ time }, i) => pen.lineTo(x(time), floor - BAND * Math.min(edge[i], 1)));
      pen.lineTo(x(run.at(-1).time + gap / 2), floor - BAND * Math.min(edge.at(-1), 1));
      pen.lineTo(x(run.at(-1).time + gap / 2), floor - BAND * below.at(-1));
      for (let i = run.length - 1; i >= 0; i--) pen.lineTo(x(run[i].time), floor - BAND * below[i]);
      pen.closePath();
      pen.fillStyle = ink(label) || COLORS[label] || "#999";
      pen.fill();
      edge.forEach((value, i) => (below[i] = value));
    }
    pen.fillStyle = ink("panel");
    run.forEach(({ time, face }, i) => {
      if (i && face.track !== run[i - 1].face.track) pen.fillRect(x(time) - 1, TOP, 1.5, BAND);
    });
    pen.fillStyle = ink("uncertain");
    for (const { time, face } of run) if (!face.certain) pen.fillRect(x(time), floor + 3, Math.max(x(time + gap) - x(time), 1), 3);
  }

  seconds(width, y, x, label) {
    const span = this.end - this.start, step = [0.5, 1, 2, 5, 10, 30, 60, 300, 600].find((each) => span / each <= width / 70) ?? 1800;
    for (let time = Math.ceil(this.start / step) * step; time <= this.end + 1e-6; time += step) {
      const text = span > 90 ? clock(time).replace(/\.\d$/, "") : `${+time.toFixed(1)} s`;
      label(text, Math.max(x(time), 14), y, undefined, "center");
    }
  }
}

// The median time between samples.
function spacing(samples) {
  const steps = samples.slice(1).map((sample, i) => sample.time - samples[i].time).sort((a, b) => a - b);
  return Math.max(steps[steps.length >> 1] ?? 0.04, 1e-3);
}

// Stretches in which the face was seen without a break.
function unbroken(samples, gap) {
  const found = [];
  let last = null;
  for (const sample of samples) {
    if (!sample.face) continue;
    if (last === null || sample.time - last > 3 * gap) found.push([]);
    found.at(-1).push(sample);
    last = sample.time;
  }
  return found;
}

// The action units that vary most.
function varied(faces) {
  const some = faces.map(unitsOf).filter(Boolean);
  const spread = (name) => {
    const values = some.map((units) => units[name]), mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  };
  const names = Object.keys(some[0] ?? {}).filter((name) => !name.includes("_"));
  return names.map((name) => [name, spread(name)]).sort((a, b) => b[1] - a[1]).slice(0, UNITS).map(([name]) => name);
}

export const clock = (time) => `${Math.floor(time / 60)}:${(time % 60).toFixed(1).padStart(4, "0")}`;
