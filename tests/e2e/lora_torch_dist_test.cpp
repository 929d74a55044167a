// Adapters and torch_dist checkpoints: convert writes the merge of the two; lora works on HF
// models.

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

std::string peft(const std::string& name, const std::string& part) {
  return support::golden("peft/" + name + "/" + part).string();
}

std::map<std::string, std::string> bytes_below(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) {
      out[fs::relative(entry.path(), folder).string()] = file_text(entry.path());
    }
  }
  return out;
}

class MergedTorchDist : public ::testing::TestWithParam<std::string> {};

TEST_P(MergedTorchDist, IsWhatConvertMakesOfTheMergedModel) {
  const TempFolder folder;
  const std::string base = peft(GetParam(), "base");
  const std::string adapter = peft(GetParam(), "adapter");
  const Ended merged =
      run({"lora", "merge", "--model", base, "--adapter", adapter, "--out", folder / "merged"});
  ASSERT_EQ(merged.code, 0) << merged.all();
  const Ended wanted =
      run({"convert", "--to", "torch_dist", "--model", folder / "merged", "--out", folder / "two"});
  ASSERT_EQ(wanted.code, 0) << wanted.all();
  const Ended found = run({"convert", "--to", "torch_dist", "--model", base, "--adapter", adapter,
                           "--out", folder / "one"});
  ASSERT_EQ(found.code, 0) << found.all();
  auto one = bytes_below(folder / "one");
  auto two = bytes_below(folder / "two");
  EXPECT_EQ(one.erase("iter_0000000/bridge-verify.json"), 1U);  // it names the adapter
  EXPECT_EQ(two.erase("iter_0000000/bridge-verify.json"), 1U);
  EXPECT_EQ(one, two);
  EXPECT_FALSE(fs::exists(folder / "one.bv-merged"));
  const auto check = [&](const std::string& model) {
    return run({"check", "--model", model, "--megatron", folder / "one"});
  };
  EXPECT_EQ(check(folder / "merged").code, 0);
  const Ended other = check(base);
  EXPECT_EQ(other.code, 1) << other.all();
}

INSTANTIATE_TEST_SUITE_P(Adapters, MergedTorchDist,
                         ::testing::Values("llama_all", "qwen35_dense", "rslora"));

TEST(LoraMerge, DoesNotTakeATorchDistCheckpointAsItsBase) {
  const TempFolder folder;
  const Ended ended = run({"lora", "merge", "--model", support::golden("torch_dist/qwen3").string(),
                           "--adapter", peft("llama_all", "adapter"), "--out", folder / "out"});
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_NE(ended.flat().find("a Megatron torch_dist checkpoint"), std::string::npos)
      << ended.all();
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(LoraMerge, WritesHfAloneAndNamesWhatWritesTorchDist) {
  const TempFolder folder;
  const Ended ended =
      run({"lora", "merge", "--to", "torch_dist", "--model", peft("llama_all", "base"), "--adapter",
           peft("llama_all", "adapter"), "--out", folder / "out"});
  EXPECT_EQ(ended.code, 2) << ended.all();
  EXPECT_NE(ended.flat().find("--to"), std::string::npos) << ended.all();
  EXPECT_FALSE(fs::exists(folder / "out"));
}

}  // namespace
}  // namespace bv::e2e
