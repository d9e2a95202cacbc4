// A bar for each label.

import { h, say } from "./dom.js";
import { labelColour } from "./colours.js";
import { labelled, sureness } from "./words.js";

export class Bars {
  #list;
  #rows = new Map();

  constructor(list) {
    this.#list = list;
  }

  labels(labels) {
    this.#rows.clear();
    this.#list.replaceChildren(
      ...labels.map((label) => {
        const name = h("span", { class: "name" }, labelled(label));
        const fill = h("span", { class: "fill" });
        const value = h("span", { class: "value" }, "–");
        fill.style.setProperty("--colour", labelColour(label));
        const row = h("li", {}, name, h("span", { class: "track", "aria-hidden": "true" }, fill), value);
        this.#rows.set(label, { row, name, fill, value });
        return row;
      }),
    );
  }

  /** Shows probabilities by label; null shows none. */
  show(probabilities, top = null) {
    for (const [label, { row, name, fill, value }] of this.#rows) {
      const p = probabilities?.[label];
      fill.style.setProperty("--share", p ?? 0);
      say(name, labelled(label));
      say(value, p == null ? "–" : sureness(p));
      row.classList.toggle("top", p != null && label === top);
    }
  }
}
