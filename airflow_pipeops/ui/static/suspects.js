// Suspects: what changed before something went wrong, the likeliest first, each with its reason and what would clear it.

import { get } from "./api.js";
import { h, head, out, scrolling } from "./dom.js";
import { age, mark, number } from "./facts.js";
import { elsewhere } from "./state.js";

const SHOWN = 5;
const LEVELS = { likely: "warn", "none of these": "unknown", "cannot tell": "unknown" };
const percent = (value) => `${number(100 * value, 2)} %`;

/** The suspects of what a record says went wrong; nothing where it says of nothing that it did. */
export async function suspects(ref, signal) {
  const { explanation: found } = await get(`why/${encodeURIComponent(ref)}`, {}, { signal });
  if (!found) return null;
  return h("section", { class: "suspects", "aria-labelledby": "suspects" }, h("h3", { id: "suspects" }, "Suspects"),
    h("p", {}, mark(LEVELS[found.outcome] ?? "unknown", found.outcome), ". ", found.reason, ". ",
      h("span", { class: "quiet" }, `None of these: ${percent(found.none)}.`, found.cut ? " More is recorded than was looked at." : "")),
    found.suspects.length ? scrolling("Suspects, the likeliest first", h("table", {}, head(["Likely", "What", "Of", "When", "Why"]),
      h("tbody", {}, found.suspects.slice(0, SHOWN).map(row)))) : null);
}

function row({ candidate: one, probability, reason, contributions, check }) {
  const counted = contributions.filter((item) => item.value);
  return h("tr", {}, h("td", {}, percent(probability)),
    h("td", {}, h("a", { "data-go": "", class: "plain", href: elsewhere("passport", { ref: one.id }) }, one.what || one.id.slice(0, 12)), h("span", { class: "quiet" }, ` ${one.kind}`),
      one.link ? h("div", { class: "small" }, out(one.link, "Look at it", { "aria-label": `Look at ${one.what || one.id.slice(0, 12)}` })) : null),
    h("td", {}, one.deliverable, one.environment ? h("span", { class: "quiet" }, ` in ${one.environment}`) : null),
    h("td", {}, age(one.at)),
    h("td", {}, reason, check.what ? h("p", { class: "small" }, check.what, " ", h("code", {}, check.command)) : null,
      h("details", {}, h("summary", {}, "Log odds"), h("ul", { class: "plain small" }, counted.map((item) =>
        h("li", {}, `${item.value > 0 ? "+" : ""}${number(item.value)} ${item.name}: ${item.reason}`))))));
}
