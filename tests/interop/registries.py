"""What the survey of Megatron-Bridge's registries looks at: a tiny config of each bridge class, and variants of it.

Used by make_registries.py. A case is {"class": class of transformers, or None, "bridge": class of Megatron-Bridge where the
architecture does not say it, "config": {...}, "published": [[regex, text], ...], "variants": {name: changes}}.
`published` renames what transformers writes of a new model to the names of the published checkpoints. Without a class of
transformers, the names and shapes are those that the bridge itself exports; "provider" then sets fields that its provider
leaves wrong. A variant's changes are merged into the config, into
nested objects too; its key "own" takes the bridge's own export, "fresh" takes the names that transformers writes of a new model.
"""

from architectures import BROUGHT, DENSE, EXPERTS, LATENT, ROUTED, TINY, WHOLE, without

TEXT = {**DENSE, "hidden_size": 32}
VISION = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "depth": 2, "num_attention_heads": 4, "num_heads": 4,
          "out_hidden_size": 32, "image_size": 56, "patch_size": 14, "fullatt_block_indexes": [1], "deepstack_visual_indexes": [0]}
AUDIO = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 40, "num_mel_bins": 16,
         "output_dim": 32, "num_hidden_layers": 2, "max_source_positions": 30, "n_window": 10}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 2, 2]}}
