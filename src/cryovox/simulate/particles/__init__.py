"""Templates of particles: from structures, from maps, and the built-in library."""
