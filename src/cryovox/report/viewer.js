"use strict";
// Slice viewer of the picking report: slices with layers, live thresholds, and keep or reject for picks.
(() => {
const $ = id => document.getElementById(id);
const data = JSON.parse($("v-data").textContent);
const SVG = "http://www.w3.org/2000/svg";  // the name of the namespace: nothing is fetched
const PAGE = innerWidth < 640 ? 24 : 48, CACHE = 24;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const percent = value => value == null ? "–" : (100 * value).toFixed(value > 0.995 || value < 0.1 ? 1 : 0) + " %";

// ---- state -------------------------------------------------------------------------------------
let tomogram = data.tomograms[0];
let plane = 0, zoom = 1, centerX = 0, centerY = 0, selected = -1, page = 0, listed = [];
let thresholds = data.tomograms.map(one => one.species.map(kind => kind.threshold));
let hidden = data.tomograms.map(one => one.species.map(() => false));
const decisions = new Map();  // row of the lists -> 1 or 0
const history = [];
const store = "cryovox-report-" + data.id;
try {
  for (const [row, keep] of JSON.parse(localStorage.getItem(store) || "[]")) decisions.set(row, keep);
} catch { /* without storage, decisions last as long as the page */ }

const current = () => thresholds[data.tomograms.indexOf(tomogram)];
const unseen = () => hidden[data.tomograms.indexOf(tomogram)];
const picks = () => tomogram.picks;
const decisionOf = i => decisions.get(tomogram.first + i);
const isAbove = (i, one = tomogram, limits = current()) => one.picks.score[i] >= limits[one.picks.species[i]];
const isShown = i => !unseen()[picks().species[i]] && (isAbove(i) || decisionOf(i) !== undefined || i === selected);

// ---- images ------------------------------------------------------------------------------------
const cache = new Map();
async function pixels(key, base64, type) {
  if (cache.has(key)) {
    const known = cache.get(key);
    cache.delete(key);
    cache.set(key, known);
    return known;
  }
  const decoded = decode(base64, type);
  cache.set(key, decoded);
  if (cache.size > CACHE) cache.delete(cache.keys().next().value);
  return decoded;
}
async function decode(base64, type) {
  const bytes = Uint8Array.from(atob(base64), character => character.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], {type}));
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const gray = new Uint8Array(rgba.length / 4);
  for (let i = 0; i < gray.length; i++) gray[i] = rgba[4 * i];
  return {gray, width: canvas.width, height: canvas.height};
}
function painted(image, color) {
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d"), result = context.createImageData(image.width, image.height);
  const target = new Uint32Array(result.data.buffer);
  for (let i = 0; i < target.length; i++) target[i] = color[image.gray[i]];
  context.putImageData(result, 0, 0);
  return canvas;
}
function grayColors() {
  const low = +$("v-black").value, high = Math.max(low + 1, +$("v-white").value);
  const inverted = $("v-invert").checked !== (tomogram.sign > 0);
  return Uint32Array.from({length: 256}, (_, value) => {
    let level = Math.round(255 * clamp((value - low) / (high - low), 0, 1));
    if (inverted) level = 255 - level;
    return (255 << 24 | level << 16 | level << 8 | level) >>> 0;
  });
}
const rgb = color => [1, 3, 5].map(i => parseInt(color.slice(i, i + 2), 16));
function scoreColors(kind) {
  const {levels, low, high, species} = tomogram.scores, colors = new Uint32Array(256);
  for (let value = 1; value <= species.length * levels; value++) {
    const own = species[Math.floor((value - 1) / levels)];
    if (own < 0 || unseen()[own]) continue;
    const score = low + ((value - 1) % levels + 0.5) * (high - low) / levels;
    const [red, green, blue] = rgb(tomogram.species[own].color);
    const strength = kind === "labels" ? +(score >= current()[own])
      : 0.15 + 0.85 * (score - low) / (high - low);
    colors[value] = (Math.round(255 * strength) << 24 | blue << 16 | green << 8 | red) >>> 0;
  }
  return colors;
}

