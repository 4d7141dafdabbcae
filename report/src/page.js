// The page: what is asked for at the top, the map, and what is known of what was chosen.

import { changesView, reviewView, windowView, aboutView } from "./views.js";
import { CLASSES, about, dayMask, dayName, days, edges, ends, roles } from "./data.js";
import { byId, copy, el, grouped, number, plural } from "./dom.js";
import { dress, filterMap, makeMap, mark, nodeOf } from "./map.js";
import { endPanel, linePanel, overview } from "./panel.js";

const state = { view: "classes", query: "", namespace: "", role: "", low: 0, high: days - 1, chosen: null,
                classes: new Set(["wanted", "marked", "review", "denied", "rejected"]) };
const VERDICTS = { allow: "allowed", deny: "denied", unknown: "cannot be told, or not judged" };
let map;

const say = (words) => { byId("status").textContent = words; };
const inNamespace = (end) => !state.namespace || (end.namespace ?? "-") === state.namespace;
const inRole = (end) => state.role === "" || end.role === Number(state.role);
const asked = (end) => inNamespace(end) && inRole(end);
const found = (end) => `${end.label} ${end.name} ${end.addresses.join(" ")}`.toLowerCase().includes(state.query);

function wants(edge) {
  const within = state.low === 0 && state.high === days - 1 ? true : (edge.mask & dayMask(state.low, state.high)) !== 0n;
  return state.classes.has(edge.shown) && within && (asked(edge.client) || asked(edge.server));
}

function update() {
  const shown = filterMap(map, state.view, wants, (end) => asked(end) && end.type === "workload");
  mark(map, state.chosen, state.query ? new Set(ends.filter(found)) : null);
  listEnds();
  legend();
  say(`${plural(shown.ends, "end")} and ${plural(shown.edges, "edge")} shown`);
}

function choose(what, focus = false) {
  document.querySelector("#tabs [aria-controls=map-view]").click();
  state.chosen = what && (what.line ?? nodeOf(map, what.end));
  mark(map, state.chosen, state.query ? new Set(ends.filter(found)) : null);
  const content = !what ? overview() : what.end ? endPanel(what.end, pick) : linePanel(what.line.scratch("left"), pick);
  byId("panel").replaceChildren(content);
  byId("panel").scrollTop = 0;
  history.replaceState(null, "", what?.end ? `#${encodeURIComponent(what.end.name)}` : location.pathname);
  for (const button of byId("list").querySelectorAll("button")) {
    button.setAttribute("aria-current", what?.end?.id === button.dataset.end ? "true" : "false");
  }
  if (focus) byId("panel").querySelector("h2")?.focus();
}

const pick = (end) => { choose({ end }, true); reveal(end); };

function reveal(end) {
  const node = nodeOf(map, end);
  const box = node.renderedBoundingBox();
  const outside = box.x1 < 0 || box.y1 < 0 || box.x2 > map.width() || box.y2 > map.height();
  if (outside || map.zoom() < 0.4) map.animate({ center: { eles: node }, zoom: Math.max(map.zoom(), 0.7) }, { duration: 150 });
}

function listEnds() {
  const groups = grouped(ends.filter((end) => asked(end) && found(end)), (end) => end.namespace ?? "outside the cluster");
  const items = [...groups].map(([name, members]) =>
    el("li", {}, el("h3", {}, name), el("ul", {}, members.map((end) =>
      el("li", {}, el("button", {
        type: "button", "data-end": end.id, onclick: () => pick(end),
        "aria-current": state.chosen?.id() === end.id ? "true" : "false",
      }, end.label, waiting(end)))))));
  byId("list").replaceChildren(...(items.length ? items : [el("li", { class: "quiet" }, "nothing found")]));
}

function waiting(end) {
  const count = end.edges.filter((edge) => edge.class === "review").length;
  return count ? el("span", { class: "badge", title: "edges that wait for review" }, number(count)) : null;
}

function legend() {
  const box = byId("legend");
  const observed = state.view === "classes";
  if (box.dataset.view === state.view) return;
  box.dataset.view = state.view;
  const names = observed ? Object.entries(CLASSES) : Object.entries(VERDICTS);
  const counts = new Map();
  for (const edge of edges) counts.set(edge.shown, (counts.get(edge.shown) ?? 0) + 1);
  box.replaceChildren(
    el("legend", {}, observed ? "Classes" : "Verdict of the policies"),
    ...names.filter(([name]) => !observed || counts.has(name)).map(([name, words]) => {
      const swatch = el("span", { class: `swatch ${name}`, "aria-hidden": "true" });
      if (!observed) return el("span", { class: "key" }, swatch, words);
      const input = el("input", { type: "checkbox", value: name, checked: state.classes.has(name) });
      input.addEventListener("change", () => {
        state.classes[input.checked ? "add" : "delete"](name);
        update();
      });
      return el("label", { class: "key" }, input, swatch, `${words} (${number(counts.get(name))})`);
    }),
  );
}

