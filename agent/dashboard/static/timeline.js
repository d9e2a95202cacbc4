// The last minutes: what was decided, how surely, what each modality said or why it was missing, and what happened.

import { by, h, say, Sheet, soon } from "./dom.js";
import { ink, inkOn, labelColour } from "./colours.js";
import { clock, labelled, millis, percent, sureness, t } from "./words.js";

const LANES = [
  { name: "fused", tall: 34 },
  { name: "certainty", tall: 46 },
  { name: "vision", tall: 26 },
  { name: "audio", tall: 26 },
  { name: "text", tall: 26 },
  { name: "lane.events", tall: 22 },
];
const GAP = 8;
const AXIS = 20;
const TALL = LANES.reduce((sum, { tall }) => sum + tall + GAP, AXIS);
const EVENTS = 200;
const FONT = "12px system-ui, sans-serif";

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

/** Events by their ids: label, begin and end; null where one goes on. */
function spans(events) {
  const found = new Map();
  for (const { t: at, event } of events) {
    if (event.type === "source") continue;
    const known = found.get(event.id) ?? { from: Date.parse(event.since), to: null };
    found.set(event.id, { ...known, label: event.label, to: event.type === "end" ? at : null });
  }
  return found.values();
}

/** Runs of neighbours that are alike: [key, points]. */
function runs(points, key, hop) {
  const found = [];
  for (const point of points) {
    const last = found.at(-1);
    if (last && last[0] === key(point) && point.t - last[1].at(-1).t < 2.5 * hop) last[1].push(point);
    else found.push([key(point), [point]]);
  }
  return found;
}

/** The name of a run, where there is room for it. */
function write(context, words, { left, right, middle, colour }) {
  const from = Math.max(0, left) + 6;
  if (context.measureText(words).width > right - from - 4) return;
  context.fillStyle = colour;
  context.fillText(words, from, middle + 0.5);
}

function drawFused({ context, x, top, tall, points, hop }) {
  for (const [label, run] of runs(points, (point) => point.label, hop)) {
    const [left, right] = [x(run[0].t - hop), x(run.at(-1).t)];
    const css = labelColour(label);
    context.fillStyle = ink(css);
    context.fillRect(left, top, right - left, tall);
    context.font = `600 ${FONT}`;
    write(context, labelled(label), { left, right, middle: top + tall / 2, colour: inkOn(css) });
    context.fillStyle = ink("var(--card)");
    context.fillRect(left, top, 1, tall);
  }
  context.font = FONT;
}

/** How sure the answer was, as a line, and how much the modalities conflicted, as an area. */
function drawCertainty({ context, x, top, tall, points, hop }) {
  const y = (share) => top + tall - 2 - share * (tall - 4);
  for (const [, run] of runs(points, () => true, hop)) {
    const left = x(run[0].t - hop);
    context.beginPath();
    context.moveTo(left, y(0));
    for (const { t: at, conflict } of run) context.lineTo(x(at), y(conflict));
    context.lineTo(x(run.at(-1).t), y(0));
    context.fillStyle = ink("var(--conflict)");
    context.fill();
    context.beginPath();
    context.moveTo(left, y(run[0].p));
    for (const { t: at, p } of run) context.lineTo(x(at), y(p));
    context.strokeStyle = ink("var(--ink)");
    context.lineWidth = 1.75;
    context.lineJoin = "round";
    context.stroke();
  }
}

