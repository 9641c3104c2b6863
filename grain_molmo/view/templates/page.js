"use strict";
(() => {
  const PER_PAGE = 20, CHUNKS_KEPT = 60, SEARCH_AFTER_MS = 150;
  const $ = (id) => document.getElementById(id);
  const known = JSON.parse($("known").textContent);
  const cards = $("cards"), search = $("search"), help = $("help");
  const setBoxes = [...$("sets").querySelectorAll("input")];
  const overlayBoxes = [...$("overlays").querySelectorAll("input")];
  const THEMES = ["auto", "light", "dark"];

  // What is shown is said by the address: q, set (several), page from 1, item from 1.
  let state = { q: "", sets: [], page: 1, item: 0 };
  let matches = [];
  let turn = 0;

  // ---- which items ----

  // Letters in one case, and accents in one spelling of the two that Unicode has.
  const folded = (text) => text.normalize("NFC").toLowerCase();
  let lowered = null;
  const texts = () => (lowered ??= JSON.parse($("texts").textContent).map(folded));

  function findMatches({ q, sets }) {
    const words = folded(q).split(/\s+/).filter(Boolean);
    const wanted = new Set(sets.map((name) => known.sets.indexOf(name)));
    const found = [];
    for (let number = 0; number < known.items.length; number++) {
      if (wanted.size && !known.items[number].some((set) => wanted.has(set))) continue;
      if (words.length && !words.every((word) => texts()[number].includes(word))) continue;
      found.push(number);
    }
    return found;
  }

  const pages = () => Math.max(1, Math.ceil(matches.length / PER_PAGE));

  // ---- loading cards ----

  const chunks = new Map(), arrived = new Map();
  window.gmCards = (number, htmls) => arrived.get(number)?.(htmls);

  function loadChunk(number) {
    if (!chunks.has(number)) {
      chunks.set(number, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        arrived.set(number, resolve);
        script.src = `cards/${String(number).padStart(4, "0")}.js?${known.version}`;
        script.onload = () => script.remove();
        script.onerror = () => { script.remove(); chunks.delete(number); reject(new Error(`${script.src} is missing`)); };
        document.head.append(script);
      }));
    }
    return chunks.get(number);
  }

  function forgetOldChunks() {
    for (const number of chunks.keys()) {
      if (chunks.size <= CHUNKS_KEPT) return;
      chunks.delete(number);
      arrived.delete(number);
    }
  }

  async function slotOf(number) {
    const slot = document.createElement("div");
    slot.className = "slot";
    slot.tabIndex = -1;
    slot.dataset.item = number;
    try {
      const htmls = await loadChunk(Math.floor(number / known.perFile));
      slot.innerHTML = htmls[number % known.perFile];
    } catch (error) {
      const problem = document.createElement("p");
      problem.className = "gm-problem";
      problem.textContent = `This card cannot be shown: ${error.message}`;
      slot.append(problem);
    }
    const link = document.createElement("a");
    link.className = "link";
    link.href = `#${new URLSearchParams({ item: number + 1 })}`;
    link.textContent = `#${number + 1}`;
    link.setAttribute("aria-label", `link to card ${number + 1}`);
    slot.append(link);
    return slot;
  }

  // ---- showing them ----

  async function draw() {
    const mine = ++turn;
    matches = findMatches(state);
    if (state.item) placeItem();
    state.page = Math.min(Math.max(1, state.page), pages());
    showControls();
    const from = (state.page - 1) * PER_PAGE;
    const slots = await Promise.all(matches.slice(from, from + PER_PAGE).map(slotOf));
    if (mine !== turn) return; // something else was asked for meanwhile
    cards.replaceChildren(...slots);
    applyOverlays(overlayBoxes);
    forgetOldChunks();
    $("nothing").hidden = matches.length > 0;
    const current = markCurrent();
    if (current) current.scrollIntoView();
    else window.scrollTo(0, 0);
    document.documentElement.dataset.drawn = String(mine); // the page that was asked for is there
  }

  // An item that the filter leaves out is shown among all.
  function placeItem() {
    let place = matches.indexOf(state.item - 1);
    if (place < 0) {
      state = { ...state, q: "", sets: [] };
      matches = findMatches(state);
      place = matches.indexOf(state.item - 1);
    }
    if (place < 0) state.item = 0;
    else state.page = Math.floor(place / PER_PAGE) + 1;
  }

  function showControls() {
    const from = (state.page - 1) * PER_PAGE, to = Math.min(from + PER_PAGE, matches.length);
    const count = (number) => number.toLocaleString("en");
    $("status").textContent = matches.length ? `${count(from + 1)}–${count(to)} of ${count(matches.length)}` : "0 found";
    for (const button of document.querySelectorAll("[data-go]")) {
      button.disabled = button.dataset.go === "1" ? state.page >= pages() : state.page <= 1;
    }
    if (document.activeElement !== search) search.value = state.q;
    for (const box of setBoxes) box.checked = state.sets.includes(box.value);
    $("clear").hidden = !state.q && !state.sets.length;
  }

  function markCurrent() {
    let current = null;
    for (const slot of cards.children) {
      const is = Number(slot.dataset.item) === state.item - 1;
      slot.classList.toggle("current", is);
      if (is) current = slot;
    }
    return current;
  }

  // ---- the address ----

  function address() {
    const parts = new URLSearchParams();
    if (state.q) parts.set("q", state.q);
    for (const name of state.sets) parts.append("set", name);
    if (state.page > 1) parts.set("page", state.page);
    if (state.item) parts.set("item", state.item);
    return `#${parts}`;
  }

  function readAddress() {
    const parts = new URLSearchParams(location.hash.slice(1));
    const whole = (key) => Math.max(0, parseInt(parts.get(key) ?? "", 10) || 0);
    state = {
      q: parts.get("q") ?? "",
      sets: parts.getAll("set").filter((name) => known.sets.includes(name)),
      page: whole("page") || 1,
      item: Math.min(whole("item"), known.items.length),
    };
    return draw();
  }

  function go(change, { keep = false } = {}) {
    state = { ...state, item: 0, ...change };
    if (keep) history.replaceState(null, "", address());
    else history.pushState(null, "", address());
  }

  // ---- what one does ----

  const filter = (change, how) => { go({ ...change, page: 1 }, how); return draw(); };

  function turnPage(by) {
    const page = state.page + by;
    if (page < 1 || page > pages()) return;
    go({ page });
    draw();
  }

  async function step(by) {
    const place = matches.indexOf(state.item - 1);
    const from = (state.page - 1) * PER_PAGE;
    const next = place < 0 ? (by > 0 ? from : from - 1) : place + by;
    if (next < 0 || next >= matches.length) return;
    const page = Math.floor(next / PER_PAGE) + 1, turned = page !== state.page;
    go({ item: matches[next] + 1, page }, { keep: !turned });
    if (turned) await draw();
    const current = markCurrent();
    current?.scrollIntoView();
    current?.focus({ preventScroll: true });
  }

  function applyOverlays(boxes) {
    for (const box of boxes) {
      for (const toggle of cards.querySelectorAll(`.gm-t-${box.value}`)) toggle.checked = box.checked;
    }
  }

  function flip(names) {
    const boxes = overlayBoxes.filter((box) => names.includes(box.value));
    const on = !boxes.some((box) => box.checked);
    for (const box of boxes) box.checked = on;
    applyOverlays(boxes);
  }

  function setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    $("theme").textContent = `theme: ${theme}`;
    try { localStorage.setItem("grain-molmo-theme", theme); } catch { /* some browsers keep nothing for files */ }
  }

  function nextTheme() {
    setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
  }

  function showHelp() {
    if (!help.open) help.showModal();
  }

  const KEYS = {
    j: () => step(1), ArrowRight: () => step(1),
    k: () => step(-1), ArrowLeft: () => step(-1),
    n: () => turnPage(1), p: () => turnPage(-1),
    m: () => flip(["points", "boxes", "tracks", "names"]),
    g: () => flip(["crops", "tokens"]),
    l: () => flip(["large"]),
    t: nextTheme,
    "/": () => { search.focus(); search.select(); },
    "?": showHelp,
    Escape: () => { if (state.q || state.sets.length) filter({ q: "", sets: [] }); },
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (event.target === search) {
      if (event.key === "Escape" || event.key === "Enter") { search.blur(); event.preventDefault(); }
      return;
    }
    if (event.target.closest?.(".gm-strip") && event.key.startsWith("Arrow")) return; // it scrolls
    const does = Object.hasOwn(KEYS, event.key) && KEYS[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  });

  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => filter({ q: search.value.trim() }, { keep: state.q !== "" }), SEARCH_AFTER_MS);
  });
  $("sets").addEventListener("change", () => filter({ sets: setBoxes.filter((box) => box.checked).map((box) => box.value) }));
  $("overlays").addEventListener("change", (event) => applyOverlays([event.target]));
  $("clear").addEventListener("click", () => { search.value = ""; filter({ q: "", sets: [] }); });
  $("theme").addEventListener("click", nextTheme);
  $("help-button").addEventListener("click", showHelp);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-go]"), jump = event.target.closest("[data-gm-go]");
    if (button) turnPage(Number(button.dataset.go));
    if (jump) { // within a row: the address keeps saying what is shown
      event.preventDefault();
      const target = $(jump.dataset.gmGo);
      target.tabIndex = -1;
      target.scrollIntoView();
      target.focus({ preventScroll: true });
    }
  });
  addEventListener("popstate", readAddress);

  let theme = null;
  try { theme = localStorage.getItem("grain-molmo-theme"); } catch { /* as above */ }
  setTheme(THEMES.includes(theme) ? theme : "auto");
  if (matchMedia("(max-width: 62rem)").matches) $("side").open = false;
  readAddress().then(() => performance.mark("cards"));
})();
