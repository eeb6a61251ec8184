// Calls of the service. Where it asks for a key the page does, and keeps it for as long as the tab is open.

import { byId, element } from "./elements.js";

/** An answer that is no result: a problem document (RFC 9457), or the lack of an answer. */
export class Problem extends Error {
  constructor({ status = 0, title = "No answer", detail = "The service did not answer.", ...more } = {}) {
    super(detail);
    Object.assign(this, { status, title, detail, more });
  }

  /** Its text for the reader, with what helps the administrator to find it in the log. */
  describe() {
    const id = this.status >= 500 && this.more.request_id ? ` (request ${this.more.request_id})` : "";
    return `${this.title}. ${this.detail}${id}`;
  }
}

const askedFor = []; // what waits for a key

function headersWithKey(headers = {}) {
  const key = sessionStorage.getItem("key");
  return { ...headers, ...(key && { Authorization: `Bearer ${key}` }) };
}

/** Shows the form for a key; resolves once one was given, at once where another one is there by now than was `refused`. */
function askForKey(refused, problem, signal) {
  if (sessionStorage.getItem("key") !== refused) return Promise.resolve();
  const form = byId("with-key");
  byId("key-problem").textContent = refused ? problem.describe() : "";
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close(); // it would lie over the form
  form.hidden = false;
  byId("key").focus();
  return new Promise((resolve, reject) => {
    askedFor.push(resolve);
    signal?.addEventListener("abort", () => reject(stopped()));
  });
}

const stopped = () => new DOMException("Stopped by the reader.", "AbortError");

/** `fetch` with the key; an unauthorised answer asks for one and tries again. Throws Problem, AbortError. */
export async function call(path, options = {}) {
  const key = sessionStorage.getItem("key");
  let response;
  try {
    response = await fetch(path, { ...options, headers: headersWithKey(options.headers) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem();
  }
  if (response.status !== 401) return response;
  await askForKey(key, await problemOf(response), options.signal);
  return call(path, options);
}

/** The parsed reply. Throws Problem. */
export async function json(path, options = {}) {
  const response = await call(path, options);
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

/** The reply's bytes as a Blob. Throws Problem. */
export async function blob(path, options = {}) {
  const response = await call(path, options);
  if (!response.ok) throw await problemOf(response);
  return response.blob();
}

/** POST a form and hear how much of it has gone (0 to 1), which `fetch` cannot tell. Throws Problem, AbortError. */
export function send(path, form, progress, signal) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(stopped());
      return;
    }
    const key = sessionStorage.getItem("key");
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headersWithKey())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) progress(event.loaded / event.total);
    });
    request.upload.addEventListener("load", () => progress(1));
    request.addEventListener("error", () => reject(new Problem()));
    request.addEventListener("abort", () => reject(stopped()));
    request.addEventListener("load", () => {
      const reply = parsed(request.responseText);
      const problem = new Problem(reply ? { ...reply, status: request.status } : unreadable(request.status));
      if (request.status === 401) {
        const again = () => send(path, form, progress, signal);
        askForKey(key, problem, signal).then(again).then(resolve, reject);
      } else if (request.status >= 200 && request.status < 300 && reply) resolve(reply);
      else reject(problem);
    });
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

async function problemOf(response) {
  const reply = parsed(await response.text());
  return new Problem(reply ? { ...reply, status: response.status } : unreadable(response.status));
}

function unreadable(status) {
  return { status, title: "An answer that cannot be read", detail: `Something between here and the service said ${status}.` };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Puts the form for a key into the page; every page that calls has it. */
export function placeKeyForm(before) {
  const form = element("form", undefined, { id: "with-key", hidden: true, class: "panel" });
  const field = element("input", undefined, { type: "password", id: "key", autocomplete: "off", required: true });
  form.append(
    element("label", "This service asks for an API key ", {}, field),
    element("p", "", { id: "key-problem", role: "alert", class: "problem" }),
    element("p", "It is kept until this tab is closed. The administrator makes one with: alta keys create", { class: "quiet" }),
    element("button", "Use it", { type: "submit" }),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const key = field.value.trim();
    if (!/^[\x21-\x7e]+$/.test(key)) {
      byId("key-problem").textContent = "A key has letters, digits and signs only. Was something else copied along?";
      return;
    }
    sessionStorage.setItem("key", key);
    form.reset();
    form.hidden = true;
    for (const resolve of askedFor.splice(0)) resolve();
  });
  before.before(form);
}
