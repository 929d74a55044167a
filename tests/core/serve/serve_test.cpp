// Adapters of experts for serving: every element of every buffer lies where vLLM 0.33.0 put it on
// its own experts, and what it refuses or leaves out is served or named.

#include "core/serve/serve.hpp"

#include "core/lora/adapter_keys.hpp"
#include "tests/core/lora/golden.hpp"

namespace bv::lora {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kExperts = 4;
constexpr std::int64_t kHidden = 6;
constexpr std::int64_t kInner = 8;

Json moe_config(bool gpt_oss) {
  Json config =
      golden::json_of(golden::kGolden / "hf" / (gpt_oss ? "gpt_oss" : "qwen3_moe") / "config.json");
  config["hidden_size"] = kHidden;
  config["num_hidden_layers"] = 1;
  config["num_attention_heads"] = 2;
  config["num_key_value_heads"] = 1;
  config["head_dim"] = 4;
  config["vocab_size"] = 16;
  config[gpt_oss ? "intermediate_size" : "moe_intermediate_size"] = kInner;
  config["num_local_experts"] = kExperts;
  if (gpt_oss) {
    config["layer_types"] = {"full_attention"};
  }
  return config;
}

/// One layer of experts, headers alone.
checkpoint::HfModel moe_base(bool packed, bool gpt_oss) {
  Headers headers;
  const auto add = [&](const std::string& name, Shape shape) {
    headers[name] = {name, DType::BF16, std::move(shape)};
  };
  const std::string layer = "model.layers.0.";
  add("model.embed_tokens.weight", {16, kHidden});
  add("lm_head.weight", {16, kHidden});
  add("model.norm.weight", {kHidden});
  add(layer + "input_layernorm.weight", {kHidden});
  add(layer + "post_attention_layernorm.weight", {kHidden});
  for (const auto& [name, out] :
       std::map<std::string, std::int64_t>{{"q", 8}, {"k", 4}, {"v", 4}}) {
    add(layer + "self_attn." + name + "_proj.weight", {out, kHidden});
    if (gpt_oss) {
      add(layer + "self_attn." + name + "_proj.bias", {out});
    }
  }
  add(layer + "self_attn.o_proj.weight", {kHidden, 8});
  const std::string experts = layer + "mlp.experts.";
  if (gpt_oss) {
    add(layer + "self_attn.o_proj.bias", {kHidden});
    add(layer + "self_attn.sinks", {2});
    add(layer + "mlp.router.weight", {kExperts, kHidden});
    add(layer + "mlp.router.bias", {kExperts});
    add(experts + "gate_up_proj", {kExperts, kHidden, 2 * kInner});
    add(experts + "gate_up_proj_bias", {kExperts, 2 * kInner});
    add(experts + "down_proj", {kExperts, kInner, kHidden});
    add(experts + "down_proj_bias", {kExperts, kHidden});
  } else {
    add(layer + "self_attn.q_norm.weight", {4});
    add(layer + "self_attn.k_norm.weight", {4});
    add(layer + "mlp.gate.weight", {kExperts, kHidden});
  }
  if (packed && !gpt_oss) {
    add(experts + "gate_up_proj", {kExperts, 2 * kInner, kHidden});
    add(experts + "down_proj", {kExperts, kHidden, kInner});
  }
  for (std::int64_t e = 0; e < kExperts && !packed && !gpt_oss; ++e) {
    const std::string expert = experts + std::to_string(e) + ".";
    add(expert + "gate_proj.weight", {kInner, kHidden});
    add(expert + "up_proj.weight", {kInner, kHidden});
    add(expert + "down_proj.weight", {kHidden, kInner});
  }
  auto out = checkpoint::open_headers(moe_config(gpt_oss).dump(), "config.json", headers,
                                      family::builtin_families().value(), {});
  EXPECT_TRUE(out) << (out ? "" : out.error().message);
  EXPECT_TRUE(out->model.faults.empty());
  return std::move(*out);
}

/// An adapter of this case; bytes are zero, places are what is compared.
class MoeAdapter {
 public:
  explicit MoeAdapter(const Json& in) : rank_(in.at("rank")) {
    config_.r = rank_;
    config_.lora_alpha = 1;
    config_.peft_version = "0.21.2";
    const bool shares = in.at("format") == "shared_outer";
    const bool each = in.at("format") == "2d" || shares;
    base = moe_base(!each, in.value("arch", "") == "GptOssForCausalLM");
    if (each) {
      single_experts(in);
      if (shares) {
        share_outer_factors();
      }
    } else {
      packed(in);
    }
    zeros_.resize(4096);
    for (AdapterTensor& tensor : tensors_) {
      tensor.bytes = std::span(zeros_).first(
          static_cast<std::size_t>(element_count(tensor.stored.spec.shape).value() * 4));
    }
    auto fitted = fit_adapter(config_, tensors_, base, golden::kinds_of_build(), "adapter");
    EXPECT_TRUE(fitted) << (fitted ? "" : fitted.error().message);
    adapter = std::move(*fitted);
    EXPECT_TRUE(adapter.faults.empty()) << adapter.faults.front().message;
  }

