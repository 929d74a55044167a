// Every run of the real Megatron-Bridge in fixtures/golden/megatron is reproduced: same files,
// names, dtypes, shapes and bytes; and the way back gives the source, byte for byte, except what
// the values claim names.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/checkpoint/open_model.hpp"
#include "core/convert/convert.hpp"
#include "core/io/digest.hpp"
#include "core/io/writer.hpp"
#include "fixtures/maker/maker.hpp"
#include "tests/support/files.hpp"
#include "tests/support/golden_layout.hpp"
#include "tests/support/library.hpp"

namespace bv::convert {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

using support::catalogue;
using support::families;
using support::read_json;
using support::TempFolder;

const fs::path kGolden = support::golden();

/// name -> [dtype, shape, digest] of one shard file of ours.
Json describe(const fs::path& file) {
  auto checkpoint = io::Checkpoint::open(file);
  EXPECT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  Json out = Json::object();
  for (const auto& [name, stored] : checkpoint->tensors()) {
    io::Digest digest;
    digest.add(checkpoint->bytes(stored));
    out[name] =
        Json::array({std::string(bv::name(stored.spec.dtype)), stored.spec.shape, digest.hex()});
  }
  return out;
}

class Golden : public testing::TestWithParam<std::string> {};

void expect_equal_shards(const Json& run, const parallel::Layout& layout, const fs::path& folder) {
  std::set<std::string> expected_files;
  for (const Json& shard : run.at("shards")) {
    parallel::ShardKey key{shard.at("pp"), shard.at("tp"), shard.at("ep"), shard.at("etp"),
                           shard.value("vp", 0)};
    const std::string file = parallel::shard_name(key, layout) + ".safetensors";
    expected_files.insert(file);
    ASSERT_TRUE(fs::exists(folder / file)) << file;
    const Json ours = describe(folder / file);
    const Json& theirs = shard.at("tensors");
    EXPECT_EQ(ours.size(), theirs.size()) << file;
    for (const auto& [name, row] : theirs.items()) {
      ASSERT_TRUE(ours.contains(name)) << file << " " << name;
      EXPECT_EQ(ours.at(name), row) << file << " " << name;
    }
  }
  std::set<std::string> found_files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") {
      found_files.insert(entry.path().filename().string());
    }
  }
  EXPECT_EQ(found_files, expected_files);
}

void expect_equal_hf(const fs::path& source, const fs::path& back,
                     const std::set<std::string>& named_losses) {
  auto a = io::Checkpoint::open(source);
  auto b = io::Checkpoint::open(back);
  ASSERT_TRUE(a.has_value());
  ASSERT_TRUE(b.has_value()) << b.error().message;
  ASSERT_EQ(a->tensors().size(), b->tensors().size());
  for (const auto& [name, stored] : a->tensors()) {
    const auto there = b->tensors().find(name);
    ASSERT_NE(there, b->tensors().end()) << name;
    EXPECT_EQ(there->second.spec, stored.spec) << name;
    const auto wanted = a->bytes(stored);
    const auto found = b->bytes(there->second);
    const bool equal = std::equal(wanted.begin(), wanted.end(), found.begin(), found.end());
    EXPECT_EQ(equal, !named_losses.contains(name)) << name;
  }
}

/// What the bridge converted: a stored checkpoint, or the fixture of that name, made anew.
fs::path source_of(const Json& run, const fs::path& scratch) {
  const auto name = run.at("case").get<std::string>();
  if (fs::exists(kGolden / "hf" / name)) {
    return kGolden / "hf" / name;
  }
  const auto fixture = fixtures::builtin_fixture(name);
  EXPECT_TRUE(fixture.has_value()) << name;
  const auto plan = fixtures::plan_checkpoint(fixture.value(), families(), catalogue());
  EXPECT_TRUE(plan.has_value()) << plan.error().message;
  fs::create_directories(scratch / "hf");
  EXPECT_TRUE(fixtures::write_checkpoint(*plan, 0, scratch / "hf").has_value());
  return scratch / "hf";
}

