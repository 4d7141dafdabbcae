// The map: a box for each namespace, its workloads inside, a line for each pair that talks.
// Cytoscape draws and is asked; fCoSE places the boxes, so that namespaces that talk are near.

import cytoscape from "cytoscape";
import fcose from "cytoscape-fcose";
import { edges, ends } from "./data.js";
import { grouped } from "./dom.js";

cytoscape.use(fcose);

const CELL = { w: 168, h: 50 };
const NODE = { w: 140, h: 30 };
const OUTSIDE = "outside the cluster";
const MANY = 300; // workloads: from here on lines are thin and are left out while the map moves
// What a line shows where several edges lie on it: what a reader must not miss.
const WEIGHT = ["review", "rejected", "marked", "denied", "wanted", "ignored"];

const groupOf = (end) => end.namespace ?? OUTSIDE;

function inReadingOrder(members) {
  const lean = (end) =>
    end.edges.reduce((sum, edge) => sum + (edge.server === end ? 1 : -1), 0) / (end.edges.length || 1);
  const idle = (end) => end.type !== "workload" && end.edges.every((edge) => edge.class === "ignored");
  const leans = new Map(members.map((end) => [end, lean(end)]));
  return [...members].sort((a, b) => idle(a) - idle(b) || leans.get(a) - leans.get(b) || (a.label < b.label ? -1 : 1));
}

function boxes() {
  const groups = grouped(ends, groupOf);
  return [...groups.keys()].sort().map((name, i) => {
    const members = inReadingOrder(groups.get(name));
    const columns = Math.max(1, Math.min(members.length, Math.ceil(Math.sqrt(members.length / 2))));
    const rows = Math.ceil(members.length / columns);
    return { name, id: `n${i}`, members, rows, w: columns * CELL.w + 30, h: rows * CELL.h + 30 };
  });
}

function placed(found) {
  const home = new Map(found.flatMap((box) => box.members.map((end) => [end, box])));
  const pairs = new Map();
  for (const edge of edges) {
    const [a, b] = [home.get(edge.client), home.get(edge.server)];
    if (a !== b) pairs.set(`${a.id} ${b.id}`, { source: a.id, target: b.id });
  }
  const area = cytoscape({
    headless: true,
    styleEnabled: true,
    elements: {
      nodes: found.map((box) => ({ data: { id: box.id, w: box.w, h: box.h } })),
      edges: [...pairs.values()].map((data) => ({ data })),
    },
    style: [{ selector: "node", style: { width: "data(w)", height: "data(h)" } }],
  });
  // A circle to start from and no chance: the same data gives the same map.
  area.nodes().forEach((node, i, all) => {
    const turn = (2 * Math.PI * i) / all.length;
    node.position({ x: 900 * Math.cos(turn), y: 600 * Math.sin(turn) });
  });
  area
    .layout({ name: "fcose", animate: false, randomize: false, fit: false, idealEdgeLength: 50,
              nodeRepulsion: 9000, gravity: 0.6, tile: true, packComponents: false })
    .run();
  const centres = new Map(found.map((box) => [box, { ...area.getElementById(box.id).position() }]));
  area.destroy();
  return apart(centres);
}

// Forces may leave boxes touching: what overlaps is pushed apart along the shorter way.
function apart(centres) {
  const all = [...centres.entries()];
  const gap = ends.length > MANY ? 110 : 46; // room for the names above them
  for (let round = 0; round < 200; round += 1) {
    let moved = false;
    for (let i = 0; i < all.length; i += 1) {
      for (let j = i + 1; j < all.length; j += 1) {
        const [[a, p], [b, q]] = [all[i], all[j]];
        const x = (a.w + b.w) / 2 + gap - Math.abs(p.x - q.x);
        const y = (a.h + b.h) / 2 + gap - Math.abs(p.y - q.y);
        if (x <= 0 || y <= 0) continue;
        const axis = x < y ? "x" : "y";
        const push = (Math.min(x, y) / 2 + 1) * (p[axis] < q[axis] ? -1 : 1);
        p[axis] += push;
        q[axis] -= push;
        moved = true;
      }
    }
    if (!moved) break;
  }
  return centres;
}

