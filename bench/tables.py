"""The tables of a report, one function each: rows in, markdown out, empty where nothing is known.

NOT aware of how a report is put together.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bench import format as text
from bench.measure import Timing
from bench.memory import PHASES
from bench.record import Options
from bench.stats import Estimate, proportion
from bench.summary import Row, Workload, names

PHASE_TITLES: Mapping[str, str] = {
    "start": "libraries imported",
    "loaded": "loading",
    "image": "image",
    "prefill": "prefill",
    "decode": "decode",
}
# The proof's checks in the order of the ladder; others follow in the artifact's order.
LADDER = ("tensors", "preprocessing", "features", "logits", "greedy")


def summary(own: Sequence[Row]) -> str:
    """One line for each row, and what the brackets mean."""
    header = [
        *("artifact", "runtime", "size on disk", "bits/weight", "peak memory", "first token, ms"),
        *("decode, tokens/s", "accuracy", "KLD, nats", "top-1"),
    ]
    lines = [
        [
            name,
            row.runtime,
            text.megabytes(row.subject.disk_bytes),
            text.significant(row.bits_per_weight),
            text.megabytes(row.workload.highest_peak_bytes() if row.workload else None),
            _counted(row.first_token_s(), 1e3),
            _counted(row.decode_tokens_per_s()),
            text.share(row.accuracy_share()),
            _counted(row.kld()),
            text.share(row.top1()),
        ]
        for row, name in zip(own, names(own), strict=True)
    ]
    return f"{text.table(header, lines, left=2)}\n\n{_legend(own)}"


def phases(own: Sequence[Row]) -> str:
    """Medians of each step, one line for each row and length."""
    header = [
        *("artifact", "runtime", "request", "load", "prepare", "image", "prefill", "prefill rate"),
        *("first token", "token p50", "token p95", "total"),
    ]
    lines = [
        [name, row.runtime, _request(workload), *_steps(workload)]
        for row, name in zip(own, names(own), strict=True)
        for workload in row.workloads
    ]
    return text.table(header, lines, left=3) if lines else ""


def memory(own: Sequence[Row]) -> str:
    """The process's highest resident set within each phase, and what the last one is made of."""
    lines = []
    for row, name in zip(own, names(own), strict=True):
        if row.workload:
            peaks = [row.workload.peak_bytes(phase) for phase in PHASES]
            parts = [row.workload.last_bytes(part) for part in ("private_bytes", "file_bytes")]
            lines.append([name, row.runtime, *map(text.megabytes, (*peaks, *parts))])
    phase_titles = (PHASE_TITLES[phase] for phase in PHASES)
    header = ["artifact", "runtime", *phase_titles, "private at the end", "files at the end"]
    explained = (
        "Private memory would be free again if the process ended; files are mapped pages, such as "
        "weights, that the system may drop and read again."
    )
    return f"{text.table(header, lines, left=2)}\n\n{explained}" if lines else ""


def fidelity(own: Sequence[Row]) -> str:
    """How far each row's next-token distributions are from the reference's."""
    lines = []
    for row, name in zip(own, names(own), strict=True):
        agreement = row.agreement
        found = agreement.fidelity if agreement else None
        if agreement is None or found is None:
            continue
        tail = (found.kld_p99, found.kld_p999, found.max_kld)
        equal = proportion(agreement.equal_answers, agreement.items)
        figures = [text.interval(row.kld()), *map(text.significant, tail), text.share(row.top1())]
        lines.append([name, row.runtime, f"{found.n:,}", *figures, text.share(equal)])
    header = ["artifact", "runtime", "tokens", "mean KLD", "99 %", "99.9 %", "max", "top-1"]
    reference = next((row.agreement.reference for row in own if row.agreement), "")
    explained = f"KL(reference || artifact) in nats after the same tokens; reference: {reference}."
    table = text.table([*header, "equal greedy answers"], lines, left=2)
    return f"{explained}\n\n{table}" if lines else ""


def proofs(own: Sequence[Row]) -> str:
    """What each artifact's proof found, check by check."""
    artifacts = _artifacts(own)
    if not artifacts:
        return ""
    found = [row.subject.proof for row in artifacts.values() if row.subject.proof]
    checks = list(dict.fromkeys([*LADDER, *(name for proof in found for name in _checks(proof))]))
    lines = []
    for name, row in artifacts.items():
        proof = row.subject.proof
        if proof is None:
            lines.append([name, "not proven", *[text.ABSENT] * len(checks)])
        else:
            cells = [_check(_checks(proof).get(check)) for check in checks]
            lines.append([name, _verdict(proof), *cells])
    return text.table(["artifact", "verdict", *checks], lines, left=2 + len(checks))


