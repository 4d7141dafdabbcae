"""Flow logs in, one Parquet dataset out; knows no policy.

schema    FLOWS and REJECTS: every column with its meaning, unit, null and origin
formats   FORMATS: one reader a log format; detect() names the format of a line
hubble, calico    lines of one format -> (flows, skips, rejects), no state between blocks
sources   where lines come from: file, folder, glob, standard input, .gz, .zst
store     the Parquet dataset: atomic, idempotent writes; reading
errors    what can go wrong with a user's input, as one sentence
"""
