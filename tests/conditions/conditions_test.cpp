// Every condition (docs/reference/semantics.md#conditions): provoked with its code and both values,
// and the nearest legal input accepted.

#include <fmt/format.h>

#include <set>

#include "core/kinds/catalogue.hpp"
#include "core/layout/box.hpp"
#include "core/layout/notation.hpp"
#include "tests/conditions/condition.hpp"

namespace bv::conditions {

/// What GoogleTest shows of a row.
void PrintTo(const Row& row, std::ostream* out) {
  *out << row.id << " " << row.code;
}

namespace {

/// The ids of docs/reference/semantics.md#conditions, in its order.
std::vector<std::string> section_ids() {
  std::vector<std::string> out = {"E001", "E002", "E003"};
  const auto range = [&out](int first, int last) {
    for (int i = first; i <= last; ++i) {
      out.push_back(fmt::format("E{:03}", i));
    }
  };
  range(10, 26);
  range(30, 39);
  range(40, 42);
  range(50, 53);
  range(60, 72);
  out.emplace_back("W073");
  range(74, 75);
  return out;
}

std::vector<Row> all_rows() {
  std::vector<Row> out;
  for (const auto& rows :
       {config_rows(), size_rows(), pipeline_rows(), tensor_rows(), rule_rows()}) {
    out.insert(out.end(), rows.begin(), rows.end());
  }
  return out;
}

class Condition : public testing::TestWithParam<Row> {};

TEST_P(Condition, IsSaidWithItsCodeAndBothValues) {
  const Row& row = GetParam();
  const std::string said = support::unwrapped(row.provoked());
  const bool coded = said.find("error[" + row.code + "]") != std::string::npos ||
                     said.find("warning[" + row.code + "]") != std::string::npos ||
                     said.find("undecided[" + row.code + "]") != std::string::npos ||
                     said.find("unsupported[" + row.code + "]") != std::string::npos;
  EXPECT_TRUE(coded) << row.id << " wants " << row.code << "\n" << said;
  EXPECT_NE(said.find("= help"), std::string::npos) << row.id << "\n" << said;
  for (const std::string& part : row.says) {
    EXPECT_NE(said.find(part), std::string::npos) << row.id << " wants: " << part << "\n" << said;
  }
}

TEST_P(Condition, LeavesTheNearestLegalInputAlone) {
  EXPECT_EQ(GetParam().neighbour(), "") << GetParam().id;
}

INSTANTIATE_TEST_SUITE_P(Section11, Condition, testing::ValuesIn(all_rows()),
                         [](const auto& param) {
                           return fmt::format("{}n{}", param.param.id, param.index);
                         });

TEST(Conditions, EveryIdOfTheSectionHasARow) {
  std::set<std::string> rows;
  for (const Row& row : all_rows()) {
    rows.insert(row.id);
    EXPECT_FALSE(row.says.empty()) << row.id;
  }
  const std::vector<std::string> ids = section_ids();
  EXPECT_EQ(rows, std::set<std::string>(ids.begin(), ids.end()));
  EXPECT_EQ(ids.size(), 53U);
}

/// Upstream refuses biases of QKVG, GDNLinear, MambaInProj and FusedExpert (E072): here each is the
/// line of the weight without trailing dimensions.
TEST(Conditions, BiasesOfEveryKindThatUpstreamRefusesMove) {
  const auto kinds = kinds::load_catalogue().value();
  const std::map<std::string, layout::Binding> biases = {
      {"qkv_gate_tail", {{{"g", 2}, {"n", 3}, {"d", 2}, {"t", 2}}, {}}},
      {"qkv_gate_rows", {{{"g", 2}, {"n", 3}, {"d", 2}, {"t", 2}}, {}}},
      {"gdn2", {{{"a", 2}, {"c", 3}, {"r", 2}, {"e", 5}, {"t", 2}}, {}}},
      {"gdn4", {{{"a", 2}, {"c", 3}, {"b", 4}, {"e", 5}, {"t", 2}}, {}}},
      {"mamba_in", {{{"i", 4}, {"s", 3}, {"m", 2}, {"t", 2}}, {}}},
      {"packed_fc1", {{{"E", 3}, {"f", 4}, {"t", 2}}, {}}},
      {"packed_bias", {{{"E", 3}, {"o", 4}, {"t", 2}}, {}}},
  };
  for (const auto& [kind, binding] : biases) {
    const layout::Rule* line = kinds.find(kind);
    ASSERT_NE(line, nullptr) << kind;
    EXPECT_TRUE(layout::prove_bijection(*line).has_value()) << kind;
    const auto bound = layout::BoundRule::bind(*line, binding);
    ASSERT_TRUE(bound.has_value()) << kind << " " << bound.error().message;
    EXPECT_EQ(bound->target_shapes()[0].size(), 1U) << kind;
    for (std::int64_t t = 0; t < 2; ++t) {
      const auto shard = bound->shard(0, {{"t", t}, {"E", 1}});
      EXPECT_TRUE(layout::check_tiling(shard.boxes, shard.shape[0]).has_value()) << kind;
    }
  }
}

}  // namespace
}  // namespace bv::conditions
