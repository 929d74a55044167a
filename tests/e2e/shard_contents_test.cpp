// Shards that do not hold what they should: convert says which tensors, of which part, at which
// place.

#include <functional>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

class ShardContents : public testing::Test {
 protected:
  [[nodiscard]] std::string at(const std::string& name) const { return folder_ / name; }

  void make(const std::string& fixture, const Words& more = {}) const {
    const Ended made = run(Words{"fixture", "make", fixture, "--out", at("m")});
    ASSERT_EQ(made.code, 0) << made.all();
    const Ended there =
        run(Words{"convert", "--to", "megatron", "--model", at("m"), "--out", at("s")} + more);
    ASSERT_EQ(there.code, 0) << there.all();
  }
  void edit(const std::string& shard,
            const std::function<void(std::map<std::string, EditedTensor>&)>& change) const {
    auto tensors = read_tensors(at("s/" + shard));
    change(tensors);
    EditedCheckpoint{nlohmann::ordered_json::object(), std::move(tensors)}.write(at("x"));
    fs::rename(at("x/model.safetensors"), at("s/" + shard));
  }
  /// convert --to hf says all of it, and writes nothing.
  void expect_refuted(const std::string& code, const Words& says, const Words& not_said = {},
                      const Words& more = {}) const {
    const Ended back =
        run(Words{"convert", "--to", "hf", "--model", at("s"), "--out", at("b")} + more);
    EXPECT_EQ(back.code, 1) << back.all();
    EXPECT_NE(back.out.find(code), std::string::npos) << back.all();
    for (const std::string& words : says) {
      EXPECT_NE(back.flat().find(words), std::string::npos) << words << "\n" << back.all();
    }
    for (const std::string& words : not_said) {
      EXPECT_EQ(back.flat().find(words), std::string::npos) << words << "\n" << back.all();
    }
    EXPECT_FALSE(fs::exists(at("b")));
    EXPECT_FALSE(fs::exists(at("b.bv-partial")));  // shards are judged while they are written
  }

 private:
  TempFolder folder_;
};

const std::string kTp0 = "pp0_tp0_ep0_etp0.safetensors";
const std::string kTp1 = "pp0_tp1_ep0_etp0.safetensors";

TEST_F(ShardContents, OneTensorTooManyIsNamed) {
  make("llama", {"--tp", "2"});
  edit(kTp1, [](auto& tensors) {
    tensors["decoder.layers.1.mlp.linear_fc1.bias_stale"] =
        tensors.at("decoder.final_layernorm.weight");
  });
  expect_refuted("BV2013", {kTp1 + " holds decoder.layers.1.mlp.linear_fc1.bias_stale",
                            "which its layout does not have"});
}

TEST_F(ShardContents, OneTensorTooFewIsNamed) {
  make("llama", {"--tp", "2"});
  edit(kTp0, [](auto& tensors) { tensors.erase("decoder.layers.0.mlp.linear_fc2.weight"); });
  expect_refuted("BV1004", {kTp0 + " has no decoder.layers.0.mlp.linear_fc2.weight",
                            "model.layers.0.mlp.down_proj.weight cannot be put together"});
}

/// Renamed in one file, and several in the other.
TEST_F(ShardContents, EveryFileIsNamedWithWhatItLacksAndWhatItHasBeyond) {
  make("llama", {"--tp", "2"});
  edit(kTp0, [](auto& tensors) {
    auto moved = tensors.extract("decoder.layers.0.mlp.linear_fc2.weight");
    moved.key() = "decoder.layers.0.mlp.linear_fc2.wieght";
    tensors.insert(std::move(moved));
  });
  edit(kTp1, [](auto& tensors) {
    for (int i = 0; i < 7; ++i) {
      tensors["stale." + std::to_string(i)] = tensors.at("decoder.final_layernorm.weight");
    }
  });
  expect_refuted("BV2013", {kTp0 + " has no decoder.layers.0.mlp.linear_fc2.weight",
                            kTp0 + " holds decoder.layers.0.mlp.linear_fc2.wieght",
                            kTp1 + " holds stale.0, stale.1, stale.2, stale.3 and 3 more"});
}

