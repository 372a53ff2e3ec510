// What did not become a row as it was sent: rejects, filtered records, rows in quarantine, altered values.

import { age, count, counted, h, s } from "./text.js";

const SHOWN = 12;

const REASONS = {
  not_utf8: "not UTF-8", not_json: "not JSON", not_object: "no JSON object", misfit: "a value does not fit its column", row_too_long: "its row is too long for COPY", too_long: "longer than adobe.max_record_bytes",
};
const DONE = {
  cut: "cut", nulled: "NULL", rounded: "rounded", nuls: "NULs left out", replaced: "half characters replaced", invalid: "invalid bytes replaced", delimiters: "joined by comma", rejected: "rejected",
};

function bars(entries, most, name) {
  const shown = entries.slice(0, SHOWN);
  const rest = entries.length - shown.length;
  return [h("table", { class: "bars" }, h("tbody", {}, shown.map(([label, number, more]) => h("tr", {},
    h("th", { scope: "row" }, label, more ? h("span", { class: "quiet" }, ` ${more}`) : null),
    h("td", { class: "bar" }, s("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" }, s("rect", { width: Math.max(0.5, (number / most) * 100), height: 6 }))),
    h("td", { class: "number" }, count(number)))))), rest > 0 ? h("p", { class: "quiet" }, `and ${counted(rest, name, `${name}s`)} more`) : null];
}

function block(title, about, entries, none, name) {
  const sorted = entries.filter(([, number]) => number > 0).sort((a, b) => b[1] - a[1]);
  const body = sorted.length ? bars(sorted, sorted[0][1], name) : h("p", { class: "quiet" }, none);
  return h("div", { class: "block" }, h("h3", {}, title), h("p", { class: "quiet" }, about), body);
}

export function counts(data, now) {
  const { producer, ingester } = data;
  const counters = producer.snapshot?.counters;
  const totals = producer.snapshot?.totals;
  const since = counters ? `since the producer started ${age(now, counters.since)} ago` : "not known: the producer does not answer";
  const altered = Object.entries(counters?.altered ?? {}).map(([column, kinds]) => {
    const all = Object.values(kinds).reduce((a, b) => a + b, 0);
    return [column, all, Object.entries(kinds).map(([kind, number]) => `${DONE[kind] ?? kind} ${count(number)}`).join(", ")];
  });
  const refused = new Map();
  for (const load of ingester.snapshot?.loads ?? []) {
    if (load.quarantined > 0) {
      const first = load.quarantine?.first;
      const [column, reason] = [first?.column ?? "column not known", first?.reason ?? ""];
      const known = refused.get(column) ?? [column, 0, reason];
      known[1] += load.quarantined;
      refused.set(column, known);
    }
  }
  return [
    h("h2", {}, "What did not become a row as it was sent"),
    totals ? h("p", { class: "sums" }, [["received", "received"], ["rows", "rows"], ["duplicates", "duplicates"], ["filtered", "filtered"], ["rejected", "rejected"]].map(([key, name]) => h("span", {}, h("b", {}, count(totals[key])), ` ${name}`)), h("span", { class: "quiet" }, "since the log was created")) : null,
    h("div", { class: "blocks" },
      block("Rejects", since, Object.entries(counters?.rejected ?? {}).map(([reason, number]) => [REASONS[reason] ?? reason, number]), "None.", "reason"),
      block("Rows in quarantine", "by the column of the first row that Redshift refused in a batch", [...refused.values()], "None.", "column"),
      block("Altered values by column", since, altered, "None.", "column"),
      block("Filtered records", since, Object.entries(counters?.filtered ?? {}), "None.", "filter")),
  ];
}
