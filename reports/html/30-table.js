// A table that holds a screenful of rows, whatever the number of verdicts.
bv.columns = [
  { key: "outcome", label: "Outcome", by: (d, i) => -bv.weight[d.outcome(i)], cell: (d, i) => bv.signs[d.outcome(i)] + " " + d.outcome(i), cls: (d, i) => "cell o-" + d.outcome(i) },
  { key: "claim", label: "Claim", by: (d, i) => d.claim(i), cell: (d, i) => d.claim(i), cls: () => "cell c-claim" },
  { key: "name", label: "Name", by: (d, i) => d.subject(i), cell: (d, i) => d.subject(i), cls: () => "cell name" },
  { key: "kind", label: "Kind", by: (d, i) => d.kind(i), cell: (d, i) => d.kind(i), cls: () => "cell c-rule" },
  { key: "layout", label: "Layout", by: (d, i) => d.layout(i), cell: (d, i) => d.layout(i), cls: () => "cell" },
  { key: "evidence", label: "Evidence", by: (d, i) => d.evidence(i), cell: (d, i) => d.evidence(i), cls: () => "cell name c-ev" },
  { key: "cases", label: "Cases", by: (d, i) => -d.cases(i), cell: (d, i) => bv.thousands(d.cases(i)), cls: () => "cell num-cell c-cases" },
];
bv.heightMax = 8000000;  // taller elements vanish in some browsers
bv.Table = class {
  constructor(data, open) {
    this.data = data; this.open = open; this.sort = null; this.down = false; this.pool = []; this.focus = 0;
    this.rows = Array.from({ length: data.count }, (_, i) => i);
    this.shown = this.rows;
    this.body = bv.el("div", { class: "body", role: "rowgroup", tabindex: "-1" });
    this.space = bv.el("div", { role: "presentation" });
    this.body.append(this.space);
    this.heads = bv.columns.map((column) => {
      const button = bv.el("button", { type: "button" }, column.label);
      button.addEventListener("click", () => this.sortBy(column));
      return bv.el("div", { role: "columnheader", class: "cell" + column.cls(data, 0).replace(/^cell( o-\S+)?( name)?/, ""), "aria-sort": "none" }, button);
    });
    this.node = bv.el("div", { class: "grid card", role: "grid", "aria-label": "verdicts", "aria-colcount": bv.columns.length, "aria-rowcount": data.count + 1 },
      bv.el("div", { role: "rowgroup", class: "head" }, bv.el("div", { role: "row", class: "grow-row", "aria-rowindex": 1 }, ...this.heads)), this.body);
    this.emptyText = bv.el("div", { role: "gridcell", class: "empty" });
    this.empty = bv.el("div", { role: "row" }, this.emptyText);
    this.body.addEventListener("scroll", () => this.later(), { passive: true });
    this.body.addEventListener("keydown", (event) => this.key(event));
    this.body.addEventListener("click", (event) => { const row = event.target.closest(".row"); if (row) this.choose(Number(row.dataset.place)); });
    this.rowHeight = matchMedia("(pointer: coarse)").matches ? 44 : 32;
    addEventListener("resize", () => this.draw());
    this.layoutRows();
  }
  show(rows) { this.shown = rows; this.focus = 0; this.body.scrollTop = 0; this.applySort(); }
  sortBy(column) {
    this.down = this.sort === column ? !this.down : false; this.sort = column;
    this.heads.forEach((head, i) => head.setAttribute("aria-sort", bv.columns[i] === column ? (this.down ? "descending" : "ascending") : "none"));
    this.applySort();
  }
  applySort() {
    if (this.sort !== null) {
      const keys = new Map(); const by = this.sort.by, d = this.data;
      for (const i of this.shown) keys.set(i, by(d, i));
      const sign = this.down ? -1 : 1;
      this.shown = [...this.shown].sort((a, b) => { const x = keys.get(a), y = keys.get(b); return x < y ? -sign : x > y ? sign : a - b; });
    }
    this.layoutRows();
  }
  layoutRows() {
    const full = this.shown.length * this.rowHeight;
    this.scale = full > bv.heightMax ? full / bv.heightMax : 1;
    this.space.style.height = Math.min(full, bv.heightMax) + "px";
    this.body.style.height = Math.max(120, Math.min(480, full + 2)) + "px";
    this.node.setAttribute("aria-rowcount", this.shown.length + 1);
    this.draw();
  }
  later() { if (!this.waiting) { this.waiting = true; requestAnimationFrame(() => { this.waiting = false; this.draw(); }); } }
  draw() {
    const height = this.body.clientHeight || 480, top = this.body.scrollTop;
    const first = Math.max(0, Math.floor(top * this.scale / this.rowHeight) - 4);
    const last = Math.min(this.shown.length, first + Math.ceil(height / this.rowHeight) + 10);
    while (this.pool.length < last - first) {
      const cells = bv.columns.map(() => bv.el("div", { role: "gridcell" }));
      const node = bv.el("div", { role: "row", class: "row grow-row", tabindex: "-1" }, ...cells);
      this.pool.push({ node, cells }); this.body.append(node);
    }
    this.pool.forEach((item, k) => {
      const place = first + k;
      if (place >= last) { item.node.hidden = true; item.node.style.display = "none"; return; }
      const i = this.shown[place];
      item.node.hidden = false; item.node.style.display = "";
      item.node.style.transform = "translateY(" + (place * this.rowHeight - top * this.scale + top) + "px)";
      item.node.dataset.place = place;
      item.node.setAttribute("aria-rowindex", place + 2);
      item.node.setAttribute("aria-selected", String(i === this.selected));
      item.node.tabIndex = place === this.focus ? 0 : -1;
      bv.columns.forEach((column, c) => {
        const text = column.cell(this.data, i), cell = item.cells[c];
        cell.className = column.cls(this.data, i);
        if (cell.textContent !== text) { cell.textContent = column.key === "name" ? bv.middle(text) : text; cell.title = column.key === "name" ? text : ""; }
      });
    });
    if (this.shown.length === 0) {
      this.emptyText.textContent = this.data.count === 0 ? "This run has no verdicts." : "No verdict matches the filter.";
      this.body.append(this.empty);
    } else this.empty.remove();
  }
  reveal(place) {
    const at = place * this.rowHeight / this.scale;
    if (at < this.body.scrollTop) this.body.scrollTop = at;
    else if (at + this.rowHeight > this.body.scrollTop + this.body.clientHeight) this.body.scrollTop = at + this.rowHeight - this.body.clientHeight;
    this.draw();
  }
  key(event) {
    const page = Math.floor(this.body.clientHeight / this.rowHeight);
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -this.shown.length, End: this.shown.length }[event.key];
    if (event.key === "Enter") { event.preventDefault(); this.choose(this.focus); return; }
    if (step === undefined || this.shown.length === 0 || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.focus = Math.max(0, Math.min(this.shown.length - 1, this.focus + step));
    this.reveal(this.focus);
    const item = this.pool.find((one) => Number(one.node.dataset.place) === this.focus);
    if (item) item.node.focus({ preventScroll: true });
  }
  choose(place) { if (place < this.shown.length) { this.focus = place; this.selected = this.shown[place]; this.draw(); this.open(this.selected); } }
};
bv.middle = (name) => (name.length <= 72 ? name : name.slice(0, 30) + "…" + name.slice(-41));
