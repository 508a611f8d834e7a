// Timeline: what happened, in lanes on one axis, and for any moment what changed before it.

import { get } from "./api.js";
import { grouped, h, s } from "./dom.js";
import { empty, nothing } from "./empty.js";
import { moment, shape, tell, tick, whose } from "./facts.js";
import { chooser, names } from "./choose.js";
import { list } from "./records.js";
import { address, further, go, state } from "./state.js";
import { suspects } from "./suspects.js";

const LANES = [
  ["Deploys", ["change", "release", "rollback"]], ["Builds and tests", ["commit", "image", "workflow"]], ["Data and drift", ["drift", "dataset", "batch", "validation"]],
  ["Models, prompts", ["training", "model", "alias", "scores", "prompt", "evaluation"]], ["Decisions", ["decision", "approval", "tuning"]], ["Incidents", ["incident", "anomaly", "explanation", "remediation"]], ["Failed tasks", ["failure"]], ["Drift from Git", ["differences"]],
];
const SPANS = [["day", "24 hours", 1], ["week", "7 days", 7], ["month", "30 days", 30], ["quarter", "90 days", 90], ["year", "1 year", 365], ["all", "All", 0]];
const [MINUTE, HOUR, DAY] = [60_000, 3_600_000, 86_400_000];
const [LEFT, HIGH, STEP] = [132, 54, 15];

export async function draw({ signal }) {
  const { deliverable = "", environment = "" } = state();
  const asked = bounds();
  const [known, page, before] = await Promise.all([names(signal),
    get("history", { deliverable, environment, start: iso(asked.start), end: iso(asked.end), limit: 500 }, { signal }), earlier(deliverable, environment, signal)]);
  if (!known.length) return empty();
  const facts = page.items;
  const times = facts.map((fact) => Date.parse(fact.at)).filter((time) => !Number.isNaN(time));
  const end = asked.end ?? Math.max(Date.now(), ...times);
  // All of it fills the width, be it minutes or years.
  const first = Math.min(end - 10 * MINUTE, ...times);
  const start = asked.start ?? first - (end - first) / 50;
  const bar = controls(known, deliverable, environment, start, end);
  const drawing = facts.length ? h("div", { class: "card" }, lanes(facts, start, end), hint(page)) : nothing("Nothing was recorded in this time. Choose a longer one.");
  return [bar, drawing, before, facts.length
    ? h("details", {}, h("summary", {}, `The same as a table (${facts.length})`), list(facts)) : null];
}

const iso = (time) => (time === null ? undefined : new Date(time).toISOString());

function bounds() {
  const { span = "all", from, to } = state();
  if (from && to) return { start: Date.parse(from), end: Date.parse(to) };
  const days = SPANS.find(([name]) => name === span)?.[2] ?? 0;
  // Rounded, so that the same question is asked for a minute, and answered from what is known.
  const now = Math.ceil(Date.now() / 60_000) * 60_000;
  return days ? { start: now - days * DAY, end: now } : { start: null, end: null };
}

function controls(known, deliverable, environment, start, end) {
  const { span = "all", from } = state();
  const zoom = (factor, shift = 0) => () => {
    const [middle, half] = [(start + end) / 2 + shift * (end - start), ((end - start) / 2) * factor];
    go(address({ span: "", from: new Date(middle - half).toISOString(), to: new Date(middle + half).toISOString() }));
  };
  return h("div", { class: "bar" }, chooser(known, deliverable, { all: true }),
    h("label", {}, "Environment", h("input", { id: "environment", value: environment, placeholder: "all", onchange: (event) => go(address({ environment: event.target.value.trim() })) })),
    h("div", { class: "buttons", role: "group", "aria-label": "Time shown" }, SPANS.map(([name, text]) =>
      h("button", { "data-key": `span-${name}`, "aria-pressed": String(!from && span === name), onclick: () => go(address({ span: name, from: "", to: "" })) }, text))),
    h("div", { class: "buttons", role: "group", "aria-label": "Zoom" },
      [["Earlier", 1, -0.5], ["Later", 1, 0.5], ["Zoom in", 0.5, 0], ["Zoom out", 2, 0]].map(([text, factor, shift]) => h("button", { "data-key": text, onclick: zoom(factor, shift) }, text))));
}

function hint(page) {
  return h("p", { class: "quiet small" }, "Choose a mark, or a place on the axis, to see what changed before it.",
    page.after ? " Only the newest 500 are drawn: zoom in for the others." : "");
}

