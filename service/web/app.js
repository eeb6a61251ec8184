"use strict";

const results = document.getElementById("results");
const files = document.getElementById("files");
const drop = document.getElementById("drop");

// Text goes in as text nodes only: reports are data, never markup.
function element(name, text, attributes = {}) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

// Where the service asks for a key, the page does, and keeps it for as long as the tab is open.
async function call(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) document.getElementById("with-key").hidden = false;
  return response;
}

// An address in `src` could bring no key along.
async function picture(path) {
  const node = element("img", undefined, { alt: "Frontal image" });
  const response = await call(path);
  if (response.ok) node.src = URL.createObjectURL(await response.blob());
  return node;
}

function hitCard(hit) {
  const card = element("article", undefined, { class: "card" });
  const study = hit.study;
  const image = study.image_url.replace(/^\//, "") + "?size=320";
  picture(image).then((node) => card.prepend(node)).catch(() => {});
  const body = element("div");
  const heading = element("h3", `${hit.rank}. cosine ${hit.score.toFixed(3)}`);
  const facts = [study.study_date, study.modality, study.views.join(" + "), study.sex, study.age && `${study.age} y`];
  body.append(heading, element("p", facts.filter(Boolean).join(" · "), { class: "facts" }));
  if (hit.report) body.append(element("p", hit.report.text, { class: "report" }));
  card.append(body);
  return card;
}

function scoreTable(reply) {
  const table = element("table");
  const rows = reply.findings.length ? reply.findings : reply.labels;
  for (const row of [...rows].sort((a, b) => b.score - a.score)) {
    const line = element("tr");
    line.append(element("th", row.name), element("td", row.score.toFixed(3)));
    table.append(line);
  }
  const box = element("div");
  box.append(table, element("p", `Score: ${reply.score_kind}.`, { class: "facts" }));
  return box;
}

function show(reply) {
  results.replaceChildren();
  for (const warning of reply.warnings) results.append(element("p", warning.detail, { class: "warning" }));
  for (const file of reply.query?.files ?? []) {
    const told = file.status === "used" ? `used as ${file.slot.replace("_", " ")}` : `${file.status}: ${file.detail}`;
    results.append(element("p", `File ${file.position + 1} ${told}`, { class: "facts" }));
  }
  if (reply.hits) results.append(...reply.hits.map(hitCard));
  else results.append(scoreTable(reply));
  if (reply.hits?.length === 0) results.append(element("p", "No study fits."));
}

async function ask(path, options) {
  results.replaceChildren(element("p", "Searching…"));
  try {
    const response = await call(`v1/${path}`, { method: "POST", ...options });
    const reply = await response.json();
    if (response.ok) show(reply);
    else results.replaceChildren(element("p", `${reply.title}. ${reply.detail}`, { class: "warning" }));
  } catch {
    results.replaceChildren(element("p", "The service did not answer.", { class: "warning" }));
  }
}

document.getElementById("by-image").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData();
  for (const file of files.files) form.append("files", file, "image"); // file names may be about a patient
  ask(document.getElementById("task").value, { body: form });
});

document.getElementById("by-text").addEventListener("submit", (event) => {
  event.preventDefault();
  const body = JSON.stringify({ text: document.getElementById("text").value });
  ask("search/text-to-image", { body, headers: { "Content-Type": "application/json" } });
});

files.addEventListener("change", () => {
  const names = Array.from(files.files, (file) => file.name);
  document.getElementById("chosen").textContent = names.join(", ") || "No file chosen";
});
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  files.files = event.dataTransfer.files;
  files.dispatchEvent(new Event("change"));
});

function showNotice() {
  call("v1/model")
    .then((response) => response.json())
    .then((model) => (document.getElementById("notice").textContent = model.provenance.notice))
    .catch(() => {});
}

document.getElementById("with-key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", document.getElementById("key").value.trim());
  event.target.reset();
  event.target.hidden = true;
  showNotice();
});

showNotice();

// A link can carry the question: /#text=large left pneumothorax. After the #, so that no server or proxy logs it.
const asked = new URLSearchParams(location.hash.slice(1)).get("text");
if (asked) {
  document.getElementById("text").value = asked;
  document.getElementById("by-text").requestSubmit();
}
