/*
 * Search in pages that are opened from disk. Browsers start no worker from a file, so that its script
 * runs in a frame of its own instead. The theme knows a script by this name; the usual one is loaded
 * from elsewhere, and nothing here is.
 */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "search";
      // As text, so that the frame has the origin of this page.
      frame.srcdoc = "<!doctype html>";
      frame.addEventListener("load", () => this.start(frame.contentWindow, url), { once: true });
      document.documentElement.append(frame);
    }

    start(scope, url) {
      scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      scope.importScripts = (...urls) => Promise.all(urls.map((it) => this.load(scope, it)));
      this.load(scope, url).then(() => {
        this.deliver = (data) => scope.dispatchEvent(new scope.MessageEvent("message", { data }));
        for (const data of this.waiting.splice(0)) this.deliver(data);
      });
    }

    load(scope, url) {
      return new Promise((resolve, reject) => {
        const script = scope.document.createElement("script");
        script.src = url;
        script.onload = resolve;
        script.onerror = () => reject(new Error(`cannot load ${url}`));
        scope.document.documentElement.append(script);
      });
    }

    postMessage(data) {
      if (this.deliver) this.deliver(data);
      else this.waiting.push(data);
    }

    terminate() {}
  };
}
