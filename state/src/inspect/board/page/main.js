// Asks the service every two seconds, and shows what it says. When it does not answer, says so and since when.

import { alerts, standing } from "./alerts.js";
import * as batch from "./batch.js";
import * as batches from "./batches.js";
import * as charts from "./charts.js";
import { counts } from "./counts.js";
import { flow, fresh } from "./flow.js";
import { age, clock, fill, h, span } from "./text.js";

const EVERY = 2_000;
const PAST_EVERY = 15_000;
const PATIENCE = 8_000;
/** So long without an answer, it is said. */
const SILENT = 4_000;

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
  const silent = shown.why !== null && (shown.heard === null || performance.now() - shown.heard >= SILENT);
  document.body.classList.toggle("stale", silent && shown.data !== null);
  const service = shown.past?.service ?? "service";
  const text = shown.data
    // Only what does not change with every second is announced.
    ? [h("strong", { role: "alert" }, `The ${service} has not answered since ${clock(shown.data.at, now())}`), ` (${span((performance.now() - shown.heard) / 1000)}): ${shown.why}. What stands below is from then.`]
    : [h("strong", { role: "alert" }, "The service does not answer"), `: ${shown.why}.`];
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
  document.title = `${list.length ? `(${list.length}) ` : ""}Livestream ${instance ?? ""}`.trim();
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
  const begun = performance.now();
  if (!document.hidden) {
    if (begun - shown.pastAsked >= PAST_EVERY) {
      const past = await ask("/api/history");
      if (past.ok) Object.assign(shown, { past: charts.smoothed(past.value), pastAsked: begun });
    }
    const { ok, value } = await ask("/api/status");
    if (ok) {
      Object.assign(shown, { data: value, heard: performance.now(), why: null });
      draw();
      if (batch.isOpen()) await follow();
    } else {
      shown.why = value;
      banner();
    }
  }
  // Whoever has a slow machine, or many batches, asks less often.
  const took = performance.now() - begun;
  setTimeout(look, Math.max(EVERY, shown.why ? 0 : 4 * took));
}

const follow = () => batch.follow(by("batch"), ask, () => ({ data: shown.data, now: now() }));

batches.listen(by("batches"), () => shown.data && draw());
charts.listen(by("charts"));
batch.listen(by("batch"));
addEventListener("hashchange", () => shown.data && follow());
addEventListener("resize", () => shown.data && draw());
setInterval(tick, 1000);
await look();
if (location.hash && shown.data) follow();
