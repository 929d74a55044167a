// Faults planted into real torch_dist checkpoints: each is refuted by name, or refused.

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tests/core/torch_dist/golden_copy.hpp"
#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using torch_dist::GoldenCopy;

/// A fault that a converter could have made: written with the checksums that fit.
struct Planted {
  explicit Planted(const std::string& name) : model(name), copy(name, folder.path()) {}
  [[nodiscard]] Ended diff() const {
    return run({"diff", golden_hf(model).string(), copy.root.string(), "--dtype",
                model == "qwen3_5_vl_dense"    ? "preserve"
                : model == "qwen3_5_dense_mtp" ? "bfloat16"
                                               : "float32"});
  }
  [[nodiscard]] Ended check() const {
    return run({"check", "--model", golden_hf(model).string(), "--megatron", copy.root.string()});
  }
  void expect_refuted(const std::vector<std::string>& texts) const {
    const Ended ended = diff();
    EXPECT_EQ(ended.code, 1) << ended.all();
    EXPECT_EQ(ended.word(), "FAIL") << ended.all();
    for (const std::string& text : texts) {
      EXPECT_NE(ended.flat().find(text), std::string::npos) << text << "\n" << ended.all();
    }
  }
  std::string model;
  TempFolder folder;
  GoldenCopy copy;
};

TEST(PlantedFault, TwoExpertsAreExchanged) {
  Planted planted("qwen3_5_moe_packed");
  const std::string key = "decoder.layers.1.mlp.experts.experts.linear_fc2.weight";
  const std::string first = planted.copy.data(key, 2);
  const std::string second = planted.copy.data(key, 3);
  planted.copy.edit(key, 2, [&](std::string& data) { data = second; });
  planted.copy.edit(key, 3, [&](std::string& data) { data = first; });
  planted.expect_refuted({"decoder.layers.1.mlp.experts.linear_fc2.weight2", "weight3"});
}

TEST(PlantedFault, GateAndUpAreExchanged) {
  Planted planted("qwen3_5_vl_dense");
  const std::string key = "language_model.decoder.layers.0.mlp.linear_fc1.weight";
  ASSERT_EQ(planted.copy.expected.at("tensors").at(key).at("chunks").size(), 2U);
  const std::string gate = planted.copy.data(key, 0);
  const std::string up = planted.copy.data(key, 1);
  planted.copy.edit(key, 0, [&](std::string& data) { data = up; });
  planted.copy.edit(key, 1, [&](std::string& data) { data = gate; });
  planted.expect_refuted({key, "gate and up are exchanged"});
}

/// Wrong in both directions: the rules that made the checkpoint find every element in its place.
TEST(PlantedFault, TheRulesThatMadeACheckpointAreNoEvidenceForIt) {
  Planted planted("qwen3");
  const std::string key = "decoder.layers.mlp.linear_fc1.weight";
  const auto& chunks = planted.copy.expected.at("tensors").at(key).at("chunks");
  for (std::size_t gate = 0; gate < chunks.size(); ++gate) {
    for (std::size_t up = 0; up < chunks.size(); ++up) {
      const auto from = chunks[gate].at("offsets").get<std::vector<int>>();
      if (chunks[up].at("offsets") == std::vector<int>({from[0], from[1] + 36, 0})) {
        const std::string first = planted.copy.data(key, gate);
        const std::string second = planted.copy.data(key, up);
        planted.copy.edit(key, gate, [&](std::string& data) { data = second; });
        planted.copy.edit(key, up, [&](std::string& data) { data = first; });
      }
    }
  }
  planted.expect_refuted({"gate and up are exchanged"});
  const std::string rules = fixture("broken/swapped_gate_up.rules.json");
  for (const std::vector<std::string>& line : std::initializer_list<std::vector<std::string>>{
           {"check", "--model", golden_hf("qwen3").string(), "--megatron",
            planted.copy.root.string(), "--rules", rules},
           {"diff", golden_hf("qwen3").string(), planted.copy.root.string(), "--rules", rules}}) {
    const Ended ended = run(line);
    EXPECT_EQ(ended.code, 1) << ended.all();
    EXPECT_NE(ended.out.find("bytes           34  ok"), std::string::npos) << ended.out;
    EXPECT_NE(ended.flat().find("error[BV2006]"), std::string::npos) << ended.all();
  }
}

TEST(PlantedFault, OneLayerOfAStackIsZero) {
  Planted planted("qwen3");
  planted.copy.edit("decoder.layers.self_attention.q_layernorm.weight", 1,
                    [](std::string& data) { data.assign(data.size(), '\0'); });
  planted.expect_refuted({"self_attention.q_layernorm.weight"});
}

