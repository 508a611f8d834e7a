// Matrix: every deliverable in every environment, by the version that people know.

import { get } from "./api.js";
import { grouped, h, head, scrolling } from "./dom.js";
import { empty, nothing } from "./empty.js";
import { age, ago, level, mark, short, tag } from "./facts.js";
import { address, elsewhere, go, state } from "./state.js";

/** So few come first, and are painted soon. */
const [FIRST, PAGE] = [100, 250];
const FILTERS = [
  ["", "All"], ["attention", "Needs attention"], ["unhealthy", "Not healthy"], ["outofsync", "Out of sync"], ["drift", "Drifting"],
  ["behind", "Behind"], ["unapproved", "Nobody's approval recorded"], ["unknown", "Unknown"],
];
const GROUPS = [["", "Name"], ["state", "State"], ["prefix", "First word of the name"]];
const ORDER = ["development", "dev", "test", "integration", "staging", "preprod", "canary", "production", "prod"];
const STATES = [["bad", "Not healthy"], ["warn", "Needs attention"], ["busy", "On its way"], ["unknown", "Unknown"], ["good", "Well"]];

export async function draw({ signal }) {
  const { at } = state();
  const place = h("div", { id: "cells" });
  const first = await get("matrix", { limit: FIRST, at }, { signal });
  const rows = [...first.items];
  const hidden = first.partly?.length ? h("p", { class: "quiet", id: "partly" }, mark("unknown", "Hidden"),
    ` A DAG that you may not read has recorded something about ${first.partly.join(", ")}.`) : null;
  if (!rows.length && !at) return hidden ?? empty();
  let whole = !first.after;
  let drawn;
  const show = () => { drawn = table(rows, whole); place.replaceChildren(drawn.element); };
  const add = (items, last) => {
    rows.push(...items);
    whole = last;
    if (!drawn.add(items, rows.length, whole)) show();
  };
  show();
  if (!whole) rest(first.after, at, signal, place, add);
  return [controls(show), place, hidden];
}

/** The other pages, one after the other: the first is useful meanwhile. The next is asked for while one is drawn. */
async function rest(after, at, signal, place, add) {
  const ask = (key) => (key ? get("matrix", { limit: PAGE, at, after: key }, { signal }) : null);
  try {
    for (let next = ask(after); next;) {
      const page = await next;
      next = ask(page.after);
      add(page.items, !page.after);
    }
  } catch (error) {
    if (!signal.aborted) place.append(h("p", { class: "notice", role: "alert" }, `The rest could not be read: ${error.message}`));
  }
}

function controls(show) {
  const now = state();
  const set = (name, replace) => (event) => { go(address({ [name]: event.target.value }), { replace, quiet: true }); show(); };
  return h("div", { class: "bar" },
    h("label", {}, "Search", h("input", { type: "search", id: "search", value: now.q ?? "", placeholder: "name, version, approver", oninput: set("q", true) })),
    h("label", {}, "Show", h("select", { id: "filter", onchange: set("show") }, options(FILTERS, now.show))),
    h("label", {}, "Group by", h("select", { id: "group", onchange: set("group") }, options(GROUPS, now.group))),
    h("label", {}, "As it was at (UTC)", h("input", { type: "datetime-local", id: "at", value: (now.at ?? "").slice(0, 16),
      onchange: (event) => go(address({ at: event.target.value ? `${event.target.value}Z` : "" })) })),
    now.at ? h("a", { class: "button", "data-go": "", href: address({ at: "" }) }, "Back to now") : null);
}

function options(list, chosen = "") {
  return list.map(([value, text]) => h("option", { value, selected: value === chosen }, text));
}

/** The level of a cell: that of its worst word; what nobody knows is never well. */
function worst(cell) {
  if (cell.state === "removed") return "unknown";
  const levels = [level(cell.health), level(cell.sync)];
  if (cell.drift || cell.version_of === "model") levels.push(level(cell.drift)); // what has no data does not drift
  if (levels[0] === "unknown") return levels.includes("bad") ? "bad" : "unknown";
  return ["bad", "warn", "busy", "unknown"].find((one) => levels.includes(one)) ?? "good";
}

function fits(cell, show) {
  const worse = worst(cell);
  return {
    attention: ["bad", "warn"].includes(worse), unhealthy: level(cell.health) === "bad", outofsync: level(cell.sync) === "warn",
    drift: level(cell.drift) === "warn", behind: cell.behind > 0, unapproved: !cell.approved_by, unknown: worse === "unknown",
  }[show] ?? true;
}

