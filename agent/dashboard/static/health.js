// What it costs, and what was left out.

import { by, facts, say, Sheet, soon } from "./dom.js";
import { ink } from "./colours.js";
import { millis, number, percent, t } from "./words.js";

const LOWEST_MS = 1;
const DECADES = 4; // 1 ms to 10 s
const BINS_A_DECADE = 6;

export class Health {
  #latencies = [];
  #span = 300000;
  #hello = null;
  #last = null;
  #metrics = null;
  #cpu = null;
  #paint = () => this.#draw();
  #sheet = new Sheet(by("latency"), 96, this.#paint);

  hello(hello) {
    this.#hello = hello;
    this.#span = hello.history_ms;
    this.#last = this.#metrics = this.#cpu = null;
    this.#latencies = [];
    this.words();
  }

  history({ points }) {
    this.#latencies = points.map(({ t: at, ms }) => [at, ms]);
    this.#told();
  }

  decision({ point }) {
    if (point.t <= (this.#latencies.at(-1)?.[0] ?? 0)) return;
    this.#latencies.push([point.t, point.ms]);
    while (this.#latencies[0][0] < point.t - this.#span) this.#latencies.shift();
    this.#told();
  }

  metrics(metrics) {
    if (this.#last) this.#cpu = (metrics.cpu_s - this.#last.cpu_s) / Math.max(0.1, (metrics.t - this.#last.t) / 1000);
    if (!this.#last || metrics.t - this.#last.t >= 2900) this.#last = metrics;
    this.#metrics = metrics;
    this.words();
  }

  words() {
    this.#told();
    if (this.#hello) {
      facts(by("engines"), Object.entries(this.#hello.encoders).map(([name, { about }]) => [t(name), about ?? t("off")]));
    }
    const m = this.#metrics;
    if (!m) return;
    facts(by("load"), [
      [t("cpu"), this.#cpu == null ? "–" : percent(this.#cpu)],
      [t("rss"), `${Math.round(m.max_rss_mib)} MiB`],
      [t("lag"), millis(m.loop_lag_ms)],
      [t("decisions"), number(m.counts.decisions ?? 0)],
      [t("abstained"), number(m.counts.abstained ?? 0)],
    ]);
    const left = [...Object.entries(m.dropped), ...Object.entries(m.counts).filter(([name]) => /drop|skip|fail|refus|spared|unmatched/.test(name))];
    const some = left.filter(([, count]) => count);
    facts(by("dropped"), some.length ? some.map(([name, count]) => [name, number(count)]) : [[t("dropped.none"), "0"]]);
  }

  colours() {
    soon(this.#paint);
  }

  #told() {
    const sorted = this.#latencies.map(([, ms]) => ms).sort((a, b) => a - b);
    const at = (q) => number(sorted[Math.round(q * (sorted.length - 1))]);
    const text = sorted.length ? t("latency.text", { p50: at(0.5), p99: at(0.99), n: sorted.length }) : t("latency.none");
    say(by("latency-text"), text);
    by("latency").setAttribute("aria-label", text);
    soon(this.#paint);
  }

  #draw() {
    const { context, width, height } = this.#sheet.begin();
    const count = DECADES * BINS_A_DECADE;
    const bins = new Array(count).fill(0);
    for (const [, ms] of this.#latencies) {
      const bin = Math.floor(Math.log10(Math.max(LOWEST_MS, ms) / LOWEST_MS) * BINS_A_DECADE);
      bins[Math.min(count - 1, bin)]++;
    }
    const most = Math.max(1, ...bins);
    const floor = height - 18;
    const wide = width / count;
    context.font = "11px system-ui, sans-serif";
    for (let i = 0; i < count; i++) {
      const tall = bins[i] && Math.max(2, (bins[i] / most) * (floor - 4));
      context.fillStyle = ink("var(--accent)");
      context.fillRect(i * wide + 1, floor - tall, wide - 2, tall);
    }
    context.fillStyle = ink("var(--line)");
    context.fillRect(0, floor, width, 1);
    context.fillStyle = ink("var(--soft)");
    for (let decade = 0; decade < DECADES; decade++) {
      context.fillRect(decade * BINS_A_DECADE * wide, floor, 1, 5);
      context.fillText(millis(LOWEST_MS * 10 ** decade), decade * BINS_A_DECADE * wide + 4, height - 4);
    }
  }
}