  checkpoint::HfModel base;
  Adapter adapter;
  std::map<std::string, std::int64_t> members;  // key of lora_A or lora_B -> number of the case

 private:
  static std::string key_of(const std::string& module, const std::string& factor) {
    return std::string(kPeftPrefix) + "model.layers.0.mlp.experts" + module + ".lora_" + factor +
           ".weight";
  }
  void add(const std::string& module, std::int64_t member, Shape a, Shape b) {
    for (const auto& [factor, shape] : {std::pair{"A", a}, std::pair{"B", b}}) {
      const std::string key = key_of(module, factor);
      AdapterTensor tensor;
      tensor.stored.spec = {key, DType::F32, shape};
      tensors_.push_back(std::move(tensor));
      members[key] = member;
    }
  }
  void single_experts(const Json& in) {
    const std::vector<std::string> names = {"gate_proj", "down_proj", "up_proj"};
    for (std::int64_t e = 0; e < kExperts; ++e) {
      for (std::int64_t j = 0; j < 3; ++j) {
        const std::string name = names[static_cast<std::size_t>(j)];
        const auto missing = in.value("missing", Json::array());
        if (std::find(missing.begin(), missing.end(), Json({e, name})) != missing.end()) {
          continue;
        }
        const std::string id = std::to_string(e) + "." + name;
        const std::int64_t rank = in.value("rank_of", Json::object()).value(id, rank_);
        if (rank != rank_) {
          config_.rank_pattern.emplace_back("experts." + id, rank);
        }
        const bool down = j == 1;
        add("." + id, e * 3 + j, {rank, down ? kInner : kHidden}, {down ? kHidden : kInner, rank});
      }
    }
  }
  /// PEFT has no factor that experts share: each has a copy, of the tensors of expert 0.
  void share_outer_factors() {
    for (std::int64_t e = 1; e < kExperts; ++e) {
      for (const auto& [name, factor] :
           {std::pair{"gate_proj", "A"}, std::pair{"up_proj", "A"}, std::pair{"down_proj", "B"}}) {
        members.at(key_of("." + std::to_string(e) + "." + name, factor)) =
            members.at(key_of(std::string(".0.") + name, factor));
      }
    }
  }
  void packed(const Json& in) {
    if (!in.value("no_gate_up", false)) {
      config_.target_parameters.emplace_back("mlp.experts.gate_up_proj");
      add(in.value("no_down", false) ? "" : ".base_layer", 0, {kExperts * rank_, kHidden},
          {2 * kInner, rank_ * kExperts});
    }
    if (!in.value("no_down", false)) {
      config_.target_parameters.emplace_back("mlp.experts.down_proj");
      add("", 1, {kExperts * rank_, kInner}, {kHidden, rank_ * kExperts});
    }
  }

  std::int64_t rank_ = 0;
  AdapterConfig config_;
  std::vector<AdapterTensor> tensors_;
  std::vector<std::byte> zeros_;
};

/// member, row and column of the stored factor; -1 for zero.
using Element = std::array<std::int64_t, 3>;
using Buffer = std::vector<std::vector<Element>>;
constexpr Element kZero = {-1, -1, -1};

/// [r, c] of a part of a factor, in the tensor that holds it.
Buffer ours(const Factor& factor, std::int64_t member, Interval rows, Interval columns,
            std::int64_t height, std::int64_t width) {
  Buffer out(static_cast<std::size_t>(height),
             std::vector<Element>(static_cast<std::size_t>(width), kZero));
  const std::int64_t step = factor.tensor->spec.shape[1];
  for (std::int64_t i = 0; i < rows.size(); ++i) {
    for (std::int64_t j = 0; j < columns.size(); ++j) {
      const std::int64_t at = factor.offset + (rows.begin + i) * factor.row_stride +
                              (columns.begin + j) * factor.column_stride;
      out[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)] = {member, at / step,
                                                                       at % step};
    }
  }
  return out;
}

void append(Buffer& all, const Buffer& more) {
  all.insert(all.end(), more.begin(), more.end());
}

struct ExpertBuffers {
  std::vector<Buffer> a;  // of each slice
  Buffer b;               // of all slices, one below the other
};

