"""Where runs come from: each source gives the same table of runs (and their curves)."""
