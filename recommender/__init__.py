"""Parquet of flows -> edges -> policies -> diff.

manifests   objects as dicts with the place they were read from
inventory   namespaces, nodes, workloads, pods, services
objects     Kubernetes objects -> inventory
owners      pod -> workload
endpoints   who the ends of flows are (who, kubelets beside it)
edges       flows -> edges by hour, one ibis expression
hours       who is behind Service addresses; edges over all hours
classify    which edges are wanted, and why the others are not
roles       a grouping of ends and the bits that it needs (moves betters one)
patterns    the grouping that needs the fewest bits
outliers    edges that must not silently become rules
decisions   what people decided of edges
meaning     classes, roles, outliers and decisions, one after the other
window      was it watched long enough (incidence: estimators, cron: schedules, enough: the word)
selectors   the selector that takes in exactly one workload
propose     wanted edges -> policies with evidence
ports       PortSet, and what a rule says of ports
model       Selector, Peer, Rule, Policy, Verdict
dialects    policy APIs: parse and render, one file each
evaluate    what a set of policies permits, and why (universe, tiers, acting, matrix, ends below it)
replay      observed edges through policies
rarefaction how many edges so many days would have shown
diff        what changes between two sets of policies
recommend   the whole way from a store to checked policies
report      results as text, JSON and a page
commands    the command line, one file a command
"""
