// The page: asks for the state once a second, for pictures when there are new ones.
"use strict";

const EVERY_MS = 1000, HOUR_S = 3600, OLD_S = 30, PATIENCE_MS = 8000, CURVES_EVERY_MS = 5000, MOST_POINTS = 500;
const KINDS = ["raw", "denoised", "difference", "uncertainty"];
const WIDE = matchMedia("(min-width: 70rem)");
const key = new URLSearchParams(location.hash.slice(1)).get("key") || "";
const $ = (query, parent = document) => parent.querySelector(query);
const chosen = new Set(["raw", "denoised"]);
const camera = {azimuth: 0, elevation: 0, nearer: 1};
const curves = new Map();  // "plot/curve/kind" -> [times, values]
let state = null, lost = false, timer = 0, answeredAt = Date.now();
let since = 0, server = "", remembered = -1, drawnAt = 0;

// ---- asking

async function ask(path, options = {}) {
  const patience = new AbortController(), bell = setTimeout(() => patience.abort(), PATIENCE_MS);
  try {
    const response = await fetch(path, {...options, signal: patience.signal});
    if (!response.ok) throw new Error(await response.text());
    return options.method ? null : await response.json();
  } catch (error) {
    throw ["TypeError", "AbortError"].includes(error.name) ? new Error("the server does not answer") : error;
  } finally {
    clearTimeout(bell);
  }
}

async function look() {
  clearTimeout(timer);
  if (!document.hidden) {
    try {
      take(await ask(`state?since=${since}`));
      lost = false;
    } catch (error) {
      lost = error.message;
    }
    show();
  }
  clearTimeout(timer);
  timer = setTimeout(look, EVERY_MS);
}

function take(answer) {
  const gap = server && answer.server !== server;  // another server: it does not know what we have seen
  if (gap) for (const [times, values] of curves.values()) if (times.length) { times.push(times[times.length - 1] + 1e-3); values.push(null); }
  for (const [number, plot] of answer.plots.entries()) {
    for (const curve of plot.curves) {
      for (const kind of ["points", "low", "high"]) if (curve[kind]) remember(`${number}/${curve.title}/${kind}`, curve[kind], answer.at, since === 0);
    }
  }
  const newest = Math.max(0, ...[...curves.values()].map(([times]) => times[times.length - 1] || 0));
  // Devices answer one after the other: what came late is asked for again. The past of one that has just told it, or of
  // another server, is asked for as a whole.
  since = gap || answer.remembered !== remembered ? 0 : newest - 5;
  [server, remembered, state, answeredAt] = [answer.server, answer.remembered, answer, Date.now()];
}

function show() {
  $("main").classList.toggle("old", Boolean(lost));
  const line = $("#connection");
  line.className = lost ? "lost" : "";
  line.setAttribute("aria-live", lost ? "assertive" : "off");
  if (lost) {
    line.textContent = `${lost}${state ? `: what is shown is ${Math.round((Date.now() - answeredAt) / 1000)} s old` : ""}`;
    return;
  }
  if (!state) return;
  line.textContent = [state.accuracy, state.frozen && "frozen", state.source !== "denoiser" && `pictures are those of the ${state.source}`].filter(Boolean).join(" · ");
  showMembers();
  showOrders();
  showSlices();
  showSpace();
  showCurves();
  showJournal();
}

// Nodes are made anew only when what they show has changed: else nobody could point at them, or select their words.
function changed(node, made) {
  const text = JSON.stringify(made);
  if (node.dataset.made === text) return false;
  node.dataset.made = text;
  return true;
}

function showMembers() {
  if (!changed($("#members"), state.members)) return;
  $("#members").replaceChildren(...state.members.map(one => {
    const item = document.createElement("li");
    item.className = one.state || "gone";
    item.textContent = `${one.member} ${one.state || "missing"}`;
    item.title = one.status;
    if (["ALARM", "FAULT", ""].includes(one.state)) {  // what a finger cannot hover over
      const words = document.createElement("small");
      words.textContent = one.status;
      item.append(words);
    }
    return item;
  }));
}

// ---- orders

const mayOrder = () => state.orders && Boolean(key);

function showOrders() {
  $("#orders").hidden = !mayOrder();
  $("[data-order=freeze]").disabled = state.frozen;
  $("[data-order=thaw]").disabled = !state.frozen;
  if (state.answer && changed($("#answer"), state.answer)) tell(state.answer.text, state.answer.trouble);
}

