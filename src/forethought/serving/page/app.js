// The explorer: a history on the left, what is recommended and why on the right.

import * as api from "./api.js";
import { byId, called, el } from "./api.js";
import { change, list } from "./answers.js";
import * as visit from "./history.js";
import { reasons } from "./reasons.js";
import { report } from "./runs.js";

const K = 10;
let models = [], before = {}, turn = 0, searching = 0, asked = null;

const chosen = (id) => models.find((each) => each.name === byId(id).value);
const say = (sentence) => { byId("status").textContent = sentence; };

function trouble(error) {
  byId("problem").textContent = error.message;
  if (error.status === 401) {
    byId("key-form").hidden = false;
    byId("key").focus();
  }
}

async function begin() {
  const state = await api.models();
  byId("problem").textContent = "";
  byId("key-form").hidden = true;
  models = state.models;
  const options = () => models.map((each) => el("option", { value: each.name }, each.name));
  byId("model-a").replaceChildren(...options());
  byId("model-b").replaceChildren(el("option", { value: "" }, "no other"), ...options());
  byId("model-b").disabled = models.length < 2;
  await Promise.all([categories(), search(), answer()]);
}

async function categories() {
  const about = chosen("model-a");
  byId("forbid").hidden = !about.has_categories;
  if (!about.has_categories) return;
  const { catalogue } = await api.report(about.name);
  byId("category").replaceChildren(...catalogue.categories.map((each) => el("option", { value: each.category }, `${each.category} (${each.items})`)));
}

async function search() {
  const mine = ++searching;
  const words = byId("words").value.trim();
  const { items } = await api.search(words, byId("model-a").value);
  if (mine !== searching) return;
  byId("found").replaceChildren(...items.map((item) => el(
    "li", {}, el("button", { type: "button", "aria-label": `Add ${called(item)} to the history`, on: { click: () => visit.add(item) } }, called(item)),
  )));
  if (words) say(items.length ? `${items.length} items found.` : "No item has these words in its title.");
}

function side() {
  byId("history").replaceChildren(...visit.state.history.map((item, place) => el(
    "li", {}, el("span", { class: "title", title: called(item) }, called(item)),
    el("button", { type: "button", "aria-label": `Take ${called(item)} out of the history`, on: { click: () => { visit.removeAt(place); byId("words").focus(); } } }, "×"),
  )));
  byId("history-empty").hidden = visit.state.history.length > 0;
  byId("clear").hidden = visit.state.history.length === 0;
  const chip = (label, kind, place) => el(
    "li", {}, label, el("button", { type: "button", "aria-label": `Show ${label} again`, on: { click: () => visit.welcome(kind, place) } }, "×"),
  );
  byId("forbidden").replaceChildren(
    ...visit.state.categories.map((label, place) => chip(label, "categories", place)),
    ...visit.state.tokens.map((token, place) => chip(token.label, "tokens", place)),
  );
}

async function answer() {
  const mine = ++turn;
  const names = [chosen("model-a"), chosen("model-b")].filter(Boolean);
  const answers = await Promise.all(names.map((about) => api.recommend(visit.question(about, K))));
  if (mine !== turn) return;
  byId("problem").textContent = "";
  const lists = answers.map((each) => each.results[0].items);
  byId("lists").replaceChildren(...names.map((about, n) => list(
    about, answers[n], before[about.name], names.length > 1 ? lists[1 - n] : null, (item) => why(about, item), visit.add,
  )));
  byId("changes").textContent = change(before[names[0].name], lists[0]);
  before = Object.fromEntries(names.map((about, n) => [about.name, lists[n].map((each) => each.item)]));
  if (asked) {
    const { about, item } = asked;
    asked = null;
    byId("reasons").replaceChildren();
    if (lists.some((each) => each.some((one) => one.item === item.item)) && visit.state.history.length) await why(about, item, false);
  }
}

async function why(about, item, focus = true) {
  try {
    if (!visit.state.history.length) {
      byId("reasons").replaceChildren(el("p", { class: "note" }, "Nothing is known of this visitor yet, so the list shows what is popular. Add an item to the history to see reasons."));
      return;
    }
    say("Working out why …");
    const { explanation } = await api.explain({ ...visit.question(about, K), target: item.item });
    asked = { about, item };
    byId("reasons").replaceChildren(reasons(about, explanation, item, visit.leaveOut, visit.leaveOutToken));
    say("");
    if (focus) {
      byId("why-title").focus({ preventScroll: true });
      byId("why-title").scrollIntoView({ block: "nearest" });
    }
  } catch (error) { trouble(error); }
}

async function show(name) {
  const exploring = name === "explore";
  byId("explore").hidden = !exploring;
  byId("run").hidden = exploring;
  byId("tab-explore").setAttribute("aria-pressed", String(exploring));
  byId("tab-run").setAttribute("aria-pressed", String(!exploring));
  if (exploring) return;
  byId("run").replaceChildren(el("p", { class: "quiet" }, "Looking at the model and its data …"));
  const reports = await Promise.all(models.map((each) => api.report(each.name)));
  byId("run").replaceChildren(...reports.map(report));
}

const guarded = (act) => async (event) => {
  event?.preventDefault?.();
  try { await act(event); } catch (error) { trouble(error); }
};

let typing = 0;
byId("search").addEventListener("submit", guarded(search));
byId("words").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(guarded(search), 150); });
byId("clear").addEventListener("click", () => { visit.clear(); byId("words").focus(); });
byId("forbid").addEventListener("submit", guarded(() => visit.leaveOut(byId("category").value)));
byId("model-a").addEventListener("change", guarded(async () => { before = {}; await Promise.all([categories(), search(), answer()]); }));
byId("model-b").addEventListener("change", guarded(answer));
byId("tab-explore").addEventListener("click", guarded(() => show("explore")));
byId("tab-run").addEventListener("click", guarded(() => show("run")));
byId("key-form").addEventListener("submit", guarded(async () => { api.useKey(byId("key").value); await begin(); }));
visit.changed(() => { side(); guarded(answer)(); });
side();
guarded(begin)();