function matches(row, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const text = [row.deliverable, ...row.cells.flatMap((c) => [c.environment, c.version, c.alias, c.commit, c.approved_by, c.health, c.app])].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

/** The table of the rows that are there, and a way to add rows below; false where they need another table, as one of more columns. */
function table(rows, whole) {
  const { q = "", show = "", group = "" } = state();
  const fit = (row) => matches(row, q) && (!show || row.cells.some((cell) => fits(cell, show)));
  const first = rows.filter(fit);
  if (!first.length) return { element: nothing(whole ? "Nothing fits this search and this filter." : "Still reading\u2026"), add: () => false };
  const environments = [...new Set(first.flatMap((row) => row.cells.map((cell) => cell.environment)))].sort(byStage);
  const count = h("p", { class: "quiet small", role: "status" });
  const cells = h("table", { class: "matrix" }, h("caption", { class: "unseen" }, "What is live, per deliverable and environment"), head(["Deliverable", ...environments]));
  const bodies = new Map();
  const begin = (title) => {
    const body = h("tbody", {}, title ? h("tr", { class: "group" }, h("th", { colspan: environments.length + 1, scope: "rowgroup" }, title, h("span", { class: "quiet" }))) : null);
    const below = group === "state" ? STATES.slice(STATES.findIndex(([, one]) => one === title)).find(([, one]) => bodies.has(one)) : null;
    cells.insertBefore(body, below ? bodies.get(below[1]) : null);
    bodies.set(title, body);
    return body;
  };
  let shown = 0;
  const add = (items, all, last) => {
    const more = items.filter(fit);
    if (more.some((row) => row.cells.some((cell) => !environments.includes(cell.environment)))) return false;
    for (const [title, those] of parts(more, group)) {
      const body = bodies.get(title) ?? begin(title);
      body.append(...those.map((row) => line(row, environments, show)));
      if (title) body.querySelector("span").textContent = ` ${body.rows.length - 1}`;
    }
    shown += more.length;
    count.textContent = `${shown} of ${all} deliverables${last ? "" : " so far"}`;
    return true;
  };
  add(first, rows.length, whole);
  return { element: h("div", {}, count, scrolling("Matrix of deliverables and environments", cells)), add };
}

function parts(rows, group) {
  if (group === "prefix") return [...grouped(rows, (row) => row.deliverable.split("-")[0])];
  if (group !== "state") return [["", rows]];
  const found = grouped(rows, (row) => {
    const levels = row.cells.map(worst);
    return STATES.find(([name]) => levels.includes(name))?.[0] ?? "unknown";
  });
  return STATES.filter(([name]) => found.has(name)).map(([name, title]) => [title, found.get(name)]);
}

function byStage(a, b) {
  const place = (name) => { const at = ORDER.indexOf(name); return at < 0 ? ORDER.length - 3 : at; };
  return place(a) - place(b) || a.localeCompare(b);
}

function line(row, environments, show) {
  return h("tr", {}, h("th", { scope: "row" },
    h("a", { "data-go": "", class: "name", href: elsewhere("timeline", { deliverable: row.deliverable }) }, row.deliverable)),
  environments.map((name) => {
    const cell = row.cells.find((one) => one.environment === name);
    return h("td", { "data-environment": name }, cell ? inside(cell, show && !fits(cell, show)) : h("span", { class: "quiet small" }, "never released"));
  }));
}

function inside(cell, dimmed) {
  const { at } = state();
  const ref = at ? `${cell.deliverable}@${cell.environment}@${at}` : `${cell.deliverable}@${cell.environment}`;
  const gone = cell.state === "removed";
  return h("div", { class: `cell${dimmed ? " dimmed" : ""}` },
    h("a", { "data-go": "", class: "version", href: elsewhere("passport", { ref }), "data-key": ref,
      title: `${cell.version_of || "version"} ${cell.version || "unknown"}${cell.commit ? `, commit ${cell.commit}` : ""}` }, cell.version || "unknown version"),
    h("div", { class: "marks" },
      cell.alias ? h("span", { class: "tag", title: `recorded ${ago(cell.alias_at)}` }, cell.alias) : null,
      gone ? mark("unknown", "Removed") : [mark(level(cell.health), cell.health || "Health unknown"), later(cell, cell.health_at)],
      !gone && level(cell.sync) !== "good" ? [tag(level(cell.sync), words(cell.sync), `told ${ago(cell.sync_at)}`), later(cell, cell.sync_at)] : null,
      cell.drift && level(cell.drift) !== "good" ? tag(level(cell.drift), level(cell.drift) === "warn" ? "Drift" : `Drift: ${cell.drift}`, `compared ${ago(cell.drift_at)}`) : null,
      cell.behind > 0 ? h("span", { class: "tag" }, `${cell.behind}${cell.behind >= 100 ? "+" : ""} commit${cell.behind === 1 ? "" : "s"} behind`) : null),
    h("div", { class: "quiet small" }, age(cell.at), cell.approved_by ? ` \u00b7 approved by ${short(cell.approved_by, 30)}` : ""));
}

/** The age of what was told after the release, whose own age stands below. */
function later(cell, at) {
  return at && at !== cell.at ? age(at) : null;
}

function words(text) {
  return { OutOfSync: "Out of sync", Unknown: "Sync unknown", "": "Sync unknown" }[text] ?? text;
}