void exchange_tensors(std::map<std::string, EditedTensor>& tensors, const std::string& name) {
  std::swap(tensors.at("decoder.layers.0." + name).bytes,
            tensors.at("decoder.layers.1." + name).bytes);
}

TEST_F(ShardContents, OneTensorOfTwoLayersThatChangedPlacesIsNamed) {
  make("qwen3_moe");
  edit(kTp0, [](auto& tensors) { exchange_tensors(tensors, "mlp.router.weight"); });
  expect_refuted("BV3009",
                 {"decoder.layers.0.mlp.router.weight of " + kTp0 +
                      " and decoder.layers.1.mlp.router.weight of " + kTp0 + " are exchanged",
                  "write each tensor under its own name"},
                 {"put each file back"});
}

TEST_F(ShardContents, SomeTensorsOfTwoLayersThatChangedPlacesAreNamed) {
  make("qwen3_moe");
  edit(kTp0, [](auto& tensors) {
    exchange_tensors(tensors, "mlp.router.weight");
    exchange_tensors(tensors, "self_attention.linear_proj.weight");
  });
  expect_refuted(
      "BV3009",
      {"2 tensors of decoder.layers.0 of " + kTp0, "exchanged with those of decoder.layers.1",
       "decoder.layers.0.mlp.router.weight", "decoder.layers.0.self_attention.linear_proj.weight"});
}

TEST_F(ShardContents, OneTensorOfTwoFilesThatChangedPlacesIsNamed) {
  make("llama", {"--tp", "2"});
  const std::string name = "decoder.layers.1.mlp.linear_fc1.weight";
  const auto first = read_tensors(at("s/" + kTp0)).at(name);
  const auto second = read_tensors(at("s/" + kTp1)).at(name);
  edit(kTp0, [&](auto& tensors) { tensors.at(name) = second; });
  edit(kTp1, [&](auto& tensors) { tensors.at(name) = first; });
  expect_refuted("BV3009",
                 {name + " of " + kTp0 + " and " + name + " of " + kTp1 + " are exchanged"},
                 {"put each file back"});
}

TEST_F(ShardContents, WholeFilesThatChangedPlacesAreToBePutBack) {
  make("llama", {"--tp", "2"});
  fs::rename(at("s/" + kTp0), at("x"));
  fs::rename(at("s/" + kTp1), at("s/" + kTp0));
  fs::rename(at("x"), at("s/" + kTp1));
  expect_refuted("BV3009", {kTp0 + " and " + kTp1 + " are exchanged", "put each file back"});
}

/// Keys that stand again as values: one file, one tensor, two rows.
TEST_F(ShardContents, RowsThatATensorHoldsTwiceAreToldAsRows) {
  make("gemma4_text/experts");
  std::string twice;
  edit(kTp0, [&](auto& tensors) {
    for (auto& [name, tensor] : tensors) {
      if (name.ends_with("linear_qkv.weight")) {
        tensor.bytes.back() ^= std::byte{0x80};
        twice = name;
      }
    }
  });
  const Words says = {twice + " holds", "k_proj.weight more than once, as rows of part k",
                      "differs from row"};
  expect_refuted("BV2010", says, {"two ranks", "the rank that diverged"}, {"--accept-changed"});
  const Ended check = run({"check", "--model", at("m"), "--megatron", at("s"), "--accept-changed"});
  EXPECT_EQ(check.code, 1) << check.all();
  for (const std::string& words : says) {
    EXPECT_NE(check.flat().find(words), std::string::npos) << words << "\n" << check.all();
  }
}

/// What two ranks hold stays what it was called.
TEST_F(ShardContents, CopiesOfTwoRanksAreToldAsRanks) {
  make("llama", {"--tp", "2"});
  edit(kTp1, [](auto& tensors) {
    tensors.at("decoder.final_layernorm.weight").bytes[6] ^= std::byte{1};
  });
  expect_refuted("BV2010", {"two ranks hold different copies of decoder.final_layernorm.weight"},
                 {}, {"--accept-changed"});
}

}  // namespace
}  // namespace bv::e2e
