// Hands each message of the agent to the panels that want it: a panel's method has the name of the message's type.

import { by, say } from "./dom.js";
import { setLabels } from "./colours.js";
import { fill, t } from "./words.js";
import { Answer } from "./answer.js";
import { Controls } from "./controls.js";
import { Health } from "./health.js";
import { Link, VERSION } from "./link.js";
import { Modality } from "./modality.js";
import { Picture } from "./picture.js";
import { Sayings } from "./sayings.js";
import { Sound } from "./sound.js";
import { Timeline } from "./timeline.js";

const STALE_HOPS = 6;
const STALE_MS = 3000;

const status = { link: "connecting", seconds: 0, paused: false, hop: 500, run: null, decidedAt: 0 };

const controls = new Controls((name) => tell(name));
const panels = [controls, new Answer(), new Picture(), new Modality("vision"), new Modality("audio"), new Modality("text"), new Timeline(), new Sound(), new Sayings(), new Health(), { words: stand }];
fill();

const link = new Link({
  heard: (message) => {
    if (message.type === "hello" && !meet(message)) return;
    if (message.type === "decision") status.decidedAt = performance.now();
    if (message.type === "metrics") status.paused = message.paused;
    tell(message.type, message);
    if (message.type === "metrics") stand();
  },
  stands: (state, seconds = 0) => {
    Object.assign(status, { link: state, seconds });
    stand();
  },
});

document.addEventListener("visibilitychange", () => link.look(!document.hidden));
link.look(!document.hidden);
link.open();

function tell(name, message) {
  for (const panel of panels) panel[name]?.(message);
}

/** The agent introduces itself; false where this page does not understand it. */
function meet(hello) {
  if (hello.v !== VERSION) {
    controls.toast(t("old"));
    return false;
  }
  if (status.run !== null && status.run !== hello.run) controls.toast(t("restarted"));
  Object.assign(status, { run: hello.run, hop: hello.hop_ms, decidedAt: performance.now() });
  setLabels(hello.labels);
  say(by("node"), hello.node);
  document.title = `Attune · ${hello.node}`;
  return true;
}

/** Says how the connection and the agent stand. */
function stand() {
  const { link: state, seconds, paused, hop, decidedAt } = status;
  const silent = performance.now() - decidedAt;
  let [kind, text] = ["live", t("live")];
  if (state === "connecting") [kind, text] = ["wait", t("connecting")];
  else if (state === "waiting") [kind, text] = ["lost", t("waiting", { s: seconds })];
  else if (state === "refused") [kind, text] = ["lost", t("refused")];
  else if (paused) [kind, text] = ["wait", t("paused")];
  else if (silent > Math.max(STALE_MS, STALE_HOPS * hop)) [kind, text] = ["wait", t("silent", { s: Math.round(silent / 1000) })];
  by("link").dataset.state = kind;
  document.body.classList.toggle("stale", kind !== "live");
  say(by("link-text"), text);
}
