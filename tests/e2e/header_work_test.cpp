// What a check from headers alone takes, counted in pieces of memory and in pages, which are the
// same in every run; time is not (docs/performance.md).

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "tests/support/files.hpp"
#include "tests/support/process.hpp"

namespace bv::e2e {
namespace {

using nlohmann::ordered_json;
using support::Ended;
using support::file_text;
using support::run;

/// The headers of a Qwen3 MoE model of two layers whose projections are stored in some form.
class Dump {
 public:
  Dump(std::string form, int experts) : form_(std::move(form)) {
    set_config(experts);
    add("model.embed_tokens.weight", "BF16", {256, 128});
    add("model.norm.weight", "BF16", {128});
    add("lm_head.weight", "BF16", {256, 128});
    for (int layer = 0; layer < 2; ++layer) {
      const std::string start = fmt::format("model.layers.{}.", layer);
      for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) {
        add(start + norm + ".weight", "BF16", {128});
      }
      for (const char* one : {"q", "k", "v", "o"}) {
        add_matrix(fmt::format("{}self_attn.{}_proj", start, one));
      }
      add(start + "self_attn.q_norm.weight", "BF16", {64});
      add(start + "self_attn.k_norm.weight", "BF16", {64});
      add(start + "mlp.gate.weight", "BF16", {experts, 128});
      for (int expert = 0; expert < experts; ++expert) {
        for (const char* one : {"gate", "up", "down"}) {
          add_matrix(fmt::format("{}mlp.experts.{}.{}_proj", start, expert, one));
        }
      }
    }
  }

  [[nodiscard]] std::size_t tensors() const { return tensors_.size(); }
  [[nodiscard]] std::string text() const {
    return ordered_json{{"schema", "bridge-headers/1"}, {"config", config_}, {"tensors", tensors_}}
        .dump();
  }

 private:
  void set_config(int experts) {
    config_ = {{"architectures", {"Qwen3MoeForCausalLM"}},
               {"model_type", "qwen3_moe"},
               {"torch_dtype", "bfloat16"},
               {"hidden_size", 128},
               {"intermediate_size", 128},
               {"moe_intermediate_size", 128},
               {"num_hidden_layers", 2},
               {"num_attention_heads", 2},
               {"num_key_value_heads", 2},
               {"head_dim", 64},
               {"num_experts", experts},
               {"num_experts_per_tok", 2},
               {"decoder_sparse_step", 1},
               {"mlp_only_layers", ordered_json::array()},
               {"norm_topk_prob", true},
               {"attention_bias", false},
               {"hidden_act", "silu"},
               {"rms_norm_eps", 1e-6},
               {"rope_theta", 10000},
               {"tie_word_embeddings", false},
               {"vocab_size", 256}};
    if (form_ == "fp8") {
      config_["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
    } else if (form_ == "int4") {
      const ordered_json weights = {{"num_bits", 4},
                                    {"type", "int"},
                                    {"symmetric", true},
                                    {"strategy", "group"},
                                    {"group_size", 32}};
      const ordered_json group = {{"targets", {"Linear"}}, {"weights", weights}};
      config_["quantization_config"] = {{"quant_method", "compressed-tensors"},
                                        {"format", "pack-quantized"},
                                        {"config_groups", {{"group_0", group}}}};
    }
  }

  void add(const std::string& name, const std::string& dtype, const std::vector<int>& shape) {
    int bytes = dtype == "BF16" ? 2 : dtype == "F8_E4M3" ? 1 : 4;
    for (const int extent : shape) {
      bytes *= extent;
    }
    tensors_[name] = {dtype, shape, "model.safetensors", end_, end_ + bytes};
    end_ += bytes;
  }

  /// [128, 128]
  void add_matrix(const std::string& module) {
    if (form_ == "fp8") {
      add(module + ".weight", "F8_E4M3", {128, 128});
      add(module + ".weight_scale_inv", "F32", {1, 1});
    } else if (form_ == "int4") {
      add(module + ".weight_packed", "I32", {128, 16});
      add(module + ".weight_scale", "BF16", {128, 4});
      add(module + ".weight_shape", "I32", {2});
    } else {
      add(module + ".weight", "BF16", {128, 128});
    }
  }

  std::string form_;
  ordered_json config_;
  ordered_json tensors_;
  std::int64_t end_ = 0;
};

class HeaderWork : public ::testing::Test {
 protected:
  void SetUp() override {
#ifdef BV_SANITIZED
    GTEST_SKIP() << "a sanitizer has an allocator of its own";
#endif
  }

  /// Pieces of memory that a check of these headers takes.
  [[nodiscard]] std::int64_t pieces(const Dump& dump) const {
    const std::string file = folder / "m.headers.json";
    support::write_text(file, dump.text());
    const Ended ended = run({"check", "--headers", file, "--dtype", "bfloat16"},
                            {{"LD_PRELOAD", BV_REFUSALS}, {"ALLOCATIONS", folder / "count"}});
    EXPECT_EQ(ended.code, 0) << ended.all();
    return std::stoll(file_text(folder / "count"));
  }

  /// What one more stored tensor takes, in hundredths.
  [[nodiscard]] std::int64_t pieces_a_tensor(const std::string& form) const {
    const Dump few(form, 64);
    const Dump many(form, 256);
    const auto more = static_cast<std::int64_t>(many.tensors() - few.tensors());
    return (pieces(many) - pieces(few)) * 100 / more;
  }

  support::TempFolder folder;
};

/// A published model has up to three hundred thousand stored tensors: each is read into one header,
/// and little is copied on the way to its weight (11 to 12 pieces; 30 to 39 before that was so).
TEST_F(HeaderWork, AFewPiecesOfMemoryAStoredTensor) {
  EXPECT_LT(pieces_a_tensor("bf16"), 1500);
  EXPECT_LT(pieces_a_tensor("fp8"), 1500);
  EXPECT_LT(pieces_a_tensor("int4"), 1500);
}

/// Memory that was given back is used again: the kernel clears no page many times.
TEST_F(HeaderWork, NoMorePagesThanTheProcessHolds) {
  for (const char* name : {"llama-4-scout", "gpt-oss-120b"}) {
    const std::string file = support::fixture(fmt::format("headers/{}.headers.json.gz", name));
    rusage before{};
    rusage after{};
    ASSERT_EQ(::getrusage(RUSAGE_CHILDREN, &before), 0);
    const Ended ended = run({"check", "--headers", file});
    ASSERT_EQ(::getrusage(RUSAGE_CHILDREN, &after), 0);
    EXPECT_EQ(ended.code, 0) << ended.all();
    const auto held = static_cast<std::int64_t>(ended.peak_bytes) / ::sysconf(_SC_PAGESIZE);
    EXPECT_LT(after.ru_minflt - before.ru_minflt, 3 * held) << name;
  }
}

}  // namespace
}  // namespace bv::e2e
