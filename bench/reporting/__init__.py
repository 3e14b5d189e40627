"""Reports: pure functions from the rows of an analysis to documents and figures."""