function options(id, entries, onpick) {
  const select = byId(id);
  select.replaceChildren(...entries.map(([value, words]) => el("option", { value }, words)));
  select.addEventListener("change", () => { onpick(select.value); update(); });
}

function controls() {
  const names = [...new Set(ends.map((end) => end.namespace))].filter(Boolean).sort();
  options("namespace", [["", "all"], ...names.map((name) => [name, name]), ["-", "outside the cluster"]],
    (value) => { state.namespace = value; });
  options("role", [["", "all"], ...roles.map((role) => [role.role, `${role.role}: ${role.title}`])],
    (value) => { state.role = value; });
  const list = Array.from({ length: days }, (_, day) => [day, dayName(day)]);
  options("from", list, (value) => { state.low = Number(value); if (state.high < state.low) byId("to").value = state.high = state.low; });
  options("to", list, (value) => { state.high = Number(value); if (state.high < state.low) byId("from").value = state.low = state.high; });
  byId("to").value = state.high;
  byId("search").addEventListener("input", (event) => { state.query = event.target.value.trim().toLowerCase(); update(); });
  byId("search").addEventListener("keydown", (event) => {
    const first = event.key === "Enter" && ends.find((end) => asked(end) && found(end));
    if (first) pick(first);
  });
  for (const input of document.querySelectorAll("input[name=view]")) {
    input.addEventListener("change", () => { state.view = input.value; update(); });
  }
  byId("closer").addEventListener("click", () => map.zoom({ level: map.zoom() * 1.4, renderedPosition: middle() }));
  byId("farther").addEventListener("click", () => map.zoom({ level: map.zoom() / 1.4, renderedPosition: middle() }));
  byId("whole").addEventListener("click", () => map.fit(map.nodes(), 24));
  byId("theme").addEventListener("click", () => theme(dark() ? "light" : "dark"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dress(map));
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
      event.preventDefault();
      byId("search").focus();
    } else if (event.key === "Escape" && state.chosen) choose(null);
  });
  document.addEventListener("click", (event) => {
    const text = event.target.closest?.("[data-copy]")?.dataset.copy;
    if (text != null) copy(text, say);
  });
}

const middle = () => ({ x: map.width() / 2, y: map.height() / 2 });
const dark = () => {
  const set = document.documentElement.dataset.theme;
  return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

function theme(name) {
  document.documentElement.dataset.theme = name;
  dress(map);
}

// Paper is white: the map is drawn in light colours while the page is printed.
function printing() {
  let before;
  addEventListener("beforeprint", () => {
    before = document.documentElement.dataset.theme;
    theme("light");
    byId("print-map").src = map.png({ full: true, scale: 1.5, maxWidth: 2400, bg: "#ffffff" });
  });
  addEventListener("afterprint", () => {
    if (before) theme(before);
    else { delete document.documentElement.dataset.theme; dress(map); }
  });
}

// Tabs as the ARIA practices have them: one stop, arrows between them.
function tabs() {
  const all = [...document.querySelectorAll("#tabs [role=tab]")];
  const open = (tab) => {
    for (const one of all) {
      one.setAttribute("aria-selected", String(one === tab));
      one.tabIndex = one === tab ? 0 : -1;
      byId(one.getAttribute("aria-controls")).hidden = one !== tab;
    }
    if (tab === all[0]) map?.resize();
  };
  for (const [i, tab] of all.entries()) {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = all[(i + step + all.length) % all.length];
      open(next);
      next.focus();
    });
  }
}

function start() {
  const began = performance.now();
  tabs();
  byId("title").textContent = `Cluster ${about.cluster}`;
  byId("subtitle").textContent = `${about.first_seen ?? "-"} to ${about.last_seen ?? "-"}`;
  byId("word").textContent = `Watched long enough: ${about.word}`;
  byId("word").dataset.word = about.word;
  reviewView(byId("review-view"), byId("review-count"), pick);
  changesView(byId("changes-view"), pick);
  windowView(byId("window-view"), pick);
  aboutView(byId("facts"));
  map = makeMap(byId("map"), wants, (what) => choose(what));
  controls();
  printing();
  choose(null);
  update();
  map.one("render", () => {
    document.documentElement.dataset.drawnMs = Math.round(performance.now());
    document.documentElement.dataset.scriptMs = Math.round(performance.now() - began);
  });
  const named = decodeURIComponent(location.hash.slice(1));
  const end = named && ends.find((one) => one.name === named);
  if (end) pick(end);
  // For tests and for the console: where an end stands on the screen.
  window.flowpolicy = { at: (name) => nodeOf(map, ends.find((one) => one.name === name)).renderedPosition() };
}

start();
