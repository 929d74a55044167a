"""More sizes after published models: those with towers, and those whose text model stands in one (see published.py)."""

from published import BIAS, GDN, GQA, HEAD_NORMS, MLP, PUBLISHED as TEXT, moe

# Tensors of one block of a tower, as they are: two norms and six matrices, with biases (keys without one in Whisper's).
# ERNIE has a router and a bias for each of its two pools; a layer of Gemma 4 has a norm behind attention, a dense MLP, three
# tensors of a router, five norms around the two MLPs and a scalar.
BLOCK, WHISPER = 16, 15
QWEN_4B = {
    "full_attention_interval": 4, "head_dim": 256, "hidden_size": 2560, "intermediate_size": 9216, "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128,
    "num_attention_heads": 16, "num_hidden_layers": 32, "num_key_value_heads": 4, "vocab_size": 248320, "tie_word_embeddings": True}
# Where values are keys, the five full layers have no values of their own; Megatron has rows for them.
GEMMA_VALUES = 5 * 2 * 512 * 2816
SCOUT_TEXT = {**TEXT["llama-4-scout"][1]}

PUBLISHED = {
    **TEXT,
    "ernie-4.5-vl-28b-a3b": ("Ernie4_5_VLMoeForConditionalGeneration", {
        "text_config": {"hidden_size": 2560, "intermediate_size": 12288, "moe_intermediate_size": [1536, 512], "num_hidden_layers": 28,
                        "num_attention_heads": 20, "num_key_value_heads": 4, "moe_num_experts": 64, "moe_k": 6,
                        "moe_num_shared_experts": 2, "vocab_size": 103424, "tie_word_embeddings": True},
        "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 5120, "num_heads": 16, "patch_size": 14,
                          "spatial_merge_size": 2, "temporal_merge_size": 2},
        "tie_word_embeddings": True},
        2 + 28 * GQA + MLP + 27 * (moe(64, score_bias=2) + 1 + 2 * 64) + 32 * 12 + 3 + 15),
    "gemma-4-26b-a4b": ("Gemma4ForConditionalGeneration", {
        "audio_config": None,
        "text_config": {"attention_k_eq_v": True, "enable_moe_block": True, "final_logit_softcapping": 30.0, "global_head_dim": 512,
                        "head_dim": 256, "hidden_size": 2816, "hidden_size_per_layer_input": 0, "intermediate_size": 2112,
                        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 5, "moe_intermediate_size": 704,
                        "num_attention_heads": 16, "num_experts": 128, "num_global_key_value_heads": 2, "num_hidden_layers": 30,
                        "num_key_value_heads": 8, "sliding_window": 1024, "top_k_experts": 8, "vocab_size": 262144},
        "vision_config": {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 27,
                          "num_key_value_heads": 16, "head_dim": 72, "global_head_dim": 72, "patch_size": 16, "pooling_kernel_size": 3,
                          "position_embedding_size": 10240, "standardize": True, "use_clipped_linears": False},
        "tie_word_embeddings": True},
        2 + 30 * (GQA + HEAD_NORMS + 1 + 2 + 3 + 5 + 1 + 2 * 128) + 27 * 13 + 5, GEMMA_VALUES),
    "minimax-m3": ("MiniMaxM3SparseForConditionalGeneration", {
        "text_config": {"hidden_size": 6144, "intermediate_size": 3072, "dense_intermediate_size": 12288,
                        "shared_intermediate_size": 3072, "num_hidden_layers": 60, "num_attention_heads": 64, "num_key_value_heads": 4,
                        "head_dim": 128, "num_local_experts": 128, "num_experts_per_tok": 4, "index_n_heads": 4, "index_head_dim": 128,
                        "mlp_layer_types": ["dense"] * 3 + ["sparse"] * 57,
                        "layer_types": ["full_attention"] * 3 + ["minimax_m3_sparse"] * 57, "vocab_size": 200064},
        "vision_config": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
                          "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2},
        "projector_hidden_size": 6144, "tie_word_embeddings": False},
        3 + 60 * (GQA + HEAD_NORMS) + 3 * MLP + 57 * (moe(128) + 4) + 32 * BLOCK + 3 + 2 * 4),
    "qwen2-audio-7b": ("Qwen2AudioForConditionalGeneration", {
        "text_config": {"model_type": "qwen2", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
                        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 156032},
        "audio_config": {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
                         "num_mel_bins": 128, "max_source_positions": 1500}}, 3 + 32 * (GQA + BIAS + MLP) + 32 * WHISPER + 7 + 2),
    "qwen3.5-4b-token-classification": ("Qwen3_5ForTokenClassification", {
        "text_config": QWEN_4B, "vision_config": {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16,
                                                  "out_hidden_size": 2560, "num_position_embeddings": 2304, "patch_size": 16},
        "tie_word_embeddings": True},
        2 + 24 * GDN + 8 * (GQA + HEAD_NORMS) + 32 * MLP + 2 + 24 * 12 + 3 + 6),
    "llama-4-scout-vl": ("Llama4ForConditionalGeneration", {
        "text_config": SCOUT_TEXT,
        "vision_config": {"hidden_size": 1408, "intermediate_size": 5632, "num_hidden_layers": 34, "num_attention_heads": 16,
                          "image_size": 336, "patch_size": 14, "vision_output_dim": 4096, "projector_input_dim": 4096,
                          "projector_output_dim": 4096, "pixel_shuffle_ratio": 0.5}},
        3 + 48 * (GQA + moe(16, score_bias=0)) + 34 * BLOCK + 7 + 2 + 1),
}
