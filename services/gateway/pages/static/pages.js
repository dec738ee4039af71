// Keys, the theme, and plots over tables. Every page says all it has to say without this file.
"use strict";

const PLACES = { a: "/", l: "/live", r: "/requests", q: "/quality", e: "/experiments", v: "/review", s: "/system" };
const root = document.querySelector(".brand").getAttribute("href").replace(/\/$/, "");

const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

function switchTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try { localStorage.setItem("theme", theme); } catch { /* it holds for this page */ }
  document.querySelectorAll("table[data-plot]").forEach(plot);
}

const say = (text) => { document.getElementById("said").textContent = text; };

// What j and k go through: links of rows, and summaries of paths.
const stops = () => [...document.querySelectorAll("[data-rows] .row-link, [data-rows] > details.path > summary")]
  .filter((each) => each.offsetParent !== null);

function step(by) {
  const all = stops();
  if (!all.length) return;
  const here = document.activeElement;
  const at = all.indexOf(here?.closest?.("details.path")?.querySelector("summary") ?? here?.closest?.(".row")?.querySelector(".row-link") ?? here);
  const next = all[Math.min(Math.max(at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by, 0), all.length - 1)];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

// The feedback of the path in focus, or of the answer where no path is: never that of something else.
function judge(isRight) {
  const path = document.activeElement?.closest?.("details.path");
  const form = path ? path.querySelector("form[data-feedback]") : document.querySelector(".story-tools form[data-feedback]");
  if (path) path.open = true; // where what comes of it is seen
  if (form) form.querySelector(isRight ? ".yes" : ".no").click(); // that it is noted, its answer says
  else if (path) say(path.querySelector(".thanks") ? "This path was judged already" : "This path has nothing to judge");
}

// What goes wrong is said where it was asked for, or above a page that keeps itself up to date.
function wentWrong(event, what) {
  const form = event.target.closest?.("form[data-feedback]");
  const place = form?.querySelector(".feedback-wrong");
  if (place) { place.textContent = `Not noted: ${what}.`; return; }
  const away = document.getElementById("away");
  away.textContent = `What is shown may be out of date: ${what}.`;
  away.hidden = false;
}
document.addEventListener("htmx:response:error", (event) => wentWrong(event, `the server answers ${event.detail.ctx.response.status}`));
document.addEventListener("htmx:error", (event) => wentWrong(event, "the server can't be reached"));
document.addEventListener("htmx:after:swap", (event) => {
  const failed = event.detail.ctx?.response?.status >= 400; // of which nothing was swapped
  if (!failed) document.getElementById("away").hidden = true;
});
document.addEventListener("htmx:sse:error", (event) => {
  if ([401, 403].includes(event.detail.status)) location.reload(); // to the door
  else wentWrong(event, "the server can't be reached");
});
document.addEventListener("htmx:sse:after:connection", () => { document.getElementById("away").hidden = true; });

// Whoever pressed a button that is swapped for thanks stands there, and not at the top of the page.
const pressed = new WeakMap(); // swaps of a form that is about to go, and where it was
document.addEventListener("htmx:before:swap", (event) => {
  const form = event.target.closest?.("form[data-feedback]");
  if (form?.contains(document.activeElement)) pressed.set(event.detail.ctx, form.parentElement);
});
document.addEventListener("htmx:after:swap", (event) => {
  pressed.get(event.detail.ctx)?.querySelector(":scope > .thanks")?.focus({ preventScroll: true });
});

let goes = false;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.target.closest("input, textarea, select, dialog[open]")) return;
  const key = event.key;
  if (goes) {
    goes = false;
    // Only where a link leads, too: a tenant's pages are fewer.
    if (key in PLACES) document.querySelector(`.top nav a[href="${root}${PLACES[key]}"]`)?.click();
    return;
  }
  switch (key) {
    case "g": goes = true; setTimeout(() => { goes = false; }, 1500); break;
    case "j": step(1); break;
    case "k": step(-1); break;
    case "y": judge(true); break;
    case "n": judge(false); break;
    case "s": document.querySelector("[data-skip]")?.click(); break;
    case "t": switchTheme(); break;
    case "?": document.getElementById("keys").showModal(); break;
    case "/": {
      const search = document.querySelector("[data-search]");
      if (search) { event.preventDefault(); search.focus(); search.select(); }
      break;
    }
  }
});

document.addEventListener("click", (event) => {
  const action = event.target.closest("[data-action]")?.dataset.action;
  if (action === "theme") switchTheme();
  if (action === "keys") document.getElementById("keys").showModal();
});

// A step or path that an address names is opened.
function openTarget() {
  const target = location.hash.startsWith("#path-") && document.getElementById(location.hash.slice(1));
  if (target) { target.open = true; target.querySelector("summary").focus(); }
}
addEventListener("hashchange", openTarget);
openTarget();

// A table with data-plot is drawn above itself: its first column is x (milliseconds since 1970), each other one a line.
function plot(table) {
  if (typeof uPlot === "undefined") return;
  table.closest(".plotted")?.querySelector(".plot")?.remove();
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => {
    const probe = document.createElement("span");
    probe.className = `c-${name}`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  const heads = [...table.tHead.rows[0].cells].map((each) => each.textContent.trim());
  const rows = [...table.tBodies[0].rows].reverse().map((row) => [...row.cells].map((each) =>
    each.dataset.value === undefined || each.dataset.value === "" ? null : Number(each.dataset.value)));
  if (rows.length < 2) return;
  const data = heads.map((_, column) => rows.map((row) => column ? row[column] : row[0] / 1000));
  const place = document.createElement("div");
  place.className = "plot";
  place.setAttribute("aria-hidden", "true");
  table.closest(".plotted").querySelector("h2").after(place);
  const unit = table.dataset.unit ?? "";
  const names = [...table.tHead.rows[0].cells].slice(1).map((each, at) => each.dataset.colour ?? ["a0", "a2", "a1", "a3", "a4"][at % 5]);
  const minutes = [1, 2, 5, 10, 15, 30, 60, 120, 360, 720, 1440].map((each) => each * 60);  // labels tell no seconds
  const axis = { stroke: colour("ink3"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: `11px ${style.fontFamily}` };
  const made = new uPlot({
    width: place.clientWidth, height: 190, tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"), cursor: { y: false, points: { size: 6 } }, legend: { show: true, live: true },
    series: [{ label: "UTC", value: (_, at) => at == null ? "" : new Date(at * 1000).toISOString().slice(0, 16).replace("T", " ") },
      ...heads.slice(1).map((label, index) => ({ label, stroke: colour(names[index]), width: 2, points: { show: rows.length < 40, size: 4 }, spanGaps: true, value: (_, y) => y == null ? "–" : `${Math.round(y * 100) / 100}${unit}` }))],
    axes: [{ ...axis, incrs: minutes, values: (_, ticks) => ticks.map((at) => new Date(at * 1000).toISOString().slice(11, 16)) }, { ...axis, size: 56, values: (_, ticks) => ticks.map((y) => `${y}${unit}`) }],
    scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
  }, data, place);
  new ResizeObserver(() => made.setSize({ width: place.clientWidth, height: 190 })).observe(place);
}
document.querySelectorAll("table[data-plot]").forEach(plot);

// Where the names of pages don't all fit beside each other, that of this page is seen.
const current = document.querySelector(".top nav [aria-current]");
if (current) current.parentElement.scrollLeft = current.offsetLeft - current.parentElement.offsetLeft - (current.parentElement.clientWidth - current.offsetWidth) / 2;
// Lines are drawn in the colours of the theme that was.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.querySelectorAll("table[data-plot]").forEach(plot));
