// What the page shows is in its address, so that a link shows another person the same.

import { frame, h } from "./dom.js";

const listeners = [];

/** The state: names and values of the address. */
export function state() {
  return Object.fromEntries(new URLSearchParams(location.search));
}

/** The address with some names changed; empty values leave it. */
export function address(changes, from = state()) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...from, ...changes })) {
    if (value !== "" && value !== null && value !== undefined) query.set(name, value);
  }
  const text = query.toString();
  return location.pathname + (text ? `?${text}` : "");
}

/** Another panel: of the state, only who is looked at goes along. */
export function elsewhere(panel, more = {}) {
  const { dag, run, task, map } = state();
  return address({ panel, ...more }, { dag, run, task, map });
}

/** The ways to the first page and to the next one of a list, each by its key, so that what comes meanwhile moves nothing. */
export function further(after, next, first, more, name = "after") {
  const way = (key, text) => h("a", { class: "button", "data-go": "", "data-key": text, href: address({ [name]: key }) }, text);
  return after || next ? h("div", { class: "actions" }, after ? way("", first) : null, next ? way(next, more) : null) : null;
}

/** Change the address, and draw anew. A step that a person made can be gone back from; a letter in a field cannot. */
export function go(target, { replace = false, quiet = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", target);
  mirror();
  if (!quiet) listeners.forEach((listener) => listener());
}

export function onChange(listener) {
  listeners.push(listener);
  window.addEventListener("popstate", () => { mirror(); listener(); });
}

/** Airflow writes the frame's address into its own when the frame loads, and not after: do the same for each step. */
function mirror() {
  const host = frame();
  const at = host?.location.pathname.indexOf("/plugin/delivery");
  if (!host || at < 0 || /\/dags\//.test(host.location.pathname)) return;
  const base = host.location.pathname.slice(0, at) + "/plugin/delivery";
  host.history.replaceState(host.history.state, "", base + location.pathname + location.search);
}

/** Let links with the attribute data-go change the state in place of loading the page anew. */
export function followLinks() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-go]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    go(link.getAttribute("href"));
  });
}
