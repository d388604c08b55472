"""Particle templates from structures, from maps, and from the built-in library."""
