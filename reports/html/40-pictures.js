// Pictures: each has a sentence and a table or text that says the same.
bv.hues = ["--s0", "--s1", "--s2", "--s3", "--s4", "--s5", "--s6", "--s7"];
// "rank tp0 wanted  q[0:8] k[0:4]" -> {rank, side, runs}
bv.rankLine = function (line) {
  const match = /^rank (.+?) (wanted|found)\s+(.*)$/.exec(line);
  if (match === null) return null;
  const runs = [];
  for (const part of match[3].matchAll(/([^\s\[\]]+)\[(\d+):(\d+)(?:[^\]]*)\]|(\d+) (?:rows? )?(?:of )?(?:zero|padding)\S*/g)) {
    runs.push(part[1] === undefined ? { source: "", from: 0, to: Number(part[4]) } : { source: part[1], from: Number(part[2]), to: Number(part[3]) });
  }
  return runs.length === 0 || runs.some((run) => run.to <= run.from) ? null : { rank: match[1], side: match[2], runs, cut: match[3].trimEnd().endsWith("...") };
};
bv.sameAt = function (a, row) {
  let at = 0;
  for (const run of a) { const n = run.to - run.from; if (row < at + n) return [run.source, run.from + row - at]; at += n; }
  return [null, -1];
};
// Two bars a rank: what should be there, above what is. Wrong stretches are hatched and framed.
bv.rowMap = function (facts) {
  const lines = facts.map(bv.rankLine).filter((line) => line !== null);
  const ranks = [...new Set(lines.map((line) => line.rank))].slice(0, 8);
  const pairs = ranks.map((rank) => ({ rank, wanted: lines.find((l) => l.rank === rank && l.side === "wanted"), found: lines.find((l) => l.rank === rank && l.side === "found") }))
    .filter((pair) => pair.wanted && pair.found);
  if (pairs.length === 0) return null;
  const sources = [...new Set(pairs.flatMap((p) => [...p.wanted.runs, ...p.found.runs]).map((run) => run.source))];
  const total = (runs) => runs.reduce((sum, run) => sum + run.to - run.from, 0);
  const rows = Math.max(...pairs.flatMap((p) => [total(p.wanted.runs), total(p.found.runs)]));
  const left = 136, width = 840, unit = (width - left - 8) / rows, bar = 24, gap = 5, pad = 20;
  const height = pairs.length * (2 * bar + gap + pad) + 4;
  const hatch = "h" + Math.random().toString(36).slice(2);
  const out = bv.svg("svg", { viewBox: "0 0 " + width + " " + height, role: "img", class: "rows", width, height });
  const pattern = bv.svg("pattern", { id: hatch, width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, bv.svg("rect", { width: 2.5, height: 7, fill: "var(--refuted)" }));
  let wrong = 0, looked = 0;
  const body = bv.svg("g", {});
  pairs.forEach((pair, k) => {
    const top = k * (2 * bar + gap + pad);
    [["wanted", top], ["found", top + bar + gap]].forEach(([side, y]) => {
      body.append(bv.svg("text", { x: 0, y: y + 16, "font-size": 12 }, (side === "wanted" ? bv.shortName(pair.rank, 9) + " " : "").padEnd(10, " ")));
      body.append(bv.svg("text", { x: left - 10, y: y + 16, "font-size": 12, "text-anchor": "end", style: "fill:var(--soft)" }, side));
      let at = 0;
      for (const run of pair[side].runs) {
        const n = run.to - run.from, x = left + at * unit, w = Math.max(n * unit - 1.5, 0.75);
        const hue = "var(" + bv.hues[Math.max(0, sources.indexOf(run.source)) % bv.hues.length] + ")";
        const rect = bv.svg("rect", { x, y, width: w, height: bar, rx: 2, style: "fill:" + hue + ";fill-opacity:0.22;stroke:" + hue });
        rect.append(bv.svg("title", {}, pair.rank + " " + side + " row " + at + " to " + (at + n - 1) + ": " + run.source + "[" + run.from + ":" + run.to + "]"));
        body.append(rect);
        const label = bv.shortName(run.source, 22) + "[" + run.from + ":" + run.to + "]";
        const fits = label.length * 6.7 + 8 < w ? label : bv.shortName(run.source, 6).length * 6.7 + 4 < w ? bv.shortName(run.source, 6) : "";
        if (fits !== "") body.append(bv.svg("text", { x: x + 5, y: y + 16, "font-size": 11 }, fits));
        at += n;
      }
    });
    // Stretches of rows that are not where they belong.
    const ends = [total(pair.wanted.runs), total(pair.found.runs)];
    const n = pair.wanted.cut || pair.found.cut ? Math.min(...ends) : Math.max(...ends);
    looked += n;
    const cuts = new Set([0, n]);
    for (const side of [pair.wanted, pair.found]) { let at = 0; for (const run of side.runs) { at += run.to - run.from; cuts.add(Math.min(at, n)); } }
    const edges = [...cuts].sort((a, b) => a - b);
    for (let e = 0; e + 1 < edges.length; ++e) {
      const [ws, wi] = bv.sameAt(pair.wanted.runs, edges[e]), [fs, fi] = bv.sameAt(pair.found.runs, edges[e]);
      if (ws !== fs || wi !== fi) {
        wrong += edges[e + 1] - edges[e];
        body.append(bv.svg("rect", { x: left + edges[e] * unit, y: top + bar + gap + bar + 2, width: Math.max((edges[e + 1] - edges[e]) * unit - 1.5, 1), height: 5, fill: "url(#" + hatch + ")", style: "stroke:var(--refuted);stroke-width:0.75" }));
      }
    }
  });
  const sentence = wrong + " of " + looked + " rows shown are not where they belong.";
  out.append(bv.svg("title", {}, "where the rows went"), bv.svg("desc", {}, sentence), bv.svg("defs", {}, pattern), body);
  return bv.el("figure", { class: "picture" }, bv.el("figcaption", {}, "Rows of each rank: what should be there, above what is. Marked in red: " + sentence),
    bv.el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "picture of rows" }, out));
};
bv.shortName = (name, n) => { const last = name.split(" ").length > 1 ? name : name; return last.length <= n ? last : last.slice(0, Math.ceil(n / 2) - 1) + "…" + last.slice(-Math.floor(n / 2)); };

