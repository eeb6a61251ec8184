// A radiograph with window and level, zoom, inversion, and a heat map over it.

import { Problem } from "./call.js";
import { button, element } from "./elements.js";
import { pointers } from "./pointers.js";

const STEP = 0.05; // of window and level, by key
const ZOOM = 1.25;
const NEAREST = 8;
const NARROWEST = 0.02;

/**
 * A picture on the screen. `Viewer.node` is what the page shows.
 *
 * Pixels are the 8-bit display values that the service renders; window and level are in the same 0 to 1. Nothing is
 * calculated on a server: what is seen is the picture that came, through a table of 256 values.
 *
 * `changed`: called whenever another picture, or none, is shown: what was said of the one before is over.
 * `unmap`: called when the reader wants the map taken away.
 */
export class Viewer {
  constructor(label) {
    this.changed = () => {};
    this.unmap = () => this.clearMap();
    this.turn = 0; // of pictures: the last one asked for is shown, whatever comes later
    this.picture = null; // { png, view, width, height, grey }
    this.canvas = element("canvas", undefined, { width: 512, height: 512, role: "img", "aria-label": label });
    this.over = element("canvas", undefined, { class: "over", width: 512, height: 512, "aria-hidden": "true" });
    this.empty = element("p", "", { class: "quiet centre" });
    this.layer = element("div", undefined, { class: "film-layer" }, this.canvas, this.over);
    this.stage = element(
      "div",
      undefined,
      { class: "film", tabindex: 0, role: "group", "aria-label": `${label}: keys i, r, plus, minus, brackets, comma and stop, arrows` },
      this.layer,
      this.empty,
    );
    this.legend = element("span", "", { "aria-live": "polite" });
    this.remove = button("Remove", () => this.unmap(), { class: "link", "aria-label": "Remove the map", hidden: true });
    this.windowSlider = slider("Window", NARROWEST, (value) => this.set({ window: value }));
    this.levelSlider = slider("Level", 0, (value) => this.set({ level: value }));
    this.invertButton = button("Invert", () => this.set({ inverted: !this.inverted }), { class: "second" });
    const tools = element(
      "div",
      undefined,
      { class: "row tools", role: "group", "aria-label": `Display of ${label}` },
      this.windowSlider.label,
      this.levelSlider.label,
      this.invertButton,
      button("+", () => this.zoom(ZOOM), { class: "second", "aria-label": "Zoom in" }),
      button("−", () => this.zoom(1 / ZOOM), { class: "second", "aria-label": "Zoom out" }),
      button("Reset", () => this.reset(), { class: "second" }),
    );
    const told = element("p", undefined, { class: "legend quiet" }, this.legend, " ", this.remove);
    this.node = element("figure", undefined, { class: "viewer" }, this.stage, told, tools);
    this.listen();
    this.reset();
  }

  /** Shows the PNG that a promise brings, or says why there is none; unless another one was asked for meanwhile. */
  async load(promise, label, view) {
    this.tell("Loading…");
    const { turn } = this;
    try {
      const png = await promise;
      const bitmap = png && (await createImageBitmap(png));
      if (turn !== this.turn) return;
      if (bitmap) this.show(png, bitmap, label, view);
      else this.tell("No picture.");
    } catch (error) {
      if (turn === this.turn) this.tell(error instanceof Problem ? error.detail : "The picture cannot be shown.");
    }
  }

  show(png, bitmap, label, view) {
    const { width, height } = bitmap;
    const reading = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    reading.drawImage(bitmap, 0, 0);
    bitmap.close();
    const pixels = reading.getImageData(0, 0, width, height).data;
    this.picture = { png, view, width, height, grey: pixels.filter((_, at) => at % 4 === 0) };
    for (const canvas of [this.canvas, this.over]) Object.assign(canvas, { width, height });
    this.canvas.setAttribute("aria-label", label);
    this.empty.textContent = "";
    this.reset();
    this.changed();
  }

