#include "core/checkpoint/config_edit.hpp"

#include <gtest/gtest.h>

namespace bv::checkpoint {
namespace {

TEST(WithMember, ChangesOneValueAndNothingElse) {
  const std::string text =
      "{\n\t\"a\" : [1, {\"b\": \"}\"}],\"b\":{ \"c\" :1e-6 , \"d\":\"\\\"\"}\n}\n";
  EXPECT_EQ(with_member(text, "b.c", "2"),
            "{\n\t\"a\" : [1, {\"b\": \"}\"}],\"b\":{ \"c\" :2 , \"d\":\"\\\"\"}\n}\n");
  EXPECT_EQ(with_member(text, "b.d", "null"),
            "{\n\t\"a\" : [1, {\"b\": \"}\"}],\"b\":{ \"c\" :1e-6 , \"d\":null}\n}\n");
  EXPECT_EQ(with_member(text, "a", "0"),
            "{\n\t\"a\" : 0,\"b\":{ \"c\" :1e-6 , \"d\":\"\\\"\"}\n}\n");
}

TEST(WithMember, AddsANameAsTheLastOneWasWritten) {
  EXPECT_EQ(with_member("{\n  \"a\": 1\n}\n", "b", "2"), "{\n  \"a\": 1,\n  \"b\": 2\n}\n");
  EXPECT_EQ(with_member("{}", "b", "2"), "{\"b\": 2}");
  EXPECT_EQ(with_member("{\"a\": {\"x\": 1}}", "a.y", "2"), "{\"a\": {\"x\": 1,\"y\": 2}}");
}

TEST(WithMember, OfANameThatStandsTwiceTheLastCounts) {
  EXPECT_EQ(with_member(R"({"a": 1, "a": 2})", "a", "3"), R"({"a": 1, "a": 3})");
  EXPECT_EQ(with_member(R"({"\u0061": 1})", "a", "3"), R"({"\u0061": 3})");
}

TEST(WithMember, SaysWhenThereIsNoObjectOnTheWay) {
  EXPECT_EQ(with_member(R"({"a": 1})", "a.b", "3"), "");
  EXPECT_EQ(with_member(R"({"a": 1})", "c.b", "3"), "");
}

}  // namespace
}  // namespace bv::checkpoint