TEST(PlantedFault, PaddingRowsAreNotZero) {
  Planted planted("qwen3");
  planted.copy.edit("embedding.word_embeddings.weight", 1, [](std::string& data) {
    data[data.size() - 1] = 0x3f;  // of the last row, which is padding
  });
  planted.expect_refuted(
      {"embedding.word_embeddings.weight", "1 row that pads the vocabulary is not zero"});
}

TEST(PlantedFault, LayersAreExchangedInAWiderType) {
  Planted planted("qwen3");
  const std::string key = "decoder.layers.mlp.linear_fc2.weight";
  const auto& chunks = planted.copy.expected.at("tensors").at(key).at("chunks");
  for (std::size_t one = 0; one < chunks.size(); ++one) {
    for (std::size_t other = 0; other < chunks.size(); ++other) {
      const auto from = chunks[one].at("offsets").get<std::vector<int>>();
      if (from[0] == 1 && chunks[other].at("offsets") == std::vector<int>({2, from[1], from[2]})) {
        const std::string first = planted.copy.data(key, one);
        const std::string second = planted.copy.data(key, other);
        planted.copy.edit(key, one, [&](std::string& data) { data = second; });
        planted.copy.edit(key, other, [&](std::string& data) { data = first; });
      }
    }
  }
  const Ended ended = planted.check();  // F32, and the model is BF16
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.flat().find("holds the rows of decoder.layers.1.mlp.linear_fc2.weight"),
            std::string::npos)
      << ended.all();
}

TEST(PlantedFault, TrainedWeightsAreJudgedByTheirShapes) {
  Planted one("qwen3_5_moe_packed");
  for (std::size_t chunk = 0; chunk < 2; ++chunk) {
    one.copy.edit("decoder.layers.0.mlp.router.weight", chunk, [](std::string& data) {
      for (char& byte : data) {
        byte = static_cast<char>(byte ^ 1);
      }
    });
    if (one.copy.expected.at("tensors")
            .at("decoder.layers.0.mlp.router.weight")
            .at("chunks")
            .size() == 1) {
      break;
    }
  }
  EXPECT_EQ(one.diff().code, 1);
  const auto judged = [&] {
    return run({"check", "--model", golden_hf(one.model).string(), "--megatron",
                one.copy.root.string(), "--accept-changed"});
  };
  const Ended trained = judged();
  EXPECT_EQ(trained.code, 0) << trained.all();
  one.copy.edit_metadata("decoder.final_layernorm.weight", "decoder.final_layernorm.weighx");
  const Ended lacks = judged();
  EXPECT_EQ(lacks.code, 1) << lacks.all();
  EXPECT_NE(lacks.flat().find("there is no such tensor"), std::string::npos) << lacks.all();
}

TEST(PlantedFault, AKeyIsMissingAndAnotherUnexpected) {
  Planted planted("qwen3");
  planted.copy.edit_metadata("decoder.final_layernorm.weight", "decoder.final_layernorm.wEIGHT");
  planted.expect_refuted({"decoder.final_layernorm.weight", "decoder.final_layernorm.wEIGHT"});
}

TEST(PlantedFault, AFlippedBitIsAnInputError) {
  Planted planted("qwen3");
  const std::string data = planted.copy.data("decoder.layers.mlp.linear_fc2.weight", 0);
  const auto file =
      planted.copy.iteration /
      planted.copy.chunk("decoder.layers.mlp.linear_fc2.weight", 0).at("file").get<std::string>();
  std::string bytes = file_text(file);
  bytes[bytes.find(data)] ^= 1;
  torch_dist::spill(file, bytes);
  const Ended ended = planted.diff();
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_NE(ended.flat().find("the checksum of \"decoder.layers.mlp.linear_fc2.weight\""),
            std::string::npos)
      << ended.all();
}

/// Bytes of a chunk, exchanged with those of another.
void exchange(const GoldenCopy& copy, const std::string& a, std::size_t chunk_a,
              const std::string& b, std::size_t chunk_b) {
  const std::string first = copy.data(a, chunk_a);
  const std::string second = copy.data(b, chunk_b);
  ASSERT_EQ(first.size(), second.size());
  ASSERT_NE(first, second);
  copy.edit(a, chunk_a, [&](std::string& data) { data = second; });
  copy.edit(b, chunk_b, [&](std::string& data) { data = first; });
}

TEST(PlantedFault, TheUntouchedTwinIsGreen) {
  for (const char* model : {"qwen3", "qwen3_5_moe_packed", "qwen3_5_dense_mtp"}) {
    const Planted twin(model);
    const Ended ended = twin.diff();
    EXPECT_EQ(ended.code, 0) << ended.all();
    EXPECT_EQ(ended.word(), "PASS") << ended.all();
  }
}

