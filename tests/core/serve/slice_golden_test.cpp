// Every case that vLLM 0.33.0 was run on: our slices lie where its base layers put their own rows,
// and what vLLM places rightly we place equally.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "core/lora/adapter_config.hpp"
#include "core/serve/slice.hpp"

namespace bv::lora {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
const fs::path kVllm = fs::path(BV_FIXTURES) / "golden/vllm";

Json vllm_json(const std::string& name) {
  std::ifstream in(kVllm / name);
  return Json::parse(in);
}

LayerKind kind_of(const std::string& layer) {
  if (layer.starts_with("MergedColumn")) {
    return LayerKind::MergedColumn;
  }
  if (layer.starts_with("QKV")) {
    return LayerKind::Qkv;
  }
  return layer.starts_with("Column") ? LayerKind::Column
         : layer.starts_with("Row")  ? LayerKind::Row
                                     : LayerKind::Replicated;
}

struct Asked {
  ServedLayer layer;
  std::vector<std::optional<Member>> members;
  Serving serving;
};

Asked asked(const Json& in) {
  Asked out;
  out.layer.name = in.at("module");
  out.layer.kind = kind_of(in.at("layer"));
  out.layer.slices = in.at("full_rows").get<std::vector<std::int64_t>>();
  out.layer.columns = in.at("input_size");
  if (in.contains("qkv")) {
    out.layer.kv_heads = in.at("qkv").at("kv_heads");
  }
  if (in.value("disable_tp", false)) {
    out.layer.whole.assign(out.layer.slices.size(), true);
  }
  out.serving = {in.at("tp_size"), in.at("fully_sharded"), in.at("max_lora_rank")};
  for (const Json& member : in.at("members")) {
    if (member.is_null()) {
      out.members.emplace_back();
      continue;
    }
    const std::int64_t rank = member.at("rank");
    out.members.push_back(
        Member{member.value("a_rank", rank), member.value("a_cols", out.layer.columns),
               member.at("b_rows").get<std::int64_t>(), member.value("b_rank", rank)});
  }
  return out;
}

/// Rows of the fused checkpoint tensor on a rank, in order.
std::vector<std::int64_t> base_rows(const Json& rank) {
  std::vector<std::int64_t> out;
  for (const Json& run : rank.at("base_rows")) {
    for (std::int64_t i = run[0]; i < run[1]; ++i) {
      out.push_back(run[2].get<std::int64_t>() + i - run[0].get<std::int64_t>());
    }
  }
  return out;
}

/// The same rows of our slices: a member's row is that of the first slice it covers and on; `cover`
/// says how many slices each member has. -1: no member.
std::vector<std::int64_t> our_rows(const std::vector<SliceShard>& rank, const Asked& question,
                                   const std::vector<std::int64_t>& cover) {
  std::vector<std::int64_t> first_row;
  std::int64_t at = 0;
  std::int64_t slice = 0;
  for (const std::int64_t count : cover) {
    first_row.push_back(at);
    for (std::int64_t i = 0; i < count; ++i) {
      at += question.layer.slices[static_cast<std::size_t>(slice++)];
    }
  }
  std::vector<std::int64_t> out;
  for (const SliceShard& shard : rank) {
    for (std::int64_t i = 0; i < shard.b_rows; ++i) {
      out.push_back(shard.member ? first_row[*shard.member] + shard.b_from_rows.begin + i : -1);
    }
  }
  return out;
}

void expect_equal_to_vllm(const SliceShard& ours, const Json& theirs) {
  EXPECT_EQ(Json({ours.a_rows, ours.a_columns}), theirs.at("a_shape"));
  EXPECT_EQ(Json({ours.b_rows, ours.b_columns}), theirs.at("b_shape"));
  if (!ours.member) {
    for (const Json& run : theirs.at("b")) {
      EXPECT_EQ(run[2], -1);
    }
    return;
  }
  const auto member = static_cast<std::int64_t>(*ours.member);
  const auto runs = [&](std::int64_t buffer, const Interval& from) {
    Json out = Json::array();
    if (from.size() > 0) {
      out.push_back(Json({std::int64_t{0}, from.size(), member, from.begin}));
    }
    if (from.size() < buffer) {
      out.push_back(Json({from.size(), buffer, -1, -1}));
    }
    return out;
  };
  EXPECT_EQ(theirs.at("a"), runs(ours.a_rows, ours.a_from_rows));
  EXPECT_EQ(theirs.at("b"), runs(ours.b_rows, ours.b_from_rows));
}

/// What the rulings say against vLLM, or of a case that vLLM does not reach: by id.
const std::set<std::string>& refused_by_us() {
  static const std::set<std::string> ids = {
      "TV-35a",
      "TV-35b",
      "TV-38a",
      "TV-38d",
      "TV-39-short-A-fs1",
      "TV-39-short-A-tp2",
      "TV-39-short-A-n3",
      "TV-40-tp1",
      "TV-40-tp2",
      "TV-40-long-tp1",
      "TV-40-long-tp2",
      "TV-40-long-first-tp2",
      "TV-41a",
      "TV-41b",
      "TV-41-long",
      "TV-41-much-short",
      "TV-45a",
      "sum-short-tp1",
      "sum-long-tp1",
      "prefix-short",
      "n3-equal-count-short-middle",
      "n3-equal-count-long-middle",
      "rank-over-max",
      "a-b-rank-mismatch-tp1",
      "a-cols-too-wide",
      "a-cols-too-narrow",
      "fs-R1-tp2",
      "one-slice-short-tp1",
      "one-slice-long-tp1",
      "size-not-divisible-tp2",
      "rank-over-max-fs-tp2",
  };
  return ids;
}

TEST(SliceGolden, OurSlicesLieWhereTheBaseLayerPutsItsRows) {
  std::int64_t placed = 0;
  std::int64_t equal = 0;
  std::set<std::string> refusals;
  std::set<std::string> by_section;
  for (const std::string group :
       {"qwen35-gdn", "qwen3next-gdn", "two-slices", "n-slices", "qkv", "plain", "mismatch"}) {
    const Json file = vllm_json("cases-" + group + ".json");
    for (const Json& one : file.at("cases")) {
      const std::string id = one.at("id");
      SCOPED_TRACE(group + ": " + id);
      const Json& in = one.at("in");
      const Asked question = asked(in);
      const auto cut = in.contains("drop_a")
                           ? Result<std::vector<std::vector<SliceShard>>>(
                                 fail(Code::AdapterPairBroken, "a pair lacks its A"))
                           : slice_layer(question.layer, question.members, {}, question.serving);
      const Json& ranks = one.at("out").at("ranks");
      const Json& tag = one.at("section12");
      const std::string section = tag.is_string() ? tag.get<std::string>() : tag.dump();
      if (!cut) {
        refusals.insert(id);
        EXPECT_FALSE(section.starts_with("spec_ok")) << cut.error().message;
        continue;
      }
      EXPECT_FALSE(section.starts_with("spec_error"));
      for (std::size_t t = 0; t < ranks.size(); ++t) {
        if (ranks[t].contains("base_rows")) {
          auto ours = our_rows((*cut)[t], question, in.at("cover"));
          const auto base = base_rows(ranks[t]);
          ASSERT_EQ(ours.size(), base.size());
          for (std::size_t x = 0; x < base.size(); ++x) {
            EXPECT_TRUE(ours[x] == -1 || ours[x] == base[x]) << "row " << x;
          }
          ++placed;
        } else if (ranks[t].contains("base_cols")) {
          const Json& run = ranks[t].at("base_cols")[0];
          const SliceShard& shard = (*cut)[t][0];
          EXPECT_EQ(shard.a_from_columns,
                    (Interval{run[2], run[2].get<std::int64_t>() + run[1].get<std::int64_t>()}));
          EXPECT_EQ(shard.a_columns, shard.a_from_columns.size());
          ++placed;
        }
        // One fused tensor is one slice there: its rows are compared above.
        if (section == "agree" && ranks[t].contains("slices") &&
            ranks[t].at("slices").size() == (*cut)[t].size()) {
          for (std::size_t i = 0; i < (*cut)[t].size(); ++i) {
            expect_equal_to_vllm((*cut)[t][i], ranks[t].at("slices")[i]);
          }
          ++equal;
        }
      }
    }
  }
  EXPECT_GE(placed, 150);
  EXPECT_GE(equal, 100);
  for (const std::string& id : refused_by_us()) {
    EXPECT_TRUE(refusals.contains(id)) << id << " must be refused";
  }
}

/// One token through its kernels: the rows that a rank adds a delta to. Where they are not those of
/// its base layer, the fault is its own (D-19), and the test says which cases that are.
TEST(SliceGolden, DeltasOfAForwardAreAddedToTheRowsOfTheBaseLayer) {
  const Json file = vllm_json("cases-forward.json");
  std::set<std::string> wrong_there;
  for (const Json& one : file.at("cases")) {
    SCOPED_TRACE(one.at("id"));
    const Json& in = one.at("in");
    Asked question;
    question.layer.name = in.at("module");
    question.layer.kind = kind_of(in.at("layer"));
    question.layer.slices =
        in.at(in.contains("qkv") ? "full_rows" : "output_sizes").get<std::vector<std::int64_t>>();
    question.layer.columns = 4;
    if (in.contains("qkv")) {
      question.layer.kv_heads = in.at("qkv").at("kv_heads");
    }
    question.serving = {in.at("tp_size"), false, 2};
    std::vector<std::int64_t> rows;
    for (std::size_t j = 0; j < in.at("member_rows").size(); ++j) {
      rows.push_back(in.at("member_rows")[j]);
      question.members.push_back(
          in.at("present")[j] == 1 ? std::optional(Member{2, 4, rows.back(), 2}) : std::nullopt);
    }
    const auto cut = slice_layer(question.layer, question.members, {}, question.serving);
    ASSERT_TRUE(cut) << cut.error().message;
    std::vector<std::int64_t> first_row(rows.size());
    std::exclusive_scan(rows.begin(), rows.end(), first_row.begin(), std::int64_t{0});
    const Json& ranks = one.at("out").at("ranks");
    for (std::size_t t = 0; t < ranks.size(); ++t) {
      std::vector<std::int64_t> ours;
      for (const SliceShard& shard : (*cut)[t]) {
        for (std::int64_t i = 0; i < shard.b_rows; ++i) {
          ours.push_back(shard.member ? first_row[*shard.member] + shard.b_from_rows.begin + i
                                      : -1);
        }
      }
      std::vector<std::int64_t> wanted = ranks[t].at("base_rows");
      for (std::size_t x = 0; x < wanted.size(); ++x) {
        wanted[x] = ours.size() == wanted.size() && ours[x] == -1 ? -1 : wanted[x];
      }
      EXPECT_EQ(ours, wanted);
      if (Json(ours) != ranks[t].at("lora_rows")) {
        wrong_there.insert(one.at("id"));
      }
    }
    EXPECT_EQ(std::count(in.at("present").begin(), in.at("present").end(), 0) > 0,
              std::any_of((*cut)[0].begin(), (*cut)[0].end(),
                          [](const SliceShard& shard) { return !shard.member; }));
  }
  EXPECT_EQ(wrong_there,
            (std::set<std::string>{"fwd-q3n-qkvz-tp2", "fwd-q3n-ba-tp2", "fwd-one-uneq-tp2"}));
}

ScaleKind kind_of_scale(const Json& member) {
  return member.at("scaling_argument").is_null() ? ScaleKind::Lora : ScaleKind::RsLora;
}

/// The factor that the runtime folds into the B of each member is the scale that we write.
TEST(SliceGolden, ScalesOfMembersAreThoseThatTheRuntimeFoldsIn) {
  const Json file = vllm_json("cases-pack.json");
  std::map<std::string, int> kinds;
  for (const Json& one : file.at("cases")) {
    SCOPED_TRACE(one.at("id"));
    ++kinds[one.at("kind").get<std::string>()];
    const Json& in = one.at("in");
    const Json& out = one.at("out");
    if (one.at("kind") == "pack" && out.contains("b_factor")) {
      for (std::size_t j = 0; j < in.at("members").size(); ++j) {
        const Json& member = in.at("members")[j];
        const Json& factor = out.at("b_factor")[j];
        EXPECT_EQ(member.is_null(), factor.is_null());
        if (!member.is_null()) {
          EXPECT_EQ(scale64(kind_of_scale(member), member.at("alpha"), member.at("rank")),
                    factor.get<double>());
        }
      }
    }
    if (one.at("kind") == "direct_slice") {  // a list of another length is refused, not cut short
      Asked question;
      question.layer.name = "layer";
      question.layer.kind = kind_of(in.at("layer"));
      question.layer.slices = in.contains("qkv")
                                  ? std::vector<std::int64_t>{8, 4, 4}
                                  : in.at("output_sizes").get<std::vector<std::int64_t>>();
      question.layer.kv_heads = 2;
      question.layer.columns = 4;
      const std::size_t length = in.at("list_length");
      for (std::size_t j = 0; j < length; ++j) {
        const std::int64_t rows =
            j < question.layer.slices.size() ? question.layer.slices[j] : std::int64_t{4};
        question.members.push_back(Member{2, 4, rows, 2});
      }
      const auto cut = slice_layer(question.layer, question.members, {}, {2, true, 8});
      EXPECT_EQ(cut.has_value(), length == question.layer.slices.size());
    }
    if (one.at("kind") == "failed_set") {  // there half of it is in the slot; here nothing is cut
      const Json& second = in.at("second_members_b_rows_and_rank");
      Asked question;
      question.layer = {"layer",
                        LayerKind::MergedColumn,
                        in.at("output_sizes").get<std::vector<std::int64_t>>(),
                        4,
                        0,
                        {}};
      for (const Json& member : second) {
        question.members.push_back(Member{member[1], 4, member[0], member[1]});
      }
      const auto cut = slice_layer(question.layer, question.members, {}, {1, false, 8});
      // 6 and 4 rows cover [2 2 3 3] in no way, rank 9 does not fit a buffer of 8.
      EXPECT_FALSE(cut);
      EXPECT_TRUE(out.contains("error"));
    }
  }
  EXPECT_EQ(kinds, (std::map<std::string, int>{
                       {"pack", 6}, {"pack_moe", 5}, {"direct_slice", 6}, {"failed_set", 4}}));
}

TEST(SliceGolden, OurDispatchServesAtLeastWhatVllmServesOnce) {
  const Json file = vllm_json("cases-dispatch.json");
  const std::map<std::string, LayerKind> kinds = {{"merged", LayerKind::MergedColumn},
                                                  {"merged_subclass", LayerKind::MergedColumn},
                                                  {"qkv", LayerKind::Qkv},
                                                  {"qkv_subclass", LayerKind::Qkv},
                                                  {"column", LayerKind::Column},
                                                  {"row", LayerKind::Row},
                                                  {"replicated", LayerKind::Replicated}};
  std::int64_t rows = 0;
  for (const Json& row : file.at("rows")) {
    const LayerKind kind = kinds.at(row[0]);
    const std::int64_t p = row[1];
    const std::int64_t n = row[2];
    const ServedLayer layer{
        "layer", kind, std::vector<std::int64_t>(static_cast<std::size_t>(n), 4), 4, 2, {}};
    const auto served = members_served(layer, p, false);
    const bool claimed = row[6] != -1;
    const bool fits = kind == LayerKind::MergedColumn ? p <= n
                      : kind == LayerKind::Qkv        ? true
                                                      : p <= 1;
    if (claimed && fits && p > 0) {
      EXPECT_TRUE(served) << row.dump();
    }
    // Never by way of tensor parallelism or sharding: the answer has no such argument.
    ++rows;
  }
  EXPECT_EQ(rows, 540);
}

}  // namespace
}  // namespace bv::lora
