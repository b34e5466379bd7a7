// What the page asks the service. Nothing comes from anywhere else.

let key = sessionStorage.getItem("forethought-key") || "";

export class Refused extends Error {
  constructor(status, sentence) { super(sentence); this.status = status; }
}

export function useKey(text) {
  key = text;
  sessionStorage.setItem("forethought-key", text);
}

async function ask(path, options = {}) {
  const headers = { ...(options.headers || {}), ...(key ? { "x-api-key": key } : {}) };
  let reply;
  try {
    reply = await fetch(path, { ...options, headers });
  } catch {
    throw new Refused(0, "The service does not answer: is it still running?");
  }
  let value = {};
  try { value = await reply.json(); } catch { /* no JSON: the status says enough */ }
  if (!reply.ok) throw new Refused(reply.status, value.error || `The service answered ${reply.status}.`);
  return value;
}

const post = (path, body) =>
  ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

export const models = () => ask("models");
export const report = (name) => ask(`models/${encodeURIComponent(name)}`);
export const search = (words, model) =>
  ask(`items?${new URLSearchParams({ q: words, k: 12, ...(model ? { model } : {}) })}`);
export const recommend = (body) => post("recommend", body);
export const explain = (body) => post("explain", body);

// Elements by name, with text as text: titles come from data, and are never taken for HTML.
export function el(name, about = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(about)) {
    if (key === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (key === "style") for (const [property, text] of Object.entries(value)) made.style.setProperty(property, text);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...inside.filter((each) => each != null));
  return made;
}

export const byId = (id) => document.getElementById(id);
export const called = (item) => (item.title ? String(item.title) : `Item ${item.item}`);
export const percent = (share) => (share > 0 && share < 0.01 ? "under 1%" : `${Math.round(100 * share)}%`);

// A bar with its words: to be read aloud it is one sentence, and the bar itself is silent.
export function bar(label, share, value, against = false) {
  const fill = el("span", { class: against ? "fill against" : "fill" });
  fill.style.width = `${Math.max(0, Math.min(100, 100 * share))}%`;
  return el(
    "div", { class: "bar" },
    el("span", { class: "label", title: label }, label),
    el("span", { class: "track", "aria-hidden": "true" }, fill),
    el("span", { class: "value" }, value),
  );
}
