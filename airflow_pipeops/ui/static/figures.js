// Figures: DORA's five, and their counterparts for models, each with its denominator; of nothing counted, no number is given.

import { get } from "./api.js";
import { chart } from "./chart.js";
import { chooser, named, names } from "./choose.js";
import { h } from "./dom.js";
import { empty, nothing } from "./empty.js";
import { number, span } from "./facts.js";
import { address, go, state } from "./state.js";

const SPANS = [["30", "30 days"], ["90", "90 days"], ["365", "1 year"]];

export async function draw({ signal }) {
  const { days = "90", environment = "", deliverable: asked } = state();
  const of = (deliverable) => get("figures", { deliverable, environment, days }, { signal });
  const [known, first] = await Promise.all([names(signal), asked ? of(asked) : null]);
  if (!known.length) return empty();
  const deliverable = named(known);
  const found = first ?? await of(deliverable);
  const bar = h("div", { class: "bar" }, chooser(known, deliverable),
    h("label", {}, "Environment", h("select", { id: "environment", onchange: (event) => go(address({ environment: event.target.value })) },
      found.environments.map((name) => h("option", { value: name, selected: name === found.environment }, name)))),
    h("div", { class: "buttons", role: "group", "aria-label": "Time" }, SPANS.map(([value, text]) =>
      h("button", { "data-key": `days-${value}`, "aria-pressed": String(days === value), onclick: () => go(address({ days: value })) }, text))));
  if (!found.figures) return [bar, nothing(`${deliverable} was never released, so that there is nothing to count.`)];
  const { dora, model, parts, model_parts: models, cut } = found.figures;
  return [bar, h("section", {}, h("h2", {}, `Delivery of ${deliverable} in ${found.environment}`),
    cut ? h("p", { class: "notice" }, "There were more releases than are read: the earliest are left out.") : null,
    h("ul", { class: "figures" }, delivery(dora)),
    h("p", { class: "quiet small" }, "DORA's five metrics, as DORA defines them: of one application, to compare with itself over time, and never a target.")),
  model ? h("section", {}, h("h2", {}, "The model"), h("ul", { class: "figures" }, kept(model))) : null,
  parts.length ? h("section", {}, h("h2", {}, "Over time"), h("div", { class: "charts" }, over(parts), models.length ? aged(models) : null)) : null];
}

function figure(title, value, ...notes) {
  const known = value !== null && value !== undefined;
  return h("li", { class: "card figure" }, h("div", { class: "quiet small" }, title),
    h("div", { class: `value${known ? "" : " unknown"}` }, known ? value : "not known yet"), notes.filter(Boolean).map((note) => h("div", { class: "quiet small" }, note)));
}

const time = (spread) => (spread.count ? span(spread.median) : null);
const rate = (share) => (share.of ? `${number(100 * share.value, 2)} %` : null);
const counted = (share, what) => `${share.count} of ${share.of} ${what}`;
const tail = (spread, what) => (spread.count > 1 ? `median of ${spread.count} ${what}s; nine of ten within ${span(spread.p90)}` : spread.count ? `of one ${what}` : `no ${what} was counted`);

function delivery(dora) {
  return [
    figure("Change lead time", time(dora.lead_time), tail(dora.lead_time, "commit"), dora.unknown_commits ? `${dora.unknown_commits} deployments are left out: nobody knows what they brought` : null),
    figure("Deployment frequency", dora.deployments ? `${number(dora.per_week, 2)} a week` : null, `${dora.deployments} deployments`, dora.never_live ? `${dora.never_live} more never went live` : null, dora.between.count ? `every ${span(dora.between.median)}, by the median` : null),
    figure("Failed deployment recovery time", time(dora.recovery_time), tail(dora.recovery_time, "failed deployment"), dora.unrecovered ? `${dora.unrecovered} not recovered yet` : null),
    figure("Change fail rate", rate(dora.change_fail_rate), counted(dora.change_fail_rate, "deployments needed somebody at once")),
    figure("Deployment rework rate", rate(dora.rework_rate), counted(dora.rework_rate, "deployments were made because of an incident")),
  ];
}

function kept(model) {
  return [
    figure("Age of the data in production", model.data_age === null ? null : span(model.data_age), "since the newest batch that the live model was made from"),
    figure("From drift to a fixed model", time(model.drift_to_fix), tail(model.drift_to_fix, "retrain"), model.unfixed ? `${model.unfixed} without a release yet` : null),
    figure("Challengers rejected", rate(model.rejected), counted(model.rejected, "that were judged")),
    figure("Retrains that helped", rate(model.helped), counted(model.helped, "of which that is known"), `${model.retrains} retrains in all`),
  ];
}

/** One figure over time; of a part in which nothing was counted, it has no value. */
function series(parts, title, label, read, of) {
  return chart({ title: `${title}, ${label}`, points: parts.map((part) => ({ at: part.end, value: read(part), of: of?.(part) })), label, against: "" });
}

const hours = (spread) => (spread.count ? spread.median / 3600 : null);
const percent = (share) => (share.of ? 100 * share.value : null);

function over(parts) {
  return [
    series(parts, "Change lead time", "hours", (part) => hours(part.lead_time), (part) => part.lead_time.count),
    series(parts, "Deployment frequency", "a week", (part) => part.per_week, (part) => part.deployments),
    series(parts, "Failed deployment recovery time", "hours", (part) => hours(part.recovery_time), (part) => part.recovery_time.count),
    series(parts, "Change fail rate", "%", (part) => percent(part.change_fail_rate), (part) => part.change_fail_rate.of),
    series(parts, "Deployment rework rate", "%", (part) => percent(part.rework_rate), (part) => part.rework_rate.of),
  ];
}

function aged(models) {
  return [
    series(models, "Age of the data in production", "days", (part) => (part.data_age === null ? null : part.data_age / 86_400)),
    series(models, "From drift to a fixed model", "hours", (part) => hours(part.drift_to_fix), (part) => part.drift_to_fix.count),
    series(models, "Challengers rejected", "%", (part) => percent(part.rejected), (part) => part.rejected.of),
    series(models, "Retrains that helped", "%", (part) => percent(part.helped), (part) => part.helped.of),
  ];
}
