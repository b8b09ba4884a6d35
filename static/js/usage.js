// While figures are polled: what the reader opened stays open, nothing scrolls away, and a chart that is on screen does not rise anew.
(() => {
  const drawn = new Set();
  let open = new Map();
  let top = null;
  document.addEventListener("htmx:beforeSwap", () => {
    top = scrollY;
    open = new Map();
    document.querySelectorAll("#usage-figures figure[id]").forEach(figure => {
      if (figure.dataset.drawn) drawn.add(figure.id);
      if (figure.querySelector("details[open]")) open.set(figure.id, figure.querySelector(".table-scroll")?.scrollTop ?? 0);
    });
  });
  document.addEventListener("htmx:load", event => {
    if (event.target.id !== "usage-figures") return;
    event.target.querySelectorAll("figure[id]").forEach(figure => {
      if (drawn.has(figure.id)) figure.dataset.drawn = "yes";
      if (!open.has(figure.id)) return;
      figure.querySelector("details").open = true;
      figure.querySelector(".table-scroll").scrollTop = open.get(figure.id);
    });
    if (top !== null) scrollTo({ top, behavior: "instant" });
    top = null;
  });
})();
