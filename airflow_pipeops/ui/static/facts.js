// How a fact is said: its mark (colour, shape and word), its age, its name, and what a record tells in one line.

import { h, s } from "./dom.js";

const SHAPES = {
  good: ["circle", "M5 8.2l2.1 2.1L11 6"],
  busy: ["circle", "M8 4.6V8l2.4 1.6"],
  warn: ["triangle", "M8 6v3.2M8 11.2v.2"],
  bad: ["square", "M5.6 5.6l4.8 4.8M10.4 5.6l-4.8 4.8"],
  unknown: ["ring", "M6.4 6.3a1.7 1.7 0 1 1 2.4 1.6c-.6.3-.8.6-.8 1.1M8 11v.2"],
};

function outline(shape) {
  if (shape === "triangle") return s("path", { d: "M8 1.8 15 14H1Z", "stroke-linejoin": "round" });
  if (shape === "square") return s("path", { d: "M5.2 1.5h5.6l3.7 3.7v5.6l-3.7 3.7H5.2l-3.7-3.7V5.2Z" });
  return s("circle", { cx: 8, cy: 8, r: 6.5, "stroke-dasharray": shape === "ring" ? "2.4 2" : null });
}

/** The shape of a state alone, where its word stands beside it. */
export function shape(level) {
  const [kind, inside] = SHAPES[level] ?? SHAPES.unknown;
  const stroke = { d: inside, "stroke-linecap": "round", "stroke-linejoin": "round" };
  const drawing = { viewBox: "0 0 16 16", fill: "none", stroke: "currentColor", "stroke-width": 1.5, "aria-hidden": "true" };
  return s("svg", drawing, outline(kind), s("path", stroke));
}

/** A state as colour, shape and word. */
export function mark(level, word) {
  return h("span", { class: `mark ${level}` }, shape(level), word);
}

/** The same, small. */
export function tag(level, word, title) {
  return h("span", { class: `tag ${level}`, title }, shape(level), word);
}

const LEVELS = {
  __proto__: null, // words come from records: "constructor" is none that is known
  healthy: "good", synced: "good", succeeded: "good", steady: "good", clean: "good", none: "good", passed: "good", approved: "good",
  promoted: "good", kept: "good", hold: "good", ready: "good", "not drifted": "good", "no drift": "good", "no change": "good",
  progressing: "busy", syncing: "busy", running: "busy", pending: "busy", retrain: "busy", waiting: "busy", suspended: "busy",
  outofsync: "warn", "out of sync": "warn", different: "warn", drift: "warn", drifted: "warn", changed: "warn", late: "warn", investigate: "warn", warned: "warn",
  degraded: "bad", failed: "bad", missing: "bad", worse: "bad", rollback: "bad", rejected: "bad", incident: "bad", error: "bad",
};

/** The level of a word that a controller or a judgement has said; what nobody knows is unknown, and never good. */
export function level(word) {
  return LEVELS[String(word ?? "").trim().toLowerCase()] ?? "unknown";
}

const UNITS = [["y", 31557600], ["d", 86400], ["h", 3600], ["min", 60]];

/** How long ago, in the largest unit that fits. */
export function ago(at, now = Date.now()) {
  const seconds = (now - Date.parse(at)) / 1000;
  if (!at || Number.isNaN(seconds)) return "at an unknown time";
  if (seconds < -60) return "in the future";
  return seconds < 60 ? "just now" : `${span(seconds)} ago`;
}

/** A duration, in words. */
export function span(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(Number(seconds))) return "unknown";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const [unit, size] = UNITS.find(([, one]) => seconds >= one);
  const count = seconds / size;
  return `${count < 10 && unit !== "min" ? Number(count.toFixed(1)) : Math.round(count)} ${unit}`;
}

/** The age of a fact, which grows while the page is open; its time is in the title. */
export function age(at) {
  if (!at) return h("span", { class: "quiet" }, "age unknown");
  return h("time", { datetime: at, "data-age": "", title: moment(at), class: "quiet" }, ago(at));
}

/** Write all ages anew. */
export function growOlder() {
  document.querySelectorAll("time[data-age]").forEach((item) => { item.textContent = ago(item.dateTime); });
}

