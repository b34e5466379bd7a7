// Lists of what is recommended, side by side where two models are compared.

import { called, el } from "./api.js";

export function list(about, answer, before, other, onWhy, onAdd) {
  const result = answer.results[0];
  const items = result.items;
  const shared = other ? items.filter((each) => other.some((its) => its.item === each.item)).length : null;
  const rows = items.map((each, place) => row(each, place, before, other, onWhy, onAdd));
  const heading = el("h3", {}, `${about.name}${about.method ? ` · ${about.method}` : ""}`);
  const parts = [heading];
  if (result.fallback) {
    parts.push(el("p", { class: "note" }, "Nothing is known of this visitor: these are the most popular items of late."));
  }
  if (result.unknown.length) {
    parts.push(el("p", { class: "note" }, `${result.unknown.length} items of the history are not known to this model.`));
  }
  if (result.note) parts.push(el("p", { class: "note" }, result.note));
  if (shared !== null) {
    parts.push(el("p", { class: "quiet small" }, `${shared} of ${items.length} are in the other list too.`));
  }
  parts.push(el("ol", { class: "list", "aria-label": `Recommended by ${about.name}` }, ...rows));
  return el("div", { class: "card-list" }, ...parts);
}

function row(item, place, before, other, onWhy, onAdd) {
  const name = called(item);
  const marks = [];
  if (before && before.length && !before.includes(item.item)) {
    marks.push(el("span", { class: "badge new" }, "new"));
  } else if (before && before.length) {
    const moved = before.indexOf(item.item) - place;
    if (moved > 0) marks.push(el("span", { class: "badge" }, `up ${moved}`));
  }
  if (other && !other.some((each) => each.item === item.item)) {
    marks.push(el("span", { class: "badge" }, "here only"));
  }
  return el(
    "li", {},
    el("span", { class: "place", "aria-hidden": "true" }, String(place + 1)),
    el("span", {}, el("span", { class: "title", title: name }, name), ...marks),
    el(
      "span", { class: "row" },
      el("button", { type: "button", "aria-label": `Why ${name}?`, on: { click: () => onWhy(item) } }, "Why?"),
      el("button", { type: "button", "aria-label": `Add ${name} to the history`, on: { click: () => onAdd(item) } }, "Add"),
    ),
  );
}

// What has changed since the list before, in a sentence.
export function change(before, items) {
  if (!before || !before.length) return "";
  const fresh = items.filter((each) => !before.includes(each.item));
  if (!fresh.length) return before[0] === items[0]?.item ? "The same items as before." : "The same items in another order.";
  const names = fresh.slice(0, 2).map((each) => shortened(called(each))).join(" and ");
  return `${fresh.length} of ${items.length} are new: ${names}${fresh.length > 2 ? " among them" : ""}.`;
}

export const shortened = (text, most = 48) => (text.length > most ? `${text.slice(0, most - 1).trimEnd()}…` : text);
