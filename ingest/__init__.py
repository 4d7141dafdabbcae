"""Flow logs in, one Parquet dataset out; knows no policy.

schema    FLOWS, REJECTS and GAPS: every column with its meaning, unit, null and origin
load      load(): sources into a store; blocks (one block of a source), workers (other processes)
follow    follow(): what grows and what is live, round after round; with it
          growing (files that are written, rotated, truncated), live (Hubble Relay, Goldmane),
          live_protocols and protocols (their messages), spool (received lines), security
sources   where lines come from: file, folder, glob, standard input; blocks of lines; with it
          packed (.gz, .zst), buckets (object stores), places (paths on disk and in them)
documents JSON that is not one record a line -> lines; wrappers takes off what shippers put around
formats   FORMATS: one reader a log format; detect() names the format of a log
hubble    Hubble lines -> Batch, whatever other blocks hold; with it
          hubble_wire (the JSON), hubble_signs (what an event means), hubble_ends (who the ends
          are), hubble_rows (any line, carefully), hubble_bulk (what holds nothing new, quickly),
          hubble_pieces (what was met before, by its bytes)
calico    Calico Enterprise records -> Batch; goldmane: those of Calico Open Source; with them
          calico_rows (what the two have in common)
batch     Batch: flows, skipped, rejects, gaps; the loop over lines that all formats share
columns   values -> Arrow columns
values    what a name, address, port or time of a log must be
executors the same blocks read by a cluster of Apache Spark; with it
          spark (the session, its views), hadoop (logs where only Hadoop reads)
store     the Parquet dataset: atomic, idempotent writes; reading; with it
          files (written whole or not at all), records (what is known of a block)
compact   compact(): small files joined, old days removed; locks: who waits for whom
errors    what can go wrong with a user's input, as one sentence
"""