// ---- slice -------------------------------------------------------------------------------------
const canvas = $("v-canvas"), side = $("v-side");
const layer = {gray: null, scores: null, key: ""};
const zCenter = k => {
  const {depth} = tomogram.slices, last = Math.min((k + 1) * depth, tomogram.shape[0]) - 1;
  return (k * depth + last) / 2;
};
const view = () => {
  const [, ny, nx] = tomogram.shape;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  const scale = zoom * Math.min(width / nx, height / ny);
  return {width, height, scale, x: x => (x + 0.5 - centerX) * scale + width / 2,
    y: y => height / 2 - (y + 0.5 - centerY) * scale,
    back: (u, v) => [(u - width / 2) / scale + centerX - 0.5, (height / 2 - v) / scale + centerY - 0.5]};
};
function resize() {
  const [, ny, nx] = tomogram.shape, width = canvas.clientWidth;
  const height = Math.round(clamp(width * ny / nx, 160, Math.max(260, 0.78 * innerHeight)));
  const ratio = devicePixelRatio || 1;
  canvas.style.height = height + "px";
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const low = Math.round(clamp(width * tomogram.shape[0] / nx, 44, 110));
  side.style.height = low + "px";
  side.width = Math.round(width * ratio);
  side.height = Math.round(low * ratio);
  draw();
}
let drawing = 0;
async function load() {
  const own = ++drawing, number = data.tomograms.indexOf(tomogram), k = plane;
  const gray = await pixels(`${number} ${k}`, tomogram.slices.images[k], "image/jpeg");
  const kind = $("v-overlay").value, stored = tomogram.scores;
  const scores = kind && stored
    ? await pixels(`s${number} ${stored.first[k]}`, stored.images[stored.first[k]], "image/png") : null;
  if (own !== drawing) return;
  layer.gray = painted(gray, grayColors());
  layer.scores = scores && painted(scores, scoreColors(kind));
  draw();
  canvas.dataset.plane = k;
  document.documentElement.dataset.viewer = "ready";
}
function draw() {
  const context = canvas.getContext("2d"), ratio = canvas.width / Math.max(1, canvas.clientWidth), at = view();
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, at.width, at.height);
  if (layer.gray) {
    const size = tomogram.slices.pixel * at.scale;
    place(context, layer.gray, at.x(-0.5), at.y(-0.5), size, size > 8);
  }
  if (layer.scores) {
    const {pixel, start} = tomogram.scores;
    context.globalAlpha = $("v-opacity").value / 100;
    place(context, layer.scores, at.x(start), at.y(start), pixel * at.scale, true);
    context.globalAlpha = 1;
  }
  if ($("v-lamella").checked && tomogram.lamella) drawLamella(context, at);
  if ($("v-picks").checked) drawPicks(context, at);
  drawScaleBar(context, at);
  drawSide();
}
function place(context, image, x, y, size, sharp) {
  context.save();
  context.imageSmoothingEnabled = !sharp;
  context.translate(x, y);
  context.scale(size, -size);
  context.drawImage(image, 0, 0);
  context.restore();
}
// The part of a slice outside a face of the sample is hatched.
function drawLamella(context, at) {
  const z = zCenter(plane), [, ny, nx] = tomogram.shape;
  for (const [name, sign] of [["lower", 1], ["upper", -1]]) {
    const face = tomogram.lamella[name];
    if (!face) continue;
    const height = (x, y) => sign * (z - face[0] - face[1] * y - face[2] * x);  // below 0 outside
    const corners = [[0, 0], [nx - 1, 0], [nx - 1, ny - 1], [0, ny - 1]], outside = [];
    corners.forEach(([x0, y0], i) => {
      const [x1, y1] = corners[(i + 1) % 4], a = height(x0, y0), b = height(x1, y1);
      if (a < 0) outside.push([x0, y0]);
      if (a < 0 !== b < 0) outside.push([x0 + (x1 - x0) * a / (a - b), y0 + (y1 - y0) * a / (a - b)]);
    });
    if (outside.length < 3) continue;
    context.save();
    context.beginPath();
    outside.forEach(([x, y]) => context.lineTo(at.x(x), at.y(y)));
    context.closePath();
    context.fillStyle = "rgba(230, 159, 0, .12)";
    context.fill();
    context.strokeStyle = "#e69f00";
    context.lineWidth = 1.5;
    context.setLineDash([6, 4]);
    context.stroke();
    context.clip();
    context.setLineDash([]);
    context.globalAlpha = .35;
    context.beginPath();
    for (let u = -at.height; u < at.width; u += 14) {
      context.moveTo(u, at.height);
      context.lineTo(u + at.height, 0);
    }
    context.lineWidth = 1;
    context.stroke();
    context.restore();
  }
}
function drawPicks(context, at) {
  const {x, y, z, species} = picks(), here = zCenter(plane), half = tomogram.slices.depth / 2;
  for (let i = x.length - 1; i >= 0; i--) {
    if (!isShown(i)) continue;
    const kind = tomogram.species[species[i]], reach = kind.radius / tomogram.voxel;
    const squared = reach * reach - Math.max(0, Math.abs(z[i] - here) - half + 0.5) ** 2;
    if (squared <= 0) continue;
    const radius = Math.max(2, Math.sqrt(squared) * at.scale), u = at.x(x[i]), v = at.y(y[i]);
    if (u < -radius || v < -radius || u > at.width + radius || v > at.height + radius) continue;
    const decision = decisionOf(i);
    const ring = (color, width, dash) => {
      context.setLineDash(dash);
      context.strokeStyle = color;
      context.lineWidth = width;
      context.beginPath();
      context.arc(u, v, radius, 0, 2 * Math.PI);
      context.stroke();
    };
    context.save();
    if (!isAbove(i) && decision === undefined) context.globalAlpha = .6;
    const dash = decision === 0 ? [4, 4] : [];
    ring("rgba(0, 0, 0, .7)", i === selected ? 7 : 4, dash);
    if (i === selected) ring("#fff", 5, []);
    ring(kind.color, i === selected ? 3 : 2, dash);
    context.fillStyle = context.strokeStyle = kind.color;
    context.setLineDash([]);
    if (decision === 1) {
      context.beginPath();
      context.arc(u, v, 3.5, 0, 2 * Math.PI);
      context.fill();
    } else if (decision === 0) {
      context.beginPath();
      for (const s of [-1, 1]) {
        context.moveTo(u - 5, v - 5 * s);
        context.lineTo(u + 5, v + 5 * s);
      }
      context.stroke();
    }
    context.restore();
  }
}
function drawScaleBar(context, at) {
  const pixel = tomogram.voxel / at.scale;  // Å per pixel
  const lengths = [1, 2, 3, 4, 5].flatMap(e => [1, 2, 5].map(m => m * 10 ** e));
  const length = lengths.filter(n => n / pixel < 0.25 * at.width).pop();
  if (!length) return;
  const width = length / pixel, y = at.height - 14, text = length < 100 ? `${length} Å` : `${length / 10} nm`;
  context.font = "600 12px system-ui, sans-serif";
  const box = Math.max(width, context.measureText(text).width) + 14;
  context.fillStyle = "rgba(0, 0, 0, .62)";
  context.fillRect(8, y - 22, box, 30);
  context.fillStyle = "#fff";
  context.fillRect(15, y, width, 3);
  context.fillText(text, 15, y - 7);
}
function drawSide() {
  const context = side.getContext("2d"), width = side.clientWidth, height = side.clientHeight;
  const ratio = side.width / Math.max(1, width), [nz, ny, nx] = tomogram.shape;
  const u = x => (x + 0.5) / nx * width, v = z => height - (z + 0.5) / nz * height;
  const css = getComputedStyle(document.documentElement);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const {x, z, species} = picks();
  for (let i = x.length - 1; i >= 0; i--) {
    if (!isShown(i) || decisionOf(i) === 0) continue;
    context.fillStyle = tomogram.species[species[i]].color;
    context.fillRect(u(x[i]) - 1.5, v(z[i]) - 1.5, i === selected ? 7 : 3, i === selected ? 7 : 3);
  }
  if ($("v-lamella").checked && tomogram.lamella) {
    context.strokeStyle = "#b87800";
    context.setLineDash([5, 4]);
    for (const face of [tomogram.lamella.lower, tomogram.lamella.upper]) {
      if (!face) continue;
      const at = x => v(face[0] + face[1] * (ny - 1) / 2 + face[2] * x);
      context.beginPath();
      context.moveTo(u(0), at(0));
      context.lineTo(u(nx - 1), at(nx - 1));
      context.stroke();
    }
    context.setLineDash([]);
  }
  context.strokeStyle = css.getPropertyValue("--accent");
  context.lineWidth = 2;
  context.beginPath();
  context.moveTo(0, v(zCenter(plane)));
  context.lineTo(width, v(zCenter(plane)));
  context.stroke();
  context.fillStyle = css.getPropertyValue("--soft");
  context.font = "11px system-ui, sans-serif";
  context.fillText("side view: x, z", 6, 13);
}
function setPlane(k, quiet = false) {
  plane = clamp(Math.round(k), 0, tomogram.slices.images.length - 1);
  const z = zCenter(plane), first = plane * tomogram.slices.depth;
  const last = Math.min(first + tomogram.slices.depth, tomogram.shape[0]) - 1;
  const range = first === last ? `${first}` : `${first}–${last}`;
  $("v-z").value = plane;
  $("v-z").setAttribute("aria-valuetext", `z ${range} of ${tomogram.shape[0] - 1}`);
  $("v-z-text").textContent = `z ${range} of ${tomogram.shape[0] - 1}, ${(z * tomogram.voxel / 10).toFixed(0)} nm`;
  canvas.setAttribute("aria-label", `Slice at z ${range} of ${tomogram.name}`);
  drawSide();
  if (!quiet) load();
}
function setZoom(value, u, v) {
  const [, ny, nx] = tomogram.shape, before = view(), next = clamp(value, 1, 30);
  const [x, y] = before.back(u ?? before.width / 2, v ?? before.height / 2);
  zoom = next;
  const after = view();
  centerX += x - after.back(u ?? after.width / 2, v ?? after.height / 2)[0];
  centerY += y - after.back(u ?? after.width / 2, v ?? after.height / 2)[1];
  move(0, 0);
  $("v-scale").textContent = `${zoom.toFixed(1)}×; ${scaleText()}`;
  canvas.classList.toggle("zoomed", zoom > 1);
}
function scaleText() {
  const {pixel, depth} = tomogram.slices, size = n => (n * tomogram.voxel).toPrecision(3);
  return `stored pixels of ${+size(pixel)} Å, slices of ${+size(depth)} Å`;
}
function move(dx, dy) {
  const [, ny, nx] = tomogram.shape;
  const limit = (center, size) => clamp(center, 0.5 * size / zoom, size - 0.5 * size / zoom);
  centerX = limit(centerX + dx, nx);
  centerY = limit(centerY + dy, ny);
  draw();
}

