// Verification in the browser, so that nobody has to believe the server: each record hashes to the id that others name it by,
// and the ledger's checkpoint holds it and is signed.

/** RFC 8785: names ordered by their UTF-16 units, numbers as ECMAScript writes them, which is what JSON.stringify does. */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

/** Whether a browser can verify: only pages that came by HTTPS, or from this machine, may hash. */
export const able = () => Boolean(globalThis.crypto?.subtle);

const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const bytesOf = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const base64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
const utf8 = (text) => new TextEncoder().encode(text);
const concat = (...parts) => Uint8Array.from(parts.flatMap((part) => [...part]));

/** Whether the content of a record hashes to its id. Names that are no part of it, the server says. */
export async function hashes(id, content, outside = ["id"]) {
  const own = Object.fromEntries(Object.entries(content).filter(([name]) => !outside.includes(name)));
  return hex(await sha256(utf8(canonical(own)))) === id;
}

/** Walk up from a leaf of an RFC 6962 tree: the root that leaf, place, size and path lead to; null if they do not fit. */
async function rootOf(leaf, index, size, path) {
  let [node, last, hash] = [index, size - 1, leaf];
  if (index < 0 || index >= size) return null;
  for (const sibling of path) {
    if (last === 0) return null;
    if (node % 2 === 1 || node === last) {
      hash = await sha256(concat([1], sibling, hash));
      while (node % 2 === 0 && node !== 0) { node = Math.floor(node / 2); last = Math.floor(last / 2); }
    } else {
      hash = await sha256(concat([1], hash, sibling));
    }
    node = Math.floor(node / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 ? hash : null;
}

/** Read a checkpoint, a C2SP signed note: its origin, size, root, text and signatures. */
function readCheckpoint(note) {
  const [text, signed = ""] = note.split("\n\n");
  const [origin, size, root] = text.split("\n");
  const signatures = [...signed.matchAll(/^\u2014 (\S+) (\S+)$/gm)].map(([, name, value]) => ({ name, value: base64(value) }));
  return { origin, size: Number(size), root: base64(root), text: `${text}\n`, signatures };
}

/** Whether a signature of the checkpoint is that of an Ed25519 key (32 bytes, Base64). */
async function signedBy(checkpoint, name, key) {
  const raw = base64(key);
  const id = (await sha256(concat(utf8(`${name}\n`), [1], raw))).slice(0, 4);
  const imported = await crypto.subtle.importKey("raw", raw, { name: "Ed25519" }, false, ["verify"]);
  for (const { name: signer, value } of checkpoint.signatures) {
    if (signer !== name || id.some((byte, at) => byte !== value[at])) continue;
    if (await crypto.subtle.verify("Ed25519", imported, value.slice(4), utf8(checkpoint.text))) return true;
  }
  return false;
}

/** What a proof comes to, as a level and words: whether it leads from an entry to a checkpoint, and who has signed that. */
export async function proven(proof) {
  const checkpoint = readCheckpoint(proof.checkpoint);
  const leaf = await sha256(concat([0], utf8(proof.line)));
  const root = await rootOf(leaf, proof.index, checkpoint.size, proof.path.map(bytesOf));
  if (!root || hex(root) !== hex(checkpoint.root)) return ["bad", "Checkpoint: the entry is not in the tree that the checkpoint signs"];
  if (!proof.key) return ["unknown", `In the checkpoint of ${checkpoint.size} entries, ${checkpoint.signatures.length ? "signed by a key that this Airflow does not know" : "which nobody signs"}`];
  if (await signedBy(checkpoint, proof.signer, proof.key)) return ["good", `In the signed checkpoint of ${checkpoint.size} entries`];
  return ["bad", "Checkpoint: the signature is not that of the ledger's key"];
}
