// Which layouts a run looks at, and the ways to split a pipeline, from the command line to the
// shards and back.

#include <fmt/format.h>

#include <set>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

std::set<std::string> layouts_of(const std::vector<std::string>& words) {
  std::vector<std::string> line = {"check", "--json", "--only", "names,coverage"};
  line.insert(line.end(), words.begin(), words.end());
  const Ended ended = run(line);
  EXPECT_EQ(ended.code, 0) << ended.all();
  std::set<std::string> out;
  const auto json = nlohmann::json::parse(ended.out, nullptr, false);
  if (json.is_discarded()) {
    ADD_FAILURE() << ended.all();
    return out;
  }
  for (const auto& row : json.at("layouts")) {
    out.insert(row.at("id").get<std::string>());
  }
  return out;
}

const std::string kModel = golden_hf("qwen3_moe").string();

TEST(Layouts, AutoQuickAndAllNest) {
  const auto quick = layouts_of({"--model", kModel, "--layouts", "quick"});
  const auto chosen = layouts_of({"--model", kModel, "--layouts", "auto"});
  const auto all = layouts_of({"--model", kModel, "--layouts", "all"});
  EXPECT_EQ(quick.size(), 6U);
  EXPECT_GT(chosen.size(), quick.size());
  EXPECT_LE(chosen.size(), 64U);
  EXPECT_GE(all.size(), chosen.size());
  for (const std::string& id : chosen) {
    EXPECT_TRUE(all.contains(id)) << id;
  }
  EXPECT_EQ(layouts_of({"--model", kModel}), chosen) << "auto is what stands without a word";
  EXPECT_TRUE(all.contains("tp1pp1ep1etp1"));
  EXPECT_TRUE(all.contains("tp2pp1ep4etp2"));
  EXPECT_FALSE(all.contains("tp1pp1ep3etp1")) << "3 does not divide 8 experts";
}

TEST(Layouts, AllGoesUpToTheRanksAskedFor) {
  const auto two = layouts_of({"--model", kModel, "--layouts", "all", "--max-ranks", "2"});
  EXPECT_EQ(two, (std::set<std::string>{"tp1pp1ep1etp1", "tp1pp1ep1etp2", "tp1pp1ep2etp1",
                                        "tp1pp2ep1etp1", "tp2pp1ep1etp1", "tp2pp1ep1etp2",
                                        "tp2pp1ep2etp1"}));
}

TEST(Layouts, AFileNamesThem) {
  const TempFolder folder;
  write_text(folder.path() / "l.txt", "# two\n  tp2ep2etp1  \r\n\ntp1pp4\n");
  EXPECT_EQ(layouts_of({"--model", kModel, "--layouts", folder / "l.txt",
                        "--make-vocab-size-divisible-by", "1"}),
            (std::set<std::string>{"tp2pp1ep2etp1", "tp1pp4ep1etp1"}));
  write_text(folder.path() / "l.txt", "tp2ep3\n");
  const Ended illegal = run({"check", "--model", kModel, "--layouts", folder / "l.txt",
                             "--make-vocab-size-divisible-by", "1"});
  EXPECT_EQ(illegal.code, 5) << illegal.all();
  EXPECT_NE(illegal.err.find("EP=3 does not divide the 8 experts"), std::string::npos);
  const Ended wrong = run({"check", "--model", kModel, "--layouts", "quik"});
  EXPECT_EQ(wrong.code, 2) << wrong.all();
  EXPECT_NE(wrong.err.find("--layouts quik is neither auto, quick, all nor a file"),
            std::string::npos)
      << wrong.err;
}

/// Decoder layers of each stage, counted in the shard files.
std::vector<std::size_t> layers_of_stages(const TempFolder& folder,
                                          const std::vector<std::string>& files) {
  std::vector<std::size_t> out;
  for (const std::string& file : files) {
    std::set<std::string> layers;
    for (const auto& [name, tensor] : read_tensors(folder / ("m/" + file + ".safetensors"))) {
      constexpr std::string_view kStart = "decoder.layers.";
      if (name.starts_with(kStart)) {
        layers.insert(name.substr(0, name.find('.', kStart.size())));
      }
    }
    out.push_back(layers.size());
  }
  return out;
}

struct Split {
  std::string golden;
  std::vector<std::string> words;
  std::vector<std::string> files;
  std::vector<std::size_t> layers;
};

