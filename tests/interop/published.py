"""Sizes after published models, and how many parameters Megatron's model has, counted by hand from its modules.

Used by make_published.py: names, shapes and elements at these sizes are what the transformers class says
(fixtures/geometries, headers). No number here is a total.
"""

LATENT = {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "kv_lora_rank": 512}
GLM_LATENT = {"qk_nope_head_dim": 192, "qk_rope_head_dim": 64, "v_head_dim": 256, "kv_lora_rank": 512}

# Parameters of one module, norms included: latent attention with and without the query bottleneck, grouped-query
# attention, its two head norms, one bias, a gated MLP, the indexer of sparse attention, a gated delta net.
MLA, MLA_WHOLE_QUERY, GQA, HEAD_NORMS, BIAS, MLP, INDEXER, GDN = 8, 6, 3, 2, 1, 3, 5, 7


def moe(experts, shared=2, score_bias=1, gate=0):
    """Norm, router, its score bias, two matrices an expert, the shared expert, its gate."""
    return 2 + score_bias + 2 * experts + shared + gate


def hybrid(pattern, **sizes):
    """Nemotron-H: one letter a layer."""
    words = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
    return {"layers_block_type": [words[letter] for letter in pattern], "num_key_value_heads": 8, "head_dim": 128,
            "ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4, "vocab_size": 131072, **sizes}


def hybrid_parameters(pattern, experts=0):
    """A Mamba layer has 9 parameters, attention and an MLP 3 each; embedding, last norm and output layer."""
    return 3 + 9 * pattern.count("M") + 3 * (pattern.count("*") + pattern.count("-")) + pattern.count("E") * moe(experts)


# The last 18 layers take keys and values of others: Megatron has rows for their own, 3 of them for heads of 512.
GEMMA_E4B_ZEROS = 2 * 2 * 2560 * (15 * 256 + 3 * 512)
NANO_30B = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"

# name -> class, sizes, Megatron parameters, elements of Megatron's that HF has not (0 where nothing is said)
PUBLISHED = {
    "kimi-k2": ("DeepseekV3ForCausalLM", {
        "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61,
        "num_attention_heads": 64, "num_key_value_heads": 64, "q_lora_rank": 1536, **LATENT, "n_routed_experts": 384,
        "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 1, "vocab_size": 163840, "n_group": 1,
        "topk_group": 1, "num_nextn_predict_layers": 0}, 3 + 61 * MLA + MLP + 60 * moe(384)),
    "deepseek-v2-lite": ("DeepseekV2ForCausalLM", {
        "hidden_size": 2048, "intermediate_size": 10944, "moe_intermediate_size": 1408, "num_hidden_layers": 27,
        "num_attention_heads": 16, "num_key_value_heads": 16, "q_lora_rank": None, **LATENT, "n_routed_experts": 64,
        "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1, "vocab_size": 102400},
        3 + 27 * MLA_WHOLE_QUERY + MLP + 26 * moe(64, score_bias=0)),
    "deepseek-v2": ("DeepseekV2ForCausalLM", {
        "hidden_size": 5120, "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_hidden_layers": 60,
        "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536, **LATENT, "n_routed_experts": 160,
        "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1, "vocab_size": 102400, "n_group": 8,
        "topk_group": 3}, 3 + 60 * MLA + MLP + 59 * moe(160, score_bias=0)),
    "glm-4.7-flash": ("Glm4MoeLiteForCausalLM", {
        "hidden_size": 2048, "intermediate_size": 10240, "moe_intermediate_size": 1536, "num_hidden_layers": 47,
        "num_attention_heads": 20, "num_key_value_heads": 20, "q_lora_rank": 768, **GLM_LATENT, "n_routed_experts": 64,
        "n_shared_experts": 1, "num_experts_per_tok": 4, "vocab_size": 154880},
        3 + 47 * MLA + MLP + 46 * moe(64)),
    "glm-5": ("GlmMoeDsaForCausalLM", {
        "hidden_size": 6144, "intermediate_size": 12288, "moe_intermediate_size": 2048, "num_hidden_layers": 78,
        "num_attention_heads": 64, "num_key_value_heads": 64, "q_lora_rank": 2048, **GLM_LATENT, "n_routed_experts": 256,
        "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "index_head_dim": 128,
        "index_n_heads": 32, "index_topk": 2048, "vocab_size": 154880},
        3 + 78 * (MLA + 5) + 3 * MLP + 75 * moe(256)),
    "hy3-preview": ("HYV3ForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 13312, "moe_intermediate_size": 1536, "num_hidden_layers": 80,
        "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "num_experts": 192, "num_shared_experts": 1,
        "num_experts_per_tok": 8, "vocab_size": 120832},
        3 + 80 * (GQA + HEAD_NORMS) + MLP + 79 * moe(192)),
    "gemma-2b": ("GemmaForCausalLM", {
        "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8,
        "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 256000}, 2 + 18 * (GQA + MLP)),
    "gemma-2-2b": ("Gemma2ForCausalLM", {
        "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000}, 2 + 26 * (GQA + MLP + 2)),
    "exaone-4.0-1.2b": ("Exaone4ForCausalLM", {
        "hidden_size": 2048, "intermediate_size": 4096, "num_hidden_layers": 30, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 64, "sliding_window": None, "layer_types": ["full_attention"] * 30,
        "vocab_size": 102400, "tie_word_embeddings": True}, 2 + 30 * (GQA + HEAD_NORMS + MLP)),
    "k-exaone-236b": ("ExaoneMoeForCausalLM", {
        "hidden_size": 6144, "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 48,
        "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "num_experts": 128, "num_shared_experts": 1,
        "num_experts_per_tok": 8, "first_k_dense_replace": 1, "vocab_size": 153600},
        3 + 48 * (GQA + HEAD_NORMS) + MLP + 47 * moe(128)),
    "olmo-2-7b": ("Olmo2ForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 100352}, 3 + 32 * (GQA + HEAD_NORMS + MLP)),
    "olmo-3-7b": ("Olmo3ForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 100278}, 3 + 32 * (GQA + HEAD_NORMS + MLP)),
    "olmoe-1b-7b": ("OlmoeForCausalLM", {
        "hidden_size": 2048, "intermediate_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16,
        "num_key_value_heads": 16, "num_experts": 64, "num_experts_per_tok": 8, "vocab_size": 50304},
        3 + 16 * (GQA + HEAD_NORMS + moe(64, shared=0, score_bias=0))),
    "nemotron-mini-4b": ("NemotronForCausalLM", {
        "hidden_size": 3072, "intermediate_size": 9216, "num_hidden_layers": 32, "num_attention_heads": 24,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 256000}, 4 + 32 * (GQA + MLP + 2)),
    "starcoder2-3b": ("Starcoder2ForCausalLM", {
        "hidden_size": 3072, "intermediate_size": 12288, "num_hidden_layers": 30, "num_attention_heads": 24,
        "num_key_value_heads": 2, "vocab_size": 49152, "bos_token_id": 0, "eos_token_id": 0},
        3 + 30 * (GQA + MLP + 6)),
    "falcon-h1-0.5b": ("FalconH1ForCausalLM", {
        "hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 8,
        "num_key_value_heads": 2, "head_dim": 64, "mamba_d_ssm": 1536, "mamba_n_heads": 24, "mamba_d_head": 64,
        "mamba_n_groups": 1, "mamba_d_state": 128, "vocab_size": 32784}, 3 + 36 * (1 + 7 + 2 + MLP)),
    "phi-3-mini": ("Phi3ForCausalLM", {
        "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32064}, 3 + 32 * (GQA + MLP)),
    "phi-4": ("Phi3ForCausalLM", {
        "hidden_size": 5120, "intermediate_size": 17920, "num_hidden_layers": 40, "num_attention_heads": 40,
        "num_key_value_heads": 10, "vocab_size": 100352}, 3 + 40 * (GQA + MLP)),
    "glm-4-9b-chat": ("GlmForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40, "num_attention_heads": 32,
        "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 151552}, 3 + 40 * (GQA + BIAS + MLP)),
    "glm-4-9b-0414": ("Glm4ForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40, "num_attention_heads": 32,
        "num_key_value_heads": 2, "head_dim": 128, "attention_bias": True, "vocab_size": 151552},
        3 + 40 * (GQA + BIAS + MLP + 2)),
    "granite-3.1-8b": ("GraniteForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 12800, "num_hidden_layers": 40, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 49155, "tie_word_embeddings": True}, 2 + 40 * (GQA + MLP)),
    "qwen1.5-moe-a2.7b": ("Qwen2MoeForCausalLM", {
        "hidden_size": 2048, "intermediate_size": 5632, "moe_intermediate_size": 1408, "num_hidden_layers": 24,
        "num_attention_heads": 16, "num_key_value_heads": 16, "num_experts": 60, "num_experts_per_tok": 4,
        "shared_expert_intermediate_size": 5632, "vocab_size": 151936},
        3 + 24 * (GQA + BIAS + moe(60, score_bias=0, gate=1))),
    "minimax-m2": ("MiniMaxM2ForCausalLM", {
        "hidden_size": 3072, "intermediate_size": 1536, "num_hidden_layers": 62, "num_attention_heads": 48,
        "num_key_value_heads": 8, "head_dim": 128, "num_local_experts": 256, "num_experts_per_tok": 8,
        "vocab_size": 200064}, 3 + 62 * (GQA + HEAD_NORMS + moe(256, shared=0))),
    "ernie-4.5-21b-a3b": ("Ernie4_5_MoeForCausalLM", {
        "hidden_size": 2560, "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_hidden_layers": 28,
        "num_attention_heads": 20, "num_key_value_heads": 4, "moe_num_experts": 64, "moe_k": 6, "moe_num_shared_experts": 2,
        "vocab_size": 103424, "tie_word_embeddings": True}, 2 + 28 * GQA + MLP + 27 * moe(64)),
    "ernie-4.5-0.3b": ("Ernie4_5ForCausalLM", {
        "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 18, "num_attention_heads": 16,
        "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 103424, "tie_word_embeddings": True}, 2 + 18 * (GQA + MLP)),
    "dots.llm1": ("Dots1ForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 10944, "moe_intermediate_size": 1408, "num_hidden_layers": 62,
        "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128, "n_routed_experts": 128, "n_shared_experts": 2,
        "num_experts_per_tok": 6, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "vocab_size": 152064},
        3 + 62 * (GQA + HEAD_NORMS) + MLP + 61 * moe(128)),
    "seed-oss-36b": ("SeedOssForCausalLM", {
        "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64, "num_attention_heads": 80,
        "num_key_value_heads": 8, "head_dim": 128, "attention_bias": True, "vocab_size": 155136},
        3 + 64 * (GQA + BIAS + MLP)),
    "smollm3-3b": ("SmolLM3ForCausalLM", {
        "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 4, "vocab_size": 128256, "tie_word_embeddings": True}, 2 + 36 * (GQA + MLP)),
    "gemma-3-4b": ("Gemma3ForConditionalGeneration", {
        "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "num_attention_heads": 8,
                        "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208},
        "vision_config": {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
                          "image_size": 896, "patch_size": 14, "vision_use_head": False}},
        2 + 34 * (GQA + HEAD_NORMS + MLP + 2) + 2 + 3 + 27 * 16 + 2),
    "mistral-small-3.1": ("Mistral3ForConditionalGeneration", {
        "text_config": {"model_type": "mistral", "hidden_size": 5120, "intermediate_size": 32768, "num_hidden_layers": 40,
                        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 131072},
        "vision_config": {"model_type": "pixtral", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                          "num_attention_heads": 16, "head_dim": 64, "image_size": 1540, "patch_size": 14},
        "tie_word_embeddings": False}, 3 + 40 * (GQA + MLP) + 2 + 24 * 9 + 4),
    "qwen2.5-vl-7b": ("Qwen2_5_VLForConditionalGeneration", {
        "text_config": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
                        "num_key_value_heads": 4, "vocab_size": 152064},
        "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584},
        "tie_word_embeddings": False}, 3 + 28 * (GQA + BIAS + MLP) + 1 + 32 * 12 + 5),
    "qwen2-vl-7b": ("Qwen2VLForConditionalGeneration", {
        "text_config": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
                        "num_key_value_heads": 4, "vocab_size": 152064},
        "vision_config": {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "mlp_ratio": 4, "num_heads": 16},
        "tie_word_embeddings": False}, 3 + 28 * (GQA + BIAS + MLP) + 1 + 32 * 12 + 6),
    "glm-4.5v": ("Glm4vMoeForConditionalGeneration", {
        "text_config": {"hidden_size": 4096, "intermediate_size": 10944, "moe_intermediate_size": 1408, "num_hidden_layers": 46,
                        "num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128, "attention_bias": True,
                        "n_routed_experts": 128, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 1,
                        "vocab_size": 151552},
        "vision_config": {"depth": 24, "hidden_size": 1536, "intermediate_size": 10944, "num_heads": 12, "out_hidden_size": 4096,
                          "image_size": 336, "patch_size": 14}},
        3 + 46 * (GQA + BIAS) + MLP + 45 * moe(128) + 24 * 7 + 13),
    "nemotron-3-nano-4b": ("NemotronHForCausalLM", hybrid(
        "M-M-M-MM-M-M*-M-M*-M-M-M*-M-M-MM*-MMM-M-M-", hidden_size=3136, intermediate_size=12544, num_attention_heads=40,
        mamba_num_heads=96, mamba_head_dim=80), hybrid_parameters("M-M-M-MM-M-M*-M-M*-M-M-M*-M-M-MM*-MMM-M-M-")),
    "nemotron-3-nano-30b-a3b": ("NemotronHForCausalLM", hybrid(
        NANO_30B, hidden_size=2688, intermediate_size=1856, num_attention_heads=32, num_key_value_heads=2, mamba_num_heads=64,
        mamba_head_dim=64, n_routed_experts=128, n_shared_experts=1, num_experts_per_tok=6, moe_intermediate_size=1856,
        moe_shared_expert_intermediate_size=3712), hybrid_parameters(NANO_30B, 128)),
    "gemma-4-e4b": ("Gemma4ForCausalLM", {
        "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 42, "num_attention_heads": 8,
        "num_key_value_heads": 2, "head_dim": 256, "global_head_dim": 512, "num_kv_shared_layers": 18,
        "hidden_size_per_layer_input": 256, "vocab_size": 262144, "vocab_size_per_layer_input": 262144},
        5 + 42 * (4 + 3 + 2 + 4) + 24, GEMMA_E4B_ZEROS),
    "deepseek-v3.2": ("DeepseekV32ForCausalLM", {
        "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61,
        "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536, **LATENT, "n_routed_experts": 256, "num_experts": 256,
        "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "vocab_size": 129280, "index_n_heads": 64,
        "index_head_dim": 128}, 3 + 61 * (MLA + INDEXER) + 3 * MLP + 58 * moe(256)),
    "llama-4-scout": ("Llama4ForCausalLM", {
        "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384, "num_hidden_layers": 48,
        "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "num_local_experts": 16, "interleave_moe_layer_step": 1,
        "vocab_size": 202048}, 3 + 48 * (GQA + moe(16, score_bias=0))),
    "llama-4-maverick": ("Llama4ForCausalLM", {
        "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384, "num_hidden_layers": 48,
        "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "num_local_experts": 128, "interleave_moe_layer_step": 2,
        "vocab_size": 202048}, 3 + 48 * GQA + 24 * MLP + 24 * moe(128, score_bias=0)),
    "command-r-35b": ("CohereForCausalLM", {
        "hidden_size": 8192, "intermediate_size": 22528, "num_hidden_layers": 40, "num_attention_heads": 64,
        "num_key_value_heads": 64, "vocab_size": 256000}, 2 + 40 * (GQA + MLP - 1)),
    "pythia-6.9b": ("GPTNeoXForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 50432},
        2 * (2 + 32 * (GQA + MLP))),
    "phi-2": ("PhiForCausalLM", {
        "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 51200},
        2 * (2 + 32 * (GQA + MLP - 1)) + 1),
    "hunyuan-a13b": ("HunYuanMoEV1ForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 3072, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "num_experts": 64, "moe_topk": 8, "vocab_size": 128167, "tie_word_embeddings": True},
        2 + 32 * (GQA + HEAD_NORMS + moe(64, score_bias=0))),
    "llama-3.1-8b": ("LlamaForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256}, 3 + 32 * (GQA + MLP)),
    "llama-3.1-405b": ("LlamaForCausalLM", {
        "hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126, "num_attention_heads": 128,
        "num_key_value_heads": 8, "vocab_size": 128256}, 3 + 126 * (GQA + MLP)),
    "mistral-7b-v0.3": ("MistralForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "sliding_window": None, "vocab_size": 32768}, 3 + 32 * (GQA + MLP)),
    "ministral-8b-2410": ("MinistralForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "sliding_window": 32768, "vocab_size": 131072}, 3 + 36 * (GQA + MLP)),
    "ministral-3-8b": ("Ministral3ForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 34, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 131072}, 3 + 34 * (GQA + MLP)),
    "mixtral-8x7b": ("MixtralForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 32000},
        3 + 32 * (GQA + moe(8, shared=0, score_bias=0))),
    "qwen2.5-7b": ("Qwen2ForCausalLM", {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064}, 3 + 28 * (GQA + BIAS + MLP)),
    "qwen3-32b": ("Qwen3ForCausalLM", {
        "hidden_size": 5120, "intermediate_size": 25600, "num_hidden_layers": 64, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936}, 3 + 64 * (GQA + HEAD_NORMS + MLP)),
    "qwen3-vl-8b": ("Qwen3VLForConditionalGeneration", {
        "text_config": {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32,
                        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936},
        "vision_config": {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "out_hidden_size": 4096,
                          "num_position_embeddings": 2304, "patch_size": 16, "deepstack_visual_indexes": [8, 16, 24]},
        "tie_word_embeddings": False}, 3 + 36 * (GQA + HEAD_NORMS + MLP) + 27 * 12 + 3 + 4 * 6),
    "qwen3-vl-30b-a3b": ("Qwen3VLMoeForConditionalGeneration", {
        "text_config": {"hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_hidden_layers": 48,
                        "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128,
                        "num_experts_per_tok": 8, "vocab_size": 151936},
        "vision_config": {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "out_hidden_size": 2048,
                          "num_position_embeddings": 2304, "patch_size": 16, "deepstack_visual_indexes": [8, 16, 24]},
        "tie_word_embeddings": False}, 3 + 48 * (GQA + HEAD_NORMS + moe(128, shared=0, score_bias=0)) + 27 * 12 + 3 + 4 * 6),
    "gemma-3-1b": ("Gemma3ForCausalLM", {
        "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1,
        "head_dim": 256, "vocab_size": 262144}, 2 + 26 * (GQA + HEAD_NORMS + MLP + 2)),
    "vaultgemma-1b": ("VaultGemmaForCausalLM", {
        "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 4,
        "head_dim": 256, "vocab_size": 256000}, 2 + 26 * (GQA + MLP)),
    "glm-4.5-air": ("Glm4MoeForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 10944, "moe_intermediate_size": 1408, "num_hidden_layers": 46,
        "num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128, "attention_bias": True, "n_routed_experts": 128,
        "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 1, "vocab_size": 151552},
        3 + 46 * (GQA + BIAS) + MLP + 45 * moe(128)),
    "glm-4.6": ("Glm4MoeForCausalLM", {
        "hidden_size": 5120, "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_hidden_layers": 92,
        "num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128, "attention_bias": True, "use_qk_norm": True,
        "n_routed_experts": 160, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "vocab_size": 151552},
        3 + 92 * (GQA + BIAS + HEAD_NORMS) + 3 * MLP + 89 * moe(160)),
    "gpt-oss-120b": ("GptOssForCausalLM", {
        "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 36, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 128, "num_experts_per_tok": 4, "vocab_size": 201088},
        3 + 36 * (GQA + 2 * BIAS + 1 + 3 + 4 * 128)),
    "solar-open-100b": ("SolarOpenForCausalLM", {
        "hidden_size": 4096, "moe_intermediate_size": 1280, "num_hidden_layers": 48, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": 128, "n_routed_experts": 128, "n_shared_experts": 1, "num_experts_per_tok": 8,
        "vocab_size": 196608}, 3 + 48 * (GQA + moe(128))),
    "youtu-llm-2b": ("YoutuForCausalLM", {
        "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 32, "num_attention_heads": 16,
        "num_key_value_heads": 16, "q_lora_rank": 1536, **LATENT, "vocab_size": 128256, "tie_word_embeddings": True},
        2 + 32 * (MLA + MLP)),
    "jais-2-8b": ("Jais2ForCausalLM", {
        "hidden_size": 3328, "intermediate_size": 26624, "num_hidden_layers": 32, "num_attention_heads": 26,
        "num_key_value_heads": 26, "head_dim": 128, "vocab_size": 150272}, 4 + 32 * 2 * (GQA + MLP)),
    "afm-4.5b": ("ArceeForCausalLM", {
        "hidden_size": 2560, "intermediate_size": 18432, "num_hidden_layers": 36, "num_attention_heads": 20,
        "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 128256}, 3 + 36 * (GQA + MLP)),
    "cwm-32b": ("CwmForCausalLM", {
        "hidden_size": 6144, "intermediate_size": 21504, "num_hidden_layers": 64, "num_attention_heads": 48,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256}, 3 + 64 * (GQA + MLP)),
    "flex-olmo-7x7b": ("FlexOlmoForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "num_experts": 7, "num_experts_per_tok": 5, "vocab_size": 100352},
        3 + 32 * (GQA + HEAD_NORMS + moe(7, shared=0, score_bias=0))),
    "olmo-7b": ("OlmoForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 50304}, 2 + 32 * 4),
    "stablelm-2-1.6b": ("StableLmForCausalLM", {
        "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24, "num_attention_heads": 32,
        "num_key_value_heads": 32, "use_qkv_bias": True, "vocab_size": 100352}, 4 + 24 * (GQA + BIAS + MLP + 2)),
    "phi-3.5-moe": ("PhimoeForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 6400, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "num_local_experts": 16, "num_experts_per_tok": 2, "attention_bias": True, "lm_head_bias": True,
        "vocab_size": 32064}, 5 + 32 * (GQA + 2 * BIAS + 2 + moe(16, shared=0, score_bias=0))),
    "command-r7b": ("Cohere2ForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 256000}, 2 + 32 * (GQA + MLP - 1)),
    "granite-3.1-3b-a800m": ("GraniteMoeForCausalLM", {
        "hidden_size": 1536, "intermediate_size": 512, "num_hidden_layers": 32, "num_attention_heads": 24,
        "num_key_value_heads": 8, "num_local_experts": 40, "num_experts_per_tok": 8, "vocab_size": 49155,
        "tie_word_embeddings": True}, 2 + 32 * (GQA + moe(40, shared=0, score_bias=0))),
    "moe-7b-1b-active-shared-experts": ("GraniteMoeSharedForCausalLM", {
        "hidden_size": 1536, "intermediate_size": 512, "num_hidden_layers": 40, "num_attention_heads": 12,
        "num_key_value_heads": 4, "num_local_experts": 62, "num_experts_per_tok": 6, "shared_intermediate_size": 1024,
        "vocab_size": 50257, "attention_multiplier": 0.0078125, "embedding_multiplier": 12, "logits_scaling": 6,
        "residual_multiplier": 0.22, "tie_word_embeddings": True}, 2 + 40 * (GQA + moe(62, score_bias=0))),
    "hunyuan-7b": ("HunYuanDenseV1ForCausalLM", {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128167, "tie_word_embeddings": True},
        2 + 32 * (GQA + HEAD_NORMS + MLP)),
    "qwen3.5-4b-text": ("Qwen3_5ForCausalLM", {
        "full_attention_interval": 4, "head_dim": 256, "hidden_size": 2560, "intermediate_size": 9216,
        "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
        "linear_value_head_dim": 128, "num_attention_heads": 16, "num_hidden_layers": 32, "num_key_value_heads": 4,
        "vocab_size": 248320,
        "tie_word_embeddings": True}, 2 + 24 * GDN + 8 * (GQA + HEAD_NORMS) + 32 * MLP),
    "qwen3.5-35b-a3b-text": ("Qwen3_5MoeForCausalLM", {
        "full_attention_interval": 4, "head_dim": 256, "hidden_size": 2048, "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128,
        "moe_intermediate_size": 512, "num_attention_heads": 16, "num_experts": 256, "num_experts_per_tok": 8,
        "num_hidden_layers": 40, "num_key_value_heads": 2, "shared_expert_intermediate_size": 512, "vocab_size": 248320},
        3 + 30 * GDN + 10 * (GQA + HEAD_NORMS) + 40 * moe(256, score_bias=0, gate=1)),
    "exaone-4.5-33b": ("Exaone4_5_ForConditionalGeneration", {
        "text_config": {"hidden_size": 5120, "intermediate_size": 27392, "num_hidden_layers": 64, "num_attention_heads": 40,
                        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 153600, "sliding_window": 4096,
                        "sliding_window_pattern": 4},
        "vision_config": {"depth": 32, "hidden_size": 2048, "intermediate_size": 5120, "num_heads": 32, "num_key_value_heads": 8,
                          "out_hidden_size": 5120},
        "tie_word_embeddings": False}, 3 + 64 * (GQA + HEAD_NORMS + MLP) + 32 * 10 + 6),
    "qwen2.5-omni-7b": ("Qwen2_5OmniForConditionalGeneration", {
        "enable_audio_output": False, "thinker_config": {
            "text_config": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
                            "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False},
            "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584},
            "audio_config": {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
                             "num_mel_bins": 128, "output_dim": 3584}}},
        3 + 28 * (GQA + BIAS + MLP) + 32 * 15 + 9 + 32 * 16 + 6),
    "qwen3-omni-30b-a3b": ("Qwen3OmniMoeForConditionalGeneration", {
        "enable_audio_output": False, "thinker_config": {
            "text_config": {"hidden_size": 2048, "intermediate_size": 768, "moe_intermediate_size": 768, "num_hidden_layers": 48,
                            "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128,
                            "num_experts_per_tok": 8, "vocab_size": 152064, "tie_word_embeddings": False},
            "vision_config": {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "out_hidden_size": 2048,
                              "num_position_embeddings": 2304, "patch_size": 16, "deepstack_visual_indexes": [8, 16, 24]},
            "audio_config": {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
                             "num_mel_bins": 128, "output_dim": 2048}}},
        3 + 48 * (GQA + HEAD_NORMS + moe(128, shared=0, score_bias=0)) + 32 * 16 + 13 + 27 * 12 + 3 + 4 * 6),
}
