"""From records to rows, statistics and comparisons: pure functions that reports show."""
