// Passport: what something was made from, as a graph, verified here; and what changed against the one before.

import { get } from "./api.js";
import { byHost, fill, grouped, h, head, out, placeOf, scrolling, within } from "./dom.js";
import { empty } from "./empty.js";
import { age, files, level, mark, moment, short, tag, tell, whose } from "./facts.js";
import { graph } from "./graph.js";
import { address, elsewhere, go, state } from "./state.js";
import { able, hashes, proven } from "./verify.js";

export async function draw({ signal }) {
  const { ref } = state();
  if (!ref) return [form(""), await recent(signal)];
  let found;
  try {
    found = await get(`passport/${encodeURIComponent(ref)}`, {}, { signal });
  } catch (error) {
    if (![404, 400, 422].includes(error.status)) throw error;
    return [form(ref), h("p", { class: "card empty", role: "alert" }, error.message)];
  }
  const seal = h("div", { class: "seals", role: "status" }, mark("busy", "Verifying in this browser\u2026"));
  const place = h("div", {});
  const side = h("aside", { class: "card side", "aria-label": "The chosen record" });
  const verdicts = new Map();
  const chosen = () => (found.walk.steps.some((step) => step.id === state().node) ? state().node : found.walk.steps[0].id);
  const choose = (id) => { go(address({ node: id }), { replace: true, quiet: true }); show(); place.querySelector(`[data-key="${CSS.escape(id)}"]`)?.focus(); };
  const width = () => (place.clientWidth || document.getElementById("panel").clientWidth - 50) - 40;
  const show = () => {
    const scrolled = place.querySelector(".graphs")?.scrollLeft;
    fill(place, graph(found.walk, chosen(), choose, verdicts, width()));
    const box = place.querySelector(".graphs");
    box.scrollLeft = scrolled ?? box.scrollWidth;
    fill(side, record(found, found.walk.steps.find((step) => step.id === chosen())));
  };
  show();
  requestAnimationFrame(() => { const box = place.querySelector(".graphs"); if (box) box.scrollLeft = box.scrollWidth; });
  check(found, verdicts).then((said) => {
    if (signal.aborted) return;
    fill(seal, said);
    show();
    if (state().print) { go(address({ print: "" }), { replace: true, quiet: true }); window.print(); }
  });
  return [form(ref), heading(found), seal, answers(found, choose),
    h("div", { class: "card flush drawn" }, place), side,
    difference(found, signal), outline(found)];
}

function form(ref) {
  return h("form", { class: "bar", role: "search", onsubmit: (event) => {
    event.preventDefault();
    go(address({ ref: event.target.elements.ref.value.trim(), node: "" }));
  } }, h("label", {}, "Record, commit, image digest, model/version or deliverable@environment",
    h("input", { type: "search", name: "ref", id: "ref", value: ref, size: 56, spellcheck: "false", autocapitalize: "off" })),
  h("button", {}, "Show"));
}

/** Without a question: what was released last. */
async function recent(signal) {
  const page = await get("history", { kinds: "release", limit: 15 }, { signal });
  if (!page.items.length) return empty();
  const { list } = await import("./records.js");
  return h("section", {}, h("h2", {}, "Released last"), list(page.items, "Releases"));
}

function heading(found) {
  const { cell, walk } = found;
  const start = walk.steps[0];
  const [title, , lev] = tell(start.fact);
  const hidden = walk.steps.filter((step) => step.hidden).length;
  const gaps = walk.steps.filter((step) => !step.hidden && (!step.fact || step.fact.problem)).length;
  return h("div", { class: "heading" },
    h("div", {}, h("h2", {}, whose(cell ?? start.fact) || title), h("div", { class: "marks" },
      cell ? [h("strong", { class: "version" }, cell.version || "unknown version"), found.live ? [mark(level(cell.health), cell.health || "Health unknown"),
        cell.sync ? mark(level(cell.sync), cell.sync) : null] : mark("unknown", cell.state === "removed" ? "Removed" : "Not live any more"),
        h("span", { class: "quiet" }, "since ", age(found.since || cell.at), found.until ? [", until ", age(found.until)] : null)] : mark(lev, title),
      hidden ? tag("unknown", `${hidden} not yours to see`) : null,
      gaps ? tag("unknown", `${gaps} gap${gaps === 1 ? "" : "s"}`) : walk.cut ? tag("unknown", "longer than what is shown") : hidden ? null : tag("good", "no gap"),
      cell && !cell.approved_by ? tag("unknown", "no approval recorded") : null,
      cell?.approved_by ? tag("good", `approved by ${short(cell.approved_by, 40)}`) : null)),
    h("div", { class: "actions" },
      cell?.url ? out(cell.url, "Controller", { class: "button" }) : null,
      start.fact?.deliverable ? h("a", { class: "button", "data-go": "", href: elsewhere("timeline", { deliverable: start.fact.deliverable, moment: start.fact.at }) }, "Timeline") : null,
      h("button", { onclick: () => save(found) }, "Download"),
      h("button", { onclick: print }, "Print")));
}

