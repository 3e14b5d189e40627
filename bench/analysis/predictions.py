"""Predicts the size and memory of exports, for all models, targets and recipes, and what they fit.

Reads configurations only: no weights, no network, no library of a runtime.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.machine.profiles import PROFILES, Profile
from bench.record import Record, Subject
from bench.subjects import within_tiles
from export.checkpoint.registry import PREFIX, list_models, open_model
from export.errors import UserError
from export.footprint import Footprint, footprint
from export.memory import RequestSize, full_context
from export.model import Model
from export.quantize.recipe import RECIPES
from export.target import Target
from export.targets import PREDICTABLE, TARGETS
from runtimes import RUNTIMES
from runtimes.session.backend import context_length

PEAK_TOLERANCE = 0.05


@dataclass(frozen=True)
class Prediction:
    """The predicted size and memory of one export; None: its target cannot predict that number.

    `fits` says for each device profile whether the peak fits it; `files` maps a file's name to its
    bytes.
    """

    model: str
    target: str
    recipe: str
    disk_bytes: int | None
    kv_bytes_per_token: int | None
    peak_bytes: int | None
    fits: Mapping[str, bool | None]
    """Device profile -> whether the runtime exists there and the peak is within its memory."""
    files: Mapping[str, int] | None


def predict(
    models: Iterable[str],
    targets: Mapping[str, Target] = PREDICTABLE,
    recipes: Sequence[str] | None = None,
    context: int | None = None,
) -> tuple[list[Prediction], list[str]]:
    """Predicts every combination of models, targets and recipes.

    recipes None: those of the table that a target has. The peak is that of a request that fills a
    context of `context` positions (None: the length that a session has by default). Returns the
    predictions, and a text with the reason for each combination that cannot be predicted.
    """
    rows: list[Prediction] = []
    refusals: list[str] = []
    for name in models:
        try:
            model = open_model(name, weights="synthetic")
        except UserError as error:
            refusals.append(f"{name}: {error}")
            continue
        for target, row in targets.items():
            refused: dict[str, list[str]] = {}
            for recipe in recipes or row.of(RECIPES):
                try:
                    rows.append(_prediction(model, target, row, recipe, context))
                except UserError as error:
                    refused.setdefault(str(error), []).append(recipe)
            refusals += [f"{name} {target} {', '.join(of)}: {why}" for why, of in refused.items()]
    return rows, refusals


def _prediction(
    model: Model, name: str, target: Target, recipe: str, context: int | None
) -> Prediction:
    request = full_context(model.vlm, model.image, context_length(model.vlm, context))
    predicted = footprint(model, RECIPES[recipe], target, request)
    return Prediction(
        model=model.name,
        target=name,
        recipe=recipe,
        disk_bytes=predicted.disk_bytes,
        kv_bytes_per_token=predicted.kv_bytes_per_token,
        peak_bytes=predicted.peak_bytes,
        fits={name: _fits(predicted, target, profile) for name, profile in PROFILES.items()},
        files=predicted.files,
    )


def _fits(found: Footprint, target: Target, profile: Profile) -> bool | None:
    if found.peak_bytes is None or target.memory is None:
        return None
    return target.memory.runtime in profile.runtimes and found.peak_bytes <= profile.memory_bytes


@dataclass(frozen=True)
class PredictionError:
    """A predicted peak of memory and the one that a latency job measured.

    `export` names model, target, recipe, and the request's image tiles and positions;
    `disk_bytes_off` is predicted minus measured size on disk, `disk_bytes_allowed` how far off it
    may be (Target.size_error; 0: exact).
    """

    export: str
    predicted_peak_bytes: int
    measured_peak_bytes: int
    disk_bytes_off: int
    disk_bytes_allowed: float = 0.0

    @property
    def relative(self) -> float:
        """Error of the predicted peak as a share of the measured one; positive: too high."""
        return self.predicted_peak_bytes / self.measured_peak_bytes - 1

    @property
    def wrong(self) -> bool:
        """Whether the predicted peak is off by more than 5 %, or the size on disk by too much."""
        misses = abs(self.disk_bytes_off) > self.disk_bytes_allowed
        return misses or abs(self.relative) > PEAK_TOLERANCE


def prediction_errors(records: Iterable[Record]) -> Iterator[PredictionError]:
    """Compares prediction and measurement of each latency record that can be predicted.

    These are records of artifacts on the CPU, on default runtimes (Runtime.default). The peak is
    predicted for the lengths of the record's warm-up request.
    """
    for record in records:
        subject, warmups = record.case.subject, record.outcome.warmups
        peaks = [phase.peak_bytes for phase in record.outcome.memory if phase.peak_bytes]
        runtime = RUNTIMES.get(record.case.runtime)
        predictable = runtime is not None and runtime.default and record.case.device == "cpu"
        if not (warmups and peaks and predictable and subject.target and subject.recipe):
            continue
        model = within_tiles(_opened(subject), record.case.options.max_tiles)
        tiles = warmups[0].image_tiles or 0
        positions = (warmups[0].prompt_positions or 0) + len(warmups[0].tokens)
        request = RequestSize(tiles, positions, context_length(model.vlm))
        target, recipe = TARGETS[subject.target], RECIPES[subject.recipe]
        predicted = footprint(model, recipe, target, request, subject.layout)
        disk_bytes = subject.disk_bytes or 0
        if predicted.peak_bytes is None or predicted.disk_bytes is None:
            continue
        yield PredictionError(
            f"{subject.model} {subject.target} {subject.recipe}, {tiles} tiles, {positions}",
            predicted.peak_bytes,
            max(peaks),
            predicted.disk_bytes - disk_bytes,
            target.size_error.get(subject.layout or "", 0.0) * disk_bytes,
        )


def _opened(subject: Subject) -> Model:
    """Opens a record's model by its name. Raises UserError if its configuration is another one."""
    name = subject.model
    if name in list_models():
        name = f"{PREFIX}{name}"
    model = open_model(name, weights="synthetic" if subject.synthetic else None)
    measured, found = (
        origin.get("files", {}).get("config.json")
        for origin in (subject.origin, model.weights.origin)
    )
    if measured is not None and measured != found:
        raise UserError(
            f"{subject.model}: the measured model has another config.json than {name}, so nothing "
            f"is predicted; leave its records out"
        )
    return model
