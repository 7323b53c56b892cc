"use strict";
const one = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Colours: those of the system, until the button is pressed. A page of a file may have no storage.
const root = document.documentElement, theme = one("#theme");
function remembered(value) {
  try {
    if (value) localStorage.setItem("scaled-ig-theme", value);
    return localStorage.getItem("scaled-ig-theme");
  } catch { return null; }
}
function paint(choice) {
  if (choice) root.dataset.theme = choice;
  const dark = choice ? choice === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  theme.setAttribute("aria-pressed", dark);
}
theme.addEventListener("click", () => {
  const choice = theme.getAttribute("aria-pressed") === "true" ? "light" : "dark";
  remembered(choice);
  paint(choice);
});
paint(remembered());

// Navigation: the section that is being read.
const anchors = new Map(all(".anchors a").map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of anchors.values()) link.removeAttribute("aria-current");
    anchors.get(entry.target.id).setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -75% 0px" });
for (const id of anchors.keys()) seen.observe(document.getElementById(id));

// Orbits: every scene is one picture of all its frames; two numbers say which frame all of them show.
const orbits = one(".orbits"), turn = one("#turn"), play = one("#play");
const { frames, rate, columns, rows } = Object.fromEntries(
  Object.entries(orbits.dataset).map(([name, value]) => [name, Number(value)]));
let place = 0, playing = false, last = 0;
function show(frame) {
  place = ((frame % frames) + frames) % frames;
  const whole = Math.floor(place);
  orbits.style.setProperty("--column", whole % columns);
  orbits.style.setProperty("--row", Math.floor(whole / columns));
  turn.value = whole;
}
function advance(now) {
  if (!playing) return;
  show(place + (Math.min(now - last, 200) / 1000) * rate);
  last = now;
  requestAnimationFrame(advance);
}
function setPlaying(value) {
  playing = value;
  play.textContent = value ? "Pause" : "Play";
  play.setAttribute("aria-pressed", value);
  if (value) requestAnimationFrame((now) => { last = now; advance(now); });
}
play.addEventListener("click", () => setPlaying(!playing));
turn.addEventListener("input", () => { setPlaying(false); show(Number(turn.value)); });
let grip = null, dragged = false;
orbits.addEventListener("pointerdown", (event) => { grip = { x: event.clientX, place }; dragged = false; });
addEventListener("pointermove", (event) => {
  if (!grip || Math.abs(event.clientX - grip.x) < 4 && !dragged) return;
  dragged = true;
  setPlaying(false);
  show(grip.place + (event.clientX - grip.x) / 6);
});
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { grip = null; });
for (const orbit of all(".orbit")) {
  orbit.addEventListener("click", (event) => {
    if (dragged && event.detail) return; // the end of a drag; a key has no detail
    const large = orbit.getAttribute("aria-pressed") !== "true";
    for (const other of all(".orbit")) other.setAttribute("aria-pressed", "false");
    orbit.setAttribute("aria-pressed", large);
  });
}
if (!matchMedia("(prefers-reduced-motion: reduce)").matches) setPlaying(true);

// Truth against rendering: pictures are those of a card.
const compare = one(".compare");
if (compare) {
  const stage = one(".stage", compare), slider = one("input", compare);
  const cut = (percent) => {
    slider.value = Math.max(0, Math.min(100, percent));
    stage.style.setProperty("--cut", `${slider.value}%`);
  };
  const pick = (card) => {
    const [truth, rendering] = all("img", card);
    for (const image of all("img", stage)) image.remove();
    stage.prepend(truth.cloneNode(), Object.assign(rendering.cloneNode(), { className: "over" }));
    stage.style.aspectRatio = `${truth.getAttribute("width")} / ${truth.getAttribute("height")}`;
    one("figcaption", compare).textContent = all("p b, p span", card).map((part) => part.textContent).join(" · ");
    for (const other of all(".card")) other.removeAttribute("aria-current");
    card.setAttribute("aria-current", "true");
  };
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    cut(((event.clientX - box.left) / box.width) * 100);
  };
  stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); follow(event); });
  stage.addEventListener("pointermove", (event) => { if (stage.hasPointerCapture(event.pointerId)) follow(event); });
  slider.addEventListener("input", () => cut(Number(slider.value)));
  for (const card of all(".card")) {
    const button = one(".pick", card);
    button.hidden = false;
    button.addEventListener("click", () => {
      pick(card);
      compare.scrollIntoView({ block: "nearest", behavior: "smooth" });
    });
  }
  compare.hidden = false;
  pick(one(".card"));
  cut(50);
}

// The table of scenes: sorted by a column, the other way round at the second press; what is not known stays last.
const body = one(".scenes tbody"), order = new Intl.Collator("en", { numeric: true });
for (const button of all(".scenes [data-sort]")) {
  const heading = button.closest("th"), column = heading.cellIndex;
  button.addEventListener("click", () => {
    const numeric = button.dataset.sort === "number", before = heading.getAttribute("aria-sort");
    const sign = before ? (before === "descending" ? 1 : -1) : numeric ? -1 : 1;
    const key = (row) => {
      const text = row.cells[column].textContent.trim();
      return numeric ? (text === "–" ? null : Number(text.replaceAll(",", ""))) : text;
    };
    const keyed = [...body.rows].map((row) => [key(row), row]);
    keyed.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null)
      : sign * (numeric ? a - b : order.compare(a, b)));
    body.append(...keyed.map(([, row]) => row));
    for (const other of all(".scenes th")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  });
}
one("#filter").addEventListener("input", (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  for (const row of body.rows) row.hidden = !all("th, .word", row).some((cell) => cell.textContent.toLowerCase().includes(wanted));
  const left = [...body.rows].filter((row) => !row.hidden).length;
  one("#count").textContent = `${left} scene${left === 1 ? "" : "s"}`;
});

// Commands: to the clipboard, or at least selected.
for (const button of all(".copy")) {
  button.addEventListener("click", async () => {
    const text = one("pre", button.parentElement);
    getSelection().selectAllChildren(text);
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch { button.textContent = "Selected"; }
  });
}
