#!/usr/bin/env bash
# OpenVINO GenAI's pipeline for text keeps the cache of earlier prompts, although the class of its settings
# says that it does not.
#
# Versions: openvino-genai 2026.4.1.0, openvino 2026.4.1, optimum-intel 2.2.0, torch 2.13.0, Python 3.11.
#
# SchedulerConfig().enable_prefix_caching is False. An LLMPipeline without a SchedulerConfig nevertheless
# answers a prompt that it has had before in the time of a step, so a benchmark that repeats a prompt
# measures no prompt at all. With SchedulerConfig() as it is, each prompt is computed. Time of the same
# 512 tokens to the first token, after other 512, on a busy machine:
#
#     default: new 2299 ms, again 94 ms
#     SchedulerConfig(): new 2564 ms, again 2460 ms
#
# Way around: LLMPipeline(folder, "CPU", scheduler_config=SchedulerConfig()).
#
# Takes some minutes, most of them to install 1.6 GB.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet openvino-genai==2026.4.1.0 openvino==2026.4.1 \
  openvino-tokenizers==2026.4.1.0 optimum-intel==2.2.0 nncf==3.4.0 torch==2.13.0 \
  transformers==5.5.4 2>/dev/null
"$work/venv/bin/pip" uninstall --quiet --yes torchvision # of another build of torch, it breaks the import
cat >"$work/make.py" <<'PYTHON'
"""Saves a Llama of random weights."""
import sys

from transformers import LlamaConfig, LlamaForCausalLM

LlamaForCausalLM(
    LlamaConfig(
        vocab_size=1000,
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
    )
).save_pretrained(sys.argv[1])
PYTHON
cat >"$work/try.py" <<'PYTHON'
"""Times three prompts in two pipelines; fails if prefixes are not kept, or are with a config."""
import sys

import numpy as np
import openvino
import openvino_genai as genai


def first_token_ms(pipeline, ids):
    tensors = openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids))
    config = genai.GenerationConfig(max_new_tokens=2, ignore_eos=True, do_sample=False)
    found = pipeline.generate(genai.TokenizedInputs(*tensors), config)
    return found.perf_metrics.get_ttft().mean


assert genai.SchedulerConfig().enable_prefix_caching is False
draw, again = np.random.default_rng(0), {}
for name, options in (("default", {}), ("SchedulerConfig()", {"scheduler_config": genai.SchedulerConfig()})):
    pipeline = genai.LLMPipeline(sys.argv[1], "CPU", **options)
    first, second = (draw.integers(3, 1000, (1, 512)) for _ in range(2))
    first_token_ms(pipeline, first)
    new_ms, again_ms = first_token_ms(pipeline, second), first_token_ms(pipeline, second)
    print(f"{name}: new {new_ms:.0f} ms, again {again_ms:.0f} ms")
    again[name] = again_ms / new_ms
sys.exit(not (again["default"] < 0.3 < again["SchedulerConfig()"]))
PYTHON
"$work/venv/bin/python" "$work/make.py" "$work/llama"
"$work/venv/bin/python" -m optimum.commands.optimum_cli export openvino --model "$work/llama" \
  --task text-generation-with-past --weight-format fp32 "$work/ir" >/dev/null 2>&1
"$work/venv/bin/python" "$work/try.py" "$work/ir"
