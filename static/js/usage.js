// While figures are polled: what the reader opened stays open, and a chart that is on screen already does not rise anew.
(() => {
  const seen = new Set();
  let open = [];
  document.addEventListener("htmx:beforeSwap", () => {
    open = [...document.querySelectorAll("#usage-figures figure[id]:has(details[open])")].map(figure => figure.id);
    document.querySelectorAll("figure.chart[data-drawn]").forEach(figure => seen.add(figure.id));
  });
  document.addEventListener("htmx:load", event => {
    event.target.querySelectorAll?.("figure.chart").forEach(figure => {
      if (seen.has(figure.id)) figure.dataset.drawn = "yes";
      const details = figure.querySelector("details");
      if (details && open.includes(figure.id)) details.open = true;
    });
  });
})();
