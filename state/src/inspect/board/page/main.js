// Asks the service every two seconds, and shows what it says. When it does not answer, or what it says cannot be drawn, says
// so and since when.

import { alerts, alertsIn, standing } from "./alerts.js";
import * as batch from "./batch.js";
import * as batches from "./batches.js";
import * as charts from "./charts.js";
import { counts } from "./counts.js";
import { flow, fresh } from "./flow.js";
import { age, clock, fill, h, span } from "./text.js";

const EVERY = 2_000;
const PAST_EVERY = 15_000;
/** A page that nobody sees keeps its title right. */
const HIDDEN_EVERY = 20_000;
const PATIENCE = 8_000;
/** So long without an answer, it is said. */
const SILENT = 4_000;
/** So long, what was heard last is no news any more, whatever is under way. */
const OLD = 15_000;

let next;
const by = (id) => document.getElementById(id);
const shown = { data: null, past: null, heard: null, why: null, pastAsked: -Infinity };

/** The present by the clock of the service: that of the reader may differ. */
const now = () => Date.parse(shown.data.at) + (performance.now() - shown.heard);

/** An answer, or why there is none. */
async function ask(path) {
  try {
    const response = await fetch(path, { signal: AbortSignal.timeout(PATIENCE) });
    if (response.status === 401) location.reload();
    const value = await response.json();
    return response.ok ? { ok: true, value } : { ok: false, value: value.error };
  } catch (error) {
    return { ok: false, value: error.name === "TimeoutError" ? `no answer within ${span(PATIENCE / 1000)}` : "no connection" };
  }
}

function banner() {
  const waited = shown.heard === null ? Infinity : performance.now() - shown.heard;
  const silent = (shown.why !== null && waited >= SILENT) || (shown.data !== null && waited >= (document.hidden ? HIDDEN_EVERY + OLD : OLD));
  const why = shown.why ?? "an answer is waited for";
  document.body.classList.toggle("stale", silent && shown.data !== null);
  const service = shown.past?.service ?? "service";
  const text = shown.data
    // Only what does not change with every second is announced.
    ? [h("strong", { role: "alert" }, `The ${service} has not answered since ${clock(shown.data.at, now())}`), ` (${span(waited / 1000)}): ${why}. What stands below is from then.`]
    : [h("strong", { role: "alert" }, "The service does not answer"), `: ${why}.`];
  fill(by("banner"), silent ? [h("p", { class: "banner bad" }, text)] : []);
  fill(by("as-of"), shown.data ? [silent ? `as of ${clock(shown.data.at, now())}` : clock(now(), now())] : ["…"]);
}

/** What changes with every second. */
function tick() {
  if (shown.data && !document.body.classList.contains("stale")) fill(by("fresh"), fresh(shown.data, now()));
  banner();
}

function draw() {
  const { data, past } = shown;
  const at = now();
  const instance = data.producer.snapshot?.instance;
  fill(by("name"), instance ? [instance] : []);
  const list = standing(data);
  const many = alertsIn(list);
  document.title = `${many ? `(${many}) ` : ""}Livestream ${instance ?? ""}`.trim();
  fill(by("alerts"), alerts(list, at));
  fill(by("fresh"), fresh(data, at));
  fill(by("flow"), flow(data, past, at));
  charts.charts(by("charts"), past, at);
  charts.gaps(by("gaps"), data, at);
  batches.batches(by("batches"), data, at);
  fill(by("counts"), counts(data, at));
  fill(by("foot"), [foot(data, at)]);
  banner();
}

function foot({ producer, ingester }, at) {
  const who = (name, part) => (part.pid !== null ? `${name}: process ${part.pid}, ${part.dir}` : `${name}: ${part.stopped ? `last wrote ${age(at, part.stopped)} ago` : "not on this machine"}`);
  return [h("p", {}, `${who("producer", producer)} · ${who("ingester", ingester)}`),
    h("p", {}, h("a", { href: "/api/status" }, "JSON"), " · ", h("a", { href: "/metrics" }, "metrics"), " · ", h("a", { href: "/readyz" }, "ready?"), " · times are UTC")];
}

async function look() {
  let drawing = 0;
  // What was drawn last stands until something else is.
  const { data, heard } = shown;
  try {
    const begun = performance.now();
    const wantsPast = begun - shown.pastAsked >= PAST_EVERY;
    const [past, { ok, value }] = await Promise.all([wantsPast ? ask("/api/history") : { ok: false }, ask("/api/status")]);
    if (past.ok) Object.assign(shown, { past: charts.smoothed(past.value), pastAsked: begun });
    if (ok) {
      Object.assign(shown, { data: value, heard: performance.now(), why: null });
      draw();
      drawing = performance.now() - shown.heard;
      if (batch.isOpen()) await follow();
    } else {
      shown.why = value;
      banner();
    }
  } catch (error) {
    Object.assign(shown, { data, heard, why: `the page cannot show what it was told (${error.message})` });
    banner();
    throw error;
  } finally {
    // Whoever has a slow machine, or many batches, asks less often.
    clearTimeout(next);
    next = setTimeout(look, Math.max(document.hidden ? HIDDEN_EVERY : EVERY, 4 * drawing));
  }
}

const follow = () => batch.follow(by("batch"), ask, () => ({ data: shown.data, now: now() }));

batches.listen(by("batches"), () => shown.data && draw());
charts.listen(by("charts"));
batch.listen(by("batch"));
addEventListener("hashchange", () => shown.data && follow());
document.addEventListener("visibilitychange", () => !document.hidden && look());
addEventListener("resize", () => shown.data && draw());
setInterval(tick, 1000);
await look();
if (location.hash && shown.data) follow();
