// The other tabs: what waits for review, what changes, whether the window was long enough, about.

import { CLASSES, about, changes, curve, days, edges, ends, ports, surplus, watched } from "./data.js";
import { drawCurve } from "./curve.js";
import { byId, copy, el, fill, grouped, moreOf, number, plural, section, table } from "./dom.js";
import { endOf, evidence, link } from "./panel.js";

const MOST = 200;

// Between single quotes a shell takes every character as it is, but the quote itself.
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const printable = (text) => text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " ").trim();

function command(edge, what) {
  const who = printable(byId("who").value) || "YOUR NAME";
  const why = printable(byId("why").value) || "WHY";
  return `flowpolicy decide ${what} ${edge.decide} --who ${quoted(who)} --why ${quoted(why)}`;
}

export function decideButtons(edge) {
  if (!edge.decide) return el("p", { class: "quiet" }, "No decision can name both ends of this edge.");
  const button = (what, words) =>
    el("button", {
      type: "button", class: what, title: `copy the flowpolicy command that ${what}s this edge`,
      "aria-label": `${words}: ${edge.names.client} to ${edge.names.server} ${ports(edge)}`,
      onclick: (event) => {
        const text = command(edge, what);
        event.target.dataset.copied = text;
        copy(text, (said) => { byId("status").textContent = `${said}: ${text}`; });
      },
    }, words);
  return el("p", { class: "buttons" }, edge.sayable ? button("accept", "Copy accept command") : null, button("reject", "Copy reject command"));
}

// Edges of one client that are what they are for one reason, together: a scan is one card.
export function edgeCards(some, pick) {
  const groups = grouped(some, (edge) => `${edge.client.id} ${edge.names.client} ${edge.shown} ${edge.reason}`);
  return [...groups.values()].map((group) => edgeCard(group, pick));
}

function edgeCard(group, pick) {
  const [{ reason, shown }] = group;
  const line = (edge) => el("li", {},
    el("p", {}, "to ", endOf(edge, "server", pick), " on ", el("strong", {}, ports(edge))),
    el("p", { class: "quiet" }, evidence(edge)),
    edge.class === "review" ? decideButtons(edge) : null);
  const lines = el("ul", { class: "plain" }, group.slice(0, MOST).map(line));
  const more = group.length > MOST ? el("p", { class: "quiet" }, `and ${number(group.length - MOST)} more`) : null;
  const servers = new Set(group.map((edge) => edge.server)).size;
  return el("div", { class: `rule ${shown}` },
    el("p", {}, endOf(group[0], "client", pick), group.length > 3 ? ` calls ${plural(servers, "server")}, ${plural(group.length, "edge")}` : ""),
    el("p", {}, el("span", { class: `tag ${shown}` }, CLASSES[shown]), ": ", reason),
    group.length > 3 ? el("details", {}, el("summary", {}, `all ${number(group.length)}`), lines, more) : lines);
}

export function reviewView(place, count, pick) {
  const waiting = edges.filter((edge) => edge.class === "review")
    .sort((a, b) => (b.score ?? 99) - (a.score ?? 99) || a.i - b.i);
  count.textContent = number(waiting.length);
  const cards = edgeCards(waiting, pick);
  fill(byId("review-list"), cards.length ? cards : el("p", {}, "Nothing waits for a decision."));
}

const listed = (title, some, words) => section(`${title}: ${number(some.count)}`,
  some.count ? el("details", {}, el("summary", {}, words), el("ul", { class: "plain" }, some.rows.map(([src, dst, what]) => el("li", {}, `${src} to ${dst} ${what}`))),
    moreOf(some.count - some.rows.length))
    : el("p", { class: "quiet" }, "none"));

// Edges whose verdict changes in the same way between the same ends, together: their ports differ.
export const alikeFlips = (flips) => [...grouped(flips, (e) =>
  [e.names.client, e.names.server, e.client.i, e.server.i, e.class, e.before, e.after].join(" ")).values()];

