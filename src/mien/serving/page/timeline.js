// Expressions over time for one face, or for the first of the others where it is out of sight: stacked bands that always add up to one, gray where the model was not certain.

import { COLORS } from "./overlay.js";

const RIGHT = 10, LEFT = 10, TOP = 8, BOTTOM = 20;

export class Timeline {
  constructor(canvas, onseek) {
    this.canvas = canvas;
    this.onseek = onseek;
    this.samples = [];
    this.start = 0;
    this.end = 1;
    this.now = 0;
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.onseek) return;
      canvas.setPointerCapture(event.pointerId);
      this.point(event);
      canvas.onpointermove = (moved) => this.point(moved);
    });
    canvas.addEventListener("pointerup", () => (canvas.onpointermove = null));
    canvas.addEventListener("keydown", (event) => {
      const span = this.end - this.start;
      const steps = { ArrowLeft: -0.2, ArrowRight: 0.2, PageUp: -span / 10, PageDown: span / 10, Home: -Infinity, End: Infinity };
      if (!(event.key in steps) || !this.onseek) return;
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

  // samples: [{time, face or null}], in order
  set(samples, start, end, now, labels) {
    Object.assign(this, { samples, start, end: Math.max(end, start + 0.1), now, labels });
    this.draw();
    const canvas = this.canvas, at = this.at(now);
    canvas.setAttribute("aria-valuemin", start.toFixed(1));
    canvas.setAttribute("aria-valuemax", end.toFixed(1));
    canvas.setAttribute("aria-valuenow", now.toFixed(1));
    const said = at?.face ? `${at.face.certain ? "" : "uncertain, "}${at.face.label}` : "no face";
    canvas.setAttribute("aria-valuetext", `${now.toFixed(1)} seconds, ${said}`);
  }

  at(time) {
    let low = 0, high = this.samples.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.samples[middle].time <= time + 1e-4) low = middle + 1;
      else high = middle;
    }
    return this.samples[low - 1];
  }

  draw() {
    const { canvas } = this, ratio = devicePixelRatio, width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || !height) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(canvas), floor = height - BOTTOM, tall = floor - TOP;
    const x = (time) => LEFT + (time - this.start) / (this.end - this.start) * (width - LEFT - RIGHT);
    pen.fillStyle = style.getPropertyValue("--rail");
    pen.fillRect(LEFT, TOP, width - LEFT - RIGHT, tall);
    const gap = this.gap();
    for (const run of this.runs(gap)) {
      const below = run.map(() => 0);
      for (const label of this.labels ?? []) {
        pen.beginPath();
        const edge = run.map(({ face }, i) => below[i] + (face.scores[label] ?? 0));
        run.forEach(({ time }, i) => pen.lineTo(x(time), floor - tall * Math.min(edge[i], 1)));
        pen.lineTo(x(run.at(-1).time + gap / 2), floor - tall * Math.min(edge.at(-1), 1));
        pen.lineTo(x(run.at(-1).time + gap / 2), floor - tall * below.at(-1));
        for (let i = run.length - 1; i >= 0; i--) pen.lineTo(x(run[i].time), floor - tall * below[i]);
        pen.closePath();
        pen.fillStyle = style.getPropertyValue(`--${label}`) || COLORS[label] || "#999";
        pen.fill();
        edge.forEach((value, i) => (below[i] = value));
      }
      pen.fillStyle = style.getPropertyValue("--panel");
      run.forEach(({ time, face }, i) => {
        if (i && face.track !== run[i - 1].face.track) pen.fillRect(x(time) - 1, TOP, 1.5, tall);
      });
      pen.fillStyle = style.getPropertyValue("--uncertain");
      for (const { time, face } of run) if (!face.certain) pen.fillRect(x(time), floor + 3, Math.max(x(time + gap) - x(time), 1), 3);
    }
    this.scale(pen, x, width, floor, style);
    pen.fillStyle = style.getPropertyValue("--ink");
    pen.fillRect(Math.min(Math.max(x(this.now), LEFT), width - RIGHT) - 1, TOP - 4, 2, tall + 8);
    pen.beginPath();
    pen.arc(Math.min(Math.max(x(this.now), LEFT), width - RIGHT), TOP - 3, 4, 0, 7);
    pen.fill();
  }

  gap() {
    const { samples } = this, middle = samples.slice(1).map((sample, i) => sample.time - samples[i].time).sort((a, b) => a - b);
    return Math.max(middle[middle.length >> 1] ?? 0.04, 1e-3);
  }

  // stretches in which the face was seen without a break
  runs(gap) {
    const found = [];
    let last = null;
    for (const sample of this.samples) {
      if (sample.face) {
        if (last === null || sample.time - last > 3 * gap) found.push([]);
        found.at(-1).push(sample);
        last = sample.time;
      }
    }
    return found;
  }

  scale(pen, x, width, floor, style) {
    const span = this.end - this.start, step = [0.5, 1, 2, 5, 10, 30, 60, 300, 600].find((each) => span / each <= width / 70) ?? 1800;
    pen.fillStyle = style.getPropertyValue("--quiet");
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "center";
    for (let time = Math.ceil(this.start / step) * step; time <= this.end + 1e-6; time += step) {
      const text = span > 90 ? clock(time).replace(/\.\d$/, "") : `${+time.toFixed(1)} s`;
      pen.fillText(text, Math.min(Math.max(x(time), 14), width - 14), floor + 17);
    }
  }
}

export const clock = (time) => `${Math.floor(time / 60)}:${(time % 60).toFixed(1).padStart(4, "0")}`;
