// A headless Chromium, spoken to over two pipes: its DevTools protocol as far as the check needs it.
// Nothing but Node itself is needed for that.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PATIENCE = 30_000;

export class Browser {
  static async start(program) {
    const browser = new Browser();
    browser.profile = mkdtempSync(join(tmpdir(), "lxi-page-"));
    const options = ["--headless", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
      "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
      // Our server's certificate is its own.
      "--ignore-certificate-errors", `--user-data-dir=${browser.profile}`];
    if (process.getuid() === 0) options.push("--no-sandbox");
    browser.process = spawn(program, options, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    browser.waiting = new Map();
    browser.listeners = new Set();
    browser.ended = new Promise((resolve) => browser.process.once("exit", resolve));
    browser.ended.then((status) => {
      for (const { reject } of browser.waiting.values()) reject(new Error(`the browser ended: ${status}`));
    });
    let text = "";
    browser.process.stdio[4].setEncoding("utf8").on("data", (part) => {
      text += part;
      for (let end; (end = text.indexOf("\0")) >= 0; text = text.slice(end + 1)) browser.receive(JSON.parse(text.slice(0, end)));
    });
    await browser.send("Browser.getVersion");
    return browser;
  }

  receive(message) {
    const waiting = this.waiting.get(message.id);
    if (!waiting) {
      for (const listener of [...this.listeners]) listener(message);
      return;
    }
    this.waiting.delete(message.id);
    if (message.error) waiting.reject(new Error(`${waiting.method}: ${message.error.message}`));
    else waiting.resolve(message.result);
  }

  send(method, params = {}, sessionId) {
    const id = (this.count = (this.count ?? 0) + 1);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${method}: no answer`)), PATIENCE);
      const done = (how) => (value) => { clearTimeout(timer); how(value); };
      this.waiting.set(id, { method, resolve: done(resolve), reject: done(reject) });
      this.process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  async page() {
    const { browserContextId } = await this.send("Target.createBrowserContext");
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, sessionId, browserContextId);
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await page.send(`${domain}.enable`);
    return page;
  }

  async stop() {
    await this.send("Browser.close").catch(() => this.process.kill());
    await this.ended;
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

export class Page {
  constructor(browser, session, context) {
    Object.assign(this, { browser, session, context, troubles: [], statuses: [] });
    this.listener = (message) => message.sessionId === session && this.receive(message);
    browser.listeners.add(this.listener);
  }

  send(method, params) {
    return this.browser.send(method, params, this.session);
  }

  receive({ method, params }) {
    if (method === "Runtime.consoleAPICalled") this.troubles.push(`console: ${JSON.stringify(params.args)}`);
    if (method === "Runtime.exceptionThrown") this.troubles.push(`exception: ${JSON.stringify(params.exceptionDetails)}`);
    if (method === "Log.entryAdded") this.troubles.push(`log: ${params.entry.text} ${params.entry.url ?? ""}`);
    if (method === "Network.loadingFailed") this.troubles.push(`network: ${params.errorText}`);
    if (method === "Network.responseReceived") this.statuses.push([params.type, params.response.status, params.response.url]);
    if (method === "Page.javascriptDialogOpening") {
      this.troubles.push(`dialog: ${params.message}`);
      this.send("Page.handleJavaScriptDialog", { accept: false });
    }
  }

  async look(width, scheme) {
    await this.send("Emulation.setDeviceMetricsOverride", { width, height: 800, deviceScaleFactor: 1, mobile: width < 600 });
    await this.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
  }

  /// Runs what makes the browser go to another page, and waits until that is there.
  async loaded(action) {
    const load = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("the page does not load")), PATIENCE);
      const listener = ({ method, sessionId }) => {
        if (method !== "Page.loadEventFired" || sessionId !== this.session) return;
        clearTimeout(timer);
        this.browser.listeners.delete(listener);
        resolve();
      };
      this.browser.listeners.add(listener);
    });
    await action();
    await load;
  }

  go(url) {
    return this.loaded(async () => {
      const { errorText } = await this.send("Page.navigate", { url });
      if (errorText) throw new Error(`${url}: ${errorText}`);
    });
  }

  async value(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression.slice(0, 80)}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  }

  async click(selector) {
    const place = await this.value(`(() => {
      const element = document.querySelector(${JSON.stringify(selector)});
      element.scrollIntoView({ block: "center" });
      const { x, y, width, height } = element.getBoundingClientRect();
      return { x: x + width / 2, y: y + height / 2 };
    })()`);
    for (const type of ["mousePressed", "mouseReleased"]) {
      await this.send("Input.dispatchMouseEvent", { type, ...place, button: "left", clickCount: 1 });
    }
  }

  async key(key, code) {
    for (const type of ["keyDown", "keyUp"]) {
      await this.send("Input.dispatchKeyEvent", { type, key, code: key, windowsVirtualKeyCode: code, text: key === "Enter" && type === "keyDown" ? "\r" : undefined });
    }
  }

  async type(text) {
    await this.send("Input.insertText", { text });
  }

  async picture() {
    const { data } = await this.send("Page.captureScreenshot", { format: "png", captureBeyondViewport: true });
    return Buffer.from(data, "base64");
  }

  async close() {
    this.browser.listeners.delete(this.listener);
    await this.browser.send("Target.disposeBrowserContext", { browserContextId: this.context });
  }
}
