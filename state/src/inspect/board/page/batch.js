// One batch, opened: what both services know of it, and what happened to it.

import { loadWord } from "./batches.js";
import { badge, bytes, clock, count, fill, h, span, squeeze } from "./text.js";

const EVENTS = {
  opened: "opened", sealed: "sealed", published: "published in S3", discovered: "found by the ingester", started: "started", failed: "failed",
  loaded: "loaded", archived: "archived", found_again: "found again in S3", quarantined: "rows went into quarantine", replayed: "rows left the quarantine",
};

let open = null;
let shownOf = null;

const fact = (name, value) => (value === null || value === undefined ? null : [h("dt", {}, name), h("dd", {}, value)]);

function facts(dump, data, now) {
  const made = dump.producer.snapshot;
  const load = dump.ingester.snapshot;
  const [level, word, more] = loadWord(load, data, now);
  const refused = load?.quarantine?.first;
  return h("dl", {},
    fact("Load", load ? [badge(level, word), more ? ` ${more}` : ""] : "not known to the ingester"),
    fact("Rows", count(made?.rows ?? load.rows)),
    fact("Files", made ? `${count(made.files_uploaded)} of ${count(made.files)} in S3` : count(load.files)),
    fact("Size", [made ? `${bytes(made.bytes)} of rows` : null, load ? `${bytes(load.bytes)} in S3` : null].filter(Boolean).join(", ")),
    fact("Producer", made?.instance ?? load?.instance),
    fact("Schema", made?.schema ?? load?.form?.schema),
    fact("Hits received", made?.first_received ? `${clock(made.first_received, now)} to ${clock(made.last_received, now)}` : load?.last_received ? `up to ${clock(load.last_received, now)}` : null),
    fact("Loaded", load?.state === "loaded" || load?.state === "archived" ? `${count(load.rows - load.quarantined - load.known)} rows${load.known ? `; the table had ${count(load.known)} already` : ""}${load.staged ? "; staged" : ""}` : null),
    fact("In quarantine", load?.quarantined ? `${count(load.quarantined)} rows${refused ? `; the first: ${refused.column ? `column ${refused.column}: ` : ""}${refused.reason}` : ""}` : null),
    fact("Place", dump.place ? h("code", {}, dump.place) : "deleted after loading"),
    fact("Seal", dump.seal ? h("code", {}, dump.seal) : null),
    fact("Quarantine", dump.quarantine ? h("code", {}, dump.quarantine) : null));
}

function timeline(dump, now) {
  const items = dump.timeline.map((it) => h("li", { class: it.event === "failed" ? "bad" : it.event === "quarantined" ? "warn" : null },
    h("span", { class: "at" }, clock(it.at, now)),
    h("span", {}, it.attempt ? `attempt ${it.attempt} ` : "", EVENTS[it.event] ?? it.event, it.class ? `: ${it.class}` : "",
      it.after_ms === null ? null : h("span", { class: "quiet" }, ` after ${it.after_ms < 1000 ? `${it.after_ms}ms` : span(it.after_ms / 1000)}`),
      it.why ? h("span", { class: "more" }, squeeze(it.why)) : null)));
  return [h("h3", {}, "Time line"), h("ol", { class: "timeline" }, items)];
}

function files(dump) {
  const list = dump.producer.snapshot?.file_list;
  if (!list) return [h("h3", {}, "Files"), h("p", { class: "quiet" }, "Its batch.json in S3 lists them.")];
  const head = ["file", "state", "rows", "bytes", "in S3"].map((name, at) => h("th", { scope: "col", class: at >= 2 ? "number" : null }, name));
  const rows = list.map((file) => h("tr", {}, h("th", { scope: "row" }, count(file.no)), h("td", {}, file.status), h("td", { class: "number" }, count(file.rows)),
    h("td", { class: "number" }, bytes(file.bytes)), h("td", { class: "number" }, file.uploaded ? bytes(file.uploaded.bytes) : "–")));
  return [h("h3", {}, "Files"), h("div", { class: "scroll", tabindex: 0 }, h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)))];
}

const head = (id) => h("header", {}, h("h2", { id: "batch-title" }, "Batch ", h("code", {}, id)), h("button", { type: "button", "data-close": "", autofocus: true }, "Close"));

/** Shows the batch that the address names, or closes. */
export async function follow(dialog, ask, context) {
  const id = location.hash.match(/^#batch=([0-9a-f-]{8,36})$/i)?.[1] ?? null;
  open = id;
  if (!id) {
    if (dialog.open) dialog.close();
    return;
  }
  if (!dialog.open) {
    fill(dialog, [head(id), h("p", { class: "quiet" }, "…")]);
    dialog.showModal();
  }
  const { ok, value } = await ask(`/api/batch/${id}`);
  if (open !== id) return;
  const { data, now } = context();
  shownOf = id;
  fill(dialog, ok ? [head(value.batch), facts(value, data, now), timeline(value, now), files(value)] : [head(id), h("p", { class: "banner bad" }, value)]);
}

export const isOpen = () => open !== null && shownOf === open;

export function listen(dialog) {
  // Without a jump to the top, which an empty fragment would be.
  dialog.addEventListener("close", () => location.hash && history.pushState(null, "", location.pathname));
  dialog.addEventListener("close", () => { open = null; });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
  });
}
