// One way to ask the server: relative to the page, so that any base path will do, and again only for what has changed.

const kept = new Map();
const KEPT = 60;
/** Milliseconds for one answer: a panel that waits longer would keep the page from asking whether anything is new. */
const PATIENCE = 60_000;

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Ask for JSON, and wait no longer than is bearable. What the server says has not changed is what it said before. */
export async function get(path, query = {}, { signal } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "" && value !== null);
  const url = new URL(`api/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`, document.baseURI).href;
  const bound = AbortSignal.timeout(PATIENCE);
  try {
    return await answered(url, signal ? AbortSignal.any([signal, bound]) : bound);
  } catch (error) {
    throw bound.aborted ? new Refused(0, "Airflow has not answered within a minute.") : error;
  }
}

async function answered(url, signal) {
  const before = kept.get(url);
  const headers = before ? { "If-None-Match": before.tag } : {};
  const answer = await fetch(url, { headers, signal, credentials: "same-origin", cache: "no-store" });
  if (answer.status === 304 && before) return before.data;
  if (!answer.ok) throw new Refused(answer.status, await told(answer));
  const data = await answer.json();
  if (answer.headers.get("ETag")) keep(url, { tag: answer.headers.get("ETag"), data });
  return data;
}

function keep(url, item) {
  kept.delete(url);
  kept.set(url, item);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
}

async function told(answer) {
  if (answer.status === 401) return "Your session has ended. Log in to Airflow again, then reload this page.";
  if (answer.status === 403) return "Your role may not read this. It needs access to Airflow's assets.";
  try {
    const { detail } = await answer.json();
    return typeof detail === "string" ? detail : `The server answered ${answer.status}.`;
  } catch {
    return `The server answered ${answer.status}.`;
  }
}
