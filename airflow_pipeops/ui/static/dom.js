// Elements by hand. Text is set as text, never as markup: names and reasons come from records, and a record is data.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element. Attributes that are null or false are left out; those that begin with "on" are listeners. */
export function h(name, attributes = {}, ...children) {
  return build(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function s(name, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, name), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.entries(value).forEach(([key, item]) => element.style.setProperty(key, item));
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...there(children));
  return element;
}

const there = (children) => children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);

/** What may be wider than the window, in a box that scrolls and that keys reach. */
export function scrolling(label, content, look = "card flush") {
  return h("div", { class: `scroll ${look}`, tabindex: 0, role: "region", "aria-label": label }, content);
}

/** The head of a table. */
export function head(names) {
  return h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name))));
}

/** Items by a key, in the order in which they come. */
export function grouped(items, keyOf) {
  const found = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(item);
  }
  return found;
}

/** Put these in place of what an element holds; what is null is left out. */
export function fill(element, ...children) {
  element.replaceChildren(...there(children));
}

/** An address that may be followed: of the web, or of this server. Anything else, as "javascript:", is none. */
function safe(address) {
  try {
    const url = new URL(address, document.baseURI);
    return ["http:", "https:"].includes(url.protocol) ? url.href : "";
  } catch {
    return "";
  }
}

/** A link out of the page. Airflow's frame may open no window, so its own document is asked to. */
export function out(address, text, attributes = {}) {
  const href = safe(address);
  if (!href) return h("span", attributes, text);
  return h("a", { href, target: "_blank", rel: "noopener noreferrer", ...attributes, onclick: (event) => leave(event, href) }, text);
}

/** Where Airflow shows a DAG, one of its runs, or a task in it. */
export function placeOf({ dag, run, task, map_index: index }) {
  const parts = ["dags", dag];
  if (run) parts.push("runs", run);
  if (run && task) parts.push("tasks", task);
  if (run && task && Number.isInteger(index) && index >= 0) parts.push("mapped", index);
  return parts.map(encodeURIComponent).join("/");
}

/** A link to a place in Airflow itself. */
export function within(path, text, attributes = {}) {
  const href = new URL(path, root()).href;
  return h("a", { href, target: "_top", ...attributes, onclick: (event) => leave(event, href, "_self") }, text);
}

/** Where Airflow begins: the page lies two steps below. */
function root() {
  return new URL("..", document.baseURI);
}

function leave(event, href, target) {
  if (byHost(href, target)) event.preventDefault();
}

/** Let Airflow's own document follow a link, which its frame may not; false where the page stands alone. */
export function byHost(href, target = "_blank") {
  const host = frame();
  if (!host) return false;
  const link = host.document.createElement("a");
  Object.assign(link, { href, target, rel: "noopener noreferrer" });
  host.document.body.append(link);
  link.click();
  link.remove();
  return true;
}

/** Airflow's window, if the page is framed by it; null if it stands alone. */
export function frame() {
  try {
    return window.parent !== window && window.parent.document ? window.parent : null;
  } catch {
    return null;
  }
}
