// A report: what was judged, drawn here, and below it the stored page in a frame that can reach nothing.

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { age, mark, short, tag, tell, whose } from "./facts.js";
import { elsewhere, state } from "./state.js";

export async function draw({ signal }) {
  const { by, digest, name } = state();
  const path = `evidence/${encodeURIComponent(by)}/${encodeURIComponent(digest)}`;
  const found = await get(path, {}, { signal });
  const frame = h("iframe", { class: "report", sandbox: "allow-scripts", title: `Report ${name}`, src: `${path}/${encodeURIComponent(name)}`, referrerpolicy: "no-referrer" });
  const judged = h("section", { class: "card judged", "aria-label": "What was judged" });
  fill(judged, found.items.length ? found.items.slice(0, 5).map(said) : [mark("unknown", "No record names this report"), h("p", {}, "What it says was judged by nobody that the ledger knows.")]);
  return [h("div", { class: "heading" }, h("h2", {}, name), h("div", { class: "quiet small" }, `stored by ${by} \u00b7 ${short(digest)}`)), judged,
    h("p", { class: "quiet small" }, "Below is the report itself, kept from the network and from this page. Where it differs from what is above, what is above counts."), frame];
}

function said(fact) {
  const [title, line, level] = tell(fact);
  return h("p", {}, h("a", { class: "plain", "data-go": "", href: elsewhere("passport", { ref: fact.id }) }, mark(level, title)), " ", line, " ",
    h("span", { class: "quiet" }, whose(fact)), " ", age(fact.at), fact.manual ? tag("unknown", "by hand") : null);
}
