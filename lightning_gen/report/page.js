// Charts by uPlot from the data that the page holds, and the scrubber through the grids.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const said = document.getElementById("said");
const short = value => value === null || value === undefined ? "-" : String(Number(value.toPrecision(4)));
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A line for each thing that the health watch said.
function events(chart) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.strokeStyle = style("--line-1");
  for (const [kimg, severity] of data.events) {
    const x = Math.round(chart.valToPos(kimg, "x", true)) + 0.5;
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.setLineDash(severity === "stop" ? [] : [4, 4]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

function draw(place) {
  const figure = data.figures[place.dataset.figure];
  // lines are recorded at places of their own: one axis for all, holes where a line has no value
  const table = uPlot.join(figure.lines.map(line => line.points));
  const ink = style("--ink"), rule = style("--rule");
  const axis = { stroke: ink, grid: { stroke: rule, width: 1 }, ticks: { stroke: rule, width: 1 }, font: "12px system-ui, sans-serif" };
  const chart = new uPlot({
    width: place.clientWidth,
    height: 240,
    scales: {
      // all charts show the same stretch until one is looked at closer
      x: { time: false, range: (_, from, to) => from === table[0][0] && to === table[0].at(-1) ? [0, data.kimg] : [from, to] },
      y: figure.logarithmic ? { distr: 3 } : { range: (_, low, high) => low === high ? [low, low + 1] : uPlot.rangeNum(low, high, 0.1, true) },
    },
    cursor: { sync: { key: "kimg" }, drag: { x: true, y: false } },
    axes: [axis, { ...axis, size: 56, values: (_, ticks) => ticks.map(tick => tick === null ? "" : short(tick)) }],
    series: [
      { label: "kimg", value: (_, value) => short(value) },
      ...figure.lines.map(line => ({
        label: line.label,
        stroke: style("--line-" + line.colour),
        width: 1.5,
        dash: [[], [6, 3], [2, 2], [8, 3, 2, 3]][line.dashes % 4],
        spanGaps: true,
        points: { show: line.points[0].length < 60, size: 5 },
        value: (_, value) => short(value),
      })),
    ],
    hooks: { draw: [events] },
  }, table, place);
  for (const name of place.querySelectorAll(".u-legend .u-series:not(:first-child) th")) {
    name.tabIndex = 0;
    name.setAttribute("role", "button");
    name.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      name.click();
    });
  }
  return chart;
}

// Arrow keys walk along the records, and what stands there is said.
function walk(place, event) {
  const chart = charts.get(place), last = chart.data[0].length - 1;
  const here = chart.cursor.idx ?? last;
  const to = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: last }[event.key];
  if (to === undefined || event.target !== place) return;
  event.preventDefault();
  const index = Math.min(Math.max(to, 0), last);
  chart.setCursor({ left: chart.valToPos(chart.data[0][index], "x"), top: 10 });
  const values = data.figures[place.dataset.figure].lines.map((line, i) => [line.label, chart.data[i + 1][index]]);
  said.textContent = short(chart.data[0][index]) + " kimg: " + values.filter(v => v[1] != null).map(v => v[0] + " " + short(v[1])).join(", ");
}

const charts = new Map();
const places = [...document.querySelectorAll(".chart")];
for (const place of places) {
  charts.set(place, draw(place));
  place.addEventListener("keydown", event => walk(place, event));
  new ResizeObserver(() => charts.get(place).setSize({ width: place.clientWidth, height: 240 })).observe(place);
}
// Canvases do not follow the style: draw them again in the other colours.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const place of places) {
    charts.get(place).destroy();
    charts.set(place, draw(place));
  }
});

for (const leaf of document.querySelectorAll(".leaf[data-run]")) {
  const grids = data.grids[leaf.dataset.run], input = leaf.querySelector("input");
  const show = () => {
    const [kimg, picture] = grids[input.value];
    leaf.querySelector("img").src = picture;
    leaf.querySelector("img").alt = "Grid of samples at " + short(kimg) + " thousand images";
    leaf.querySelector("output").textContent = short(kimg) + " kimg";
    input.setAttribute("aria-valuetext", short(kimg) + " thousand images");
  };
  input.addEventListener("input", show);
  show();
}