// ---- mouse, touch and keys -----------------------------------------------------------------------
const fingers = new Map();
let dragged = false, spread = 0;
const place2 = event => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
canvas.addEventListener("pointerdown", event => {
  fingers.set(event.pointerId, place2(event));
  dragged = false;
  spread = 0;
  if (zoom > 1 || fingers.size > 1) canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", event => {
  if (!fingers.has(event.pointerId)) return;
  const [u, v] = place2(event), [u0, v0] = fingers.get(event.pointerId), {scale} = view();
  if (Math.hypot(u - u0, v - v0) > 3) dragged = true;
  if (!dragged) return;
  fingers.set(event.pointerId, [u, v]);
  if (fingers.size === 2) {
    const [[a, b], [c, d]] = [...fingers.values()], wide = Math.hypot(a - c, b - d);
    if (spread) setZoom(zoom * wide / spread, (a + c) / 2, (b + d) / 2);
    spread = wide;
  } else if (zoom > 1) move((u0 - u) / scale, (v - v0) / scale);
});
const lift = event => fingers.delete(event.pointerId);
canvas.addEventListener("pointercancel", lift);
canvas.addEventListener("pointerup", event => {
  if (fingers.size === 1 && fingers.has(event.pointerId) && !dragged) select(nearest(...place2(event)), false);
  lift(event);
});
canvas.addEventListener("touchmove", event => { if (event.touches.length > 1) event.preventDefault(); }, {passive: false});
function nearest(u, v) {
  const {x, y, z, species} = picks(), at = view(), here = zCenter(plane);
  let best = -1, least = Infinity;
  for (let i = 0; i < x.length; i++) {
    const reach = tomogram.species[species[i]].radius / tomogram.voxel;
    if (!isShown(i) || Math.abs(z[i] - here) > reach + tomogram.slices.depth / 2) continue;
    const distance = Math.hypot(at.x(x[i]) - u, at.y(y[i]) - v);
    if (distance < Math.max(12, reach * at.scale) && distance < least) [best, least] = [i, distance];
  }
  return best;
}
let turned = 0;
canvas.addEventListener("wheel", event => {
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    setZoom(zoom * Math.exp(-event.deltaY / 300), ...place2(event));
  } else if (document.activeElement === canvas) {
    event.preventDefault();
    turned += event.deltaY / (event.deltaMode ? 3 : 60);
    const steps = Math.trunc(turned);
    turned -= steps;
    if (steps) setPlane(plane - steps);
  }
}, {passive: false});
const moveBy = part => {
  const {width, height, scale} = view();
  return part * Math.min(width, height) / scale;
};
const keys = {
  ArrowUp: () => setPlane(plane + 1), ArrowDown: () => setPlane(plane - 1),
  PageUp: () => setPlane(plane + 10), PageDown: () => setPlane(plane - 10),
  Home: () => setPlane(0), End: () => setPlane(Infinity),
  ArrowRight: () => step(1), ArrowLeft: () => step(-1),
  "+": () => setZoom(zoom * 1.4), "=": () => setZoom(zoom * 1.4), "-": () => setZoom(zoom / 1.4), 0: () => fit(),
  p: () => flip("v-picks"), b: () => flip("v-lamella"), i: () => flip("v-invert"),
  o: () => {
    const box = $("v-overlay");
    box.selectedIndex = (box.selectedIndex + 1) % box.options.length;
    load();
  },
};
const shifted = {
  ArrowUp: () => move(0, moveBy(0.1)), ArrowDown: () => move(0, -moveBy(0.1)),
  ArrowRight: () => move(moveBy(0.1), 0), ArrowLeft: () => move(-moveBy(0.1), 0),
};
const deciding = {k: () => decideSelected(1), r: () => decideSelected(0), c: () => decideSelected(undefined), u: () => undo()};
function press(event, ...tables) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = tables.map(table => table[name]).find(Boolean);
  if (!action) return;
  event.preventDefault();
  action();
}
canvas.addEventListener("keydown", event => press(event, ...(event.shiftKey ? [shifted] : []), deciding, keys));
function flip(id) {
  $(id).checked = !$(id).checked;
  $(id).dispatchEvent(new Event("change"));
}
function fit() {
  const [, ny, nx] = tomogram.shape;
  [centerX, centerY] = [nx / 2, ny / 2];
  setZoom(1);
}
side.addEventListener("pointerdown", event => {
  const jump = e => {
    const box = side.getBoundingClientRect(), z = (1 - (e.clientY - box.top) / box.height) * tomogram.shape[0];
    setPlane(Math.floor(z / tomogram.slices.depth));
  };
  jump(event);
  side.setPointerCapture(event.pointerId);
  side.onpointermove = jump;
  side.onpointerup = side.onpointercancel = () => { side.onpointermove = null; };
});

