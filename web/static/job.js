// /manager/jobs/{id}: state, time, progress and what may be asked change in place. A new attempt is
// announced, not slipped in under the reader.

import { Live } from "./live.js";
import { all, ask, display, find, made, plain, say, showMoment, stamp, whileBusy, write } from "./page.js";

const page = find("[data-job]");
const rendered = { state: page.dataset.state, attempt: page.dataset.attempt };
const WHEN = { running: "for", scheduled: "due", retrying: "next try", queued: "accepted", held: "accepted" };
const cell = (name) => find(`[data-cell="${name}"]`, page);

function show(job) {
  if (page.dataset.state !== job.state) {
    page.dataset.state = job.state;
    cell("state").replaceChildren(stamp("state", job.state));
  }
  write(cell("when-word"), WHEN[job.state] ?? "ended");
  const at = { running: job.started_at, scheduled: job.run_at, retrying: job.run_at }[job.state] ?? job.finished_at ?? job.created_at;
  showMoment(find("time", cell("when")), at, job.state === "running");
  showNote(job);
  for (const button of all("button[data-states]", page)) {
    const asked = button.dataset.action === "cancel" && job.cancel_requested_at;
    const allowed = button.dataset.states.split(" ").includes(job.state) && !asked;
    button.disabled = !allowed;
    button.title = allowed ? "" : asked ? "already asked for" : `not for a job that is ${job.state}`;
  }
  if (job.state !== rendered.state || String(job.attempt) !== rendered.attempt) announce(job);
}

function showNote(job) {
  const note = cell("note");
  if (job.state === "running" && job.progress) {
    if (!find("progress", note)) {
      const bar = made("progress");
      bar.max = 100;
      bar.setAttribute("aria-label", "progress");
      const box = made("span", "progress");
      box.append(bar, " ", made("span", "percent"), " ", made("bdi", "progress-text"));
      note.replaceChildren(box);
    }
    find("progress", note).value = job.progress.percent;
    write(find(".percent", note), `${Math.round(job.progress.percent)} %`);
    write(find(".progress-text", note), display(job.progress.text));
  } else if (job.state !== rendered.state) {
    const line = (job.error ?? "").split("\n").filter((one) => one.trim()).at(-1) ?? "";
    const asked = job.cancel_requested_at ? "cancelling: waiting for its handler to end" : "";
    const text = job.state === "running" ? asked : job.state !== "succeeded" && line ? display(line.trim()) : plain(job.reason ?? "");
    if (note.textContent.trim() !== text) note.replaceChildren(made("bdi", "", text));
  }
}

function announce(job) {
  find("[data-newcomers]").hidden = false;
  say(`Job ${job.id} is ${job.state}`);
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  const button = event.submitter;
  if (!form.dataset.jobActions || !button) return;
  event.preventDefault();
  whileBusy(button, async () => {
    const job = await ask(`/jobs/${form.dataset.jobActions}/${button.dataset.action}`, {});
    if (job) show(job);
  });
});

new Live([`jobs:${page.dataset.job}`], { job: show });
