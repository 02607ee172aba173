"""One measurement of transformers on torch, processor only, in a process of its own; prints JSON.

The weights are those of the GGUF, dequantised by transformers into f32 or bf16.
"""

import json
import os
import resource
import sys
import time

asked = json.loads(sys.argv[1])
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(asked["threads"])
folder, file = os.path.split(asked["model"])

began = time.perf_counter()
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=getattr(torch, asked["dtype"]))
model.eval()
load = time.perf_counter() - began


@torch.inference_mode()
def answer(prompt, count):
    """Seconds to the first token, and for those after it; greedy, with a cache."""
    # What the prompt says does not matter to the arithmetic.
    tokens = torch.tensor([[100 + (37 * at) % 8000 for at in range(prompt)]])
    start = time.perf_counter()
    out = model(input_ids=tokens, use_cache=True, logits_to_keep=1)
    token = out.logits[:, -1].argmax(-1, keepdim=True)
    first = time.perf_counter()
    for _ in range(count):
        out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
        token = out.logits[:, -1].argmax(-1, keepdim=True)
    return first - start, time.perf_counter() - first


first, _ = answer(asked["first"], 0)
found = {"warmMs": 1000 * (load + first)}
for size in asked["sizes"]:
    prefill, decode = answer(size, asked["decode"])
    found[f"prefill{size}"] = size / prefill
    found.setdefault("decode", asked["decode"] / decode)
found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
found["backend"] = (
    f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, "
    f"{torch.backends.cpu.get_cpu_capability()}"
)
print(json.dumps(found))
