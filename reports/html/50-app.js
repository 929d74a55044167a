// Puts the parts together: table, filter, links, keys, copying, theme. State lives in the address alone.
bv.start = function () {
  const data = bv.load(document.getElementById("bv-data").textContent);
  bv.data = data;
  const app = document.getElementById("app"), main = document.getElementById("main");
  const say = bv.el("div", { class: "sr", role: "status" });
  const hash = () => new URLSearchParams(location.hash.startsWith("#") && location.hash.includes("=") ? location.hash.slice(1) : "");
  const setHash = (changes, push) => {
    const now = hash();
    for (const [key, value] of Object.entries(changes)) { if (value === null || value === "") now.delete(key); else now.set(key, value); }
    const text = "#" + now.toString();
    if (text !== location.hash) history[push ? "pushState" : "replaceState"](null, "", text === "#" ? location.pathname + location.search : text);
  };
  // Table, filter, detail.
  const panel = bv.el("div", { class: "panel card", hidden: "", tabindex: "-1", role: "region", "aria-label": "verdict" });
  const table = new bv.Table(data, (i) => { setHash({ t: data.id(i) }, true); detail(i, false); });
  const input = bv.el("input", { type: "search", "aria-label": "filter verdicts", placeholder: "filter:  s:refuted  q:placement  k:qkv  l:0..3  or any part of a name", spellcheck: "false", autocomplete: "off" });
  const output = bv.el("output", {}), problem = bv.el("p", { class: "problem", role: "alert" });
  const csv = bv.el("button", { type: "button" }, "Save as CSV");
  const chips = bv.el("div", { class: "chips", role: "group", "aria-label": "shortcuts" });
  const outcomes = new Map();
  for (let i = 0; i < data.count; ++i) outcomes.set(data.outcome(i), (outcomes.get(data.outcome(i)) || 0) + 1);
  const chipFor = (word, label) => {
    const chip = bv.el("button", { type: "button", "aria-pressed": "false" }, label);
    chip.dataset.word = word;
    chip.addEventListener("click", () => {
      const words = input.value.split(/\s+/).filter((one) => one !== "");
      input.value = (words.includes(word) ? words.filter((one) => one !== word) : [...words, word]).join(" ");
      apply(true);
    });
    chips.append(chip);
  };
  for (const outcome of Object.keys(bv.weight)) if (outcomes.has(outcome)) chipFor("s:" + outcome.toLowerCase(), bv.signs[outcome] + " " + outcome + " " + bv.thousands(outcomes.get(outcome)));
  for (const claim of data.raw.claims) chipFor("q:" + claim.toLowerCase(), claim);
  let pending = 0;
  const apply = (write) => {
    const parsed = bv.parseFilter(input.value);
    problem.textContent = parsed.error || "";
    for (const chip of chips.children) chip.setAttribute("aria-pressed", String(input.value.split(/\s+/).includes(chip.dataset.word)));
    if (write) setHash({ q: input.value.trim() }, false);
    if (parsed.error) return;
    const kept = [];
    for (let i = 0; i < data.count; ++i) if (parsed.test(data, i)) kept.push(i);
    table.show(kept);
    output.textContent = bv.thousands(kept.length) + " of " + bv.thousands(data.count);
    clearTimeout(pending);
    pending = setTimeout(() => { say.textContent = kept.length + " of " + data.count + " verdicts"; }, 400);
  };
  let timer = 0;
  input.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => apply(true), 60); });
  csv.addEventListener("click", () => bv.saveCsv(data, table.shown));
  const section = bv.section("verdicts", "Verdicts", "Every claim on every layout. Filter by outcome (s:), claim (q:), kind (k:), code (c:), layout (x:), layer (l:), expert (e:), evidence (ev:); /regex/, \"exact\" and ! are understood.",
    bv.el("div", { class: "search" }, input, output, csv), chips, problem, table.node, panel, say);
  // Detail of one verdict.
  const detail = (i, scroll) => {
    const more = data.detail(i), facts = more === null ? [] : more.facts;
    const list = bv.el("dl", { class: "tails" });
    const add = (word, text) => { if (text) list.append(bv.el("dt", {}, word), bv.el("dd", {}, text)); };
    add("outcome", bv.signs[data.outcome(i)] + " " + data.outcome(i) + (data.code(i) ? " " + data.code(i) : ""));
    add("says", data.title(i)); add("Megatron", data.megatron(i)); add("HF", data.hf(i).join(", ")); add("layout", data.layout(i)); add("evidence", data.evidence(i));
    add("cases", bv.thousands(data.cases(i)) + (data.refuted(i) > 0 ? ", " + bv.thousands(data.refuted(i)) + " refuted" : ""));
    if (more !== null) { add("source", more.source); add("found", more.found); add("wanted", more.wanted); add("extent", more.extent); add("why", more.why); add("help", more.help); add("waived", more.waiver); }
    const close = bv.el("button", { type: "button" }, "Close"), link = bv.el("button", { type: "button" }, "Copy link");
    close.addEventListener("click", () => { panel.hidden = true; setHash({ t: null }, true); });
    link.addEventListener("click", () => bv.copy(location.href));
    panel.replaceChildren(bv.el("h3", {}, data.id(i)), list);
    const map = bv.rowMap(facts);
    if (map !== null) panel.append(map);
    if (facts.length > 0) panel.append(bv.el("pre", { class: "facts-block", tabindex: "0" }, facts.join("\n")));
    if (more !== null && more.replay) panel.append(bv.replay(more.replay));
    panel.append(bv.el("div", { class: "search", style: "margin-top:14px" }, close, link));
    panel.hidden = false;
    if (scroll) { panel.scrollIntoView({ block: "center" }); panel.focus({ preventScroll: true }); }
  };
  // Sections and their links.
  const holder = document.getElementById("nav-more");
  const addSection = (one) => {
    if (one === null) return;
    app.append(one);
    holder.before(bv.el("li", {}, bv.el("a", { href: "#" + one.id }, one.querySelector("h2").textContent)));
  };
  app.replaceChildren();
  addSection(bv.diffSection(data));
  addSection(section);
  // Findings: pictures, copying.
  for (const article of main.querySelectorAll(".finding")) {
    const row = article.dataset.row === undefined ? -1 : Number(article.dataset.row), more = row >= 0 ? data.detail(row) : null;
    const map = more === null ? null : bv.rowMap(more.facts), facts = article.querySelector(".facts-block");
    if (map !== null) {
      article.querySelector(".meta").after(map);
      if (facts !== null) {
        const fold = bv.el("details", { class: "text" }, bv.el("summary", {}, "The same as text"));
        facts.replaceWith(fold); fold.append(facts);
      }
    }
    const replay = article.querySelector(".replay");
    if (replay !== null) replay.append(bv.copyButton(() => replay.querySelector("pre").textContent, "Copy"));
    const acts = bv.el("div", { class: "search acts", style: "margin:14px 0 0" });
    acts.append(bv.copyButton(() => location.href.split("#")[0] + "#" + article.id, "Copy link"),
      bv.copyButton(() => bv.issueText(article, facts), "Copy for an issue"));
    if (row >= 0) { const show = bv.el("a", { href: "#t=" + encodeURIComponent(data.id(row)) }, "All facts of this verdict"); show.style.marginLeft = "8px"; acts.append(show); }
    article.append(acts);
  }
  // Theme.
  const theme = bv.el("button", { type: "button" }, "Theme");
  const setTheme = (name) => {
    if (name) document.documentElement.dataset.theme = name; else delete document.documentElement.dataset.theme;
    try { if (name) localStorage.setItem("bv-theme", name); } catch (error) { /* files may not store */ }
  };
  const dark = () => (document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const toggle = () => { setTheme(dark() ? "light" : "dark"); theme.setAttribute("aria-label", "theme: " + (dark() ? "dark" : "light")); };
  try { const stored = localStorage.getItem("bv-theme"); if (stored === "dark" || stored === "light") setTheme(stored); } catch (error) { /* the same */ }
  theme.addEventListener("click", toggle);
  const help = bv.el("button", { type: "button" }, "Keys"), dialog = bv.keysDialog();
  help.addEventListener("click", () => dialog.showModal());
  document.body.append(dialog);
  document.querySelector(".bar").append(help, theme);
  // Links: #t=ID opens a verdict, #q=WORDS filters, #f-FINGERPRINT is a finding.
  const follow = () => {
    const now = hash(), wanted = now.get("t"), query = now.get("q") || "";
    if (now.get("theme")) setTheme(now.get("theme") === "dark" ? "dark" : "light");
    if (query !== input.value.trim()) { input.value = query; apply(false); }
    for (const one of main.querySelectorAll(".finding.hit")) one.classList.remove("hit");
    if (!wanted) { panel.hidden = true; return; }
    const i = data.find(wanted);
    if (i >= 0) { table.selected = i; table.draw(); detail(i, true); return; }
    problem.textContent = "This report has no verdict " + wanted + ".";
    section.scrollIntoView();
  };
  addEventListener("hashchange", follow);
  addEventListener("popstate", follow);
  let place = -1;
  const step = (by) => {
    const all = [...main.querySelectorAll(".finding")];
    if (all.length === 0) return;
    place = (place + by + all.length) % all.length;
    for (const one of all) one.classList.remove("hit");
    all[place].classList.add("hit"); all[place].tabIndex = -1; all[place].focus({ preventScroll: true }); all[place].scrollIntoView({ block: "start" });
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || dialog.open) {
      if (event.key === "Escape" && event.target === input) input.blur();
      return;
    }
    const act = { "/": () => { section.scrollIntoView(); input.focus(); }, n: () => step(1), p: () => step(-1), t: toggle, "?": () => dialog.showModal(), Escape: () => { panel.hidden = true; setHash({ t: null }, true); } }[event.key];
    if (act !== undefined) { event.preventDefault(); act(); }
  });
  apply(false);
  follow();
  document.documentElement.dataset.ready = "true";
  setTimeout(() => {  // the table works before the overviews are counted
    for (const make of [bv.layoutsSection, bv.coverageSection, bv.mutationSection]) addSection(make(data));
    holder.remove();
    document.documentElement.dataset.complete = "true";
  }, 0);
};
bv.copyButton = function (text, label) {
  const button = bv.el("button", { type: "button" }, label);
  button.addEventListener("click", () => bv.copy(text()));
  return button;
};
bv.replay = (text) => bv.el("div", { class: "replay" }, bv.el("pre", { tabindex: "0" }, text), bv.copyButton(() => text, "Copy"));
bv.copy = async function (text) {
  let done = false;
  try { await navigator.clipboard.writeText(text); done = true; } catch (error) {
    const area = bv.el("textarea", { class: "sr", "aria-hidden": "true" });
    area.value = text; document.body.append(area); area.select();
    try { done = document.execCommand("copy"); } catch (later) { done = false; }
    area.remove();
  }
  const toast = bv.el("div", { class: "toast", role: "status" }, done ? "Copied" : "The browser does not allow copying here");
  document.body.append(toast);
  setTimeout(() => toast.remove(), 1600);
};
bv.issueText = function (article, facts) {
  const fence = "```", replay = article.querySelector(".replay pre"), lines = ["**" + article.querySelector("h3").textContent.replace(/^(BV\d+|[A-Z]+)/, "$1: ") + "**", ""];
  if (facts !== null) lines.push(fence + "text", facts.textContent.replaceAll(fence, "'''").trimEnd(), fence, "");
  const tails = article.querySelector("dl.tails");
  if (tails !== null) { const words = [...tails.children]; for (let i = 0; i + 1 < words.length; i += 2) lines.push("- " + words[i].textContent + ": " + words[i + 1].textContent); }
  if (replay !== null) lines.push("", fence + "sh", replay.textContent, fence);
  return lines.join("\n") + "\n";
};
bv.csvCell = function (text) {
  const safe = /^[=+\-@\t\r]/.test(text) ? "'" + text : text;
  return /[",\r\n']/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
};
bv.saveCsv = function (data, rows) {
  const lines = ["id,outcome,code,claim,kind,layout,evidence,cases,refuted_cases,megatron,hf,title"];
  for (const i of rows) lines.push([data.id(i), data.outcome(i), data.code(i), data.claim(i), data.kind(i), data.layout(i), data.evidence(i).replaceAll("-", ""), String(data.cases(i)), String(data.refuted(i)), data.megatron(i), data.hf(i).join(" "), data.title(i)].map(bv.csvCell).join(","));
  const link = bv.el("a", { href: URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" })), download: "verdicts.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};
bv.keysDialog = function () {
  const list = bv.el("table", {}), body = bv.el("tbody", {});
  for (const [key, text] of [["/", "filter"], ["n, p", "next or previous finding"], ["j, k", "rows of the table, when it has the focus"], ["Enter", "open a row"], ["Esc", "close"], ["t", "theme"], ["?", "this list"]]) {
    body.append(bv.el("tr", {}, bv.el("th", { scope: "row" }, bv.el("kbd", {}, key)), bv.el("td", {}, text)));
  }
  list.append(body);
  const close = bv.el("button", { type: "button" }, "Close"), dialog = bv.el("dialog", { "aria-label": "keys" }, bv.el("h2", {}, "Keys"), list, close);
  close.addEventListener("click", () => dialog.close());
  return dialog;
};
if (typeof document !== "undefined") bv.start();
if (typeof module !== "undefined") module.exports = bv;
