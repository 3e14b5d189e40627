"""easy-VQA: one coloured shape on a plain background, with questions about it.

Data: PyPI `easy-vqa` (MIT), 4,000 train and 1,000 test images of 64 x 64 pixels. Labels of image
cells are read off the pixels. NOT aware of models or tokenizers.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.tasks.scenes import Split
from bench.tasks.scenes.drawing import COLOURS, SHAPES
from models.train.task import Example, Pixels, Question

# Share of its bounding box that a shape fills, measured on the train split: triangle 0.50-0.63,
# circle 0.74-0.91, rectangle 0.96-1.
TRIANGLE_BELOW = 0.68
RECTANGLE_ABOVE = 0.935


def examples(split: Split) -> list[Example]:
    """The package's own split, in its own order of images and of questions."""
    import easy_vqa

    if split == "train":
        questions, paths = easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()
    else:
        questions, paths = easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()
    of_image: dict[int, list[Question]] = {image_id: [] for image_id in sorted(paths)}
    for text, answer, image_id in zip(*questions, strict=True):
        of_image[image_id].append(Question(text, answer, _kind(answer)))
    return [Example(_read(paths[image_id]), tuple(asked)) for image_id, asked in of_image.items()]


def augment(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Moves the object anywhere in the image and mirrors it; every answer stays true."""
    rows, columns = _extent(object_mask(pixels))
    height, width, _ = pixels.shape
    # The background is plain, so rolling within these limits equals redrawing the object
    # elsewhere. One pixel of margin: the antialiased edge lies outside the mask.
    down = rng.integers(min(0, 1 - rows[0]), max(0, height - 2 - rows[1]) + 1)
    right = rng.integers(min(0, 1 - columns[0]), max(0, width - 2 - columns[1]) + 1)
    moved = np.roll(pixels, (down, right), axis=(0, 1))
    return moved[:, ::-1] if rng.random() < 0.5 else moved


def cell_labels(pixels: Pixels, grid: int) -> NDArray[np.int64]:
    """(grid * grid, 2): shape and colour of the object in each cell, 0 where there is none."""
    mask = object_mask(pixels)
    cell = mask.shape[0] // grid
    is_seen = mask.reshape(grid, cell, grid, cell).any(axis=(1, 3)).reshape(-1, 1)
    labels = np.array([1 + SHAPES.index(shape_of(mask)), 1 + _colour_index(pixels[mask])])
    return np.where(is_seen, labels, 0)


def object_mask(pixels: Pixels) -> NDArray[np.bool_]:
    """(height, width): nearer to the object's colour than to the background's."""
    corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
    background = np.median(corners, axis=0).astype(np.int16)  # the object may cover one corner
    distance = np.abs(pixels.astype(np.int16) - background).sum(axis=2)
    mask: NDArray[np.bool_] = distance * 2 > distance.max()
    return mask


def shape_of(mask: NDArray[np.bool_]) -> str:
    rows, columns = _extent(mask)
    box = (rows[1] - rows[0] + 1) * (columns[1] - columns[0] + 1)
    filled = mask.sum() / box
    if filled < TRIANGLE_BELOW:
        return "triangle"
    return "rectangle" if filled > RECTANGLE_ABOVE else "circle"


def _extent(mask: NDArray[np.bool_]) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last row, first and last column of the mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))


def _colour_index(pixels: NDArray[np.uint8]) -> int:
    """Of the palette colour nearest to the median of (n, 3) pixels."""
    palette = np.array(list(COLOURS.values()))
    return int(np.abs(palette - np.median(pixels, axis=0)).sum(axis=1).argmin())


def _kind(answer: str) -> str:
    if answer in COLOURS:
        return "colour"
    return "shape" if answer in SHAPES else "yes-no"


def _read(path: str) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
