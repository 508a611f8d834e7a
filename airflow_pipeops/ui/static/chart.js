// A series as a chart, and behind it always a table: a canvas says nothing to a screen reader.

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { fill, h, head, scrolling } from "./dom.js";
import { moment, number, tick } from "./facts.js";

const shade = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const value = (x) => (x === null || x === undefined ? null : Number(x));

/** One series with what it is held against: a threshold, a noise floor, an interval; marks are decisions at a time: at, level, text and href. */
export function chart({ title, points, label, against, marks = [], height = 190 }) {
  const known = points.some((point) => point.value !== null);
  const place = h("div", { class: "plot", "aria-hidden": "true" });
  const links = known && marks.length ? decided(title, marks) : null;
  if (known) mount(place, { points, label, against, marks, links, height });
  return h("figure", { class: "card chart" }, h("figcaption", {}, title), known ? h("div", { class: "plotted" }, place, links) : h("p", { class: "quiet" }, "No value is known yet."),
    table(points, label, against));
}

function mount(place, { points, label, against, marks, links, height }) {
  const series = [{}];
  const data = [points.map((point) => Date.parse(point.at) / 1000)];
  const bands = [];
  const add = (name, key, options) => {
    if (!points.some((point) => value(point[key]) !== null)) return 0;
    series.push({ label: name, points: { show: false }, ...options });
    data.push(points.map((point) => value(point[key])));
    return series.length - 1;
  };
  // In the order in which they are drawn: the interval lies below all, the value above all.
  const [low, high] = [add("low", "low", { stroke: "transparent" }), add("high", "high", { stroke: "transparent" })];
  if (low && high) bands.push({ series: [high, low], fill: shade("accent-ground") });
  add("noise floor", "noise", { stroke: shade("soft"), dash: [2, 3], width: 1.5 });
  add(against, "threshold", { stroke: shade("bad"), dash: [6, 4], width: 1.5 });
  add(label, "value", { stroke: shade("accent"), width: 2, points: { show: true, size: 7, fill: shade("accent") }, spanGaps: false });
  const line = { stroke: shade("line"), width: 1 };
  const axis = { stroke: shade("soft"), grid: line, ticks: line, font: "12px system-ui, sans-serif" };
  const options = {
    // Room for the half of a mark's text that is at the right end.
    width: 600, height, series, bands, padding: [null, 36, null, null], tzDate: (time) => uPlot.tzDate(new Date(time * 1000), "UTC"),
    axes: [{ ...axis, space: 90, values: (plot, splits) => splits.map((time) => tick(1000 * time, 1000 * (splits[1] - splits[0]))) }, { ...axis, size: 56 }], scales: { x: { range: () => reaching(data[0], marks) }, y: { range: (plot, min, max) => padded(min, max) } }, legend: { show: false }, cursor: { y: false },
    hooks: { drawAxes: [(plot) => decisions(plot, marks)], draw: [(plot) => { if (links) stand(links, plot, marks); }] },
  };
  const build = () => {
    const plot = new uPlot({ ...options, width: Math.max(240, place.clientWidth) }, data, place);
    new ResizeObserver(() => { if (place.clientWidth > 0 && place.isConnected) plot.setSize({ width: Math.max(240, place.clientWidth), height }); }).observe(place);
  };
  requestAnimationFrame(() => { if (place.isConnected) build(); });
}

function padded(min, max) {
  const room = (max - min || Math.abs(max) || 1) * 0.12;
  return [min >= 0 ? Math.max(0, min - room) : min - room, max + room];
}

/** The axis of time goes from the first point on to the last decision, which comes after what it was taken on. */
function reaching(times, marks) {
  const last = Math.max(times.at(-1), ...marks.map(({ at }) => Date.parse(at) / 1000));
  return [times[0], last > times[0] ? last : times[0] + 86_400];
}

/** What was decided, each as a link above its line that says why; one stop of the Tab key, and arrow keys from one to the next. */
function decided(title, marks) {
  const told = h("p", { class: "quiet small told", "aria-hidden": "true" }, "Each mark is a decision.");
  const say = (event) => fill(told, event.target.getAttribute("aria-label"));
  const links = marks.map(({ at, level, text, href }) => h("a", { class: "decided", style: { "--level": `var(--${level})` }, href, "data-go": "", "data-key": `${title} ${at}`,
    "aria-label": `${moment(at)}: ${text}`, title: text, onfocus: say, onpointerenter: say }));
  return h("div", { role: "group", "aria-label": "Decisions", onkeydown: walk }, links, told);
}

function walk(event) {
  const links = [...event.currentTarget.querySelectorAll("a:not([hidden])")];
  const next = links[links.indexOf(event.target) + ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? NaN)];
  if (!next) return;
  event.preventDefault();
  links.forEach((link) => { link.tabIndex = link === next ? 0 : -1; });
  next.focus();
}

/** Put the links where their lines are; those of times before the axis are left out. */
function stand(group, plot, marks) {
  const links = [...group.querySelectorAll("a")];
  links.forEach((link, at) => {
    const x = plot.valToPos(Date.parse(marks[at].at) / 1000, "x");
    link.hidden = x < 0 || x > plot.over.clientWidth;
    link.style.left = `${plot.over.offsetLeft + x}px`;
  });
  const reached = links.findLast((link) => !link.hidden && link.tabIndex === 0) ?? links.findLast((link) => !link.hidden);
  links.forEach((link) => { link.tabIndex = link === reached ? 0 : -1; });
}

/** What was decided, as lines across the chart. */
function decisions(plot, marks) {
  const { ctx, bbox } = plot;
  ctx.save();
  for (const { at, level } of marks) {
    const x = plot.valToPos(Date.parse(at) / 1000, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = shade(level);
    ctx.globalAlpha = 0.55;
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

function table(points, label, against) {
  const columns = [["When", (p) => moment(p.at)], ["Batch", (p) => p.batch], [label, (p) => number(p.value)], ["Of", (p) => p.of ?? ""], [against, (p) => number(p.threshold)],
    ["Noise floor", (p) => number(p.noise)], ["Interval", (p) => (value(p.low) === null ? "unknown" : `${number(p.low)} to ${number(p.high)}`)], ["Verdict", (p) => p.verdict || "unknown"]];
  const used = columns.filter(([, read]) => points.some((point) => ![undefined, "", "unknown"].includes(read(point))));
  return h("details", {}, h("summary", {}, "As a table"), scrolling(`${label}, as a table`, h("table", {}, head(used.map(([name]) => name)),
    h("tbody", {}, [...points].reverse().map((point) => h("tr", {}, used.map(([, read]) => h("td", {}, read(point))))))), ""));
}
