// The choice of a deliverable, as a field that completes names; the same above three panels.

import { get } from "./api.js";
import { h } from "./dom.js";
import { address, go, state } from "./state.js";

/** The names of the deliverables. */
export async function names(signal) {
  const found = [];
  for (let after = null; after !== "";) {
    const page = await get("deliverables", { limit: 1000, after }, { signal });
    found.push(...page.items);
    after = page.after;
  }
  return found;
}

/** The field. It takes only names that there are; an empty one means all, where a panel can show all. */
export function chooser(known, chosen, { all = false } = {}) {
  const take = (event) => {
    const name = event.target.value.trim();
    if (known.includes(name) || (all && !name)) go(address({ deliverable: name, environment: "" }));
  };
  return h("label", {}, "Deliverable",
    h("input", { type: "search", id: "deliverable", list: "known", value: chosen, placeholder: all ? "all" : "", onchange: take }),
    h("datalist", { id: "known" }, known.map((name) => h("option", { value: name }))));
}

/** The deliverable that the address names, else the first there is. */
export function named(known) {
  const { deliverable } = state();
  return deliverable || known[0] || "";
}