/** The modality's own label, as tall as its share in the answer; where it is missing, why. */
function drawModality({ context, x, top, tall, points, hop, name }) {
  const said = (point) => point.m[name];
  const key = (point) => (Array.isArray(said(point)) ? `+${said(point)[0]}` : `!${said(point)}`);
  for (const [alike, run] of runs(points, key, hop)) {
    const [left, right] = [x(run[0].t - hop), x(run.at(-1).t)];
    const middle = top + tall / 2;
    const label = alike.slice(1);
    if (alike[0] === "!") {
      hatch(context, label, { left, top, width: right - left, tall });
      write(context, t(`why.${label}`), { left, right, middle, colour: ink("var(--soft)") });
      continue;
    }
    const colour = ink(labelColour(label));
    context.globalAlpha = 0.22;
    context.fillStyle = colour;
    context.fillRect(left, top, right - left, tall);
    context.globalAlpha = 1;
    for (const point of run) {
      const share = Math.max(0.12, said(point)[2]) * tall;
      context.fillRect(x(point.t - hop), top + tall - share, x(point.t) - x(point.t - hop) + 0.5, share);
    }
    const words = labelled(label);
    const from = Math.max(0, left) + 6;
    const wide = context.measureText(words).width;
    if (wide > right - from - 4) continue;
    context.fillStyle = ink("var(--card)");
    context.globalAlpha = 0.82;
    context.beginPath();
    context.roundRect(from - 3, middle - 9, wide + 6, 18, 4);
    context.fill();
    context.globalAlpha = 1;
    context.fillStyle = ink("var(--ink)");
    context.fillText(words, from, middle + 0.5);
  }
}

/** A pattern for each reason, so that none is told by colour alone: silent is bare. */
function hatch(context, reason, { left, top, width, tall }) {
  if (reason === "silent") return;
  context.save();
  context.beginPath();
  context.rect(left, top, width, tall);
  context.clip();
  context.strokeStyle = ink(reason === "failed" ? "var(--bad)" : "var(--mark)");
  context.lineWidth = 1;
  context.beginPath();
  const step = reason === "disabled" ? 12 : 7;
  for (let at = Math.floor(left / step) * step - tall; at < left + width; at += step) {
    if (reason !== "skipped") context.moveTo(at, top + tall), context.lineTo(at + tall, top);
    if (reason === "failed") context.moveTo(at, top), context.lineTo(at + tall, top + tall);
    if (reason === "skipped") context.moveTo(at, top), context.lineTo(at, top + tall);
  }
  context.stroke();
  context.restore();
}

/** Events from their beginning to their end, and sources that went or came back. */
function drawEvents({ context, x, top, tall, events, width }) {
  const middle = top + tall / 2;
  for (const { label, from, to } of spans(events)) {
    const [left, right] = [x(from), to === null ? width : x(to)];
    if (right < 0) continue;
    const css = labelColour(label);
    context.fillStyle = ink(css);
    context.beginPath();
    context.roundRect(left, top + 2, Math.max(4, right - left), tall - 4, 6);
    context.fill();
    write(context, labelled(label), { left, right, middle, colour: inkOn(css) });
  }
  let free = 0;
  for (const { t: at, event } of events.filter(({ event }) => event.type === "source")) {
    const left = x(at);
    if (left < 0) continue;
    context.fillStyle = ink(event.state === "live" ? "var(--good)" : "var(--bad)");
    context.beginPath();
    context.moveTo(left, middle - 6);
    context.lineTo(left + 5, middle);
    context.lineTo(left, middle + 6);
    context.lineTo(left - 5, middle);
    context.fill();
    const words = told(event);
    if (left < free || left + 15 + context.measureText(words).width > width) continue;
    context.fillStyle = ink("var(--soft)");
    context.fillText(words, left + 9, middle + 0.5);
    free = left + 15 + context.measureText(words).width;
  }
}

function drawAxis({ context, x, top, width, now, span }) {
  const step = [5, 10, 15, 30, 60, 120, 300, 600, 900].map((s) => s * 1000).find((ms) => (width * ms) / span > 84) ?? 1800000;
  context.fillStyle = ink("var(--soft)");
  context.textAlign = "center";
  for (let at = Math.ceil((now - span) / step) * step; at < now; at += step) {
    const middle = x(at);
    context.fillRect(middle, top - GAP + 2, 1, 4);
    if (middle > 26 && middle < width - 26) context.fillText(clock(at), middle, top + 8);
  }
  context.textAlign = "left";
}

/** An event in words. */
export function told(event) {
  if (event.type === "source") return t("event.source", { source: event.source, state: t(`event.${event.state}`) });
  return t(`event.${event.type}`, { label: labelled(event.label), p: sureness(event.confidence) });
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
