// The graph of a passport: what something was made from, from the left to what runs, at the right. Gaps are drawn.

import { grouped, h, s } from "./dom.js";
import { age, mark, shape, tell } from "./facts.js";

const [HIGH, ACROSS, DOWN] = [84, 38, 18];
/** A record is as wide as there is room, within these. */
const [NARROWEST, WIDEST] = [140, 212];

/** In which column a record stands: right of everything that it was made from. */
function columns(walk) {
  const start = walk.steps[0]?.id;
  const depth = new Map([[start, 0]]);
  const parents = grouped(walk.edges, ([child]) => child);
  const deepen = (id, at, path) => {
    for (const [, parent] of parents.get(id) ?? []) {
      if (path.has(parent) || (depth.get(parent) ?? -1) >= at + 1) continue;
      depth.set(parent, at + 1);
      deepen(parent, at + 1, new Set([...path, parent]));
    }
  };
  deepen(start, 0, new Set([start]));
  walk.steps.forEach((step) => { if (!depth.has(step.id)) depth.set(step.id, step.depth); });
  return depth;
}

/** Where each record is drawn; records of a column stand in the order of their children, so that few lines cross. */
function layout(walk, room = 1200) {
  const depth = columns(walk);
  const most = Math.max(0, ...depth.values());
  const wide = Math.max(NARROWEST, Math.min(WIDEST, Math.floor((room - most * ACROSS) / (most + 1))));
  const lists = Array.from({ length: most + 1 }, () => []);
  walk.steps.forEach((step) => lists[depth.get(step.id)].push(step));
  const row = new Map();
  lists.forEach((steps, column) => {
    const wish = (step) => {
      const children = walk.edges.filter(([child, parent]) => parent === step.id && depth.get(child) < column).map(([child]) => row.get(child) ?? 0);
      return children.length ? children.reduce((a, b) => a + b, 0) / children.length : 0;
    };
    steps.sort((a, b) => wish(a) - wish(b)).forEach((step, at) => row.set(step.id, at));
  });
  const tallest = Math.max(...lists.map((steps) => steps.length));
  const place = new Map();
  lists.forEach((steps, column) => steps.forEach((step, at) => place.set(step.id, {
    x: (most - column) * (wide + ACROSS), y: (at + (tallest - steps.length) / 2) * (HIGH + DOWN),
  })));
  return { place, wide, width: (most + 1) * (wide + ACROSS) - ACROSS, height: tallest * (HIGH + DOWN) - DOWN, lists };
}

/** Draw it. Each record is a button; arrow keys go along the lines. */
export function graph(walk, chosen, choose, verdicts, room) {
  const { place, wide, width, height } = layout(walk, room);
  const lines = walk.edges.filter(([child, parent]) => place.has(child) && place.has(parent)).map(([child, parent]) => {
    const [from, to] = [place.get(parent), place.get(child)];
    const [x1, y1, x2, y2] = [from.x + wide, from.y + HIGH / 2, to.x, to.y + HIGH / 2];
    const step = walk.steps.find((one) => one.id === parent);
    const bend = Math.max(16, (x2 - x1) / 2);
    return s("path", { d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, class: step?.fact && !step.fact.problem ? "edge" : "edge gap" });
  });
  const drawing = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, lines);
  const nodes = walk.steps.map((step) => node(step, { ...place.get(step.id), wide }, step.id === chosen, choose, verdicts.get(step.id)));
  const box = h("div", { class: "graph", role: "group", "aria-label": "What it was made from", style: { width: `${width}px`, height: `${height}px` },
    onkeydown: (event) => walkKeys(event, walk, place) }, drawing, nodes);
  return h("div", { class: "scroll graphs", tabindex: -1 }, box);
}

function node(step, { x, y, wide }, chosen, choose, verdict) {
  const [title, line, level] = step.hidden ? ["Not yours to see", "your role may not read it", "unknown"] : tell(step.fact);
  const kind = step.fact && !step.fact.problem ? "" : " missing";
  return h("button", { class: `node ${level}${kind}`, "aria-pressed": String(chosen), "data-key": step.id, style: { left: `${x}px`, top: `${y}px`, width: `${wide}px` },
    onclick: () => choose(step.id) },
  h("span", { class: "title" }, h("span", { class: `mark ${level}` }, shape(level)), h("span", {}, title)),
  h("span", { class: "line" }, step.fact || step.hidden ? line : `${step.id.slice(0, 12)}: nobody holds it`),
  h("span", { class: "foot" }, step.fact ? age(step.fact.at) : h("span", { class: "quiet" }, "gap"),
    verdict === false ? mark("bad", "altered") : verdict ? h("span", { class: "seal", title: "Hashes to its id" }, "\u2713 id") : null));
}

function walkKeys(event, walk, place) {
  const id = event.target.closest?.("[data-key]")?.dataset.key;
  const towards = { ArrowLeft: ([child, parent]) => child === id && parent, ArrowRight: ([child, parent]) => parent === id && child }[event.key];
  let next = towards && walk.edges.map(towards).find(Boolean);
  if (event.key === "ArrowUp" || event.key === "ArrowDown") {
    const here = place.get(id);
    const column = [...place].filter(([, at]) => here && at.x === here.x).sort(([, a], [, b]) => a.y - b.y).map(([one]) => one);
    next = column[column.indexOf(id) + (event.key === "ArrowUp" ? -1 : 1)];
  }
  if (!next) return;
  event.preventDefault();
  event.currentTarget.querySelector(`[data-key="${CSS.escape(next)}"]`)?.focus();
}
