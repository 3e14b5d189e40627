"""How far a subject's next-token distributions are from the reference's, on the same prompts.

The reference answers greedily; the subject is forced along that answer, so both always stand
after the same tokens. NOT aware of right answers.
"""

import numpy as np

from bench.record import Agreement, Outcome
from bench.tasks import Context
from bench.tasks.easy_vqa import MAX_TOKENS, questions, sample, with_images
from export.errors import UserError
from runtimes.base import FloatArray, Request, Session
from runtimes.fidelity import Accumulator, divergence

DEFAULT_LIMIT = 100


def run(context: Context) -> Outcome:
    """Compare on a sample of easy-VQA's test questions."""
    options = context.case.options
    context.tell("loading the reference")
    name, reference = context.open_reference()
    context.tell("comparing")
    probes = sample(questions(), options.limit or DEFAULT_LIMIT, options.seed)
    requests = [
        Request(question.text, (image,), max_tokens=MAX_TOKENS, arrays=True)
        for question, image in with_images(probes)
    ]
    agreement = compare(name, reference, context.session, requests)
    reference.close()
    return Outcome(agreement=agreement)


def compare(name: str, reference: Session, subject: Session, requests: list[Request]) -> Agreement:
    """Both sessions over all requests, token by token."""
    total, klds, equal = Accumulator(), list[float](), 0
    for request in requests:
        answer, expected = _answer(reference, request)
        forced = Request(request.question, request.images, answer=answer, arrays=True)
        _, found = _answer(subject, forced)
        for p, q in zip(expected, found, strict=True):
            _check(p, q)
            total.add(p, q)
            klds.append(divergence(p, q))
        # Forced along the reference's answer, the subject would choose each of its tokens: so it
        # gives this answer of its own accord.
        equal += all(int(np.argmax(q)) == token for q, token in zip(found, answer, strict=True))
    return Agreement(name, len(requests), equal, total.result(), tuple(klds))


def _answer(session: Session, request: Request) -> tuple[tuple[int, ...], list[FloatArray]]:
    tokens, logits = [], []
    for event in session.generate(request):
        if event.token is not None and event.logits is not None:
            tokens.append(event.token)
            logits.append(event.logits)
    return tuple(tokens), logits


def _check(p: FloatArray, q: FloatArray) -> None:
    if p.shape != q.shape:
        raise UserError(
            f"the reference has {p.size} tokens in its vocabulary and the artifact {q.size}; "
            "name the checkpoint it was made from by --reference"
        )