TEST(Layouts, EveryWayToSplitAPipelineComesBack) {
  const std::vector<std::string> two = {"pp0_tp0_ep0_etp0", "pp1_tp0_ep0_etp0"};
  const std::vector<std::string> four = {"pp0_tp0_ep0_etp0_vp0", "pp1_tp0_ep0_etp0_vp0",
                                         "pp0_tp0_ep0_etp0_vp1", "pp1_tp0_ep0_etp0_vp1"};
  const std::string embedding = "--account-for-embedding-in-pipeline-split";
  const std::string loss = "--account-for-loss-in-pipeline-split";
  const std::string text = "--pipeline-model-parallel-layout";
  for (const Split& split : std::vector<Split>{
           {"llama", {"--pp", "2", embedding, loss}, two, {2, 2}},
           {"llama", {"--pp", "2", "--set", "num_hidden_layers=4"}, two, {2, 2}},
           {"deepseek_v3", {"--pp", "2", embedding}, two, {1, 2}},
           {"deepseek_v3", {"--pp", "2", loss}, two, {2, 1}},
           {"mixtral",
            {"--pp", "4", embedding, loss},
            {"pp0_tp0_ep0_etp0", "pp1_tp0_ep0_etp0", "pp2_tp0_ep0_etp0", "pp3_tp0_ep0_etp0"},
            {0, 1, 1, 0}},
           {"llama", {"--pp", "2", text, "Et|tttL"}, two, {1, 3}},
           {"llama", {"--pp", "2", text, "E|t|(t|)*1ttL"}, four, {0, 1, 1, 2}},
           {"llama", {"--pp", "2", text, "Et*4||,|L"}, four, {4, 0, 0, 0}},
           {"qwen3_5_dense_mtp", {"--pp", "2", text, "Ett|tt|m|L"}, four, {2, 2, 0, 0}}}) {
    SCOPED_TRACE(split.golden + " " + fmt::format("{}", fmt::join(split.words, " ")));
    const TempFolder folder;
    std::vector<std::string> line = {
        "convert", "--to",      "megatron", "--model", golden_hf(split.golden).string(),
        "--out",   folder / "m"};
    line.insert(line.end(), split.words.begin(), split.words.end());
    const Ended there = run(line);
    ASSERT_EQ(there.code, 0) << there.all();
    EXPECT_EQ(layers_of_stages(folder, split.files), split.layers);
    const Ended back =
        run({"convert", "--to", "hf", "--model", folder / "m", "--out", folder / "h"});
    ASSERT_EQ(back.code, 0) << back.all();
    EXPECT_TRUE(read_tensors(folder / "h") == read_tensors(golden_hf(split.golden)));
  }
}

/// A fixture is made from the seed in every command that takes one.
TEST(Fixtures, SeedReachesEveryCommand) {
  const TempFolder folder;
  const auto shards = [&](const std::string& seed) {
    const std::string out = folder / ("m" + seed);
    const Ended ended = run(
        {"convert", "--to", "megatron", "--model", "fixture:llama", "--seed", seed, "--out", out});
    EXPECT_EQ(ended.code, 0) << ended.all();
    return file_text(out + "/pp0_tp0_ep0_etp0.safetensors");
  };
  EXPECT_NE(shards("1"), shards("2"));
  for (const char* seed : {"1", "2"}) {
    const Ended made = run(
        {"fixture", "make", "llama", "--seed", seed, "--out", folder / (std::string("f") + seed)});
    ASSERT_EQ(made.code, 0) << made.all();
  }
  const auto diff = [&](const char* seed) {
    return run({"diff", folder / "f1", "fixture:llama", "--seed", seed}).code;
  };
  EXPECT_EQ(diff("1"), 0);
  EXPECT_EQ(diff("2"), 1);
  // Where the bytes of a fixture are not looked at, a seed is refused.
  for (const auto& [words, code] :
       std::vector<std::pair<std::vector<std::string>, int>>{{{"check"}, 0},
                                                             {{"roundtrip"}, 0},
                                                             {{"layout"}, 2},
                                                             {{"inspect"}, 2},
                                                             {{"trace", "lm_head.weight"}, 2}}) {
    std::vector<std::string> line = words;
    line.insert(line.end(), {"--model", "fixture:llama", "--seed", "7"});
    const Ended ended = run(line);
    EXPECT_EQ(ended.code, code) << words.front() << ended.all();
  }
}

}  // namespace
}  // namespace bv::e2e
