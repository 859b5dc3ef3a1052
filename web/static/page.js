// What every page has: times that tick by the daemon's clock, one quiet voice, the way to the API.
// Everything is put on the page as text; nothing that comes from outside is ever read as markup.

const skew = Number(document.body.dataset.now) - Date.now();
const STEPS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
const DECEIVING = /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffb]/g;
const TAIL = 14;

export const find = (selector, within = document) => within.querySelector(selector);
export const all = (selector, within = document) => [...within.querySelectorAll(selector)];
export const now = () => Date.now() + skew;
export const count = (value) => Number(value).toLocaleString("en-US");
export const plain = (word) => word.replaceAll("_", " ").replaceAll("-", " ");

// --- times

function brief(milliseconds) {
  const seconds = Math.floor(Math.max(0, milliseconds) / 1000);
  const step = STEPS.find(([length]) => seconds >= length);
  return step ? `${Math.floor(seconds / step[0])} ${step[1]}` : "";
}

function relative(at) {
  const distance = now() - at;
  const words = brief(Math.abs(distance));
  if (!words) return "now";
  return distance >= 0 ? `${words} ago` : `in ${words}`;
}

export function showTime(element, iso) {
  if (iso) {
    element.setAttribute("datetime", iso);
    element.title = new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
  } else {
    element.removeAttribute("datetime");
    element.removeAttribute("title");
  }
  tick(element);
}

// Running jobs tell how long, all others when.
export function showMoment(element, iso, isAge) {
  element.toggleAttribute("data-age", isAge);
  element.toggleAttribute("data-relative", !isAge);
  showTime(element, iso);
}

function tick(element) {
  const iso = element.getAttribute("datetime");
  const at = Date.parse(iso);
  const text = !iso ? "–" : "age" in element.dataset ? brief(now() - at) || "0 s" : relative(at);
  write(element, text);
}

function tickAll() {
  if (document.hidden) return;
  for (const element of all("time[data-relative], time[data-age]")) tick(element);
}

for (const element of all("time[datetime]")) {
  if (!("clock" in element.dataset)) showTime(element, element.getAttribute("datetime"));
}
setInterval(tickAll, 1000);

// --- text

export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function display(name) {
  return name.replace(DECEIVING, (found) => {
    const code = found.codePointAt(0);
    const short = { 9: "\\t", 10: "\\n", 13: "\\r" }[code];
    return short ?? (code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`);
  });
}

export function nameOf(path) {
  const full = display(path.split("/").at(-1));
  const cut = full.length <= TAIL * 2 ? 0 : full.length - TAIL;
  const name = made("bdi", "name");
  name.title = display(path);
  name.append(made("span", "name-head", full.slice(0, cut)), made("span", "name-tail", full.slice(cut)));
  return name;
}

export function made(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${document.getElementById(`i-${name}`) ? name : "event"}`);
  svg.append(use);
  return svg;
}

export function stamp(kind, word) {
  const template = find(`template[data-${kind}-of="${CSS.escape(word)}"]`);
  return template ? template.content.cloneNode(true) : document.createDocumentFragment();
}

// --- the voice: one polite line, one message in ten seconds at most

const QUIET = 10000;
let spokenAt = -QUIET;
let waiting = "";
let timer = 0;

export function say(text) {
  waiting = text;
  if (timer) return;
  timer = setTimeout(() => {
    timer = 0;
    spokenAt = performance.now();
    find("[data-say]").textContent = waiting;
  }, Math.max(0, spokenAt + QUIET - performance.now()));
}

export function complain(text) {
  find(".toast")?.remove();
  const toast = made("div", "toast", text);
  toast.setAttribute("role", "alert");
  const close = made("button", "button small on-bar", "Close");
  close.type = "button";
  close.addEventListener("click", () => toast.remove());
  toast.append(close);
  document.body.append(toast);
}

// --- writing: through the API, so that rights, origin and audit have one path

export async function ask(path, body) {
  let answer;
  try {
    answer = await fetch(`/api/v1${path}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  } catch {
    complain("The daemon does not answer. Nothing was changed.");
    return null;
  }
  if (answer.status === 401) {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    return null;
  }
  const value = await answer.json().catch(() => ({}));
  if (answer.ok) return value;
  complain(value.detail ?? `The daemon answered ${answer.status}.`);
  return null;
}

export async function whileBusy(button, work) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    await work();
  } finally {
    button.removeAttribute("aria-busy");
  }
}