function tell(text, trouble) {
  $("#answer").textContent = text;
  $("#answer").className = trouble ? "trouble" : "";
}

async function order(body) {
  tell("...", false);
  try {
    await ask("orders", {method: "POST", headers: {"X-Key": key}, body: JSON.stringify(body)});
  } catch (error) {
    tell(error.message, true);
  }
}

for (const button of document.querySelectorAll("[data-order]")) {
  button.addEventListener("click", () => {
    if (!button.dataset.asks || confirm(button.dataset.asks)) order({order: button.dataset.order});
  });
}

// ---- slices, flat

for (const kind of KINDS) {
  const button = document.createElement("button");
  button.textContent = kind;
  button.setAttribute("aria-pressed", chosen.has(kind));
  button.addEventListener("click", () => {
    if (!chosen.delete(kind)) chosen.add(kind);
    button.setAttribute("aria-pressed", chosen.has(kind));
    if (state && !lost) showSlices();
  });
  $("#kinds").append(button);
}

function showSlices() {
  const kinds = KINDS.filter(kind => chosen.has(kind)), has = (one, kind) => kind in one.groups;
  const wanted = WIDE.matches  // a column for each slice, or a row
    ? kinds.flatMap(kind => state.slices.filter(one => has(one, kind)).map(one => [one, kind]))
    : state.slices.flatMap(one => kinds.filter(kind => has(one, kind)).map(kind => [one, kind]));
  const columns = WIDE.matches ? Math.max(state.slices.length, 1) : Math.min(kinds.length, 2) || 1;
  $("#empty").textContent = wanted.length ? "" : state.empty;
  $("#slices").style.setProperty("--columns", columns);
  const figures = new Map([...document.querySelectorAll(".slice")].map(figure => [figure.dataset.name, figure]));
  const movable = new Set(), shown = [];
  for (const [one, kind] of wanted) {
    const name = `${one.name}/${kind}`, figure = figures.get(name) || newFigure(name, one.name);
    shown.push(figure);
    if (!figure.parentNode) $("#slices").append(figure);
    showPicture(figure, one, kind);
    $(".move", figure).hidden = !mayOrder() || movable.has(one.name);  // once for each slice
    movable.add(one.name);
  }
  for (const figure of figures.values()) if (!shown.includes(figure)) figure.remove();
  if (shown.some((figure, number) => figure !== $("#slices").children[number])) $("#slices").replaceChildren(...shown);
}

function newFigure(name, slice) {
  const figure = $("#slice").content.firstElementChild.cloneNode(true);
  figure.dataset.name = name;
  for (const button of figure.querySelectorAll("[data-pixels]")) {
    button.addEventListener("click", () => order({slice, pixels: Number(button.dataset.pixels)}));
  }
  return figure;
}

function showPicture(figure, one, kind) {
  const img = $("img", figure), levels = state.levels[one.groups[kind]], unit = state.units[one.groups[kind]];
  $(".frame", figure).style.borderColor = `rgb(${one.edge})`;
  img.alt = `slice ${one.name}, ${kind}`;
  const pixels = Math.min(2048, Math.max(64, Math.ceil((figure.clientWidth || 300) * devicePixelRatio / 64) * 64));
  const source = `slices/${encodeURIComponent(one.name)}/${kind}.png?longest=${pixels}&at=${one.at}&levels=${levels}`;
  // What stands below a picture is said when the picture is there, and of that one.
  replace(img, source, () => {
    figure.told = {one, kind, levels, unit};
    if (one.width_mm) {
      $(".bar i", figure).style.width = `${100 * one.bar_mm / one.width_mm}%`;
      $(".bar b", figure).textContent = `${Number(one.bar_mm.toPrecision(1))} mm`;
    }
    caption(figure);
  });
  caption(figure);
}

