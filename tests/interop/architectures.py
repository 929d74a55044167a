"""Tiny configs of architectures that transformers has: what make_checkpoints.py writes to fixtures/golden/hf."""

# Sizes of different meaning differ; TP 1, 2, 4 and EP 1, 2, 4 are legal.
DENSE = {"vocab_size": 131, "hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 4, "num_attention_heads": 8,
         "num_key_value_heads": 4, "head_dim": 10, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2,
         "pad_token_id": None}
WHOLE = {**DENSE, "hidden_size": 32, "head_dim": None}  # heads share the hidden size
LATENT = {key: value for key, value in DENSE.items() if key not in ("head_dim", "num_key_value_heads")}
LATENT |= {"num_hidden_layers": 3, "q_lora_rank": 28, "kv_lora_rank": 18, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 14,
           "num_key_value_heads": 8}
EXPERTS = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}
ROUTED = {**EXPERTS, "n_routed_experts": 8, "n_shared_experts": 2, "n_group": 2, "topk_group": 1, "norm_topk_prob": True,
          "routed_scaling_factor": 2.5}


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


# Classes that transformers lacks and Megatron-Bridge brings, by their module in its package.
BROUGHT = {
    "bailing_moe_v2": ("megatron.bridge.models.bailing.modeling_bailing_moe_v2", "BailingMoeV2ForCausalLM", {
        **DENSE, **EXPERTS, "num_hidden_layers": 3, "num_experts": 8, "num_shared_experts": 2, "n_group": 2, "topk_group": 1,
        "first_k_dense_replace": 1, "num_nextn_predict_layers": 1}),
}

# name -> (class, config)
TINY = {
    "deepseek_v2": ("DeepseekV2ForCausalLM", {**LATENT, **without(ROUTED, "norm_topk_prob"), "first_k_dense_replace": 1,
                                              "topk_method": "group_limited_greedy"}),
    "deepseek_v2_lite": ("DeepseekV2ForCausalLM", {**LATENT, **without(ROUTED, "norm_topk_prob", "n_group", "topk_group"),
                                                   "q_lora_rank": None, "first_k_dense_replace": 1}),
    "glm4_moe_lite": ("Glm4MoeLiteForCausalLM", {**LATENT, **ROUTED}),
    "glm_moe_dsa": ("GlmMoeDsaForCausalLM", {**LATENT, **ROUTED, "num_hidden_layers": 4,
                                             "first_k_dense_replace": 3, "intermediate_size": 20, "index_head_dim": 12,
                                             "index_n_heads": 6, "index_topk": 4, "index_topk_freq": 2,
                                             "index_skip_topk_offset": 2}),
    "hy_v3": ("HYV3ForCausalLM", {**DENSE, **EXPERTS, "num_hidden_layers": 3, "num_experts": 8, "num_shared_experts": 2, "router_scaling_factor": 1.5}),
    "gemma": ("GemmaForCausalLM", {**DENSE, "pad_token_id": 0}),
    "gemma2": ("Gemma2ForCausalLM", {**DENSE, "sliding_window": 5, "query_pre_attn_scalar": 12, "attn_logit_softcapping": 2.0,
                                     "final_logit_softcapping": 1.5}),
    "exaone4": ("Exaone4ForCausalLM", {**DENSE, "sliding_window": 5, "sliding_window_pattern": 4}),
    "exaone_moe": ("ExaoneMoeForCausalLM", {**DENSE, **EXPERTS, "num_hidden_layers": 3, "num_experts": 8, "num_shared_experts": 2, "n_group": 2,
                                            "topk_group": 1, "sliding_window": 5, "first_k_dense_replace": 1}),
    "olmo2": ("Olmo2ForCausalLM", WHOLE),
    "olmo3": ("Olmo3ForCausalLM", {**WHOLE, "sliding_window": 5}),
    "olmoe": ("OlmoeForCausalLM", {**WHOLE, "num_hidden_layers": 3, "num_key_value_heads": 8, "intermediate_size": 12, "num_experts": 8,
                                   "num_experts_per_tok": 2}),
    "nemotron": ("NemotronForCausalLM", {**DENSE, "head_dim": 12}),
    "starcoder2": ("Starcoder2ForCausalLM", WHOLE),
    "falcon_h1": ("FalconH1ForCausalLM", {**DENSE, "mamba_d_ssm": 48, "mamba_n_heads": 8, "mamba_d_head": 6, "mamba_n_groups": 4,
                                          "mamba_d_state": 10, "mamba_rms_norm": True}),
    "phi3": ("Phi3ForCausalLM", WHOLE),
    "glm": ("GlmForCausalLM", {**DENSE, "head_dim": 12}),
    "glm4": ("Glm4ForCausalLM", {**DENSE, "head_dim": 12}),
    "granite": ("GraniteForCausalLM", {**DENSE, "embedding_multiplier": 3.0, "attention_multiplier": 0.25,
                                       "residual_multiplier": 0.5, "logits_scaling": 4.0}),
    "qwen2_moe": ("Qwen2MoeForCausalLM", {**DENSE, **EXPERTS, "num_hidden_layers": 3, "num_experts": 8, "shared_expert_intermediate_size": 20,
                                          "mlp_only_layers": [1]}),
}