MANY = {**EXPERTS, "num_experts": 8, "num_local_experts": 8, "n_routed_experts": 8}
KIMI = {**LATENT, **ROUTED, "n_shared_experts": 1, "n_group": 1, "first_k_dense_replace": 1, "scoring_func": "sigmoid",
        "rope_theta": 1e4, "rms_norm_eps": 1e-6, "initializer_range": 0.02, "tie_word_embeddings": False, "aux_loss_alpha": 0.001,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
HYBRID = {**TEXT, **MANY, "layers_block_type": ["mamba", "attention", "moe", "mamba"], "hybrid_override_pattern": "M*EM",
          "mamba_num_heads": 8, "mamba_head_dim": 6, "ssm_state_size": 10, "n_groups": 4,
          "moe_shared_expert_intermediate_size": 20, "n_shared_experts": 1, "moe_latent_size": None}
NEMOTRON_VL = {**HYBRID, "mamba_num_heads": 128, "mamba_head_dim": 80, "n_groups": 8, "ssm_state_size": 128,
               "hybrid_override_pattern": "M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M-", "num_hidden_layers": 62}
STEP = {**TEXT, "model_type": "step3p5", "moe_num_experts": 8, "moe_top_k": 2, "moe_intermediate_size": 16, "share_expert_dim": 20,
        "num_attention_groups": 4, "moe_layers_enum": "1,2,3", "use_qk_norm": True, "zero_centered": True,
        "use_moe_router_bias": True, "moe_router_activation": "sigmoid", "moe_router_scaling_factor": 3.0, "need_fp32_gate": True,
        "use_head_wise_attn_gate": True, "layer_types": ["full_attention", "sliding_attention"] * 2, "sliding_window": 5,
        "attention_other_setting": {"attention_type": "sliding_attention", "num_attention_heads": 12, "num_attention_groups": 4,
                                    "head_dim": 10}, "partial_rotary_factors": [0.5, 1.0, 0.5, 1.0], "rope_theta": [1e4] * 4,
        "rms_norm_eps": 1e-5, "initializer_range": 0.02, "tie_word_embeddings": False, "num_nextn_predict_layers": 0}


def tiny(name, more=(), **case):
    class_name, config = TINY[name]
    return {"class": class_name, "config": {**config, **dict(more)}, **case}


QWEN3 = {**DENSE, "head_dim": 10}
UNTIED, TIED = {"tie_word_embeddings": False}, {"tie_word_embeddings": True}
BIASED = {"attention_bias": True}

CASES = {
    "bailing_moe_v2": {"class": "BailingMoeV2ForCausalLM", "config": {**BROUGHT["bailing_moe_v2"][2], "num_shared_experts": 1},
                       "variants": {"two_shared_experts": {"num_shared_experts": 2}}},
    "deepseek_v2": tiny("deepseek_v2", variants={"no_q_lora": {"q_lora_rank": None}}),
    "deepseek_v3": {"class": "DeepseekV3ForCausalLM", "config": {**LATENT, **ROUTED, "first_k_dense_replace": 1},
                    "variants": {"no_q_lora": {"q_lora_rank": None}, "tied": TIED, "attention_bias": BIASED}},
    "deepseek_v4": {"class": "DeepseekV4ForCausalLM", "config": {**TEXT, "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32.0,
        "beta_slow": 1.0}}},
    "ernie45": {"class": "Ernie4_5_MoeForCausalLM", "config": {
        **TEXT, "moe_intermediate_size": 16, "moe_num_experts": 8, "moe_k": 2, "moe_num_shared_experts": 2,
        "moe_layer_start_index": 1, "moe_layer_end_index": 3, "moe_layer_interval": 1},
        "variants": {"interval": {"moe_layer_interval": 2}, "use_bias": {"use_bias": True}}},
    "ernie45_vl": {"class": "Ernie4_5_VLMoeForConditionalGeneration", "config": {
        "text_config": {**TEXT, "moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": [16, 12], "moe_num_shared_experts": 2,
                        "rope_parameters": {"rope_type": "default", "rope_theta": 5e5, "mrope_section": [2, 2, 1]}},
        "vision_config": VISION}},
    "exaone4": tiny("exaone4", variants={"tied": TIED}),
    "exaone45": {"class": "Exaone4_5_ForConditionalGeneration", "config": {
        "text_config": {**TEXT, "sliding_window": 5, "sliding_window_pattern": 4},
        "vision_config": {**VISION, "num_key_value_heads": 2}}},
    "exaone_moe": tiny("exaone_moe"),
    "falcon_h1": tiny("falcon_h1", more={"mamba_norm_before_gate": False}, variants={"no_conv_bias": {"mamba_conv_bias": False}, "attention_bias": BIASED}),
    "flux": {"class": None, "bridge": "FluxBridge", "config": {
        "architectures": ["FluxTransformer2DModel"], "num_attention_heads": 4, "attention_head_dim": 8, "in_channels": 8,
        "patch_size": 1, "num_layers": 2, "num_single_layers": 2, "joint_attention_dim": 12, "pooled_projection_dim": 10,
        "guidance_embeds": True, "axes_dims_rope": [2, 2, 4]}},
    "gemma": tiny("gemma", variants={"untied": UNTIED, "attention_bias": BIASED}),
    "gemma2": tiny("gemma2", variants={"untied": UNTIED, "attention_bias": BIASED}),
    "gemma3": {"class": "Gemma3ForCausalLM", "config": {**DENSE, "pad_token_id": 0, "sliding_window": 5},
               "variants": {"untied": UNTIED, "attention_bias": BIASED}},
    "gemma3_vl": {"class": "Gemma3ForConditionalGeneration", "config": {
        "text_config": TEXT, "vision_config": {**VISION, "hidden_size": 24, "vision_use_head": False}, "mm_tokens_per_image": 16}},
    "gemma4": {"class": "Gemma4ForCausalLM", "config": {
        **TEXT, "vocab_size": 128, "global_head_dim": 12, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 6,
        "vocab_size_per_layer_input": 128, "layer_types": ["sliding_attention", "full_attention"] * 2},
        "variants": {"untied": UNTIED, "shared_kv": {"num_kv_shared_layers": 2}, "experts": {
            "enable_moe_block": True, "num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 12,
            "hidden_size_per_layer_input": 0}}},
    "gemma4_vl": {"class": "Gemma4ForConditionalGeneration", "config": {
        "text_config": {**TEXT, "vocab_size": 128, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0,
                        "layer_types": ["sliding_attention", "full_attention"] * 2},
        "vision_config": {**VISION, "head_dim": 8, "num_key_value_heads": 4}, "audio_config": None}},
    "glm45": {"class": "Glm4MoeForCausalLM", "config": {
        **DENSE, **ROUTED, "head_dim": 12, "first_k_dense_replace": 1, "n_shared_experts": 1},
        "variants": {"two_shared_experts": {"n_shared_experts": 2}}},
    "glm45v": {"class": "Glm4vMoeForConditionalGeneration", "config": {
        "text_config": {**TEXT, **MANY, **MROPE, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
                        "use_qk_norm": False},
        "vision_config": VISION}},
    "glm47_flash": tiny("glm4_moe_lite", variants={"attention_bias": BIASED}),
    "glm5": tiny("glm_moe_dsa", extra={"indexer_rope_interleave": True}),
    "gpt_oss": {"class": "GptOssForCausalLM", "config": {
        **DENSE, "intermediate_size": 16, "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": 5, "head_dim": 12},
        "variants": {"no_attention_bias": {"attention_bias": False}}},
    "hy_v3": tiny("hy_v3", extra={"first_k_dense_replace": 1}),
    "kimi_k2": {"class": "DeepseekV3ForCausalLM", "config": KIMI,
                "extra": {"architectures": ["KimiK2ForCausalLM"], "model_type": "kimi_k2", "scoring_func": "sigmoid"}},
    "kimi_k25_vl": {"class": None, "config": {
        "architectures": ["KimiK25ForConditionalGeneration"], "model_type": "kimi_k25", "text_config": {**KIMI, "model_type": "kimi_k2"},
        "vision_config": {**VISION, "model_type": "moonvit"}}},
    "llada15": {"class": None, "config": {
        "architectures": ["LLaDAModelLM"], "model_type": "llada", "n_layers": 4, "d_model": 32, "n_heads": 8, "n_kv_heads": 4,
        "mlp_hidden_size": 36, "mlp_ratio": 4, "vocab_size": 131, "embedding_size": 131, "max_sequence_length": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 1e4, "weight_tying": False, "include_bias": False, "include_qkv_bias": False,
        "attention_layer_norm": False, "residual_dropout": 0.0, "attention_dropout": 0.0, "init_std": 0.02}},
    "llama": {"class": "LlamaForCausalLM", "config": DENSE, "variants": {
        "tied": TIED, "attention_bias": BIASED, "mlp_bias": {"mlp_bias": True}}},
    "llama_nemotron": {"class": None, "config": {
        **TEXT, "architectures": ["DeciLMForCausalLM"], "model_type": "nemotron-nas", "initializer_range": 0.02,
        "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": False, "head_dim": 4, "hidden_act": "silu",
        "block_configs": [{"attention": {"n_heads_in_group": 2, "no_op": False, "replace_with_linear": False},
                           "ffn": {"ffn_mult": 1.5, "no_op": False, "replace_with_linear": False}}] * 4}},
    "mimo": {"class": None, "config": {
        **TEXT, "architectures": ["MiMoForCausalLM"], "model_type": "mimo", "num_nextn_predict_layers": 1, "rms_norm_eps": 1e-6,
        "rope_theta": 1e4, "initializer_range": 0.02, "tie_word_embeddings": False, "hidden_act": "silu"}},
    "mimo_v2_flash": {"class": None, "config": {
        **TEXT, **MANY, "architectures": ["MiMoV2FlashForCausalLM"], "model_type": "mimo_v2_flash", "v_head_dim": 6,
        "swa_num_key_value_heads": 8, "hybrid_layer_pattern": [0, 1, 1, 0], "sliding_window_size": 5, "layernorm_epsilon": 1e-5,
        "moe_layer_freq": [0, 1, 1, 1], "attention_value_scale": 0.7, "swa_rope_theta": 1e4, "rope_theta": 1e6,
        "n_group": 1, "topk_group": 1, "scoring_func": "sigmoid", "initializer_range": 0.02, "tie_word_embeddings": False,
        "hidden_act": "silu", "partial_rotary_factor": 0.4}},
    "minimax_m2": {"class": "MiniMaxM2ForCausalLM", "config": {**TEXT, **MANY, "intermediate_size": 16, "rotary_dim": 4}},
    "minimax_m3": {"class": "MiniMaxM3SparseForConditionalGeneration", "config": {
        "text_config": {**TEXT, **MANY, "intermediate_size": 16, "dense_intermediate_size": 36}, "vision_config": VISION}},
    "ministral3": {"class": "Mistral3ForConditionalGeneration", "config": {"tie_word_embeddings": False,
        "text_config": {**TEXT, "model_type": "ministral3", "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 64,
            "llama_4_scaling_beta": 0.1, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}},
        "vision_config": {**VISION, "model_type": "pixtral", "head_dim": 8}},
        "variants": {"tied": TIED, "mistral_small": {"text_config": {"model_type": "mistral", "rope_parameters": {
            "rope_type": "default", "rope_theta": 1e6}}}}},
    "mistral": {"class": "MistralForCausalLM", "config": {**TEXT, "sliding_window": None}},
    "nemotron": tiny("nemotron", variants={"attention_bias": BIASED}),
    "nemotron_h": {"class": "NemotronHForCausalLM", "config": HYBRID,
                   "published": [["^backbone\\.embedding\\.", "backbone.embeddings."], ["^model\\.", "backbone."],
                                 ["^backbone\\.embed_tokens\\.", "backbone.embeddings."]],
                   "variants": {"fresh": {"fresh": True}, "no_conv_bias": {"use_conv_bias": False},
                                "mtp": {"num_nextn_predict_layers": 1, "mtp_hybrid_override_pattern": "*E",
                                        "own": True}}},
    "nemotron_labs_diffusion": {"class": None, "bridge": "NemotronLabsDiffusionBridge", "config": {
        **TEXT, "architectures": ["NemotronLabsDiffusionModel"], "model_type": "nemotron_labs_diffusion", "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False, "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 64,
            "llama_4_scaling_beta": 0.1, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}}},
    "nemotron_omni": {"class": None, "config": {
        "architectures": ["NemotronH_Nano_Omni_Reasoning_V3"], "model_type": "nemotron_h_omni", "llm_config": HYBRID,
        "projector_hidden_size": 48, "vision_config": {"model_type": "radio"}, "sound_config": None}},
    "nemotron_vl": {"class": None, "config": {
        "architectures": ["NemotronH_Nano_VL_V2"], "model_type": "nemotron_h_vl", "llm_config": NEMOTRON_VL,
        "vision_config": {"model_type": "radio"}}},
    "olmoe": tiny("olmoe", variants={"fewer_kv_heads": {"num_key_value_heads": 4}, "tied": TIED, "attention_bias": BIASED}),
    "qwen2": {"class": "Qwen2ForCausalLM", "config": DENSE, "variants": {"tied": TIED}},
    "qwen2_audio": {"class": "Qwen2AudioForConditionalGeneration", "config": {
        "text_config": {**TEXT, "model_type": "qwen2", "head_dim": 4}, "audio_config": {**AUDIO, "model_type": "qwen2_audio_encoder"}},
        "published": [["^language_model\\.model\\.model\\.", "language_model.model."],
                      ["^language_model\\.model\\.lm_head", "language_model.lm_head"], ["^lm_head", "language_model.lm_head"],
                      ["^model\\.language_model\\.", "language_model.model."], ["^model\\.", ""]],
        "variants": {"fresh": {"fresh": True}}},
    "qwen25_omni": {"class": "Qwen2_5OmniForConditionalGeneration", "config": {
        "thinker_config": {"text_config": {**TEXT, **MROPE, "head_dim": 4, "tie_word_embeddings": False}, "vision_config": VISION,
                           "audio_config": AUDIO}, "enable_audio_output": False},
        "variants": {"inner_tie": {"thinker_config": {"text_config": {"tie_word_embeddings": True}}}}},
    "qwen25_vl": {"class": "Qwen2_5_VLForConditionalGeneration", "config": {
        "text_config": {**TEXT, "head_dim": None, **MROPE}, "vision_config": VISION}},
    "qwen3": {"class": "Qwen3ForCausalLM", "config": QWEN3, "variants": {"tied": TIED, "attention_bias": BIASED}},
    "qwen35": {"class": "Qwen3_5ForCausalLM", "golden": "qwen3_5_dense", "variants": {"from_vl": {"golden": "qwen3_5_dense_from_vl"},
                                                                                   "mtp": {"golden": "qwen3_5_dense_mtp"}}},
    "qwen35_moe": {"golden": "qwen3_5_moe", "variants": {"packed": {"golden": "qwen3_5_moe_packed"}}},
    "qwen35_vl": {"golden": "qwen3_5_vl_dense", "variants": {"mtp_tied": {"golden": "qwen3_5_vl_dense_mtp_tied"}}},
    "qwen35_vl_moe": {"golden": "qwen3_5_vl_moe", "variants": {"mtp_packed": {"golden": "qwen3_5_vl_moe_mtp_packed"},
                                                              "mtp_per_expert": {"golden": "qwen3_5_vl_moe_mtp_per_expert"}}},
    "qwen3_asr": {"class": None, "config": {
        "architectures": ["Qwen3ASRForConditionalGeneration"], "model_type": "qwen3_asr", "thinker_config": {
            "text_config": {**TEXT, "model_type": "qwen3", "rms_norm_eps": 1e-6, "initializer_range": 0.02, "rope_theta": 1e6,
                            "tie_word_embeddings": False, "rope_scaling": {"rope_type": "default", "mrope_section": [1, 2, 2]}},
            "audio_config": {**AUDIO, "model_type": "qwen3_asr_audio_encoder"}}}},
    "qwen3_moe": {"class": "Qwen3MoeForCausalLM", "config": {**DENSE, **EXPERTS, "num_experts": 8}, "variants": {
        "mlp_only_layers": {"mlp_only_layers": [1]}, "sparse_step": {"decoder_sparse_step": 2}, "attention_bias": BIASED,
        "packed": {"golden": "qwen3_moe_packed"}}},
    "qwen3_next": {"golden": "qwen3_next", "variants": {"mlp_only_layers": {"mlp_only_layers": [1]}, "attention_bias": BIASED}},
    "qwen3_omni": {"class": "Qwen3OmniMoeForConditionalGeneration", "config": {
        "thinker_config": {"text_config": {**TEXT, **MANY, **MROPE}, "vision_config": VISION, "audio_config": AUDIO},
        "enable_audio_output": False}},
    "qwen3_vl": {"golden": "qwen3_vl"},
    "qwen3_vl_moe": {"golden": "qwen3_vl_moe", "variants": {"transposed": {"golden": "qwen3_vl_moe_transposed"}}},
    "sarvam_mla": {"class": None, "config": {
        **without(KIMI, "q_lora_rank"), "architectures": ["SarvamMLAForCausalLM"], "model_type": "sarvam_mla", "num_experts": 8,
        "num_shared_experts": 1, "num_experts_per_tok": 2, "hidden_act": "silu"}},
    "sarvam_moe": {"class": None, "config": {
        **TEXT, **EXPERTS, "architectures": ["SarvamMoEForCausalLM"], "model_type": "sarvam_moe", "num_experts": 8,
        "num_shared_experts": 1, "first_k_dense_replace": 1, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "initializer_range": 0.02,
        "tie_word_embeddings": False, "hidden_act": "silu", "routed_scaling_factor": 2.5, "n_group": 1, "topk_group": 1}},
    "step35": {"class": None, "config": {**STEP, "architectures": ["Step3p5ForCausalLM"]}},
    "step37": {"class": None, "provider": {"attention_output_gate": True}, "config": {"architectures": ["Step3p7ForConditionalGeneration"], "model_type": "step3p7",
                                         "text_config": STEP, "vision_config": {**VISION, "width": 32, "layers": 2, "heads": 4}}},
    "wan": {"class": None, "config": {
        "architectures": ["WanTransformer3DModel"], "num_layers": 2, "num_attention_heads": 4, "attention_head_dim": 12,
        "ffn_dim": 40, "in_channels": 4, "out_channels": 4, "text_dim": 14, "patch_size": [1, 2, 2], "eps": 1e-6, "freq_dim": 16,
        "qk_norm": "rms_norm_across_heads"}},
}

