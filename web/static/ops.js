// /ops: figures, slots, queues and watches change in their places; the feed is a fixed set of lines
// whose text moves on, so nothing on the wall ever jumps. It holds still while somebody looks at it.

import { Live } from "./live.js";
import { all, count, display, find, icon, made, nameOf, plain, showTime, stamp, write } from "./page.js";

const wall = find(".wall");
const named = wall.dataset.named === "yes";
const mayOpen = Boolean(find('nav a[href="/manager"]'));
const FEED_EVERY = 250;

// --- figures

function showStats(stats) {
  for (const element of all("[data-rate]")) {
    write(element, stats.rates ? stats.rates[element.dataset.rate].toFixed(1) : "–");
  }
  for (const element of all(".counters [data-count]")) write(element, count(stats.counts[element.dataset.count]));
  for (const element of all("[data-total]")) write(element, count(stats.totals[element.dataset.total] ?? 0));
  showTime(find("[data-oldest]"), stats.oldest_queued_at);
  showHealth(stats.health);
}

function showHealth(health) {
  const box = find("[data-health]");
  const checks = health.checks.map((check) => `${check.level} ${check.detail}`).join("\n");
  write(find("[data-health-sentence]"), display(health.sentence));
  if (box.dataset.level !== health.level) {
    box.dataset.level = health.level;
    box.className = `health level-${health.level}`;
    find("[data-health-mark]").replaceChildren(icon(health.level));
  }
  if (box.dataset.shown === checks) return;
  box.dataset.shown = checks;
  find("[data-checks]").replaceChildren(...health.checks.map((check) => {
    const line = made("li", `check-${check.level}`);
    line.append(icon(check.level), made("span", "", display(check.detail)));
    return line;
  }));
}

// --- slots

function showConsumers(consumers) {
  if (consumers.length !== all("[data-slot]").length) return lookAnew();
  for (const slot of consumers) {
    const tile = find(`[data-slot="${slot.slot}"]`);
    if (tile) showSlot(tile, slot);
  }
}

function showSlot(tile, slot) {
  const cell = (name) => find(`[data-cell="${name}"]`, tile);
  if (tile.dataset.state !== slot.state) {
    tile.dataset.state = slot.state;
    tile.className = `slot is-${slot.state}`;
    cell("state").replaceChildren(stamp("state", slot.state));
  }
  const job = slot.job ? `${slot.job.id} ${slot.job.name}` : "";
  if (tile.dataset.job !== job) {
    tile.dataset.job = job;
    if (slot.job?.name) learn(slot.job.id, slot.job.name);
    cell("job").replaceChildren(...(slot.job ? [linked(slot.job.id, nameOf(slot.job.name ?? `job ${slot.job.id}`))] : []));
    write(cell("queue"), slot.job?.queue ?? "");
  }
  showTime(cell("since"), slot.job ? slot.since : null);
  cell("progress").className = slot.progress ? "" : "none";
  cell("progress").value = slot.progress?.percent ?? 0;
}

function linked(job, content) {
  if (!mayOpen) return content;
  const link = made("a");
  link.href = `/manager/jobs/${job}`;
  link.append(content);
  return link;
}

// --- queues and watches

// A reload of the configuration can change how many of everything there are: then, and only then,
// the wall is drawn anew.
function lookAnew() {
  if (document.body.dataset.leaving) return;
  document.body.dataset.leaving = "yes";
  setTimeout(() => location.reload(), 300);
}

function showQueues(queues) {
  if (queues.length !== all("[data-queues] tbody tr").length) return lookAnew();
  for (const queue of queues) {
    const row = find(`[data-queues] [data-queue="${CSS.escape(queue.name)}"]`);
    if (!row) continue;
    for (const element of all("[data-count]", row)) write(element, count(queue.counts[element.dataset.count]));
    find("[data-paused]", row).hidden = !queue.paused;
  }
}

function showWatches(watches) {
  if (watches.length !== all("[data-watch]").length) return lookAnew();
  for (const watch of watches) {
    const line = find(`[data-watch="${CSS.escape(watch.name)}"]`);
    if (!line) continue;
    if (line.dataset.status !== watch.status) {
      line.dataset.status = watch.status;
      find('[data-cell="status"]', line).replaceChildren(stamp("state", watch.status));
    }
    write(find('[data-cell="reason"]', line), display(watch.reason));
    for (const element of all("[data-count]", line)) write(element, count(watch.counts[element.dataset.count]));
    showTime(find('[data-cell="last_scan"]', line), watch.last_scan);
  }
}

// --- the feed

const feed = find("[data-feed]");
const lines = feed ? [...feed.children] : [];
const names = new Map(JSON.parse(wall.dataset.names)); // of jobs whose events tell none
const NAMES = 1000;
let events = [];
let drawnAt = 0;
let drawing = 0;

function hearEvents(batch, kind) {
  if (kind === "gap") return;
  for (const { job, data } of batch) if (job && data.name) learn(job, data.name);
  const fresh = batch.filter((event) => event.type !== "job.progress").slice(-lines.length).reverse();
  events = (kind === "snapshot" ? fresh : [...fresh, ...events]).slice(0, lines.length);
  drawSoon();
}

function learn(job, name) {
  names.delete(job);
  names.set(job, name);
  if (names.size > NAMES) names.delete(names.keys().next().value);
}

const isLookedAt = () => feed.matches(":hover") || feed.contains(document.activeElement) || feed.scrollTop > 0;

function drawSoon() {
  if (drawing) return;
  drawing = setTimeout(draw, Math.max(0, drawnAt + FEED_EVERY - performance.now()));
}

function draw() {
  drawing = 0;
  const held = isLookedAt();
  find("[data-feed-held]").hidden = !held;
  if (held) return;
  drawnAt = performance.now();
  events.forEach((event, at) => showEvent(lines[at], event));
}

function showEvent(line, event) {
  const key = `${event.epoch}:${event.seq}`;
  if (line.dataset.key === key) return;
  line.dataset.key = key;
  const [group, word] = event.type.split(".");
  line.className = `event-${word}`;
  const [time, what, who, queue] = line.children;
  time.setAttribute("datetime", event.at);
  time.title = new Date(event.at).toLocaleString();
  write(time, clock(event.at));
  what.replaceChildren(icon(word), made("span", "", plain(group === "job" ? word : `${group} ${word}`)));
  who.replaceChildren(...(event.job ? [linked(event.job, nameOf(event.data.name ?? names.get(event.job) ?? `job ${event.job}`))] : []));
  write(queue, event.queue ?? "");
}

const clock = (iso) => new Date(iso).toLocaleTimeString("en-GB");

for (const time of all("[data-clock][datetime]")) write(time, clock(time.getAttribute("datetime")));

if (feed) for (const type of ["pointerleave", "focusout", "scroll"]) feed.addEventListener(type, drawSoon);
find("[data-reload]").hidden = true;

new Live(["stats", "consumers", "queues", ...(named ? ["watches", "events"] : [])], {
  stats: showStats,
  consumers: showConsumers,
  queues: showQueues,
  watches: showWatches,
  events: hearEvents,
});