/** A time as a person reads it, in UTC as everywhere in Airflow's records. */
export function moment(at) {
  const time = new Date(at);
  return Number.isNaN(time.getTime()) ? String(at ?? "") : `${time.toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** A mark on an axis of time: the date, and the hour where the marks are closer than days. */
export function tick(time, step) {
  const text = new Date(time).toISOString();
  return step < 86_400_000 ? `${text.slice(5, 10)} ${text.slice(11, 16)}` : text.slice(0, 10);
}

/** A digest or a SHA in short; anything else as it is, though not endlessly. */
export function short(value, length = 60) {
  const text = String(value ?? "");
  const bare = text.replace(/^sha256:/, "");
  if (/^[0-9a-f]{40}([0-9a-f]{24})?$/.test(bare)) return bare.slice(0, 8);
  return text.length > length ? `${text.slice(0, length - 1)}\u2026` : text;
}

/** A number, no longer than it is telling. */
export function number(value, digits = 3) {
  if (value === null || value === undefined || value === "" || Number.isNaN(Number(value))) return "unknown";
  return Number(Number(value).toPrecision(digits)).toLocaleString("en");
}

/** What a fact is about: a deliverable, and where it happened, if anywhere. */
export function whose(fact) {
  return [fact?.deliverable, fact?.environment].filter(Boolean).join(" in ");
}

/** The files that back a fact: of each, a link to where the DAG that stored it keeps it, and its digest. */
export function files(fact) {
  return fact.evidence.filter((item) => fact.dag && /^[0-9a-f]{64}$/.test(item.sha256 ?? "")).map((item) => [
    h("a", { href: `evidence/${encodeURIComponent(fact.dag)}/${item.sha256}/${encodeURIComponent(item.name)}`, target: "_self" }, item.name), item.sha256]);
}

const share = (value) => (value === null || value === undefined ? "" : `, ${number(100 * value, 2)} % of the columns`);
const joined = (value) => (Array.isArray(value) ? value.join("; ") : String(value ?? ""));

const GATES = { __proto__: null, tests: "Tests", data: "Data gate", image: "Signatures", coverage: "Coverage" };
const judged = (value, yes, no, unsure = "unknown") => (value === true ? yes : value === false ? no : unsure);

/** What a gate says, in a word or two, and its level. Of tests, passed is how many did: their result stands beside it. */
function gate(b) {
  const result = b["test-result"]?.result;
  if (b.subject === "image" && b.verified?.length) return [`${joined(b.verified)} verified${b.by ? `, by ${b.by}` : ""}`, "good"];
  if (b.subject === "coverage") return [`${number(b.coverage, 4)} % of the lines, ${number(b.floor, 4)} % asked for`, b.coverage >= b.floor ? "good" : "unknown"];
  const said = result ? result.toLowerCase() : judged(b.passed, "passed", "failed", "cannot tell");
  return [b.failed ? `${said}: ${b.failed} of ${b.evaluated ?? b.tests ?? "?"}` : said, level(said)];
}

const compared = (b) => ["Evaluation", b.reason || "", judged(b.promote, "good", "warn")];

const guarded = (b) => [b.reason || "", { __proto__: null, worse: "bad", "no worse": "good" }[b.verdict] ?? "unknown"];

/** Evaluations that compare no challenger, by what they are about. */
const EVALUATIONS = {
  __proto__: null,
  performance: (b) => ["Performance", `${b.metric ?? "metric"} ${number(b.value)}${b.reference !== null && b.reference !== undefined ? `, expected ${number(b.reference)}` : ""}`,
    b.verdict === "steady" ? "good" : b.worse ? "bad" : "unknown"],
  cohorts: (b) => ["Labels", b.reason || "", b.cohorts?.some((one) => one.state === "labels missing") ? "warn" : b.counts?.labelled ? "good" : "unknown"],
  guard: (b) => ["Guard of the model", ...guarded(b)],
  "prompt guard": (b) => ["Guard of the prompt", ...guarded(b)],
};

/** What a record is called, what it tells in one line, and of what level it is, by its kind: delivery/schemas.py has the bodies. */
const KINDS = {
  __proto__: null,
  commit: (b, f) => [`Commit ${short(f.commit || b.commit)}`, [b.subject, b.author].filter(Boolean).join(" \u00b7 "), "good"],
  dataset: (b) => [b.rows ? `Data, ${number(b.rows, 6)} rows` : "Data", b.batch || b.subject || short(b.digest), "good"],
  batch: (b) => [`Batch ${short(b.batch)}`, b.rows ? `${number(b.rows, 6)} rows` : short(b.digest), "good"],
  validation: (b) => [GATES[b.subject] ?? `Gate of ${b.subject || "something"}`, ...gate(b)],
  workflow: (b) => [`Workflow ${b.name ?? ""}`, b.message || b.progress || b.phase || joined(b.pods?.map(({ pod }) => pod)), level(b.phase)],
  image: (b) => [`Image ${short(b.digest || b.reference)}`, b.reference || b.image || "", "good"],
  training: (b) => ["Training", [b.name, b.metrics && Object.entries(b.metrics).map(([k, v]) => `${k} ${number(v)}`).join(", ")].filter(Boolean).join(": "), "good"],
  model: (b) => [`Model ${b.name ?? ""} ${b.version ? `v${b.version}` : ""}`, short(b.sha256), "good"],
  alias: (b) => [`Alias ${b.alias ?? ""}`, `${b.name ?? ""} v${b.version}${b.previous && b.previous !== b.version ? `, before v${b.previous}` : ""}`, "good"],
  scores: (b) => [`Scores of ${short(b.partition, 30)}`, [b.rows ? `${number(b.rows, 6)} rows` : "", b.version ? `${b.model ?? "model"} v${b.version}` : "", b.outcome].filter(Boolean).join(" \u00b7 "), b.shown ? "good" : "warn"],
  evaluation: (b) => (EVALUATIONS[b.subject] ?? compared)(b),
  drift: (b) => ["Drift", `${b.verdict ?? judged(b.drifted, "drift", "no drift", "cannot tell")}${share(b.share)}${b.batch ? ` \u00b7 ${short(b.batch, 30)}` : ""}`, judged(b.drifted, "warn", "good")],
  differences: (b) => ["Against Git", b.verdict === "clean" ? "as it should be" : b.reason || b.verdict || "", level(b.verdict)],
  decision: (b) => [`Decision: ${b.action ?? "unknown"}`, joined(b.reasons), level(b.action)],
  approval: (b) => ["Approval", [b.subject && `${short(b.subject)}:`, b.answer, b.approved_by ? `by ${joined(b.approved_by)}${b.policy ? ` (${b.policy})` : ""}` : b.timed_out && "since nobody answered in time"].filter(Boolean).join(" "), judged(b.approved, "good", "bad")],
  change: (b) => [`Change ${short(b.commit)}`, b.reverts ? `reverts ${short(b.reverts)}: ${b.reason ?? ""}` : b.file || b.app || b.release || "", "good"],
  release: (b) => [`Release ${short(b.revision)}`, b.reason || b.app || "", level(b.health)],
  rollback: (b) => [b.reverts ? `Rollback of ${short(b.reverts)}` : "Rollback", [b.app, b.how, b.reason].filter(Boolean).join(" \u00b7 "), "warn"],
  prompt: (b) => [`Prompt ${b.name ?? ""}`, [short(b.sha256), b.model && `for ${b.model}`].filter(Boolean).join(" "), "good"],
  tuning: (b) => ["Tuning", (b.decisions ?? []).map((one) => `${one.knob?.name ?? "knob"}: ${one.step?.action ?? "unknown"}`).join("; "), "unknown"],
  anomaly: (b) => ["Anomalies", b.count ? `${b.count}: ${b.alarms?.[0]?.reason ?? ""}` : b.count === 0 ? "none" : "", b.count ? "warn" : b.count === 0 ? "good" : "unknown"],
  explanation: (b) => ["Explanation", b.outcome === "likely" ? b.reason ?? "" : b.outcome ?? "", "unknown"],
  incident: (b) => ["Incident", b.what || b.reason || "", "bad"],
  failure: (b, f) => [{ __proto__: null, refused: "Refused", failed: "Failed" }[b.outcome] ?? "Failed, nobody knows why", [f.task, b.error, b.reason].filter(Boolean).join(" \u00b7 "), "bad"],
  remediation: (b) => [`Remediation: ${b.state || b.outcome || "unknown"}`, [b.action, b.reason].filter(Boolean).join(" \u00b7 "), judged(b.helped, "good", "bad")],
};

/** Say a fact: its title, one line, its level. A kind that this page does not know is shown as it is. */
export function tell(fact) {
  if (!fact) return ["Missing record", "nobody holds it any more", "unknown"];
  let said = [`${fact.kind || "Entry"}`, "of a kind that this version does not know", "unknown"];
  try {
    if (KINDS[fact.kind]) said = KINDS[fact.kind](fact.body ?? {}, fact);
  } catch { /* a body of another shape: its kind is all that can be said */ }
  if (fact.problem) said = [said[0], fact.problem, "unknown"];
  return said.map((one) => String(one).trim());
}
