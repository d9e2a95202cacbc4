// The camera's newest picture, with the faces that were found in it.

import { by, say, Sheet, soon } from "./dom.js";
import { ink, labelColour } from "./colours.js";
import { labelled, sureness, t } from "./words.js";

const FRESH_MS = 1600; // older boxes are not drawn over a newer picture

export class Picture {
  #bitmap = null;
  #shown = { source: null, t: 0 };
  #seen = new Set(); // sources that have pictures
  #decoding = false;
  #preview = true;
  #paused = false;
  #message = null;
  #paint = () => this.#draw();
  #sheet = new Sheet(by("picture"), (width) => width * (this.#bitmap ? this.#bitmap.height / this.#bitmap.width : 0.75), this.#paint);

  hello({ preview }) {
    this.#preview = preview;
    this.#message = null;
    this.words();
  }

  decision(message) {
    this.#message = message;
    this.words();
    soon(this.#paint);
  }

  async picture({ source, t: at, jpeg }) {
    const chosen = this.#message?.decision.modalities.vision?.source;
    if (this.#decoding || (chosen && this.#seen.has(chosen) && source !== chosen)) return;
    this.#decoding = true;
    try {
      const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
      if (this.#paused) return bitmap.close();
      this.#bitmap?.close();
      this.#bitmap = bitmap;
      const other = source !== this.#shown.source;
      this.#shown = { source, t: at };
      if (other) this.words();
      this.#seen.add(source);
      by("no-picture").hidden = true;
      soon(this.#paint);
    } finally {
      this.#decoding = false;
    }
  }

  /** While the agent is paused nothing of what it saw stays on the page. */
  metrics({ paused }) {
    if (paused === this.#paused) return;
    this.#paused = paused;
    if (paused) {
      this.#bitmap?.close();
      this.#bitmap = null;
      by("no-picture").hidden = false;
      soon(this.#paint);
    }
    this.words();
  }

  words() {
    say(by("no-picture"), t(!this.#preview ? "no-preview" : this.#paused ? "paused" : "no-picture"));
    const faces = this.#faces();
    const found = t(faces.length > 1 ? "faces" : `faces.${faces.length}`, { n: faces.length });
    const source = this.#shown.source ?? "";
    if (this.#message) say(by("camera-text"), source ? `${source} · ${found}` : found);
    by("picture").setAttribute("aria-label", t("camera.alt", { source, faces: found }));
  }

  colours() {
    soon(this.#paint);
  }

  #faces() {
    const regions = this.#message?.regions ?? [];
    return regions.filter(({ source }) => !this.#shown.source || source === this.#shown.source);
  }

  #draw() {
    const { context, width, height } = this.#sheet.begin();
    if (!this.#bitmap) return;
    context.drawImage(this.#bitmap, 0, 0, width, height);
    const part = this.#message?.decision.modalities.vision;
    for (const { t: at, box, landmarks } of this.#faces()) {
      if (Math.abs(this.#shown.t - at) > FRESH_MS) continue;
      const [left, top, right, bottom] = [box[0] * width, box[1] * height, box[2] * width, box[3] * height];
      const colour = ink(labelColour(part?.label));
      context.lineJoin = "round";
      for (const [style, line] of [["rgb(0 0 0 / 0.65)", 5], [colour, 2.5]]) {
        context.strokeStyle = style;
        context.lineWidth = line;
        context.beginPath();
        context.roundRect(left, top, right - left, bottom - top, 8);
        context.stroke();
      }
      for (const [x, y] of landmarks) {
        context.fillStyle = "#fff";
        context.strokeStyle = "rgb(0 0 0 / 0.7)";
        context.lineWidth = 1;
        context.beginPath();
        context.arc(x * width, y * height, 3, 0, 2 * Math.PI);
        context.fill();
        context.stroke();
      }
      if (part) this.#tag(context, `${labelled(part.label)} ${sureness(part.confidence)}`, left, top, width);
    }
  }

  #tag(context, text, left, top, width) {
    context.font = "600 13px system-ui, sans-serif";
    const wide = context.measureText(text).width + 12;
    const x = Math.max(2, Math.min(left, width - wide - 2));
    const y = Math.max(2, top - 26);
    context.fillStyle = "rgb(0 0 0 / 0.72)";
    context.beginPath();
    context.roundRect(x, y, wide, 22, 6);
    context.fill();
    context.fillStyle = "#fff";
    context.textBaseline = "middle";
    context.fillText(text, x + 6, y + 11.5);
  }
}
