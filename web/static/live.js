// The live channel: connects, resumes after a loss where it ended, and says on the pill how fresh
// the page is. Paused, or in a hidden tab, it is really closed.

import { find, say, write } from "./page.js";

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15000;
const HIDDEN_FOR = 5000;
const OFFLINE_AFTER = 3000;
const SILENCE = 45000;
const SESSION_ENDED = 4401;

export class Live {
  // handlers: one function a topic, called as (data, kind); kind is "snapshot", "delta" or "gap".
  constructor(topics, handlers) {
    this.topics = [...new Set([...topics, "stats"])]; // stats speak every second: silence means a loss
    this.handlers = handlers;
    this.pill = find("[data-pill]");
    this.word = find("[data-pill-word]");
    this.epoch = null;
    this.seq = null;
    this.failures = 0;
    this.lostAt = null;
    this.isPaused = false;
    this.hasEnded = false;
    this.socket = null;
    this.pill.hidden = false;
    this.pill.addEventListener("click", () => this.toggle());
    document.addEventListener("visibilitychange", () => this.seen());
    addEventListener("online", () => this.open());
    addEventListener("pagehide", () => this.shut());
    addEventListener("pageshow", (event) => event.persisted && this.open());
    this.open();
  }

  open() {
    if (this.socket || this.isPaused || this.hasEnded || document.hidden) return;
    clearTimeout(this.retry);
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/api/v1/ws`);
    this.socket = socket;
    socket.addEventListener("message", (event) => this.hear(socket, JSON.parse(event.data)));
    socket.addEventListener("close", (event) => this.closed(socket, event.code));
  }

  shut() {
    const socket = this.socket;
    this.socket = null;
    clearTimeout(this.retry);
    clearTimeout(this.silence);
    socket?.close(1000);
  }

  hear(socket, message) {
    if (socket !== this.socket) return;
    this.listenFor(socket);
    if (message.type === "hello") return this.welcome(message);
    if (message.topic === "events" || message.type === "gap") this.seq = message.seq;
    const kind = message.type;
    if (kind === "error") return;
    this.handlers[message.topic?.startsWith("jobs:") ? "job" : message.topic]?.(message.data, kind);
  }

  welcome({ epoch }) {
    const place = this.epoch === null ? {} : { epoch: this.epoch, seq: this.seq ?? 0 };
    this.socket.send(JSON.stringify({ type: "subscribe", topics: this.topics, ...place }));
    this.epoch = epoch;
    this.failures = 0;
    this.lostAt = null;
    this.show("live", "Live");
  }

  // A connection can be dead without being closed: the daemon says something every second.
  listenFor(socket) {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      socket.close();
      this.closed(socket, 1006);
    }, SILENCE);
  }

  async closed(socket, code) {
    if (socket !== this.socket) return;
    this.socket = null;
    clearTimeout(this.silence);
    this.lostAt ??= new Date();
    if (code === SESSION_ENDED || (this.failures > 0 && await this.mustSignIn())) return this.end();
    this.failures += 1;
    this.showLost();
    const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.failures);
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.open(), FIRST_PAUSE + Math.random() * (longest - FIRST_PAUSE));
  }

  // A refused upgrade looks like a daemon that is down: the page itself tells which it is.
  async mustSignIn() {
    try {
      const answer = await fetch(location.href, { method: "HEAD", redirect: "manual" });
      return answer.type === "opaqueredirect";
    } catch {
      return false;
    }
  }

  end() {
    this.hasEnded = true;
    this.show("ended", "Session ended");
    say("Your session has ended. Sign in again.");
  }

  showLost() {
    const since = Date.now() - this.lostAt.getTime();
    if (since < OFFLINE_AFTER) {
      this.show("wait", "Reconnecting");
      clearTimeout(this.offline);
      this.offline = setTimeout(() => this.lostAt && this.showLost(), OFFLINE_AFTER - since);
      return;
    }
    const clock = this.lostAt.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    this.show("offline", `Offline ${clock}`);
    this.pill.title = `No connection since ${clock}; what you see is from then`;
  }

  toggle() {
    if (this.hasEnded) {
      location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    } else if (this.isPaused) {
      this.isPaused = false;
      this.show("wait", "Connecting");
      this.open();
    } else {
      this.isPaused = true;
      this.shut();
      this.show("paused", "Paused");
    }
  }

  seen() {
    clearTimeout(this.hiding);
    if (document.hidden) this.hiding = setTimeout(() => this.shut(), HIDDEN_FOR);
    else this.open();
  }

  show(state, word) {
    this.pill.dataset.pill = state;
    this.pill.title = state === "live" ? "Press to pause" : state === "paused" ? "Press to go on" : "";
    this.pill.setAttribute("aria-label", state === "live" ? "Live. Press to pause" : state === "paused" ? "Paused. Press to go on" : word);
    write(this.word, word);
    document.body.dataset.live = state;
  }
}
