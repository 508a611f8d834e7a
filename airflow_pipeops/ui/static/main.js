// The page: panels, the state in the address, and one cheap question every few seconds whether anything is new.

import { get, Refused } from "./api.js";
import { fill, h } from "./dom.js";
import { age, growOlder, mark } from "./facts.js";
import { elsewhere, followLinks, go, onChange, state } from "./state.js";
import { follow } from "./theme.js";

const PANELS = [
  ["now", "Now"], ["matrix", "Matrix"], ["passport", "Passport"], ["timeline", "Timeline"], ["data", "Data"], ["figures", "Figures"],
];
/** With the two seconds after which a server looks for new facts (ledger/feeder.py) less than the five that are promised. */
const EVERY = 2000;

const main = document.getElementById("panel");
let revision = null;
let running = null;

function tabs(panel) {
  const { dag } = state();
  const shown = dag ? [["records", "Records"], ...PANELS.filter(([name]) => name !== "now")] : PANELS;
  document.getElementById("tabs").replaceChildren(...shown.map(([name, title]) =>
    h("a", { href: elsewhere(name), "data-go": "", "aria-current": name === panel ? "page" : null }, title)));
}

function named() {
  const { panel, dag, digest } = state();
  if ((panel === "records" && dag) || (panel === "report" && digest)) return panel;
  return PANELS.some(([name]) => name === panel) ? panel : dag ? "records" : "now";
}

/** Draw the panel that the address names; a later call ends an earlier one. */
async function draw({ fresh = true } = {}) {
  running?.abort();
  const mine = running = new AbortController();
  const panel = named();
  tabs(panel);
  if (fresh) main.setAttribute("aria-busy", "true");
  const focused = focusKey();
  try {
    const { draw: panelOf } = await import(`./${panel}.js`);
    const content = await panelOf({ signal: mine.signal });
    if (mine.signal.aborted) return;
    fill(main, content);
    refocus(focused);
  } catch (error) {
    if (mine.signal.aborted) return;
    fill(main, failed(error));
  }
  main.removeAttribute("aria-busy");
  document.title = `${PANELS.find(([name]) => name === panel)?.[1] ?? "Records"} \u00b7 Delivery`;
}

function failed(error) {
  const text = error instanceof Refused ? error.message : `This could not be shown: ${error.message}`;
  return h("div", { class: "card empty", role: "alert" }, h("h2", {}, mark("unknown", "Nobody can tell")), h("p", {}, text),
    h("button", { onclick: () => draw() }, "Try again"));
}

/** What has the focus, by a name that a panel drawn anew has, too. */
function focusKey() {
  const element = document.activeElement;
  const key = element?.dataset?.key || element?.id;
  return key && main.contains(element) ? { key, at: element.selectionStart } : null;
}

function refocus(focused) {
  if (!focused) return;
  const element = main.querySelector(`[data-key="${CSS.escape(focused.key)}"], #${CSS.escape(focused.key)}`);
  element?.focus({ preventScroll: true });
  if (focused.at !== undefined && focused.at !== null) element?.setSelectionRange?.(focused.at, focused.at);
}

/** One request, answered from one number: has anything been added, or does anybody wait? */
async function look() {
  const fresh = document.getElementById("fresh");
  if (!document.hidden) {
    try {
      const now = await get("state");
      const was = revision;
      revision = `${now.revision}/${now.waiting}`;
      fresh.replaceChildren(mark("good", "Live"), h("span", {}, "last fact ", age(now.at)));
      if (was !== null && was !== revision) await draw({ fresh: false });
    } catch (error) {
      fresh.replaceChildren(mark("unknown", "Not live"), h("span", {}, error.status ? error.message : "Airflow does not answer"));
    }
    growOlder();
  }
  setTimeout(look, EVERY);
}

function keys(event) {
  if (event.target.matches?.("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    const search = main.querySelector("input[type=search]");
    if (search) { event.preventDefault(); search.focus(); }
  }
  const panel = PANELS[Number(event.key) - 1];
  if (panel) go(elsewhere(panel[0]));
}

follow();
followLinks();
onChange(() => draw());
document.addEventListener("keydown", keys);
document.addEventListener("theme", () => draw({ fresh: false }));
draw();
look();
