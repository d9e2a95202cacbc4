// The last minutes: what was decided, how surely, what each modality said or why it was missing, and what happened.

import { by, h, say, Sheet, soon } from "./dom.js";
import { ink } from "./colours.js";
import { drawAxis, drawCertainty, drawEvents, drawFused, drawModality, FONT, GAP, told } from "./lanes.js";
import { clock, labelled, millis, percent, sureness, t } from "./words.js";

const LANES = [
  { name: "fused", tall: 34 },
  { name: "certainty", tall: 46 },
  { name: "vision", tall: 26 },
  { name: "audio", tall: 26 },
  { name: "text", tall: 26 },
  { name: "lane.events", tall: 22 },
];
const AXIS = 20;
const TALL = LANES.reduce((sum, { tall }) => sum + tall + GAP, AXIS);
const EVENTS = 200;

export class Timeline {
  #points = [];
  #events = [];
  #hop = 500;
  #kept = 300000;
  #span = 60000;
  #ahead = 0; // of the agent's clock before ours
  #chosen = null; // the instant of the window that is looked at; null is the newest
  #canvas = by("timeline");
  #paint = () => this.#draw();
  #sheet = new Sheet(this.#canvas, TALL, this.#paint);

  constructor() {
    const names = by("lane-names");
    for (const { name, tall } of LANES) {
      const item = names.appendChild(h("li", {}, h("span", { class: `key ${name}` }), h("span", { "data-t": name })));
      if (name === "certainty") item.append(h("span", { class: "key conflict" }), h("span", { "data-t": "conflict" }));
      item.style.setProperty("--tall", `${tall + GAP}px`);
    }
    this.#canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.#canvas.addEventListener("pointerdown", (event) => this.#point(event));
    this.#canvas.addEventListener("pointerleave", () => this.#choose(null));
    this.#canvas.addEventListener("keydown", (event) => this.#key(event));
    this.#canvas.addEventListener("blur", () => this.#choose(null));
  }

  hello({ hop_ms, history_ms, t: now }) {
    this.#hop = hop_ms;
    this.#kept = history_ms;
    this.#ahead = now - Date.now();
    this.#span = Math.min(60000, history_ms);
    this.#spans();
  }

  history({ points, events }) {
    this.#points = points;
    this.#events = events;
    this.#chosen = null;
    this.words();
  }