/// What a rank holds for one expert; `down` or gate and up.
ExpertBuffers ours_of(const MoeAdapter& one, const std::vector<ServedModule>& served,
                      std::int64_t rank, std::int64_t expert, bool down) {
  ExpertBuffers out;
  for (const ServedModule& module : served) {
    const bool is_down = module.names.front().find("down_proj") != std::string::npos;
    const auto first = std::find_if(module.members.begin(), module.members.end(),
                                    [](const AdapterPair* pair) { return pair != nullptr; });
    const std::int64_t e =
        (*first)->expert >= 0 ? (*first)->expert : expert_of(module.names.front()).value_or(-1);
    if (is_down != down || e != expert) {
      continue;
    }
    for (const SliceShard& shard : module.ranks[static_cast<std::size_t>(rank)]) {
      if (!shard.member) {
        append(out.b,
               Buffer(static_cast<std::size_t>(shard.b_rows),
                      std::vector<Element>(static_cast<std::size_t>(shard.b_columns), kZero)));
        out.a.emplace_back(static_cast<std::size_t>(shard.a_rows),
                           std::vector<Element>(static_cast<std::size_t>(shard.a_columns), kZero));
        continue;
      }
      const AdapterPair& pair = *module.members[*shard.member];
      const std::int64_t member = one.members.at(pair.a.key());
      out.a.push_back(ours(pair.a, member, shard.a_from_rows, shard.a_from_columns, shard.a_rows,
                           shard.a_columns));
      append(out.b, ours(pair.b, one.members.at(pair.b.key()), shard.b_from_rows,
                         shard.b_from_columns, shard.b_rows, shard.b_columns));
    }
  }
  return out;
}

/// One buffer of the goldens: runs of rows, and the columns of the stored factor.
Buffer theirs(const Json& slice, std::size_t expert) {
  const Json& experts = slice.at("experts");
  const Json& one = experts[std::min(expert, experts.size() - 1)];  // one that all share, or each
  Buffer out(slice.at("shape")[1].get<std::size_t>(),
             std::vector<Element>(slice.at("shape")[2].get<std::size_t>(), kZero));
  for (const Json& run : one.at("rows")) {
    const std::int64_t member = run[2];
    for (std::int64_t row = run[0]; member >= 0 && row < run[1]; ++row) {
      std::size_t column = 0;
      for (const Json& from : one.at("cols")) {
        out[static_cast<std::size_t>(row)][column++] = {
            member, run[3].get<std::int64_t>() + row - run[0].get<std::int64_t>(), from};
      }
    }
  }
  return out;
}

ExpertBuffers theirs_of(const Json& rank, std::size_t expert, bool down) {
  ExpertBuffers out;
  for (const Json& slice : rank.at(down ? "w2_a" : "w13_a")) {
    out.a.push_back(theirs(slice, expert));
  }
  for (const Json& slice : rank.at(down ? "w2_b" : "w13_b")) {
    append(out.b, theirs(slice, expert));
  }
  return out;
}

/// The code that it is refused with; nullopt when everything lies where vLLM put it.
std::optional<Code> compare(const Json& in, const Json& out) {
  const MoeAdapter one(in);
  const std::int64_t tp = in.at("tp_size");
  const auto served = serve_adapter(one.base, golden::kinds_of_build(), one.adapter,
                                    {tp, in.at("fully_sharded"), in.at("max_lora_rank")});
  if (!served) {
    return served.error().code;
  }
  // The wrapper of single experts holds the alternating rows of a fused pair as gate, then up.
  const bool is_reordered =
      in.at("format") == "3d_on_2d" && in.value("arch", "") == "GptOssForCausalLM";
  const Json& ranks = out.at("ranks");
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    if (!ranks[r].contains("w13_a") || ranks[r].value("module_skipped", false)) {
      continue;
    }
    const auto local = ranks[r].at("w13_b")[0].at("experts").size();
    const bool by_expert = local < static_cast<std::size_t>(kExperts);
    for (std::size_t e = 0; e < local; ++e) {
      for (const bool down : {false, true}) {
        const auto global = static_cast<std::int64_t>(by_expert ? r * local + e : e);
        auto found =
            ours_of(one, *served, by_expert ? 0 : static_cast<std::int64_t>(r), global, down);
        auto wanted = theirs_of(ranks[r], e, down);
        if (is_reordered) {
          std::sort(found.b.begin(), found.b.end());
          std::sort(wanted.b.begin(), wanted.b.end());
        }
        EXPECT_EQ(found.b, wanted.b) << "rank " << r << " expert " << global;
        // A fused pair has one A for both of its slices.
        EXPECT_EQ(std::set(found.a.begin(), found.a.end()),
                  std::set(wanted.a.begin(), wanted.a.end()))
            << "A on rank " << r << " of expert " << global;
      }
    }
  }
  return std::nullopt;
}

