"""One loop, many strategies."""
