// One modality: what it says, how far it is trusted, or why it is missing.

import { by, facts, h, say } from "./dom.js";
import { Bars } from "./bars.js";
import { labelColour } from "./colours.js";
import { labelled, millis, percent, sureness, t } from "./words.js";

const DEGRADED_BELOW = 0.3; // as agent/health/standing.py

export class Modality {
  #name;
  #card;
  #bars;
  #parts;
  #message = null;

  constructor(name) {
    this.#name = name;
    this.#card = by(name);
    const list = h("ul", { class: "bars" });
    this.#parts = {
      state: h("p", { class: "state" }),
      label: h("p", { class: "own" }),
      why: h("p", { class: "caption" }),
      facts: h("dl", { class: "facts" }),
    };
    this.#bars = new Bars(list);
    const { state, label, why, facts: numbers } = this.#parts;
    this.#card.append(state, label, why, list, numbers);
  }

  hello({ labels }) {
    this.#bars.labels(labels);
    this.#message = null;
  }

  decision(message) {
    this.#message = message;
    this.words();
  }

  words() {
    if (!this.#message) return;
    const { decision, posteriors } = this.#message;
    const part = decision.modalities[this.#name];
    const reason = decision.missing[this.#name];
    const state = !part ? "missing" : part.quality < DEGRADED_BELOW ? "degraded" : "active";
    const { state: chip, label, why, facts: numbers } = this.#parts;
    this.#card.dataset.state = state;
    this.#card.style.setProperty("--colour", labelColour(part?.label));
    say(chip, part ? t(`state.${state}`) : t(`why.${reason}`));
    say(label, part ? `${labelled(part.label)} ${sureness(part.confidence)}` : "–");
    say(why, part ? `${t("source")}: ${[part.source, ...Object.keys(part.rivals ?? {})].join(", ")}` : this.#reason(reason));
    this.#bars.show(part ? posteriors[this.#name] : null, part?.label);
    facts(numbers, [
      [t("weight"), part ? part.weight.toFixed(2) : "–"],
      [t("share"), part ? percent(part.contribution) : "–"],
      [t("quality"), part ? part.quality.toFixed(2) : "–"],
      [t("age"), part ? millis(Math.round(part.age_ms)) : "–"],
      [t("encode"), part ? millis(part.encode_ms) : "–"],
    ]);
  }

  #reason(reason) {
    return reason === "silent" ? t(`${this.#name}.silent`) : t(`long.${reason}`);
  }
}
