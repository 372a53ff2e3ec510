// The batches, as `state dump` has them: newest first, a page at a time.

import { isAlarming } from "./flow.js";
import { age, badge, bytes, count, fill, h, short, span, squeeze } from "./text.js";

const PAGE = 20;
/** Loads that are remembered at most: an older batch that is not among them was forgotten. */
const KEPT = 1000;

const view = { filter: "all", oldestFirst: false, page: 0 };

/** When it was opened, which its id says. */
const openedAt = (id) => parseInt(id.replace("-", "").slice(0, 12), 16);

function pendingOf(made, load, loads) {
  if (load) return load.state !== "loaded" && load.state !== "archived";
  if (made.status !== "published") return true;
  return loads !== null && (loads.length < KEPT || made.batch > loads[0].batch);
}

/** Each batch that a service knows. */
export function merged(data) {
  const loads = data.ingester.snapshot?.loads ?? null;
  const byId = new Map();
  for (const load of loads ?? []) byId.set(load.batch, { id: load.batch, load });
  for (const made of data.producer.snapshot?.batches ?? []) byId.set(made.batch, { ...byId.get(made.batch), id: made.batch, made });
  return [...byId.values()].map((it) => ({
    ...it,
    pending: pendingOf(it.made, it.load, loads),
    attention: Boolean(it.load && (isAlarming(it.load, data) || it.load.quarantined > 0 || it.load.state === "retrying")),
  })).sort((a, b) => (a.id < b.id ? 1 : -1));
}

/** What becomes of a load: its colour, its word, and more in a line of its own. */
export function loadWord(load, data, now) {
  if (!load) return ["off", "–", null];
  const running = data.ingester.pid !== null;
  const quarantined = load.quarantined > 0 ? `${count(load.quarantined)} of ${count(load.rows)} rows in quarantine` : null;
  switch (load.state) {
    case "discovered":
      return data.ingester.snapshot?.paused ? ["pause", "paused", null] : ["wait", data.ingester.snapshot?.held_back ? "held" : "found", null];
    case "loading":
      return ["wait", "loading", running ? `attempt ${load.attempts}${load.started ? ` for ${age(now, load.started)}` : ""}` : `attempt ${load.attempts} when the ingester stopped`];
    case "retrying": {
      const level = isAlarming(load, data) ? "bad" : "warn";
      const next = Date.parse(load.next) > now ? `next in ${span((Date.parse(load.next) - now) / 1000)}` : "next now";
      return [level, "retrying", `${load.class}, ${count(load.failed)} ${load.failed === 1 ? "failure" : "failures"}, ${next}: ${squeeze(load.why)}`];
    }
    default:
      return [quarantined ? "warn" : "ok", load.state, quarantined];
  }
}

const STAGES = { filling: "filling", sealed: "sealed", published: "in S3" };

function row(it, data, now) {
  const { id, made, load } = it;
  const files = made?.status === "sealed" ? `${count(made.files_uploaded)}/${count(made.files)}` : count(made?.files ?? load.files);
  const [level, word, more] = loadWord(load, data, now);
  const stage = made ? STAGES[made.status] : "in S3";
  return h("tr", { "data-key": id, class: level === "bad" ? "bad" : null },
    h("th", { scope: "row" }, h("a", { href: `#batch=${id}`, title: id }, short(id))),
    h("td", { "data-name": "state" }, stage),
    h("td", { class: "number", "data-name": "files" }, files),
    h("td", { class: "number", "data-name": "rows" }, count(made?.rows ?? load.rows)),
    h("td", { class: "number", "data-name": "size" }, bytes(made?.bytes ?? load.bytes)),
    h("td", { class: "number", "data-name": "age" }, span((now - (made ? Date.parse(made.opened) : openedAt(id))) / 1000)),
    h("td", { class: "load", "data-name": "load" }, load ? badge(level, word) : word, more ? h("span", { class: "more" }, more) : null));
}

const FILTERS = [["all", "All", () => true], ["pending", "Pending", (it) => it.pending], ["attention", "Need attention", (it) => it.attention]];

export function batches(root, data, now) {
  const all = merged(data);
  const kept = all.filter(FILTERS.find(([key]) => key === view.filter)[2]);
  if (view.oldestFirst) kept.reverse();
  const pages = Math.max(1, Math.ceil(kept.length / PAGE));
  view.page = Math.min(view.page, pages - 1);
  const begin = view.page * PAGE;
  const shown = kept.slice(begin, begin + PAGE);
  const filters = h("div", { class: "tools", role: "group", "aria-label": "Which batches" },
    FILTERS.map(([key, name, fits]) => h("button", { type: "button", "data-filter": key, "aria-pressed": String(view.filter === key) }, `${name} `, h("span", { class: "quiet" }, count(all.filter(fits).length)))),
    h("button", { type: "button", "data-order": "", "aria-pressed": String(view.oldestFirst) }, "Oldest first"));
  const names = ["batch", "state", "files", "rows", "size", "age", "load"];
  const table = kept.length
    ? h("table", { class: "batches" },
      h("caption", { class: "hidden" }, "Batches"),
      h("thead", {}, h("tr", {}, names.map((name, at) => h("th", { scope: "col", class: at >= 2 && at <= 5 ? "number" : null }, name)))),
      h("tbody", {}, shown.map((it) => row(it, data, now))))
    : h("p", { class: "quiet" }, view.filter === "all" ? "No batch so far." : "None.");
  const pager = pages > 1
    ? h("nav", { class: "tools", "aria-label": "Pages of batches" },
      h("button", { type: "button", "data-page": "-1", disabled: view.page === 0 }, "Back"),
      h("span", { "aria-live": "polite" }, `${count(begin + 1)}–${count(begin + shown.length)} of ${count(kept.length)}`),
      h("button", { type: "button", "data-page": "1", disabled: view.page === pages - 1 }, "Next"))
    : null;
  fill(root, [h("h2", {}, "Batches"), filters, table, pager]);
}

/** Filters, order and pages; `redraw` shows the choice. */
export function listen(root, redraw) {
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { filter, order, page } = button.dataset;
    if (filter) Object.assign(view, { filter, page: 0 });
    if (order !== undefined) Object.assign(view, { oldestFirst: !view.oldestFirst, page: 0 });
    if (page) view.page += Number(page);
    redraw();
  });
}