// ---- picks ---------------------------------------------------------------------------------------
function select(i, jump = true) {
  selected = i;
  if (i >= 0 && jump) {
    setPlane(Math.floor((picks().z[i] + 0.5) / tomogram.slices.depth));
    if (zoom > 1) move(picks().x[i] + 0.5 - centerX, picks().y[i] + 0.5 - centerY);
  }
  draw();
  describe();
  for (const item of $("v-thumbs").children) item.classList.toggle("selected", +item.dataset.pick === i);
}
const word = i => ({1: "kept", 0: "rejected"})[decisionOf(i)] ?? (isAbove(i) ? "no decision" : "below the threshold");
function describe() {
  const {x, y, z, species, score, probability} = picks(), i = selected, none = i < 0;
  for (const id of ["v-keep", "v-reject", "v-clear"]) $(id).disabled = none;
  $("v-keep").setAttribute("aria-pressed", !none && decisionOf(i) === 1);
  $("v-reject").setAttribute("aria-pressed", !none && decisionOf(i) === 0);
  if (none) {
    $("v-pick-text").textContent = "Click a circle or a thumbnail to select a pick.";
    return;
  }
  const chance = probability?.[i] == null ? "" : `, probability ${probability[i].toFixed(2)}`;
  $("v-pick-text").textContent = `Pick ${i + 1} of ${x.length}: ${tomogram.species[species[i]].name}, score `
    + `${score[i].toFixed(3)}${chance}; x ${x[i].toFixed(1)}, y ${y[i].toFixed(1)}, z ${z[i].toFixed(1)} voxels; ${word(i)}`;
}
function step(by) {
  if (!listed.length) return;
  const at = listed.indexOf(selected);
  const next = at < 0 ? (by > 0 ? 0 : listed.length - 1) : clamp(at + by, 0, listed.length - 1);
  if (Math.floor(next / PAGE) !== page) {
    page = Math.floor(next / PAGE);
    fill();
  }
  select(listed[next]);
}
function decide(rows, keep) {
  const before = rows.map(row => [row, decisions.get(row)]);
  history.push(before);
  for (const row of rows) keep === undefined ? decisions.delete(row) : decisions.set(row, keep);
  remember();
}
function decideSelected(keep) {
  if (selected < 0) return;
  decide([tomogram.first + selected], keep);
  refreshItem(selected);
}
function undo() {
  for (const [row, keep] of history.pop() ?? []) keep === undefined ? decisions.delete(row) : decisions.set(row, keep);
  remember();
  for (const item of $("v-thumbs").children) refreshItem(+item.dataset.pick);
}
function remember() {
  $("v-undo").disabled = !history.length;
  try { localStorage.setItem(store, JSON.stringify([...decisions])); } catch { /* no storage */ }
  draw();
  describe();
  totals();
}