function elements(kindOf) {
  const found = boxes();
  const centres = placed(found);
  const nodes = [];
  for (const box of found) {
    const { x, y } = centres.get(box);
    const data = { id: box.id, w: box.w, h: box.h, members: box.members };
    nodes.push({ data, position: { x, y }, classes: "box" });
    // A node of its own, for boxes lie under the lines and their names must not.
    const above = { x, y: y - box.h / 2 - 2 };
    nodes.push({ data: { id: `t${box.id}`, label: box.name, members: box.members }, position: above, classes: "title" });
    box.members.forEach((end, i) => {
      const position = {
        x: x - box.w / 2 + 15 + (Math.floor(i / box.rows) + 0.5) * CELL.w,
        y: y - box.h / 2 + 15 + ((i % box.rows) + 0.5) * CELL.h,
      };
      nodes.push({ data: { id: end.id, label: end.label, end }, classes: `end ${end.type}`, position });
    });
  }
  const lines = new Map();
  for (const edge of edges) {
    const id = `l${edge.client.i}-${edge.server.i}`;
    if (!lines.has(id)) {
      const data = { id, source: edge.client.id, target: edge.server.id, edges: [] };
      if (edge.client === edge.server) data.loop = 1;
      lines.set(id, { data });
    }
    lines.get(id).data.edges.push(edge);
  }
  for (const line of lines.values()) line.classes = `line ${kindOf(line.data.edges)}`;
  return { drawn: { nodes, edges: [...lines.values()] }, found, centres };
}

function look() {
  const css = getComputedStyle(document.documentElement);
  const of = (name) => css.getPropertyValue(`--${name}`).trim();
  const large = ends.length > MANY;
  const line = (name, colour, style, more = {}) => ({
    selector: `.line.${name}`,
    style: { "line-color": of(colour), "target-arrow-color": of(colour), "line-style": style, ...more },
  });
  return [
    { selector: ".title", style: {
      label: "data(label)", "text-valign": "top", "text-halign": "center", width: 1, height: 1,
      "background-opacity": 0, "text-background-color": of("paper"), "text-background-opacity": 0.85,
      "text-background-padding": 2, "z-compound-depth": "top",
      "font-size": large ? 72 : 17, "font-weight": 600, color: of("quiet"), "min-zoomed-font-size": 5, events: "no",
      "font-family": "system-ui, sans-serif" } },
    { selector: ".box", style: { "background-color": of("box"),
      "background-opacity": 1, "border-width": 1, "border-color": of("rule"), shape: "round-rectangle",
      width: "data(w)", height: "data(h)", "z-compound-depth": "bottom", events: "no" } },
    { selector: ".end", style: {
      label: "data(label)", "text-valign": "center", "text-halign": "center", "text-wrap": "ellipsis",
      "text-max-width": NODE.w - 14, "font-size": 13, color: of("ink"), "background-color": of("paper"),
      "border-width": 1.5, "border-color": of("node"), shape: "round-rectangle", width: NODE.w,
      height: NODE.h, "min-zoomed-font-size": 6, "font-family": "system-ui, sans-serif" } },
    { selector: ".address, .node, .apiserver, .host, .ingress, .other", style: {
      shape: "ellipse", "border-style": "dashed", "background-color": of("box") } },
    { selector: ".line", style: {
      "curve-style": large ? "straight" : "unbundled-bezier", "control-point-distances": 28,
      "control-point-weights": 0.5, width: large ? 1 : 2, "target-arrow-shape": "triangle",
      "arrow-scale": large ? 0.7 : 1, opacity: large ? 0.45 : 0.85, "line-dash-pattern": [7, 4] } },
    { selector: ".line[loop]", style: { "curve-style": "bezier", "control-point-step-size": 80, "loop-direction": "-60deg" } },
    line("wanted", "wanted", "solid"),
    line("marked", "marked", "solid", { width: large ? 1.5 : 3 }),
    line("review", "review", "dashed", { width: large ? 1.5 : 3 }),
    line("denied", "denied", "dotted"),
    line("rejected", "rejected", "dashed"),
    line("ignored", "ignored", "dotted"),
    line("allow", "wanted", "solid"),
    line("deny", "denied", "dashed", { "target-arrow-shape": "tee" }),
    line("unknown", "ignored", "dotted"),
    { selector: ".away", style: { display: "none" } },
    { selector: ".faded", style: { opacity: 0.12 } },
    { selector: ".line.faded", style: { opacity: large ? 0.04 : 0.1 } },
    { selector: ".line.near", style: { opacity: 1, width: 3, "z-index": 9 } },
    { selector: ".end.chosen", style: {
      "border-width": 3, "border-color": of("accent"), "background-color": of("chosen") } },
    { selector: ".line.chosen", style: { width: 5 } },
    { selector: "core", style: { "active-bg-opacity": 0 } },
  ];
}

