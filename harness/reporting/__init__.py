"""Records of runs become tables, a manifest, plots and a page. Imports no torch."""