NAMES, UNFILLED, UNREAD = ["BV1001", "BV1004"], ["BV1004"], ["BV1001"]
WITHOUT_RULE, BOTH = ["BV1003"], ["BV1001", "BV1003"]
# Defects of Megatron-Bridge 0.6.2 by the row that shows them and what it shows: docs/findings.
FINDINGS = {
    "sarvam_mla": [{"name": "D1", "codes": WITHOUT_RULE}],
    "deepseek_v2.no_q_lora": [{"name": "D2", "codes": WITHOUT_RULE}],
    "deepseek_v3.no_q_lora": [{"name": "D2", "codes": WITHOUT_RULE},
                              {"name": "D11", "codes": WITHOUT_RULE, "real": "'NoneType' object has no attribute 'megatron_module'"}],
    "exaone4": [{"name": "D3", "codes": BOTH}],
    **{row: [{"name": "D4", "codes": NAMES}] for row in (
        "qwen3_moe.mlp_only_layers", "qwen3_moe.sparse_step", "qwen3_next.mlp_only_layers")},
    "ernie45.interval": [{"name": "D5", "codes": NAMES}],
    **{f"{case}.attention_bias": [{"name": "D6", "codes": UNREAD}] for case in (
        "qwen3", "qwen3_moe", "qwen3_next", "deepseek_v3", "glm47_flash")},
    "ernie45.use_bias": [{"name": "D6", "codes": UNREAD}],
    **{f"{case}.attention_bias": [{"name": "D7", "codes": BOTH}] for case in (
        "llama", "gemma", "gemma2", "gemma3", "olmoe", "nemotron", "falcon_h1")},
    "llama.mlp_bias": [{"name": "D7", "codes": BOTH}],
    **{f"{case}.untied": [{"name": "D8", "codes": UNREAD}] for case in ("gemma", "gemma2", "gemma3", "gemma4")},
    **{f"{case}.tied": [{"name": "D8", "codes": UNFILLED}] for case in ("olmoe", "deepseek_v3", "ministral3")},
    "gpt_oss.no_attention_bias": [{"name": "D9", "codes": UNFILLED}],
    "nemotron_h.no_conv_bias": [{"name": "D10", "codes": UNFILLED}],
    "falcon_h1.no_conv_bias": [{"name": "D10", "trouble": "when instantiating FalconH1MambaMixer"}],
    **{row: [{"name": "D12", "codes": NAMES}] for row in (
        "nemotron_h.fresh", "qwen2_audio.fresh", "qwen3_moe.packed", "qwen35.from_vl")},
    "deepseek_v4": [{"name": "D12", "codes": UNREAD}, {"name": "D14", "trouble": "dsv4_hybrid"}],
    "ministral3.mistral_small": [{"name": "D13", "trouble": "llama_4_scaling_beta"}],
    "olmoe.fewer_kv_heads": [{"name": "D15", "codes": ["BV2001"]}],
    "bailing_moe_v2.two_shared_experts": [{"name": "D16", "codes": ["BV2001"]}],
    "glm45.two_shared_experts": [{"name": "D16", "codes": ["BV2001"]}],
    "step37": [{"name": "D18", "codes": ["BV2001"], "real": "Shape mismatch"}],
    "qwen25_omni.inner_tie": [{"name": "D17", "codes": UNREAD}],
}
