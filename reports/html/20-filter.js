// The language of the filter: words that all must hold; several values of one key: any of them.
bv.filterKeys = {
  s: ["outcome", (d, i, v) => d.outcome(i).toLowerCase().startsWith(v)],
  c: ["code", (d, i, v) => d.code(i).toLowerCase() === v || d.code(i).toLowerCase() === "bv" + v],
  k: ["kind", (d, i, v) => d.kind(i).toLowerCase() === v],
  q: ["claim", (d, i, v) => d.claim(i).toLowerCase() === v],
  x: ["layout", (d, i, v) => d.layout(i).toLowerCase() === v],
  l: ["layer", (d, i, v) => bv.numberIn(/layers\.(\d+)/g, d, i, v)],
  e: ["expert", (d, i, v) => bv.numberIn(/(?:experts\.|weight)(\d+)/g, d, i, v)],
  ev: ["evidence", (d, i, v) => (v.startsWith("-") ? !d.evidence(i).includes(v.slice(1).toUpperCase()) : d.evidence(i).includes(v.toUpperCase()))],
  is: ["is", (d, i, v) => bv.filterIs[v](d, i)],
};
bv.filterIs = {
  red: (d, i) => bv.weight[d.outcome(i)] >= 5,
  open: (d, i) => bv.weight[d.outcome(i)] === 3 || bv.weight[d.outcome(i)] === 4,
  green: (d, i) => bv.weight[d.outcome(i)] <= 1,
  waived: (d, i) => d.outcome(i) === "Waived",
  new: (d, i) => { const id = d.id(i); return d.raw.baseline !== null && d.raw.baseline.rows.some((row) => row[1] === id); },
};
bv.numberIn = function (pattern, d, i, v) {
  const range = /^(\d+)(?:\.\.(\d+))?$/.exec(v);
  if (range === null) return false;
  const low = Number(range[1]), high = range[2] === undefined ? low : Number(range[2]);
  for (const match of d.text(i).matchAll(pattern)) {
    const n = Number(match[1]);
    if (n >= low && n <= high) return true;
  }
  return false;
};
// A test of a row, or {error}.
bv.parseFilter = function (text) {
  const keys = new Map(), tests = [];
  const word = /\s*(!?)(?:"([^"]*)"|\/((?:[^\/\\]|\\.)*)\/(i?)|(\S+))/gy;
  let match;
  while ((match = word.exec(text)) !== null) {
    const negated = match[1] === "!";
    let test;
    if (match[2] !== undefined) {
      const exact = match[2].toLowerCase();
      test = (d, i) => d.megatron(i).toLowerCase() === exact || d.hf(i).some((name) => name.toLowerCase() === exact) || d.id(i).toLowerCase() === exact;
    } else if (match[3] !== undefined) {
      let pattern;
      try { pattern = new RegExp(match[3], "i"); } catch (error) { return { error: "/" + match[3] + "/ is not a regular expression" }; }
      test = (d, i) => pattern.test(d.text(i));
    } else {
      const plain = match[5].toLowerCase(), pair = /^([a-z]+):(.+)$/.exec(plain);
      if (pair !== null && !/\./.test(pair[1])) {
        const key = bv.filterKeys[pair[1]];
        if (!Object.hasOwn(bv.filterKeys, pair[1])) return { error: "there is no key " + pair[1] + ": " + Object.entries(bv.filterKeys).map(([k, v]) => k + " " + v[0]).join(", ") };
        if (pair[1] === "is" && !Object.hasOwn(bv.filterIs, pair[2])) return { error: "is: takes " + Object.keys(bv.filterIs).join(", ") };
        const value = pair[2];
        const one = (d, i) => key[1](d, i, value);
        if (negated) { tests.push((d, i) => !one(d, i)); continue; }
        if (!keys.has(pair[1])) keys.set(pair[1], []);
        keys.get(pair[1]).push(one);
        continue;
      }
      test = (d, i) => d.text(i).includes(plain);
    }
    tests.push(negated ? (d, i) => !test(d, i) : test);
  }
  for (const any of keys.values()) tests.push((d, i) => any.some((one) => one(d, i)));
  return { test: (d, i) => tests.every((one) => one(d, i)) };
};