void expect_reproduced_and_back(const Json& run) {
  const TempFolder scratch;
  const fs::path source = source_of(run, scratch.path());
  auto model = checkpoint::open_hf(source, families(), {});
  ASSERT_TRUE(model.has_value()) << model.error().message;
  ASSERT_TRUE(model->model.faults.empty()) << model->model.faults.front().message;
  const parallel::Layout layout = support::layout_of(run);
  convert::ConvertOptions options;
  options.dtype.params = dtype_from_name(run.at("params_dtype").get<std::string>());
  options.jobs = 2;
  const TempFolder temp;
  const auto there = convert::to_megatron(*model, catalogue(), layout, temp.path() / "m", options);
  ASSERT_TRUE(there.has_value()) << there.error().message;
  expect_equal_shards(run, layout, temp.path() / "m");

  auto folder = checkpoint::open_megatron(temp.path() / "m", families(), catalogue());
  ASSERT_TRUE(folder.has_value()) << folder.error().message;
  const auto back = convert::to_hf(*folder, catalogue(), temp.path() / "h", options);
  ASSERT_TRUE(back.has_value()) << back.error().message;
  EXPECT_TRUE(back->replicas.empty());
  EXPECT_TRUE(back->faults.empty());
  const auto losses = convert::find_losses(*model, options.dtype, 2);
  ASSERT_TRUE(losses.has_value()) << losses.error().message;
  std::set<std::string> named;
  for (const convert::ValueLoss& loss : *losses) {
    named.insert(loss.hf);
  }
  expect_equal_hf(source, temp.path() / "h", named);
}

std::string test_name(const testing::TestParamInfo<std::string>& param) {
  std::string name = param.param;
  std::replace_if(
      name.begin(), name.end(),
      [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return name;
}

TEST_P(Golden, IsReproducedAndComesBack) {
  expect_reproduced_and_back(read_json(kGolden / "megatron" / GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Megatron, Golden, testing::ValuesIn(support::golden_runs()), test_name);

std::vector<std::string> runs_of_families() {
  std::vector<std::string> out = support::files_below(kGolden / "megatron_families");
  std::erase_if(out, [](const std::string& file) { return !file.ends_with(".json"); });
  return out;
}

/// Digests alone, of families that came later (fixtures/golden/megatron_families).
class GoldenOfFamilies : public testing::TestWithParam<std::string> {};

TEST_P(GoldenOfFamilies, IsReproducedAndComesBack) {
  expect_reproduced_and_back(read_json(kGolden / "megatron_families" / GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Megatron, GoldenOfFamilies, testing::ValuesIn(runs_of_families()),
                         test_name);

/// Families of models that Megatron-Bridge 0.6.2 does not have.
const std::set<std::string> kNotOfTheBridge = {"arcee",
                                               "cohere",
                                               "cohere2",
                                               "cwm",
                                               "deepseek_v32",
                                               "dots1",
                                               "ernie4_5",
                                               "flex_olmo",
                                               "glm",
                                               "glm4",
                                               "gpt_neox",
                                               "granite",
                                               "granitemoe",
                                               "granitemoeshared",
                                               "hunyuan_v1_dense",
                                               "hunyuan_v1_moe",
                                               "hyperclovax",
                                               "jais2",
                                               "llama4",
                                               "llama4_text",
                                               "ministral",
                                               "ministral3",
                                               "mixtral",
                                               "olmo",
                                               "olmo2",
                                               "olmo3",
                                               "phi",
                                               "phi3",
                                               "phimoe",
                                               "qwen2_moe",
                                               "qwen2_vl",
                                               "seed_oss",
                                               "smollm3",
                                               "solar_open",
                                               "stablelm",
                                               "starcoder2",
                                               "vaultgemma",
                                               "youtu"};

std::string family_of(const std::string& name) {
  const fs::path stored = kGolden / "hf" / name / "config.json";
  if (!fs::exists(stored)) {
    return fixtures::builtin_fixture(name).value().family;
  }
  return model::choose_family(read_json(stored), families()).value()->name;
}

TEST(GoldenList, EveryFamilyOfTheBridgeHasTwoLayoutsOrMore) {
  std::map<std::string, std::set<std::string>> layouts;
  const std::map<std::string, std::vector<std::string>> runs = {
      {"megatron", support::golden_runs()}, {"megatron_families", runs_of_families()}};
  for (const auto& [folder, files] : runs) {
    for (const std::string& file : files) {
      const Json run = read_json(kGolden / folder / file);
      layouts[family_of(run.at("case"))].insert(fs::path(file).stem().string());
    }
  }
  for (const family::FamilyPtr& family : families()) {
    const std::size_t found = layouts[family->name].size();
    if (kNotOfTheBridge.contains(family->name)) {
      EXPECT_EQ(found, 0U) << family->name;
    } else {
      EXPECT_GE(found, 2U) << family->name;
    }
  }
}

TEST(GoldenList, HoldsAll144Runs) {
  EXPECT_EQ(support::golden_runs().size(), 144U);
}

}  // namespace
}  // namespace bv::convert
