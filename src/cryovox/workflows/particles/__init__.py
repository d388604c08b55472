"""Filtering, statistics and consensus of particle lists."""