// Ranks of a layout, a row a pipeline stage; colour and number say which shard a rank holds.
bv.rankGrid = function (layout, experts) {
  const tp = experts ? layout.etp : layout.tp, world = layout.world, pp = layout.pp, each = Math.max(1, Math.floor(world / pp));
  const columns = Math.min(each, 64), cell = columns > 24 ? 22 : 40, rowsShown = Math.min(pp, 32);
  const width = 84 + columns * (cell + 4), height = rowsShown * (cell + 8) + 8;
  const out = bv.svg("svg", { viewBox: "0 0 " + width + " " + height, width, height, role: "img" });
  out.append(bv.svg("title", {}, "ranks of " + layout.id), bv.svg("desc", {}, world + " ranks, " + pp + " pipeline stages; the colour is the " + (experts ? "expert" : "tensor-parallel") + " shard."));
  for (let p = 0; p < rowsShown; ++p) {
    out.append(bv.svg("text", { x: 0, y: p * (cell + 8) + cell / 2 + 5, "font-size": 12, style: "fill:var(--soft)" }, "stage " + p));
    for (let c = 0; c < columns; ++c) {
      const ep = Math.floor(c / tp) % layout.ep, shard = experts ? ep * tp + (c % tp) : c % tp, rank = p * each + c;
      const hue = "var(" + bv.hues[shard % bv.hues.length] + ")", x = 80 + c * (cell + 4), y = p * (cell + 8);
      const box = bv.svg("rect", { x, y, width: cell, height: cell, rx: 5, style: "fill:" + hue + ";fill-opacity:0.2;stroke:" + hue + ";stroke-width:1.5" });
      box.append(bv.svg("title", {}, "rank " + rank + ", stage " + p + (experts ? ", ep" + ep + " etp" : ", tp") + (c % tp)));
      out.append(box);
      if (cell >= 40) {
        out.append(bv.svg("text", { x: x + cell / 2, y: y + 17, "font-size": 12, "text-anchor": "middle", "font-weight": 600 }, String(rank)),
          bv.svg("text", { x: x + cell / 2, y: y + 32, "font-size": 10, "text-anchor": "middle", style: "fill:var(--soft)" }, experts ? "e" + ep + "." + (c % tp) : "tp" + (c % tp)));
      }
    }
  }
  return out;
};
bv.layoutsSection = function (data) {
  const layouts = data.raw.layouts;
  if (layouts.length === 0) return bv.section("layouts", "Layouts", "No layout was looked at; add --tp, --pp and --ep.", null);
  const select = bv.el("select", { "aria-label": "layout" }), kind = bv.el("button", { type: "button", "aria-pressed": "false" }, "colour by experts");
  layouts.forEach((layout, i) => select.append(bv.el("option", { value: i }, layout.id)));
  select.value = String(layouts.reduce((best, layout, i) => (layout.world > layouts[best].world && layout.world <= 64 ? i : best), 0));
  const holder = bv.el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "ranks of the layout" }), words = bv.el("p", { class: "lead" });
  const draw = () => {
    const layout = layouts[Number(select.value)], experts = kind.getAttribute("aria-pressed") === "true";
    holder.replaceChildren(bv.rankGrid(layout, experts));
    words.textContent = layout.world + " ranks: tensor parallel " + layout.tp + ", pipeline " + layout.pp + ", experts " + layout.ep + ", tensor parallel inside experts " + layout.etp + (layout.world / layout.pp > 64 || layout.pp > 32 ? ". The first ranks are drawn." : ".");
  };
  select.addEventListener("change", draw);
  kind.addEventListener("click", () => { kind.setAttribute("aria-pressed", String(kind.getAttribute("aria-pressed") !== "true")); draw(); });
  draw();
  return bv.section("layouts", "Layouts", "The ranks of a layout in Megatron’s order. Colour and label say which shard a rank holds.",
    bv.el("div", { class: "card", style: "padding:16px 20px" }, bv.el("div", { class: "search" }, select, kind), words, holder), bv.heatMap(data));
};
// The worst outcome of each claim on each layout.
bv.heatMap = function (data) {
  const layouts = data.raw.layouts, place = new Map(layouts.map((layout, i) => [layout.id, i]));
  const worst = new Map();
  for (let i = 0; i < data.count; ++i) {
    const at = place.get(data.layout(i));
    if (at === undefined) continue;
    const claim = data.claim(i);
    if (!worst.has(claim)) worst.set(claim, new Array(layouts.length).fill(null));
    const row = worst.get(claim), outcome = data.outcome(i);
    if (row[at] === null || bv.weight[outcome] > bv.weight[row[at]]) row[at] = outcome;
  }
  if (worst.size === 0 || layouts.length < 2) return null;
  const n = Math.min(layouts.length, 96), size = 14, left = 110;
  const out = bv.svg("svg", { viewBox: "0 0 " + (left + n * (size + 3)) + " " + (worst.size * 24 + 2), width: left + n * (size + 3), height: worst.size * 24 + 2, role: "img" });
  out.append(bv.svg("title", {}, "claims on layouts"), bv.svg("desc", {}, "The worst outcome of each claim on each of " + n + " layouts."));
  [...worst].forEach(([claim, row], r) => {
    out.append(bv.svg("text", { x: 0, y: r * 24 + 14, "font-size": 12 }, claim));
    for (let c = 0; c < n; ++c) {
      const outcome = row[c], color = outcome === null ? "var(--line)" : bv.weight[outcome] >= 5 ? "var(--refuted)" : bv.weight[outcome] >= 3 ? "var(--open)" : bv.weight[outcome] === 2 ? "var(--waived)" : "var(--proved)";
      const box = bv.svg("rect", { x: left + c * (size + 3), y: r * 24 + 2, width: size, height: size, rx: 3, style: "fill:" + (outcome === null ? "none" : color) + ";stroke:" + color });
      box.append(bv.svg("title", {}, claim + " on " + layouts[c].id + ": " + (outcome || "no verdict")));
      out.append(box);
      if (outcome !== null && bv.weight[outcome] >= 2) out.append(bv.svg("text", { x: left + c * (size + 3) + size / 2, y: r * 24 + 13, "font-size": 11, "text-anchor": "middle", "font-weight": 700, style: "fill:var(--card)" }, bv.signs[outcome]));
    }
  });
  return bv.el("figure", { class: "card picture", style: "padding:16px 20px;margin-top:16px" }, bv.el("figcaption", {}, "Each claim on each layout, in the order of the list above" + (layouts.length > n ? ", the first " + n : "") + ". A sign in a box is what is not green."),
    bv.el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "claims on layouts" }, out));
};
bv.coverageSection = function (data) {
  const letters = ["P", "B", "O", "U", "G", "S"], kinds = new Map();
  for (let i = 0; i < data.count; ++i) {
    const kind = data.kind(i);
    if (kind === "") continue;
    if (!kinds.has(kind)) kinds.set(kind, { total: 0, by: {}, layouts: new Set() });
    const row = kinds.get(kind);
    ++row.total; row.layouts.add(data.layout(i));
    for (const letter of letters) if (data.evidence(i).includes(letter)) row.by[letter] = (row.by[letter] || 0) + 1;
  }
  if (kinds.size === 0) return bv.section("coverage", "Coverage", "No verdict is about a kind of mapping.", null);
  const table = bv.el("table", { class: "matrix" }, bv.el("thead", {}, bv.el("tr", {}, bv.el("th", { scope: "col", style: "text-align:left" }, "Kind"), ...letters.map((letter) => bv.el("th", { scope: "col" }, letter)), bv.el("th", { scope: "col" }, "Layouts"), bv.el("th", { scope: "col" }, "Verdicts"))));
  const body = bv.el("tbody", {});
  for (const [kind, row] of [...kinds].sort()) {
    row.layouts.delete("");
    body.append(bv.el("tr", {}, bv.el("th", { scope: "row" }, kind), ...letters.map((letter) => {
      const n = row.by[letter] || 0;
      return bv.el("td", { class: n === 0 ? "z" : n === row.total ? "full" : "part" }, n === 0 ? "0" : bv.thousands(n));
    }), bv.el("td", {}, String(row.layouts.size)), bv.el("td", {}, bv.thousands(row.total))));
  }
  table.append(body);
  return bv.section("coverage", "Coverage", "For each kind of mapping, how many verdicts have which evidence. Dashed zeros: nothing of that sort was tried.",
    bv.el("div", { class: "card scroll", tabindex: "0", role: "region", "aria-label": "coverage of kinds" }, table));
};
bv.mutationSection = function (data) {
  const m = data.raw.mutation;
  if (m === null) return null;
  const claims = m.claims.map((claim) => (typeof claim === "string" ? claim : claim.claim || claim.id || String(Object.values(claim)[0])));
  const head = bv.el("tr", {}, bv.el("th", { scope: "col", style: "text-align:left" }, "Planted fault"), ...claims.map((claim) => bv.el("th", { scope: "col" }, claim)), bv.el("th", { scope: "col" }, "Killed"), bv.el("th", { scope: "col" }, "Survived"));
  const body = bv.el("tbody", {});
  m.operators.forEach((row, r) => {
    const alive = row.mutants - (row.equivalent || 0);
    body.append(bv.el("tr", {}, bv.el("th", { scope: "row" }, (row.op || row.operator) + (row.side ? " " + row.side : "")),
      ...m.matrix[r].map((n) => bv.el("td", { class: n === 0 ? "z" : n >= alive ? "full" : "part" }, String(n))),
      bv.el("td", { class: row.survived > 0 ? "part" : "full" }, row.killed + " / " + alive), bv.el("td", { class: row.survived > 0 ? "o-Refuted" : "" }, String(row.survived))));
  });
  const gate = Array.isArray(m.gate_rt_0_1_killed) && m.gate_rt_0_1_killed.length > 0 ? " A round trip within 0.1 would kill " + Math.max(...m.gate_rt_0_1_killed) + " of " + m.mutants + "." : "";
  return bv.section("strength", "Strength", m.killed + " of " + m.mutants + " planted faults are seen, " + m.survived + " survive, " + m.equivalent + " change nothing." + gate,
    bv.el("div", { class: "card scroll", tabindex: "0", role: "region", "aria-label": "planted faults" }, bv.el("table", { class: "matrix" }, bv.el("thead", {}, head), body)));
};
bv.diffSection = function (data, open) {
  const baseline = data.raw.baseline;
  if (baseline === null) return null;
  const body = bv.el("tbody", {});
  for (const [change, id, before, after, title] of baseline.rows.slice(0, 500)) {
    const link = bv.el("a", { href: "#t=" + encodeURIComponent(id) }, id);
    body.append(bv.el("tr", {}, bv.el("th", { scope: "row" }, change), bv.el("td", {}, link, title ? bv.el("div", { class: "meta" }, title) : null), bv.el("td", {}, before || "none"), bv.el("td", {}, after || "none")));
  }
  const words = baseline.rows.length === 0 ? "Nothing changed since " + baseline.ref + "." : bv.thousands(baseline.rows.length) + " verdicts changed since " + baseline.ref + ", " + bv.thousands(baseline.unchanged) + " did not.";
  return bv.section("diff", "Changes", words, baseline.rows.length === 0 ? null : bv.el("div", { class: "card scroll", tabindex: "0", role: "region", "aria-label": "changes" },
    bv.el("table", {}, bv.el("thead", {}, bv.el("tr", {}, ...["Change", "Verdict", "Before", "After"].map((text) => bv.el("th", { scope: "col" }, text)))), body)));
};
bv.section = (id, title, words, ...children) => bv.el("section", { id }, bv.el("h2", {}, title), bv.el("p", { class: "lead" }, words), ...children.filter((child) => child !== null));
