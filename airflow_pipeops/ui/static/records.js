// Records: what a DAG, one of its runs or a task has recorded; the tab that Airflow shows beside them.

import { get } from "./api.js";
import { h, head, scrolling } from "./dom.js";
import { nothing } from "./empty.js";
import { age, mark, tag, tell } from "./facts.js";
import { elsewhere, further, state } from "./state.js";

export async function draw({ signal }) {
  const { dag, run, task, map, after } = state();
  const page = await get("records", { dag, run, task, map: /^\d+$/.test(map ?? "") ? map : undefined, limit: 100, after }, { signal });
  const where = [task && `task ${task}`, run && `run ${run}`, `DAG ${dag}`].filter(Boolean).join(" of ");
  if (!page.items.length && !after) return nothing(`Nothing has been recorded by ${where}. Tasks record what they did for a deliverable that their operator is given.`);
  return h("section", {}, h("h2", {}, `Recorded by ${where}`), list(page.items),
    further(after, page.after, "Newest", "Earlier"));
}

/** Facts as a table, the newest first, in a box that scrolls. */
export function list(facts, caption = "Records, the newest first") {
  return scrolling(caption, h("table", {}, h("caption", { class: "unseen" }, caption), head(["When", "What", "Of", "Says"]),
    h("tbody", {}, facts.map((fact) => {
      const [title, line, level] = tell(fact);
      return h("tr", {}, h("td", {}, age(fact.at)),
        h("td", {}, h("a", { "data-go": "", class: "plain", href: elsewhere("passport", { ref: fact.id }) }, mark(level, title)),
          fact.manual ? [" ", tag("unknown", "by hand")] : null),
        h("td", {}, fact.deliverable, fact.environment ? h("span", { class: "quiet" }, ` in ${fact.environment}`) : null),
        h("td", {}, line));
    }))));
}
