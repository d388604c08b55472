"""STAR particle lists of RELION 3, 4 and 5, Warp and M.

These modules convert between the following conventions and ours (Å from the center of voxel 0):

- `rlnCenteredCoordinate{X,Y,Z}Angst` (RELION 5) is in Å from the center of the tomogram of the particle. The
  center is at n / 2 voxels on an axis of n by default, as in the C++ programs of RELION; its Python pickers
  use n / 2 - 1, which is `center="half-1"`. Files that we write record the center in the block
  `data_cryovox`, which is used on reading.
- `rlnCoordinate{X,Y,Z}` is in pixels, in RELION 4 and 5 those of the unbinned tilt series.
- `rlnOrigin{X,Y,Z}Angst` (Å) or `rlnOrigin{X,Y,Z}` (pixels of the extracted images) is subtracted.
- Angles are those of :mod:`cryovox.formats.angles`; `rlnTomoSubtomogram{Rot,Tilt,Psi}` rotates the
  subtomogram, with its shift, into the tomogram.

Positions and rotations include shifts and subtomogram angles. Both are written back unchanged for RELION 4
and 5, with the blocks `data_optics` and `data_general`, since extracted images and priors refer to them.

`rlnPixelSize` is not used as the pixel size of coordinates: programs disagree on its meaning.
"""

from __future__ import annotations

from cryovox.formats.particles.star_reading import placeholder_tomograms, read, recorded_center
from cryovox.formats.particles.star_writing import write

__all__ = ["placeholder_tomograms", "read", "recorded_center", "write"]
