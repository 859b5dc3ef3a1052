// /manager: what a row says changes in place. Rows never come, go or move by themselves: what is
// new is counted in a bar, what no longer belongs here stays and is dimmed, until the person looks anew.

import { Live } from "./live.js";
import { all, ask, count, display, find, made, plain, say, showMoment, showTime, stamp, whileBusy, write } from "./page.js";

const STATES = ["queued", "running", "retrying", "scheduled", "held", "succeeded", "failed", "cancelled"];
const WAITING = ["queued", "scheduled", "held", "retrying"];
const LINE = ["running", "queued", "retrying", "scheduled", "held"];
const address = new URLSearchParams(location.search);
const wantedStates = address.getAll("state").filter(Boolean);
const wantedQueues = address.getAll("queue").filter(Boolean);
const rows = new Map(all("tr[data-job]").map((row) => [row.dataset.job, row]));
const cell = (row, name) => find(`[data-cell="${name}"]`, row);

// --- rows

function showJob(job) {
  const row = rows.get(job.id);
  if (!row) return;
  if (row.dataset.state !== job.state) showState(row, job);
  showNote(row, job);
  showAttempt(row, job);
  showWhen(row, job);
  row.classList.toggle("moved", wantedStates.length > 0 && !wantedStates.includes(job.state));
}

function showState(row, job) {
  row.dataset.state = job.state;
  cell(row, "state").replaceChildren(stamp("state", job.state));
  const actions = cell(row, "actions");
  if (!actions) return;
  if (actions.contains(document.activeElement)) {
    actions.addEventListener("focusout", () => showActions(row), { once: true });
  } else {
    showActions(row);
  }
}

function showActions(row) {
  const fresh = stamp("actions", row.dataset.state);
  for (const button of all("button", fresh)) {
    button.setAttribute("formaction", button.getAttribute("formaction").replace("/ID/", `/${row.dataset.job}/`));
  }
  cell(row, "actions").replaceChildren(fresh);
}

function showNote(row, job) {
  const note = cell(row, "note");
  if (job.state === "running" && job.progress) {
    if (!find("progress", note)) note.replaceChildren(progress());
    find("progress", note).value = job.progress.percent;
    write(find(".percent", note), `${Math.round(job.progress.percent)} %`);
    write(find(".progress-text", note), display(job.progress.text));
    return;
  }
  const text = noteOf(job) || row.dataset.about;
  if (note.textContent.trim() !== text) {
    const line = made("bdi", "", text);
    line.title = text;
    note.replaceChildren(line);
  }
}

function progress() {
  const box = made("span", "progress");
  const bar = made("progress");
  bar.max = 100;
  bar.setAttribute("aria-label", "progress");
  box.append(bar, " ", made("span", "percent"), " ", made("bdi", "progress-text"));
  return box;
}

function noteOf(job) {
  if (job.state === "running") return job.cancel_requested_at ? "cancelling: waiting for its handler to end" : "";
  const lines = (job.error ?? "").split("\n").filter((line) => line.trim());
  if (job.state !== "succeeded" && lines.length) return display(lines.at(-1).trim());
  return job.reason ? plain(job.reason) : "";
}

function showAttempt(row, job) {
  const most = job.attempt + Math.max(0, job.max_attempts - job.spent - (job.state === "running" ? 1 : 0));
  const text = job.finished_at ? `${job.attempt}` : `${job.attempt}/${most}`;
  const attempt = cell(row, "attempt");
  if (attempt.textContent === text) return;
  attempt.replaceChildren(`${job.attempt}`);
  if (!job.finished_at) attempt.append(made("span", "of", `/${most}`));
}

function showWhen(row, job) {
  const at = { running: job.started_at, scheduled: job.run_at, retrying: job.run_at }[job.state] ?? job.finished_at ?? job.created_at;
  const when = cell(row, "when");
  const template = find(`template[data-state-of="${job.state}"]`);
  write(find(".when-word", when), template.dataset.whenWord);
  showMoment(find("time", when), at, job.state === "running");
}

// --- queues

