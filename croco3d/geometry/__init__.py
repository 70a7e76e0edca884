"""Pure geometry on tensors: cameras, poses, similarity transforms, PnP, focals, matches, surfaces.

Conventions, everywhere in the package:

- Camera axes are OpenCV's: x right, y down, z forward. Lengths are in the unit of the input.
- Poses are `cam2world`, `(..., 4, 4)`: they take points of the camera's frame to the world.
- Pixels are (u, v) = (column, row), and integer coordinates are pixel centres: the ray of pixel
  (u, v) is `((u - cx) / fx, (v - cy) / fy, 1)`. Resizing by `s` moves `u` to
  `(u + 0.5) * s - 0.5`. The matrix of an image stored transposed has its first two rows exchanged.
- Pointmaps are `(..., H, W, 3)`; depth is the z coordinate in the camera's frame, `(..., H, W)`;
  masks are bool.
- Functions take any leading dimensions. Those of a camera or a pose are the first ones of the
  points it goes with: `(B, 4, 4)` with `(B, H, W, 3)`.
"""

from croco3d.geometry.cameras import crop_intrinsics as crop_intrinsics
from croco3d.geometry.cameras import depth_to_pointmap as depth_to_pointmap
from croco3d.geometry.cameras import focal_from_fov as focal_from_fov
from croco3d.geometry.cameras import fov_from_focal as fov_from_focal
from croco3d.geometry.cameras import intrinsics_matrix as intrinsics_matrix
from croco3d.geometry.cameras import pixel_grid as pixel_grid
from croco3d.geometry.cameras import pointmap_to_depth as pointmap_to_depth
from croco3d.geometry.cameras import project as project
from croco3d.geometry.cameras import resize_intrinsics as resize_intrinsics
from croco3d.geometry.cameras import unproject as unproject
from croco3d.geometry.focal import estimate_focal as estimate_focal
from croco3d.geometry.matches import fast_reciprocal_matches as fast_reciprocal_matches
from croco3d.geometry.matches import index_to_pixel as index_to_pixel
from croco3d.geometry.matches import nearest_neighbours as nearest_neighbours
from croco3d.geometry.matches import projective_matches as projective_matches
from croco3d.geometry.matches import reciprocal_matches as reciprocal_matches
from croco3d.geometry.poses import compose_poses as compose_poses
from croco3d.geometry.poses import invert_pose as invert_pose
from croco3d.geometry.poses import pose_from_parts as pose_from_parts
from croco3d.geometry.poses import relative_pose as relative_pose
from croco3d.geometry.poses import rotation_angle as rotation_angle
from croco3d.geometry.poses import transform_points as transform_points
from croco3d.geometry.poses import translation_angle as translation_angle
from croco3d.geometry.registration import PnPResult as PnPResult
from croco3d.geometry.registration import pose_from_pointmaps as pose_from_pointmaps
from croco3d.geometry.registration import solve_pnp as solve_pnp
from croco3d.geometry.similarity import Similarity as Similarity
from croco3d.geometry.similarity import fit_similarity as fit_similarity
from croco3d.geometry.statistics import CentreScale as CentreScale
from croco3d.geometry.statistics import estimate_scale as estimate_scale
from croco3d.geometry.statistics import masked_median as masked_median
from croco3d.geometry.statistics import robust_centre_scale as robust_centre_scale
from croco3d.geometry.statistics import weighted_median as weighted_median
from croco3d.geometry.surfaces import depth_edges as depth_edges
from croco3d.geometry.surfaces import normals as normals
from croco3d.geometry.two_views import pose_from_both_orders as pose_from_both_orders