function caption(figure) {
  if (!figure.told) return;
  const {one, kind, levels, unit} = figure.told;
  const age = one.made ? state.at - one.made : null;
  $(".frame", figure).classList.toggle("old", age !== null && age > OLD_S);
  const text = [`${one.name} ${kind}`];
  if (one.quality !== undefined && kind !== "raw") text.push(`at least ${one.quality.toFixed(1)} dB less noise`);
  text.push(`frame ${one.frame_number ?? "?"}`);
  if (levels) text.push(`${levels.map(x => x.toPrecision(3)).join(" to ")} ${unit}`.trim());
  if (age === null) text.push("age not known");
  else if (age > OLD_S) text.push(`${Math.round(age)} s old`);
  $("figcaption", figure).textContent = text.join(" · ");
}

// A new picture replaces the old one when it is there; one at a time, the newest wish last.
function replace(img, source, told = () => {}) {
  if (img.dataset.wanted === source) return;
  img.dataset.wanted = source;
  img.told = told;
  if (img.dataset.loading) return;
  img.dataset.loading = "yes";
  const fresh = new Image();
  const done = worked => {
    clearTimeout(bell);
    fresh.onload = fresh.onerror = null;
    delete img.dataset.loading;
    if (worked) {
      img.src = fresh.src;
      img.dataset.shown = source;
      told();
    } else fresh.src = "";  // gives the connection back
    if (img.dataset.wanted !== source) {
      const next = img.dataset.wanted;
      img.dataset.wanted = "";
      replace(img, next, img.told);
    } else if (!worked) img.dataset.wanted = "";  // the next look tries again
  };
  const bell = setTimeout(() => done(false), PATIENCE_MS);
  fresh.onload = () => done(true);
  fresh.onerror = () => done(false);
  fresh.src = source;
}

// ---- in space

function showSpace() {
  const img = $("#space img");
  $("#space").hidden = !state.slices.length;
  if (!state.slices.length) return;
  const scale = Math.min(devicePixelRatio, 2);
  const [width, height] = [img.clientWidth, img.clientHeight].map(n => Math.max(16, Math.min(4096, Math.round(n * scale))));
  const newest = Math.max(...state.slices.map(one => one.at));
  const from = `azimuth=${camera.azimuth.toFixed(3)}&elevation=${camera.elevation.toFixed(3)}&nearer=${camera.nearer.toFixed(3)}`;
  replace(img, `space.png?width=${width}&height=${height}&${from}&at=${newest}&preview=${state.preview}&levels=${state.levels.attenuation}`);
}

function turn(across, down) {
  camera.azimuth -= across * 0.007;
  camera.elevation = Math.min(1.06, Math.max(-2.04, camera.elevation + down * 0.007));
  if (state && !lost) showSpace();
}

function approach(factor) {
  camera.nearer = Math.min(20, Math.max(0.2, camera.nearer * factor));
  if (state && !lost) showSpace();
}

const touches = new Map(), view = $("#space img");
view.addEventListener("pointerdown", event => {
  touches.set(event.pointerId, event);
  view.setPointerCapture(event.pointerId);
});
view.addEventListener("pointermove", event => {
  const before = touches.get(event.pointerId);
  if (!before) return;
  if (touches.size === 2) {
    const other = [...touches.values()].find(one => one.pointerId !== event.pointerId);
    const apart = one => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    approach(apart(event) / Math.max(apart(before), 1));
  } else turn(event.clientX - before.clientX, event.clientY - before.clientY);
  touches.set(event.pointerId, event);
});
for (const kind of ["pointerup", "pointercancel"]) view.addEventListener(kind, event => touches.delete(event.pointerId));
view.addEventListener("wheel", event => { event.preventDefault(); approach(event.deltaY < 0 ? 1.15 : 1 / 1.15); }, {passive: false});
view.addEventListener("dblclick", () => { Object.assign(camera, {azimuth: 0, elevation: 0, nearer: 1}); turn(0, 0); });
view.addEventListener("keydown", event => {
  const moves = {ArrowLeft: [20, 0], ArrowRight: [-20, 0], ArrowUp: [0, 20], ArrowDown: [0, -20]};
  if (moves[event.key]) { event.preventDefault(); turn(...moves[event.key]); }
  if (event.key === "+" || event.key === "-") approach(event.key === "+" ? 1.15 : 1 / 1.15);
});

// ---- curves

