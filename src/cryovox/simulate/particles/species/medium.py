"""Species from 300 kDa to 1 MDa."""

from __future__ import annotations

from cryovox.simulate.particles.beads import BeadModel, helix_copies, symmetry_copies
from cryovox.simulate.particles.species.traits import CONCAVE, HOLLOW, LOPSIDED

SPECIES: dict[str, BeadModel] = {
    "beta-galactosidase": BeadModel(
        mass=465,
        dimensions=(185, 140, 95),
        group="D2",
        beads=symmetry_copies(
            "D2",
            (70, 15, 17, 22), (31, 46, -24, 24), (25, 17, 19, 20), (70, 0, 0, 8), (47, 16, 18, 8),
            (28, 30, -1, 9), (1, 31, -21, 15),
        ),
        source="PDB 6X1Q; 1F4A, map: 185 x 140 x 95, a flat cross",
        aliases=("6X1Q", "1F4A", "6DRV"),
        traits=CONCAVE,
    ),
    "apo-ferritin": BeadModel(
        mass=480,
        dimensions=(120, 120, 120),
        group="O",
        beads=symmetry_copies(
            "O",
            (46, 13, 8, 14), (36, 29, 13, 14), (40, 19, -17, 14), (31, 27, 25, 14), (48, 0, 0, 12),
        ),
        source="PDB 4V1W: shell, 120 outside and 80 inside (Theil, Annu. Rev. Biochem. 56 (1987) 289)",
        aliases=("4V1W", "6PXM", "6Z6U", "apoferritin", "ferritin"),
        traits=HOLLOW,
    ),
    "p97": BeadModel(
        mass=540,
        dimensions=(165, 165, 91),
        group="C6",
        beads=symmetry_copies(
            "C6",
            (65, -14, 25, 19), (42, 8, 19, 21), (42, -4, -23, 24), (42, 2, -1, 8),
        ),
        source="PDB 3CF3, atoms: two rings around a pore, the upper one with outer domains",
        aliases=("3CF3", "vcp"),
        traits=HOLLOW,
    ),
    "rubisco": BeadModel(
        mass=560,
        dimensions=(131, 131, 119),
        group="D4",
        beads=symmetry_copies(
            "D4",
            (39, 7, 17, 26), (21, 22, 42, 18), (9, 29, 32, 8),
        ),
        source="PDB 1BXN, atoms: eight large and eight small chains around a channel",
        aliases=("1BXN",),
        traits=HOLLOW,
    ),
    "clpb": BeadModel(
        mass=593,
        dimensions=(172, 172, 209),
        group="C1",
        beads=helix_copies(
            6, 18,
            (54, 0, 48, 17), (38, 12, 16, 22), (42, -6, -24, 23), (54, 4, -44, 17), (70, -6, 10, 15),
            (73, 10, -6, 13),
        ),
        source="PDB 1QVR, atoms: 209 long, 172 wide; a staircase of six, 60 degrees and 18 Å a step",
        aliases=("1QVR", "hsp104"),
        traits=LOPSIDED,
    ),
    "thyroglobulin": BeadModel(
        mass=660,
        dimensions=(253, 124, 121),
        group="C2",
        beads=symmetry_copies(
            "C2",
            (22, 12, -26, 29), (52, 23, -38, 25), (48, -27, -10, 25), (81, 4, -19, 25), (101, -10, 10, 21),
            (109, -4, 41, 18), (24, 39, 12, 23), (26, -39, 26, 20), (16, 0, 36, 18), (65, -11, -14, 8),
            (0, 0, 36, 8), (36, -34, 10, 8), (21, -19, 31, 9),
        ),
        source="PDB 7N4Y, map: 253 x 124 x 121, a bent bar with two wings",
        aliases=("7N4Y",),
        traits=LOPSIDED,
    ),
    "proteasome-20s": BeadModel(
        mass=700,
        dimensions=(115, 115, 150),
        group="D7",
        beads=symmetry_copies(
            "D7",
            (36, 0, 55, 20), (36, 9, 19, 21), (36, 4, 38, 8), (33, 16, 0, 8),
        ),
        source="PDB 1PMA: 148 x 113 (Löwe et al., Science 268 (1995) 533), three chambers",
        aliases=("1PMA", "3J9I", "6UTJ"),
        traits=HOLLOW,
    ),
    "groel": BeadModel(
        mass=800,
        dimensions=(137, 137, 146),
        group="D7",
        beads=symmetry_copies(
            "D7",
            (44, 0, 16, 21), (48, 12, 35, 15), (50, -4, 53, 20), (36, 17, 16, 8),
        ),
        source="PDB 1OEL: 146 x 137 (Braig et al., Nature 371 (1994) 578), two open cavities",
        aliases=("1OEL", "1SS8", "1GRL"),
        traits=HOLLOW,
    ),
    "groel-groes": BeadModel(
        mass=870,
        dimensions=(140, 140, 184),
        group="C7",
        beads=symmetry_copies(
            "C7",
            (45, 0, -15, 20), (49, 12, -36, 13), (49, -6, -55, 18), (46, 0, 16, 20), (53, 12, 40, 15),
            (49, 14, 65, 20), (37, 0, 87, 14), (21, 0, 99, 12),
        ),
        source="PDB 1AON: 184 x 140 (Xu, Horwich & Sigler, Nature 388 (1997) 741), one cavity capped",
        aliases=("1AON",),
        traits=HOLLOW,
    ),
    "tric": BeadModel(
        mass=952,
        dimensions=(165, 165, 165),
        group="D8",
        beads=symmetry_copies(
            "D8",
            (61, 0, 18, 21), (61, 23, 46, 17), (40, 6, 68, 15), (17, 0, 74, 9), (61, 13, 34, 8),
            (53, 32, 34, 8), (26, 2, 71, 8), (50, 14, 57, 9),
        ),
        source="PDB 4V94, one of two in the map: closed ball of 165 around two chambers",
        aliases=("4V94", "cct"),
        traits=HOLLOW,
    ),
}  # fmt: skip
