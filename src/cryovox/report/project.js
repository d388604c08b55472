"use strict";
// Project page: sort and filter the table, select tomograms, save subsets, and plot one column against another.
(() => {
const $ = id => document.getElementById(id);
const {id, columns, rows} = JSON.parse($("p-data").textContent);
const SVG = "http://www.w3.org/2000/svg";  // the name of the namespace: nothing is fetched
const body = $("p-table").tBodies[0], gallery = $("p-gallery");
const lines = [...body.rows], cards = [...gallery.children];
const names = lines.map(line => line.querySelector("th").textContent.trim());
const chosen = new Set(), store = "cryovox-project-" + id;
let order = rows.map((_, i) => i), drawn = 0;
try {
  for (const i of JSON.parse(localStorage.getItem(store) || "[]")) if (i < rows.length) chosen.add(i);
} catch { /* without storage, a selection lasts as long as the page */ }

// ---- selection -----------------------------------------------------------------------------------
const isShown = i => !lines[i].hidden;
function mark(i) {
  for (const one of [lines[i], cards[i]]) {
    one.classList.toggle("chosen", chosen.has(i));
    one.querySelector("input").checked = chosen.has(i);
  }
}
function changed(indices) {
  indices.forEach(mark);
  const count = chosen.size;
  $("p-status").textContent = count ? `${count} of ${rows.length} tomograms selected` : "no tomogram selected";
  try { localStorage.setItem(store, JSON.stringify([...chosen])); } catch { /* no storage */ }
  plot();
}
function choose(indices, value) {
  for (const i of indices) value(i) ? chosen.add(i) : chosen.delete(i);
  changed(indices);
}
for (const list of [lines, cards]) list.forEach((one, i) =>
  one.querySelector("input").addEventListener("change", event => choose([i], () => event.target.checked)));
const bind = (name, type, action) => $(name).addEventListener(type, action);
const shown = () => order.filter(isShown);
function byRule(value) {
  const column = +$("p-column").value, sense = +$("p-sense").value, limit = +$("p-value").value;
  choose(shown().filter(i => rows[i][column] != null && sense * (rows[i][column] - limit) >= 0), () => value);
}
bind("p-select", "click", () => byRule(true));
bind("p-unselect", "click", () => byRule(false));
bind("p-all", "click", () => choose(shown(), () => true));
bind("p-none", "click", () => choose([...rows.keys()], () => false));
bind("p-invert", "click", () => choose(shown(), i => !chosen.has(i)));
bind("p-save", "click", () => {
  const unique = [...new Set(order.filter(i => chosen.has(i)).map(i => names[i]))];
  if (!unique.length) {
    $("p-status").textContent = "Select a tomogram first.";
    return;
  }
  const file = $("p-name").value.trim() || "subset.txt", link = document.createElement("a");
  const text = `# ${unique.length} tomograms, selected on a page of cryovox report\n${unique.join("\n")}\n`;
  link.href = URL.createObjectURL(new Blob([text], {type: "text/plain"}));
  link.download = file;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  $("p-status").textContent = `${file}: ${unique.length} tomograms`;
});

// ---- table ---------------------------------------------------------------------------------------
const heads = [...$("p-table").tHead.rows[0].cells].slice(1), extra = heads.length - columns.length;
function compare(column) {
  if (column < extra) {
    const text = i => lines[i].cells[column + 1].textContent.trim();
    return (a, b) => text(a).localeCompare(text(b), undefined, {numeric: true});
  }
  const value = i => rows[i][column - extra];
  return (a, b) => value(a) - value(b);
}
heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
  const up = head.getAttribute("aria-sort") !== "ascending", by = compare(column), turn = up ? 1 : -1;
  const missing = i => column >= extra && rows[i][column - extra] == null;  // always last
  order.sort((a, b) => missing(a) - missing(b) || turn * by(a, b) || a - b);
  heads.forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...order.map(i => lines[i]));
  gallery.append(...order.map(i => cards[i]));
  plot();
}));
bind("p-filter", "input", () => {
  const part = $("p-filter").value.trim().toLowerCase();
  names.forEach((name, i) => { lines[i].hidden = cards[i].hidden = !name.toLowerCase().includes(part); });
  $("p-shown").textContent = part ? `${shown().length} of ${rows.length} shown` : "";
  plot();
});