TEST(PlantedFault, TwoLayersAreExchanged) {
  Planted planted("qwen3_5_moe_packed");
  const std::string key = "mlp.shared_experts.gate_weight";
  exchange(planted.copy, "decoder.layers.0." + key, 0, "decoder.layers.1." + key, 0);
  planted.expect_refuted(
      {"decoder.layers.0." + key, "decoder.layers.1." + key, "kind other_layer"});
}

TEST(PlantedFault, TwoLayersOfAStackAreExchanged) {
  Planted planted("qwen3");
  const std::string key = "decoder.layers.self_attention.q_layernorm.weight";
  exchange(planted.copy, key, 1, key, 2);
  planted.expect_refuted({"decoder.layers.1.self_attention.q_layernorm.weight",
                          "decoder.layers.2.self_attention.q_layernorm.weight",
                          "kind other_layer"});
}

TEST(PlantedFault, ARowIsZero) {
  Planted planted("qwen3");
  for (const std::size_t half : {1U, 3U}) {  // two ranks held 18 columns of layer 1 each
    planted.copy.edit("decoder.layers.mlp.linear_fc2.weight", half, [](std::string& data) {
      std::fill_n(data.begin() + 5 * 18 * 4, 18 * 4, '\0');
    });
  }
  planted.expect_refuted({"decoder.layers.1.mlp.linear_fc2.weight", "[5, 0]", "zero"});
}

/// No checksum tells it: the first wrong element does, with what was wanted.
TEST(PlantedFault, OneBitIsFlippedBeforeTheChecksumWasMade) {
  Planted planted("qwen3_5_moe_packed");
  planted.copy.edit("decoder.final_layernorm.weight", 0,
                    [](std::string& data) { data[7 * 4] = static_cast<char>(data[7 * 4] ^ 1); });
  planted.expect_refuted({"decoder.final_layernorm.weight", "[7]", "BV3001"});
}

TEST(PlantedFault, ANormIsStoredWithoutItsOffset) {
  Planted planted("qwen3_5_moe_packed");
  planted.copy.edit("decoder.layers.0.self_attention.out_norm.weight", 0, [](std::string& data) {
    for (std::size_t at = 0; at < data.size(); at += sizeof(float)) {
      float value = 0;
      std::memcpy(&value, data.data() + at, sizeof(value));
      value += 1.0F;
      std::memcpy(data.data() + at, &value, sizeof(value));
    }
  });
  planted.expect_refuted({"decoder.layers.0.self_attention.out_norm.weight", "kind plus_one",
                          "every value is wanted +1"});
}

/// A zero-centred norm as transformers holds it, and shifted the other way.
TEST(PlantedFault, AZeroCentredNormIsStoredAsItIsInTheSource) {
  for (const float shift : {0.0F, 1.0F}) {
    Planted planted("qwen3_5_moe_packed");
    const auto source =
        read_tensors(golden_hf(planted.model)).at("model.layers.0.linear_attn.norm.weight");
    ASSERT_EQ(source.dtype, DType::F32);
    planted.copy.edit("decoder.layers.0.self_attention.out_norm.weight", 0, [&](std::string& data) {
      ASSERT_EQ(data.size(), source.bytes.size());
      for (std::size_t at = 0; at < data.size(); at += sizeof(float)) {
        float value = 0;
        std::memcpy(&value, source.bytes.data() + at, sizeof(value));
        value += shift;
        std::memcpy(data.data() + at, &value, sizeof(value));
      }
    });
    const char* why = shift == 0 ? "the norm is stored as w, and w - 1 is wanted"
                                 : "the norm is stored as w + 1, and w - 1 is wanted";
    planted.expect_refuted(
        {"decoder.layers.0.self_attention.out_norm.weight", "kind plus_one", why});
    const Ended judged = planted.check();
    EXPECT_EQ(judged.code, 1) << judged.all();
    EXPECT_NE(judged.flat().find(why), std::string::npos) << judged.all();
  }
}

/// A converter that fills the MTP layer with the last layer of the decoder.
TEST(PlantedFault, TheMtpLayerIsThatOfTheDecoder) {
  Planted planted("qwen3_5_dense_mtp");
  const std::string mtp = "mtp.layers.0.transformer_layer.mlp.linear_fc1.weight";
  for (std::size_t chunk = 0; chunk < 4; ++chunk) {
    const std::string stale = planted.copy.data("decoder.layers.3.mlp.linear_fc1.weight", chunk);
    planted.copy.edit(mtp, chunk, [&](std::string& data) { data = stale; });
  }
  planted.expect_refuted({"mtp.layers.0", "mlp.linear_fc1.weight", "kind other_layer",
                          "layer 3 of the decoder for MTP layer 0, which was copied from it"});
  const Ended judged = planted.check();
  EXPECT_EQ(judged.code, 1) << judged.all();
  EXPECT_NE(judged.flat().find("layer 3 of the decoder for MTP layer 0"), std::string::npos)
      << judged.all();
}

