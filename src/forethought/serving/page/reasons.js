// Why an item is recommended, in words and bars.

import { bar, called, el, percent } from "./api.js";
import { shortened } from "./answers.js";

const KINDS = {
  co_occurrence: "often looked at together", text: "alike by its description", texts: "alike by its description",
  repeats: "looked at before", popular: "popular of late", ease: "goes together by many histories",
};
const spoken = (kind) => KINDS[kind] || KINDS[Object.keys(KINDS).find((each) => String(kind).startsWith(each))] || String(kind).replaceAll("_", " ");

export function reasons(about, explanation, item, onForbid, onForbidToken) {
  const name = called(item);
  const parts = [el("h2", { id: "why-title", tabindex: "-1" }, `Why ${name}?`), verdict(explanation, item)];
  parts.push(...speakers(explanation, item), ...sums(explanation, item), ...steps(explanation, item));
  parts.push(...intents(explanation), ...paths(explanation, item, onForbidToken), ...centroids(explanation, onForbid));
  return el("div", { class: "why", role: "region", "aria-labelledby": "why-title" }, ...parts.filter(Boolean));
}

const same = (one, other) => String(one.item) === String(other.item);

function verdict(explanation, item) {
  const place = explanation.answer.findIndex((each) => same(each, item));
  const last = explanation.history.at(-1);
  const read = explanation.read;
  const words = [];
  if (place >= 0) words.push(`It is number ${place + 1} of the list.`);
  const answer = explanation.answer[place];
  if (answer && answer.probability != null) words.push(`The model gives it a chance of ${percent(answer.probability)} to be next.`);
  if (read === 0) words.push("This model recommends the same to everybody.");
  else if (explanation.history.length) {
    words.push(`It read ${Math.min(read, explanation.history.length)} of ${explanation.history.length} items, the last one being ${shortened(called(last))}.`);
  }
  return el("p", {}, words.join(" "));
}

// Which items of the history speak for it, and what speaks beside the model.
function speakers(explanation, item) {
  const place = explanation.movements.findIndex((each) => same(each, item));
  const said = explanation.contributions && place >= 0 ? explanation.contributions[place] : null;
  if (!said || !said.length) return [];
  const most = Math.max(...said.map((each) => Math.abs(each.score)));
  const rows = said.slice(0, 6).map((each) => {
    const basis = each.near ? `${spoken(each.by)}, ${each.near} times` : each.cosine != null ? `${percent(each.cosine)} alike` : each.by ? spoken(each.by) : "";
    const what = basis ? `${called(each)} (${basis})` : called(each);
    return bar(what, Math.abs(each.score) / most, strength(each.score / most), each.score < 0);
  });
  return [el("h3", {}, "What in the history speaks for it"), ...rows];
}

const strength = (share) => (share < 0 ? "against it" : share > 0.66 ? "strongly" : share > 0.33 ? "clearly" : "a little");

function sums(explanation, item) {
  const sum = (explanation.sums || []).find((each) => same(each, item));
  if (!sum) return [];
  const added = Object.entries(sum.added).filter(([, value]) => value > 0);
  const words = [];
  if (sum.model_rank != null) words.push(`By itself the model would have put it on place ${Math.round(sum.model_rank)}.`);
  if (added.length) words.push(`Beside the model, this speaks for it: ${added.map(([kind]) => spoken(kind)).join(", ")}.`);
  else words.push("Nothing beside the model speaks for it.");
  const most = Math.max(...added.map(([, value]) => value), 1e-9);
  return [
    el("h3", {}, "What was added to it"), el("p", {}, words.join(" ")),
    ...added.map(([kind, value]) => bar(spoken(kind), value / most, strength(value / most))),
  ];
}

function steps(explanation, item) {
  if (explanation.steps.length < 2) return sureness(explanation);
  const moved = explanation.movements.find((each) => same(each, item));
  const cards = explanation.steps.map((step) => {
    const rank = moved ? moved.ranks[step.step] : null;
    const kind = !step.taken ? "step later" : step.stopped || step.step === explanation.answer_step ? "step used" : "step";
    return el(
      "li", { class: kind },
      el("h4", {}, step.step === 0 ? "At first sight" : `After thought ${step.step}`),
      el("p", { class: "small quiet" }, `${step.taken ? "" : "Not taken. "}${sure(step.entropy)}${rank == null ? "" : ` · this item: place ${Math.round(rank)}`}`),
      el("ol", {}, ...step.items.slice(0, 3).map((each) => el("li", { title: called(each) }, called(each)))),
    );
  });
  const stopped = explanation.steps.find((step) => step.stopped);
  const words = stopped && stopped.step < explanation.steps.length - 1
    ? `It stopped after ${stopped.step === 0 ? "the first sight" : `thought ${stopped.step}`}; dashed cards show what it would have thought.`
    : "What it believed at each step, the best items first.";
  return [el("h3", {}, "How it thought"), el("p", { class: "quiet" }, words), el("ol", { class: "steps" }, ...cards)];
}