def sizes(own: Sequence[Row]) -> str:
    """Parameters, share quantized and bytes of each component."""
    lines = []
    for name, row in _artifacts(own).items():
        components = (row.subject.quantization or {}).get("components") or {}
        for component, part in components.items():
            lines.append([name, component, *_component(part)])
    header = ["artifact", "component", "parameters", "quantized", "weights"]
    return text.table(header, lines, left=2) if lines else ""


def exceptions(own: Sequence[Row]) -> str:
    """Tensors that fell back, by reason."""
    lines = []
    for name, row in _artifacts(own).items():
        groups: dict[tuple[str, str, str], list[str]] = {}
        for fallback in (row.subject.quantization or {}).get("fallbacks") or ():
            key = tuple(str(fallback.get(k, text.ABSENT)) for k in ("asked", "got", "reason"))
            groups.setdefault((key[0], key[1], key[2]), []).append(str(fallback.get("tensor")))
        for (asked, got, reason), tensors in groups.items():
            more = f" and {len(tensors) - 1} more" if len(tensors) > 1 else ""
            lines.append([name, f"`{tensors[0]}`{more}", asked, got, reason])
    header = ["artifact", "tensors", "asked", "got", "reason"]
    return text.table(header, lines, left=5) if lines else ""


def request_name(options: Options) -> str:
    """What a latency request is."""
    prompt = "image" if options.prompt == "image" else f"{options.prefill_tokens} text tokens"
    return f"{prompt} + {options.decode_tokens} tokens"


def _request(workload: Workload) -> str:
    prompt = workload.records[0].outcome.timings[0].prompt_positions
    positions = f" ({prompt} positions)" if prompt is not None else ""
    return f"{request_name(workload.options)}{positions}"


def _steps(workload: Workload) -> list[str]:
    def step(number: str) -> str:
        found = workload.over(lambda timing: _number(timing, number))
        return text.milliseconds(found.value if found else None)

    rate = workload.over(lambda timing: timing.prefill_tokens_per_s)
    return [
        text.milliseconds(workload.load_s()),
        *(step(name) for name in ("prepare_s", "image_s", "prefill_s")),
        f"{text.significant(rate.value)}/s" if rate else text.ABSENT,
        step("first_token_s"),
        text.milliseconds(workload.token_s(50)),
        text.milliseconds(workload.token_s(95)),
        step("total_s"),
    ]


def _number(timing: Timing, name: str) -> float | None:
    value: float | None = getattr(timing, name)
    return value


def _counted(estimate: Estimate | None, scale: float = 1.0) -> str:
    n = f", n = {estimate.n:,}" if estimate else ""
    return text.interval(estimate, scale) + n


def _legend(own: Sequence[Row]) -> str:
    workload = next((row.workload for row in own if row.workload), None)
    if workload is None:
        return "Brackets are 95 % intervals; a dash is what was not measured."
    threads = sorted({row.threads for row in own})
    return (
        f"Latency: {request_name(workload.options)}, {' and '.join(map(str, threads))} thread(s), "
        f"medians of n requests in {len(workload.records)} process(es). Brackets are 95 % "
        "intervals; peak memory is that of the whole process, its interpreter and libraries "
        "included; a dash is what was not measured. MB are 10^6 bytes."
    )


def _artifacts(own: Sequence[Row]) -> Mapping[str, Row]:
    """Rows of different artifacts by name: what is true of an artifact on any runtime."""
    found: dict[str | None, tuple[str, Row]] = {}
    for row, name in zip(own, names(own), strict=True):
        if row.subject.target is not None:
            found.setdefault(row.subject.sha256, (name, row))
    return dict(found.values())


def _checks(proof: Mapping[str, Any]) -> Mapping[str, Any]:
    checks = proof.get("checks")
    return checks if isinstance(checks, Mapping) else {}


def _verdict(proof: Mapping[str, Any]) -> str:
    if proof.get("passed"):
        return "passed"
    reasons = [str(failure) for failure in proof.get("failures") or ()]
    return f"failed: {'; '.join(reasons)}" if reasons else "failed"


def _check(check: object) -> str:
    if check is None:
        return text.ABSENT
    if isinstance(check, Mapping) and "skipped" in check:
        return f"skipped: {check['skipped']}"
    if isinstance(check, Mapping) and set(check) == {"equal", "of"}:
        return f"{check['equal']} of {check['of']} equal"
    return text.plain(check).replace("_", " ")


def _component(part: Mapping[str, Any]) -> list[str]:
    parameters, quantized = part.get("parameters"), part.get("quantized_parameters")
    share = quantized / parameters if parameters and quantized is not None else None
    count = text.ABSENT if parameters is None else f"{parameters:,}"
    return [count, text.percent(share), text.megabytes(part.get("weight_bytes"))]
