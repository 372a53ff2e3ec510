// Freshness, and the pipeline as the data flows through it.

import { age, badge, bytes, count, counted, h, rate, s, span } from "./text.js";

/** Seconds over which a rate is the mean: loads come in bursts. */
const MEAN = 300;
/** Seconds without an answer after which one may never come. */
const UNANSWERED = 30;

const failing = (snapshot, component) =>
  (snapshot?.components ?? []).filter((status) => status.component === component && status.failing);
const stepOf = (snapshot, component) =>
  (snapshot?.components ?? []).find((status) => status.component === component && status.step)?.step;
const sum = (list, of) => list.reduce((all, item) => all + of(item), 0);

/** A service that does not run, or is not seen from here; null: it runs. */
export function absent(part, name, now) {
  if (part.pid !== null) return null;
  if (!part.snapshot && !part.stopped) return { level: "off", word: `no ${name} on this machine`, lines: [] };
  const since = part.stopped ? ` since ${age(now, part.stopped)}` : "";
  return { level: "bad", word: `${name} does not answer`, lines: [part.stopped ? `it last wrote ${since.slice(7)} ago` : ""] };
}

function adobe(data, now) {
  const part = data.producer;
  const gone = absent(part, "producer", now);
  if (gone) return gone;
  const { sessions, connections, dedup } = part.snapshot;
  const open = sessions.filter((session) => session.ended === null).length;
  const newest = dedup.last_received ? [`newest hit ${age(now, dedup.last_received)} old`] : ["no hit so far"];
  const [fails] = failing(part.snapshot, "stream");
  const connected = connections > 1 ? `${open} of ${connections} connected` : "connected";
  if (fails) {
    const since = age(now, fails.failing.since);
    const word = open > 0 && connections > 1 ? connected : `not connected for ${since}`;
    return { level: "bad", word, lines: [`answer: ${fails.failing.class}`, ...newest] };
  }
  if (failing(part.snapshot, "log").some((status) => status.failing.class === "full")) {
    return { level: "warn", word: "not read", lines: ["the log is full", ...newest] };
  }
  if (open === 0) return { level: "warn", word: stepOf(part.snapshot, "stream")?.what ?? "not connected", lines: newest };
  const level = open < connections ? "warn" : "ok";
  return { level, word: connected, lines: newest };
}

function log(data, now) {
  const part = data.producer;
  const gone = absent(part, "producer", now);
  const snapshot = part.snapshot;
  if (!snapshot) return gone;
  const lines = [`${counted(snapshot.rows_to_upload, "row waits", "rows wait")} for S3`];
  if (snapshot.rejects_waiting > 0) lines.push(counted(snapshot.rejects_waiting, "reject too", "rejects too"));
  const meter = snapshot.max_bytes
    ? { value: snapshot.waiting_bytes, max: snapshot.max_bytes, text: `${bytes(snapshot.waiting_bytes)} of ${bytes(snapshot.max_bytes)}` }
    : null;
  if (gone) return { ...gone, lines: [...gone.lines, ...lines] };
  const [fails] = failing(snapshot, "log");
  if (fails) {
    const word = fails.failing.class === "full" ? "full" : "fails";
    return { level: "bad", word: `${word} for ${age(now, fails.failing.since)}`, lines, meter };
  }
  return { level: "ok", word: snapshot.rows_to_upload > 0 ? "holds rows" : "empty", lines, meter };
}

export const waitingLoads = (data) =>
  (data.ingester.snapshot?.loads ?? []).filter((load) => load.state !== "loaded" && load.state !== "archived");

