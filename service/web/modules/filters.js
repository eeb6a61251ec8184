// Which studies may be hits, and what of them is compared: fields of the search form.

import { byId, element } from "./elements.js";

const CHOICES = {
  sex: [["", "any"], ["F", "female"], ["M", "male"], ["O", "other"]],
  modality: [["", "any"], ["CR", "CR"], ["DX", "DX"]],
  view: [["", "any"], ["PA", "PA"], ["AP", "AP"], ["lateral", "with a lateral"]],
  rank_by: [["", "image and report"], ["report", "report"], ["image", "image"]],
};
const NUMBERS = [5, 10, 25, 50, 100]; // hits at once

/** Builds the fields from `/v1/model`. `changed`: called when one was set otherwise, all of them being usable. */
export function placeFilters({ findings, max_top_k: most }, changed) {
  const numbers = NUMBERS.filter((number) => number <= most).map((number) => [number, number]);
  const named = [["", "any"], ...findings.filter((name) => name !== "No Finding").map((name) => [name, name])];
  const fields = [
    choice("Report asserts", "finding", named),
    choice("Report does not assert", "without_finding", [["", "anything"], ...named.slice(1)]),
    choice("Sex", "sex", CHOICES.sex),
    number("Age from", "age_min"),
    number("Age to", "age_max"),
    day("Study date from", "date_from"),
    day("Study date to", "date_to"),
    choice("Modality", "modality", CHOICES.modality),
    choice("View", "view", CHOICES.view),
    words("Institution", "institution"),
    words("Language of the report", "language", "en"),
    choice("Compare by", "rank_by", CHOICES.rank_by),
    choice("Hits at once", "top_k", [["", "as usual"], ...numbers]),
    tick("Also this patient's other studies", "exclude_own_patient", "false"),
    tick("List reports that say the same", "group_reports", "false"),
  ];
  const box = byId("filters").querySelector(".fields");
  box.replaceChildren(...fields, element("button", "Clear", { type: "button", class: "second", onclick: () => (clearFilters(), changed()) }));
  box.addEventListener("input", tellFilters);
  box.addEventListener("change", () => byId("ask").checkValidity() && changed());
  box.addEventListener("invalid", () => (byId("filters").open = true), true); // else nobody sees why nothing happens
}

/** [name, value] of all that is set. */
export function chosenFilters() {
  const inputs = [...byId("filters").querySelectorAll("[name]")];
  return inputs
    .filter((input) => (input.type === "checkbox" ? input.checked : input.value.trim()))
    .map((input) => [input.name, input.value.trim()]);
}

/** Those of the filters that narrow the list, in words. */
export function filtersInWords() {
  const set = [...byId("filters").querySelectorAll("[name]")].filter((input) => input.type !== "checkbox" && input.value.trim());
  return set
    .filter(({ name }) => !["rank_by", "top_k"].includes(name))
    .map((input) => `${input.closest("label").firstChild.textContent.trim().toLowerCase()} ${input.selectedOptions?.[0].textContent ?? input.value.trim()}`);
}

export function clearFilters() {
  for (const input of byId("filters").querySelectorAll("[name]")) {
    if (input.type === "checkbox") input.checked = false;
    else input.value = "";
  }
  tellFilters();
}

/** The fields are folded away: what is set is said beside the fold. */
function tellFilters() {
  const count = chosenFilters().length;
  byId("filters-told").textContent = count ? `(${count} set)` : "";
}

function choice(label, name, options) {
  const select = element("select", undefined, { name });
  select.append(...options.map(([value, text]) => element("option", text, { value })));
  return element("label", label, {}, select);
}

const input = (label, attributes) => element("label", label, {}, element("input", undefined, attributes));
const number = (label, name) => input(label, { name, type: "number", min: 0, max: 150, inputmode: "numeric" });
const day = (label, name) => input(label, { name, type: "date" });
const words = (label, name, placeholder) => input(label, { name, type: "text", maxlength: 64, placeholder });
const tick = (label, name, value) => element("label", undefined, { class: "tick" }, element("input", undefined, { type: "checkbox", name, value }), label);
