// Level, spectrogram, and when somebody speaks.

import { by, say, Sheet, soon } from "./dom.js";
import { ink, rgb } from "./colours.js";
import { number, percent, t } from "./words.js";

const BANDS = 48;
const COLUMN_MS = 50;
const SPAN_MS = 15000;
const COLUMNS = SPAN_MS / COLUMN_MS;
const LOWEST_DB = -60;
const STRIP = 10; // CSS pixels of the strip beneath

export class Sound {
  #scroll = new OffscreenCanvas(COLUMNS, BANDS);
  #context = this.#scroll.getContext("2d", { willReadFrequently: true });
  #bytes = new Uint8Array(COLUMNS * BANDS); // column after column, oldest first
  #table = null;
  #newest = 0;
  #source = null;
  #speaks = [];
  #peak = LOWEST_DB;
  #spoken = null;
  #hop = 500;
  #told = 0;
  #paint = () => this.#draw();
  #sheet = new Sheet(by("spectrogram"), 132, this.#paint);
  #calm = matchMedia("(prefers-reduced-motion: reduce)");

  hello({ hop_ms }) {
    this.#hop = hop_ms;
    this.#bytes.fill(0);
    this.#speaks = [];
    this.#spoken = null;
    this.#source = null;
    this.colours();
    this.words();
  }

  decision({ t: at, speech, decision }) {
    this.#source = decision.modalities.audio?.source ?? this.#source;
    if (speech != null) this.#speaks.push([at, speech]);
    while (this.#speaks.length && this.#speaks[0][0] < at - 2 * SPAN_MS) this.#speaks.shift();
    this.#spoken = speech;
    this.words();
  }

  sound({ t: at, source, rms, peak, columns }) {
    this.#source ??= source;
    if (source !== this.#source) return;
    const bytes = Uint8Array.from(atob(columns), (c) => c.charCodeAt(0));
    this.#bytes.copyWithin(0, bytes.length);
    this.#bytes.set(bytes.subarray(Math.max(0, bytes.length - this.#bytes.length)), Math.max(0, this.#bytes.length - bytes.length));
    this.#scrollBy(bytes);
    this.#newest = at;
    this.#peak = Math.max(peak, this.#peak - 1.5, LOWEST_DB);
    const meter = by("meter");
    meter.style.setProperty("--level", share(rms));
    meter.style.setProperty("--peak", share(this.#peak));
    if (at - this.#told >= 1000) {
      this.#told = at;
      const level = Math.max(LOWEST_DB, Math.round(rms));
      meter.setAttribute("aria-valuenow", level);
      meter.setAttribute("aria-valuetext", t("db", { x: level }));
      say(by("level-text"), t("db", { x: number(level) }));
      if (this.#calm.matches) soon(this.#paint);
    }
    if (!this.#calm.matches) soon(this.#paint);
  }

  words() {
    say(by("speech"), this.#spoken == null ? t("speech.no") : t("speech", { p: percent(this.#spoken) }));
  }

  colours() {
    this.#table = table();
    this.#context.putImageData(this.#image(this.#bytes), 0, 0);
    soon(this.#paint);
  }

  #scrollBy(bytes) {
    const columns = Math.min(COLUMNS, bytes.length / BANDS);
    this.#context.drawImage(this.#scroll, columns, 0, COLUMNS - columns, BANDS, 0, 0, COLUMNS - columns, BANDS);
    this.#context.putImageData(this.#image(bytes.subarray(bytes.length - columns * BANDS)), COLUMNS - columns, 0);
  }

  #image(bytes) {
    const columns = bytes.length / BANDS;
    const image = this.#context.createImageData(columns, BANDS);
    const pixels = new Uint32Array(image.data.buffer);
    for (let column = 0; column < columns; column++) {
      for (let band = 0; band < BANDS; band++) {
        pixels[(BANDS - 1 - band) * columns + column] = this.#table[bytes[column * BANDS + band]];
      }
    }
    return image;
  }

  #draw() {
    const { context, width, height } = this.#sheet.begin();
    context.imageSmoothingEnabled = true;
    context.drawImage(this.#scroll, 0, 0, COLUMNS, BANDS, 0, 0, width, height - STRIP - 4);
    context.fillStyle = ink("var(--line)");
    context.fillRect(0, height - STRIP, width, STRIP);
    context.fillStyle = ink("var(--speech)");
    const x = (at) => width - ((this.#newest - at) / SPAN_MS) * width;
    for (const [at, speech] of this.#speaks) {
      const left = Math.max(0, x(at - this.#hop));
      const right = Math.min(width, x(at));
      if (right > left) context.fillRect(left, height - STRIP * speech, right - left + 0.5, STRIP * speech);
    }
  }
}

const share = (db) => Math.max(0, 1 - db / LOWEST_DB);

/** 256 colours from the card's to the strongest, as the 32 bits of a pixel. */
function table() {
  const stops = ["var(--quiet)", "var(--mid)", "var(--loud)"].map(rgb);
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * 2;
    const [low, high, part] = at < 1 ? [stops[0], stops[1], at] : [stops[1], stops[2], at - 1];
    const [r, g, b] = low.map((c, k) => Math.round(c + (high[k] - c) * part));
    return (255 << 24) | (b << 16) | (g << 8) | r;
  });
}
