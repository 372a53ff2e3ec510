// Words, numbers and elements. Everything that came from elsewhere is set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

export const h = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);

/** Makes `node` like `next`, touching only what differs: focus, selection and what is unfolded stay. */
export function morph(node, next) {
  if (node.nodeType !== next.nodeType || node.nodeName !== next.nodeName) {
    node.replaceWith(next);
    return;
  }
  if (node.nodeType === Node.TEXT_NODE) {
    if (node.data !== next.data) node.data = next.data;
    return;
  }
  for (const { name } of [...node.attributes]) {
    const unfolded = name === "open" && node.nodeName === "DETAILS";
    if (!next.hasAttribute(name) && !unfolded) node.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  fill(node, [...next.childNodes]);
}

/** Gives `node` these children, as `morph` does. */
export function fill(node, children) {
  const nodes = children.flat(Infinity).filter((child) => child || child === 0);
  const keys = new Set(nodes.map((child) => (child.nodeType ? keyOf(child) : null)).filter(Boolean));
  let at = node.firstChild;
  for (const raw of nodes) {
    const child = raw.nodeType ? raw : document.createTextNode(raw);
    while (at && keyOf(at) && !keys.has(keyOf(at))) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
    if (at && at.nodeName === child.nodeName && keyOf(at) === keyOf(child)) {
      const following = at.nextSibling;
      morph(at, child);
      at = following;
    } else {
      const key = keyOf(child);
      const known = key && [...node.children].find((other) => keyOf(other) === key);
      if (known) {
        node.insertBefore(known, at);
        morph(known, child);
      } else {
        node.insertBefore(child, at);
      }
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

const two = (number) => String(number).padStart(2, "0");

/** Seconds in the two largest units, as everywhere else: 4s, 2m10s, 3h05m, 2d04h. */
export function span(seconds) {
  const n = Math.max(0, Math.floor(seconds));
  if (n < 60) return `${n}s`;
  if (n < 3600) return `${Math.floor(n / 60)}m${two(n % 60)}s`;
  if (n < 86400) return `${Math.floor(n / 3600)}h${two(Math.floor((n % 3600) / 60))}m`;
  return `${Math.floor(n / 86400)}d${two(Math.floor((n % 86400) / 3600))}h`;
}

/** The age of a time, as the server's clock has it. Hits may come with any time at all. */
export const age = (now, time) => (Number.isNaN(Date.parse(time)) ? "?" : span((now - Date.parse(time)) / 1000));

export const count = (number) => Math.round(number).toLocaleString("en-US");

export function counted(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let [value, unit] = [number, 0];
  while (value >= 1000 && unit + 1 < units.length) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${number} B` : `${value.toFixed(1)} ${units[unit]}`;
}

/** A rate, short: 0, 0.4, 12, 9,326. */
export function rate(number) {
  if (number === null || number === undefined) return "–";
  if (number < 0.05) return "0";
  return number > 0 && number < 10 ? number.toFixed(1) : count(number);
}

/** The time of day in UTC, with the date if that is another one. */
export function clock(time, now) {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return String(time);
  const iso = at.toISOString();
  const today = now && new Date(now).toISOString().slice(0, 10) === iso.slice(0, 10);
  return today ? `${iso.slice(11, 19)} UTC` : `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`;
}

export const time = (at, now) => h("time", { datetime: at, title: at }, clock(at, now));

/** As much of a batch id as `state dump --batch` needs, and a person can compare. */
export const short = (id) => id.slice(0, 18);

/** A word with the colour of its state beside it: the colour says nothing that the word does not. */
export const badge = (level, word) =>
  h("span", { class: `badge ${level}` }, h("span", { class: "dot", "aria-hidden": "true" }), word);

export const squeeze = (text) => text.split(/\s+/).join(" ").trim();
