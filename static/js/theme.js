// Runs before the first paint, so that a remembered theme does not flash. Also marks the page as one with JavaScript.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  try {
    const theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch { /* storage is forbidden: follow the system */ }
})();
