// What is known of one workload, one outside end, or one line of the map.

import { CLASSES, changes, edges, ends, policies, ports, replay, roles, surplus } from "./data.js";
import { el, grouped, moreOf, number, plural, section, table } from "./dom.js";
import { alikeFlips, edgeCards } from "./views.js";

const heading = (words) => el("h2", { tabindex: -1 }, words);
const list = (items) => el("ul", { class: "plain" }, items.map((item) => el("li", {}, item)));
const day = (instant) => instant.slice(0, 10);

export function overview() {
  const workloads = ends.filter((end) => end.type === "workload");
  const counts = Object.keys(CLASSES).map((name) => [CLASSES[name], edges.filter((e) => e.shown === name).length]);
  return el("div", {},
    heading("All of it"),
    el("p", {}, `${plural(workloads.length, "workload")}, ${plural(policies.length, "policy", "policies")} proposed. `,
      `${number(replay.allowed)} of ${plural(replay.edges, "wanted edge")} replayed and allowed by them.`),
    table("Edges by class", ["class", "edges"], counts.filter(([, n]) => n).map(([words, n]) => [words, number(n)])),
    section(`Permitted beyond what was seen: ${number(surplus.length)}`, beyond()),
    el("p", { class: "quiet" }, "Choose a workload on the map or in the list to see its policy, the evidence of each rule, ",
      "and what waits for a decision. Press / to search."));
}

function beyond() {
  const reasons = grouped(surplus, (one) => one.why);
  const ports = (one) => one.ports.map(([low, high]) => (low === high ? low : `${low}-${high}`)).join(", ");
  return [...reasons].map(([why, some]) => el("details", {}, el("summary", {}, `${why}: ${number(some.length)}`),
    list(some.slice(0, 200).map((one) => `${one.src} to ${one.dst}, ${one.protocol} ${ports(one)}`))));
}

export function endPanel(end, pick) {
  return el("div", {},
    heading(end.label),
    el("p", { class: "quiet" }, [end.kind, end.namespace && `in ${end.namespace}`, end.role != null && `role ${end.role}`].filter(Boolean).join(", ")),
    end.addresses.length ? section(plural(end.addresses.length, "address", "addresses"), list(end.addresses)) : null,
    end.word ? el("p", {}, el("strong", {}, `${end.word}: `), end.why) : null,
    end.policy == null ? null : policyParts(policies[end.policy]),
    notLearned(end, pick),
    changesOf(end),
    roleOf(end, pick),
  );
}

function policyParts(policy) {
  return [
    section("Policy",
      el("p", {}, policy.file ? el("code", {}, policy.file) : "not written: Kubernetes takes no such name"),
      policy.seen ? null : el("p", {}, "Never seen in the window, so it is isolated altogether."),
      ...["ingress", "egress"].map((direction) => rulesOf(policy, direction)),
      el("details", {}, el("summary", {}, "YAML"),
        el("button", { type: "button", "data-copy": policy.yaml }, "Copy YAML"), el("pre", {}, policy.yaml))),
    policy.losses.length ? section("What the policy cannot say", list(policy.losses)) : null,
  ];
}

function rulesOf(policy, direction) {
  const rules = policy.rules.filter((rule) => rule.direction === direction);
  const whose = direction === "ingress" ? "may be called by" : "may call";
  if (!policy.directions.includes(direction)) return el("p", {}, `${direction}: left open.`);
  if (!rules.length) return el("p", {}, `${direction}: nothing was seen, so nothing is allowed.`);
  return el("div", {}, el("h4", {}, `${direction}: ${whose}`), rules.map(ruleCard));
}

function ruleCard(rule) {
  const many = rule.peers.length > 6;
  return el("div", { class: "rule" },
    el("p", {}, el("strong", {}, rule.peers.slice(0, 6).join(", "), many ? ` and ${rule.peers.length - 6} more` : ""), " on ",
      el("strong", {}, rule.ports.join(", "))),
    el("p", { class: "quiet" },
      `${plural(rule.connections, "connection")} on up to ${plural(rule.days, "day")} and in ${plural(rule.hours, "hour")}, `,
      `${day(rule.first_seen)} to ${day(rule.last_seen)}${rule.reporters.length ? `, told by the ${rule.reporters.join(" and the ")}` : ""}`),
    many ? el("details", {}, el("summary", {}, "all peers"), list(rule.peers)) : null);
}

