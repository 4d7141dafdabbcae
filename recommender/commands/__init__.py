"""The subcommands, one file each: options in, a call of the library, printing out.

Heavy imports stay inside the functions, so that `--help` answers at once.
"""