// ---- thumbnails ------------------------------------------------------------------------------------
let sheet = null;
function refreshItem(i) {
  const item = $("v-thumbs").querySelector(`[data-pick="${i}"]`);
  if (!item) return;
  const decision = decisionOf(i), [keep, reject] = item.querySelectorAll(".v-decide button");
  item.className = [{1: "kept", 0: "rejected"}[decision] ?? "", i === selected ? "selected" : ""].join(" ").trim();
  keep.setAttribute("aria-pressed", decision === 1);
  reject.setAttribute("aria-pressed", decision === 0);
  item.querySelector(".v-thumb").setAttribute("aria-label", label(i));
}
// The name begins with the visible text, so that speech control finds it.
const label = i => `${i + 1} ${picks().score[i].toFixed(2)}, number and score of a ${tomogram.species[picks().species[i]].name}, ${word(i)}`;
function choose() {
  const which = $("v-which").value, show = $("v-show").value, {score, species} = picks(), limits = current();
  const matches = {
    above: i => isAbove(i), below: i => !isAbove(i), all: () => true, kept: i => decisionOf(i) === 1,
    rejected: i => decisionOf(i) === 0, undecided: i => isAbove(i) && decisionOf(i) === undefined,
  }[show];
  listed = score.map((_, i) => i).filter(i => (which === "" || species[i] === +which) && matches(i));
  if ($("v-order").value === "worst") listed.reverse();
  if ($("v-order").value === "near") {
    const off = i => Math.abs(score[i] - limits[species[i]]);
    listed.sort((a, b) => off(a) - off(b));
  }
  page = clamp(page, 0, Math.max(0, Math.ceil(listed.length / PAGE) - 1));
  fill();
}
function fill() {
  const own = listed.slice(page * PAGE, (page + 1) * PAGE), last = Math.max(1, Math.ceil(listed.length / PAGE));
  $("v-page").textContent = `${listed.length} picks, page ${page + 1} of ${last}`;
  $("v-previous-page").disabled = page === 0;
  $("v-next-page").disabled = page >= last - 1;
  $("v-thumbs").replaceChildren(...own.map((i, position) => thumbnail(i, position === 0)));
}
function thumbnail(i, first) {
  const item = document.createElement("li"), image = document.createElement("button");
  item.dataset.pick = i;
  image.type = "button";
  image.className = "v-thumb";
  image.tabIndex = first ? 0 : -1;
  const picture = document.createElement("canvas"), caption = document.createElement("span");
  for (const text of [`${i + 1}`, picks().score[i].toFixed(2)]) {
    const part = document.createElement("b");
    part.textContent = text;
    part.style.fontWeight = caption.children.length ? 400 : 600;
    if (caption.children.length) caption.append(" ");  // the two are words of the name of the button
    caption.append(part);
  }
  image.append(picture, caption);
  image.addEventListener("click", () => select(i));
  const choice = document.createElement("div");
  choice.className = "v-decide";
  for (const [text, name, keep] of [["Keep", "v-keep", 1], ["Reject", "v-reject", 0]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = name;
    button.textContent = text;
    button.setAttribute("aria-label", `${text} pick ${i + 1}`);
    button.addEventListener("click", () => {
      decide([tomogram.first + i], decisionOf(i) === keep ? undefined : keep);
      refreshItem(i);
    });
    choice.append(button);
  }
  item.append(image, choice);
  item.addEventListener("focusin", () => roam(item));
  paint(picture, i);
  queueMicrotask(() => refreshItem(i));
  return item;
}
function paint(picture, i) {
  const {side: pixels, columns, count, reach} = tomogram.thumbnails, size = 2 * pixels;
  picture.width = picture.height = size;
  const context = picture.getContext("2d"), kind = tomogram.species[picks().species[i]];
  if (i < count && sheet) {
    context.save();
    context.translate(0, size);
    context.scale(1, -1);
    context.filter = tomogram.sign > 0 ? "invert(1)" : "none";
    context.drawImage(sheet, i % columns * pixels, Math.floor(i / columns) * pixels, pixels, pixels, 0, 0, size, size);
    context.restore();
  } else {
    context.fillStyle = "#444";
    context.font = "11px system-ui, sans-serif";
    context.fillText("see the slice", 12, size / 2);
  }
  for (const [color, width] of [["rgba(0, 0, 0, .55)", 3.5], [kind.color, 1.8]]) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.setLineDash([5, 5]);
    context.beginPath();
    context.arc(size / 2, size / 2, size / 2 / reach, 0, 2 * Math.PI);
    context.stroke();
  }
}
function roam(item) {
  for (const other of $("v-thumbs").querySelectorAll(".v-thumb")) other.tabIndex = -1;
  item.querySelector(".v-thumb").tabIndex = 0;
  if (selected !== +item.dataset.pick) select(+item.dataset.pick);
}
$("v-thumbs").addEventListener("keydown", event => {
  const items = [...$("v-thumbs").children], at = items.indexOf(event.target.closest("li"));
  if (at < 0) return;
  const across = items.filter(item => item.offsetTop === items[0].offsetTop).length;
  const go = by => () => items[clamp(at + by, 0, items.length - 1)].querySelector(".v-thumb").focus();
  const judge = keep => () => {
    decideSelected(keep);
    go(1)();
  };
  press(event, {ArrowRight: go(1), ArrowLeft: go(-1), ArrowDown: go(across), ArrowUp: go(-across), Home: go(-items.length),
    End: go(items.length), k: judge(1), r: judge(0), c: () => decideSelected(undefined), u: () => undo()});
});
const turn = by => {
  page += by;
  fill();
  $("v-curate").scrollIntoView({block: "start"});
};

// ---- thresholds ------------------------------------------------------------------------------------
function expected(kind, threshold) {
  const curve = kind.curve;
  if (!curve.length || kind.particles == null) return null;
  if (threshold <= curve[0][0]) return {precision: curve[0][1], recall: curve[0][2]};
  const next = curve.findIndex(([score]) => score >= threshold);
  if (next < 0) return {precision: curve[curve.length - 1][1], recall: 0};
  const [a, b] = [curve[next - 1], curve[next]], part = (threshold - a[0]) / (b[0] - a[0]);
  return {precision: a[1] + part * (b[1] - a[1]), recall: a[2] + part * (b[2] - a[2])};
}
const noiseAbove = (kind, threshold) =>
  kind.noise && kind.noise.scale * kind.noise.scores.filter(score => score >= threshold).length;
