"""The prompts of a proof: generated images with fixed questions and fixed answers.

They need no data set and are the same for every model, so that proofs can be compared.
"""

from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

WHITE = (255, 255, 255)
SMALL = 16


@dataclass(frozen=True)
class Probe:
    """A test question about images, and an answer that a model is forced to give.

    The logits for the answer's tokens are compared; whether the answer is true does not matter.
    """

    name: str
    images: tuple[Image.Image, ...]
    question: str
    answer: str


def probes(edge: int | None) -> tuple[Probe, ...]:
    """Returns the test questions of a proof, with images whose longest edge has `edge` pixels.

    Among them are square, wide and tall images, a prompt with two images, and one without. With
    None, for text-only models, all questions come without images.
    """
    if edge is None:
        return tuple(replace(probe, images=()) for probe in probes(SMALL))
    shape, text, chart = _shape(edge), _text(edge), _chart(edge)
    return (
        Probe("shape", (shape,), "what color is the shape?", " red"),
        Probe("shape, yes or no", (shape,), "is there a circle in the image?", " no"),
        Probe("text", (text,), "what does the image say?", " The image says POCKET 42."),
        Probe("chart", (chart,), "which bar is the tallest?", " The third bar is the tallest."),
        Probe("two images", (chart, text), "what do they show?", " A chart and some text."),
        Probe("no image", (), "what color is the sky?", " The sky is blue."),
    )


def _shape(edge: int) -> Image.Image:
    """Draws a red square on a light, square image."""
    image = Image.new("RGB", (edge, edge), (235, 235, 225))
    corner, size = edge // 4, edge // 2
    ImageDraw.Draw(image).rectangle((corner, corner, corner + size, corner + size), (230, 20, 30))
    return image


def _text(edge: int) -> Image.Image:
    """Draws large letters on a wide image."""
    image = Image.new("RGB", (edge, edge * 5 // 8), WHITE)
    ImageDraw.Draw(image).text((edge // 16, edge // 5), "POCKET 42", (0, 0, 0), font_size=edge / 6)
    return image


def _chart(edge: int) -> Image.Image:
    """Draws three bars over a fading background, on a tall image."""
    width, height = edge * 3 // 4, edge
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    draw = ImageDraw.Draw(image)
    for i, (eighths, colour) in enumerate(((3, "green"), (5, "blue"), (7, "orange"))):
        left = (2 * i + 1) * width // 8
        draw.rectangle((left, height - eighths * height // 8, left + width // 8, height), colour)
    return image
