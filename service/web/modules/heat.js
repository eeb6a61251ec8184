// Heat maps of phrases on a picture, from the service.

import { json } from "./call.js";

// Viridis (CC0) at even steps: read alike with and without the common kinds of colour blindness, and in grey.
const COLOURS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const STRONGEST = 0.6;
const known = new WeakMap(); // by picture, and gone with it

/**
 * The map of a phrase on a picture (a PNG as the service renders it). The frontal picture that is shown is the one that is asked
 * about, so that the map lies where the reader looks. Throws Problem.
 */
export async function mapOf(png, phrase) {
  let maps = known.get(png);
  if (!maps) known.set(png, (maps = new Map()));
  if (!maps.has(phrase)) {
    const form = new FormData();
    form.append("files", png, "image.png");
    form.append("views", "frontal");
    form.append("check_image", "false"); // it was looked at when it came
    form.append("phrase", phrase);
    form.append("format", "json");
    const reply = await json("v1/similarity-map", { method: "POST", body: form });
    maps.set(phrase, new HeatMap(reply));
  }
  return maps.get(phrase);
}

class HeatMap {
  constructor({ values, lowest, highest, box, rows, columns }) {
    Object.assign(this, { values, lowest, highest, box, rows, columns });
  }

  /** Colour and opacity rise from the middle of the map's range to its top; the lower half leaves the film as it is. */
  paint(context) {
    const { width, height } = context.canvas;
    const patches = new OffscreenCanvas(this.values[0].length, this.values.length);
    const small = patches.getContext("2d");
    const image = small.createImageData(patches.width, patches.height);
    this.values.flat().forEach((value, at) => {
      const share = Math.max(0, (2 * (value - this.lowest)) / Math.max(this.highest - this.lowest, 1e-8) - 1);
      image.data.set([...colour(share), Math.round(255 * STRONGEST * share)], 4 * at);
    });
    small.putImageData(image, 0, 0);
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    const x = width / this.columns;
    const y = height / this.rows;
    const { top, left, bottom, right } = this.box;
    context.drawImage(patches, left * x, top * y, (right - left) * x, (bottom - top) * y);
  }
}

function colour(share) {
  const at = Math.min(share, 0.9999) * (COLOURS.length - 1);
  const [low, high] = [COLOURS[Math.floor(at)], COLOURS[Math.floor(at) + 1]];
  return low.map((channel, index) => Math.round(channel + (high[index] - channel) * (at % 1)));
}
