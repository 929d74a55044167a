#include "core/parallel/parallel.hpp"
#include "tests/conditions/condition.hpp"

namespace bv::conditions {
namespace {

Provocation stages(const std::string& golden, Words words) {
  words.insert(words.end(), {"--make-vocab-size-divisible-by", "1"});
  return layout(golden, words);
}

Provocation split(const std::string& text, const std::string& golden = "llama") {
  return stages(golden, {"--pp", "2", "--pipeline-model-parallel-layout", text});
}

/// A fixture of this family on these stages.
Provocation made(const std::string& fixture, Words words) {
  return [fixture, words]() -> std::string {
    const support::TempFolder folder;
    const std::string model = folder / "model";
    const support::Ended ended = support::run({"fixture", "make", fixture, "--out", model});
    Words whole = {"check", "--only", "names", "--model", model};
    whole.insert(whole.end(), words.begin(), words.end());
    const support::Ended checked = ended.code == 0 ? support::run(whole) : ended;
    return checked.code == 0 ? "" : checked.all();
  };
}

/// The order that puts PP before DP is no option of the command: no layout of weights has it.
Provocation ranks(std::int64_t etp) {
  return [etp]() -> std::string {
    parallel::Layout layout;
    layout.tp = layout.pp = 2;
    layout.etp = etp;
    layout.pp_before_dp = true;
    const auto table = parallel::rank_table(layout, 8);
    return table ? "" : text_of(table.error());
  };
}

const std::string kFirst = "--decoder-first-pipeline-num-layers";
const std::string kLast = "--decoder-last-pipeline-num-layers";
const std::string kEmbedding = "--account-for-embedding-in-pipeline-split";
const std::string kLoss = "--account-for-loss-in-pipeline-split";

std::vector<Row> count_rows() {
  return {
      {"E030",
       "BV2002",
       {"PP=3 does not divide the 4 decoder layers", "a divisor of 4"},
       stages("llama", {"--pp", "3"}),
       stages("llama", {"--pp", "4"})},
      {"E030",
       "BV2002",
       {"PP=2 does not divide 5 = 4 decoder layers + 1 for embedding and loss"},
       stages("llama", {"--pp", "2", kLoss}),
       stages("llama", {"--pp", "2", kLoss, kEmbedding})},
      {"E031",
       "BV2002",
       {"VPP=3 does not divide the 2 layers of a pipeline rank", "a divisor of 2"},
       stages("llama", {"--pp", "2", "--vpp", "3"}),
       stages("llama", {"--pp", "2", "--vpp", "2"})},
      {"E032",
       "BV0003",
       {"two ways to split the layers are given at once"},
       stages("llama", {"--pp", "2", kFirst, "1", kEmbedding}),
       stages("llama", {"--pp", "2", kFirst, "1"})},
      {"E032",
       "BV0003",
       {"an explicit layout"},
       stages("llama", {"--pp", "2", kLoss, "--pipeline-model-parallel-layout", "Ett|ttL"}),
       split("Ett|ttL")},
      {"E033",
       "BV2002",
       {"3 of 4 layers are left for the 2 middle stages of PP=3", "a positive multiple of 2"},
       stages("llama", {"--pp", "3", kFirst, "1"}),
       stages("llama", {"--pp", "3", kFirst, "2"})},
      {"E033",
       "BV0003",
       {"PP=2 with both end stages given cannot have VPP=2"},
       stages("llama", {"--pp", "2", kFirst, "2", kLast, "2", "--vpp", "2"}),
       stages("llama", {"--pp", "2", kFirst, "2", kLast, "2"})},
      {"E037",
       "BV0003",
       {"VPP=2 needs PP > 1", "PP of at least 2"},
       stages("llama", {"--vpp", "2"}),
       stages("llama", {"--vpp", "2", "--pp", "2"})},
      {"E039",
       "BV0003",
       {"pipeline stage 1 starts on layer 2, which has no indexer of its own",
        "one of the layers 0-1, 3"},
       made("glm_moe_dsa", {"--pp", "2"}),
       made("glm_moe_dsa", {"--pp", "2", kFirst, "1"})},
      {"E039",
       "BV0003",
       {"PP=2 on a model that is built in one pipeline stage", "PP=1", "Gemma4DenseProvider"},
       made("gemma4_text", {"--pp", "2"}),
       made("gemma4_text/experts", {"--pp", "3"})},
      {"E038",
       "BV2002",
       {"PP=4 does not divide 3 = 2 decoder layers + 1 for embedding and loss"},
       stages("mixtral", {"--pp", "4", kEmbedding}),
       stages("mixtral", {"--pp", "4", kEmbedding, kLoss}),
       "a positive sum that the stages divide leaves each stage at least one place, so embedding "
       "and loss take nothing that is not there: the neighbour has two stages without a layer"},
  };
}

std::vector<Row> layout_text_rows() {
  return {
      {"E034",
       "BV0002",
       {"pipeline layout is not readable at column 5", R"("x" is not a layer letter)"},
       split("Ett|xttL"),
       split("Ett|ttL")},
      {"E034", "BV0002", {"a group ( is not closed"}, split("E(t|t"), split("E,t*2|(t)*2,L")},
      {"E035",
       "BV2009",
       {"pipeline layout places 3 decoder layers", "4 t"},
       split("Ett|tL"),
       split("Et|tttL")},
      {"E035",
       "BV2002",
       {"PP=2 does not divide the 3 stages of the pipeline layout"},
       split("Ett|tt|L"),
       split("Ett|tt||L")},
      {"E035",
       "BV2009",
       {"has E behind the first stage or L before the last"},
       split("|Etttt|L|"),
       split("E|tttt||L")},
      {"E036",
       "BV2009",
       {"places 0 MTP layers", "1 m"},
       split("Ett|ttL", "qwen3_5_dense_mtp"),
       split("Ett|ttmL", "qwen3_5_dense_mtp")},
      {"E036",
       "BV2009",
       {"has a decoder layer behind an MTP layer"},
       split("Ett|tmtL", "qwen3_5_dense_mtp"),
       split("Ett|tt|m|L", "qwen3_5_dense_mtp")},
      {"E036",
       "BV2009",
       {"has MTP layers in chunk 0 of a pipeline rank", "m in stage 2 or later"},
       split("Ett|ttm||L", "qwen3_5_dense_mtp"),
       split("Ett|tt|m|L", "qwen3_5_dense_mtp")},
  };
}

std::vector<Row> world_rows() {
  const auto world = [](const std::string& golden, Words words) {
    words.insert(words.begin(), "layout");
    words.insert(words.end(), {"--make-vocab-size-divisible-by", "1"});
    return command(golden, words);
  };
  return {
      {"E040",
       "BV2002",
       {"world size 6 is not a multiple of TP 2 x CP 1 x PP 2 = 4", "a multiple of 4"},
       world("llama", {"--tp", "2", "--pp", "2", "--world-size", "6"}),
       world("llama", {"--tp", "2", "--pp", "2", "--world-size", "8"})},
      {"E041",
       "BV2002",
       {"world size 6 is not a multiple of ETP 1 x EP 4 x PP 1 = 4", "a multiple of 4"},
       world("qwen3_moe", {"--tp", "1", "--ep", "4", "--etp", "1", "--world-size", "6"}),
       world("qwen3_moe", {"--tp", "1", "--ep", "4", "--etp", "1", "--world-size", "8"})},
      {"E042",
       "BV0003",
       {"DP is 2 and expert DP is 4", "TP x CP = 2, ETP x EP = 1"},
       ranks(1),
       ranks(2),
       "the command has one order of ranks; the table of ranks knows both"},
  };
}

}  // namespace

std::vector<Row> pipeline_rows() {
  std::vector<Row> out = count_rows();
  for (const auto& more : {layout_text_rows(), world_rows()}) {
    out.insert(out.end(), more.begin(), more.end());
  }
  return out;
}

}  // namespace bv::conditions