/** What a person asks first, in words, each leading to the record that says so. */
function answers(found, choose) {
  const drawn = new Set(found.walk.steps.map((step) => step.id));
  return h("dl", { class: "card facts answers" }, found.answers.map((one) => {
    const id = one.records.find((record) => drawn.has(record));
    const said = one.answer === "unknown" ? tag("unknown", "unknown") : one.answer;
    if (id) return row(one.question, h("button", { class: "link", onclick: () => choose(id) }, said));
    return row(one.question, one.records.length ? h("a", { "data-go": "", href: elsewhere("passport", { ref: one.records[0] }) }, said) : said);
  }));
}

/** Airflow's frame may not print: there, a page of its own does. */
function print() {
  if (!byHost(new URL(address({ print: "1" }), location).href)) window.print();
}

addEventListener("beforeprint", () => document.querySelectorAll(".outline").forEach((list) => { list.open = true; }));

function save(found) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(found, null, 1)], { type: "application/json" }));
  const name = `passport-${found.walk.steps[0].id.slice(0, 12)}.json`;
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** What this browser has found out by itself. */
async function check(found, verdicts) {
  if (!able()) return [mark("unknown", "Not verified here"), h("span", { class: "quiet small" }, "A browser hashes only on pages that came by HTTPS. ", h("code", {}, "airflow pipeops verify"), " does it in a terminal.")];
  const ids = found.walk.steps.filter((step) => step.fact).map((step) => step.id);
  let sound = 0;
  for (const id of ids) {
    const fits = found.contents[id] ? await hashes(id, found.contents[id], found.outside) : null;
    if (fits !== null) verdicts.set(id, fits);
    sound += fits ? 1 : 0;
  }
  const said = [sound === ids.length ? mark("good", `${sound} of ${ids.length} records hash to their ids`) : mark("bad", `${ids.length - sound} of ${ids.length} records do not hash to their ids`)];
  if (!found.proof) return [...said, mark("unknown", "In no checkpoint yet")];
  try {
    const start = found.walk.steps[0].id;
    const told = JSON.parse(found.proof.line).extra ?? {};
    const its = told.id === start && await hashes(start, told, found.outside);
    const verdict = its ? await proven(found.proof) : ["bad", "Checkpoint: the entry that is proved is not this record"];
    said.push(mark(...verdict), h("span", { class: "quiet small" }, found.proof.id ? `key ${found.proof.id}`
      : ["To have it signed, name a connection of type Signing key in ", h("code", {}, "[pipeops] ledger_key_conn_id"), "."]));
  } catch (error) {
    said.push(mark("unknown", `This browser cannot check the signature: ${error.message || error.name}`));
  }
  return said;
}

/** All that is known of one record, with the ways out to where it comes from. */
function record(found, step) {
  if (step.hidden) return [h("h3", {}, mark("unknown", "Not yours to see")), h("p", {}, "It is there, and your role in Airflow may not read it.")];
  if (!step.fact) {
    return [h("h3", {}, mark("unknown", "A gap")), h("p", {}, "A record names this one as what it was made from, and nobody holds it: it was emitted before the ledger was kept, or it has been lost."), h("p", { class: "code small" }, step.id)];
  }
  const fact = step.fact;
  const [title, line, lev] = tell(fact);
  return [h("h3", {}, mark(lev, title)), h("p", {}, line || null),
    fact.problem ? h("p", { class: "notice" }, `Not believed: ${fact.problem}.`) : null,
    h("dl", { class: "facts" },
      row("Of", whose(fact)),
      row("When", [moment(fact.at), " (", age(fact.at), ")"]),
      row("Recorded by", fact.manual ? tag("unknown", "posted by hand") : source(fact)),
      row("Commit", commit(found, fact.commit)),
      row("Desired state", [fact.body.commit, fact.body.revision].flat().filter((sha) => sha && sha !== fact.commit).map((sha) => [commit(found, sha), " "])),
      row("Takes back", commit(found, fact.body.reverts)),
      row("Record", h("code", { class: "small" }, fact.id))),
    ways(fact), reports(fact),
    h("details", {}, h("summary", {}, "The whole record"), h("pre", { class: "code small", tabindex: 0 }, JSON.stringify(found.contents[fact.id] ?? fact, null, 1)))];
}