function s3(data, now) {
  const waiting = waitingLoads(data);
  const lines = [];
  if (data.ingester.snapshot) {
    lines.push(`${counted(waiting.length, "batch waits", "batches wait")} for a load`);
    lines.push(counted(sum(waiting, (load) => load.rows), "row", "rows"));
    if (waiting.length) lines.push(`the oldest for ${age(now, waiting[0].discovered)}`);
  }
  const [upload] = failing(data.producer.snapshot, "upload");
  if (upload) return { level: "bad", word: `uploads fail for ${age(now, upload.failing.since)}`, lines };
  const [listing] = failing(data.ingester.snapshot, "discovery");
  if (listing) return { level: "bad", word: `listing fails for ${age(now, listing.failing.since)}`, lines };
  const [archive] = failing(data.ingester.snapshot, "archive");
  if (archive) return { level: "warn", word: `archiving fails for ${age(now, archive.failing.since)}`, lines };
  if (data.producer.pid === null && data.ingester.pid === null) return { level: "off", word: "not known", lines };
  const step = stepOf(data.producer.snapshot, "upload");
  const slow = step?.waits_for && (now - Date.parse(step.since)) / 1000 >= UNANSWERED;
  if (slow) return { level: "warn", word: `no answer for ${age(now, step.since)}`, lines };
  return { level: "ok", word: waiting.length ? "holds batches" : "nothing waits", lines };
}

function redshift(data, now) {
  const part = data.ingester;
  const gone = absent(part, "ingester", now);
  const snapshot = part.snapshot;
  if (!snapshot) return gone;
  const loaded = snapshot.loads.map((load) => load.loaded).filter(Boolean).sort().at(-1);
  const refused = sum(snapshot.loads, (load) => load.quarantined);
  const lines = [loaded ? `last load ${age(now, loaded)} ago` : "no load so far"];
  if (refused > 0) lines.push(`${counted(refused, "row", "rows")} in quarantine`);
  if (gone) return { ...gone, lines: [...gone.lines, ...lines] };
  const [fails] = failing(snapshot, "load");
  if (fails) return { level: "bad", word: `held up for ${age(now, fails.failing.since)}`, lines };
  if (snapshot.paused) {
    const until = snapshot.paused.until ? `for ${span((Date.parse(snapshot.paused.until) - now) / 1000)} more` : "by hand";
    return { level: "pause", word: `paused ${until}`, lines };
  }
  const alarming = snapshot.loads.filter((load) => isAlarming(load, data)).length;
  if (alarming) return { level: "bad", word: `${counted(alarming, "batch needs", "batches need")} an operator`, lines };
  const held = snapshot.held_back;
  if (held) lines.push(`${counted(held.batches, "batch is", "batches are")} held back, for ${span((Date.parse(held.until) - now) / 1000)} more or until ${count(held.load_rows)} rows wait`);
  const retrying = snapshot.loads.filter((load) => load.state === "retrying").length;
  const step = stepOf(snapshot, "load");
  const taken = step && (now - Date.parse(step.since)) / 1000;
  if (step?.waits_for && taken >= UNANSWERED) {
    return { level: "warn", word: `no answer to ${step.what} for ${span(taken)}`, lines };
  }
  if (retrying) return { level: "warn", word: `${counted(retrying, "batch is", "batches are")} tried again`, lines };
  return { level: "ok", word: step ? `${step.what} for ${span(taken)}` : "idle", lines };
}

/** Whether a load needs an operator, as the service judges. */
export const isAlarming = (load, data) => data.alarming.includes(load.batch);

/** Means over the last minutes: records received, rows published, rows loaded a second. */
export function rates(data, past, now) {
  const mean = (samples) => samples?.samples.at(-1)?.mean ?? null;
  const began = (samples) => (samples ? Math.min(MEAN, (now - Date.parse(samples.since)) / 1000) : MEAN);
  const fresh = (data.producer.snapshot?.batches ?? []).filter((it) => it.published && now - Date.parse(it.published) <= MEAN * 1000);
  const published = data.producer.pid === null ? null : sum(fresh, (it) => it.rows) / Math.max(15, began(past?.producer));
  return {
    received: data.producer.pid === null ? null : mean(past?.producer),
    published,
    loaded: data.ingester.pid === null ? null : mean(past?.ingester),
  };
}

const arrow = (value, what) =>
  h("li", { class: `arrow${value > 0 ? " moving" : ""}` },
    h("span", { class: "rate" }, h("b", {}, rate(value)), h("span", { class: "quiet" }, ` ${what}`)),
    s("svg", { viewBox: "0 0 64 12", "aria-hidden": "true" },
      s("path", { d: "M0 6H58", class: "shaft" }), s("path", { d: "M54 1.5 62 6 54 10.5", class: "tip" })));

