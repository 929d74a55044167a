// Real torch_dist checkpoints of Megatron, judged against their HF models and converted back.

#include <algorithm>
#include <cstring>
#include <set>
#include <sstream>

#include "tests/e2e/process.hpp"
#include "tests/support/checkpoint_edit.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

fs::path checkpoint_of(const std::string& name) {
  return support::golden("torch_dist/" + name);
}

/// What the real writer cast: A_log and the norm of linear attention are F32 in the HF models of
/// these cases, and parameters of a BF16 model.
bool is_narrowed(const std::string& model, const std::string& tensor) {
  return (model == "qwen3_5_dense_mtp" || model == "qwen3_5_vl_dense") &&
         (tensor.ends_with("linear_attn.A_log") || tensor.ends_with("linear_attn.norm.weight"));
}

/// Casts that the real writer made of a model, by what they are called.
struct Casts {
  std::string model;
  std::string dtype;     // the writer's params_dtype
  std::string made;      // of what HF holds
  std::int64_t tensors;  // so many parameters, each layer's its own
  std::int64_t lossy;    // of them, whose values the type of the checkpoint cannot hold
};

void PrintTo(const Casts& casts, std::ostream* out) {
  *out << casts.model;
}

class RealCheckpoint : public ::testing::TestWithParam<Casts> {
 protected:
  [[nodiscard]] static const std::string& model() { return GetParam().model; }
  [[nodiscard]] static std::string hf() { return golden_hf(model()).string(); }
  [[nodiscard]] static Ended compare(std::vector<std::string> command) {
    command.insert(command.end(), {"--dtype", GetParam().dtype});
    return run(command);
  }
  [[nodiscard]] static bool holds_narrowed() { return is_narrowed(model(), "linear_attn.A_log"); }
  /// What is refuted is `count` casts, each by name, and nothing else.
  static void expect_casts(std::vector<std::string> command, const std::string& cast,
                           const std::string& below, std::int64_t count) {
    const TempFolder folder;
    command.insert(command.end(), {"--report", "json=" + folder / "v.json"});
    const Ended ended = run(command);
    EXPECT_EQ(ended.code, count > 0 ? 1 : 0) << ended.all();
    EXPECT_EQ(ended.word(), count > 0 ? "FAIL" : "PASS") << ended.all();
    std::int64_t refuted = 0;
    const auto report = read_json(folder / "v.json");
    for (const auto& verdict : report.at("verdicts")) {
      if (verdict.at("outcome") == "Refuted") {
        EXPECT_EQ(verdict.at("code"), "BV3002") << verdict;
        EXPECT_NE(verdict.at("title").get<std::string>().find(cast), std::string::npos) << verdict;
        EXPECT_TRUE(verdict.at("subject").at("megatron").get<std::string>().starts_with(below))
            << verdict;
        refuted += verdict.at("cases").get<std::int64_t>();
      }
    }
    EXPECT_EQ(refuted, count) << ended.all();
  }
};

TEST_P(RealCheckpoint, EqualsItsModelInItsOwnType) {
  expect_casts({"diff", hf(), checkpoint_of(model()).string(), "--dtype", GetParam().dtype}, "", "",
               0);
}

/// A cast to the type of the whole checkpoint that keeps every value is no fault; one that loses
/// values, and that nobody asked for, is refuted by name.
TEST_P(RealCheckpoint, IsCheckedAgainstItsModel) {
  expect_casts({"check", "--model", hf(), "--megatron", checkpoint_of(model()).string()},
               GetParam().made, "", GetParam().lossy);
}

/// Who wants every bit kept gets each cast by name, with what it did to the values.
TEST_P(RealCheckpoint, NamesWhatItCast) {
  expect_casts({"diff", hf(), checkpoint_of(model()).string(), "--dtype", "preserve"},
               GetParam().made, "", GetParam().tensors);
}

float narrowed(float value) {
  std::uint32_t raw = 0;
  std::memcpy(&raw, &value, sizeof(raw));
  raw = (raw + 0x7fffU + (raw >> 16 & 1U)) & 0xffff0000U;  // to the nearest BF16, ties to even
  std::memcpy(&value, &raw, sizeof(value));
  return value;
}

/// What comes back of an F32 tensor that Megatron holds `minus` a number, in BF16 or as it is: the
/// number is taken away in F32, and added in the type that is stored.
std::vector<float> there_and_back(const EditedTensor& tensor, float minus, bool bf16) {
  std::vector<float> out(tensor.bytes.size() / sizeof(float));
  std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
  for (float& value : out) {
    value = bf16 ? narrowed(narrowed(value - minus) + minus) : value - minus + minus;
  }
  return out;
}

