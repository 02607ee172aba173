"""One measurement of llama.cpp, compiled on this machine for this machine, in a process of its own; prints JSON."""

import json
import resource
import sys
import time

import llama_cpp
import numpy

asked = json.loads(sys.argv[1])


def open_model():
    return llama_cpp.Llama(
        model_path=asked["model"],
        n_ctx=2048,
        n_batch=512,
        n_ubatch=512,
        n_threads=asked["threads"],
        n_threads_batch=asked["threads"],
        flash_attn=True,
        verbose=False,
    )


def next_token(model):
    """The most likely one: no sampler's time."""
    logits = llama_cpp.llama_get_logits_ith(model.ctx, -1)
    return int(numpy.ctypeslib.as_array(logits, shape=(model.n_vocab(),)).argmax())


def answer(model, prompt, count):
    """Seconds to the first token, and for those after it."""
    model.reset()
    start = time.perf_counter()
    # What the prompt says does not matter to the arithmetic.
    model.eval([100 + (37 * at) % 8000 for at in range(prompt)])
    token = next_token(model)
    first = time.perf_counter()
    for _ in range(count):
        model.eval([token])
        token = next_token(model)
    return first - start, time.perf_counter() - first


began = time.perf_counter()
model = open_model()
load = time.perf_counter() - began
first, _ = answer(model, asked["first"], 0)
found = {"warmMs": 1000 * (load + first)}
for size in asked["sizes"]:
    prefill, decode = answer(model, size, asked["decode"])
    found[f"prefill{size}"] = size / prefill
    found.setdefault("decode", asked["decode"] / decode)
found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
system = llama_cpp.llama_print_system_info().decode()
features = [word.split("=")[0].strip() for word in system.replace("CPU :", "").split("|") if "= 1" in word]
found["backend"] = f"llama-cpp-python {llama_cpp.__version__}, {' '.join(features)}"
print(json.dumps(found))