function numbers(s) {
  const {score, species, hit} = picks(), threshold = current()[s], kind = tomogram.species[s];
  let count = 0, hits = 0;
  for (let i = 0; i < score.length; i++) if (species[i] === s && score[i] >= threshold) {
    count += 1;
    hits += hit ? hit[i] : 0;
  }
  return {count, hits: hit && hits, noise: noiseAbove(kind, threshold), ...(expected(kind, threshold) ?? {})};
}
function totals() {
  const kinds = tomogram.species, rows = kinds.map((_, s) => numbers(s)), sum = values => values.reduce((a, b) => a + b, 0);
  const count = sum(rows.map(row => row.count)), parts = [["picks", count.toLocaleString()]];
  const rated = kinds.map((kind, s) => [kind, rows[s]]).filter(([kind, row]) => row.precision != null);
  const likely = sum(rated.map(([, row]) => row.precision * row.count));
  const particles = sum(rated.map(([kind]) => kind.particles)), own = sum(rated.map(([, row]) => row.count));
  if (rated.length && own) parts.push(["expected precision", percent(likely / own)]);
  if (rated.length && particles > 0) parts.push(["expected recall", percent(Math.min(1, likely / particles))]);
  if (tomogram.truth != null && count) {
    const hits = sum(rows.map(row => row.hits));
    parts.push(["true precision", percent(hits / count)], ["true recall", percent(tomogram.truth ? hits / tomogram.truth : null)]);
  }
  if (kinds.some(kind => kind.noise)) parts.push(["expected in noise", sum(rows.map(row => row.noise ?? 0)).toFixed(0)]);
  const states = picks().score.map((_, i) => decisionOf(i));
  parts.push(["kept", states.filter(one => one === 1).length], ["rejected", states.filter(one => one === 0).length]);
  $("v-totals").replaceChildren(...parts.map(([name, value]) => {
    const box = document.createElement("div"), term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    box.append(term, text);
    return box;
  }));
  $("v-source").textContent = rated.length
    ? "Expected precision and recall are those of the calibrated model, before your decisions."
    : "There is no expected precision: the model is not calibrated, or picks in noise contradict it.";
  kinds.forEach((kind, s) => {
    const line = $(`v-numbers-${s}`), row = rows[s];
    if (!line) return;
    const words = [`${row.count} picks`];
    if (row.precision != null && row.count) words.push(`precision ${percent(row.precision)}`, `recall ${percent(row.recall)}`);
    if (row.hits != null && kind.truth != null) words.push(`${row.hits} of ${kind.truth} particles`);
    if (kind.noise) words.push(`${row.noise.toFixed(row.noise < 10 ? 1 : 0)} in noise`);
    line.textContent = words.join(", ");
  });
}
function speciesPanel() {
  const scores = s => picks().score.filter((_, i) => picks().species[i] === s), empty = [];
  const rows = tomogram.species.map((kind, s) => {
    const own = scores(s);
    if (kind.extended) return null;
    if (!own.length) {
      empty.push(kind.name);
      return null;
    }
    const least = Math.min(kind.threshold, own[own.length - 1]), most = Math.max(kind.threshold, own[0]);
    const low = Math.floor(least * 200) / 200, high = Math.ceil(most * 200) / 200;
    const box = document.createElement("div");
    box.className = "v-species";
    box.innerHTML = `<label class="v-name v-check"><input type="checkbox" checked><i></i><span></span></label>
      <div class="v-pair"><input type="range" step="any" id="v-range-${s}"><input type="number" class="v-number" step="any"
      id="v-at-${s}"></div><div class="v-numbers" id="v-numbers-${s}"></div>`;
    box.querySelector("i").style.background = kind.color;
    box.querySelector("span").textContent = kind.name;
    const [check, range, number] = box.querySelectorAll("input");
    check.checked = !unseen()[s];
    check.setAttribute("aria-label", `Show ${kind.name}`);
    range.setAttribute("aria-label", `Threshold of ${kind.name}`);
    number.setAttribute("aria-label", `Threshold of ${kind.name} as a number`);
    for (const input of [range, number]) [input.min, input.max] = [low, high];
    range.step = number.step = (high - low) > 0.2 ? 0.005 : "any";
    check.addEventListener("change", () => {
      unseen()[s] = !check.checked;
      load();
    });
    const set = (value, from) => {
      current()[s] = value;
      if (from !== range) range.value = value;
      if (from !== number) number.value = +value.toFixed(4);
      changed();
    };
    range.addEventListener("input", () => set(+range.value, range));
    number.addEventListener("change", () => { if (number.value !== "") set(clamp(+number.value, 0, 1e6), number); });
    range.value = current()[s];
    number.value = +current()[s].toFixed(4);
    return box;
  });
  const note = document.createElement("p");
  note.className = "v-numbers";
  note.textContent = empty.length ? `No candidates of ${empty.join(", ")}.` : "";
  $("v-species").replaceChildren(...rows.filter(Boolean), note);
}
let waiting = 0;
function changed() {
  totals();
  draw();
  describe();
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    choose();
    charts();
    if ($("v-overlay").value === "labels") load();
  }, 120);
}

