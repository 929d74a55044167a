"use strict";
// The block of data as rows. Columns are places in a table of strings; nothing is copied.
const bv = {};
bv.load = function (text) {
  const raw = JSON.parse(text);
  const s = raw.strings, r = raw.rows, n = r.outcome.length;
  const at = (column) => (i) => s[r[column][i]];
  const data = {
    raw, count: n,
    outcome: at("outcome"), code: at("code"), claim: at("claim"), rule: at("rule"), kind: at("kind"),
    layout: at("layout"), evidence: at("evidence"), megatron: at("megatron"), title: at("title"), hfText: at("hf"),
    cases: (i) => r.cases[i], refuted: (i) => r.refuted[i],
    hf: (i) => (s[r.hf[i]] === "" ? [] : s[r.hf[i]].split("\n")),
    detail: (i) => (Object.hasOwn(r.details, i) ? r.details[i] : null),
  };
  data.subject = (i) => data.megatron(i) || data.hf(i)[0] || "model";
  data.id = (i) => {
    if (Object.hasOwn(r.ids, i)) return r.ids[i];
    const layout = data.layout(i);
    return data.claim(i) + "." + (data.rule(i) || data.subject(i)) + (layout ? "." + layout : "");
  };
  let texts = null;
  data.text = (i) => {  // what a word of the filter is looked for in
    if (texts === null) texts = new Array(n);
    if (texts[i] === undefined) {
      texts[i] = (data.id(i) + "\n" + data.megatron(i) + "\n" + data.hfText(i) + "\n" + data.kind(i) + "\n" + data.title(i)).toLowerCase();
    }
    return texts[i];
  };
  let byId = null;
  data.find = (id) => {
    if (byId === null) { byId = new Map(); for (let i = 0; i < n; ++i) byId.set(data.id(i), i); }
    return byId.has(id) ? byId.get(id) : -1;
  };
  return data;
};
bv.signs = { Proved: "✓", Held: "✓", Refuted: "✕", Inconclusive: "?", Unsupported: "?", Waived: "⚑", Broken: "!" };
bv.weight = { Broken: 6, Refuted: 5, Inconclusive: 4, Unsupported: 3, Waived: 2, Held: 1, Proved: 0 };
bv.thousands = (n) => String(n).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
// An element with text; untrusted text never becomes markup.
bv.el = function (tag, attributes, ...children) {
  const out = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "class") out.className = value; else if (value !== null && value !== undefined) out.setAttribute(key, value);
  }
  for (const child of children) if (child !== null && child !== undefined) out.append(child);
  return out;
};
bv.svg = function (tag, attributes, ...children) {
  const out = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes || {})) out.setAttribute(key, value);
  for (const child of children) out.append(child);
  return out;
};
