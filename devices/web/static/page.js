// The page: asks for the state once a second, for pictures when there are new ones.
"use strict";

const EVERY_MS = 1000, HOUR_S = 3600, OLD_S = 30, PATIENCE_MS = 8000;
const KINDS = ["raw", "denoised", "difference", "uncertainty"];
const key = new URLSearchParams(location.hash.slice(1)).get("key") || "";
const WIDE = matchMedia("(min-width: 70rem)");
const $ = (query, parent = document) => parent.querySelector(query);
const chosen = new Set(["raw", "denoised"]);
const camera = {azimuth: 0, elevation: 0, nearer: 1};
const curves = new Map();  // "plot/curve/kind" -> [times, values]
let state = null, since = 0, remembered = 0, answeredAt = Date.now();

async function ask(path, options = {}) {
  const response = await fetch(path, {...options, signal: AbortSignal.timeout(PATIENCE_MS)});
  if (!response.ok) throw new Error(await response.text());
  return response;
}

async function look() {
  if (!document.hidden) {
    try {
      state = await (await ask(`state?since=${since}`)).json();
      answeredAt = Date.now();
      show();
    } catch (error) {
      const text = error instanceof TypeError || error.name === "TimeoutError" ? "the server does not answer" : error.message;
      const line = $("#connection");
      line.textContent = `${text}: what is shown is ${Math.round((Date.now() - answeredAt) / 1000)} s old`;
      line.className = "lost";
      document.querySelector("main").classList.add("old");
    }
  }
  setTimeout(look, EVERY_MS);
}

function show() {
  $("main").classList.remove("old");
  const line = $("#connection");
  line.className = "";
  line.textContent = state.accuracy + (state.source === "denoiser" ? "" : ` · pictures are those of the ${state.source}`);
  showMembers();
  showOrders();
  showSlices();
  showSpace();
  showCurves();
  showJournal();
}