std::vector<float> floats_of(const EditedTensor& tensor) {
  std::vector<float> out(tensor.bytes.size() / sizeof(float));
  std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
  return out;
}

/// Bit for bit; what the writer narrowed is bit for bit what the narrowing left.
TEST_P(RealCheckpoint, BecomesItsModel) {
  const TempFolder folder;
  const Ended ended = run({"convert", "--to", "hf", "--model", checkpoint_of(model()).string(),
                           "--like", hf(), "--out", folder / "hf"});
  ASSERT_EQ(ended.code, 0) << ended.all();
  EXPECT_EQ(file_text(folder / "hf/config.json"), file_text(golden_hf(model()) / "config.json"));
  std::size_t files = 0;
  std::size_t cast = 0;
  for (const auto& entry : fs::directory_iterator(golden_hf(model()))) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("model") || !name.ends_with(".safetensors")) {
      continue;
    }
    ++files;
    const auto wanted = read_tensors(entry.path());
    const auto found = read_tensors(folder / ("hf/" + name));
    ASSERT_EQ(found.size(), wanted.size()) << name;
    for (const auto& [tensor, value] : wanted) {
      const EditedTensor& has = found.at(tensor);
      const bool norm = tensor.ends_with("linear_attn.norm.weight");
      if (!is_narrowed(model(), tensor) && !norm) {
        EXPECT_EQ(has, value) << tensor;
        continue;
      }
      ASSERT_EQ(has.dtype, DType::F32) << tensor;
      ASSERT_EQ(has.shape, value.shape) << tensor;
      EXPECT_EQ(floats_of(has), there_and_back(value, norm ? 1.0F : 0.0F, holds_narrowed()))
          << tensor;
      if (!is_narrowed(model(), tensor)) {
        continue;
      }
      ++cast;
      EXPECT_NE(ended.flat().find(tensor), std::string::npos) << ended.all();
    }
  }
  EXPECT_GE(files, 1U);
  EXPECT_EQ(cast, holds_narrowed() ? 6U : 0U);
  EXPECT_NE(ended.flat().find("warning[BV3010]"), std::string::npos) << ended.all();
  EXPECT_EQ(ended.flat().find("error["), std::string::npos) << ended.all();
}

TEST_P(RealCheckpoint, IsListedByItsKeys) {
  const auto expected = nlohmann::json::parse(file_text(checkpoint_of(model()) / "expected.json"));
  const Ended ended = run({"inspect", "--plain", "--model", checkpoint_of(model()).string()});
  ASSERT_EQ(ended.code, 0) << ended.all();
  const auto lines = std::count(ended.out.begin(), ended.out.end(), '\n');
  EXPECT_EQ(static_cast<std::size_t>(lines), expected.at("tensors").size());
  for (const auto& [key, tensor] : expected.at("tensors").items()) {
    EXPECT_NE(ended.out.find(key + "\t" + tensor.at("dtype").get<std::string>() + "\t"),
              std::string::npos)
        << key;
  }
}

/// Rows of the padded vocabulary of a real checkpoint.
std::string vocabulary_rows(const std::string& name) {
  const auto expected = read_json(checkpoint_of(name) / "expected.json");
  for (const auto& [key, tensor] : expected.at("tensors").items()) {
    if (key.ends_with("embedding.word_embeddings.weight")) {
      return std::to_string(tensor.at("shape").at(0).get<std::int64_t>());
    }
  }
  return "";
}

/// Key, type, shape and size of each tensor, as Megatron-Core wrote them; and the elements are
/// those of the model.
TEST_P(RealCheckpoint, IsWrittenAsMegatronWritesIt) {
  const TempFolder folder;
  const Ended ended =
      compare({"convert", "--to", "torch_dist", "--model", hf(), "--out", folder / "out",
               "--make-vocab-size-divisible-by", vocabulary_rows(model())});
  // 1: a cast that was asked for, or a norm in F32 minus 1, is inexact; it is written all the same
  ASSERT_EQ(ended.code, model() == "qwen3" ? 0 : 1) << ended.all();
  EXPECT_EQ(ended.flat().find("BV3005") != std::string::npos, model() != "qwen3") << ended.all();
  const auto keys = [](const std::string& checkpoint) {
    std::istringstream lines(run({"inspect", "--plain", "--model", checkpoint}).out);
    std::set<std::string> out;
    for (std::string line; std::getline(lines, line);) {
      line.resize(line.rfind('\t'));
      const auto type = line.find('\t');
      // --dtype bfloat16 keeps the vision tower in F32, and so does the bridge before Float16Module
      if (model() == "qwen3_5_vl_dense" && line.starts_with("vision_model.")) {
        line.erase(type, line.find('\t', type + 1) - type);
        line.resize(line.rfind('\t'));  // and its bytes
      }
      out.insert(line);
    }
    return out;
  };
  EXPECT_EQ(keys(folder / "out"), keys(checkpoint_of(model()).string()));
  const Ended same = compare({"diff", hf(), folder / "out"});
  EXPECT_EQ(same.code, 0) << same.all();
  EXPECT_EQ(file_text(folder / "out/latest_checkpointed_iteration.txt"), "0");
}

