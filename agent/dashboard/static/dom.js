// The few things that every panel does with the document. Text goes in as text, never as HTML.

export const by = (id) => document.getElementById(id);

/** An element with properties (`class`, `dataset`-less attributes as they are written in HTML) and children. */
export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) made.setAttribute(name, value);
  made.append(...children.filter((child) => child != null));
  return made;
}

/** Sets text only where it differs, so that nothing is laid out again in vain. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The rows of a <dl>: pairs of name and value; rows that are there are kept. */
export function facts(list, pairs) {
  while (list.children.length > pairs.length) list.lastChild.remove();
  pairs.forEach(([name, value], i) => {
    const row = list.children[i] ?? list.appendChild(h("div", {}, h("dt"), h("dd")));
    say(row.firstChild, name);
    say(row.lastChild, value);
  });
}

const waiting = new Set();

/** Calls each painter once before the next frame, however often it is asked for; not while nobody sees the page. */
export function soon(paint) {
  if (!waiting.size) requestAnimationFrame(() => {
    const now = [...waiting];
    waiting.clear();
    for (const each of now) each();
  });
  waiting.add(paint);
}

/** A canvas of `height` CSS pixels (a number, or a function of the width) that is as wide as it may be: calls `paint`
 *  when that changes, and `begin` gives its cleared context in CSS pixels. */
export class Sheet {
  #width = 0;
  #height;

  constructor(canvas, height, paint) {
    this.canvas = canvas;
    this.#height = typeof height === "function" ? height : () => height;
    new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (width === this.#width) return;
      this.#width = width;
      soon(paint);
    }).observe(canvas);
  }

  begin() {
    const width = this.#width;
    const height = Math.round(this.#height(width));
    const dense = window.devicePixelRatio || 1;
    const [w, t] = [Math.round(width * dense), Math.round(height * dense)];
    if (this.canvas.width !== w || this.canvas.height !== t) {
      this.canvas.width = w;
      this.canvas.height = t;
      this.canvas.style.height = `${height}px`;
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(dense, 0, 0, dense, 0, 0);
    context.clearRect(0, 0, width, height);
    return { context, width, height };
  }
}
