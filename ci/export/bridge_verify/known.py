"""What is known of megatron-bridge 0.6.2: results of its mapping classes, and methods that were read and move no element."""

import hashlib
import inspect
import pathlib

from . import granted

RELEASE = "megatron-bridge 0.6.2"

# By probed.results.
RESULTS = {
    "ColumnParallelMapping": {
        "hf_to_megatron at TP 1": "7f847183d19d", "megatron_to_hf at TP 1": "e090bc069e67",
        "hf_to_megatron at TP 2": "c460d2a489d3", "megatron_to_hf at TP 2": "e090bc069e67",
    },
    "RowParallelMapping": {
        "hf_to_megatron at TP 1": "7f847183d19d", "megatron_to_hf at TP 1": "e090bc069e67",
        "hf_to_megatron at TP 2": "be7130356a10", "megatron_to_hf at TP 2": "e090bc069e67",
    },
    "ReplicatedMapping": {
        "hf_to_megatron at TP 1": "168a1673bc7f", "megatron_to_hf at TP 1": "fddaf796ffe3",
        "hf_to_megatron at TP 2": "cba72efafa8f", "megatron_to_hf at TP 2": "fddaf796ffe3",
    },
    "DirectMapping": {
        "hf_to_megatron at TP 1": "168a1673bc7f", "megatron_to_hf at TP 1": "fddaf796ffe3",
        "hf_to_megatron at TP 2": "168a1673bc7f", "megatron_to_hf at TP 2": "fddaf796ffe3",
    },
    "AutoMapping": {
        "hf_to_megatron at TP 1": "65c451c9872d", "megatron_to_hf at TP 1": "bceabf15cd3d",
        "hf_to_megatron at TP 2": "2248a6837f0f", "megatron_to_hf at TP 2": "bceabf15cd3d",
    },
    "RMSNorm2ZeroCenteredRMSNormMapping": {
        "hf_to_megatron at TP 1": "e75de86426a4", "megatron_to_hf at TP 1": "0c0aa4feeaeb",
        "hf_to_megatron at TP 2": "9baa64e8940e", "megatron_to_hf at TP 2": "0c0aa4feeaeb",
    },
    "QKVMapping": {
        "hf_to_megatron at TP 1": "cb3803bfbbe6", "megatron_to_hf at TP 1": "b4e972eadf72",
        "hf_to_megatron at TP 2": "9cd655554432", "megatron_to_hf at TP 2": "b4e972eadf72",
    },
    "ConcatenatedQKVMapping": {
        "hf_to_megatron at TP 1": "671aaa6dc050", "megatron_to_hf at TP 1": "b63a36e452a4",
        "hf_to_megatron at TP 2": "6181368f0aee", "megatron_to_hf at TP 2": "b63a36e452a4",
    },
    "KVMapping": {
        "hf_to_megatron at TP 1": "70fbccc1ace7", "megatron_to_hf at TP 1": "4a437b722a2a",
        "hf_to_megatron at TP 2": "e4b5afc15532", "megatron_to_hf at TP 2": "4a437b722a2a",
    },
    "GatedMLPMapping": {
        "hf_to_megatron at TP 1": "f7e16582c025", "megatron_to_hf at TP 1": "84793266fcf5",
        "hf_to_megatron at TP 2": "05daf6941af2", "megatron_to_hf at TP 2": "84793266fcf5",
    },
    "GDNLinearMapping": {
        "hf_to_megatron at TP 1": "607d8b6a0a78", "megatron_to_hf at TP 1": "bfc4d00e6d3b",
        "hf_to_megatron at TP 2": "a2af0fa8ccfb", "megatron_to_hf at TP 2": "bfc4d00e6d3b",
    },
    "GDNLinearMappingSeparate": {
        "hf_to_megatron at TP 1": "b37aed8b5b40", "megatron_to_hf at TP 1": "42565e4d1fb1",
        "hf_to_megatron at TP 2": "63483a82d8b7", "megatron_to_hf at TP 2": "42565e4d1fb1",
    },
    "GDNConv1dMapping": {
        "hf_to_megatron at TP 1": "9c9581444025", "megatron_to_hf at TP 1": "de1bd29b2f22",
        "hf_to_megatron at TP 2": "6e8ddfc322ca",
    },
    "MambaInProjMapping": {
        "hf_to_megatron at TP 1": "b37aed8b5b40", "megatron_to_hf at TP 1": "2070fd46537e",
        "hf_to_megatron at TP 2": "d32d468ca604",
    },
    "MambaConv1dMapping": {
        "hf_to_megatron at TP 1": "713568b78dc1", "megatron_to_hf at TP 1": "87a5183daf9e",
        "hf_to_megatron at TP 2": "8fe105c6ecea",
    },
    "QKVGMapping": {
        "hf_to_megatron at TP 1": "79c29f6be4fd", "megatron_to_hf at TP 1": "90429bcf2ff0",
        "hf_to_megatron at TP 2": "beed2d69fdc5", "megatron_to_hf at TP 2": "90429bcf2ff0",
    },
    "FusedExpertMapping": {
        "hf_to_megatron at TP 1": "a812b08f780c", "megatron_to_hf at TP 1": "3eb90fe11945",
        "hf_to_megatron at TP 2": "0a51b543d388", "megatron_to_hf at TP 2": "3eb90fe11945",
    },
    "FusedGatedExpertMapping": {
        "hf_to_megatron at TP 1": "a06e1874b9c7", "megatron_to_hf at TP 1": "b93a3b2c9fdf",
        "hf_to_megatron at TP 2": "9fee0b35d00e", "megatron_to_hf at TP 2": "b93a3b2c9fdf",
    },
}