function showMembers() {
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

function showOrders() {
  $("#orders").hidden = !state.orders;
  $("[data-order=freeze]").disabled = state.frozen;
  $("[data-order=thaw]").disabled = !state.frozen;
}

async function order(body) {
  const answer = $("#answer");
  try {
    await ask("orders", {method: "POST", headers: {"X-Key": key}, body: JSON.stringify(body)});
    answer.textContent = "";
  } catch (error) {
    answer.textContent = error.message;
  }
}

for (const button of document.querySelectorAll("[data-order]")) {
  button.addEventListener("click", () => {
    if (!button.dataset.asks || confirm(button.dataset.asks)) order({order: button.dataset.order});
  });
}

// ---- slices, flat

function showKinds() {
  $("#kinds").replaceChildren(...KINDS.map(kind => {
    const button = document.createElement("button");
    button.textContent = kind;
    button.setAttribute("aria-pressed", chosen.has(kind));
    button.addEventListener("click", () => {
      if (!chosen.delete(kind)) chosen.add(kind);
      showKinds();
      if (state) showSlices();
    });
    return button;
  }));
}

function showSlices() {
  const kinds = KINDS.filter(kind => chosen.has(kind)), has = (one, kind) => one.kinds.includes(kind);
  const wanted = WIDE.matches  // a column for each slice, or a row
    ? kinds.flatMap(kind => state.slices.filter(one => has(one, kind)).map(one => [one, kind]))
    : state.slices.flatMap(one => kinds.filter(kind => has(one, kind)).map(kind => [one, kind]));
  $("#slices").style.setProperty("--columns", WIDE.matches ? Math.max(state.slices.length, 1) : Math.min(kinds.length, 2) || 1);
  const names = new Set(wanted.map(([one, kind]) => `${one.name}/${kind}`));
  for (const figure of document.querySelectorAll(".slice")) if (!names.has(figure.dataset.name)) figure.remove();
  const movable = new Set();
  for (const [one, kind] of wanted) {
    const name = `${one.name}/${kind}`;
    let figure = [...document.querySelectorAll(".slice")].find(found => found.dataset.name === name);
    if (!figure) {
      figure = newFigure(name, one.name);
      $("#slices").append(figure);
    }
    showPicture(figure, one, kind);
    $(".move", figure).hidden = !state.orders || movable.has(one.name);  // once for each slice
    movable.add(one.name);
  }
  const order = new Map([...names].map((name, number) => [name, number]));
  const sorted = [...$("#slices").children].sort((a, b) => order.get(a.dataset.name) - order.get(b.dataset.name));
  if (sorted.some((figure, number) => figure !== $("#slices").children[number])) $("#slices").replaceChildren(...sorted);
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
  const age = state.at - one.at;
  const group = {raw: "attenuation", denoised: "attenuation"}[kind] || kind;
  const levels = state.levels[group];
  const frame = $(".frame", figure);
  frame.style.borderColor = `rgb(${one.edge})`;
  frame.classList.toggle("old", age > OLD_S);
  const known = one.quality === undefined || kind === "raw" ? "" : ` · at least ${one.quality.toFixed(1)} dB less noise`;
  const between = levels ? ` · ${levels.map(x => x.toPrecision(3)).join(" to ")} 1/mm` : "";
  const old = age > OLD_S ? ` · ${Math.round(age)} s old` : "";
  $("figcaption", figure).textContent = `${one.name} ${kind}${known} · frame ${one.frame_number ?? "?"}${between}${old}`;
  if (one.width_mm) {
    $(".bar i", figure).style.width = `${100 * one.bar_mm / one.width_mm}%`;
    $(".bar b", figure).textContent = `${one.bar_mm.toPrecision(1) * 1} mm`;
  }
  const pixels = Math.min(2048, Math.max(64, Math.ceil((figure.clientWidth || 300) * devicePixelRatio / 64) * 64));
  replace($("img", figure), `slices/${encodeURIComponent(one.name)}/${kind}.png?longest=${pixels}&at=${one.at}&levels=${levels}`);
  $("img", figure).alt = `slice ${one.name}, ${kind}`;
}

// A new picture replaces the old one when it is there; one at a time, the newest wish last.
function replace(img, source) {
  if (img.dataset.wanted === source) return;
  img.dataset.wanted = source;
  if (img.dataset.loading) return;
  img.dataset.loading = "yes";
  const fresh = new Image();
  const done = worked => {
    delete img.dataset.loading;
    if (worked) { img.src = fresh.src; img.dataset.shown = source; }
    if (img.dataset.wanted !== source) {
      const next = img.dataset.wanted;
      img.dataset.wanted = "";
      replace(img, next);
    } else if (!worked) img.dataset.wanted = "";  // the next look tries again
  };
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
  const look = `azimuth=${camera.azimuth.toFixed(3)}&elevation=${camera.elevation.toFixed(3)}&nearer=${camera.nearer.toFixed(3)}`;
  replace(img, `space.png?width=${width}&height=${height}&${look}&at=${newest}&preview=${state.preview}&levels=${state.levels.attenuation}`);
}

function turn(across, down) {
  camera.azimuth -= across * 0.007;
  camera.elevation = Math.min(1.06, Math.max(-2.04, camera.elevation + down * 0.007));
  showSpace();
}

function approach(factor) {
  camera.nearer = Math.min(20, Math.max(0.2, camera.nearer * factor));
  showSpace();
}

const touches = new Map();
const view = $("#space img");
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
view.addEventListener("dblclick", () => { Object.assign(camera, {azimuth: 0, elevation: 0, nearer: 1}); showSpace(); });

// ---- curves

function remember(name, [times, values]) {
  const [allTimes, allValues] = curves.get(name) || [[], []];
  times.forEach((at, number) => {
    if (allTimes.length && at <= allTimes.at(-1)) return;
    allTimes.push(at);
    allValues.push(values[number]);
  });
  const first = allTimes.findIndex(at => at >= state.at - HOUR_S);
  if (first > 0) { allTimes.splice(0, first); allValues.splice(0, first); }
  curves.set(name, [allTimes, allValues]);
  since = Math.max(since, allTimes.at(-1) || 0);
}

function showCurves() {
  if (state.remembered !== remembered) {  // a device has told its past: ask for everything once more
    remembered = state.remembered;
    curves.clear();
    since = 0;
    return;
  }
  const parent = $("#curves"), before = since;
  while (parent.children.length < state.plots.length) {  // all before the first is drawn, which takes its width
    parent.append(Object.assign(document.createElement("div"), {className: "plot"}));
  }
  state.plots.forEach((plot, number) => {
    for (const curve of plot.curves) {
      for (const kind of ["points", "low", "high"]) if (curve[kind]) remember(`${number}/${curve.title}/${kind}`, curve[kind]);
    }
    Plotly.react(parent.children[number], traces(plot, number), layout(plot, number), {displayModeBar: false, responsive: true});
  });
  since = Math.max(before, since - 5);  // devices answer one after the other: what came late is asked for again
}

const dates = times => times.map(at => new Date(at * 1000));

function traces(plot, number) {
  return plot.curves.flatMap(curve => {
    const colour = `rgb(${curve.colour})`, of = kind => curves.get(`${number}/${curve.title}/${kind}`) || [[], []];
    const line = {x: dates(of("points")[0]), y: of("points")[1], name: curve.title, mode: "lines", line: {color: colour, width: 1.5}, hovertemplate: "%{y:.4g}"};
    if (!curve.low) return [line];
    const edge = {mode: "lines", line: {width: 0}, showlegend: false, hoverinfo: "skip"};
    return [
      {...edge, x: dates(of("low")[0]), y: of("low")[1]},
      {...edge, x: dates(of("high")[0]), y: of("high")[1], fill: "tonexty", fillcolor: `rgba(${curve.colour},0.22)`},
      line,
    ];
  });
}

function layout(plot, number) {
  const title = plot.title + (plot.unit ? ` (${plot.unit})` : "");
  const jumps = state.jumps.map(([at]) => ({type: "line", x0: new Date(at * 1000), x1: new Date(at * 1000), yref: "paper", y0: 0, y1: 1, line: {color: "rgb(232,96,88)", dash: "dash", width: 1}}));
  const half = number === 0 ? [0.5, 1].map(level => ({type: "line", xref: "paper", x0: 0, x1: 1, y0: level, y1: level, line: {color: "rgba(170,170,175,0.5)", dash: "dot", width: 1}})) : [];
  return {
    title: {text: title, font: {size: 12}}, margin: {l: 44, r: 8, t: 28, b: 26}, uirevision: "kept",
    paper_bgcolor: "#1d1f23", plot_bgcolor: "#1d1f23", font: {color: "#b8bcc4", size: 10},
    xaxis: {type: "date", gridcolor: "#33373d", nticks: 4, tickangle: 0}, yaxis: {type: plot.logarithmic ? "log" : "linear", gridcolor: "#33373d", nticks: 6},
    legend: {orientation: "h", y: 1, x: 0, yanchor: "top", bgcolor: "rgba(29,31,35,0.5)", font: {size: 9}}, shapes: [...jumps, ...half],
  };
}

// ---- journal

function showJournal() {
  const list = $("#journal ol");
  const newest = `${state.journal.length}/${state.journal.at(-1)?.at}`;
  if (list.dataset.newest === newest) return;
  list.dataset.newest = newest;
  list.replaceChildren(...state.journal.toReversed().map(one => {
    const item = document.createElement("li");
    item.textContent = `${new Date(one.at * 1000).toLocaleTimeString([], {hour12: false})}  ${one.text}`;
    if (one.trouble) item.className = "trouble";
    return item;
  }));
}

showKinds();
look();
addEventListener("resize", () => state && show());
document.addEventListener("visibilitychange", () => !document.hidden && state && show());
