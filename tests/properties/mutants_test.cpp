#include "properties/mutants/matrix.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/io/checkpoint.hpp"

namespace bv::mutants {
namespace {

const oracle::Entry kOracle = {oracle::kAbiVersion, oracle::wanted_shard, oracle::why_unanswered,
                               oracle::wanted_value};

const Library& library() {
  static const Library value = load_library().value();
  return value;
}

const std::vector<Sample>& samples() {
  static const std::vector<Sample> all = builtin_samples().value();
  return all;
}

const Sample& sample(const std::string& name) {
  for (const Sample& one : samples()) {
    if (one.name == name) {
      return one;
    }
  }
  ADD_FAILURE() << "no sample " << name;
  return samples().front();
}

parallel::Layout layout(const std::string& id) {
  parallel::Layout out = parallel::layout_from_id(id).value();
  out.vocab_divisor = 4;
  return out;
}

Reference reference(const std::string& name, const std::string& id) {
  auto made =
      Reference::make(library(), make_case(library(), sample(name)).value(), layout(id), kOracle);
  EXPECT_TRUE(made) << name << " " << id << ": " << (made ? "" : made.error().message);
  return std::move(*made);
}

Matrix matrix_of(const std::string& name, const std::string& id, bool gate = false) {
  Matrix out;
  MatrixOptions options;
  options.gate = gate;
  const auto status = add_mutants(library(), reference(name, id), options, out);
  EXPECT_TRUE(status) << (status ? "" : status.error().message);
  return out;
}

TEST(Samples, AllResolveWithoutNameFaults) {
  EXPECT_EQ(samples().size(), 27U);
  for (const Sample& one : samples()) {
    const auto made = make_case(library(), one);
    EXPECT_TRUE(made) << one.name << ": " << (made ? "" : made.error().message);
  }
}

TEST(Samples, HaveTheTensorsOfTheirGoldenCheckpoints) {
  for (const Sample& one : samples()) {
    const auto golden = io::Checkpoint::open(std::string(BV_FIXTURES) + "/golden/hf/" + one.name);
    ASSERT_TRUE(golden) << one.name;
    const auto made = make_case(library(), one).value();
    for (const auto& [name, spec] : golden->headers()) {
      const auto found = made->headers.find(name);
      ASSERT_NE(found, made->headers.end()) << one.name << " " << name;
      EXPECT_EQ(found->second, spec) << one.name << " " << name;
    }
    EXPECT_EQ(made->headers.size(), golden->headers().size()) << one.name;
  }
}

TEST(Judge, HasNoFindingOnARightBridge) {
  for (const Sample& one : samples()) {
    const Reference ref = reference(one.name, "tp2");
    const auto findings = ref.judge({ref.right(), ref.right(), std::nullopt});
    EXPECT_TRUE(findings.empty()) << one.name << ": " << findings.front().claim << " "
                                  << findings.front().title << " "
                                  << findings.front().example.tensor;
  }
}

class EveryMutant : public ::testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(EveryMutant, IsKilledOrProvedEquivalent) {
  const Matrix matrix = matrix_of(GetParam().first, GetParam().second);
  EXPECT_GT(matrix.mutants, 100);
  EXPECT_GT(matrix.killed, 0);
  for (const Fate& fate : matrix.survivors) {
    ADD_FAILURE() << text(fate.mutant);
  }
  if (std::getenv("BV_SHOW") != nullptr) {
    for (const Verdict& verdict : verdicts_of(matrix, "")) {
      for (const std::string& fact : verdict.facts) {
        fmt::print("{}\n", fact);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Mutants, EveryMutant,
                         ::testing::Values(std::pair("llama", "tp2"),
                                           std::pair("llama_tied_kv2", "tp4pp2"),
                                           std::pair("qwen3_5_moe_packed", "tp2ep2etp1"),
                                           std::pair("qwen3_next", "tp2pp2ep2etp2")));

}  // namespace
}  // namespace bv::mutants
