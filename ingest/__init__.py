"""Flow logs in, one Parquet dataset out; knows no policy.

schema    FLOWS and REJECTS: every column with its meaning, unit, null and origin
load      load(): sources into a store, in worker processes
sources   where lines come from: file, folder, glob, standard input, .gz, .zst; blocks of lines
formats   FORMATS: one reader a log format; detect() names the format of a log
hubble    Hubble lines -> Batch, no state between blocks; with it
          hubble_wire (the JSON), hubble_signs (what an event means), hubble_ends (who the ends are)
calico    Calico Enterprise records -> Batch
batch     Batch: flows, skipped, rejects; the loop over lines that all formats share
columns   values -> Arrow columns
values    what a name, address, port or time of a log must be
store     the Parquet dataset: atomic, idempotent writes; reading
errors    what can go wrong with a user's input, as one sentence
"""