TEST(ServeAdapter, ExpertsLieWhereVllmPutsThem) {
  const Json file = golden::json_of(golden::kGolden / "vllm/cases-moe.json");
  // What a runtime does that this command has no form of: another size of the runtime's own, one
  // projection in place of two, a format that is not PEFT's.
  const std::set<std::string> no_form = {"moe2d-nongated-tp2", "moe2d-pad-tp2", "moe3d-pad-tp2",
                                         "moe3d-flat-into-2d"};
  std::int64_t compared = 0;
  for (const Json& one : file.at("cases")) {
    const std::string id = one.at("id");
    SCOPED_TRACE(id);
    if (no_form.contains(id)) {
      continue;
    }
    // Experts of one projection have one rank, or the runtime has no buffer for them.
    const auto wanted =
        id == "moe2d-rank-differs" ? std::optional(Code::ExpertPairCount) : std::nullopt;
    EXPECT_EQ(compare(one.at("in"), one.at("out")), wanted);
    compared += one.at("out").at("ranks")[0].contains("w13_a") ? 1 : 0;
  }
  EXPECT_EQ(compared, 20);
}

/// The fused layers of the runtime's own model classes, and what it packs into each.
TEST(ServeAdapter, FusedLayersHaveTheMembersThatVllmPacks) {
  const Json facts = golden::json_of(golden::kGolden / "vllm/facts-models.json");
  std::set<std::string> compared;
  for (const auto& [name, model] : {std::pair{"llama_all", "LlamaForCausalLM"},
                                    std::pair{"qwen35_dense", "Qwen3_5ForCausalLM"}}) {
    const auto base = golden::open_base(golden::kGolden / "peft" / name / "base");
    const auto adapter =
        open_adapter(golden::kGolden / "peft" / name / "adapter", base, golden::kinds_of_build());
    ASSERT_TRUE(adapter) << adapter.error().message;
    const auto served = serve_adapter(base, golden::kinds_of_build(), *adapter,
                                      {1, false, rank_needed(*adapter, 1, false)});
    ASSERT_TRUE(served) << served.error().message;
    const Json& packs = facts.at("models").at(model).at("packed_modules_mapping");
    for (const ServedModule& module : *served) {
      const std::string layer(last_component(module.layer.name));
      if (!packs.contains(layer)) {
        EXPECT_EQ(module.names.size(), 1u) << module.layer.name;
        continue;
      }
      Json members = Json::array();
      for (const std::string& member : module.names) {
        members.push_back(last_component(module_of(member)));
      }
      EXPECT_EQ(members, packs.at(layer)) << module.layer.name;
      compared.insert(layer);
      if (layer == "in_proj_qkvz") {  // keys twice, values, gates: as the runtime's own sizes
        const auto& slices = module.layer.slices;
        const Json& sizes = facts.at("gdn")[0].at(layer).at("output_sizes");
        ASSERT_EQ(slices.size(), sizes.size());
        EXPECT_EQ(slices[0] == slices[1], sizes[0] == sizes[1]);
        EXPECT_EQ(slices[2] == slices[3], sizes[2] == sizes[3]);
      }
    }
  }
  EXPECT_EQ(compared,
            (std::set<std::string>{"gate_up_proj", "in_proj_ba", "in_proj_qkvz", "qkv_proj"}));
}

/// D-25: gate and up alone are skipped there, down alone is refused; here the other is zero.
TEST(ServeAdapter, ExpertsWithOneProjectionAloneAreServed) {
  for (const char* lacking : {"no_down", "no_gate_up"}) {
    const MoeAdapter one(Json{{"format", "3d"}, {"rank", 2}, {lacking, true}});
    const auto served =
        serve_adapter(one.base, golden::kinds_of_build(), one.adapter, {2, false, 8});
    ASSERT_TRUE(served) << served.error().message;
    EXPECT_EQ(std::ssize(*served), kExperts) << lacking;
  }
}

/// A rank that tp does not divide is legal: what is left of the buffer is zero.
TEST(ServeAdapter, ExpertsOfAnyRankAreFullySharded) {
  const MoeAdapter one(Json{{"format", "2d"}, {"rank", 3}});
  const auto served = serve_adapter(one.base, golden::kinds_of_build(), one.adapter, {2, true, 8});
  ASSERT_TRUE(served) << served.error().message;
  for (const ServedModule& module : *served) {
    for (const SliceShard& shard : module.ranks[1]) {
      EXPECT_LE(shard.a_from_rows.size(), 3) << module.layer.name;
    }
  }
}

}  // namespace
}  // namespace bv::lora
