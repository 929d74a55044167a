// Sizes that nothing has: in a config, a manifest, a rules file, a header. Each is refused before
// anything is made of it, whatever field it stands in, and names of a megabyte are told in a line.

#include <fmt/format.h>

#include <cstring>
#include <fstream>

#include "core/base/tensor_spec.hpp"
#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

/// What the process takes before it looks at anything.
std::uint64_t baseline_bytes() {
  static const std::uint64_t bytes = run({"--version"}).peak_bytes;
  return bytes;
}

constexpr std::uint64_t kRefusalBytesMax = std::uint64_t{100} << 20U;

/// Generous against what a refusal takes (milliseconds and a few MiB), far below what a sweep would
/// take.
Ended run_small(const std::vector<std::string>& words) {
  Setting setting;
  setting.limit_seconds = 60;
  setting.limits = hostile_limits();
  setting.limits.memory_bytes = std::min(setting.limits.memory_bytes, std::uint64_t{1} << 30);
  Ended ended = run_in(setting, words);
  EXPECT_TRUE(ended.code == 0 || ended.code == 1 || ended.code == 2 || ended.code == 3 ||
              ended.code == 5)
      << ended.code << "\n"
      << ended.all();
  EXPECT_LT(ended.all().size(), 65'536U);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_GT(baseline_bytes(), 0U);
  EXPECT_LT(ended.peak_bytes, baseline_bytes() + kRefusalBytesMax);
#endif
  return ended;
}

const std::vector<std::string>& absurd_sizes() {
  static const std::vector<std::string> all = {"2147483648", "1099511627776",
                                               "4611686018427387904"};
  return all;
}

/// Every whole number of a config, as a path for --set.
void whole_numbers(const ordered_json& level, const std::string& path,
                   std::vector<std::string>& out) {
  for (const auto& [key, value] : level.items()) {
    const std::string here = path.empty() ? key : path + "." + key;
    if (value.is_number_integer()) {
      out.push_back(here);
    } else if (value.is_object()) {
      whole_numbers(value, here, out);
    }
  }
}

class AbsurdSizes : public ::testing::TestWithParam<const char*> {};

TEST_P(AbsurdSizes, OfAnyFieldOfTheConfigAreRefusedAtOnce) {
  const std::string model = golden_hf(GetParam()).string();
  std::vector<std::string> fields;
  whole_numbers(ordered_json::parse(file_text(golden_hf(GetParam()) / "config.json")), "", fields);
  ASSERT_GT(fields.size(), 6U);
  int refused = 0;
  for (const std::string& field : fields) {
    for (const std::string& size : absurd_sizes()) {
      SCOPED_TRACE(field + "=" + size);
      const std::string set = field + "=" + size;
      const Ended check = run_small({"check", "--model", model, "--set", set, "--tp", "2",
                                     "--make-vocab-size-divisible-by", "1"});
      refused += check.code == 0 ? 0 : 1;
      run_small({"layout", "--model", model, "--set", set});
    }
  }
  EXPECT_GT(refused, 12) << "sizes are what most of these numbers are";
}

/// One model of each family of the goldens.
INSTANTIATE_TEST_SUITE_P(Models, AbsurdSizes,
                         ::testing::Values("llama", "qwen2", "qwen3", "qwen3_moe_packed", "mixtral",
                                           "gemma3_text", "gpt_oss", "glm4_moe", "deepseek_v3",
                                           "qwen3_next", "qwen3_5_dense_mtp", "qwen3_5_moe",
                                           "qwen3_5_token_cls", "qwen3_vl", "qwen3_vl_moe",
                                           "qwen3_5_vl_dense_mtp_tied",
                                           "qwen3_5_vl_moe_mtp_packed"));

/// A dump of headers states sizes that no file stands behind.
TEST(AbsurdSize, OfAHeadersDumpIsRefusedOrJudgedWithoutMemory) {
  const TempFolder folder;
  const std::string dump = folder / "d.json";
  ASSERT_EQ(run({"inspect", "--model", golden_hf("qwen3_moe_packed").string(), "-q",
                 "--dump-headers", dump})
                .code,
            0);
  const std::string before = file_text(dump);
  const auto flat = ordered_json::parse(before).flatten();
  int changed = 0;
  for (const auto& [path, value] : flat.items()) {
    const bool first_layers = path.find(".layers.1") == std::string::npos &&
                              path.find(".layers.2") == std::string::npos &&
                              path.find(".layers.3") == std::string::npos;
    if (!value.is_number_integer() || !first_layers || path.starts_with("/config/")) {
      continue;
    }
    ++changed;
    for (const std::string& size : {absurd_sizes()[0], absurd_sizes()[2]}) {
      SCOPED_TRACE(path + " " + size);
      auto edited = ordered_json::parse(before);
      edited[ordered_json::json_pointer(path)] = ordered_json::parse(size);
      write_text(dump, edited.dump());
      EXPECT_NE(run_small({"check", "--headers", dump, "--tp", "1,2"}).code, 0);
    }
  }
  EXPECT_GT(changed, 20);
}

/// The claims that a wrong shape stands in the way of say so, and are not told as causes.
TEST(AbsurdSize, ARefutedShapeLeavesSweepsUnreached) {
  const Ended ended =
      run_small({"check", "--model", golden_hf("llama").string(), "--set", "intermediate_size=1000",
                 "--tp", "2", "--make-vocab-size-divisible-by", "1"});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.out.find("error[BV2001]"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("2 rules not reached"), std::string::npos) << ended.out;
  EXPECT_EQ(ended.out.find("BV1020"), std::string::npos) << ended.out;
}

TEST(AbsurdSize, OfAManifestIsRefused) {
  const TempFolder folder;
  const std::string m = folder / "m";
  ASSERT_EQ(
      run({"convert", "--to", "megatron", "--model", golden_hf("llama").string(), "--out", m}).code,
      0);
  const std::string before = file_text(m + "/manifest.json");
  for (const char* field : {"tp", "pp", "ep", "etp", "vpp", "make_vocab_size_divisible_by"}) {
    for (const std::string& size : {std::string("0"), std::string("-1"), std::string("1048576"),
                                    absurd_sizes()[0], absurd_sizes()[1], absurd_sizes()[2]}) {
      SCOPED_TRACE(std::string(field) + " " + size);
      auto manifest = ordered_json::parse(before);
      manifest["layout"][field] = ordered_json::parse(size);
      write_text(m + "/manifest.json", manifest.dump());
      EXPECT_NE(run_small({"convert", "--to", "hf", "--model", m, "--out", folder / "h"}).code, 0);
      EXPECT_FALSE(fs::exists(folder / "h"));
      run_small({"layout", "--model", m});
    }
  }
}

TEST(AbsurdSize, OfARulesFileIsRefused) {
  const TempFolder folder;
  const std::string model = golden_hf("qwen3").string();
  const fs::path rules = fs::path(BV_FIXTURES) / "rules/qwen3.rules.json";
  const std::string before = file_text(rules);
  const auto json = ordered_json::parse(before).flatten();
  int changed = 0;
  for (const auto& [path, value] : json.items()) {
    if (!value.is_number_integer()) {
      continue;
    }
    ++changed;
    for (const std::string& size : absurd_sizes()) {
      SCOPED_TRACE(path + " " + size);
      auto edited = ordered_json::parse(before);
      edited[ordered_json::json_pointer(path)] = ordered_json::parse(size);
      write_text(folder.path() / "r.json", edited.dump());
      run_small({"check", "--model", model, "--rules", folder / "r.json"});
      run_small({"rules", "lint", folder / "r.json", "--model", model});
    }
  }
  RecordProperty("numbers", changed);
}

/// Names and shapes that nobody could read whole.
TEST(LongText, OfAHeaderIsToldInALine) {
  const TempFolder folder;
  EditedCheckpoint model = EditedCheckpoint::golden("llama");
  for (int i = 0; i < 20; ++i) {
    model.tensors[std::string(100'000, static_cast<char>('a' + i))] = {
        DType::F32, {1}, std::vector<std::byte>(4)};
  }
  model.tensors["many"] = {DType::F32, Shape(40'000, 1), std::vector<std::byte>(4)};
  model.tensors["zero\xe2\x80\x8bwidth\xe2\x80\xaeright"] = {
      DType::F32, {1}, std::vector<std::byte>(4)};
  model.write(folder / "m");
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"check"},
        {"roundtrip"},
        {"inspect"},
        {"layout"},
        {"convert", "--to", "megatron", "--out", folder / "o"}}) {
    std::vector<std::string> line = words;
    line.insert(line.end(), {"--model", folder / "m"});
    const Ended ended = run_small(line);
    EXPECT_EQ(ended.all().find("\xe2\x80\x8b"), std::string::npos) << words.front();
    EXPECT_EQ(ended.all().find("\xe2\x80\xae"), std::string::npos) << words.front();
  }
  run_small({"diff", golden_hf("llama").string(), folder / "m"});
  run_small({"diff", folder / "m", golden_hf("llama").string()});
  const std::string hostile = folder / "x\x1b[31m\xe2\x80\x8b";
  for (const char* command : {"check", "roundtrip", "inspect"}) {
    const Ended ended = run_small({command, "--model", hostile});
    EXPECT_EQ(ended.all().find('\x1b'), std::string::npos) << command;
    EXPECT_EQ(ended.all().find("\xe2\x80\x8b"), std::string::npos) << command;
  }
}

/// A tensor of holes behind those of a golden model.
void write_with_holes(const fs::path& folder, std::uint64_t bytes) {
  EditedCheckpoint::golden("llama").write(folder);
  const fs::path file = folder / "model.safetensors";
  std::string text = file_text(file);
  std::uint64_t length = 0;
  std::memcpy(&length, text.data(), sizeof length);
  auto header = ordered_json::parse(text.substr(8, length));
  const std::uint64_t data = text.size() - 8 - length;
  header["model.stray.weight"] = {
      {"dtype", "BF16"}, {"shape", {bytes / 2}}, {"data_offsets", {data, data + bytes}}};
  const std::string made = header.dump();
  const std::uint64_t size = made.size();
  std::string start(8, '\0');
  std::memcpy(start.data(), &size, sizeof size);
  write_text(file, start + made + text.substr(8 + length));
  fs::resize_file(file, fs::file_size(file) + bytes);
}

TEST(LargeTensor, OfOneSideAloneIsNotKeptInMemory) {
  const TempFolder folder;
  constexpr std::uint64_t kHoles = std::uint64_t{1} << 30;
  write_with_holes(folder.path() / "m", kHoles);
  const std::string model = folder / "m";
  const std::string golden = golden_hf("llama").string();
  for (const std::vector<std::string>& words : {std::vector<std::string>{"diff", golden, model},
                                                {"diff", model, golden},
                                                {"diff", model, model},
                                                {"check", "--model", model},
                                                {"inspect", "--model", model}}) {
    std::uint64_t highest = 0;
    const Ended ended =
        run(words, {}, [&](pid_t child) { highest = std::max(highest, resident_peak(child)); });
    EXPECT_TRUE(ended.code == 0 || ended.code == 1) << ended.all();
    EXPECT_LT(highest, kHoles / 2) << words[0];
  }
}

}  // namespace
}  // namespace bv::e2e
