#include <nlohmann/json.hpp>

#include "tests/ci/run_command.hpp"

namespace bv::cli {
namespace {

using Json = nlohmann::json;
using testing::hf_case;
using testing::run_line;

TEST(TraceCommand, FollowsAnHfElement) {
  const auto ended =
      run_line({"trace", "model.layers.1.self_attn.q_proj.weight", "20,7",
                "--make-vocab-size-divisible-by", "4", "--tp", "2", "--model", hf_case("llama")});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_NE(
      ended.out.find(
          "pp0_tp0_ep0_etp0:decoder.layers.1.self_attention.linear_qkv.weight[40, 7]   rank 0\n"),
      std::string::npos)
      << ended.out;
}

TEST(TraceCommand, FollowsAMegatronElementBack) {
  const auto ended = run_line(
      {"trace", "pp0_tp1_ep0_etp0:decoder.layers.1.self_attention.linear_qkv.weight", "[40, 7]",
       "--make-vocab-size-divisible-by", "4", "--tp", "2", "--model", hf_case("llama"), "--json"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  const Json json = Json::parse(ended.out);
  EXPECT_EQ(json.at("schema"), "bridge-trace/1");
  EXPECT_EQ(json.at("from"), "megatron");
  ASSERT_EQ(json.at("places").size(), 1U);
  EXPECT_EQ(json.at("places")[0].at("hf").dump(),
            R"({"index":[60,7],"tensor":"model.layers.1.self_attn.q_proj.weight"})");
  EXPECT_EQ(json.at("places")[0].at("ranks").dump(), "[1]");
}

TEST(TraceCommand, ListsRunsOfRowsWithoutAnIndex) {
  const auto ended =
      run_line({"trace", "decoder.layers.0.mlp.linear_fc1.weight", "--make-vocab-size-divisible-by",
                "4", "--tp", "2", "--model", hf_case("llama")});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_NE(ended.out.find("pp0_tp1_ep0_etp0:decoder.layers.0.mlp.linear_fc1.weight   rank 1\n"
                           "  [0:18, :] = model.layers.0.mlp.gate_proj.weight[18:36, :]\n"
                           "  [18:36, :] = model.layers.0.mlp.up_proj.weight[18:36, :]\n"),
            std::string::npos)
      << ended.out;
}

TEST(TraceCommand, ARowIndexAloneMeansTheRow) {
  const std::vector<std::string> model = {
      "--make-vocab-size-divisible-by", "4", "--tp", "2", "--model", hf_case("llama")};
  const auto with = [&](std::vector<std::string> line) {
    line.insert(line.end(), model.begin(), model.end());
    return run_line(line);
  };
  const auto row = with({"trace", "model.layers.1.self_attn.q_proj.weight", "20"});
  EXPECT_EQ(row.code, 0) << row.err;
  EXPECT_NE(row.out.find("pp0_tp0_ep0_etp0:decoder.layers.1.self_attention.linear_qkv.weight   "
                         "rank 0\n  [40, :] = model.layers.1.self_attn.q_proj.weight[20, :]\n"),
            std::string::npos)
      << row.out;
  const auto back = with({"trace", "decoder.layers.0.mlp.linear_fc1.weight", "20"});
  EXPECT_EQ(back.code, 0) << back.err;
  EXPECT_NE(back.out.find("  [20, :] = model.layers.0.mlp.up_proj.weight[20, :]\n"),
            std::string::npos)
      << back.out;
  const auto outside = with({"trace", "model.layers.1.self_attn.q_proj.weight", "4096"});
  EXPECT_EQ(outside.code, 2);
  EXPECT_EQ(with({"trace", "model.norm.weight", "0,0"}).code, 2);
}

TEST(TraceCommand, SaysZeroPadding) {
  const auto ended = run_line({"trace", "output_layer.weight", "131,0",
                               "--make-vocab-size-divisible-by", "4", "--model", hf_case("llama")});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_NE(ended.out.find("[131, 0] = zero padding"), std::string::npos) << ended.out;
}

TEST(TraceCommand, ListsEveryRankOfAWorld) {
  const auto ended =
      run_line({"trace", "model.norm.weight", "0", "--make-vocab-size-divisible-by", "4", "--tp",
                "2", "--world-size", "4", "--model", hf_case("llama"), "--json"});
  const Json json = Json::parse(ended.out);
  ASSERT_EQ(json.at("places").size(), 2U);
  EXPECT_EQ(json.at("places")[0].at("ranks").dump(), "[0,2]");
  EXPECT_EQ(json.at("places")[1].at("ranks").dump(), "[1,3]");
}

TEST(TraceCommand, NumbersLayersAndExpertsLocally) {
  const auto ended =
      run_line({"trace", "model.layers.3.mlp.experts.7.down_proj.weight", "0,0", "--pp", "2",
                "--ep", "2", "--model", hf_case("qwen3_moe"), "--json"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  const Json json = Json::parse(ended.out);
  ASSERT_EQ(json.at("places").size(), 1U);
  EXPECT_EQ(json.at("places")[0].at("shard"), "pp1_tp0_ep1_etp0.safetensors");
  EXPECT_EQ(json.at("places")[0].at("tensor"), "decoder.layers.1.mlp.experts.linear_fc2.weight3");
}

TEST(TraceCommand, RefusesWhatItDoesNotKnow) {
  const auto unknown =
      run_line({"trace", "model.layers.9.mlp.up_proj.weight", "--model", hf_case("llama")});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_NE(unknown.err.find("did you mean model.layers.0.mlp.up_proj.weight?"), std::string::npos)
      << unknown.err;
  for (const char* part : {"layers.0.mlp.up_proj", "up_proj", "model.*.0.*.up_proj"}) {
    const auto named = run_line({"trace", part, "--model", hf_case("llama")});
    EXPECT_EQ(named.code, 2);
    EXPECT_NE(named.err.find("did you mean model.layers.0.mlp.up_proj.weight?"), std::string::npos)
        << named.err;
  }
  const auto outside = run_line({"trace", "model.norm.weight", "24", "--model", hf_case("llama")});
  EXPECT_EQ(outside.code, 2);
  EXPECT_NE(outside.err.find("an index into shape [24]"), std::string::npos) << outside.err;
  EXPECT_EQ(run_line({"trace", "--model", hf_case("llama")}).code, 2);
  EXPECT_EQ(run_line({"trace", "model.norm.weight"}).code, 2);
  EXPECT_EQ(run_line({"trace", "model.norm.weight", "x", "--model", hf_case("llama")}).code, 2);
  EXPECT_EQ(run_line({"trace", "model.norm.weight", "--model", "/nowhere/at/all"}).code, 5);
}

TEST(TraceCommand, NeedsNoBytes) {
  const testing::TempFolder folder;
  const std::string dump = (folder.path() / "m.headers.json.gz").string();
  ASSERT_EQ(run_line({"inspect", "--model", hf_case("qwen3_5_moe"), "--dump-headers", dump}).code,
            0);
  const std::vector<std::string> query = {"trace",
                                          "model.layers.0.linear_attn.in_proj_qkv.weight",
                                          "--make-vocab-size-divisible-by",
                                          "4",
                                          "--tp",
                                          "2",
                                          "--json"};
  auto from_dump = query, from_bytes = query;
  from_dump.insert(from_dump.end(), {"--headers", dump});
  from_bytes.insert(from_bytes.end(), {"--model", hf_case("qwen3_5_moe")});
  const auto dumped = run_line(from_dump);
  ASSERT_EQ(dumped.code, 0) << dumped.err;
  EXPECT_EQ(Json::parse(dumped.out).at("places"),
            Json::parse(run_line(from_bytes).out).at("places"));
}

}  // namespace
}  // namespace bv::cli