function remember(name, [times, values], now, whole) {
  let [allTimes, allValues] = curves.get(name) || [[], []];
  if (whole) {  // also what was before our points
    const points = new Map([...allTimes.map((at, number) => [at, allValues[number]]), ...times.map((at, number) => [at, values[number]])]);
    const sorted = [...points].sort((a, b) => a[0] - b[0]);
    [allTimes, allValues] = [sorted.map(([at]) => at), sorted.map(([, value]) => value)];
  } else {
    const last = allTimes[allTimes.length - 1] || 0;
    times.forEach((at, number) => { if (at > last) { allTimes.push(at); allValues.push(values[number]); } });
  }
  const old = allTimes.findIndex(at => at >= now - HOUR_S);
  if (old > 0) { allTimes.splice(0, old); allValues.splice(0, old); }
  curves.set(name, [allTimes, allValues]);
}

function showCurves() {
  const parent = $("#curves"), box = parent.getBoundingClientRect();
  while (parent.children.length < state.plots.length) {  // all before the first is drawn, which takes its width
    parent.append(Object.assign(document.createElement("div"), {className: "plot"}));
  }
  const long = Math.max(0, ...[...curves.values()].map(([times]) => times.length)) > 100;
  const unseen = drawnAt && (box.top > innerHeight || box.bottom < 0);
  if (unseen || (long && Date.now() - drawnAt < CURVES_EVERY_MS)) return;
  drawnAt = Date.now();
  state.plots.forEach((plot, number) => {
    Plotly.react(parent.children[number], traces(plot, number), layout(plot, number), {displayModeBar: false, responsive: true});
  });
}

// No more points than are seen; gaps stay.
function thinned([times, values]) {
  const step = Math.ceil(times.length / MOST_POINTS);
  const kept = times.map((at, number) => number).filter(number => number % step === 0 || values[number] === null || number === times.length - 1);
  return [kept.map(number => new Date(times[number] * 1000)), kept.map(number => values[number])];
}

function traces(plot, number) {
  return plot.curves.flatMap(curve => {
    const colour = `rgb(${curve.colour})`;
    const of = kind => { const [x, y] = thinned(curves.get(`${number}/${curve.title}/${kind}`) || [[], []]); return {x, y}; };
    const line = {...of("points"), name: curve.title, mode: "lines", line: {color: colour, width: 1.5}, hovertemplate: "%{y:.4g}"};
    if (!curve.low) return [line];
    const edge = {mode: "lines", line: {width: 0}, showlegend: false, hoverinfo: "skip"};
    return [{...edge, ...of("low")}, {...edge, ...of("high"), fill: "tonexty", fillcolor: `rgba(${curve.colour},0.22)`}, line];
  });
}

function layout(plot, number) {
  const title = plot.title + (plot.unit ? ` (${plot.unit})` : "");
  const jumps = state.jumps.map(([at]) => ({type: "line", x0: new Date(at * 1000), x1: new Date(at * 1000), yref: "paper", y0: 0, y1: 1, line: {color: "rgb(232,96,88)", dash: "dash", width: 1}}));
  const half = number === 0 ? [0.5, 1].map(level => ({type: "line", xref: "paper", x0: 0, x1: 1, y0: level, y1: level, line: {color: "rgba(170,170,175,0.5)", dash: "dot", width: 1}})) : [];
  return {
    title: {text: title, font: {size: 12}, y: 1, yanchor: "top", pad: {t: 6}}, margin: {l: 44, r: 8, t: 64, b: 26}, uirevision: "kept",
    paper_bgcolor: "#1d1f23", plot_bgcolor: "#1d1f23", font: {color: "#b8bcc4", size: 10},
    xaxis: {type: "date", gridcolor: "#33373d", nticks: 4, tickangle: 0}, yaxis: {type: plot.logarithmic ? "log" : "linear", gridcolor: "#33373d", nticks: 6},
    legend: {orientation: "h", y: 1, x: 0, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)", font: {size: 9}}, shapes: [...jumps, ...half],
  };
}

// ---- journal

function showJournal() {
  const list = $("#journal ol");
  if (!changed(list, state.journal)) return;
  list.replaceChildren(...state.journal.slice().reverse().map(one => {
    const item = document.createElement("li");
    item.textContent = `${new Date(one.at * 1000).toLocaleTimeString([], {hour12: false})}  ${one.text}`;
    if (one.trouble) item.className = "trouble";
    return item;
  }));
}

addEventListener("resize", () => { drawnAt = 0; show(); });
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  $("main").classList.add("old");  // until there is an answer of now
  look();
});
look();
