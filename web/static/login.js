// /login: counts down how long to wait. Pasting, password managers and typing need nothing from us.

import { find } from "./page.js";

const countdown = find("[data-countdown]");
const button = find("form[action='/login'] button");

if (countdown && button) {
  const until = performance.now() + Number(countdown.dataset.countdown) * 1000;
  button.disabled = true;
  const timer = setInterval(() => {
    const left = Math.ceil((until - performance.now()) / 1000);
    countdown.textContent = `${Math.max(0, left)} s`;
    if (left > 0) return;
    clearInterval(timer);
    button.disabled = false;
    countdown.parentElement.textContent = "You may try again now.";
  }, 250);
}
