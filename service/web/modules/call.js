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

/** Shows the form for a key; resolves once one was given. */
function askForKey(problem) {
  const form = byId("with-key");
  byId("key-problem").textContent = problem ? problem.describe() : "";
  form.hidden = false;
  byId("key").focus();
  return new Promise((resolve) => askedFor.push(resolve));
}

/** `fetch` with the key; an unauthorised answer asks for one and tries again. */
export async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headersWithKey(options.headers) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem();
  }
  if (response.status !== 401) return response;
  await askForKey(sessionStorage.getItem("key") ? await problemOf(response) : null);
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
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headersWithKey())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) progress(event.loaded / event.total);
    });
    request.upload.addEventListener("load", () => progress(1));
    request.addEventListener("error", () => reject(new Problem()));
    request.addEventListener("abort", () => reject(new DOMException("Stopped by the reader.", "AbortError")));
    request.addEventListener("load", () => {
      const reply = parsed(request.responseText);
      if (request.status === 401) {
        const problem = sessionStorage.getItem("key") ? new Problem({ ...reply, status: 401 }) : null;
        askForKey(problem).then(() => send(path, form, progress, signal)).then(resolve, reject);
      } else if (request.status >= 200 && request.status < 300 && reply) resolve(reply);
      else reject(new Problem(reply ?? unreadable(request.status)));
    });
    signal?.addEventListener("abort", () => request.abort());
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
    sessionStorage.setItem("key", field.value.trim());
    form.reset();
    form.hidden = true;
    for (const resolve of askedFor.splice(0)) resolve();
  });
  before.before(form);
}