function sureness(explanation) {
  const step = explanation.steps[0];
  if (!step) return [];
  const how = explanation.intents.length ? "The model weighed what the visitor may be after" : "The model read the history once, without further thought";
  return [el("p", { class: "quiet" }, `${how}. ${sure(step.entropy)}.`)];
}

const sure = (share) => (share < 0.35 ? "Very sure" : share < 0.6 ? "Fairly sure" : share < 0.8 ? "Not very sure" : "Unsure");

function intents(explanation) {
  if (!explanation.intents.length) return [];
  const sorted = [...explanation.intents].sort((one, other) => other.weight - one.weight).slice(0, 5);
  const most = Math.max(sorted[0].weight, 1e-9);
  return [
    el("h3", {}, "What the visitor seems to be after"),
    ...sorted.map((each) => bar(example(each), each.weight / most, percent(each.weight))),
  ];
}

const example = (intent) => (intent.category && intent.items.length ? `${theme(intent.category)}, such as ${shortened(called(intent.items[0]), 40)}` : theme(intent.category, intent.items));
const theme = (category, items) => (category ? category.path?.join(" › ") || category.label : items.slice(0, 2).map(called).map((text) => shortened(text, 26)).join(", "));

function paths(explanation, item, onForbidToken) {
  const best = explanation.paths && explanation.paths[0];
  if (!best || !best.steps.length) return tokens(explanation, item, onForbidToken);
  const cards = best.steps.map((step) => el(
    "li", { class: "step" },
    el("h4", {}, `${step.step}. ${token(step.token)}`),
    el("p", { class: "small quiet" }, `${percent(step.probability)} likely · ${step.token.size} items`),
    step.belief.length ? el("p", { class: "small" }, `Until then it thought of ${step.belief.slice(0, 2).map((each) => `${each.category} (${percent(each.probability)})`).join(", ")}.`) : null,
    el("button", { type: "button", "aria-label": `Leave out items such as ${token(step.token)}`, on: { click: () => onForbidToken({ ...step.token, label: token(step.token) }) } }, "Leave out"),
  ));
  return [
    el("h3", {}, "How it narrowed the choice"),
    el("p", { class: "quiet" }, "Each step decides one more trait of the next item."),
    el("ol", { class: "steps" }, ...cards),
    ...tokens(explanation, item, onForbidToken),
  ];
}

const token = (of) => (of.category ? of.category.label : of.brand ? of.brand.label : of.items.length ? shortened(called(of.items[0]), 30) : `trait ${of.codebook + 1}`);

function tokens(explanation, item, onForbidToken) {
  const sum = (explanation.token_sums || []).find((each) => same(each, item));
  if (!sum) return [];
  const known = new Map();
  for (const path of explanation.paths || []) for (const step of path.steps) known.set(`${step.token.codebook}:${step.token.token}`, step.token);
  const rows = sum.tokens.slice(0, 8).map((each) => {
    const about = known.get(`${each.codebook}:${each.token}`);
    const label = about ? token(about) : `Trait ${each.codebook + 1}, kind ${each.token}`;
    const times = each.overall > 0 ? each.probability / each.overall : 0;
    return bar(label, each.probability, times >= 1.5 ? `${Math.round(times)} × usual` : percent(each.probability));
  });
  const first = sum.tokens[0];
  const forbid = first ? el("button", { type: "button", on: { click: () => onForbidToken({ codebook: first.codebook, token: first.token, label: `trait ${first.codebook + 1}, kind ${first.token}` }) } }, "Leave out items that share its first trait") : null;
  return [el("h3", {}, "Which of its traits fit this visitor"), ...rows, forbid];
}

function centroids(explanation, onForbid) {
  const used = explanation.steps.find((step) => step.step === explanation.answer_step) || explanation.steps.at(-1);
  if (!used || !used.centroids.length) return [];
  const near = used.centroids.slice(0, 4);
  return [
    el("h3", {}, "Groups of items it had in mind"),
    ...near.map((each) => bar(theme(each.category, each.central), each.probability, percent(each.probability))),
    ...near.filter((each) => each.category).slice(0, 1).map((each) => el("button", { type: "button", on: { click: () => onForbid(each.category.label) } }, `Leave out ${each.category.label}`)),
  ];
}
