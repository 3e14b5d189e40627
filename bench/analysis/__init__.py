"""Analysis of benchmark records: grouping, accuracy, statistics, comparisons, Pareto front."""