  /** Shows words instead of a picture; one that is on its way is not shown any more. */
  tell(text) {
    this.turn += 1;
    this.picture = null;
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.canvas.setAttribute("aria-label", text || "No picture");
    this.empty.textContent = text;
    this.clearMap();
    this.changed();
  }

  reset() {
    this.scale = 1;
    this.shift = { x: 0, y: 0 };
    this.place();
    this.unmap();
    this.set({ window: 1, level: 0.5, inverted: false });
  }

  /** Window and level as shares of the whole range. */
  set({ window = this.window, level = this.level, inverted = this.inverted }) {
    this.window = Math.min(1, Math.max(NARROWEST, window));
    this.level = Math.min(1, Math.max(0, level));
    this.inverted = inverted;
    this.windowSlider.input.value = this.window;
    this.levelSlider.input.value = this.level;
    this.invertButton.setAttribute("aria-pressed", String(inverted));
    this.draw();
  }

  draw() {
    if (!this.picture) return;
    const { width, height, grey } = this.picture;
    const table = windowed(this.window, this.level, this.inverted);
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const words = new Uint32Array(image.data.buffer);
    for (let at = 0; at < grey.length; at += 1) words[at] = table[grey[at]];
    context.putImageData(image, 0, 0);
  }

  zoom(factor) {
    this.scale = Math.min(NEAREST, Math.max(1, this.scale * factor));
    this.move(0, 0);
  }

  move(x, y) {
    const most = (this.scale - 1) / 2; // of the stage: the film's edge goes no farther than its own
    const { clientWidth, clientHeight } = this.stage;
    this.shift.x = clamp(this.shift.x + x / Math.max(clientWidth, 1), most);
    this.shift.y = clamp(this.shift.y + y / Math.max(clientHeight, 1), most);
    this.place();
  }

  place() {
    this.layer.style.transform = `translate(${100 * this.shift.x}%, ${100 * this.shift.y}%) scale(${this.scale})`;
    this.stage.style.touchAction = this.scale > 1 ? "none" : "pan-y"; // a finger scrolls the page until it is zoomed
  }

  /** Draws a map over the picture it was made of. See `heat.js`. */
  showMap(map, words) {
    map.paint(this.over.getContext("2d"));
    this.legend.textContent = words;
    this.remove.hidden = false;
  }

  /** Says something of maps without one. */
  tellOfMap(words) {
    this.clearMap();
    this.legend.textContent = words;
  }

  clearMap() {
    this.over.getContext("2d").clearRect(0, 0, this.over.width, this.over.height);
    this.legend.textContent = "";
    this.remove.hidden = true;
  }

  listen() {
    pointers(this.stage, {
      drag: (x, y, event) => {
        const { clientWidth, clientHeight } = this.stage;
        if (this.scale > 1 && !event.shiftKey) this.move(x, y);
        else this.set({ window: this.window + x / clientWidth, level: this.level + y / clientHeight });
      },
      pinch: (factor) => this.zoom(factor),
    });
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
    const acts = {
      i: () => this.set({ inverted: !this.inverted }),
      r: () => this.reset(),
      "+": () => this.zoom(ZOOM),
      "-": () => this.zoom(1 / ZOOM),
      "[": () => this.set({ window: this.window - STEP }),
      "]": () => this.set({ window: this.window + STEP }),
      ",": () => this.set({ level: this.level - STEP }),
      ".": () => this.set({ level: this.level + STEP }),
    };
    if (moves[event.key] && this.scale > 1) this.move(...moves[event.key]);
    else if (acts[event.key]) acts[event.key]();
    else return;
    event.preventDefault();
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

function slider(name, min, changed) {
  const input = element("input", undefined, { type: "range", min, max: 1, step: "any", oninput: () => changed(Number(input.value)) });
  return { input, label: element("label", `${name} `, { class: "slider" }, input) };
}

const clamp = (value, most) => Math.min(most, Math.max(-most, value));
