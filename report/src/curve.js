// The rarefaction curve: edges seen after so many days, with its interval, and what exists at least.

import { svg } from "./dom.js";

const W = 680;
const H = 300;
const PAD = { left: 56, right: 150, top: 16, bottom: 44 };

function ticks(most) {
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000].find((s) => most / s <= 6) ?? most;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step);
}

export function drawCurve(curve) {
  const { points, bound, bound_low: low, bound_high: high } = curve;
  const mostX = points.at(-1).days;
  const mostY = Math.max(bound, ...points.map((point) => point.high)) * 1.08;
  const x = (days) => PAD.left + (days / mostX) * (W - PAD.left - PAD.right);
  const y = (edges) => H - PAD.bottom - (edges / mostY) * (H - PAD.top - PAD.bottom);
  const path = (name) => points.map((p) => `${x(p.days).toFixed(1)},${y(p[name]).toFixed(1)}`);
  const band = [...path("low"), ...path("high").reverse()].join(" ");
  const seen = points.filter((point) => !point.foretold);
  const line = (some) => some.map((p) => `${x(p.days).toFixed(1)},${y(p.edges).toFixed(1)}`).join(" ");
  const last = seen.at(-1);
  const text = (px, py, anchor, words, kind = "tick") =>
    svg("text", { x: px, y: py, "text-anchor": anchor, class: kind }, words);
  return svg(
    "svg",
    { viewBox: `0 0 ${W} ${H}`, role: "img", class: "curve", "aria-labelledby": "curve-title curve-desc" },
    svg("title", { id: "curve-title" }, "Edges seen as days are watched"),
    svg("desc", { id: "curve-desc" },
      `${last.edges.toFixed(0)} edges were seen in ${last.days} days; at least ${bound.toFixed(0)} exist ` +
      `(95 % interval ${low.toFixed(0)} to ${high.toFixed(0)}). The table below has every point.`),
    ticks(mostY).map((value) => [
      svg("line", { x1: PAD.left, x2: W - PAD.right, y1: y(value), y2: y(value), class: "grid" }),
      text(PAD.left - 8, y(value) + 4, "end", String(value)),
    ]),
    ticks(mostX).map((value) => text(x(value), H - PAD.bottom + 18, "middle", String(value))),
    text(x(mostX / 2), H - 6, "middle", "days watched"),
    text(PAD.left - 8, PAD.top - 4, "start", "edges"),
    svg("polygon", { points: band, class: "band" }),
    svg("line", { x1: PAD.left, x2: W - PAD.right, y1: y(bound), y2: y(bound), class: "bound" }),
    svg("polyline", { points: line(seen), class: "seen" }),
    svg("polyline", { points: line([last, ...points.filter((p) => p.foretold)]), class: "foretold" }),
    svg("circle", { cx: x(last.days), cy: y(last.edges), r: 4, class: "now" }),
    text(W - PAD.right + 8, y(bound) + 4, "start", `at least ${bound.toFixed(0)} exist`, "note"),
    text(x(last.days) + 8, y(last.edges) + 18, "start", `seen: ${last.edges.toFixed(0)}`, "note"),
  );
}
