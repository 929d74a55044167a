#include "reports/mutation_table.hpp"

#include <gtest/gtest.h>

namespace bv::reports {
namespace {

TEST(MutationTable, HasARowAnOperatorAndSidesAndASum) {
  Mutation mutation;
  mutation.claims = {{"names", "headers"}, {"placement", "headers"}, {"forward", "data"}};
  mutation.levels = {"text", "headers", "data"};
  mutation.gate_stds = {0.006, 0.02};
  mutation.rows = {{"SWAP", "", 3, 2, 1, 0, 2, {0, 2, 1}, {0, 2, 0}, {0, 1}},
                   {"SWAP", "(2)", 3, 3, 0, 0, 0, {0, 3, 0}, {0, 3, 0}, {0, 0}}};
  mutation.reasons = {{"one rank", 1, 1}};
  EXPECT_EQ(
      mutation_markdown(mutation),
      "| operator | mutants | killed | equivalent | survived | by text | by headers | by data "
      "| gate 0.006 | gate 0.02 |\n"
      "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
      "| SWAP | 3 | 2 | 1 | 0 | 0 | 2 | 0 | 0 | 1 |\n"
      "| SWAP (2) | 3 | 3 | 0 | 0 | 0 | 3 | 0 | 0 | 0 |\n"
      "| all | 6 | 5 | 1 | 0 | 0 | 5 | 0 | 0 | 1 |\n"
      "\n"
      "| operator | placement | forward | forward asked of |\n|---|---:|---:|---:|\n"
      "| SWAP | 2 | 1 | 2 |\n| SWAP (2) | 3 | 0 | 0 |\n| all | 5 | 1 | 2 |\n"
      "\n"
      "| equivalent because | mutants | killed elsewhere |\n|---|---:|---:|\n"
      "| one rank | 1 | 1 |\n| all | 1 | 1 |\n");
  EXPECT_NE(mutation_table(mutation).find("  SWAP (2)        3       3"), std::string::npos)
      << mutation_table(mutation);
}

TEST(MutationTable, ARowThatTheGateWasNotRunOnHasNoCountAndTheSumLeavesItOut) {
  Mutation mutation;
  mutation.claims = {{"names", "headers"}};
  mutation.levels = {"headers"};
  mutation.gate_stds = {0.02};
  mutation.rows = {{"SWAP", "", 3, 3, 0, 0, 0, {3}, {3}, {2}},
                   {"adapter: a pair is left out", "", 4, 4, 0, 0, 0, {4}, {4}, {}}};
  const std::string text = mutation_markdown(mutation);
  EXPECT_NE(text.find("| adapter: a pair is left out | 4 | 4 | 0 | 0 | 4 | - |"), std::string::npos)
      << text;
  EXPECT_NE(text.find("| all | 7 | 7 | 0 | 0 | 7 | 2 |"), std::string::npos) << text;
}

}  // namespace
}  // namespace bv::reports
