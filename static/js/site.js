// Small comforts on top of pages that work without them: theme switch, copy buttons, menus, dialogs, and what htmx requests report.
(() => {
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Theme: "system", "light" or "dark"; charts listen for themechange.
  const currentTheme = () => document.documentElement.dataset.theme || "system";
  function markTheme() {
    $$("[data-theme-choice]").forEach(button => button.setAttribute("aria-pressed", String(button.dataset.themeChoice === currentTheme())));
    $$(".theme-switch").forEach(element => element.classList.add("ready"));
  }
  function chooseTheme(theme) {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    try { theme === "system" ? localStorage.removeItem("theme") : localStorage.setItem("theme", theme); } catch { /* not remembered */ }
    markTheme();
    document.dispatchEvent(new Event("themechange"));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("themechange")));

  // Toasts: say("Copied") or a server's HX-Trigger: {"toast": {"level": "success", "text": "…"}}.
  function say(text, level = "info") {
    const region = document.getElementById("toasts");
    if (!region || $$(".toast p", region).some(p => p.textContent === text)) return;
    const toast = document.createElement("div");
    toast.className = `toast ${level}`;
    const words = document.createElement("p");
    words.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "×";
    close.setAttribute("aria-label", "Dismiss");
    close.addEventListener("click", () => toast.remove());
    toast.append(words, close);
    region.append(toast);
    setTimeout(() => toast.remove(), level === "error" ? 12000 : 5000);
  }

  // Copy: data-copy holds the text itself, or "#id" of the element whose text is copied.
  async function copy(button) {
    const wanted = button.dataset.copy;
    const text = wanted.startsWith("#") ? document.querySelector(wanted)?.textContent.trim() : wanted;
    try {
      await navigator.clipboard.writeText(text);
      const label = button.querySelector(".label") || button;
      const before = label.textContent;
      label.textContent = "Copied";
      setTimeout(() => { label.textContent = before; }, 1600);
    } catch {
      say("The browser did not allow copying. Select the text and copy it by hand.", "warning");
    }
  }

  document.addEventListener("click", event => {
    const target = event.target instanceof Element ? event.target : document.body;
    const choice = target.closest("[data-theme-choice]");
    if (choice) chooseTheme(choice.dataset.themeChoice);
    const copier = target.closest("[data-copy]");
    if (copier) copy(copier);
    const printer = target.closest("[data-print]");
    if (printer) window.print();
    const opener = target.closest("[data-dialog]");
    const dialog = opener && document.getElementById(opener.dataset.dialog);
    if (dialog) { event.preventDefault(); dialog.showModal(); }
    const closer = target.closest("[data-close]");
    if (closer?.closest("dialog")) { event.preventDefault(); closer.closest("dialog").close(); }
    if (target instanceof HTMLDialogElement) target.close();
    $$("details.menu[open]").forEach(menu => { if (!menu.contains(target)) menu.open = false; });
  });
  document.addEventListener("keydown", event => {
    if (event.key !== "Escape") return;
    $$("details.menu[open]").forEach(menu => {
      menu.open = false;
      if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
    });
  });

  // A form with data-autosubmit sends itself when a choice changes; its button stays for those without JavaScript.
  document.addEventListener("change", event => {
    const form = event.target.closest?.("form[data-autosubmit]");
    if (form && !form.hasAttribute("hx-get")) form.requestSubmit();
  });

  // htmx: progress line, calm polling, and failures in words.
  const isPoll = element => /\bevery\b/.test(element?.getAttribute?.("hx-trigger") || "");
  let waiting = 0;
  const showWaiting = change => {
    waiting = Math.max(0, waiting + change);
    document.getElementById("page-progress")?.classList.toggle("busy", waiting > 0);
  };
  document.addEventListener("htmx:beforeRequest", event => {
    const { elt, target } = event.detail;
    if (isPoll(elt)) {
      if (document.hidden) event.preventDefault();
      return;
    }
    showWaiting(1);
    target?.setAttribute("aria-busy", "true");
  });
  document.addEventListener("htmx:afterRequest", event => {
    const { elt, target } = event.detail;
    if (isPoll(elt)) return;
    showWaiting(-1);
    target?.removeAttribute("aria-busy");
  });
  const SENTENCES = {
    0: "The server could not be reached. Check your connection and try again.",
    403: "You are not allowed to do this. If you were signed out, reload the page and sign in.",
    404: "This no longer exists. Reload the page to see what does.",
    409: "Somebody else changed this in the meantime. Reload the page and try again.",
    413: "This is too large to send.",
    429: "Too many attempts. Wait a moment and try again.",
  };
  const FAILED = "Something went wrong on our side. Nothing was changed; please try again.";
  document.addEventListener("htmx:responseError", event => {
    if (!isPoll(event.detail.elt)) say(SENTENCES[event.detail.xhr.status] || FAILED, "error");
    else $$(".live", event.detail.elt).forEach(mark => mark.classList.add("paused"));
  });
  for (const name of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, event => {
      if (!isPoll(event.detail.elt)) say(SENTENCES[0], "error");
      else $$(".live", event.detail.elt).forEach(mark => mark.classList.add("paused"));
    });
  }
  // What was opened stays open when a part of the page is replaced: by the ids of <details>.
  const opened = new Set();
  document.addEventListener("htmx:beforeSwap", event => {
    opened.clear();
    $$("details[id][open]", event.detail.target).forEach(details => opened.add(details.id));
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    opened.clear();
  });
  document.addEventListener("toast", event => say(event.detail.text ?? String(event.detail.value ?? ""), event.detail.level));
  document.addEventListener("htmx:afterSettle", markTheme);
  document.addEventListener("DOMContentLoaded", markTheme);
  if (document.readyState !== "loading") markTheme();
})();