  decision({ point }) {
    if (point.t <= (this.#points.at(-1)?.t ?? 0)) return;
    this.#points.push(point);
    while (this.#points[0].t < point.t - this.#kept) this.#points.shift();
    if (this.#chosen !== null && this.#chosen < point.t - this.#span) this.#chosen = null;
    this.#read();
    soon(this.#paint);
  }

  event(event) {
    this.#events.push(event);
    if (this.#events.length > EVENTS) this.#events.shift();
    this.#list();
    soon(this.#paint);
  }

  metrics() {
    soon(this.#paint);
  }

  words() {
    for (const input of by("spans").querySelectorAll("button")) say(input, t("minutes", { n: input.dataset.minutes }));
    this.#list();
    this.#read();
    soon(this.#paint);
  }

  colours() {
    soon(this.#paint);
  }

  #spans() {
    const choices = [1, 5, 15, 60].map((n) => n * 60000).filter((ms) => ms < this.#kept);
    const buttons = [...choices, this.#kept].map((ms) => {
      const minutes = Math.round(ms / 6000) / 10;
      const button = h("button", { type: "button", "data-minutes": minutes, "aria-pressed": ms === this.#span });
      say(button, t("minutes", { n: minutes }));
      button.addEventListener("click", () => {
        this.#span = ms;
        for (const each of by("spans").children) each.setAttribute("aria-pressed", each === button);
        soon(this.#paint);
      });
      return button;
    });
    by("spans").replaceChildren(...buttons);
  }

  /** What happened, newest first, in words. */
  #list() {
    say(by("event-count"), String(this.#events.length));
    by("events").replaceChildren(
      ...this.#events.toReversed().map(({ t: at, event }) => h("li", {}, h("span", { class: "meta" }, clock(at)), " ", told(event))),
    );
  }

  #now() {
    return Math.max(this.#points.at(-1)?.t ?? 0, Date.now() + this.#ahead);
  }

  #point({ offsetX }) {
    const at = this.#now() - (1 - offsetX / this.#canvas.clientWidth) * this.#span + this.#hop / 2;
    const nearest = this.#points.reduce((best, { t }) => (Math.abs(t - at) < Math.abs(best - at) ? t : best), -Infinity);
    this.#choose(Number.isFinite(nearest) ? nearest : null);
  }

  #key(event) {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: -10, PageDown: 10 };
    const last = this.#points.length - 1;
    const at = this.#chosen === null ? last : this.#points.findIndex(({ t }) => t === this.#chosen);
    const first = this.#points.findIndex(({ t }) => t > this.#now() - this.#span);
    if (last < 0) return;
    if (event.key in steps) this.#choose(this.#points[Math.min(last, Math.max(first, at + steps[event.key]))].t);
    else if (event.key === "Home") this.#choose(this.#points[first].t);
    else if (event.key === "End" || event.key === "Escape") this.#choose(null);
    else return;
    event.preventDefault();
  }

  #choose(at) {
    if (at === this.#chosen) return;
    this.#chosen = at;
    this.#read();
    soon(this.#paint);
  }

  #read() {
    const point = this.#chosen === null ? null : this.#points.find(({ t }) => t === this.#chosen);
    const shown = point ?? this.#points.at(-1);
    say(by("readout"), point ? sentence(point) : t("now"));
    if (!shown) return;
    const visible = this.#points.filter(({ t }) => t > this.#now() - this.#span);
    this.#canvas.setAttribute("aria-valuemax", Math.max(0, visible.length - 1));
    this.#canvas.setAttribute("aria-valuenow", Math.max(0, visible.indexOf(shown)));
    if (point || document.activeElement !== this.#canvas) this.#canvas.setAttribute("aria-valuetext", sentence(shown));
  }

  #draw() {
    const { context, width } = this.#sheet.begin();
    const now = this.#now();
    const x = (at) => width - ((now - at) / this.#span) * width;
    const points = this.#points.filter(({ t }) => t > now - this.#span);
    context.font = FONT;
    context.textBaseline = "middle";
    let top = 0;
    for (const { name, tall } of LANES) {
      context.fillStyle = ink("var(--lane)");
      context.beginPath();
      context.roundRect(0, top, width, tall, 4);
      context.fill();
      context.save();
      context.clip();
      const lane = { context, x, top, tall, width, points, hop: this.#hop };
      if (name === "fused") drawFused(lane);
      else if (name === "certainty") drawCertainty(lane);
      else if (name === "lane.events") drawEvents({ ...lane, events: this.#events });
      else drawModality({ ...lane, name });
      context.restore();
      top += tall + GAP;
    }
    drawAxis({ context, x, top, width, now, span: this.#span });
    if (this.#chosen !== null) {
      context.fillStyle = ink("var(--ink)");
      context.fillRect(Math.round(x(this.#chosen - this.#hop / 2)), 0, 1.5, top);
    }
  }
}

/** A window in words. */
function sentence({ t: at, label, p, conflict, m, ms }) {
  const parts = ["vision", "audio", "text"].map((name) => {
    const said = m[name];
    return Array.isArray(said) ? `${t(name)} ${labelled(said[0])} ${sureness(said[1])}` : `${t(name)} ${t(`why.${said}`)}`;
  });
  const head = [clock(at), `${labelled(label)} ${sureness(p)}`, `${t("conflict")} ${percent(conflict)}`];
  return [...head, ...parts, millis(ms)].join(" · ");
}
