// Now: what needs a person, each with the place where it is solved.

import { get } from "./api.js";
import { h, out, placeOf, within } from "./dom.js";
import { empty } from "./empty.js";
import { age, mark, whose } from "./facts.js";
import { elsewhere, further, state } from "./state.js";

const WORDS = {
  approval: ["busy", "Approval waiting"], rejected: ["bad", "Rejected"], failed: ["bad", "Task failed"], gate: ["bad", "Gate failed"], degraded: ["bad", "Not healthy"],
  "out of sync": ["warn", "Out of sync"], drift: ["warn", "Drifting"], "late labels": ["unknown", "Labels are late"],
  budget: ["warn", "Budget spent"], investigate: ["warn", "Somebody must look"],
};

export async function draw({ signal }) {
  const { after } = state();
  let found = await get("now", { after }, { signal });
  // A page looks at a thousand deliverables: that nothing needs anybody is said when all of them were looked at.
  while (!found.needs.length && found.after) found = await get("now", { after: found.after }, { signal });
  if (!found.revision && !found.needs.length) return empty();
  if (!found.needs.length && !after) return calm(found);
  return h("section", { "aria-labelledby": "needs" },
    h("h2", { id: "needs" }, { 0: "Nothing more needs you", 1: "One thing needs you" }[found.needs.length] ?? `${found.needs.length}${found.after ? "+" : ""} things need you`),
    h("ul", { class: "needs" }, found.needs.map(need)),
    further(after, found.after, "From the beginning", "More"),
    last(found));
}

function need(item) {
  const [level, word] = WORDS[item.need] ?? ["unknown", item.need];
  const where = whose(item);
  return h("li", { class: `card need ${level}` },
    h("div", { class: "what" }, mark(level, word), age(item.at)),
    h("div", { class: "who" }, where ? h("strong", {}, where) : null, h("span", {}, item.what || "no reason was recorded")),
    h("div", { class: "actions" }, links(item)));
}

/** The ways to where it is solved: first the one that solves it. */
function links(item) {
  const by = item.asked ?? item.fact ?? {};
  const instance = by.dag && by.run && by.task ? placeOf(by) : "";
  const url = item.fact?.body?.url;
  return [
    item.asked ? within(`${instance}/required_actions`, "Answer it", { class: "button first" }) : null,
    url ? out(url, "Controller", { class: "button" }) : null,
    !item.asked && instance ? within(instance, "Task", { class: "button" }) : null,
    item.fact?.id ? h("a", { class: "button", "data-go": "", href: elsewhere("passport", { ref: item.fact.id }) }, "Record") : null,
    item.fact?.kind === "incident" ? h("a", { class: "button", "data-go": "",
      href: elsewhere("timeline", { deliverable: item.fact.deliverable, moment: item.fact.at, about: item.fact.id }) }, "What changed") : null,
  ];
}

function calm(found) {
  return h("section", { class: "card empty" }, h("h2", {}, mark("good", "Nothing needs you")),
    h("p", {}, "No approval waits; nothing was rejected; no task and no gate has failed; of what is recorded, nothing is degraded, out of sync, drifting or late."),
    last(found));
}

function last(found) {
  return h("p", { class: "quiet small" }, found.at ? ["The last fact came ", age(found.at), ". "] : "No fact has come yet. ",
    found.hidden ? "What you may not read in Airflow is left out." : null);
}
