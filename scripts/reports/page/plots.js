// The plots of one group, drawn from what is in its <script class="plots">.
const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
// Of Okabe and Ito, told apart also by who sees few colours; then once more with other dashes.
const CYCLE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const MARGIN = { l: 56, r: 12, t: 60, b: 56 }; // pixels
const MOST_CURVES = 12; // shown at first; the legend has the others

function layout(x, y, more = {}) {
  const axis = { gridcolor: color("line"), linecolor: color("line"), zeroline: false, automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: color("text"), family: getComputedStyle(document.body).fontFamily, size: 13 },
    margin: MARGIN,
    modebar: { bgcolor: "rgba(0,0,0,0)", color: color("quiet"), activecolor: color("text") },
    hoverlabel: { bgcolor: color("raised"), font: { color: color("text") }, bordercolor: color("line"), align: "left" },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, maxheight: 0.3 },
    xaxis: { ...axis, ...x },
    yaxis: { ...axis, ...y },
    ...more,
  };
}

function plusMinus(line) {
  const std = line.std === null ? "" : ` ± ${line.std.toFixed(2)}`;
  return `${line.top1.toFixed(2)}${std} % (n = ${line.n})`;
}

function wrapped(title, width) {
  return width < 600 ? title.replace(", ", ",<br>") : title;
}

function trace(points, axis, look) {
  return {
    type: "scatter",
    x: points.map((line) => line.costs[axis.key]),
    y: points.map((line) => line.top1),
    error_y: { type: "data", array: points.map((line) => line.std ?? 0), thickness: 1.2, width: 3 },
    customdata: points.map((line) => [line.name, plusMinus(line)]),
    hovertemplate: `<b>%{customdata[0]}</b><br>%{customdata[1]}<br>%{x:,.4~g} ${axis.title}<extra></extra>`,
    mode: "markers",
    ...look,
    marker: { size: 9, symbol: points.map((line) => (Object.keys(line.gates).length ? "diamond" : "circle")), ...look.marker },
  };
}

function drawAccuracy(div, axis, isLog, lines) {
  const points = lines.filter((line) => line.costs[axis.key] !== null).sort((one, other) => one.costs[axis.key] - other.costs[axis.key]);
  const front = points.filter((line) => axis.front[line.place]);
  const range = ranges(div, axis, isLog, points, front);
  const traces = [
    trace(points.filter((line) => !axis.front[line.place]), axis, { name: "another one is better", marker: { color: color("other") } }),
    trace(front, axis, {
      name: "on the Pareto front",
      mode: "lines+markers+text",
      text: namesBeside(div, axis, isLog, front, range),
      textposition: "top left",
      line: { shape: "hv", width: 1.5, color: color("front") },
      marker: { color: color("front") },
    }),
    trace(points.filter((line) => line.plain), axis, {
      name: "no convolution replaced",
      marker: { color: "rgba(0,0,0,0)", size: 16, line: { color: color("plain"), width: 2 } },
      hoverinfo: "skip",
      hovertemplate: undefined,
      error_y: undefined,
    }),
  ].filter((each) => each.x.length);
  const x = { title: { text: wrapped(axis.title, div.clientWidth) }, type: isLog ? "log" : "linear", tickformat: "~s", range: range.x };
  const y = { title: { text: "test top-1, %" }, range: range.y };
  Plotly.react(div, traces, layout(isLog ? { ...x, dtick: logTicks(range.x, div.clientWidth) } : x, y), CONFIG);
  return lines.length - points.length;
}

// Every digit, 1 with 2 and 5, or the powers of ten alone, by the pixels that a power of ten has.
function logTicks([low, high], width) {
  const pixels = width / (high - low);
  return pixels > 900 ? "D1" : pixels > 150 ? "D2" : 1;
}

function along(cost, isLog) {
  return isLog ? Math.log10(cost) : cost;
}

function ranges(div, axis, isLog, points, front) {
  const names = points.map((line) => (front.includes(line) ? line.label : ""));
  const low = Math.min(...points.map((line) => line.top1 - (line.std ?? 0)));
  const high = Math.max(...points.map((line) => line.top1 + (line.std ?? 0)));
  const pad = 0.08 * (high - low || 1);
  return {
    x: limits(points.map((line) => along(line.costs[axis.key], isLog)), names, div.clientWidth - MARGIN.l - MARGIN.r),
    y: [low - pad, high + 1.5 * pad],
  };
}

function namesBeside(div, axis, isLog, front, range) {
  const pixels = ([low, high], size, at) => ((at - low) / (high - low)) * size;
  const width = div.clientWidth - MARGIN.l - MARGIN.r;
  const height = div.clientHeight - MARGIN.t - MARGIN.b;
  return withoutOverlap(front.map((line) => ({
    x: pixels(range.x, width, along(line.costs[axis.key], isLog)),
    y: pixels(range.y, height, line.top1),
    name: line.label,
  })), width);
}

function drawCurves(div, metric, title, lines) {
  const known = lines.filter((line) => line.curves[metric]);
  const traces = known.map((line, place) => ({
    type: "scatter",
    mode: "lines",
    name: line.label,
    x: line.curves[metric].map((point) => point[0]),
    y: line.curves[metric].map((point) => point[1]),
    line: { color: CYCLE[line.place % CYCLE.length], dash: DASHES[Math.floor(line.place / CYCLE.length) % DASHES.length], width: 1.8 },
    visible: place < MOST_CURVES ? true : "legendonly",
    hovertemplate: `<b>${line.label}</b><br>epoch %{x}: %{y:.4~g}<extra></extra>`,
  }));
  const dtick = Math.ceil(Math.max(...traces.flatMap((trace) => trace.x)) / 10); // whole epochs
  Plotly.react(div, traces, layout({ title: { text: "epoch" }, minallowed: 1, tickformat: "d", dtick }, { title: { text: title } }), CONFIG);
  return lines.length - known.length;
}

function drawGates(div, lines) {
  const gated = lines.filter((line) => Object.keys(line.gates).length);
  const layers = [...new Set(gated.flatMap((line) => Object.keys(line.gates)))];
  const shares = gated.map((line) => layers.map((layer) => (layer in line.gates ? 100 * line.gates[layer] : null)));
  div.style.height = `${Math.max(300, 220 + 28 * gated.length)}px`;
  const heat = {
    type: "heatmap",
    x: layers,
    y: gated.map((line) => line.label),
    z: shares,
    zmin: 0,
    zmax: 100,
    colorscale: "Cividis",
    reversescale: !isDark(),
    colorbar: { title: { text: "closed, %", side: "right" }, thickness: 12, lenmode: "pixels", len: 150 },
    hovertemplate: "<b>%{y}</b><br>%{x}: %{z:.1f} % closed<extra></extra>",
  };
  const y = { autorange: "reversed", type: "category" };
  Plotly.react(div, [heat], layout({ title: { text: "layer, from the image to the classes" }, tickangle: -60, type: "category" }, y), CONFIG);
}
