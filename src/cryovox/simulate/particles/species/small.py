"""Species below 300 kDa."""

from __future__ import annotations

from cryovox.simulate.particles.beads import BeadModel, symmetry_copies
from cryovox.simulate.particles.species.traits import CONCAVE, HOLLOW, LOPSIDED

SPECIES: dict[str, BeadModel] = {
    "hsc70-fragment": BeadModel(
        mass=43,
        dimensions=(72, 49, 58),
        group="C1",
        beads=(
            (-14, 7, -12, 15), (14, -7, -12, 15), (-23, -10, 14, 14), (22, 11, 16, 14), (0, 0, -17, 11),
            (-19, -2, 1, 8), (18, 2, 2, 9),
        ),
        source="PDB 1S3X, atoms: four subdomains around a cleft",
        aliases=("1S3X",),
        traits=LOPSIDED,
    ),
    "esterase": BeadModel(
        mass=62,
        dimensions=(77, 55, 46),
        group="C2",
        beads=symmetry_copies(
            "C2",
            (20, 7, 0, 19), (10, -15, 10, 13), (24, -6, -11, 12), (2, 12, 6, 8),
        ),
        source="PDB 3QM1, atoms: dimer of LJ0536, a stout rod",
        aliases=("3QM1",),
        traits=frozenset(),
    ),
    "ssb1": BeadModel(
        mass=85,
        dimensions=(93, 68, 66),
        group="C2",
        beads=symmetry_copies(
            "C2",
            (16, 0, -17, 18), (30, 11, 4, 16), (25, -19, 17, 15), (0, 0, -17, 8), (27, -4, 10, 8),
        ),
        source="PDB 3GL1, map of both chains: two nucleotide-binding domains side by side",
        aliases=("3GL1",),
        traits=LOPSIDED,
    ),
    "antibody": BeadModel(
        mass=150,
        dimensions=(142, 38, 85),
        group="C2",
        beads=symmetry_copies(
            "C2",
            (10, 0, -27, 19), (10, 0, -14, 19), (9, 0, -1, 10), (25, 0, 3, 18), (23, 0, 13, 18),
            (39, 0, 11, 19), (39, 0, 22, 18), (52, 0, 20, 19),
        ),
        source="PDB 1IGT: about 142 x 85 x 38 (Harris et al., Biochemistry 36 (1997) 1581), a Y",
        aliases=("1IGT", "igg"),
        traits=LOPSIDED,
    ),
    "get3": BeadModel(
        mass=158,
        dimensions=(153, 81, 87),
        group="D2",
        beads=symmetry_copies(
            "D2",
            (56, 20, 22, 21), (28, 11, 12, 14), (42, 15, 17, 10), (28, 0, 0, 10), (10, 2, 0, 13),
        ),
        source="PDB 3H84, atoms of the tetramer: two clefted dimers, end to end",
        aliases=("3H84",),
        traits=CONCAVE,
    ),
    "hsp90": BeadModel(
        mass=189,
        dimensions=(91, 92, 129),
        group="C2",
        beads=symmetry_copies(
            "C2",
            (10, 17, 43, 21), (28, 28, 12, 18), (24, -14, -19, 18), (8, -17, -45, 20), (0, 0, -45, 8),
            (20, 23, 27, 8), (26, 7, -3, 14),
        ),
        source="PDB 2CG9, map: twisted dimer, closed at both ends, with Sba1",
        aliases=("2CG9",),
        traits=HOLLOW,
    ),
    "arp2-3": BeadModel(
        mass=220,
        dimensions=(150, 80, 100),
        group="C1",
        beads=(
            (-52, 0, 20, 23), (-37, 10, -8, 21), (-8, 10, -28, 23), (29, -8, -27, 23), (54, -5, -5, 21),
            (10, -10, -10, 17), (-21, 26, 33, 15), (52, 13, 25, 16), (35, -23, 7, 15), (53, 5, 12, 8),
            (-33, 15, 28, 9),
        ),
        source="PDB 1K8K (Robinson et al., Science 294 (2001) 1679): about 150 long, a flat kidney",
        aliases=("1K8K",),
        traits=LOPSIDED,
    ),
    "beta-amylase": BeadModel(
        mass=224,
        dimensions=(110, 110, 90),
        group="D2",
        beads=symmetry_copies(
            "D2",
            (31, 31, 21, 24), (0, 31, 0, 15), (31, 0, 0, 17), (31, -13, -9, 8), (12, 31, 8, 8),
        ),
        source="PDB 1FA2, D2 from monomers of 73 x 64 x 56 (map) and 56 kDa",
        aliases=("1FA2", "1B1Y", "beta-amylase-tetramer"),
        traits=CONCAVE,
    ),
    "hsp110-hsc70": BeadModel(
        mass=236,
        dimensions=(202, 93, 78),
        group="C2",
        beads=symmetry_copies(
            "C2",
            (45, 9, 6, 24), (71, -9, -14, 18), (85, 7, 6, 16), (14, 5, -22, 17), (30, -26, 22, 17),
            (51, 31, -10, 16), (78, -1, -3, 8), (60, -2, -6, 8), (0, 0, -22, 8), (36, -11, 16, 8),
            (27, 7, -11, 8),
        ),
        source="PDB 3D2F, map of both complexes: two lobes and a thin bridge",
        aliases=("3D2F",),
        traits=CONCAVE,
    ),
    "cand1-cul1": BeadModel(
        mass=239,
        dimensions=(153, 104, 95),
        group="C1",
        beads=(
            (-56, -9, 15, 21), (-49, -23, -7, 20), (-29, -27, -23, 20), (0, -18, -28, 21),
            (27, -11, -23, 20), (49, 7, -8, 21), (55, 16, 13, 21), (39, 30, 26, 18), (-39, 27, 26, 19),
            (-14, 34, 28, 18), (12, 39, 28, 18),
        ),
        source="PDB 1U6G, atoms: CAND1, an open arc around Cul1",
        aliases=("1U6G",),
        traits=LOPSIDED,
    ),
}  # fmt: skip
