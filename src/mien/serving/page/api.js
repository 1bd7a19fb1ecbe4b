// Requests to the server of this page; no other host is contacted.

const TRIES = 6;
let token = sessionStorage.getItem("mien-token") ?? "";
let asking = null;

export class Refusal extends Error {
  constructor(problem) {
    super(problem.detail ?? problem.title ?? "the server did not answer");
    this.status = problem.status;
  }
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

function askForToken() {
  const dialog = document.getElementById("ask"), wrong = document.getElementById("ask-wrong");
  asking ??= new Promise((resolve) => {
    wrong.hidden = !token; // a token was sent, and the server refused it
    document.getElementById("token").value = "";
    dialog.showModal();
    dialog.addEventListener("close", () => {
      token = document.getElementById("token").value;
      sessionStorage.setItem("mien-token", token);
      asking = null;
      resolve();
    }, { once: true });
  });
  return asking;
}

async function ask(path, options = {}) {
  for (let tried = 1; ; tried++) {
    let answer;
    try {
      const headers = token ? { Authorization: `Bearer ${token}` } : {};
      answer = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal({ detail: "The server cannot be reached. Is mien serve still running?" });
    }
    if (answer.ok) return answer;
    if (answer.status === 401) {
      await askForToken();
      continue;
    }
    if (answer.status === 429 && tried < TRIES) {
      await pause(Number(answer.headers.get("Retry-After")) || 1);
      continue;
    }
    throw new Refusal(await answer.json().catch(() => ({ status: answer.status })));
  }
}

function form(fields, name, file) {
  const body = new FormData();
  for (const [key, value] of Object.entries(fields)) if (value !== null) body.append(key, value);
  body.append(name, file, file.name || "pasted.png");
  return body;
}

export const models = async () => (await ask("/v1/models")).json();

export async function predict(file, options) {
  const answer = await ask("/v1/predict", { method: "POST", body: form(options, "images", file) });
  return (await answer.json()).results[0];
}

export async function explain(file, options) {
  return (await ask("/v1/explain", { method: "POST", body: form(options, "images", file) })).json();
}

export async function startJob(file, options) {
  return (await ask("/v1/predict/video", { method: "POST", body: form(options, "video", file) })).json();
}

export const job = async (id) => (await ask(`/v1/jobs/${id}`)).json();
export const endJob = (id) => ask(`/v1/jobs/${id}`, { method: "DELETE" });

export async function jobResults(id, after) {
  const text = await (await ask(`/v1/jobs/${id}/results?after=${after}`)).text();
  return text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
}

// One WebSocket. `send` takes a frame when `free`; at most `ahead` frames are unanswered.
export class Stream {
  constructor(options, { onready, onresult, onend }, ahead = 2) {
    this.ahead = ahead;
    this.unanswered = 0;
    this.ready = false;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}/v1/stream`);
    this.socket.onopen = () => this.socket.send(JSON.stringify({ type: "open", options, ...(token && { token }) }));
    this.socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "ready") {
        this.ready = true;
        onready?.(message);
      } else if (message.type === "error") {
        this.reason = message.problem.detail;
        if (message.problem.status === 401) askForToken();
      } else {
        this.unanswered -= 1;
        if (message.type === "result") onresult(message.result, message.frame);
      }
    };
    this.socket.onclose = () => onend(this.reason);
  }

  get free() {
    return this.ready && this.unanswered < this.ahead;
  }

  send(blob) {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.unanswered += 1;
    this.socket.send(blob);
  }

  close() {
    this.socket.onclose = null;
    this.socket.close();
  }
}
