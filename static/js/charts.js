// Draws every <figure class="chart" data-chart="{json}"> with Chart.js. The table beside the figure is the truth; this is its picture.
// Values arrive as exact decimal strings (null: unknown) and become floating point here only, to place pixels.
(() => {
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const SERIES = 8;

  // Resolves a custom property to a colour the canvas understands, light-dark() included.
  function palette(figure) {
    const probe = document.createElement("span");
    probe.hidden = true;
    figure.append(probe);
    const read = name => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; };
    const colours = {
      series: Array.from({ length: SERIES }, (_, i) => read(`--series-${i + 1}`)),
      ink: read("--ink"), muted: read("--ink-muted"), line: read("--line"), surface: read("--surface"), raised: read("--raised"), strong: read("--line-strong"),
    };
    probe.remove();
    return colours;
  }
  const faded = (colour, share) => colour.replace(/^rgb\((.*)\)$/, `rgba($1, ${share})`);

  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  // Groups the digits of an exact decimal string without turning it into a float.
  const grouped = text => {
    const [whole, fraction] = String(text).split(".");
    return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (fraction ? `.${fraction}` : "");
  };

  function dataset(series, index, spec, colours) {
    const colour = colours.series[index % SERIES];
    const filled = spec.kind === "area";
    return {
      label: series.name,
      exact: series.values,
      data: series.values.map(value => value === null ? null : Number(value)),
      borderColor: spec.kind === "bar" ? colours.surface : colour,
      backgroundColor: filled ? faded(colour, 0.32) : colour,
      borderWidth: spec.kind === "bar" ? { top: spec.series.length > 1 ? 1 : 0 } : 1.75,
      borderDash: series.dashed ? [4, 4] : undefined,
      fill: filled ? (index ? "-1" : "origin") : false,
      pointRadius: series.values.length === 1 ? 3 : 0,
      pointHoverRadius: 3,
      tension: 0,
      borderRadius: 1,
      maxBarThickness: 44,
      categoryPercentage: 0.86,
      barPercentage: 0.94,
    };
  }

  function options(spec, colours, figure) {
    const narrow = figure.clientWidth < 480;
    const font = { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12 };
    const stacked = spec.stacked !== false && spec.kind !== "line";
    const unit = spec.unit ? ` ${spec.unit}` : "";
    return {
      responsive: true,
      maintainAspectRatio: false,
      animation: calm.matches || figure.dataset.drawn ? false : { duration: 250 },
      interaction: { mode: "index", intersect: false },
      scales: {
        x: { stacked, grid: { display: false }, border: { color: colours.strong }, ticks: { color: colours.muted, font, maxRotation: 0, autoSkip: true, autoSkipPadding: 14 } },
        y: { stacked, beginAtZero: true, grid: { color: colours.line, drawTicks: false }, border: { display: false }, ticks: { color: colours.muted, font, padding: 8, maxTicksLimit: 6, callback: value => compact.format(value) } },
      },
      plugins: {
        legend: { display: spec.series.length > 1, position: "bottom", align: "start", labels: { color: colours.muted, font, boxWidth: 10, boxHeight: 10, padding: 14 } },
        tooltip: {
          backgroundColor: colours.raised, titleColor: colours.ink, bodyColor: colours.ink, footerColor: colours.muted, borderColor: colours.strong, borderWidth: 1,
          cornerRadius: 4, padding: 10, boxPadding: 4, titleFont: font, bodyFont: font, footerFont: font,
          callbacks: { label: item => ` ${item.dataset.label}: ${item.dataset.exact[item.dataIndex] === null ? "unknown" : grouped(item.dataset.exact[item.dataIndex]) + unit}` },
        },
      },
    };
  }

  function draw(figure) {
    const canvas = figure.querySelector("canvas");
    if (!canvas || !window.Chart) return;
    const spec = JSON.parse(figure.dataset.chart);
    const colours = palette(figure);
    Chart.getChart(canvas)?.destroy();
    new Chart(canvas, {
      type: spec.kind === "bar" ? "bar" : "line",
      data: { labels: spec.labels, datasets: spec.series.map((series, i) => dataset(series, i, spec, colours)) },
      options: options(spec, colours, figure),
    });
    figure.dataset.drawn = "yes";
  }

  const drawAll = root => {
    if (root.matches?.("figure.chart")) draw(root);
    root.querySelectorAll?.("figure.chart").forEach(draw);
  };
  document.addEventListener("htmx:load", event => drawAll(event.target));
  document.addEventListener("htmx:beforeCleanupElement", event => {
    const gone = event.target;
    (gone.matches?.("canvas") ? [gone] : gone.querySelectorAll?.("figure.chart canvas") ?? []).forEach(canvas => window.Chart?.getChart(canvas)?.destroy());
  });
  document.addEventListener("themechange", () => drawAll(document));
  calm.addEventListener("change", () => drawAll(document));
})();