export function changesView(place, pick) {
  const flips = edges.filter((edge) => edge.before !== edge.after)
    .sort((a, b) => (b.class === "wanted") - (a.class === "wanted") || a.i - b.i);
  const alike = alikeFlips(flips);
  const word = (allow) => ({ true: "allowed", false: "denied" })[allow] ?? "cannot be told";
  fill(place,
    el("h2", {}, "What changes against the policies in force"),
    el("p", { class: "quiet" }, changes.what),
    section(`Observed edges that change their verdict: ${number(flips.length)}`,
      flips.length ? table("Edges", ["client", "server", "port", "class", "before", "after"],
        alike.slice(0, MOST).map(([e, ...rest]) => [endOf(e, "client", pick), endOf(e, "server", pick), [e, ...rest].map(ports).join(", "), e.class, word(e.before), word(e.after)])) : null,
      alike.length > MOST ? el("p", { class: "quiet" }, `and ${number(alike.length - MOST)} more pairs`) : null),
    listed("Connections that become possible", changes.gained, "what nothing permitted before"),
    listed("Connections that are closed", changes.lost, "what is permitted today and was never seen, or was stopped"),
    section(`Objects: ${number(changes.objects.length)}`, changes.objects.map((object) => !object.text
      ? el("p", {}, `${object.change}: ${object.kind} ${object.name}`) : el("details", {}, el("summary", {}, `${object.change}: ${object.kind} ${object.name}`), el("pre", {}, object.text)))),
    section(`To look at in the policies in force: ${number(changes.findings.length)}`,
      el("ul", { class: "plain" }, changes.findings.map((line) => el("li", {}, line)))),
  );
}

export function windowView(place, pick) {
  const words = ends.filter((end) => end.word && end.word !== watched.word);
  fill(place,
    el("h2", {}, `Was it watched long enough? ${watched.word}`),
    el("ul", {}, watched.why.map((why) => el("li", {}, why))),
    curve ? [el("figure", {}, drawCurve(curve),
      el("figcaption", {}, `Edges that so many days show on average, with a 95 % interval; dashed, what as many days again would show. `,
        `By the daily count at least ${curve.bound.toFixed(0)} edges exist (95 % interval ${curve.bound_low.toFixed(0)} to ${curve.bound_high.toFixed(0)}).`)),
      el("details", {}, el("summary", {}, "The curve as a table"),
        table("Rarefaction curve", ["days", "edges", "low", "high"], curve.points.map((p) => [p.days, p.edges.toFixed(1), p.foretold ? "-" : p.low.toFixed(1), p.foretold ? "-" : p.high.toFixed(1)])))]
      : el("p", {}, `A curve needs traffic on two days; ${plural(days, "day")} is in the log.`),
    table("Coverage by width of the bins; the worst counts",
      ["bins of", "edges", "once", "exist at least", "coverage", "lower limit", "days until 99 %"],
      watched.bins.map((b) => [`${b.width_h} h`, number(b.edges), number(b.uniques), b.edges_at_least.toFixed(0),
        watched.correlated && b.width_h === 1 ? "withheld: activity comes in runs" : b.coverage.toFixed(4), b.coverage_low.toFixed(4), b.days_needed.toFixed(1)])),
    el("p", {}, `Foretold for the next day: ${(100 * watched.foretold_denied).toFixed(2)} % of its edges would be denied. `,
      `What happens less often than every ${watched.longest_period_days} days may be missing altogether.`),
    ...[["Did not run in the window", watched.cronjobs_outside], ["Holes in the log", watched.silences], ["Declared, never called", watched.services_unseen]]
      .filter(([, lines]) => lines.length).map(([title, lines]) => section(title, el("ul", { class: "plain" }, lines.map((line) => el("li", {}, line))))),
    words.length ? table("Workloads with another word", ["workload", "word", "why"], words.map((end) => [link(end, pick), end.word, end.why])) : null,
  );
}

export function aboutView(place) {
  const rows = [["cluster", about.cluster], ["inventory", about.inventory], ["first seen", about.first_seen], ["last seen", about.last_seen],
    ["made by", `flowpolicy ${about.version}`], ["permitted beyond what was seen", number(surplus.length)]];
  fill(place, el("dl", {}, rows.map(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value ?? "-"))])));
}