/** The lanes: a mark for each fact, by its shape; facts at one place are stacked, and beyond that counted. */
function lanes(facts, start, end) {
  const width = Math.max(560, Math.min(1500, (document.getElementById("panel").clientWidth || 1100) - 96));
  const x = (time) => LEFT + ((time - start) / Math.max(1, end - start)) * (width - LEFT - 16);
  const shown = LANES.filter(([, kinds]) => facts.some((fact) => kinds.includes(fact.kind)));
  const others = facts.filter((fact) => !LANES.some(([, kinds]) => kinds.includes(fact.kind)));
  if (others.length) shown.push(["Others", [...new Set(others.map((fact) => fact.kind))]]);
  const height = shown.length * HIGH + 30;
  const ticks = axis(start, end, width > 800 ? 8 : 4);
  const chosen = Date.parse(state().moment ?? "");
  const drawing = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, class: "lanes", role: "group", "aria-label": "Timeline",
    onclick: (event) => pick(event, start, end, width) },
  ticks.map(([time, text]) => [s("line", { x1: x(time), x2: x(time), y1: 0, y2: height - 24, class: "tick" }), s("text", { x: x(time), y: height - 8, class: "axis", "text-anchor": "middle" }, text)]),
  shown.map(([name, kinds], at) => lane(name, facts.filter((fact) => kinds.includes(fact.kind)), at * HIGH, x, width)),
  chosen >= start && chosen <= end ? s("line", { x1: x(chosen), x2: x(chosen), y1: 0, y2: height - 24, class: "moment" }) : null);
  return h("div", { class: "scroll", tabindex: -1 }, drawing);
}

const ORDER = ["bad", "warn", "busy", "unknown", "good"];
const OFFSETS = [0, -15, 15];

/** One lane. Marks that would lie on each other are stacked, what is worst first; more than three are counted. */
function lane(name, facts, top, x, width) {
  const places = grouped(facts, (fact) => Math.round(x(Date.parse(fact.at)) / STEP));
  const middle = top + HIGH / 2;
  return s("g", {}, s("line", { x1: 0, x2: width, y1: top + HIGH, y2: top + HIGH, class: "rule" }), s("text", { x: 0, y: middle + 4, class: "lane" }, name),
    [...places.values()].map((here) => {
      const ordered = here.map((fact) => [fact, tell(fact)]).sort(([, a], [, b]) => ORDER.indexOf(a[2]) - ORDER.indexOf(b[2]));
      const shown = ordered.slice(0, here.length > 3 ? 2 : 3);
      const at = x(Date.parse(ordered[0][0].at));
      return [shown.map(([fact, told], place) => point(fact, told, at, middle + OFFSETS[place])),
        here.length > 3 ? s("text", { x: at, y: middle + OFFSETS[2] + 4, class: "more", "text-anchor": "middle" }, `+${here.length - 2}`) : null];
    }));
}

function point(fact, [title, line, level], x, y) {
  const words = `${title}, ${whose(fact)}, ${moment(fact.at)}. ${line}`;
  const drawn = shape(level);
  Object.entries({ x: x - 7, y: y - 7, width: 14, height: 14 }).forEach(([key, value]) => drawn.setAttribute(key, value));
  const choose = (event) => { event.stopPropagation(); go(address({ moment: fact.at, about: fact.id, earlier: "" })); };
  return s("g", { class: `point ${level}`, tabindex: 0, role: "button", "aria-label": words, "data-key": fact.id, onclick: choose,
    onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(event); } } }, s("title", {}, words), drawn);
}

function pick(event, start, end, width) {
  const box = event.currentTarget.getBoundingClientRect();
  const share = (event.clientX - box.left - LEFT) / (width - LEFT - 16);
  if (share >= 0 && share <= 1) go(address({ moment: new Date(start + share * (end - start)).toISOString(), about: "", earlier: "" }));
}

const STEPS = [MINUTE, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 91 * DAY, 182 * DAY, 365 * DAY];

function axis(start, end, most) {
  const step = STEPS.find((one) => (end - start) / one <= most) ?? 365 * DAY * Math.ceil((end - start) / (365 * DAY * most));
  const found = [];
  for (let time = Math.ceil(start / step) * step; time <= end; time += step) {
    const text = tick(time, step);
    // Of marks that are less than an hour apart, the first of each day has its date.
    found.push([time, step < HOUR && found.some(([, other]) => other.startsWith(text.slice(0, 5))) ? text.slice(6) : text]);
  }
  return found;
}

/** What changed before the chosen moment. */
async function earlier(deliverable, environment, signal) {
  const { moment: at, about, earlier: after } = state();
  if (!at) return null;
  const [page, suspected] = await Promise.all([get("before", { moment: at, deliverable, environment, limit: 20, after }, { signal }), about ? suspects(about, signal) : null]);
  return h("section", { class: "before", "aria-live": "polite" }, h("h2", {}, "What changed before ", h("time", { datetime: at }, moment(at))),
    about ? h("p", {}, h("a", { "data-go": "", href: address({ panel: "passport", ref: about, node: "" }) }, "Passport of what was chosen")) : null,
    suspected,
    page.items.length ? list(page.items, "What changed before, the newest first")
      : nothing(page.after ? "Nothing changed in the last 20,000 records before: look earlier, or choose a deliverable." : "Nothing that is recorded changed before."),
    further(after, page.after, "Last before it", "Earlier", "earlier"));
}
