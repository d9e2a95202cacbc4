// The WebSocket to the agent: connects again by itself, with growing pauses, and says so.

export const VERSION = 1;
const FIRST_MS = 500;
const LONGEST_MS = 8000;
const SILENCE_MS = 6000; // counters come every second: a link that says nothing for that long is dead

/** Tells `heard` each message as an object (a picture as {type: "picture", source, t, jpeg}), and `stands` how it
 *  stands: "connecting", "live", "waiting" (with seconds until the next try) or "refused" (a token is needed). */
export class Link {
  #heard;
  #stands;
  #socket = null;
  #tries = 0;
  #timer = 0;
  #watch = 0;
  #pictures = true;

  constructor({ heard, stands }) {
    this.#heard = heard;
    this.#stands = stands;
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry());
  }

  open() {
    clearTimeout(this.#timer);
    this.#stands("connecting");
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.#look();
    };
    socket.onmessage = ({ data }) => {
      this.#alive();
      if (typeof data !== "string") return this.#heard(picture(data));
      const message = JSON.parse(data);
      if (message.type === "hello") {
        this.#tries = 0;
        this.#stands("live");
      }
      this.#heard(message);
    };
    socket.onclose = () => {
      clearTimeout(this.#watch);
      if (this.#socket === socket) this.#again(opened);
    };
    this.#socket = socket;
    this.#alive();
  }

  /** Whether pictures are wanted: nobody makes them for a page that nobody sees. */
  look(pictures) {
    this.#pictures = pictures;
    this.#look();
  }

  #look() {
    if (this.#socket?.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify({ type: "look", pictures: this.#pictures }));
    }
  }

  #alive() {
    clearTimeout(this.#watch);
    const socket = this.#socket;
    this.#watch = setTimeout(() => {
      socket?.close();
      if (this.#socket === socket) this.#again(true);
    }, SILENCE_MS);
  }

  async #again(opened) {
    this.#socket = null;
    const pause = Math.min(LONGEST_MS, FIRST_MS * 2 ** this.#tries++) * (0.75 + Math.random() / 4);
    const due = performance.now() + pause;
    if (!opened && (await refused())) return this.#count(performance.now() + LONGEST_MS, "refused");
    this.#count(due, "waiting");
  }

  #count(due, state) {
    const left = due - performance.now();
    if (left <= 0) return this.open();
    this.#stands(state, Math.ceil(left / 1000));
    this.#timer = setTimeout(() => this.#count(due, state), Math.min(left, left % 1000 || 1000));
  }

  #hurry() {
    if (this.#socket === null) this.open();
  }
}

/** Whether the agent is there and asks for a token; a WebSocket does not tell. */
async function refused() {
  try {
    return (await fetch("/static/icon.svg", { method: "HEAD", cache: "no-store" })).status === 401;
  } catch {
    return false;
  }
}

/** A binary message, as agent/dashboard/picture.py lays it out. */
function picture(data) {
  const view = new DataView(data);
  const length = view.getUint16(2);
  const source = new TextDecoder().decode(new Uint8Array(data, 12, length));
  return { type: "picture", source, t: view.getFloat64(4), jpeg: new Uint8Array(data, 12 + length) };
}
