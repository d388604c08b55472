"""Species that sit in a membrane: its middle is z = 0, and z points out of the vesicle."""

from __future__ import annotations

from cryovox.simulate.particles.beads import BeadModel, symmetry_copies
from cryovox.simulate.particles.species.traits import CONCAVE, HOLLOW, LOPSIDED

SPECIES: dict[str, BeadModel] = {
    "nicotinic-receptor": BeadModel(
        mass=280,
        dimensions=(81, 81, 130),
        group="C5",
        beads=symmetry_copies(
            "C5",
            (22, 0, 68, 19), (22, 5, 43, 18), (16, 0, 15, 15), (16, 4, -8, 15), (13, 0, -30, 13),
            (19, 2, 28, 8),
        ),
        source="PDB 5KXI, map with detergent: 130 x 81 x 81, a cup on a stem",
        aliases=("5KXI", "acetylcholine-receptor"),
        membrane=True,
        traits=HOLLOW,
    ),
    "spike": BeadModel(
        mass=480,
        dimensions=(130, 130, 210),
        group="C3",
        beads=symmetry_copies(
            "C3",
            (25, 10, 172, 22), (48, -8, 161, 20), (42, 23, 142, 19), (23, -4, 140, 20), (25, 6, 114, 20),
            (19, 2, 88, 18), (10, 0, 60, 13), (8, 2, 37, 10), (8, 0, 17, 10), (8, 0, -6, 10),
            (4, 9, 88, 8), (14, 1, 71, 8), (9, 1, 47, 8), (8, 1, 27, 8), (8, 0, 6, 8),
        ),
        source="PDB 6VXX: head of about 160 x 130 (Walls et al., Cell 181 (2020) 281), on a stalk",
        aliases=("6VXX", "sars-cov-2-spike"),
        membrane=True,
        traits=CONCAVE,
    ),
    "atp-synthase": BeadModel(
        mass=560,
        dimensions=(115, 125, 225),
        group="C1",
        beads=(
            *symmetry_copies(
                "C3",
                (36, 0, 126, 22), (-36, 0, 126, 22), (34, 6, 156, 20), (-34, 6, 156, 20), (16, 0, 126, 8),
            ),
            *symmetry_copies(
                "C14",
                (28, 0, 17, 9), (28, 0, 0, 9), (28, 0, -17, 9),
            ),
            (0, 0, 126, 18), (3, 0, 97, 16), (-2, 3, 74, 16), (4, -7, 51, 18), (0, 5, 36, 19),
            (0, 49, -6, 20), (2, 49, 15, 19), (0, 55, 38, 13), (0, 59, 61, 12), (0, 60, 84, 12),
            (0, 57, 110, 12), (0, 51, 137, 13), (0, 38, 169, 16), (6, 13, 181, 18), (-4, 34, -14, 8),
            (2, 0, 111, 8), (0, 57, 50, 8), (0, 59, 73, 8), (0, 58, 97, 8), (-7, 47, 116, 8),
        ),
        source="PDB 6FKF: 560 kDa, about 225 tall (Hahn et al., Science 360 (2018) eaat4318), two stalks",
        aliases=("6FKF", "5ARA"),
        membrane=True,
        traits=LOPSIDED,
    ),
    "photosystem-ii": BeadModel(
        mass=700,
        dimensions=(205, 110, 105),
        group="C2",
        beads=symmetry_copies(
            "C2",
            (23, 7, 0, 26), (61, 9, 2, 28), (78, -15, 0, 24), (43, -24, -2, 26), (29, 32, 2, 23),
            (74, 26, 4, 21), (14, -13, 4, 23), (35, 7, 32, 23), (64, 4, 34, 21), (45, -17, 53, 21),
            (25, 21, 55, 19), (59, 17, 59, 19),
        ),
        source="PDB 3WU2: dimer, 205 x 110 x 105 (Ferreira et al., Science 303 (2004) 1831; 1S5L)",
        aliases=("3WU2", "1S5L"),
        membrane=True,
        traits=CONCAVE,
    ),
}  # fmt: skip
