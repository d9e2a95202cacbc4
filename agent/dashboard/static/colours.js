// Colours stand in style.css; canvases get them from there.

const KNOWN = ["neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised"];
let order = KNOWN;
const resolved = new Map();
const probe = document.createElement("span");
probe.hidden = true;
document.documentElement.append(probe);

/** The labels of the agent, in its order. */
export function setLabels(labels) {
  order = labels;
}

/** The CSS colour of a label: its own, or for labels that are not the usual ones, by their place. */
export function labelColour(label) {
  if (label == null) return "var(--none)";
  if (KNOWN.includes(label)) return `var(--${label})`;
  return `var(--${KNOWN[Math.max(0, order.indexOf(label)) % KNOWN.length]})`;
}

/** What a CSS colour is now, for a canvas. */
export function ink(css) {
  if (!resolved.has(css)) {
    probe.style.color = css;
    resolved.set(css, getComputedStyle(probe).color);
  }
  return resolved.get(css);
}

/** Red, green, blue, 0..255. */
export function rgb(css) {
  return ink(css).match(/[\d.]+/g).slice(0, 3).map(Number);
}

/** Black or white, whichever can be read on a colour (WCAG 2.2, relative luminance). */
export function inkOn(css) {
  const [r, g, b] = rgb(css).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}

/** The theme has changed. */
export function forget() {
  resolved.clear();
}
