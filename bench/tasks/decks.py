"""The questions of a task, by its name. NOT aware of how they are put or scored."""

from bench.record import Options
from bench.tasks import easy_vqa, generated, public
from bench.tasks.deck import Deck
from export.errors import unknown


def deck_of(name: str, options: Options) -> Deck:
    """Raises UserError for a task without questions, and where its data cannot be opened."""
    if name == "easy-vqa":
        return easy_vqa.deck()
    if name in generated.KINDS:
        return generated.deck(name, options.seed)
    if name in public.public_tasks():
        return public.deck(name, options)
    raise unknown(
        "task with questions", name, ["easy-vqa", *generated.KINDS, *public.public_tasks()]
    )
