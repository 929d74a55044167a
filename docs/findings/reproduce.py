"""What Megatron-Bridge does with a tiny checkpoint that transformers writes. Needs transformers and megatron-bridge alone.

    python reproduce.py Exaone4ForCausalLM '{"tie_word_embeddings": false}'

Makes a model of that class with the sizes below and the given fields, saves it, builds the Megatron model, fills it with NaN, loads
the checkpoint and exports it again. Without a GPU, PYTHONPATH=ci/export lets the stand-ins of bridge_verify take its place.
"""

import json
import os
import socket
import sys
import tempfile

SIZES = {"vocab_size": 128, "hidden_size": 32, "intermediate_size": 36, "num_hidden_layers": 4, "num_attention_heads": 8,
         "num_key_value_heads": 4, "head_dim": 10, "max_position_embeddings": 256, "pad_token_id": None}


def stand_in_for_gpu():
    from bridge_verify import stand_ins

    stand_ins.install()
    stand_ins.without_gpu()


def checkpoint(class_name, fields, folder):
    import torch
    import transformers

    cls = getattr(transformers, class_name)
    given = {**SIZES, **fields}
    if given["head_dim"] is None:  # as the class has it: some derive it of hidden_size
        del given["head_dim"]
    model = cls(cls.config_class(**given)).to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.normal_(1.0, 0.1)
    model.save_pretrained(folder)
    with open(os.path.join(folder, "model.safetensors"), "rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return sorted(name for name in header if name != "__metadata__")


def world():
    import torch.distributed as dist
    from megatron.core import parallel_state

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]), RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    dist.init_process_group("gloo", rank=0, world_size=1)
    parallel_state.initialize_model_parallel()


def main(class_name, fields):
    import torch

    if not torch.cuda.is_available():
        stand_in_for_gpu()
    from megatron.bridge import AutoBridge

    with tempfile.TemporaryDirectory() as folder:
        stored = checkpoint(class_name, fields, folder)
        bridge = AutoBridge.from_hf_pretrained(folder)
        provider = bridge.to_megatron_provider(load_weights=False)
        provider.perform_initialization = provider.gradient_accumulation_fusion = False
        provider.finalize()
        world()
        model = provider.provide_distributed_model(wrap_with_ddp=False, use_cpu_initialization=True, mixed_precision_wrapper=None)
        with torch.no_grad():
            for chunk in model:
                for tensor in chunk.parameters():
                    tensor.fill_(float("nan"))
        bridge.load_hf_weights(model)
        empty = [name for chunk in model for name, tensor in chunk.named_parameters() if torch.isnan(tensor).all()]
        back = {name for name, _ in bridge.export_hf_weights(model, cpu=True, show_progress=False)}
    lost = [name for name in stored if name not in back]
    counted = lambda names, noun: f"{len(names)} {noun}{'' if len(names) == 1 else 's'}"  # noqa: E731
    print(f"{counted(empty, 'Megatron parameter')} unfilled", *empty[:8], sep="\n  ")
    print(f"{counted(lost, 'tensor')} of the checkpoint not exported", *lost[:8], sep="\n  ")


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {})
