// The buttons that act on the agent, and those that act on the page.

import { by, say } from "./dom.js";
import { forget } from "./colours.js";
import { fill, setLanguage, spoken, t } from "./words.js";

const SHOWN_MS = 6000;

export class Controls {
  #now = { paused: false, recording: false };
  #timer = 0;

  constructor(told) {
    by("pause").addEventListener("click", () => (this.#now.paused ? this.#ask("resume", "", "resume") : this.#ask("pause", "", "pause")));
    by("record").addEventListener("click", () =>
      this.#now.recording ? this.#ask("record", "stop", "stop") : this.#ask("record", "start", "record"),
    );
    by("language").value = spoken();
    by("language").addEventListener("change", ({ target }) => {
      localStorage.setItem("attune.language", target.value);
      setLanguage(target.value);
      fill();
      told("words");
    });
    const theme = document.documentElement.dataset;
    by("theme").value = theme.theme ?? "";
    by("theme").addEventListener("change", ({ target }) => {
      localStorage.setItem("attune.theme", target.value);
      theme.theme = target.value;
      forget();
      told("colours");
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      forget();
      told("colours");
    });
  }

  hello({ commands }) {
    by("pause").disabled = by("record").disabled = !commands;
  }

  metrics({ paused, recording }) {
    this.#now = { paused, recording };
    this.words();
  }

  words() {
    const { paused, recording } = this.#now;
    say(by("pause"), t(paused ? "resume" : "pause"));
    say(by("record"), t(recording ? "record.stop" : "record"));
    by("record").classList.toggle("on", recording);
    by("pause").classList.toggle("on", paused);
  }

  /** Says something for a while. */
  toast(text) {
    const toast = by("toast");
    say(toast, text);
    toast.hidden = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => (toast.hidden = true), SHOWN_MS);
  }

  async #ask(name, payload, done) {
    let reply;
    try {
      const answer = await fetch(`/api/cmd/${name}`, { method: "POST", body: payload });
      reply = await answer.json();
    } catch {
      reply = { ok: false, said: t("unreachable") };
    }
    this.toast(reply.ok ? t(`done.${done}`) : t("failed", { why: reply.said }));
  }
}
