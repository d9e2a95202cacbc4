// What was typed and said, newest at the end.

import { by, h } from "./dom.js";
import { clock, t } from "./words.js";

const MOST = 200;

export class Sayings {
  #list = by("sayings");
  #all = [];
  #down = true; // whether the newest is in sight: who reads older ones is not torn away

  constructor() {
    this.#list.addEventListener("scroll", () => {
      this.#down = this.#list.scrollTop + this.#list.clientHeight >= this.#list.scrollHeight - 24;
    });
    new ResizeObserver(() => this.#follow()).observe(this.#list);
  }

  history({ sayings }) {
    this.#all = sayings;
    this.words();
  }

  saying(saying) {
    this.#all.push(saying);
    if (this.#all.length === 1) this.#list.replaceChildren();
    this.#list.append(row(saying));
    if (this.#all.length > MOST) {
      this.#all.shift();
      this.#list.firstChild.remove();
    }
    this.#follow();
  }

  words() {
    this.#list.replaceChildren(...(this.#all.length ? this.#all.map(row) : [h("div", { class: "caption" }, t("words.none"))]));
    this.#down = true;
    this.#follow();
  }

  #follow() {
    if (this.#down) this.#list.scrollTop = this.#list.scrollHeight;
  }
}

function row({ t: at, source, origin, lang, text }) {
  return h(
    "div",
    { class: origin },
    h("p", { class: "meta" }, `${clock(at)} · ${t(origin === "speech" ? "said" : "typed")} · ${source}`),
    h("p", { lang, dir: "auto" }, text),
  );
}
