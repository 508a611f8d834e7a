// What the page says as long as there is nothing to show: how to begin.

import { h, within } from "./dom.js";

/** How to begin, for a ledger without any record. */
export function empty() {
  return h("section", { class: "card empty" },
    h("h2", {}, "Nothing has been recorded yet"),
    h("p", {}, "This page answers what runs where, why, and what it was made from, as soon as DAGs record it."),
    h("ol", {},
      h("li", {}, "Open ", within("dags", "the DAGs"), " and look for the examples with the tag pipeops: ", h("code", {}, "code_to_release"),
        " ships a service, ", h("code", {}, "data_to_model"), " trains and releases a model."),
      h("li", {}, "Give an operator of yours ", h("code", {}, 'deliverable=Deliverable("my-service")'), ", and each run records what it did."),
      h("li", {}, "Connections are checked by ", h("code", {}, "airflow pipeops doctor"), ", which says what to fix.")),
    h("p", { class: "quiet small" }, "A record appears here within five seconds; this page need not be reloaded."));
}

/** Nothing fits what was asked for. */
export function nothing(text) {
  return h("p", { class: "card empty quiet", role: "status" }, text);
}
