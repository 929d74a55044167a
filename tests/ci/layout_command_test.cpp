// `layout` against what the real Megatron-Core did: rank order, stages, tensors and bytes of every
// stored run.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/io/checkpoint.hpp"
#include "tests/ci/run_command.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;
using Ordered = nlohmann::ordered_json;
using Stored = nlohmann::json;  // finds a key among many at once
using testing::hf_case;
using testing::kGolden;
using testing::run_line;

std::vector<std::string> arguments_of(const Stored& run) {
  std::vector<std::string> out = {"layout", "--json", "--world-size", run.at("world").dump()};
  for (const char* size : {"tp", "pp", "ep", "etp", "vpp"}) {
    out.insert(out.end(), {fmt::format("--{}", size), run.at("layout").at(size).dump()});
  }
  return out;
}

std::vector<std::string> arguments_with_model(const Stored& run) {
  std::vector<std::string> out = arguments_of(run);
  const Stored& settings = run.at("settings");
  out.insert(out.end(), {"--model", hf_case(run.at("case")), "--dtype",
                         run.at("params_dtype") == "BF16" ? "bfloat16" : "float32"});
  if (settings.value("should_pad_vocab", false)) {
    out.insert(out.end(), {"--make-vocab-size-divisible-by",
                           settings.at("make_vocab_size_divisible_by").dump()});
  }
  for (const auto& [setting, option] :
       {std::pair("num_layers_in_first_pipeline_stage", "--decoder-first-pipeline-num-layers"),
        std::pair("num_layers_in_last_pipeline_stage", "--decoder-last-pipeline-num-layers")}) {
    if (settings.contains(setting)) {
      out.insert(out.end(), {option, settings.at(setting).dump()});
    }
  }
  return out;
}

template <class Document = Ordered>
Document run_json(const std::vector<std::string>& arguments) {
  const testing::Ended ended = run_line(arguments);
  EXPECT_EQ(ended.code, 0) << ended.err;
  return Document::parse(ended.out, nullptr, false);
}

/// The keys that the stored runs have.
Stored six_keys(const Stored& ranks) {
  Stored out = Stored::array();
  for (const Stored& row : ranks) {
    Stored one;
    for (const char* key : {"rank", "pp", "tp", "ep", "etp", "dp"}) {
      one[key] = row.at(key);
    }
    out.push_back(std::move(one));
  }
  return out;
}

std::vector<std::pair<std::string, Stored>> stored_runs() {
  std::vector<std::pair<std::string, Stored>> out;
  for (const std::string& file : support::golden_runs()) {
    out.emplace_back(file, support::read_json(kGolden / "megatron" / file));
  }
  return out;
}

TEST(LayoutCommand, ListsRanksInMegatronsOrderForEveryStoredRun) {
  const auto runs = stored_runs();
  ASSERT_EQ(runs.size(), 144U);
  for (const auto& [name, run] : runs) {
    const Stored ours = run_json<Stored>(arguments_of(run));
    EXPECT_EQ(six_keys(ours.at("ranks")), run.at("ranks")) << name;
    EXPECT_TRUE(ours.at("model").is_null());
    EXPECT_TRUE(ours.at("stages").empty());
  }
}

TEST(LayoutCommand, CountsTensorsAndBytesOfEveryStoredShard) {
  for (const auto& [name, run] : stored_runs()) {
    const Stored ours = run_json<Stored>(arguments_with_model(run));
    EXPECT_EQ(six_keys(ours.at("ranks")), run.at("ranks")) << name;
    std::map<std::string, std::pair<std::size_t, std::int64_t>> found, wanted;
    for (const Stored& shard : ours.at("shards")) {
      found[fmt::format("{} {} {} {} {}", shard.at("pp").dump(), shard.at("tp").dump(),
                        shard.at("ep").dump(), shard.at("etp").dump(), shard.at("vp").dump())] = {
          shard.at("tensors"), shard.at("bytes")};
    }
    for (const Stored& shard : run.at("shards")) {
      std::int64_t bytes = 0;
      for (const auto& [tensor, row] : shard.at("tensors").items()) {
        std::int64_t size = row.at(0) == "F32" ? 4 : 2;
        for (const Stored& extent : row.at(1)) {
          size *= extent.get<std::int64_t>();
        }
        bytes += size;
      }
      wanted[fmt::format("{} {} {} {} {}", shard.at("pp").dump(), shard.at("tp").dump(),
                         shard.at("ep").dump(), shard.at("etp").dump(), shard.value("vp", 0))] = {
          shard.at("tensors").size(), bytes};
    }
    EXPECT_EQ(found, wanted) << name;
  }
}

TEST(LayoutCommand, AddsContextAndExpertDataRanksOnlyWhereThereAreSome) {
  const Ordered one =
      run_json({"layout", "--make-vocab-size-divisible-by", "4", "--tp", "2", "--json"})
          .at("ranks")
          .at(0);
  EXPECT_FALSE(one.contains("cp"));
  EXPECT_FALSE(one.contains("edp"));
  const Ordered two = run_json({"layout", "--cp", "2", "--etp", "1", "--json"}).at("ranks").at(1);
  EXPECT_EQ(two.dump(), R"({"rank":1,"pp":0,"tp":0,"ep":0,"etp":0,"dp":0,"cp":1,"edp":1})");
}

