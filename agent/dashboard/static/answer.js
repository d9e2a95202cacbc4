// The fused answer: the one thing to see first.

import { by, facts, h, say } from "./dom.js";
import { Bars } from "./bars.js";
import { labelColour } from "./colours.js";
import { labelled, millis, number, percent, sureness, t } from "./words.js";

const MODALITIES = ["vision", "audio", "text"];
const SAID_EVERY_MS = 6000; // a screen reader is told of a new answer at most that often

export class Answer {
  #bars = new Bars(by("fused"));
  #message = null;
  #shares;
  #said = { label: undefined, at: -Infinity };
  #later = 0;

  constructor() {
    this.#shares = MODALITIES.map((modality) => {
      const name = h("span", { class: "name" });
      const value = h("span", { class: "value" });
      const weight = h("span", { class: "weight" });
      const row = h("li", { class: modality }, name, value, weight);
      return { modality, row, name, value, weight };
    });
    by("shares").append(...this.#shares.map(({ row }) => row));
  }

  hello({ labels }) {
    this.#bars.labels(labels);
    this.#message = null;
    this.words();
  }

  decision(message) {
    this.#message = message;
    this.words();
    this.#announce();
  }

  words() {
    if (!this.#message) {
      say(by("label-text"), "–");
      say(by("sure"), t("nothing"));
      return;
    }
    const { decision } = this.#message;
    const p = sureness(decision.confidence);
    say(by("label-text"), labelled(decision.label));
    by("answer").dataset.seq = decision.seq;
    by("answer").style.setProperty("--colour", labelColour(decision.label));
    say(by("sure"), decision.abstained ? t("unsure.why", { p }) : t("sure", { p }));
    facts(by("facts"), [
      [t("conflict"), percent(decision.conflict)],
      [t("rule"), decision.rule],
      [t("latency"), millis(Math.round(decision.latency_ms.total))],
      ...Object.entries(decision.dimensions).map(([name, value]) => [t(name), number(value)]),
    ]);
    this.#bars.show(decision.probabilities, decision.label);
    for (const { modality, row, name, value, weight } of this.#shares) {
      const part = decision.modalities[modality];
      row.style.setProperty("--share", part?.contribution ?? 0);
      row.classList.toggle("missing", !part);
      say(name, t(modality));
      say(value, part ? percent(part.contribution) : t(`why.${decision.missing[modality]}`));
      say(weight, part ? `${t("weight")} ${part.weight.toFixed(2)}` : "");
    }
  }

  #announce() {
    const { label } = this.#message.decision;
    clearTimeout(this.#later);
    if (label === this.#said.label) return;
    const wait = this.#said.at + SAID_EVERY_MS - performance.now();
    if (wait > 0) {
      this.#later = setTimeout(() => this.#announce(), wait);
      return;
    }
    this.#said = { label, at: performance.now() };
    say(by("announce"), `${t("answer")}: ${labelled(label)}`);
  }
}
