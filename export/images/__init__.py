"""Image recipes, one file each: they turn an RGB image into the input of a vision encoder.

Their results equal those of the image processors of transformers on Pillow, to the bit: each step
works on uint8, and a normalized value is one of 256 for each channel.
"""

from export.images.aspect_tiles import AspectTiles
from export.images.crops import Crops
from export.images.patches import Patches
from export.images.stretch import Stretch
from export.images.tiles import Tiles

__all__ = ["AspectTiles", "Crops", "ImageRecipe", "Patches", "Stretch", "Tiles"]

ImageRecipe = Tiles | Stretch | Patches | Crops | AspectTiles
"""Every recipe has: `pixels(image)`, `most_tiles`, `used_edge`, `within(max_tiles)`, `one_tile()`,
`preprocessor()`, `problems(vision)`, `mean`, `std`, `rescale`, `resample` and `transparency`."""
