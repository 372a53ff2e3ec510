// The alerts that stand, as the services judge. What its status says besides is shown too: it may become one.

import { isAlarming } from "./flow.js";
import { age, badge, clock, count, counted, h, short, squeeze } from "./text.js";

const SHOWN = 5;
/** What the rules call an alert has their severity; what fails and is none, or not yet, has a word of its own. */
const WORDS = { critical: ["bad", "critical"], warning: ["warn", "warning"], failing: ["warn", "failing"], silent: ["bad", "silent"], notice: ["pause", "notice"] };

const NAMES = {
  stream: "The stream is not connected", log: "The log takes nothing", upload: "S3 takes no upload", discovery: "S3 cannot be listed",
  load: "Loading is held up", archive: "Loaded batches cannot be archived", reconcile: "Log, S3 and ledger cannot be compared", alerts: "An alert cannot be sent",
  config: "The changed configuration is not taken",
};

/** Components whose alert is called otherwise. */
const ALERTS = { log: ["log_full"], config: ["producer_reload_refused", "ingester_reload_refused"] };

function ofComponents(part) {
  return (part.snapshot?.components ?? []).filter((status) => status.failing).map(({ component, number, failing }) => {
    const what = component === "log" && failing.class === "full" ? "The log is full" : NAMES[component] ?? component;
    const which = number === undefined ? "" : ` (connection ${number})`;
    const next = failing.next ? { next: failing.next, failures: failing.failures } : {};
    return { names: ALERTS[component] ?? [`${component}_failing`], severity: "failing", what: what + which, since: failing.since, advice: failing.why, ...next };
  });
}

function ofLoads(data) {
  const loads = (data.ingester.snapshot?.loads ?? []).filter((load) => isAlarming(load, data));
  const names = ["needs_operator", "batch_refused", "batch_alarming"];
  const named = loads.slice(0, SHOWN).map((load) => ({
    names, severity: "failing", what: load.state === "retrying" ? `A batch needs an operator: ${load.class}` : "A batch needs an operator", batch: load.batch,
    since: load.failures.at(0)?.failed, advice: squeeze(load.why ?? load.failures.at(-1)?.why ?? ""),
  }));
  const more = loads.length - named.length;
  if (more > 0) named.push({ names, severity: "failing", what: `${counted(more, "more batch needs", "more batches need")} an operator`, advice: "Filter the batches below by “Need attention”." });
  return named;
}

function ofIngester(part) {
  const snapshot = part.snapshot;
  if (!snapshot) return [];
  const refused = snapshot.loads.filter((load) => load.quarantined > 0);
  const rows = refused.reduce((all, load) => all + load.quarantined, 0);
  const found = [];
  if (rows) found.push({ names: ["rows_quarantined"], severity: "failing", what: `${counted(rows, "row is", "rows are")} in quarantine`, since: refused[0].quarantine?.at, batch: refused.length === 1 ? refused[0].batch : null, advice: "See “Rows in quarantine” below for the columns; `ingester replay --help` says how to load them." });
  if (snapshot.paused?.by === "hand") found.push({ names: ["paused"], severity: "notice", what: "Loading is paused by hand", advice: `${squeeze(snapshot.paused.why)}. \`ingester resume\` ends it.` });
  if (snapshot.ledger && snapshot.ledger.knows_from === null) found.push({ names: ["ledger_speaks_for_nothing"], severity: "notice", what: "The ledger speaks for no time yet: every load is staged", advice: "Run `ingester ledger show`, then `ingester ledger knows-from`." });
  return found;
}

function ofProducer(part) {
  if (!part.snapshot?.dedup.too_short) return [];
  return [{ names: [], severity: "notice", what: "log.dedup_hits holds less than log.dedup_window", advice: "More rows are compared with the table. Raise log.dedup_hits." }];
}

function ofSilence(part, name) {
  if (part.pid !== null || (!part.snapshot && !part.stopped)) return [];
  return [{ names: [], severity: "silent", what: `The ${name} does not answer`, since: part.silent?.since ?? part.stopped, advice: `Run \`systemctl status livestream-${name}\`.${part.silent ? ` On its socket: ${part.silent.why}.` : ""}` }];
}

/** What the rules of a service say, and what its status says of which no rule has told. */
function told(part, derived) {
  const own = part.pid === null ? [] : part.snapshot?.alerts ?? [];
  const names = new Set(own.map((alert) => alert.name));
  const said = own.map(({ severity, since, batch, says, detail, todo, docs }) => ({ severity, since, batch, what: says, advice: [detail, todo].filter(Boolean).map((text, at) => (at ? text.charAt(0).toUpperCase() + text.slice(1) : text).replace(/\.$/, "")).join(". "), docs }));
  return [...said, ...derived.filter((alert) => !alert.names.some((name) => names.has(name)))];
}

export function standing(data) {
  const { producer, ingester } = data;
  const all = [
    ...ofSilence(producer, "producer"), ...ofSilence(ingester, "ingester"),
    ...told(producer, [...ofComponents(producer), ...ofProducer(producer)]),
    ...told(ingester, [...ofComponents(ingester), ...ofLoads(data), ...ofIngester(ingester)]),
  ];
  const order = (alert) => ["bad", "warn", "pause"].indexOf((WORDS[alert.severity] ?? WORDS.warning)[0]);
  return all.map((alert, at) => [order(alert), at, alert]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((it) => it[2]);
}

/** Commands stand in backticks. */
const prose = (text) => squeeze(text).split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part));

function link(docs) {
  if (!docs) return null;
  return /^https:/.test(docs) ? h("a", { href: docs, rel: "noreferrer" }, "Documentation") : h("code", {}, docs);
}

function line(alert, now) {
  const [level, word] = WORDS[alert.severity] ?? WORDS.warning;
  const advice = alert.advice;
  const when = [];
  if (alert.since) when.push(`for ${age(now, alert.since)}, since ${clock(alert.since, now)}`);
  if (alert.failures) when.push(`${counted(alert.failures, "failure", "failures")}, next try ${Date.parse(alert.next) > now ? `at ${clock(alert.next, now)}` : "now"}`);
  return h("li", { class: `alert ${level}` },
    h("p", {}, badge(level, word), " ", h("strong", {}, alert.what), when.length ? h("span", { class: "quiet" }, ` ${when.join(" · ")}`) : null),
    advice ? h("p", {}, prose(advice)) : null,
    alert.batch || alert.docs
      ? h("p", {}, alert.batch ? h("a", { href: `#batch=${alert.batch}` }, `Batch ${short(alert.batch)}`) : null, alert.batch && alert.docs ? " · " : null, link(alert.docs))
      : null);
}

const isAlert = ({ severity }) => severity === "critical" || severity === "warning" || severity === "silent";
export const alertsIn = (list) => list.filter(isAlert).length;

function title(list) {
  const alerts = alertsIn(list);
  const others = list.length - alerts;
  const more = others ? `${counted(others, "notice", "notices")}` : "";
  if (!alerts) return more;
  return `${counted(alerts, "alert stands", "alerts stand")}${more ? `, ${more}` : ""}`;
}

export function alerts(list, now) {
  if (!list.length) return [h("h2", { class: "hidden" }, "Alerts"), h("p", {}, badge("ok", "No alert stands"))];
  return [h("h2", {}, title(list)), h("ul", { class: "alerts" }, list.map((alert) => line(alert, now)))];
}