TEST(LayoutCommand, PlacesVisionEmbeddingOutputAndMtp) {
  const Ordered stages =
      run_json({"layout", "--json", "--pp", "2", "--model", hf_case("qwen3_5_vl_moe_mtp_packed")})
          .at("stages");
  ASSERT_EQ(stages.size(), 2U);
  EXPECT_EQ(stages[0].dump(),
            R"({"pp":0,"vp":0,"first_layer":0,"layers":2,"embedding":true,"vision":true,)"
            R"("final_norm":false,"output":false,"first_mtp":0,"mtp_layers":0})");
  EXPECT_EQ(stages[1].dump(),
            R"({"pp":1,"vp":0,"first_layer":2,"layers":2,"embedding":false,"vision":false,)"
            R"("final_norm":true,"output":true,"first_mtp":0,"mtp_layers":1})");
}

TEST(LayoutCommand, SaysTheSameInWords) {
  const auto text =
      run_line({"layout", "--pp", "2", "--model", hf_case("qwen3_5_vl_moe_mtp_packed")});
  EXPECT_EQ(text.code, 0) << text.err;
  for (const char* line :
       {"layout   tp1pp2ep1etp1, world 2 (at least 2)",
        "  rank    pp    tp    ep   etp    dp\n     0     0     0     0     0     0\n",
        "  pp0  vision tower, embedding, layers 0-1\n",
        "  pp1  layers 2-3, final norm, MTP layer 0 with a copy of the embedding, output\n",
        "pp1_tp0_ep0_etp0.safetensors"}) {
    EXPECT_NE(text.out.find(line), std::string::npos) << line << "\n" << text.out;
  }
}

TEST(LayoutCommand, NamesTheShardsOfATensor) {
  const Ordered tensor =
      run_json({"layout", "--json", "--make-vocab-size-divisible-by", "4", "--tp", "2", "--model",
                hf_case("llama"), "--tensor", "model.layers.2.mlp.down_proj.weight"})
          .at("tensor");
  ASSERT_EQ(tensor.at("places").size(), 2U);
  EXPECT_EQ(tensor.at("places")[1].at("shape").dump(), "[24,18]");
  const auto unknown =
      run_line({"layout", "--model", hf_case("llama"), "--tensor", "nothing.at.all"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_NE(unknown.err.find("BV0002"), std::string::npos);
}

/// What a rank holds is what its shard files hold, and no more.
TEST(LayoutCommand, SaysWhatOneRankHolds) {
  const std::vector<std::string> line = {"layout", "--json",  "--make-vocab-size-divisible-by",
                                         "4",      "--tp",    "2",
                                         "--ep",   "2",       "--etp",
                                         "1",      "--model", hf_case("qwen3_moe")};
  const Ordered all = run_json(line);
  std::size_t tensors = 0;
  for (int rank = 0; rank < 2; ++rank) {
    std::vector<std::string> one = line;
    one.insert(one.end(), {"--rank", std::to_string(rank)});
    const Ordered json = run_json(one);
    ASSERT_EQ(json.at("ranks").size(), 1U);
    EXPECT_EQ(json.at("ranks")[0], all.at("ranks")[static_cast<std::size_t>(rank)]);
    std::size_t held = 0;
    for (const Ordered& shard : json.at("shards")) {
      EXPECT_NE(std::find(shard.at("ranks").begin(), shard.at("ranks").end(), Ordered(rank)),
                shard.at("ranks").end());
      held += shard.at("tensors").get<std::size_t>();
    }
    EXPECT_EQ(json.at("rank").at("tensors").size(), held);
    EXPECT_EQ(json.at("rank").at("experts"), 4);
    EXPECT_EQ(json.at("rank").at("first_expert"), 4 * rank);
    tensors += held;
  }
  EXPECT_GT(tensors, 0U);
  const auto outside = run_line({"layout", "--tp", "2", "--rank", "2"});
  EXPECT_EQ(outside.code, 2);
  EXPECT_NE(outside.err.find("0 to 1"), std::string::npos) << outside.err;
}

TEST(LayoutCommand, NeedsAConfigOnly) {
  const auto bare = run_line({"layout", "--make-vocab-size-divisible-by", "4", "--tp", "2",
                              "--model", hf_case("qwen3") + "/config.json"});
  EXPECT_EQ(bare.code, 0) << bare.err;
  EXPECT_NE(bare.err.find("note: no weights and no headers"), std::string::npos);
}

TEST(LayoutCommand, RefusesWorldsAndLayoutsThatDoNotFit) {
  EXPECT_EQ(
      run_line({"layout", "--make-vocab-size-divisible-by", "4", "--tp", "2", "--world-size", "3"})
          .code,
      5);
  EXPECT_EQ(run_line({"layout", "--tp", "2,4"}).code, 2);
  EXPECT_EQ(run_line({"layout", "--tensor", "x"}).code, 2);
  const auto three = run_line({"layout", "--tp", "3", "--model", hf_case("llama")});
  EXPECT_EQ(three.code, 5);
  EXPECT_NE(three.err.find("legal TP for this model"), std::string::npos);
  EXPECT_NE(run_line({"layout", "--world-size", "999999999999"}).code, 0);
}

}  // namespace
}  // namespace bv::cli
