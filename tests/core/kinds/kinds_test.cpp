#include <gtest/gtest.h>

#include <map>

#include "core/kinds/catalogue.hpp"
#include "core/layout/box.hpp"
#include "core/layout/notation.hpp"

namespace bv::kinds {
namespace {

using Sizes = std::map<std::string, std::int64_t, std::less<>>;

/// "q[2815]": the HF row that stands in row `row` of shard `t`.
std::string hf_row(std::string_view kind, const Sizes& sizes, std::int64_t t, std::int64_t row) {
  const auto catalogue = load_catalogue();
  EXPECT_TRUE(catalogue.has_value()) << catalogue.error().message;
  const layout::Rule* rule = catalogue->find(kind);
  EXPECT_NE(rule, nullptr) << kind;
  const auto bound = layout::BoundRule::bind(*rule, {sizes, {1}});
  EXPECT_TRUE(bound.has_value()) << bound.error().message;
  std::vector<layout::Box> pieces;
  for (const layout::Box& box : bound->shard(0, {{"t", t}}).boxes) {
    layout::clip_to_target(box, row, row + 1, pieces);
  }
  EXPECT_EQ(pieces.size(), 1U);
  return rule->sources[static_cast<std::size_t>(pieces[0].source)].name + "[" +
         std::to_string(pieces[0].source_offset) + "]";
}

TEST(Kinds, EveryLineIsProvedAndHasADocString) {
  const auto catalogue = load_catalogue();
  ASSERT_TRUE(catalogue.has_value()) << catalogue.error().message;
  EXPECT_GE(catalogue->rules().size(), 20U);
  for (const layout::Rule& rule : catalogue->rules()) {
    EXPECT_TRUE(layout::prove_bijection(rule).has_value()) << rule.name;
    EXPECT_FALSE(rule.doc.empty()) << rule.name;
    EXPECT_EQ(layout::print(*layout::parse_rule(layout::print(rule))), layout::print(rule));
  }
}

TEST(Kinds, AFaultyCatalogueIsRefused) {
  const auto catalogue = Catalogue::parse("bad x[(t o)] -> x[o]\n", "f");
  ASSERT_FALSE(catalogue.has_value());
  EXPECT_EQ(catalogue.error().code, Code::RulesInvalid);
}

TEST(Kinds, GatedQkvOf27BAtTp8) {
  const Sizes s = {{"g", 4}, {"n", 6}, {"d", 256}, {"t", 8}};
  EXPECT_EQ(hf_row("qkv_gated", s, 0, 0), "q[0]");
  EXPECT_EQ(hf_row("qkv_gated", s, 0, 1535), "q[2815]");
  EXPECT_EQ(hf_row("qkv_gated", s, 0, 1536), "q[256]");
  EXPECT_EQ(hf_row("qkv_gated", s, 1, 0), "q[768]");
  EXPECT_EQ(hf_row("qkv_gated", s, 1, 1280), "k[0]");
  EXPECT_EQ(hf_row("qkv_gated", s, 1, 1536), "v[0]");
  EXPECT_EQ(hf_row("qkv_gated", s, 1, 1791), "v[255]");
  EXPECT_EQ(hf_row("qkv_gated", s, 7, 1791), "v[1023]");
}

TEST(Kinds, GatedQkvOf35BA3BAtTp4) {
  const Sizes s = {{"g", 2}, {"n", 8}, {"d", 256}, {"t", 4}};
  EXPECT_EQ(hf_row("qkv_gated", s, 0, 2047), "q[3839]");
  EXPECT_EQ(hf_row("qkv_gated", s, 0, 2048), "q[256]");
  EXPECT_EQ(hf_row("qkv_gated", s, 1, 0), "q[768]");
  EXPECT_EQ(hf_row("qkv_gated", s, 1, 1791), "q[4095]");
  EXPECT_EQ(hf_row("qkv_gated", s, 1, 1792), "k[0]");
  EXPECT_EQ(hf_row("qkv_gated", s, 1, 2303), "v[255]");
}

TEST(Kinds, PlainQkvOfLlama8BAtTp2) {
  const Sizes s = {{"g", 8}, {"n", 4}, {"d", 128}, {"t", 2}};
  EXPECT_EQ(hf_row("qkv", s, 0, 511), "q[511]");
  EXPECT_EQ(hf_row("qkv", s, 0, 512), "k[0]");
  EXPECT_EQ(hf_row("qkv", s, 0, 640), "v[0]");
  EXPECT_EQ(hf_row("qkv", s, 0, 768), "q[512]");
  EXPECT_EQ(hf_row("qkv", s, 1, 0), "q[2048]");
  EXPECT_EQ(hf_row("qkv", s, 1, 3071), "v[1023]");
}

TEST(Kinds, SeparateGdnOf27BAtTp4) {
  const Sizes s = {{"t", 4}, {"a", 4}, {"c", 128}, {"b", 12}, {"e", 128}};
  EXPECT_EQ(hf_row("gdn4", s, 0, 512), "qkv[2048]");
  EXPECT_EQ(hf_row("gdn4", s, 0, 1024), "qkv[4096]");
  EXPECT_EQ(hf_row("gdn4", s, 0, 2560), "z[0]");
  EXPECT_EQ(hf_row("gdn4", s, 0, 4096), "b_[0]");
  EXPECT_EQ(hf_row("gdn4", s, 0, 4108), "a_[0]");
  EXPECT_EQ(hf_row("gdn4", s, 3, 0), "qkv[1536]");
  EXPECT_EQ(hf_row("gdn4", s, 3, 1024), "qkv[8704]");
  EXPECT_EQ(hf_row("gdn4", s, 3, 4119), "a_[47]");
}

TEST(Kinds, GroupedGdnOfQwen3NextAtTp4) {
  const Sizes s = {{"t", 4}, {"a", 4}, {"c", 128}, {"r", 2}, {"e", 128}};
  EXPECT_EQ(hf_row("gdn2", s, 1, 0), "qkvz[3072]");
  EXPECT_EQ(hf_row("gdn2", s, 1, 512), "qkvz[3200]");
  EXPECT_EQ(hf_row("gdn2", s, 1, 1024), "qkvz[3328]");
  EXPECT_EQ(hf_row("gdn2", s, 1, 2048), "qkvz[3584]");
  EXPECT_EQ(hf_row("gdn2", s, 1, 3072), "ba[16]");
  EXPECT_EQ(hf_row("gdn2", s, 1, 3080), "ba[18]");
  EXPECT_EQ(hf_row("gdn2", s, 1, 3087), "ba[31]");
}

TEST(Kinds, ConvolutionOf27BAtTp4) {
  const Sizes s = {{"t", 4}, {"a", 4}, {"c", 128}, {"b", 12}, {"e", 128}};
  EXPECT_EQ(hf_row("gdn_conv", s, 0, 512), "x[2048]");
  EXPECT_EQ(hf_row("gdn_conv", s, 0, 1024), "x[4096]");
  EXPECT_EQ(hf_row("gdn_conv", s, 1, 0), "x[512]");
  EXPECT_EQ(hf_row("gdn_conv", s, 1, 512), "x[2560]");
  EXPECT_EQ(hf_row("gdn_conv", s, 1, 1024), "x[5632]");
  EXPECT_EQ(hf_row("gdn_conv", s, 3, 2559), "x[10239]");
}

}  // namespace
}  // namespace bv::kinds
