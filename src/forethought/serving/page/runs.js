// How good a model is and how healthy its data, for people who buy and sell.

import { bar, el, percent } from "./api.js";

const GROUPS = { history_length: "By how much is known of the visitor", target_popularity: "By how popular the right item is" };
const UNITS = { history_length: "items met before", target_popularity: "visits in training" };
const spread = ([least, most]) => (least === most ? `${least}` : `${least} to ${most}`);
const many = (count) => Number(count).toLocaleString("en");

export function report(about) {
  const parts = [el("h2", {}, `${about.name}: ${about.method} on ${about.data}`), figures(about), quality(about), catalogue(about), health(about)];
  return el("div", {}, ...parts);
}

function figure(value, words) { return el("div", { class: "figure" }, el("b", {}, value), words); }

function figures(about) {
  const all = [figure(many(about.items), "items it can recommend")];
  const training = about.training || {};
  if (training.epochs) all.push(figure(String(training.epochs), "times it went through the data"));
  if (training.trained_s) all.push(figure(training.trained_s < 90 ? `${Math.round(training.trained_s)} s` : `${Math.round(training.trained_s / 60)} min`, "of training"));
  all.push(figure(about.version, "version that answers"));
  return el("div", { class: "figures" }, ...all);
}

function quality(about) {
  const evaluation = about.evaluation;
  const title = el("h3", {}, "How good it is");
  if (!evaluation) return el("section", {}, title, el("p", { class: "note" }, about.evaluation_note));
  const metrics = evaluation.metrics;
  const rows = ["recall@5", "recall@10", "recall@20"].filter((name) => metrics[name]).map((name) => {
    const each = metrics[name], k = name.split("@")[1];
    const label = `Right item among the first ${k}`;
    return bar(label, each.mean, `${(100 * each.mean).toFixed(1)}%`);
  });
  const ten = metrics["recall@10"];
  const words = ten ? `Of 1,000 visitors ${Math.round(1000 * ten.mean)} met their next item among the first ten${ten.ci95 ? ` (between ${Math.round(1000 * ten.ci95[0])} and ${Math.round(1000 * ten.ci95[1])}, with near certainty)` : ""}.` : "";
  const lists = evaluation.lists || {};
  const coverage = Object.entries(lists).find(([name]) => name === "coverage@10");
  const cover = coverage ? el("p", {}, `${percent(coverage[1])} of all items appear in somebody's first ten.`) : null;
  const groups = Object.entries(evaluation.groups || {}).map(([by, group]) => el(
    "div", {}, el("h4", {}, GROUPS[by] || by.replaceAll("_", " ")),
    ...Object.entries(group).map(([name, each]) => {
      const ten = (each.metrics || {})["recall@10"];
      if (!ten) return null;
      const label = each.range ? `${spread(each.range)} ${UNITS[by] || ""}` : name;
      return bar(label, ten.mean, `${(100 * ten.mean).toFixed(1)}%`);
    }),
  ));
  const protocol = evaluation.protocol;
  const how = `${many(protocol.n_cases)} visitors whose next item was kept back (${protocol.part === "test" ? "never seen in training" : protocol.part}); all ${many(protocol.n_items)} items were ranked.`;
  return el("section", {}, title, el("p", {}, words), ...rows, cover, el("p", { class: "quiet small" }, how), el("div", { class: "grid2" }, ...groups));
}

function catalogue(about) {
  const all = about.catalogue, words = [];
  if (all.with_title != null) words.push(`${percent(all.with_title / all.items)} of the items have a title.`);
  if (all.never_met != null) words.push(`${many(all.never_met)} were never met in training, ${many(all.rarely_met)} fewer than five times.`);
  if (all.top_tenth != null) words.push(`The most popular tenth of them draws ${percent(all.top_tenth)} of all visits.`);
  const most = all.categories.length ? all.categories[0].items : 1;
  const rows = all.categories.slice(0, 10).map((each) => bar(each.category, each.items / most, many(each.items)));
  return el("section", {}, el("h3", {}, "The items"), el("p", {}, words.join(" ")), ...(rows.length ? [el("h4", {}, "Largest categories"), ...rows] : []));
}

const LEVELS = { problem: "Problem", warning: "Mind", note: "Good to know" };

function health(about) {
  const rows = about.health.map((each) => el("li", { class: `finding finding-${each.level}` }, el("strong", {}, `${LEVELS[each.level] || each.level}: `), each.text, each.mend ? el("span", { class: "quiet" }, ` ${each.mend}`) : null));
  const bad = about.health.filter((each) => each.level !== "note").length;
  const words = bad ? `${bad} ${bad === 1 ? "thing" : "things"} to look at.` : "Nothing is wrong with it.";
  return el("section", {}, el("h3", {}, "How healthy the data is"), el("p", {}, words), el("ul", {}, ...rows));
}
