// The lanes of the timeline, each drawn from its top: `x` gives the place of an instant, `hop` the length of a window.

import { ink, inkOn, labelColour } from "./colours.js";
import { clock, labelled, sureness, t } from "./words.js";

/** Between two lanes, in CSS pixels. */
export const GAP = 8;
/** Of what is written in them. */
export const FONT = "12px system-ui, sans-serif";

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

export function drawFused({ context, x, top, tall, points, hop }) {
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
export function drawCertainty({ context, x, top, tall, points, hop }) {
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
export function drawModality({ context, x, top, tall, points, hop, name }) {
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
export function drawEvents({ context, x, top, tall, events, width }) {
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

export function drawAxis({ context, x, top, width, now, span }) {
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
