// Which phrase is shown on which films: the one pointed at, else the one that was kept.

import { Problem } from "./call.js";
import { mapOf } from "./heat.js";

const PASSING_MS = 120; // a pointer on its way over sentences asks for no maps
const CAUTION = "Every image has such a place: no proof of a finding.";

/** A phrase is `{ text, denies, node }`: denies, where its report denies what it names; node: what was pressed for it. */
export class Looking {
  constructor(viewers) {
    this.viewers = viewers;
    this.turn = 0;
    this.pointed = null;
    this.kept = null;
    for (const viewer of viewers) {
      viewer.changed = () => this.begin();
      viewer.unmap = () => this.drop();
    }
  }

  /** Points at a phrase, or at none. */
  point(phrase) {
    this.pointed = phrase;
    this.show(phrase ?? this.kept);
  }

  /** Another film: what was kept is over, what is still pointed at is looked for on it. */
  begin() {
    this.drop();
    if (this.pointed?.node.isConnected) this.show(this.pointed);
  }

  /** Keeps a phrase on the film, or lets the one go that is kept. */
  keep(phrase) {
    const same = phrase && this.kept?.node === phrase.node;
    this.press(false);
    this.kept = same ? null : phrase;
    this.press(true);
    this.show(this.kept);
  }

  /** Nothing is pointed at and nothing kept. */
  drop() {
    this.press(false);
    this.kept = null;
    this.turn += 1;
    for (const viewer of this.viewers) viewer.clearMap();
  }

  press(pressed) {
    this.kept?.node.setAttribute("aria-pressed", String(pressed));
  }

  async show(phrase) {
    const turn = (this.turn += 1);
    if (!phrase) {
      for (const viewer of this.viewers) viewer.clearMap();
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, PASSING_MS));
    for (const viewer of this.viewers) {
      if (turn !== this.turn) return;
      await this.showOn(viewer, phrase, turn);
    }
  }

  async showOn(viewer, phrase, turn) {
    const { picture } = viewer;
    if (!picture) return;
    if (picture.view !== "frontal") {
      viewer.tellOfMap("Maps are of the frontal image only.");
      return;
    }
    let map = null;
    let words;
    try {
      map = await mapOf(picture.png, phrase.text);
      const denial = phrase.denies ? " The sentence denies it." : "";
      words = `Where the encoders see “${phrase.text}” most in this image.${denial} ${CAUTION}`;
    } catch (error) {
      words = `No map. ${error instanceof Problem ? error.detail : ""}`;
    }
    if (turn !== this.turn || viewer.picture !== picture) return; // of a film that is shown no more
    if (map) viewer.showMap(map, words);
    else viewer.tellOfMap(words);
  }
}
