// A radiograph with window and level, zoom, inversion, and a heat map over it.

import { button, element } from "./elements.js";

const STEP = 0.05; // of window and level, by key
const ZOOM = 1.25;
const NEAREST = 8;

/**
 * A picture on the screen. `Viewer.node` is what the page shows.
 *
 * Pixels are the 8-bit display values that the service renders; window and level are in the same 0 to 1. Nothing is
 * calculated on a server: what is seen is the picture that came, through a table of 256 values.
 */
export class Viewer {
  constructor(label) {
    this.canvas = element("canvas", undefined, { width: 512, height: 512 });
    this.over = element("canvas", undefined, { class: "over", width: 512, height: 512 });
    this.empty = element("p", "", { class: "quiet centre" });
    this.layer = element("div", undefined, { class: "film-layer" }, this.canvas, this.over);
    this.stage = element(
      "div",
      undefined,
      { class: "film", tabindex: 0, role: "img", "aria-label": label, "aria-describedby": "film-keys" },
      this.layer,
      this.empty,
    );
    this.legend = element("p", "", { class: "legend quiet", "aria-live": "polite" });
    this.window = slider("Window", 0.02, 1, 1, () => this.draw());
    this.level = slider("Level", 0, 1, 0.5, () => this.draw());
    this.invertButton = button("Invert", () => this.invert(), { "aria-pressed": "false", class: "second" });
    const tools = element(
      "div",
      undefined,
      { class: "row tools", role: "group", "aria-label": `Display of ${label}` },
      this.window.label,
      this.level.label,
      this.invertButton,
      button("+", () => this.zoom(ZOOM), { class: "second", "aria-label": "Zoom in" }),
      button("−", () => this.zoom(1 / ZOOM), { class: "second", "aria-label": "Zoom out" }),
      button("Reset", () => this.reset(), { class: "second" }),
    );
    this.node = element("figure", undefined, { class: "viewer" }, this.stage, this.legend, tools);
    this.picture = null;
    this.listen();
    this.reset();
  }

  /** Shows a PNG. Resolves once it is drawn. */
  async show(png, label) {
    const bitmap = await createImageBitmap(png);
    const { width, height } = bitmap;
    const reading = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    reading.drawImage(bitmap, 0, 0);
    const pixels = reading.getImageData(0, 0, width, height).data;
    this.picture = { png, width, height, grey: pixels.filter((_, at) => at % 4 === 0) };
    for (const canvas of [this.canvas, this.over]) Object.assign(canvas, { width, height });
    if (label) this.stage.setAttribute("aria-label", label);
    this.empty.textContent = "";
    this.clearMap();
    this.reset();
  }

  /** Shows words instead of a picture. */
  tell(text) {
    this.picture = null;
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.clearMap();
    this.empty.textContent = text;
  }

  reset() {
    this.window.input.value = 1;
    this.level.input.value = 0.5;
    this.inverted = false;
    this.scale = 1;
    this.shift = { x: 0, y: 0 };
    this.draw();
    this.place();
  }

  invert() {
    this.inverted = !this.inverted;
    this.draw();
  }

  draw() {
    this.invertButton.setAttribute("aria-pressed", String(this.inverted));
    if (!this.picture) return;
    const { width, height, grey } = this.picture;
    const table = windowed(Number(this.window.input.value), Number(this.level.input.value), this.inverted);
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const words = new Uint32Array(image.data.buffer);
    for (let at = 0; at < grey.length; at += 1) words[at] = table[grey[at]];
    context.putImageData(image, 0, 0);
  }

  zoom(factor) {
    this.scale = Math.min(NEAREST, Math.max(1, this.scale * factor));
    if (this.scale === 1) this.shift = { x: 0, y: 0 };
    this.place();
  }

  move(x, y) {
    const most = (this.scale - 1) / 2; // of the stage: the film's edge goes no farther than its middle
    const { clientWidth, clientHeight } = this.stage;
    this.shift.x = clamp(this.shift.x + x / Math.max(clientWidth, 1), most);
    this.shift.y = clamp(this.shift.y + y / Math.max(clientHeight, 1), most);
    this.place();
  }

  place() {
    this.layer.style.transform = `translate(${100 * this.shift.x}%, ${100 * this.shift.y}%) scale(${this.scale})`;
  }

  /** Draws a map over the picture. See `heat.js`. */
  showMap(map, phrase) {
    if (!this.picture) return;
    map.paint(this.over.getContext("2d"));
    this.legend.replaceChildren(
      element("span", `Where the encoders see “${phrase}” most in this image. `),
      element("span", "Every image has such a place: no proof of a finding.", { class: "quiet" }),
    );
  }

  clearMap() {
    this.over.getContext("2d").clearRect(0, 0, this.over.width, this.over.height);
    this.legend.textContent = "";
  }

  listen() {
    let from = null;
    this.stage.addEventListener("pointerdown", (event) => {
      from = { x: event.clientX, y: event.clientY };
      this.stage.setPointerCapture(event.pointerId);
    });
    this.stage.addEventListener("pointermove", (event) => {
      if (!from) return;
      const x = event.clientX - from.x;
      const y = event.clientY - from.y;
      from = { x: event.clientX, y: event.clientY };
      if (this.scale > 1 && !event.shiftKey && event.buttons !== 2) this.move(x, y);
      else this.adjust(x / this.stage.clientWidth, y / this.stage.clientHeight);
    });
    for (const end of ["pointerup", "pointercancel"]) this.stage.addEventListener(end, () => (from = null));
    this.stage.addEventListener("contextmenu", (event) => event.preventDefault());
    this.stage.addEventListener("dblclick", () => this.reset());
    this.stage.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && document.activeElement !== this.stage) return; // the page scrolls
        event.preventDefault();
        this.zoom(event.deltaY < 0 ? ZOOM : 1 / ZOOM);
      },
      { passive: false },
    );
    this.stage.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const far = 40;
    const moves = { ArrowLeft: [far, 0], ArrowRight: [-far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] };
    const acts = { i: () => this.invert(), r: () => this.reset(), "+": () => this.zoom(ZOOM), "-": () => this.zoom(1 / ZOOM) };
    const levels = { "[": [-STEP, 0], "]": [STEP, 0], ",": [0, -STEP], ".": [0, STEP] };
    if (moves[event.key] && this.scale > 1) this.move(...moves[event.key]);
    else if (acts[event.key]) acts[event.key]();
    else if (levels[event.key]) this.adjust(...levels[event.key]);
    else return;
    event.preventDefault();
  }

  /** Wider window, higher level, as shares of the whole range. */
  adjust(window, level) {
    this.window.input.value = Number(this.window.input.value) + window;
    this.level.input.value = Number(this.level.input.value) + level;
    this.draw();
  }
}

/** 256 pixels (RGBA, little endian) of the display values 0..255 through a linear window (PS3.3 C.11.2.1.3.2). */
function windowed(width, level, inverted) {
  const table = new Uint32Array(256);
  for (let value = 0; value < 256; value += 1) {
    const share = Math.min(1, Math.max(0, (value / 255 - level) / width + 0.5));
    const grey = Math.round(255 * (inverted ? 1 - share : share));
    table[value] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  return table;
}

function slider(name, min, max, value, changed) {
  const input = element("input", undefined, { type: "range", min, max, step: 0.01, value, oninput: changed });
  return { input, label: element("label", `${name} `, { class: "slider" }, input) };
}

const clamp = (value, most) => Math.min(most, Math.max(-most, value));
