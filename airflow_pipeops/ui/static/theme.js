// Light or dark as Airflow is: a frame's media query knows the system, and not what a person has chosen in Airflow.

import { frame } from "./dom.js";

const system = matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  const classes = frame()?.document.documentElement.classList;
  if (classes?.contains("dark")) return "dark";
  if (classes?.contains("light")) return "light";
  return system.matches ? "dark" : "light";
}

/** Follow Airflow's switch. */
export function follow() {
  const apply = () => {
    const theme = chosen();
    if (document.documentElement.dataset.theme === theme) return;
    document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new CustomEvent("theme"));
  };
  apply();
  system.addEventListener("change", apply);
  const host = frame();
  if (host) new MutationObserver(apply).observe(host.document.documentElement, { attributeFilter: ["class", "style"] });
}