/// A converter that keeps the MTP layer of an older checkpoint: its values are nowhere in the
/// source.
TEST(PlantedFault, TheMtpLayerIsOfOlderWeights) {
  Planted planted("qwen3_5_dense_mtp");
  for (std::size_t chunk = 0; chunk < 4; ++chunk) {
    planted.copy.edit("mtp.layers.0.transformer_layer.mlp.linear_fc1.weight", chunk,
                      [&](std::string& data) {
                        for (std::size_t i = 0; i < data.size(); i += 2) {
                          data[i] = static_cast<char>(data[i] ^ static_cast<int>(5 + i % 7));
                        }
                      });
  }
  planted.expect_refuted({"mtp.layers.0", "mlp.linear_fc1.weight", "kind stale",
                          "every tensor outside of the MTP layers is the wanted one"});
  // With a fault elsewhere nothing says that the MTP layer alone was left.
  planted.copy.edit("decoder.final_layernorm.weight", 0,
                    [](std::string& data) { data[0] = static_cast<char>(data[0] ^ 1); });
  EXPECT_EQ(planted.diff().flat().find("kind stale"), std::string::npos);
}

TEST(PlantedFault, AKeyIsDropped) {
  Planted planted("qwen3_5_moe_packed");
  const std::string key = "decoder.layers.2.self_attention.in_proj.weight.z";
  planted.copy.edit_plan([&](torch_dist::Metadata& plan) { plan.tensors.erase(key); });
  planted.expect_refuted({"decoder.layers.2.self_attention.in_proj.weight"});
}

TEST(PlantedFault, OffsetsInMetadataAreExchanged) {
  Planted planted("qwen3_5_moe_packed");
  planted.copy.edit_plan([](torch_dist::Metadata& plan) {
    std::swap(plan.tensors.at("decoder.layers.0.mlp.router.weight").chunks.at(0).slice,
              plan.tensors.at("decoder.layers.1.mlp.router.weight").chunks.at(0).slice);
  });
  planted.expect_refuted({"decoder.layers.0.mlp.router.weight", "kind other_layer"});
}

/// An offset at which no item begins, or one at which another tensor's does.
TEST(PlantedFault, AWrongOffsetInMetadataIsAnInputError) {
  const auto refused = [](std::int64_t by) {
    Planted planted("qwen3");
    planted.copy.edit_plan([&](torch_dist::Metadata& plan) {
      plan.tensors.at("decoder.final_layernorm.weight").chunks.at(0).slice.offset +=
          static_cast<std::uint64_t>(by);
    });
    const Ended ended = planted.diff();
    EXPECT_EQ(ended.code, 5) << ended.all();
    return ended.flat();
  };
  for (const std::int64_t by : {std::int64_t{64}, std::int64_t{-64}, std::int64_t{1}}) {
    EXPECT_NE(refused(by).find("\"decoder.final_layernorm.weight\""), std::string::npos) << by;
  }
  EXPECT_NE(refused(std::int64_t{1} << 40).find("lies outside of it"), std::string::npos);
  Planted twice("qwen3");
  twice.copy.edit_plan([](torch_dist::Metadata& plan) {
    auto& chunks = plan.tensors.at("decoder.layers.self_attention.q_layernorm.weight").chunks;
    chunks.at(1).slice = chunks.at(0).slice;
  });
  const Ended ended = twice.diff();
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_NE(ended.flat().find("two tensors lie on one another"), std::string::npos) << ended.all();
}

/// As a training run leaves it: moments and step counts, in files that are not there here.
TEST(OptimizerState, IsCountedAndNotLookedAt) {
  Planted trained("qwen3");
  trained.copy.edit_plan([](torch_dist::Metadata& plan) {
    const torch_dist::StoredTensor weight = plan.tensors.at("decoder.final_layernorm.weight");
    for (const std::string moment : {"exp_avg", "exp_avg_sq", "fp32_param"}) {
      for (const std::string prefix : {"", "chained_0."}) {
        const std::string key =
            prefix + "optimizer.state." + moment + ".decoder.final_layernorm.weight";
        torch_dist::StoredTensor state = weight;
        state.spec.name = key;
        state.chunks.at(0).slice = {"optimizer__9_0.distcp", 0, 100};
        plan.tensors.emplace(key, state);
      }
    }
  });
  const Ended ended = trained.diff();
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_NE(ended.flat().find("6 tensors of the optimizer are not looked at"), std::string::npos)
      << ended.all();
}

}  // namespace
}  // namespace bv::e2e
