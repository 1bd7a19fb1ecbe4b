/* Search on pages opened from disk: browsers refuse web workers for file:// URLs, so the search worker runs in a hidden iframe. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.scope = frame.contentWindow;
      const load = (source) =>
        new Promise((done, failed) => {
          const script = this.scope.document.createElement("script");
          Object.assign(script, { src: source, onload: done, onerror: failed });
          this.scope.document.body.append(script);
        });
      this.scope.importScripts = (...sources) => sources.reduce((before, source) => before.then(() => load(source)), Promise.resolve());
      this.scope.postMessage = (data) => this.deliver(this, data);
      this.ready = load(String(url));
    }
    deliver(target, data) {
      const event = new MessageEvent("message", { data });
      target.dispatchEvent(event);
      if (target === this && this.onmessage) this.onmessage(event);
    }
    postMessage(data) {
      this.ready.then(() => this.deliver(this.scope, data));
    }
    terminate() {
      this.scope.frameElement.remove();
    }
  };
}
