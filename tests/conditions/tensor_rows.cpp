#include "tests/conditions/condition.hpp"

namespace bv::conditions {
namespace {

const Words kNames = {"check", "--only", "names,shapes"};

/// The first element of a bfloat16 norm.
Edit first_of_norm(std::uint16_t bits) {
  return [bits](EditedCheckpoint& model) {
    support::EditedTensor& norm = model.tensors.at("model.layers.0.linear_attn.norm.weight");
    ASSERT_EQ(norm.dtype, DType::F32);
    norm.dtype = DType::BF16;
    norm.bytes.assign(static_cast<std::size_t>(norm.shape[0]) * 2, std::byte{0});
    for (std::size_t i = 0; i < norm.bytes.size(); i += 2) {
      const std::uint16_t value = i == 0 ? bits : 0x3f80;  // 1.0
      norm.bytes[i] = static_cast<std::byte>(value & 0xff);
      norm.bytes[i + 1] = static_cast<std::byte>(value >> 8);
    }
  };
}

/// gate_up stacks whose rows and columns are equal in number.
void square_stacks(EditedCheckpoint& model) {
  model.text_config()["moe_intermediate_size"] = 12;
  for (auto& [name, tensor] : model.tensors) {
    const bool gate_up = name.ends_with("mlp.experts.gate_up_proj");
    if (gate_up || name.ends_with("mlp.experts.down_proj")) {
      tensor.shape = gate_up ? Shape{8, 24, 24} : Shape{8, 12, 24};
      tensor.bytes.resize(static_cast<std::size_t>(8 * (gate_up ? 24 : 12) * 24) *
                          static_cast<std::size_t>(bytes(tensor.dtype)));
    }
  }
}

/// One stack of experts as tensors of their own, beside it or in its place.
Edit unpacked(bool both) {
  return [both](EditedCheckpoint& model) {
    const std::string stack = "model.layers.1.mlp.experts.down_proj";
    const support::EditedTensor packed = model.tensors.at(stack);
    const std::size_t one = packed.bytes.size() / static_cast<std::size_t>(packed.shape[0]);
    for (std::int64_t e = 0; both && e < packed.shape[0]; ++e) {
      const auto begin = packed.bytes.begin() + static_cast<std::ptrdiff_t>(one) * e;
      model.tensors["model.layers.1.mlp.experts." + std::to_string(e) + ".down_proj.weight"] = {
          packed.dtype,
          {packed.shape[1], packed.shape[2]},
          {begin, begin + static_cast<std::ptrdiff_t>(one)}};
    }
  };
}

Edit head(bool equal) {
  return [equal](EditedCheckpoint& model) {
    support::EditedTensor copy = model.tensors.at("model.embed_tokens.weight");
    copy.bytes[5] ^= equal ? std::byte{0} : std::byte{1};
    model.tensors["lm_head.weight"] = copy;
  };
}

Edit added(const std::string& name) {
  return [name](EditedCheckpoint& model) {
    model.tensors[name] = model.tensors.at("model.norm.weight");
  };
}

Edit removed(const std::string& name) {
  return [name](EditedCheckpoint& model) {
    ASSERT_EQ(model.tensors.erase(name), name.empty() ? 0U : 1U);
  };
}

std::vector<Row> value_rows() {
  const Words values = {"check", "--only", "names,values"};
  const std::string exact = "qwen3_5_dense";
  return {
      {"E050",
       "BV2001",
       {"model.layers.0.mlp.gate_proj.weight", "[36, 24]", "[37, 24]", "intermediate_size=37"},
       command("llama", {"check", "--only", "shapes", "--set", "intermediate_size=37"}),
       command("llama", {"check", "--only", "shapes", "--set", "intermediate_size=36"})},
      {"E051",
       "BV3005",
       {"model.layers.0.linear_attn.norm.weight does not come back bit for bit: 1 of 6", "0x3eff"},
       edited(exact, first_of_norm(0x3eff), values),  // the last number below 0.5
       edited(exact, first_of_norm(0x3f00), values)},
      {"E051",
       "BV3005",
       {"A_log does not come back bit for bit", "stored as BF16 on the Megatron side"},
       command(exact, {"check", "--only", "names,values", "--dtype", "bfloat16"}),
       command(exact, {"check", "--only", "names,values", "--dtype", "float32"})},
      {"E052",
       "BV2008",
       {"[8, 24, 24] fits both orientations", "a declared orientation: out_in or in_out"},
       edited("qwen3_vl_moe_transposed", square_stacks, kNames),
       edited("qwen3_vl_moe_transposed", square_stacks,
              {"check", "--only", "names,shapes", "--expert-orientation", "in_out"})},
      {"E053",
       "BV1007",
       {"model.layers.1.mlp.experts", "per_expert"},
       edited("qwen3_5_moe_packed", unpacked(true), kNames),
       edited("qwen3_5_moe_packed", unpacked(false), kNames)},
  };
}

std::vector<Row> name_rows() {
  return {
      {"E061",
       "BV1002",
       {"HF tensor model.layers.1.self_attn.v_proj.weight is missing", "linear_qkv.weight",
        "absent from the"},
       edited("llama", removed("model.layers.1.self_attn.v_proj.weight"), kNames),
       edited("llama", removed(""), kNames)},
      {"E062",
       "BV1001",
       {"model.layers.0.self_attn.extra.weight is used by no rule",
        "every tensor of the checkpoint in exactly one rule"},
       edited("llama", added("model.layers.0.self_attn.extra.weight"), kNames),
       edited("llama", added("model.layers.0.self_attn.rotary_emb.inv_freq"), kNames)},
      {"E069",
       "BV1008",
       {"lm_head.weight is stored beside model.embed_tokens.weight and differs from it",
        "equal bytes"},
       edited("qwen3_5_dense_bf16_tied", head(false), {"check", "--only", "names,values"}),
       edited("qwen3_5_dense_bf16_tied", head(true), {"check", "--only", "names,values"})},
  };
}

std::vector<Row> shard_rows() {
  const ThereAndBack experts{
      "qwen3_moe_packed", {"--ep", "2", "--make-vocab-size-divisible-by", "1"}, {}};
  ThereAndBack without = experts;
  without.shard = "pp0_tp0_ep1_etp0";
  without.edit = [](auto& tensors) {
    ASSERT_EQ(tensors.erase("decoder.layers.1.mlp.experts.linear_fc2.weight3"), 1U);
  };
  const ThereAndBack replicas{"llama", {"--tp", "2", "--make-vocab-size-divisible-by", "1"}, {}};
  ThereAndBack diverged = replicas;
  diverged.shard = "pp0_tp1_ep0_etp0";
  diverged.edit = [](auto& tensors) {
    tensors.at("decoder.final_layernorm.weight").bytes[6] ^= std::byte{1};
  };
  ThereAndBack padded = replicas;
  padded.layout = {"--tp", "1", "--make-vocab-size-divisible-by", "4"};
  ThereAndBack noisy = padded;
  noisy.shard = "pp0_tp0_ep0_etp0";
  noisy.edit = [](auto& tensors) {  // row 131 of 132, element 2 becomes 3.0
    auto& rows = tensors.at("output_layer.weight");
    ASSERT_EQ(rows.dtype, DType::F32);
    rows.bytes[(131 * 24 + 2) * 4 + 2] = std::byte{0x40};
    rows.bytes[(131 * 24 + 2) * 4 + 3] = std::byte{0x40};
  };
  return {
      {"E067",
       "BV1004",
       {"pp0_tp0_ep1_etp0.safetensors has no decoder.layers.1.mlp.experts.linear_fc2.weight3: "
        "model.layers.1.mlp.experts.down_proj cannot be put together"},
       back(without),
       back(experts)},
      {"E068",
       "BV2010",
       {"two ranks hold different copies of decoder.final_layernorm.weight",
        "differs from pp0_tp0_ep0_etp0.safetensors at element 1", "equal bytes on every owner"},
       back(diverged),
       back(replicas)},
      {"W073",
       "BV2012",
       {"1 padding row of output_layer.weight, not zero, is dropped", "rows of norm 3",
        "rows of zeros"},
       back(noisy),
       back(padded)},
  };
}

}  // namespace

std::vector<Row> tensor_rows() {
  std::vector<Row> out = value_rows();
  for (const auto& more : {name_rows(), shard_rows()}) {
    out.insert(out.end(), more.begin(), more.end());
  }
  return out;
}

}  // namespace bv::conditions