function meter({ value, max, text }) {
  const share = Math.min(1, value / max);
  const level = share >= 0.9 ? "bad" : share >= 0.6 ? "warn" : "ok";
  return h("div", { class: "meter" },
    s("svg", { viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
      s("rect", { width: 100, height: 4, class: "rail" }), s("rect", { width: Math.max(share * 100, 0.5), height: 4, class: level })),
    h("span", { class: "quiet" }, text));
}

const stage = (name, about, { level, word, lines, meter: fullness }) =>
  h("li", { class: `stage ${level}` },
    h("h3", {}, name), h("p", { class: "quiet about" }, about), h("p", {}, badge(level, word)),
    h("ul", { class: "lines" }, lines.filter(Boolean).map((line) => h("li", {}, line))),
    fullness ? meter(fullness) : null);

export function flow(data, past, now) {
  const per = rates(data, past, now);
  return [h("h2", {}, "Pipeline"), h("ol", { class: "flow" },
    stage("Adobe", "the stream", adobe(data, now)),
    arrow(per.received, "records/s"),
    stage("Log", "on local disk", log(data, now)),
    arrow(per.published, "rows/s"),
    stage("S3", "sealed batches", s3(data, now)),
    arrow(per.loaded, "rows/s"),
    stage("Redshift", "the table", redshift(data, now)))];
}

/** The one number: how old the newest row of the table is, and whose the time is. */
export function fresh(data, now) {
  const { producer, ingester } = data;
  const row = ingester.snapshot?.newest_row;
  // A hit may come with a time in the future: it was received when its session was alive at the latest.
  const hits = (producer.snapshot?.sessions ?? []).filter((it) => it.last_received);
  const hit = Math.max(...hits.map((it) => Math.min(Date.parse(it.last_received) || Infinity, Date.parse(it.alive))));
  const old = row ? Math.max(0, (now - Date.parse(row)) / 1000) : null;
  const atAdobe = Number.isFinite(hit) && producer.pid !== null ? Math.max(0, (now - hit) / 1000) : null;
  const number = h("p", { class: old === null ? "figure unknown" : "figure" }, h("strong", {}, old === null ? "unknown" : span(old)), " ",
    h("span", { class: "quiet" }, old === null ? unknown(ingester) : "old is the newest row in the table"));
  const parts = [];
  if (old !== null && atAdobe !== null) {
    const adobes = Math.min(atAdobe, old);
    const share = old > 0 ? adobes / old : 0;
    parts.push(s("svg", { class: "split", viewBox: "0 0 100 2", preserveAspectRatio: "none", "aria-hidden": "true" },
      s("rect", { width: share * 100, height: 2, class: "adobes" }), s("rect", { x: share * 100, width: 100 - share * 100, height: 2, class: "ours" })));
    parts.push(h("p", { class: "legend" },
      h("span", { class: "adobes" }, `${span(adobes)} until the newest hit came from Adobe`, h("span", { class: "quiet" }, " (20s to 5m is usual)")),
      h("span", { class: "ours" }, `${span(old - adobes)} through log, S3 and load`)));
  }
  return [h("h2", { class: "hidden" }, "Freshness"), number, parts, h("p", {}, waits(data))];
}

function waits({ producer, ingester, pending }) {
  if (pending.rows > 0) return `${counted(pending.rows, "row", "rows")} in ${counted(pending.batches, "batch", "batches")} are not in the table yet.`;
  if (!ingester.snapshot || !producer.snapshot) return "What is pending is not known, since only one of the services has answered.";
  if (producer.snapshot.totals.rows === 0) return "No hit was accepted so far.";
  const refused = sum(ingester.snapshot.loads, (load) => load.quarantined);
  if (refused > 0) return `${counted(refused, "row", "rows")} that Redshift refused ${refused === 1 ? "is" : "are"} in quarantine; every other row that was accepted is in the table.`;
  return "Every row that was accepted is in the table.";
}

function unknown(ingester) {
  if (!ingester.snapshot) return "is the age of the newest row: the ingester has not answered";
  return "is the age of the newest row: no batch was loaded since this version runs";
}
