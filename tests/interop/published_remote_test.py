"""Published sizes of models whose code is remote, against the classes that Megatron-Bridge vendors (see published_test.py)."""

import json
import os
import subprocess

import pytest

from bridge_environment import PACKAGE, PYTHON, needs_bridge
from published_test import committed, under

pytestmark = needs_bridge

CLASSES = """
import json, sys
from bridge_verify import stand_ins
stand_ins.install()
import torch
import megatron.bridge.models as models

def ling(config):
    from megatron.bridge.models.bailing.configuration_bailing_moe_v2 import BailingMoeV2Config
    from megatron.bridge.models.bailing.modeling_bailing_moe_v2 import BailingMoeV2ForCausalLM
    return BailingMoeV2ForCausalLM(BailingMoeV2Config(**config))

def speech(config):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS  # the vendored class is older than transformers 5
    ROPE_INIT_FUNCTIONS.setdefault("default", lambda config, *_, **__: (torch.ones(config.head_dim // 2), 1.0))
    from megatron.bridge.models.qwen3_asr.hf_qwen3_asr.configuration_qwen3_asr import Qwen3ASRConfig
    from megatron.bridge.models.qwen3_asr.hf_qwen3_asr.modeling_qwen3_asr import Qwen3ASRForConditionalGeneration
    config = Qwen3ASRConfig(**config)
    config.thinker_config.pad_token_id = None
    return Qwen3ASRForConditionalGeneration(config)

def step_tower(config):
    from megatron.bridge.models.stepfun.configuration_step37 import Step37VisionConfig
    from megatron.bridge.models.stepfun.modelling_step37.vision_model import Step37VisionModel
    return Step37VisionModel(Step37VisionConfig(**config["vision_config"]))

config = json.load(sys.stdin)
with torch.device("meta"):
    model = {"ling": ling, "speech": speech, "step_tower": step_tower}[sys.argv[1]](config)
tied = getattr(model, "all_tied_weights_keys", None) or ()
print("\\n" + json.dumps({name: list(tensor.shape) for name, tensor in model.state_dict().items() if name not in tied}))
"""


@pytest.mark.parametrize("name, cls, prefix", [
    ("ling-mini-2.0", "ling", ""), ("qwen3-asr-1.7b", "speech", ""), ("step-3.7-flash", "step_tower", "vision_model.")])
def test_names_and_shapes_are_those_of_the_vendored_class(name, cls, prefix):
    config, shapes = committed(name)
    done = subprocess.run([PYTHON, "-c", CLASSES, cls], input=json.dumps(config), capture_output=True, text=True, timeout=900,
                          env={**os.environ, "PYTHONPATH": str(PACKAGE)})
    assert done.returncode == 0, done.stderr[-3000:]
    assert under(shapes, prefix) == json.loads(done.stdout.splitlines()[-1])
