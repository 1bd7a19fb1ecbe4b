// Videos as jobs of the server, and the camera as a stream of frames.

import * as api from "./api.js";

const POLL = 400;
const SIDE = 640; // longer side of a camera frame

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Sends a video and calls back with what has been read so far, until it is done.
export async function readVideo(item, options, changed) {
  const started = await api.startJob(item.file, options);
  item.job = started.id;
  for (;;) {
    const now = await api.job(started.id);
    const more = await api.jobResults(started.id, item.results.length);
    item.results.push(...more);
    item.progress = now.progress;
    const over = !["waiting", "reading"].includes(now.status);
    if (over && !more.length) {
      item.message = now.message;
      item.state = now.status === "failed" && !item.results.length ? "failed" : "done";
      item.canceled = now.status === "canceled";
      api.endJob(started.id).catch(() => {}); // the results are here now: the server need not keep them
      item.job = null;
      return;
    }
    item.state = "reading";
    changed();
    if (!over) await wait(POLL);
  }
}

export class Camera {
  constructor(video) {
    this.video = video;
    this.canvas = document.createElement("canvas");
  }

  async start(options, { onresult, onend }) {
    if (!navigator.mediaDevices) throw new Error("Browsers give the camera only to pages from this machine (localhost) or over https.");
    try {
      this.media = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, facingMode: "user" }, audio: false });
    } catch (error) {
      const why = { NotAllowedError: "The camera was not allowed.", NotFoundError: "No camera was found.", NotReadableError: "The camera is in use by another program." };
      throw new Error(why[error.name] ?? `The camera cannot be used: ${error.message}`);
    }
    this.video.srcObject = this.media;
    await this.video.play();
    this.stream = new api.Stream(options, { onresult, onend: (reason) => { this.stop(); onend(reason); } });
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
        if (this.running && frame) this.stream.send(frame);
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