// ---- charts ------------------------------------------------------------------------------------------
function element(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
const W = 420, H = 230, LEFT = 44, BOTTOM = 36, TOP = 14, RIGHT = 14;
function frame(label, xLabel, yLabel, [x0, x1], [y0, y1], yText) {
  const x = value => LEFT + (value - x0) / (x1 - x0 || 1) * (W - LEFT - RIGHT);
  const y = value => H - BOTTOM - (value - y0) / (y1 - y0 || 1) * (H - BOTTOM - TOP);
  const svg = element("svg", {viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label});
  for (let i = 0; i <= 4; i++) {
    const value = y0 + i * (y1 - y0) / 4, at = x0 + i * (x1 - x0) / 4;
    svg.append(element("line", {x1: LEFT, x2: W - RIGHT, y1: y(value), y2: y(value), stroke: "var(--line)"}),
      element("text", {x: LEFT - 6, y: y(value) + 4, "text-anchor": "end"}, yText(value)),
      element("text", {x: x(at), y: H - BOTTOM + 15, "text-anchor": "middle"}, String(+at.toFixed(2))));
  }
  svg.append(element("text", {x: (LEFT + W - RIGHT) / 2, y: H - 4, "text-anchor": "middle"}, xLabel),
    element("text", {x: -(TOP + H - BOTTOM) / 2, y: 12, transform: "rotate(-90)", "text-anchor": "middle"}, yLabel));
  return {svg, x, y};
}
function figure(svg, caption) {
  const box = document.createElement("figure"), text = document.createElement("figcaption");
  text.textContent = caption;
  box.append(svg, text);
  return box;
}
function chosen() {
  const which = $("v-which").value;
  return which === "" ? tomogram.species.map((_, s) => s) : [+which];
}
function histogram() {
  const {score, species} = picks(), kinds = chosen(), own = score.map((_, i) => i).filter(i => kinds.includes(species[i]));
  if (!own.length) return null;
  const values = own.map(i => score[i]), limits = kinds.map(s => current()[s]);
  const low = Math.min(...values, ...limits), high = Math.max(...values, low + 0.01), bins = 32, wide = (high - low) / bins;
  const bin = value => clamp(Math.floor((value - low) / wide), 0, bins - 1);
  const counts = Array.from({length: bins}, () => tomogram.species.map(() => 0)), noise = Array(bins).fill(0);
  for (const i of own) counts[bin(score[i])][species[i]] += 1;
  for (const s of kinds) for (const value of tomogram.species[s].noise?.scores ?? [])
    if (value >= low) noise[bin(value)] += tomogram.species[s].noise.scale;
  const tops = counts.map(one => one.reduce((a, b) => a + b, 0)), top = 4 * Math.ceil(Math.max(...tops, 1) * 1.02 / 4);
  const name = kinds.length === 1 ? tomogram.species[kinds[0]].name : "all species";
  const {svg, x, y} = frame(`Histogram of the scores of ${own.length} candidates of ${name}`, "score", "candidates",
    [low, high], [0, top], value => value.toFixed(0));
  counts.forEach((one, b) => {
    let base = 0;
    one.forEach((count, s) => {
      if (!count) return;
      const above = low + (b + 0.5) * wide >= current()[s];
      svg.append(element("rect", {x: x(low + b * wide) + 0.5, width: Math.max(1, x(low + wide) - x(low) - 1),
        y: y(base + count), height: y(base) - y(base + count), fill: tomogram.species[s].color,
        "fill-opacity": above ? 1 : 0.3, stroke: tomogram.species[s].color, "stroke-width": 0.7}));
      base += count;
    });
  });
  if (noise.some(Boolean)) {
    const points = noise.flatMap((value, b) => [low + b * wide, low + (b + 1) * wide].map(at => `${x(at)},${y(Math.min(value, top))}`));
    svg.append(element("polyline", {points: points.join(" "), fill: "none", stroke: "var(--ink)", "stroke-width": 1.6,
      "stroke-dasharray": "5 3"}));
  }
  for (const at of new Set(limits))
    svg.append(element("line", {x1: x(at), x2: x(at), y1: TOP, y2: H - BOTTOM, stroke: "var(--error)", "stroke-width": 1.6}));
  const more = noise.some(Boolean) ? " The dashed line is the noise control: candidates expected in noise of the same power, cut off at the top." : "";
  return figure(svg, `Scores of ${name}; pale bars are below the threshold (vertical line).${more}`);
}
function measured(kinds) {
  const {score, species, hit} = picks(), total = kinds.length === tomogram.species.length ? tomogram.truth
    : tomogram.species[kinds[0]].truth;
  if (!hit || !total) return null;
  const points = [];
  let count = 0, hits = 0;
  score.forEach((value, i) => {
    if (!kinds.includes(species[i])) return;
    count += 1;
    hits += hit[i];
    points.push([hits / total, hits / count]);
  });
  return points;
}
function precisionRecall() {
  const kinds = chosen(), truth = measured(kinds), only = kinds.length === 1 ? tomogram.species[kinds[0]] : null;
  const curve = only && only.particles != null && only.curve.length ? only.curve.map(([, p, r]) => [r, p]) : null;
  if (!truth && !curve) return null;
  const name = only ? only.name : "all species";
  const {svg, x, y} = frame(`Precision against recall of ${name}`, "recall", "precision", [0, 1], [0, 1], value => value.toFixed(2));
  const line = (points, attributes) => svg.append(element("polyline", {fill: "none", "stroke-width": 2.2,
    points: points.map(([recall, precision]) => `${x(recall)},${y(precision)}`).join(" "), ...attributes}));
  if (truth) line(truth, {stroke: "var(--accent)"});
  if (curve) line(curve, {stroke: "var(--warning)", "stroke-dasharray": "6 4"});
  const dot = (recall, precision, fill) => svg.append(element("circle", {cx: x(recall), cy: y(precision), r: 5, fill}));
  if (curve) {
    const now = expected(only, current()[kinds[0]]);
    dot(now.recall, now.precision, "var(--warning)");
  }
  if (truth) {
    const rows = kinds.map(numbers), count = rows.reduce((a, row) => a + row.count, 0), hits = rows.reduce((a, row) => a + row.hits, 0);
    const total = only ? only.truth : tomogram.truth;
    if (count) dot(hits / total, hits / count, "var(--accent)");
  }
  const words = [truth && "solid: measured with the known particles", curve && "dashed: expected by the calibrated model"];
  return figure(svg, `Precision and recall of ${name}; ${words.filter(Boolean).join("; ")}; dots: the threshold.`);
}
function charts() {
  $("v-charts").replaceChildren(...[histogram(), precisionRecall()].filter(Boolean));
}

// ---- files ---------------------------------------------------------------------------------------------
function save(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type}));
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
const say = text => { $("v-status").textContent = text; };
function curated(kind) {
  const {head, rows, columns} = data.lists[kind], own = [...decisions].sort(([a], [b]) => a - b);
  if (!own.length) return say("Keep or reject a pick first: the curated list holds the picks that you decided on.");
  const text = kind === "star"
    ? `${head}_keep #${columns + 1}\n${own.map(([row, keep]) => `${rows[row]}  ${keep}\n`).join("")}\n`
    : `${head.trimEnd()},keep\n${own.map(([row, keep]) => `${rows[row]},${keep}\n`).join("")}`;
  save(`curated.${kind}`, text, kind === "csv" ? "text/csv" : "text/plain");
  const kept = own.filter(([, keep]) => keep).length;
  say(`curated.${kind}: ${kept} kept and ${own.length - kept} rejected picks.`);
}
function keptRows() {
  const kept = [];
  data.tomograms.forEach((one, t) => one.picks.score.forEach((_, i) => {
    const decision = decisions.get(one.first + i);
    if (decision ?? isAbove(i, one, thresholds[t])) kept.push(one.first + i);
  }));
  return kept;
}
function saveKept() {
  const kept = keptRows(), {head, rows} = data.lists.star;
  if (!kept.length) return say("No pick is kept: lower the threshold, or keep picks.");
  save("kept.star", `${head}${kept.map(row => rows[row] + "\n").join("")}\n`, "text/plain");
  say(`kept.star: ${kept.length} picks.`);
}
function keepUndecided(indices) {
  const rows = indices.filter(i => decisionOf(i) === undefined).map(i => tomogram.first + i);
  if (rows.length) decide(rows, 1);
  for (const item of $("v-thumbs").children) refreshItem(+item.dataset.pick);
  say(`${rows.length} picks kept; Undo takes it back.`);
}

