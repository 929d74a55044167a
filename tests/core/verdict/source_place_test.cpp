#include "core/verdict/source_place.hpp"

#include <gtest/gtest.h>

namespace bv {
namespace {

TEST(NamedPlace, IsTheFirstFileAndLineOfASentence) {
  const auto is = [](std::string_view sentence, const SourcePlace& wanted) {
    EXPECT_EQ(named_place(sentence), wanted) << sentence;
  };
  is("4 parameters are made of others: a.b .. c.d (megatron/bridge/models/x_bridge.py:33)",
     {"megatron/bridge/models/x_bridge.py", 33});
  is("a/b.py:12 export_hook changes r1", {"a/b.py", 12});
  is("at 10:30 of http://host:80/x, see my.rules.json:14:3.", {"my.rules.json", 14});
  is("first a.py:1, then b.py:2", {"a.py", 1});
  is("correct x.py:7: its names", {"x.py", 7});
}

TEST(NamedPlace, IsNothingElse) {
  for (const std::string_view sentence :
       {"", "at 10:30", "rank tp0:3", "https://example.org/x.py:80/y", "x.py:", "x.py:0", ".py:3",
        "x.py: decoder rule 3", "model.layers.0.weight:5", "x.py:99999999999999999999"}) {
    EXPECT_EQ(named_place(sentence), SourcePlace{}) << sentence;
  }
}

TEST(SourcePlaceOf, IsThatOfTheRuleAndElseTheOneThatTheTextsName) {
  Verdict verdict;
  verdict.title = "made of another module's tensors (x_bridge.py:33)";
  verdict.help = "see y_bridge.py:44";
  EXPECT_EQ(source_place_of(verdict), (SourcePlace{"x_bridge.py", 33}));
  verdict.rule_source = "z_bridge.py:5";
  EXPECT_EQ(source_place_of(verdict), (SourcePlace{"z_bridge.py", 5}));
  verdict.rule_source = "llama.json: decoder rule 3";
  EXPECT_EQ(source_place_of(verdict), (SourcePlace{"x_bridge.py", 33}));
  verdict.title = "wrong";
  EXPECT_EQ(source_place_of(verdict), (SourcePlace{"y_bridge.py", 44}));
  verdict.help.clear();
  EXPECT_EQ(source_place_of(verdict), (SourcePlace{"llama.json", 0}));
}

}  // namespace
}  // namespace bv