function showQueues(queues) {
  const counts = Object.fromEntries(STATES.map((state) => [state, 0]));
  if (queues.some((queue) => !cardOf(queue.name))) {
    write(find("a", bar), "The queues have changed: show");
    bar.hidden = false;
  }
  for (const queue of queues) {
    showQueue(queue);
    if (wantedQueues.length && !wantedQueues.includes(queue.name)) continue;
    for (const state of STATES) counts[state] += queue.counts[state];
  }
  for (const state of STATES) write(find(`[data-count="${state}"]`), count(counts[state]));
  write(find('[data-count="all"]'), count(STATES.reduce((sum, state) => sum + counts[state], 0)));
}

function cardOf(name) {
  return find(`[data-queue="${CSS.escape(name)}"]`);
}

function showQueue(queue) {
  const card = cardOf(queue.name);
  if (!card) return;
  const waiting = WAITING.reduce((sum, state) => sum + queue.counts[state], 0);
  const figure = (name) => find(`[data-figure="${name}"]`, card);
  write(figure("waiting"), count(waiting));
  write(figure("running"), count(queue.counts.running));
  write(figure("limit"), String(queue.concurrency || card.dataset.slots));
  write(figure("failed"), count(queue.counts.failed));
  figure("failed").classList.toggle("bad", queue.counts.failed > 0);
  showTime(figure("oldest"), queue.oldest_queued_at);
  showLine(find("[data-line]", card), queue.counts, queue.counts.running + waiting);
  showPause(card, queue.paused);
}

function showLine(line, counts, total) {
  let at = 0;
  for (const state of LINE) {
    const share = total ? (counts[state] / total) * 100 : 0;
    const part = find(`[data-state="${state}"]`, line);
    part.setAttribute("x", `${at}%`);
    part.setAttribute("width", `${share}%`);
    at += share;
  }
  line.setAttribute("aria-label", `running ${counts.running}, waiting ${total - counts.running}`);
}

function showPause(card, paused) {
  card.classList.toggle("is-paused", Boolean(paused));
  for (const part of all('[data-when="paused"]', card)) part.hidden = !paused;
  for (const part of all('[data-when="open"]', card)) {
    part.hidden = Boolean(paused);
    if (paused) part.open = false;
  }
  if (!paused) return;
  const by = find("[data-pause-by]", card);
  const reason = find("[data-pause-reason]", card);
  by.replaceChildren(...(paused.by ? [" by ", made("bdi", "", display(paused.by))] : []));
  reason.replaceChildren(...(paused.reason ? [": ", made("bdi", "", display(paused.reason))] : []));
}

// --- what is new

let first = null;

function showNewcomers({ entered }, kind) {
  const words = wantedStates.length ? wantedStates : ["accepted"];
  const total = Object.entries(entered)
    .filter(([queue]) => !wantedQueues.length || wantedQueues.includes(queue))
    .reduce((sum, [, states]) => sum + words.reduce((inner, word) => inner + (states[word] ?? 0), 0), 0);
  if (first === null || kind === "snapshot") first = total - (Number(bar.dataset.known) || 0);
  const fresh = total - first;
  if (fresh <= 0) return;
  bar.dataset.known = String(fresh);
  const text = address.get("search") ? "Something is new" : `${count(fresh)} new ${fresh === 1 ? "job" : "jobs"}`;
  write(find("a", bar), `${text}: show`);
  bar.hidden = false;
  say(text);
}

const bar = find("[data-newcomers]");

// --- acting

document.addEventListener("submit", (event) => {
  const form = event.target;
  const button = event.submitter;
  if (form.dataset.jobActions && button) {
    event.preventDefault();
    const action = button.getAttribute("formaction").split("/").at(-1);
    whileBusy(button, async () => {
      const job = await ask(`/jobs/${form.dataset.jobActions}/${action}`, {});
      if (!job) return;
      button.blur();
      showJob(job);
      find("a", rows.get(job.id)).focus({ preventScroll: true });
    });
  } else if (form.dataset.queueAction) {
    event.preventDefault();
    const name = form.closest("[data-queue]").dataset.queue;
    const reason = new FormData(form).get("reason") ?? "";
    whileBusy(button ?? form, async () => {
      const queue = await ask(`/queues/${encodeURIComponent(name)}/${form.dataset.queueAction}`, { reason });
      if (queue) showQueue(queue);
    });
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") for (const popup of all("details.popup[open]")) popup.open = false;
});

new Live(["queues", "jobs", ...[...rows.keys()].map((id) => `jobs:${id}`)], {
  queues: showQueues,
  jobs: showNewcomers,
  job: showJob,
});