/** A commit, with the way to its page at the forge, where a record names the repository that it is in. */
function commit(found, sha) {
  if (!sha) return null;
  const said = h("code", {}, short(sha));
  return found.commits[sha] ? out(found.commits[sha], said, { "aria-label": `Commit ${short(sha)}` }) : said;
}

function row(name, value) {
  return value?.length !== 0 && value ? [h("dt", {}, name), h("dd", {}, value)] : null;
}

function source(fact) {
  return fact.dag ? within(placeOf(fact), [fact.dag, fact.task].filter(Boolean).join(" \u203a ")) : "unknown";
}

/** Every address that the body names: the forge, the controller, the registry. */
function ways(fact) {
  const found = [];
  const look = (value, name) => {
    if (typeof value === "string" && /^https?:\/\/\S+$/.test(value)) found.push([name, value]);
    else if (value && typeof value === "object" && found.length < 8) Object.entries(value).forEach(([key, item]) => look(item, Array.isArray(value) ? name : key));
  };
  look(fact.body, "");
  const words = { url: "Controller", registry_url: "Registry", artifact_uri: "Artifact", repository: "Repository" };
  return found.length ? h("p", { class: "ways" }, found.map(([name, url]) => [out(url, words[name] ?? name.replaceAll("_", " ")), " "])) : null;
}

function reports(fact) {
  const found = files(fact);
  return found.length ? h("ul", { class: "plain" }, found.map(([link, digest]) => h("li", {}, link, h("span", { class: "quiet small" }, ` ${short(digest)}`)))) : null;
}

/** The same as a list, for paper, for readers that hear it, and for narrow windows. */
function outline({ walk }) {
  return h("details", { class: "outline", open: innerWidth < 640 }, h("summary", {}, "As a list"), h("ol", {}, walk.steps.map((step) => {
    const [title, line, lev] = step.hidden ? ["Not yours to see", "", "unknown"] : tell(step.fact);
    return h("li", { style: { "margin-left": `${Math.min(step.depth, 8)}rem` } }, mark(lev, title), " ", h("span", {}, line), " ", step.fact ? age(step.fact.at) : h("code", {}, step.id.slice(0, 12)));
  })));
}

/** What is another thing than in the release before. */
function difference(found, signal) {
  if (!found.previous) return null;
  const place = h("div", {});
  return h("details", { class: "card", ontoggle: async (event) => {
    if (!event.target.open || place.childElementCount) return;
    try {
      fill(place, compared(found, await get(`passport/${encodeURIComponent(found.previous)}`, {}, { signal })));
    } catch (error) {
      if (!signal.aborted) fill(place, `It could not be read: ${error.message}`); // a text alone, so that it is asked for again when this is opened again
    }
  } }, h("summary", {}, "What changed against the release before"), place);
}

/** Of each kind, what both were made from where that is all, else what only one of them was. */
function compared(now, before) {
  const facts = (passport) => passport.walk.steps.map(({ fact }) => fact).filter(Boolean);
  const named = (passport) => grouped(facts(passport), ({ kind }) => kind);
  const [new_, old] = [named(now), named(before)];
  const both = new Set(facts(before).map(({ id }) => id).filter((id) => facts(now).some((fact) => fact.id === id)));
  const line = (fact) => h("div", {}, h("a", { "data-go": "", href: elsewhere("passport", { ref: fact.id }) }, tell(fact)[0]), " ", h("span", { class: "quiet" }, tell(fact)[1]));
  const lines = (of) => (of.length ? of.map(line) : h("span", { class: "quiet" }, "none"));
  return scrolling("What changed", h("table", {}, head(["Kind", "Before", "Now", ""]),
    h("tbody", {}, [...new Set([...new_.keys(), ...old.keys()])].map((kind) => {
      const [was, is] = [old.get(kind) ?? [], new_.get(kind) ?? []];
      const changed = [was, is].some((of) => of.some(({ id }) => !both.has(id)));
      const shown = (of) => lines(changed ? of.filter(({ id }) => !both.has(id)) : of);
      return h("tr", {}, h("th", { scope: "row" }, kind), h("td", {}, shown(was)), h("td", {}, shown(is)),
        h("td", {}, changed ? tag("busy", "changed") : h("span", { class: "quiet" }, "the same")));
    }))), "");
}
