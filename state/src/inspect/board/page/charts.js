// The last six hours as lines, and the gaps on a time line.

import { age, clock, count, counted, fill, h, rate, s, span } from "./text.js";

const WHOLE = 6 * 3600 * 1000;
/** What is drawn: the first of these that holds every sample. */
const RANGES = [10, 30, 60, 120, 360].map((minutes) => minutes * 60_000);
const [HEIGHT, TOP, BOTTOM, LEFT] = [132, 8, 20, 52];

const nice = (most) => {
  if (most <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((step) => step * unit).find((step) => step >= most);
};
/** Seconds end at whole minutes and hours. */
const niceSpan = (most) => [10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400].find((step) => step >= most) ?? Math.ceil(most / 86400) * 86400;

/** Pixels that one point of a line stands for. */
const WIDE = 3;

/** Points of a line: of each few pixels the highest value. A hole where nothing was measured for long. */
function points(samples, of, every, x, y) {
  const buckets = new Map();
  for (const sample of samples) {
    const value = of(sample);
    const at = Date.parse(sample.at);
    const pixel = Math.round(x(at) / WIDE) * WIDE;
    if (value === null || value === undefined || pixel < LEFT) continue;
    const bucket = buckets.get(pixel) ?? { at, most: value };
    bucket.most = Math.max(bucket.most, value);
    bucket.last = at;
    buckets.set(pixel, bucket);
  }
  const lines = [];
  let before = null;
  for (const [pixel, bucket] of [...buckets].sort((a, b) => a[0] - b[0])) {
    if (before === null || bucket.at - before > every * 3000) lines.push([]);
    lines.at(-1).push(`${pixel} ${y(bucket.most).toFixed(1)}`);
    before = bucket.last;
  }
  return lines;
}

/** Whole minutes and hours without what is nought. */
const plain = (seconds) => span(seconds).replace(/(m00s|h00m)$/, (end) => end[0]);

function latest(samples, of) {
  const found = (samples ?? []).findLast((sample) => of(sample) !== null && of(sample) !== undefined);
  return found ? of(found) : null;
}

/** Seconds over which throughput is the mean: loads come in bursts. */
const MEAN = 300;
/** Rates that a mean needs at least. */
const LEAST = 3;

/** The history with the mean of the rates up to each sample. */
export function smoothed(past) {
  const smooth = (service) => {
    if (!service) return null;
    let [first, sum, number] = [0, 0, 0];
    const samples = service.samples.map((sample, at, all) => {
      if (sample.per_second !== null) [sum, number] = [sum + sample.per_second, number + 1];
      for (; at - first >= MEAN / service.every_seconds; first += 1) {
        if (all[first].per_second !== null) [sum, number] = [sum - all[first].per_second, number - 1];
      }
      return { ...sample, mean: number >= LEAST ? Math.max(0, sum / number) : null };
    });
    return { ...service, samples };
  };
  return { ...past, producer: smooth(past.producer), ingester: smooth(past.ingester) };
}

const CHARTS = [
  { key: "throughput", title: "Throughput", unit: "a second, mean of five minutes", show: rate, top: nice,
    lines: [["producer", "received", (it) => it.mean], ["ingester", "loaded", (it) => it.mean]] },
  { key: "lag", title: "Lag", unit: "since Adobe received the newest hit", show: span, tick: plain, top: niceSpan,
    lines: [["producer", "received", (it) => it.behind_seconds], ["ingester", "in the table", (it) => it.behind_seconds]] },
  { key: "pending", title: "Pending rows", unit: "", show: count, top: nice,
    lines: [["producer", "in the log", (it) => it.waiting_rows], ["ingester", "in S3", (it) => it.waiting_rows]] },
];

/** Where the reader points at: a moment, or nothing. */
let pointed = null;
let drawn = null;

function nearest(samples, at) {
  let best = null;
  for (const sample of samples ?? []) {
    if (best === null || Math.abs(Date.parse(sample.at) - at) < Math.abs(Date.parse(best.at) - at)) best = sample;
  }
  return best && Math.abs(Date.parse(best.at) - at) < 120_000 ? best : null;
}

/** How long ago the drawing begins. */
function rangeOf(past, now) {
  const first = ["producer", "ingester"].map((service) => past?.[service]?.samples.at(0)?.at).filter(Boolean).map(Date.parse);
  return RANGES.find((range) => range >= now - Math.min(now, ...first)) ?? WHOLE;
}

function chart({ key, title, unit, show, tick = show, top, lines }, past, now, width) {
  const range = rangeOf(past, now);
  const from = now - range;
  const x = (at) => LEFT + ((at - from) / range) * (width - LEFT - 4);
  const samples = (service) => past?.[service]?.samples ?? [];
  let most = 0;
  for (const [service, , of] of lines) for (const sample of samples(service)) most = Math.max(most, of(sample) ?? 0);
  const limit = top(most);
  const y = (value) => TOP + (1 - value / limit) * (HEIGHT - TOP - BOTTOM);
  const grid = [0, 0.5, 1].map((share) => s("g", {},
    s("path", { d: `M${LEFT} ${y(limit * share)}H${width}`, class: "grid" }),
    s("text", { x: LEFT - 8, y: y(limit * share) + 4, class: "tick end" }, tick(limit * share))));
  const ticks = [0, 1, 2].map((half) => s("text", { x: x(from + (range * half) / 2), y: HEIGHT - 4, class: `tick ${["", "middle", "end"][half]}` },
    half === 2 ? "now" : `−${plain((range / 1000) * (1 - half / 2))}`));
  const curves = lines.map(([service, , of], at) => points(samples(service), of, past?.[service]?.every_seconds ?? 15, x, y)
    .map((line) => s("path", { d: line.length === 1 ? `M${line[0]}h1.5` : `M${line.join("L")}`, class: `line line${at}` })));
  const cursor = pointed && pointed >= from ? s("path", { d: `M${x(pointed)} ${TOP}V${HEIGHT - BOTTOM}`, class: "cursor" }) : null;
  const values = lines.map(([service, name, of], at) => {
    const sample = pointed ? nearest(samples(service), pointed) : null;
    const value = pointed ? (sample ? of(sample) : null) : latest(samples(service), of);
    return h("span", { class: `key line${at}` }, h("span", { class: "swatch", "aria-hidden": "true" }), `${name} `, h("b", {}, value === null ? "–" : show(value)));
  });
  const said = lines.map(([service, name, of]) => `${name} ${latest(samples(service), of) === null ? "unknown" : show(latest(samples(service), of))}`).join(", ");
  const label = `${title} ${unit}: now ${said}; the highest since −${plain(range / 1000)} ${show(most)}. The arrow keys left and right read earlier values.`;
  return h("figure", { class: "chart", "data-key": key },
    h("figcaption", {}, h("h3", {}, title), h("span", { class: "quiet" }, pointed ? ` at ${clock(pointed, now)}` : ` ${unit}`)),
    h("p", { class: "keys", "aria-live": pointed ? "polite" : "off" }, values),
    s("svg", { class: "plot", width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", tabindex: 0, "aria-label": label }, grid, ticks, curves, cursor));
}

const NAMES = ["ten minutes", "half hour", "hour", "two hours", "six hours"];

export function charts(root, past, now) {
  drawn = { root, past, now };
  const inside = root.clientWidth || 360;
  const columns = inside >= 900 ? 3 : inside >= 620 ? 2 : 1;
  const width = Math.floor((inside - (columns - 1) * 32) / columns);
  fill(root, [
    h("h2", {}, `The last ${NAMES[RANGES.indexOf(rangeOf(past, now))]}`),
    h("div", { class: "charts" }, CHARTS.map((kind) => chart(kind, past, now, width))),
    h("p", { class: "quiet" }, kept(past, now)),
  ]);
}

function kept(past, now) {
  if (!past) return "The history is not there yet.";
  const began = ["producer", "ingester"].filter((service) => past[service]).map((service) => [service, Date.parse(past[service].since)]);
  const short = began.filter(([, since]) => now - since < WHOLE).map(([service, since]) => `the ${service} since its start at ${clock(since, now)}`);
  const missing = ["producer", "ingester"].filter((service) => !past[service]).map((service) => `Nothing is known of the ${service}: it does not answer.`);
  const kept = short.length ? [`Samples are kept in memory: ${short.join(", ")}.`] : [];
  return [...kept, ...missing].join(" ");
}

/** Pointer and arrow keys read values. */
export function listen(root) {
  const move = (at) => {
    pointed = at;
    if (drawn) charts(drawn.root, drawn.past, drawn.now);
  };
  const momentAt = (plot, clientX) => {
    const box = plot.getBoundingClientRect();
    const share = (clientX - box.left - LEFT) / (box.width - LEFT - 4);
    const range = rangeOf(drawn.past, drawn.now);
    return drawn.now - range + Math.min(1, Math.max(0, share)) * range;
  };
  root.addEventListener("pointermove", (event) => {
    const plot = event.target.closest?.(".plot");
    if (plot && drawn) move(momentAt(plot, event.clientX));
    else if (pointed) move(null);
  });
  root.addEventListener("pointerleave", () => move(null));
  root.addEventListener("focusout", () => pointed && move(null));
  root.addEventListener("keydown", (event) => {
    if (!event.target.closest?.(".plot") || !drawn) return;
    const range = rangeOf(drawn.past, drawn.now);
    const step = { ArrowLeft: -range / 60, ArrowRight: range / 60, PageUp: -range / 6, PageDown: range / 6 }[event.key];
    if (step) {
      event.preventDefault();
      move(Math.min(drawn.now, Math.max(drawn.now - range, (pointed ?? drawn.now) + step)));
    } else if (event.key === "Escape") move(null);
  });
}

const WEEK = 7 * 24 * 3600 * 1000;

export function gaps(root, data, now) {
  const snapshot = data.producer.snapshot;
  if (!snapshot) return fill(root, []);
  const { gaps: all, sessions } = snapshot;
  const list = all.list;
  const title = h("h2", {}, "Gaps ", h("span", { class: "quiet" }, "time in which the stream was not read, and that Adobe did not send again"));
  const oldest = Math.min(now - WHOLE, ...list.map((gap) => Date.parse(gap.from)));
  const from = Math.max(oldest, now - WEEK);
  const width = root.clientWidth || 360;
  const x = (at) => Math.max(0, ((at - from) / (now - from)) * width);
  const bar = (begin, end, kind, least, text) => end < from ? null : s("rect", { x: Math.min(x(begin), width - least), width: Math.max(least, x(end) - x(begin)), y: 2, height: 18, class: kind }, s("title", {}, text));
  const read = sessions.filter((it) => it.first_received && it.last_received).map((it) => bar(Date.parse(it.first_received), it.ended === null && data.producer.pid !== null ? now : Date.parse(it.last_received), "read", 1, `session ${it.session}: ${counted(it.records, "record", "records")}`));
  const missing = list.map((gap) => bar(Date.parse(gap.from), Date.parse(gap.to), "gap", 3, `${clock(gap.from, now)} to ${clock(gap.to, now)}, ${span(gap.seconds)}`));
  const strip = s("svg", { class: "strip", width, height: 40, viewBox: `0 0 ${width} 40`, role: "img", "aria-label": `Time line of the last ${span((now - from) / 1000)}: ${counted(list.length, "gap", "gaps")}` },
    s("rect", { width, height: 18, y: 2, class: "rail" }), read, missing,
    s("text", { x: 0, y: 36, class: "tick" }, clock(from, now)), s("text", { x: width, y: 36, class: "tick end" }, "now"));
  const summary = all.gaps === 0
    ? h("p", {}, "None since the log was created.")
    : h("p", {}, `${counted(all.gaps, "gap", "gaps")} since the log was created, ${span(all.seconds)} together. Hits received in them are missing.`);
  const rows = list.toReversed().slice(0, 50).map((gap) => h("tr", {},
    h("td", {}, clock(gap.from, now)), h("td", { class: "number" }, span(gap.seconds)), h("td", { class: "number" }, age(now, gap.to)), h("td", {}, gap.why ?? "not known")));
  const table = list.length
    ? h("details", {}, h("summary", {}, `List of ${counted(Math.min(list.length, 50), "gap", "gaps")}`), h("div", { class: "scroll", tabindex: 0 }, h("table", {},
      h("thead", {}, h("tr", {}, ["from", "length", "ended ago", "why the session before it ended"].map((name, at) => h("th", { scope: "col", class: at === 1 || at === 2 ? "number" : null }, name)))), h("tbody", {}, rows))))
    : null;
  return fill(root, [title, strip, summary, table]);
}