# Methods whose source is this one were read: they change no tensor that a rule reads or writes.
METHODS = {
    "_OffsetGatedMLPMapping.gather_from_ep_ranks": "6652b2fc9b1d",
    "_OffsetRowParallelMapping.gather_from_ep_ranks": "b2a1399d4a48",
    "DeepSeekV3Bridge.maybe_modify_converted_hf_weight": "e9ac17b292ee",
    "Ernie45VLBridge.stream_weights_megatron_to_hf": "3599da5724b7",
    "GLM47FlashBridge.maybe_modify_converted_hf_weight": "dab99b19cc08",
    "LlamaBridge.maybe_modify_converted_hf_weight": "3ec42973453c",
    "Gemma4Bridge.maybe_modify_converted_hf_weight": "ec9ca033ba0f",
    "Step35Bridge.maybe_modify_converted_hf_weight": "6143ae8d9a08",
    "_PPSafeMixin.megatron_to_hf": "a9e11df79624",
}

# Classes of single bridges whose line or kind (lines.py, core/families/tables/upstream_classes.json) was read off this source.
SOURCES = {
    "GPTOSSMLPDownProjMapping": "c9876ee10c32",
    "GPTOSSMLPGateUpProjMapping": "f16e58d8ba88",
    "MiMoV2FlashQKVMapping": "cbc8d8d4cd8e",
    "StackedExpertAutoMapping": "931398f370fd",
    "StackedExpertGatedMLPMapping": "b99d4ebc3624",
    "_ConcatBiasMapping": "3e6d03b4d21e",
    "_FullDimQKNormMapping": "2234635683ab",
    "_Gemma4DenseQKVMapping": "bbce179bdcb4",
    "_Gemma4QKVMapping": "41bebdfe0bd5",
    "_HCAlphaMapping": "068459d7e762",
    "_HCAlphaSecondaryMapping": "ec22199a1a96",
    "_ReplicatedByParamNameMapping": "8f1961ec461a",
    "_ReplicatedOptional": "ef606e8d4b77",
    "_SqueezeBiasMapping": "c9ade6ccf00f",
}


def is_other(cls):
    """A class of the library by the name of one that was read, with another source."""
    if cls.__name__ not in SOURCES or not cls.__module__.startswith("megatron.bridge."):
        return False
    try:
        return digest(cls) != SOURCES[cls.__name__]
    except (OSError, TypeError):
        return True


def digest(thing):
    """Of the source of a function or class, with what it names of its file: a method that was read calls what was read. Raises where
    it has no source, or another function stands in its place."""
    path = inspect.getsourcefile(thing)
    found = granted.parts(pathlib.Path(path).read_text())
    names = granted.within(found, thing.__qualname__)
    if names and inspect.isfunction(thing) and granted.stranger(thing, path, {found[thing.__qualname__].line}):
        raise TypeError("another function stands in its place")
    text = repr([(name, found[name].digest) for name in names]) if names else inspect.getsource(thing)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def is_read(cls, name):
    """Is the method that `cls` has under this name one that was read?"""
    owner = next((one for one in cls.__mro__ if name in vars(one)), None)
    function = None if owner is None else vars(owner)[name]
    try:
        return METHODS.get(f"{owner.__name__}.{name}") == digest(function)
    except (OSError, TypeError, AttributeError):
        return False
