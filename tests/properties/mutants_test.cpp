#include "properties/attacks/mutants/matrix.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "core/io/checkpoint.hpp"
#include "core/layout/notation.hpp"
#include "oracles/forward/forward.hpp"
#include "reports/mutation_table.hpp"

namespace bv::mutants {
namespace {

const oracle::forward::Functions kForward = {
    oracle::forward::read_facts, oracle::forward::hf_forward, oracle::forward::megatron_forward,
    oracle::forward::probe_inputs};
const oracle::Entry kOracle = {.forward = &kForward};

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

Reference reference(const std::string& name, const std::string& id) {
  auto made = Reference::make(library(), make_case(library(), sample(name)).value(),
                              padded_layout(id).value(), kOracle);
  EXPECT_TRUE(made) << name << " " << id << ": " << (made ? "" : made.error().message);
  return std::move(*made);
}

std::vector<Place> every_place() {
  return places_of(samples(), {}, {}).value();
}

Matrix matrix_of(const std::vector<Place>& places, const MatrixOptions& options) {
  auto made = run_matrix(library(), places, kOracle, options);
  EXPECT_TRUE(made) << (made ? "" : made.error().message + " " + made.error().where);
  return made ? std::move(*made) : Matrix{};
}

/// The same number for a text on every machine.
std::uint64_t hash(std::string_view text, std::uint64_t seed) {
  std::uint64_t out = 1469598103934665603ULL ^ seed;
  for (const char c : text) {
    out = (out ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  }
  return out ^ (out >> 29U);
}

TEST(Samples, AllResolveWithoutNameFaults) {
  for (const Sample& one : samples()) {
    const auto made = make_case(library(), one);
    ASSERT_TRUE(made) << one.name << ": " << (made ? "" : made.error().message);
    EXPECT_EQ(family::name(*(*made)->model.family), one.family) << one.name;
  }
}

TEST(Samples, CoverEveryFamily) {
  std::set<std::string> families;
  for (const family::FamilyPtr& family : library().families) {
    families.insert(family::name(*family));
  }
  for (const Sample& one : samples()) {
    families.erase(one.family);
  }
  EXPECT_THAT(families, ::testing::IsEmpty());
}

TEST(Samples, HaveTheTensorsOfTheirGoldenCheckpoints) {
  int compared = 0;
  for (const Sample& one : samples()) {
    const std::string folder = std::string(BV_FIXTURES) + "/golden/hf/" + one.name;
    if (!std::filesystem::exists(folder)) {
      continue;
    }
    ++compared;
    const auto golden = io::Checkpoint::open(folder);
    ASSERT_TRUE(golden) << one.name;
    const auto made = make_case(library(), one).value();
    for (const auto& [name, spec] : golden->headers()) {
      const auto found = made->headers.find(name);
      ASSERT_NE(found, made->headers.end()) << one.name << " " << name;
      EXPECT_EQ(found->second, spec) << one.name << " " << name;
    }
    EXPECT_EQ(made->headers.size(), golden->headers().size()) << one.name;
  }
  EXPECT_EQ(compared, 48);
}

/// The layouts on which real bridges broke (bug catalogue, lessons): each stands in the samples.
TEST(Samples, HaveTheLayoutsThatBrokeBridges) {
  std::set<std::string> missing = {"tp > kv heads",  "etp != tp", "ep = 1, tp > 1, experts",
                                   "pp = 1, ep > 1", "pp >= 3",   "vpp >= 2",
                                   "uneven stages",  "mtp alone", "tied, pp > 2"};
  for (const Place& place : every_place()) {
    const auto one = make_case(library(), place.sample).value();
    const parallel::Layout at = padded_layout(place.layout).value();
    const auto numbers = [&](std::string_view name) {
      return one->model.geometry.get(name).value_or(0);
    };
    const bool experts = numbers("num_experts") > 0;
    const auto stages =
        parallel::plan_stages(at, numbers("num_hidden_layers"), one->model.mtp_layers).value();
    const auto says = [&](const char* what, bool holds) {
      if (holds) {
        missing.erase(what);
      }
    };
    says("tp > kv heads", at.tp > numbers("num_query_groups"));
    says("etp != tp", experts && at.etp != at.tp);
    says("ep = 1, tp > 1, experts", experts && at.ep == 1 && at.tp > 1);
    says("pp = 1, ep > 1", at.pp == 1 && at.ep > 1);
    says("pp >= 3", at.pp >= 3);
    says("vpp >= 2", at.vpp >= 2);
    says("tied, pp > 2", one->model.tied && at.pp > 2);
    for (const parallel::StageContents& stage : stages) {
      says("uneven stages", stage.layers != stages.front().layers && stage.layers > 0);
      says("mtp alone", stage.mtp_layers > 0 && stage.layers == 0);
    }
  }
  EXPECT_THAT(missing, ::testing::IsEmpty());
}

TEST(Samples, ALayoutTextWithAnOptionThatIsNoneIsRefused) {
  EXPECT_FALSE(padded_layout("tp1pp2 --first 1"));
  EXPECT_FALSE(padded_layout("tp1pp2 --decoder-first-pipeline-num-layers x"));
  EXPECT_EQ(padded_layout("tp1pp3 --decoder-first-pipeline-num-layers 1")->first_stage_layers, 1);
}

TEST(Judge, HasNoFindingOnARightBridge) {
  for (const Sample& one : samples()) {
    const std::string& at = one.layouts.front();
    const Reference ref = reference(one.name, at);
    const auto findings = ref.judge({ref.right(), ref.right(), std::nullopt});
    EXPECT_TRUE(findings.empty()) << one.name << " " << at << ": " << findings.front().claim << " "
                                  << findings.front().title << " "
                                  << findings.front().example.tensor;
  }
}

TEST(Judge, AMissingKeyIsSeenAndTheUpstreamGateDoesNotLookForIt) {
  const Reference ref = reference("llama", "tp2");
  const Mutant mutant{
      Operator::Rename, "decoder.layers.*.mlp.linear_fc1.weight", {{"hf", "_v2"}}, true, false};
  const auto attack = apply(library(), ref.model(), ref.right(), mutant).value();
  const auto findings = ref.judge(attack);
  ASSERT_FALSE(findings.empty());
  EXPECT_EQ(findings.front().claim, "names");
  EXPECT_EQ(findings.front().code, Code::HfTensorMissing);
  EXPECT_EQ(findings.front().example.tensor, "model.layers.0.mlp.gate_proj.weight_v2");
  EXPECT_FALSE(run_gate(ref, attack, 0.02, 1).red);
}

/// A world of the touched parameters alone gives the findings of the whole world.
TEST(Judge, FindsInASmallWorldWhatItFindsInTheWholeOne) {
  const Reference whole = reference("llama_bias", "tp2");
  const std::vector<Place> place = {{sample("llama_bias"), "tp2"}};
  MatrixOptions options;
  options.gate = false;
  const Matrix small = matrix_of(place, options);
  Matrix big;
  for (const Mutant& mutant : enumerate(library(), whole.model(), whole.right())) {
    const Fate fate = judge_mutant(library(), whole, mutant, {}).value();
    big.mutants += 1;
    big.killed += fate.findings.empty() ? 0 : 1;
    EXPECT_EQ(fate.findings.empty(), !small.killed_somewhere.contains({"llama", text(mutant)}))
        << text(mutant);
  }
  EXPECT_EQ(small.mutants, big.mutants);
  EXPECT_EQ(small.killed, big.killed);
}

TEST(Equivalence, OfALineIsReadOnTheTextWithoutItsAxesOfSizeOne) {
  const auto parse = [](std::string_view text) { return layout::parse_rule(text).value(); };
  const layout::Rule right = parse("x q[(t g n d) h] -> y{t}[(g (a: n d)) h]");
  const layout::Rule wrong = parse("x q[(t n g d) h] -> y{t}[(g (a: n d)) h]");
  EXPECT_EQ(without_axes(right, {"n"}, false), without_axes(wrong, {"n"}, false));
  EXPECT_NE(without_axes(right, {"d"}, false), without_axes(wrong, {"d"}, false));
  EXPECT_EQ(without_axes(parse("x a[v] -> y[(a: v | pad: p)] cut 0 by t"), {}, true),
            without_axes(parse("x a[v] -> y[(pad: p | a: v)] cut 0 by t"), {}, true));
}

TEST(Equivalence, OfASumIsProvedByEveryPatternOrNotAtAll) {
  const Reference ref = reference("qwen3_5_dense", "tp2");
  const auto prove = [&](const Mutant& mutant) {
    const auto attack = apply(library(), ref.model(), ref.right(), mutant).value();
    return prove_equivalent(library(), ref, mutant, attack);
  };
  // A sum of 0 is no change of any of the 65,536 patterns; a product by 2 is.
  const std::string norm = "decoder.layers.*.mlp.linear_fc1.layer_norm_weight";
  EXPECT_TRUE(prove({Operator::Arith, norm, {{"add", "0"}}, true, false}));
  EXPECT_FALSE(prove({Operator::Scale, norm, {{"by", "2"}}, true, false}));
}

/// A part of every place, chosen by a seed, and every operator on every side: the whole is
/// `bridge-verify mutate`.
TEST(Mutants, ASampleOfEveryPlaceIsKilledOrProvedEquivalent) {
  constexpr std::uint64_t kSeed = 1;
  constexpr std::uint64_t kOneOf = 40;
  MatrixOptions options;
  options.gate = false;
  std::set<std::pair<Operator, Side>> met;
  options.wanted = [&](const Place& place, const Mutant& mutant) {
    return met.insert({mutant.op, side(mutant)}).second ||
           hash(place.sample.name + place.layout + text(mutant), kSeed) % kOneOf == 0;
  };
  const Matrix matrix = matrix_of(every_place(), options);
  EXPECT_GT(matrix.mutants, 1000);
  for (const Fate& fate : matrix.survivors) {
    ADD_FAILURE() << text(fate.mutant) << " on " << fate.sample << " " << fate.layout;
  }
  std::set<Operator> without;
  for (int i = 0; i < kOperators; ++i) {
    without.insert(static_cast<Operator>(i));
  }
  for (const Row& row : matrix.rows) {
    without.erase(row.op);
    EXPECT_GT(row.killed, 0) << name(row.op) << " " << mark(row.side);
  }
  for (const Operator op : without) {
    ADD_FAILURE() << name(op) << " has no mutant in any family";
  }
  // Faults of the import or the export alone make no sense on both ways.
  const std::set<Operator> one_sided = {Operator::Alias, Operator::Squeeze, Operator::Overwrite};
  for (int i = 0; i < kOperators; ++i) {
    const auto op = static_cast<Operator>(i);
    EXPECT_EQ(met.contains({op, Side::Both}), !one_sided.contains(op)) << name(op);
  }
}

TEST(Mutants, TheMatrixIsTheSameOnAnyNumberOfThreads) {
  const std::vector<Place> places = places_of(samples(), {"mistral"}, {}).value();
  const auto run = [&](int jobs) {
    MatrixOptions options;
    options.jobs = jobs;
    return mutation_of(matrix_of(places, options), false);
  };
  EXPECT_EQ(run(1), run(3));
}

TEST(Mutants, AMutantThatNoClaimSeesIsASurvivorAndRefutesItsOperator) {
  Matrix matrix;
  Fate fate;
  fate.mutant = {Operator::Swap, "decoder.*", {}, true, false};
  fate.family = fate.sample = "llama";
  fate.layout = "tp2";
  matrix.survivors.push_back(fate);
  Row row;
  row.op = Operator::Swap;
  row.side = Side::Both;
  row.mutants = 1;
  matrix.rows.push_back(row);
  const auto verdicts = verdicts_of(matrix, true, "");
  ASSERT_EQ(verdicts.size(), 1U);
  EXPECT_EQ(verdicts[0].outcome, Outcome::Refuted);
  EXPECT_EQ(verdicts[0].code, Code::MutantSurvived);
  EXPECT_EQ(mutation_of(matrix, true).survivors,
            std::vector<std::string>{"SWAP decoder.* (2) on llama tp2"});
  EXPECT_EQ(mutant_from_json(nlohmann::json::parse(survivors_text(matrix, true))).value(),
            fate.mutant);
}

TEST(Mutants, AnEquivalentThatNothingKillsIsASurvivorOfTheWholeRun) {
  Matrix matrix;
  Fate fate;
  fate.mutant = {Operator::Perm, "decoder.*", {}, true, false};
  fate.family = "llama";
  fate.equivalence = Equivalence{Reason::UnitAxis, "n has size 1"};
  matrix.equivalents.push_back(fate);
  EXPECT_EQ(never_killed(matrix).size(), 1U);
  matrix.killed_somewhere.emplace("llama", text(fate.mutant));
  EXPECT_TRUE(never_killed(matrix).empty());
  matrix.killed_somewhere.clear();
  matrix.equivalents[0].equivalence->reason = Reason::FixedAxis;
  EXPECT_TRUE(never_killed(matrix).empty());
}

/// Nothing can change places in a tensor of one element: that is a reason of the rule itself.
TEST(Mutants, OfATensorOfOneElementNeedNoOtherSample) {
  MatrixOptions options;
  options.wanted = [](const Place&, const Mutant& mutant) {
    return mutant.op == Operator::Offset && mutant.parameter.ends_with("layer_scalar");
  };
  const Matrix matrix = matrix_of(places_of(samples(), {"gemma4_text"}, {}).value(), options);
  EXPECT_FALSE(matrix.equivalents.empty());
  EXPECT_TRUE(never_killed(matrix).empty());
}

/// A place has hundreds of mutants: whoever stops the run does not wait for the last of them.
TEST(MutantMatrix, AStopIsAskedForBeforeEachMutant) {
  int asked = 0;
  int judged = 0;
  MatrixOptions options;
  options.gate = false;
  options.stopped = [&] { return ++asked > 3; };
  options.wanted = [&](const Place&, const Mutant&) { return ++judged > 0; };
  const auto stopped =
      run_matrix(library(), {{sample("llama"), "tp2pp1ep1etp1"}}, kOracle, options);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, Code::Stopped);
  EXPECT_EQ(judged, 3);
}

/// The page is written by a run of minutes; the rows of three operators are computed again here.
TEST(MutantsPage, HasTheRowsThatARunGives) {
  MatrixOptions options;
  options.wanted = [](const Place&, const Mutant& mutant) {
    return mutant.op == Operator::Alias || mutant.op == Operator::Overwrite ||
           mutant.op == Operator::Tie;
  };
  const Mutation found = mutation_of(matrix_of(every_place(), options), true);
  std::ostringstream page;
  page << std::ifstream(std::string(BV_FIXTURES) + "/../docs/reference/mutants.md").rdbuf();
  std::istringstream table(reports::mutation_markdown(found));
  std::string row;
  int rows = 0;
  while (std::getline(table, row) && !row.empty()) {
    if (row.starts_with("| ALIAS") || row.starts_with("| OVERWRITE") || row.starts_with("| TIE")) {
      ++rows;
      EXPECT_NE(page.str().find(row + "\n"), std::string::npos)
          << row << "\nrun bridge-verify __dump-mutants docs/reference/mutants.md";
    }
  }
  EXPECT_EQ(rows, 5);
}

}  // namespace
}  // namespace bv::mutants