const ORDER = ["review", "marked", "rejected", "denied"];

function notLearned(end, pick) {
  const left = ORDER.flatMap((name) => end.edges.filter((edge) => edge.shown === name));
  return left.length ? section(`Not learned, or to look at: ${number(left.length)}`, edgeCards(left, pick)) : null;
}

export const evidence = (edge) =>
  `${plural(edge.connections, "connection")} in ${plural(edge.hours, "hour")} on ${plural(edge.mask.toString(2).replaceAll("0", "").length, "day")}, ` +
  span(edge.first_seen, edge.last_seen);

const minute = (instant) => `${instant.slice(0, 10)} ${instant.slice(11, 16)}`;
const span = (first, last) => (minute(first) === minute(last) ? `${minute(first)} UTC` : `${minute(first)} to ${minute(last)} UTC`);

export const link = (end, pick, words) =>
  el("button", { type: "button", class: "link", onclick: () => pick(end) }, words ?? (end.namespace ? `${end.namespace}/${end.label}` : end.label));

// One end of an edge; where the map shows several addresses as one, the very address.
export const endOf = (edge, role, pick) => link(edge[role], pick, edge[`outside_${role}`]);

const WORDS = { true: "allowed", false: "denied" };
export const verdict = (allow) => WORDS[allow] ?? "cannot be told";

export function linePanel(left, pick) {
  const { client, server } = left[0];
  return el("div", {},
    heading(`${client.label} to ${server.label}`),
    el("p", {}, link(client, pick), " calls ", link(server, pick)),
    edgeCards(left, pick),
    section("Judged by policies", el("ul", { class: "plain" }, left.map((edge) =>
      el("li", {}, `${edge.names.client} to ${edge.names.server} ${ports(edge)}: ${verdict(edge.before)} by those in force, ${verdict(edge.after)} by the proposals`)))));
}

function changesOf(end) {
  if (end.type !== "workload") return null;
  const flips = end.edges.filter((edge) => edge.before !== edge.after);
  const alike = alikeFlips(flips).map((some) =>
    `${some[0].names.client} to ${some[0].names.server} ${some.map(ports).join(", ")}: ${verdict(some[0].before)} before, ${verdict(some[0].after)} after`);
  // With its kind where two kinds share the name.
  const names = [`${end.namespace}/${end.label}`, `${end.namespace}/${end.kind}/${end.label}`];
  const told = (some, words) => {
    const count = some.by_end[names[0]] ?? some.by_end[names[1]] ?? 0;
    if (!count) return el("p", { class: "quiet" }, `${words}: none`);
    const shown = some.rows.filter(([src, dst]) => names.includes(src) || names.includes(dst)).slice(0, 200);
    return el("details", {}, el("summary", {}, `${words}: ${number(count)}`),
      list(shown.map(([src, dst, what]) => `${src} to ${dst} ${what}`)), moreOf(count - shown.length));
  };
  return section("What changes against the policies in force",
    alike.length ? (alike.length > 8 ? el("details", {}, el("summary", {}, `observed edges: ${number(flips.length)}`), list(alike)) : list(alike))
      : el("p", { class: "quiet" }, "no observed edge changes its verdict"),
    told(changes.gained, "connections that become possible"), told(changes.lost, "connections that are closed"));
}

function roleOf(end, pick) {
  const role = roles.find((one) => one.role === end.role);
  if (!role) return null;
  const members = ends.filter((one) => one.role === end.role);
  return section(`Role ${role.role}: ${plural(role.members, "member")}`,
    list(role.tokens), members.length < 2 ? el("p", { class: "quiet" }, "Alone in its role: nothing shows when it misbehaves from the first hour to the last.")
      : el("p", {}, members.slice(0, 20).map((one) => [link(one, pick), " "])));
}

