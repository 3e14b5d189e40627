"""Analysis of records: rows, scores, statistics, comparisons, Pareto front. Pure functions."""
