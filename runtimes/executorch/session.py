"""The executorch runtime: our generation loop over the methods of a .pte file, on the CPU."""

from typing import assert_never

import numpy as np

from export.arrays import FloatArray, IntArray
from export.artifact import Artifact
from export.errors import UserError
from export.manifest import ExecutorchDetails
from export.modeling.vision import ImageVision, TileVision
from runtimes.base import Session
from runtimes.executorch.program import Program, use_threads
from runtimes.prepare.crops import stitched
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.session.backend import Extend
from runtimes.session.images import image_ids, place_features
from runtimes.session.loop import GreedySession
from runtimes.session.regions import RegionHead

NAMES: dict[RegionHead, str] = {"coord": "coordinate", "size": "size"}


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> Session:
    """Loads an ExecuTorch artifact into ExecuTorch's runtime and returns the session; CPU only."""
    backend = ExecutorchBackend(artifact, threads)
    return GreedySession(backend, preparer_of(artifact), artifact.manifest.vlm.stop_token_ids)


class ExecutorchBackend:
    """Runs an artifact's methods for a GreedySession (Backend).

    It is a RegionBackend, too, if the artifact has region heads.
    """

    def __init__(self, artifact: Artifact, threads: int) -> None:
        details = artifact.manifest.details.executorch
        if details is None:
            raise UserError(
                f"{artifact.path}: artifact.json does not say what its program needs; export it "
                f"again"
            )
        use_threads(threads)
        self._details: ExecutorchDetails = details
        self._vlm, self._text = artifact.manifest.vlm, artifact.manifest.vlm.text
        self.context = details.context
        self._image_ids = np.zeros(self.context, np.int64)
        self.state = np.zeros(self._text.hidden, np.float32)
        self._program = Program(artifact.file("decoder"))
        self._program.load(*details.methods)

    def use_threads(self, threads: int) -> None:
        """Computes with so many threads from the next step on (ThreadedBackend)."""
        use_threads(threads)

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Returns the features of all images in order: [image tokens, hidden] (Backend)."""
        return np.concatenate([self._encoded(image) for image in images])

    def extend(self, step: Extend) -> FloatArray:
        """Runs the decoder on a step's tokens; returns the last one's logits [vocab] (Backend)."""
        *_, last = map(self._extended, step.parts_for(self._vlm, self._details.new_positions))
        return last

    def _extended(self, step: Extend) -> FloatArray:
        ids, features, past, positions = step
        token, prefix = self._vlm.image_token_id, self._text.prefix
        image_ids(self._image_ids, ids, features, past, token, prefix)
        self._image_ids[past + len(ids) :] = 0
        (embeds,) = self._program.run("token_embedding", ids[None])
        place_features(embeds[0], ids, features, token)
        inputs = [embeds, np.arange(past, past + len(ids))]
        inputs += [positions] if self._text.rope_sections else []
        inputs += [self._image_ids] if self._text.sees_later_positions else []
        logits, *state = self._program.run("text_decoder", *inputs)
        if state:
            self.state = state[0].reshape(-1)
        last: FloatArray = logits.reshape(-1)
        return last

    def close(self) -> None:
        """Frees the model's memory (Backend)."""
        self._program.close()

    def region_embeddings(self, head: RegionHead, values: FloatArray) -> FloatArray:
        """Returns embeddings [n, hidden] of coordinates or sizes (RegionBackend)."""
        method = f"{NAMES[head]}_embedding"
        return np.concatenate([self._program.run(method, row[None])[0] for row in values])

    def region_logits(self, head: RegionHead) -> FloatArray:
        """Returns logits over the coordinates or sizes that may come next (RegionBackend)."""
        row: FloatArray = self._program.run(f"{NAMES[head]}_bins", self.state[None])[0][0]
        return row

    def _encoded(self, image: Pixels) -> FloatArray:
        """Returns the features of one image: [tokens, hidden]."""
        vision = self._vlm.require_vision()
        match vision:
            case ImageVision(tower=tower):
                assert image.token_grid is not None, "images of any size have a grid of tokens"
                places = patch_places(tower.patch_grid(image.token_grid), tower.spatial_merge_size)
                whole: FloatArray = self._run_tower(image.values, *places)
                return whole
            case TileVision(crops=None):
                return np.concatenate([self._run_tower(tile[None]) for tile in image.values])
            case TileVision(crops=crops, tower=tower):
                assert crops is not None
                patches = (self._run_tower(tile[None]) for tile in image.values)
                both = stitched(patches, image.rows, image.cols, tower.side, crops.margin)
                joined: FloatArray = self._program.run("projection", both[None])[0][0]
                return joined
            case _:
                assert_never(vision)

    def _run_tower(self, values: FloatArray, *places: IntArray) -> FloatArray:
        features: FloatArray = self._program.run("vision_encoder", values, *places)[0][0]
        return features


def patch_places(grid: tuple[int, int], merge_size: int) -> tuple[IntArray, IntArray]:
    """Returns row and column [N] of each patch of an image with `grid` rows and columns.

    The patches of a square of merge_size x merge_size follow each other.
    """
    rows, cols = grid
    both = np.indices((rows, cols)).reshape(
        2, rows // merge_size, merge_size, cols // merge_size, merge_size
    )
    row, column = both.transpose(0, 1, 3, 2, 4).reshape(2, -1)
    return row, column