TEST(ToTorchDist, ALayoutHasNoMeaning) {
  const TempFolder folder;
  const Ended ended = run({"convert", "--to", "torch_dist", "--model", golden_hf("qwen3").string(),
                           "--tp", "2", "--out", folder / "out"});
  EXPECT_EQ(ended.code, 2) << ended.all();
  EXPECT_NE(ended.flat().find("--tp has no meaning"), std::string::npos) << ended.all();
  EXPECT_FALSE(fs::exists(folder / "out"));
}

INSTANTIATE_TEST_SUITE_P(
    All, RealCheckpoint,
    ::testing::Values(Casts{"qwen3", "float32", "widened from BF16 to F32", 34, 0},
                      Casts{"qwen3_5_dense_mtp", "bfloat16", "narrowed from F32 to BF16", 6, 6},
                      Casts{"qwen3_5_moe_packed", "float32", "widened from BF16 to F32", 107, 0},
                      Casts{"qwen3_5_vl_dense", "bfloat16", "narrowed from F32 to BF16", 6, 6}));

TEST(CheckMegatron, AFolderThatIsNoneIsRefusedByWhatItLacks) {
  const auto check = [&](const std::string& folder) {
    return run({"check", "--model", golden_hf("qwen3").string(), "--megatron", folder});
  };
  const TempFolder folder;
  fs::create_directory(folder.path() / "iter_0000100");
  const Ended none = check(folder.path().string());
  EXPECT_EQ(none.code, 5) << none.all();
  EXPECT_NE(none.flat().find("holds no Megatron checkpoint"), std::string::npos) << none.all();
  EXPECT_EQ(none.all().find("config.json"), std::string::npos) << none.all();
  const Ended hf = check(golden_hf("qwen3").string());
  EXPECT_EQ(hf.code, 2) << hf.all();
  EXPECT_NE(hf.flat().find("--against"), std::string::npos) << hf.all();
}

/// An HF folder that another exporter made.
TEST(CheckAgainst, AnotherHfModelMustHoldTheSame) {
  const ModelCopy copy("qwen3");
  const auto check = [&] {
    return run(
        {"check", "--model", golden_hf("qwen3").string(), "--against", copy.folder.string()});
  };
  EXPECT_EQ(check().code, 0);
  for (const auto& entry : fs::directory_iterator(copy.folder)) {
    if (entry.path().filename().string().starts_with("model-00001")) {
      std::string text = file_text(entry.path());
      text.back() = static_cast<char>(text.back() ^ 1);
      write_text(entry.path(), text);
    }
  }
  const Ended changed = check();
  EXPECT_EQ(changed.code, 1) << changed.all();
  EXPECT_NE(changed.all().find("BV3001"), std::string::npos) << changed.all();
  const Ended both = run({"check", "--model", golden_hf("qwen3").string(), "--against",
                          copy.folder.string(), "--megatron", copy.folder.string()});
  EXPECT_EQ(both.code, 2) << both.all();
}

TEST(TorchDist, ConvertAsksForTheNames) {
  const TempFolder folder;
  const Ended ended = run({"convert", "--to", "hf", "--model", checkpoint_of("qwen3").string(),
                           "--out", folder / "hf"});
  EXPECT_NE(ended.code, 0);
  EXPECT_NE(ended.flat().find("--like DIR"), std::string::npos) << ended.all();
}

TEST(TorchDist, AnotherModelIsRefused) {
  const TempFolder folder;
  const Ended ended = run({"convert", "--to", "hf", "--model", checkpoint_of("qwen3").string(),
                           "--like", golden_hf("llama").string(), "--out", folder / "hf"});
  EXPECT_NE(ended.code, 0) << ended.all();
  EXPECT_FALSE(fs::exists(folder / "hf"));
}

}  // namespace
}  // namespace bv::e2e