// ---- trends --------------------------------------------------------------------------------------
function element(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
function ranks(values) {
  const sorted = values.map((value, i) => [value, i]).sort((a, b) => a[0] - b[0]), result = Array(values.length);
  for (let i = 0; i < sorted.length;) {
    let j = i;
    while (j < sorted.length && sorted[j][0] === sorted[i][0]) j += 1;
    for (let k = i; k < j; k++) result[sorted[k][1]] = (i + j - 1) / 2;
    i = j;
  }
  return result;
}
function correlation(points) {  // Spearman's
  const [a, b] = [0, 1].map(k => ranks(points.map(point => point[k])));
  const mean = values => values.reduce((x, y) => x + y, 0) / values.length, [ma, mb] = [mean(a), mean(b)];
  const sum = f => a.reduce((total, _, i) => total + f(a[i] - ma, b[i] - mb), 0);
  const scale = Math.sqrt(sum(x => x * x) * sum((_, y) => y * y));
  return scale ? sum((x, y) => x * y) / scale : NaN;
}
const W = 640, H = 300, LEFT = 62, BOTTOM = 42, TOP = 16, RIGHT = 18;
const short = value => Math.abs(value) >= 1000 ? value.toLocaleString(undefined, {maximumFractionDigits: 0})
  : String(+value.toPrecision(3));
const limits = values => {
  const low = Math.min(...values), high = Math.max(...values), margin = (high - low || Math.abs(high) || 1) * 0.05;
  return [low - margin, high + margin];
};
function ticks(low, high) {
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map(m => m * power).find(step => step >= rough), marks = [];
  for (let k = Math.ceil(low / size); k * size <= high; k++) marks.push(+(k * size).toPrecision(12));
  return marks;
}
function plot() {
  cancelAnimationFrame(drawn);
  drawn = requestAnimationFrame(() => {
    const cx = +$("p-x").value, cy = +$("p-y").value, places = new Map(order.map((i, at) => [i, at + 1]));
    const value = (i, column) => column < 0 ? places.get(i) : rows[i][column];
    const own = shown().filter(i => value(i, cx) != null && value(i, cy) != null);
    const xName = cx < 0 ? "order in the table" : columns[cx], yName = columns[cy];
    const caption = document.createElement("figcaption");
    if (!own.length) {
      caption.textContent = `No tomogram has both ${xName} and ${yName}.`;
      $("p-chart").replaceChildren(caption);
      return;
    }
    const [x0, x1] = limits(own.map(i => value(i, cx))), [y0, y1] = limits(own.map(i => value(i, cy)));
    const x = v => LEFT + (v - x0) / (x1 - x0) * (W - LEFT - RIGHT), y = v => H - BOTTOM - (v - y0) / (y1 - y0) * (H - BOTTOM - TOP);
    const rho = own.length > 3 ? correlation(own.map(i => [value(i, cx), value(i, cy)])) : NaN;
    const words = Number.isFinite(rho) ? `, rank correlation ${rho.toFixed(2)}` : "";
    const svg = element("svg", {viewBox: `0 0 ${W} ${H}`, role: "img",
      "aria-label": `${yName} against ${xName}, ${own.length} tomograms${words}`});
    for (const at of ticks(y0, y1))
      svg.append(element("line", {x1: LEFT, x2: W - RIGHT, y1: y(at), y2: y(at), stroke: "var(--line)"}),
        element("text", {x: LEFT - 7, y: y(at) + 4, "text-anchor": "end"}, short(at)));
    for (const at of ticks(x0, x1))
      svg.append(element("text", {x: x(at), y: H - BOTTOM + 17, "text-anchor": "middle"}, short(at)));
    svg.append(element("text", {x: (LEFT + W - RIGHT) / 2, y: H - 7, "text-anchor": "middle"}, xName),
      element("text", {x: -(TOP + H - BOTTOM) / 2, y: 14, transform: "rotate(-90)", "text-anchor": "middle"}, yName));
    for (const i of own) {
      const dot = element("circle", {cx: x(value(i, cx)), cy: y(value(i, cy)), r: 5, class: chosen.has(i) ? "chosen" : ""},
        element("title", {}, `${names[i]}: ${xName} ${short(value(i, cx))}, ${yName} ${short(value(i, cy))}`));
      dot.addEventListener("click", () => choose([i], () => !chosen.has(i)));
      svg.append(dot);
    }
    caption.textContent = `${yName} against ${xName}: ${own.length} tomograms${words}. Filled points are selected; click one to select it.`;
    $("p-chart").replaceChildren(svg, caption);
  });
}
for (const name of ["p-x", "p-y"]) bind(name, "change", plot);

// ---- start ---------------------------------------------------------------------------------------
for (const name of ["p-rule", "p-files", "p-search", "p-trends"]) $(name).hidden = false;
$("p-y").value = "0";
changed([...rows.keys()]);
document.documentElement.dataset.viewer = "ready";
})();
