// Videos as jobs of the server, the camera as a stream of frames, and recordings of the camera.

import * as api from "./api.js";
import { make } from "./dom.js";

const POLL = 400;
const SIDE = 640; // longer side of a camera frame
const RESULTS = 6000, IMAGES = 240; // of a recording; beyond that every other one is dropped

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Sends a video and calls back with the results so far, until the job has ended.
export async function predictVideo(item, options, changed) {
  const started = await api.startJob(item.file, options);
  item.job = started.id;
  for (;;) {
    const now = await api.job(started.id);
    const more = await api.jobResults(started.id, item.results.length);
    item.results.push(...more);
    item.progress = now.progress;
    const over = !["waiting", "running"].includes(now.status);
    if (over && !more.length) {
      item.message = now.message;
      item.canceled = now.status === "canceled";
      item.state = now.status === "failed" && !item.results.length ? "failed" : "done";
      api.endJob(started.id).catch(() => {}); // the results are here: the server need not keep them
      item.job = null;
      return;
    }
    item.state = "running";
    changed();
    if (!over) await wait(POLL);
  }
}

// A frame of a video as a small image, null where the browser cannot play it.
export async function thumbnail(url) {
  const video = make("video", { muted: true, preload: "auto", src: url }), canvas = make("canvas", { width: 168, height: 116 });
  try {
    await new Promise((resolve, reject) => {
      video.addEventListener("loadeddata", () => (video.currentTime = Math.min(0.5, (video.duration || 1) / 3)));
      video.addEventListener("seeked", resolve);
      video.addEventListener("error", reject);
      setTimeout(reject, 8000);
    });
    const { videoWidth: width, videoHeight: height } = video, scale = Math.max(168 / width, 116 / height);
    canvas.getContext("2d").drawImage(video, (168 - width * scale) / 2, (116 - height * scale) / 2, width * scale, height * scale);
    return URL.createObjectURL(await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.8)));
  } catch {
    return null;
  } finally {
    video.removeAttribute("src");
    video.load();
  }
}

// What a camera showed: all results and some of its frames, both thinned when they become many.
export class Recording {
  constructor() {
    this.results = [];
    this.images = []; // [time, blob]
    this.spacing = 0.5;
    this.step = this.count = 0;
  }

  add(result, blob) {
    if (this.count++ % (1 << this.step) === 0) this.results.push(result);
    if (this.results.length > RESULTS) {
      this.results = this.results.filter((_, i) => i % 2 === 0);
      this.step += 1;
    }
    if (blob && result.time - (this.images.at(-1)?.[0] ?? -Infinity) >= this.spacing) this.images.push([result.time, blob]);
    if (this.images.length > IMAGES) {
      this.images = this.images.filter((_, i) => i % 2 === 0);
      this.spacing *= 2;
    }
  }

  // The frame last kept at or before a time.
  at(time) {
    return this.images.findLast(([when]) => when <= time + 1e-3)?.[1] ?? this.images[0]?.[1];
  }
}

export class Camera {
  constructor(video) {
    this.video = video;
    this.canvas = document.createElement("canvas");
    this.sent = new Map(); // number of a frame that has no answer yet → its image
    this.number = 0;
  }

  async start(options, { onresult, onend }) {
    if (!navigator.mediaDevices) throw new Error("Browsers allow the camera only on pages from localhost or over https.");
    try {
      this.media = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, facingMode: "user" }, audio: false });
    } catch (error) {
      const why = { NotAllowedError: "Access to the camera was denied.", NotFoundError: "No camera was found.", NotReadableError: "The camera is in use by another program." };
      throw new Error(why[error.name] ?? `The camera cannot be used: ${error.message}`);
    }
    this.video.srcObject = this.media;
    await this.video.play();
    this.stream = new api.Stream(options, {
      onresult: (result, number) => {
        const blob = this.sent.get(number);
        for (const key of this.sent.keys()) if (key <= number) this.sent.delete(key);
        onresult(result, blob);
      },
      onend: (reason) => { this.stop(); onend(reason); },
    });
    this.running = true;
    this.pump();
  }

  async pump() {
    while (this.running) {
      const { videoWidth: width, videoHeight: height } = this.video;
      if (this.stream.free && width) {
        const scale = Math.min(1, SIDE / Math.max(width, height));
        this.canvas.width = Math.round(width * scale);
        this.canvas.height = Math.round(height * scale);
        this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
        const frame = await new Promise((resolve) => this.canvas.toBlob(resolve, "image/jpeg", 0.85));
        if (this.running && frame) {
          this.sent.set(++this.number, frame);
          this.stream.send(frame);
        }
      }
      await wait(document.hidden ? 250 : 15);
    }
  }

  stop() {
    this.running = false;
    this.stream?.close();
    this.media?.getTracks().forEach((track) => track.stop());
    this.video.srcObject = null;
  }
}