const VIEWS = {
  classes: (edge) => edge.shown,
  before: (edge) => said(edge.before),
  after: (edge) => said(edge.after),
};
const said = (allow) => ({ true: "allow", false: "deny" })[allow] ?? "unknown";
const VERDICTS = ["deny", "unknown", "allow"];

const kind = (view, some) => {
  const kinds = new Set(some.map(VIEWS[view]));
  return (view === "classes" ? WEIGHT : VERDICTS).find((one) => kinds.has(one)) ?? "away";
};

// Zoom and place at which all boxes are seen; to ask the map for it would measure every line.
function whole(container, found, centres) {
  const sides = found.map((box) => ({ ...centres.get(box), w: box.w / 2, h: box.h / 2 }));
  const [left, right] = [Math.min(...sides.map((s) => s.x - s.w)), Math.max(...sides.map((s) => s.x + s.w))];
  const [top, bottom] = [Math.min(...sides.map((s) => s.y - s.h)) - 40, Math.max(...sides.map((s) => s.y + s.h))];
  const { clientWidth: w, clientHeight: h } = container;
  const zoom = Math.min((w - 40) / (right - left), (h - 40) / (bottom - top), 1.4);
  return { zoom, pan: { x: w / 2 - (zoom * (left + right)) / 2, y: h / 2 - (zoom * (top + bottom)) / 2 } };
}

export function makeMap(container, wants, choose) {
  const large = ends.length > MANY;
  const { drawn, found, centres } = elements((all) => kind("classes", all.filter(wants)));
  const map = cytoscape({
    container,
    elements: drawn,
    style: look(),
    layout: { name: "preset", fit: false },
    ...whole(container, found, centres),
    autoungrabify: true,
    boxSelectionEnabled: false,
    minZoom: 0.03,
    maxZoom: 3,
    hideEdgesOnViewport: large,
    textureOnViewport: large,
    pixelRatio: large ? 1 : "auto",
  });
  map.on("tap", ".end", (event) => choose({ end: event.target.data("end") }));
  map.on("tap", ".line", (event) => choose({ line: event.target }));
  map.on("tap", (event) => event.target === map && choose(null));
  map.on("mouseover", ".end, .line", () => container.classList.add("pointing"));
  map.on("mouseout", ".end, .line", () => container.classList.remove("pointing"));
  return map;
}

// Lines with no edge left are away, and so are ends that are not asked for and touch no line.
export function filterMap(map, view, wants, wantsEnd) {
  const touched = new Set();
  let count = 0;
  map.batch(() => {
    map.edges().forEach((line) => {
      const left = line.data("edges").filter(wants);
      line.classes(`line ${kind(view, left)}`);
      line.scratch("left", left);
      count += left.length;
      for (const edge of left) touched.add(edge.client).add(edge.server);
    });
    map.nodes(".end").forEach((node) => {
      const end = node.data("end");
      node.toggleClass("away", !(wantsEnd(end) || touched.has(end)));
    });
    const gone = (end) => nodeOf(map, end).hasClass("away");
    map.nodes(".box, .title").forEach((box) => box.toggleClass("away", box.data("members").every(gone)));
  });
  return { edges: count, ends: map.nodes(".end").filter((n) => !n.hasClass("away")).length };
}

// What is chosen and all that it touches stands out; or else what was searched for does.
export function mark(map, chosen, found) {
  map.batch(() => {
    map.elements().removeClass("faded near chosen");
    if (chosen) {
      const near = chosen.union(chosen.isNode() ? chosen.connectedEdges() : chosen);
      map.elements(".end, .line").not(near.union(near.connectedNodes())).addClass("faded");
      near.edges().addClass("near");
      chosen.addClass("chosen");
    } else if (found) {
      map.nodes(".end").filter((node) => !found.has(node.data("end"))).addClass("faded");
      map.edges().addClass("faded");
    }
  });
}

export function dress(map) {
  map.style().fromJson(look()).update();
}

export const nodeOf = (map, end) => map.getElementById(end.id);