// ---- start ---------------------------------------------------------------------------------------------
const bind = (id, type, action) => $(id).addEventListener(type, action);
function resetContrast() {
  [$("v-black").value, $("v-white").value] = tomogram.slices.window;
  $("v-invert").checked = false;
  contrast();
}
function contrast() {
  for (const id of ["v-black", "v-white"]) $(`${id}-text`).textContent = $(id).value;
  load();
}
async function open(number) {
  tomogram = data.tomograms[number];
  selected = -1;
  page = 0;
  $("v-z").max = tomogram.slices.images.length - 1;
  $("v-which").replaceChildren(new Option("all", ""), 
    ...tomogram.species.flatMap((kind, s) => kind.extended ? [] : [new Option(kind.name, s)]));
  setPlane(tomogram.start, true);
  [$("v-black").value, $("v-white").value] = tomogram.slices.window;
  layer.gray = layer.scores = null;
  speciesPanel();
  resize();
  fit();
  contrast();
  describe();
  totals();
  sheet = null;
  choose();
  charts();
  if (tomogram.thumbnails.image) {
    const bytes = Uint8Array.from(atob(tomogram.thumbnails.image), character => character.charCodeAt(0));
    const own = await createImageBitmap(new Blob([bytes], {type: "image/jpeg"}));
    if (tomogram !== data.tomograms[number]) return;
    sheet = own;
    fill();
  }
}
bind("v-tomogram", "change", () => open(+$("v-tomogram").value));
bind("v-z", "input", () => setPlane(+$("v-z").value));
bind("v-in", "click", () => setZoom(zoom * 1.4));
bind("v-out", "click", () => setZoom(zoom / 1.4));
bind("v-fit", "click", fit);
for (const id of ["v-picks", "v-lamella"]) bind(id, "change", draw);
for (const id of ["v-black", "v-white"]) bind(id, "input", contrast);
bind("v-invert", "change", load);
bind("v-contrast", "click", resetContrast);
bind("v-overlay", "change", load);
const opacity = () => {
  $("v-opacity-text").textContent = `${$("v-opacity").value} %`;
  draw();
};
bind("v-opacity", "input", opacity);
bind("v-thresholds", "click", () => {
  thresholds[data.tomograms.indexOf(tomogram)] = tomogram.species.map(kind => kind.threshold);
  speciesPanel();
  changed();
});
bind("v-which", "change", () => {
  page = 0;
  choose();
  charts();
});
for (const id of ["v-show", "v-order"]) bind(id, "change", () => {
  page = 0;
  choose();
});
bind("v-keep", "click", () => decideSelected(1));
bind("v-reject", "click", () => decideSelected(0));
bind("v-clear", "click", () => decideSelected(undefined));
bind("v-next", "click", () => step(1));
bind("v-undo", "click", undo);
bind("v-previous-page", "click", () => turn(-1));
bind("v-next-page", "click", () => turn(1));
bind("v-keep-page", "click", () => keepUndecided(listed.slice(page * PAGE, (page + 1) * PAGE)));
bind("v-keep-all", "click", () => keepUndecided(picks().score.map((_, i) => i).filter(i => isAbove(i))));
bind("v-save-star", "click", () => curated("star"));
bind("v-save-csv", "click", () => curated("csv"));
bind("v-save-kept", "click", saveKept);
$("viewer").hidden = false;
opacity();
open(0);
new ResizeObserver(() => resize()).observe(canvas.parentElement);
})();
