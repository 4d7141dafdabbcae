// The data that `flowpolicy report` wrote into the page, as objects that refer to each other.
// The layout is described in recommender/report/page_data.py.

import { gunzipSync, strFromU8 } from "fflate";

const packed = Uint8Array.from(atob(document.getElementById("data").textContent), (one) => one.charCodeAt(0));
const raw = JSON.parse(strFromU8(gunzipSync(packed)));
const DAY_S = 86400;

export const CLASSES = {
  wanted: "wanted, a rule",
  marked: "wanted, look at it",
  review: "waits for review",
  denied: "denied, not learned",
  rejected: "rejected by decision",
  ignored: "no policy matter",
};

export const ends = raw.ends.map((end, i) => ({ ...end, i, id: `e${i}`, edges: [] }));
const named = (columns, row) => Object.fromEntries(columns.map((name, k) => [name, row[k]]));

export const policies = raw.policies.map((policy) =>
  ({ ...policy, rules: policy.rules.map((row) => named(raw.rule_columns, row)) }));

const at = (seconds) => new Date(seconds * 1000).toISOString().replace(/\.000Z$/, "Z");

export const edges = raw.edges.rows.map((row, i) => {
  const edge = named(raw.edges.columns, row);
  edge.i = i;
  edge.client = ends[edge.client];
  edge.server = ends[edge.server];
  edge.reason = raw.reasons[edge.reason];
  edge.names = { client: edge.outside_client ?? edge.client.label, server: edge.outside_server ?? edge.server.label };
  edge.mask = BigInt(`0x${edge.days_seen}`);
  edge.first_seen = at(edge.first);
  edge.last_seen = at(edge.last);
  edge.shown = edge.class === "wanted" && ["rare", "ask"].includes(edge.pattern) ? "marked" : edge.class;
  edge.client.edges.push(edge);
  if (edge.server !== edge.client) edge.server.edges.push(edge);
  return edge;
});

export const { about, changes, replay, surplus, window: watched, roles, curve } = raw;
export const firstDay = raw.first_day;
export const days = raw.days;
export const dayName = (day) => at((firstDay + day) * DAY_S).slice(0, 10);

// The days from `low` to `high`, both in, as a mask like that of the edges.
export function dayMask(low, high) {
  return ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);
}

export const ports = (edge) =>
  edge.port == null ? `${edge.protocol}` : `${edge.protocol} ${edge.port}`;
