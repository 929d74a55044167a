// Green, red and undecided: exit code and last line.

#include <regex>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

class GreenModel : public testing::TestWithParam<const char*> {};

TEST_P(GreenModel, PassesAtAutoLayouts) {
  for (const char* command : {"check", "roundtrip"}) {
    const Ended ended = run({command, "--model", golden_hf(GetParam()).string()});
    EXPECT_EQ(ended.code, 0) << ended.all();
    EXPECT_TRUE(std::regex_match(
        ended.last_line(),
        std::regex(
            "bridge-verify: PASS  proved [1-9][0-9]*  held [0-9]+  refuted 0  inconclusive 0  "
            "unsupported 0  waived 0  broken 0  layouts [1-9][0-9]*  [0-9]+\\.[0-9] s")))
        << ended.last_line();
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, GreenModel,
                         testing::Values("qwen3_5_dense_bf16_tied", "llama",
                                         "qwen3_5_vl_moe_mtp_per_expert"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::erase_if(name, [](char c) { return c == '_'; });
                           return name;
                         });

/// One norm of this model is no fixed point of - 1 + 1 in bfloat16: the real bridge lost it too.
TEST(ValueRule, IsRefutedForTheStoredNormAndHoldsForOnes) {
  const std::string norm = "model.language_model.layers.0.linear_attn.norm.weight";
  const Ended stored = run({"check", "--model", golden_hf("qwen3_5_vl_moe_mtp_packed").string()});
  EXPECT_EQ(stored.code, 1) << stored.all();
  EXPECT_NE(stored.last_line().find("refuted 1 "), std::string::npos) << stored.last_line();
  EXPECT_NE(stored.out.find("error[BV3005]: " + norm), std::string::npos) << stored.out;
  EditedCheckpoint model = EditedCheckpoint::golden("qwen3_5_vl_moe_mtp_packed");
  EditedTensor& tensor = model.tensors.at(norm);
  for (std::size_t i = 0; i < tensor.bytes.size(); i += 2) {  // 0x3f80 = 1.0
    tensor.bytes[i] = std::byte{0x80};
    tensor.bytes[i + 1] = std::byte{0x3f};
  }
  ASSERT_EQ(tensor.dtype, DType::BF16);
  const TempFolder folder;
  model.write(folder.path() / "m");
  const Ended ones = run({"check", "--model", folder / "m"});
  EXPECT_EQ(ones.code, 0) << ones.all();
}

/// Writes the changed model, checks it, and wants FAIL with one of the codes.
void expect_refuted(const EditedCheckpoint& model, const std::vector<std::string>& codes,
                    const std::string& names) {
  const TempFolder folder;
  model.write(folder.path() / "m");
  const Ended ended = run({"check", "--model", folder / "m"});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_EQ(ended.word(), "FAIL");
  bool coded = false;
  for (const std::string& code : codes) {
    coded = coded || ended.out.find("error[" + code + "]") != std::string::npos;
  }
  EXPECT_TRUE(coded) << ended.out;
  EXPECT_NE(ended.out.find(names), std::string::npos) << names << "\n" << ended.out;
  const Ended convert =
      run({"convert", "--to", "megatron", "--model", folder / "m", "--out", folder / "o"});
  EXPECT_EQ(convert.code, 1) << convert.all();
  EXPECT_FALSE(std::filesystem::exists(folder / "o"));
}

TEST(Refuted, AnExpertTensorIsMissing) {
  EditedCheckpoint model = EditedCheckpoint::golden("qwen3_moe");
  ASSERT_EQ(model.tensors.erase("model.layers.2.mlp.experts.5.up_proj.weight"), 1U);
  expect_refuted(model, {"BV1002", "BV1004"}, "model.layers.2.mlp.experts.5.up_proj.weight");
}

TEST(Refuted, AnExpertTensorIsRenamed) {
  EditedCheckpoint model = EditedCheckpoint::golden("qwen3_moe");
  auto node = model.tensors.extract("model.layers.2.mlp.experts.5.up_proj.weight");
  node.key() = "model.layers.2.mlp.experts.5.upp_proj.weight";
  model.tensors.insert(std::move(node));
  expect_refuted(model, {"BV1001", "BV1002"}, "model.layers.2.mlp.experts.5.upp_proj.weight");
}

TEST(Refuted, HalfAPackedPairIsThere) {
  EditedCheckpoint model = EditedCheckpoint::golden("qwen3_5_moe_packed");
  ASSERT_EQ(model.tensors.erase("model.layers.1.mlp.experts.down_proj"), 1U);
  expect_refuted(model, {"BV1002", "BV1004", "BV1007"}, "model.layers.1.mlp.experts.down_proj");
}

TEST(Refuted, ExpertsAreStoredBothWays) {
  EditedCheckpoint model = EditedCheckpoint::golden("qwen3_5_moe_packed");
  const EditedTensor& packed = model.tensors.at("model.layers.1.mlp.experts.down_proj");
  EditedTensor one = packed;
  one.shape = {packed.shape[1], packed.shape[2]};
  one.bytes.resize(packed.bytes.size() / static_cast<std::size_t>(packed.shape[0]));
  for (std::int64_t e = 0; e < packed.shape[0]; ++e) {
    model.tensors["model.layers.1.mlp.experts." + std::to_string(e) + ".down_proj.weight"] = one;
  }
  expect_refuted(model, {"BV1007", "BV1001"}, "model.layers.1.mlp.experts");
}

TEST(Refuted, ATensorIsOneTooMany) {
  EditedCheckpoint model = EditedCheckpoint::golden("llama");
  model.tensors["model.layers.0.self_attn.extra.weight"] = model.tensors.at("model.norm.weight");
  expect_refuted(model, {"BV1001"}, "model.layers.0.self_attn.extra.weight");
}

TEST(Refuted, AShapeIsWrong) {
  EditedCheckpoint model = EditedCheckpoint::golden("llama");
  EditedTensor& tensor = model.tensors.at("model.layers.1.mlp.up_proj.weight");
  tensor.shape[0] -= 1;
  tensor.bytes.resize(tensor.bytes.size() * static_cast<std::size_t>(tensor.shape[0]) /
                      static_cast<std::size_t>(tensor.shape[0] + 1));
  expect_refuted(model, {"BV2001"}, "model.layers.1.mlp.up_proj.weight");
}

TEST(Refuted, TiedCopiesDiffer) {
  EditedCheckpoint model = EditedCheckpoint::golden("qwen3_5_dense_bf16_tied");
  EditedTensor head = model.tensors.at("model.embed_tokens.weight");
  model.tensors["lm_head.weight"] = head;
  {
    const TempFolder folder;
    model.write(folder.path() / "m");
    const Ended same = run({"check", "--model", folder / "m"});
    EXPECT_EQ(same.code, 0) << same.all();
  }
  model.tensors["lm_head.weight"].bytes[5] ^= std::byte{1};
  expect_refuted(model, {"BV1008", "BV2010"}, "lm_head.weight");
}

/// A norm stored as w with w - 1 + 1 != w: exact for [0.5, 256) in bfloat16, not for 0.001.
TEST(Refuted, NormValuesAreInexact) {
  EditedCheckpoint model = EditedCheckpoint::golden("qwen3_5_dense_bf16_tied");
  const std::string norm = "model.layers.0.linear_attn.norm.weight";
  EditedTensor& tensor = model.tensors.at(norm);
  tensor.dtype = DType::BF16;
  const std::size_t count = static_cast<std::size_t>(tensor.shape[0]);
  tensor.bytes.assign(count * 2, std::byte{0});
  for (std::size_t i = 0; i < count; ++i) {  // 1.0, and one 0x3a83 = 0.001
    tensor.bytes[2 * i] =
        std::byte{i == 3 ? static_cast<unsigned char>(0x83) : static_cast<unsigned char>(0x80)};
    tensor.bytes[2 * i + 1] =
        std::byte{i == 3 ? static_cast<unsigned char>(0x3a) : static_cast<unsigned char>(0x3f)};
  }
  const TempFolder folder;
  model.write(folder.path() / "m");
  const Ended ended = run({"check", "--model", folder / "m"});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_EQ(ended.word(), "FAIL");
  EXPECT_NE(ended.out.find("error[BV3005]"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find(norm), std::string::npos) << ended.out;
  EXPECT_NE(ended.last_line().find("refuted 1 "), std::string::npos) << ended.last_line();
}

/// A shift of every layer wraps at the end, and the first layer is the one that says "+3".
TEST(DiffOfLayers, ShiftedByOneAreNamedWithTheShiftOfMost) {
  const TempFolder folder;
  EditedCheckpoint model = EditedCheckpoint::read(golden_hf("llama"));
  const std::map<std::string, EditedTensor> before = model.tensors;
  for (const auto& [name, tensor] : before) {
    constexpr std::string_view kLayers = "model.layers.";
    if (name.starts_with(kLayers)) {
      const int layer = name[kLayers.size()] - '0';
      model.tensors[std::string(kLayers) + std::to_string((layer + 1) % 4) +
                    name.substr(kLayers.size() + 1)] = tensor;
    }
  }
  model.write(folder / "shifted");
  const Ended ended = run({"diff", golden_hf("llama").string(), folder / "shifted"});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.flat().find("model.layers.1.input_layernorm.weight (and 3 more): holds the rows "
                              "of model.layers.0.input_layernorm.weight: layer 0 for 1, off by -1, "
                              "as in 3 of these 4"),
            std::string::npos)
      << ended.out;
}

TEST(Undecided, SkippedClaimsAndPartialRunsAreIncomplete) {
  const std::string model = golden_hf("llama").string();
  const Ended skipped = run({"check", "--model", model, "--skip", "placement"});
  EXPECT_EQ(skipped.code, 3) << skipped.all();
  EXPECT_EQ(skipped.word(), "INCOMPLETE");
  const Ended hidden = run({"check", "--model", model, "--skip", "placement", "--exit-zero"});
  EXPECT_EQ(hidden.code, 0);
  EXPECT_EQ(hidden.word(), "INCOMPLETE");
}

/// The values of a model that computes are not asked for without weights; asked for by name they
/// stay undecided, never green.
TEST(Undecided, HeadersAloneDoNotDecideValues) {
  const TempFolder folder;
  const std::string dump = folder / "m.headers.json.gz";
  ASSERT_EQ(
      run({"inspect", "--model", golden_hf("qwen3_5_dense").string(), "--dump-headers", dump}).code,
      0);
  const Ended ended = run({"check", "--headers", dump});
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_NE(ended.out.find("not asked"), std::string::npos) << ended.out;
  EXPECT_EQ(ended.out.find("BV3004"), std::string::npos) << ended.out;
  for (const std::vector<std::string>& asked :
       std::vector<std::vector<std::string>>{{"--only", "values"}, {"--level", "data"}}) {
    std::vector<std::string> line = {"check", "--headers", dump};
    line.insert(line.end(), asked.begin(), asked.end());
    const Ended open = run(line);
    EXPECT_EQ(open.code, 3) << open.all();
    EXPECT_NE(open.out.find("BV3004"), std::string::npos) << open.out;
  }
  ASSERT_EQ(run({"inspect", "--model", golden_hf("llama").string(), "--dump-headers",
                 folder / "l.headers.json"})
                .code,
            0);
  const Ended plain = run({"check", "--headers", folder / "l.headers.json"});
  EXPECT_EQ(plain.code, 0) << plain.all();
}

TEST(Start, SaysSomethingWithinATenthOfASecond) {
  double best = 1e9;
  for (int i = 0; i < 10; ++i) {  // other work on the machine must not decide
    const Ended ended = run({"check", "--model", golden_hf("qwen3_5_vl_moe_mtp_packed").string()});
    ASSERT_GE(ended.first_output_seconds, 0);
    best = std::min(best, ended.first_output_seconds);
  }
#ifdef BV_SANITIZED
  EXPECT_LT(best, 2);  // a sanitizer starts and runs slowly
#else
  EXPECT_LT(best, 0.1);
#endif
}

TEST(Json, IsTheSameTwiceExceptTheRunBlock) {
  for (const char* command : {"check", "roundtrip"}) {
    const std::vector<std::string> line = {command, "--json", "--model",
                                           golden_hf("qwen3_5_moe").string()};
    const Ended first = run(line);
    const Ended second = run(line);
    auto a = nlohmann::ordered_json::parse(first.out, nullptr, false);
    auto b = nlohmann::ordered_json::parse(second.out, nullptr, false);
    ASSERT_FALSE(a.is_discarded()) << first.all();
    ASSERT_TRUE(a.contains("run"));
    a.erase("run");
    b.erase("run");
    EXPECT_EQ(a.dump(), b.dump());
  }
}

TEST(Json, DoesNotDependOnTheNumberOfThreads) {
  const std::vector<std::string> line = {
      "roundtrip", "--json", "--model", golden_hf("qwen3_vl_moe").string(), "--tp", "1,2", "-j"};
  const auto with = [&](const char* jobs) {
    std::vector<std::string> words = line;
    words.emplace_back(jobs);
    auto json = nlohmann::ordered_json::parse(run(words).out);
    return json.at("verdicts").dump() + json.at("claims").dump();
  };
  EXPECT_EQ(with("1"), with("7"));
}

TEST(Report, IsWrittenIntoTheFolderThatOutNames) {
  const TempFolder folder;
  const auto out = folder.path() / "report";
  const Ended ended = run({"check", "--model", golden_hf("llama").string(), "--out", out.string()});
  EXPECT_EQ(ended.code, 0) << ended.all();
  const auto json = nlohmann::ordered_json::parse(file_text(out / "verdicts.json"), nullptr, false);
  ASSERT_FALSE(json.is_discarded());
  EXPECT_EQ(json.at("schema"), "bridge-verdicts/1");
  EXPECT_NE(file_text(out / "report.txt").find("\nbridge-verify: PASS  proved "),
            std::string::npos);
  write_text(folder.path() / "file", "x");
  const Ended refused = run({"check", "--model", golden_hf("llama").string(), "--out",
                             (folder.path() / "file").string()});
  EXPECT_EQ(refused.code, 5) << refused.all();
}

TEST(Report, IsNeverWrittenOverWhatTheCommandReads) {
  const TempFolder folder;
  const std::string model = (folder.path() / "m").string();
  std::filesystem::copy(golden_hf("llama"), model);
  const std::string config = file_text(model + "/config.json");
  for (const char* place : {"/config.json", "/../m/config.json"}) {
    const Ended refused = run({"check", "--model", model, "--report", "html=" + model + place});
    EXPECT_EQ(refused.code, 5) << refused.all();
    EXPECT_NE(refused.err.find("error[BV8006]"), std::string::npos) << refused.err;
  }
  EXPECT_EQ(file_text(model + "/config.json"), config);
  for (int twice = 0; twice < 2; ++twice) {  // a report of ours is
    EXPECT_EQ(run({"check", "--model", model, "--report", "html=" + model + "/r.html"}).code, 0);
  }
  const std::string stored = (folder.path() / "verdicts.json").string();
  EXPECT_EQ(run({"check", "--model", model, "--report", "json=" + stored}).code, 0);
  const std::string before = file_text(stored);
  EXPECT_EQ(run({"report", "html", stored, "--out", stored}).code, 5);
  EXPECT_EQ(file_text(stored), before);
}

TEST(Report, AVerdictsFileOfSomebodyElseVouchesForNoReports) {
  const TempFolder folder;
  write_text(folder.path() / "verdicts.json", "{\"mine\": true}");
  write_text(folder.path() / "report.txt", "mine");
  const Ended refused =
      run({"check", "--model", golden_hf("llama").string(), "--out", folder.path().string()});
  EXPECT_EQ(refused.code, 5) << refused.all();
  EXPECT_EQ(file_text(folder.path() / "report.txt"), "mine");
  EXPECT_EQ(file_text(folder.path() / "verdicts.json"), "{\"mine\": true}");
}

}  // namespace
}  // namespace bv::e2e
