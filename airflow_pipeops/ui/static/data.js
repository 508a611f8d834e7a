// Data: how far the data are from their reference, how good the model is on them, and what was decided about it.

import { get } from "./api.js";
import { chart } from "./chart.js";
import { chooser, named, names } from "./choose.js";
import { h, head, scrolling } from "./dom.js";
import { empty, nothing } from "./empty.js";
import { age, files, level, mark, number, short, tag, tell } from "./facts.js";
import { address, elsewhere, state } from "./state.js";

const SHOWN = 6;

export async function draw({ signal }) {
  const { all, deliverable: asked } = state();
  const read = (deliverable) => get("data", { deliverable, limit: 200 }, { signal });
  const [known, first] = await Promise.all([names(signal), asked ? read(asked) : get("data", { limit: 1 }, { signal })]);
  if (!known.length) return empty();
  const deliverable = asked || first.measured || named(known);
  const found = asked ? first : await read(deliverable);
  const marks = found.decisions.map((one) => ({ at: one.at, level: { good: "soft", busy: "accent" }[level(one.action)] ?? level(one.action),
    text: [one.action || "unknown", ...one.reasons].join(": "), href: elsewhere("passport", { ref: one.record }) }));
  const bar = h("div", { class: "bar" }, chooser(known, deliverable));
  if (!found.drift.length && !found.performance.length && !found.decisions.length && !found.reports.length) {
    return [bar, nothing(`Of ${deliverable}, no data has been compared or measured. DataDriftOperator, ModelPerformanceOperator and RetrainGovernorOperator record it.`)];
  }
  return [bar, summary(deliverable, found), performance(found, marks), drift(found, marks, all), decided(found), reports(found)];
}

const last = (series) => series.points.at(-1);
const said = (words, { verdict, at }) => h("div", {}, mark(level(verdict), words), " ", age(at));
/** Words about a series of drift, with what it is of: mostly the data. */
const of = ({ subject }, words) => (["", "data"].includes(subject) ? words : `${subject}: ${words}`);

function summary(deliverable, found) {
  const shares = found.drift.filter((one) => one.name === "");
  const decision = found.decisions.at(-1);
  const part = (title, content) => h("div", {}, h("div", { class: "quiet small" }, title), content);
  return h("div", { class: "card summary" },
    part("Data", shares.length ? shares.map((one) => said(of(one, last(one).verdict || "cannot tell"), last(one))) : mark("unknown", "never compared")),
    part("Model", found.performance.length ? found.performance.map((one) => said(`${one.name} ${number(last(one).value)}`, last(one))) : mark("unknown", "never measured")),
    part("Governor", decision ? [mark(level(decision.action), decision.action), " ", age(decision.at)] : mark("unknown", "has decided nothing")));
}

function performance(found, marks) {
  return found.performance.map((series) => chart({ title: `${series.name || "Metric"} on what arrived, against the expected level`, points: series.points, label: series.name || "value", against: "expected level", marks, height: 220 }));
}

function drift(found, marks, all) {
  const columns = found.drift.filter((one) => one.name !== "");
  // Those that are furthest beyond what they are held against come first.
  const excess = (series) => { const point = last(series); return (point.value ?? -1) / (point.threshold || 1); };
  const ordered = [...columns].sort((a, b) => excess(b) - excess(a));
  const shown = all ? ordered : ordered.slice(0, SHOWN);
  const shares = found.drift.filter((one) => one.name === "");
  return h("section", { "aria-labelledby": "drift" }, h("h2", { id: "drift" }, "Drift per feature"), h("div", { class: "charts" },
    shares.map((one) => chart({ title: of(one, "Share of columns that drifted"), points: one.points, label: "share", against: "what is accepted", marks })),
    shown.map((series) => chart({ title: of(series, series.name), points: series.points, label: "distance", against: "threshold", marks }))),
  ordered.length > shown.length ? h("a", { class: "button", "data-go": "", href: address({ all: "1" }) }, `Show all ${ordered.length} columns`) : null);
}

function decided(found) {
  if (!found.decisions.length) return null;
  return h("section", {}, h("h2", {}, "Decisions of the governor"), scrolling("Decisions", h("table", {}, head(["When", "Decision", "Batch", "Why"]),
    h("tbody", {}, [...found.decisions].reverse().slice(0, 50).map((one) => h("tr", {}, h("td", {}, age(one.at)),
      h("td", {}, h("a", { class: "plain", "data-go": "", href: elsewhere("passport", { ref: one.record }) }, mark(level(one.action), one.action || "unknown")), one.waits ? [" ", tag("busy", "asks a person")] : null),
      h("td", {}, short(one.batch, 40)), h("td", {}, h("ul", { class: "plain" }, one.reasons.map((reason) => h("li", {}, reason)))))))))); 
}

function reports(found) {
  if (!found.reports.length) return null;
  return h("section", {}, h("h2", {}, "Reports"), h("ul", { class: "card plain reports" }, found.reports.map((fact) => {
    const [title, line, lev] = tell(fact);
    return h("li", {}, mark(lev, title), " ", h("span", { class: "quiet" }, line), " ", age(fact.at), " ", files(fact).map(([link]) => [link, " "]));
  })));
}
