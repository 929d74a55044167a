// Where the engine puts factors, held against the oracle of the adapter modules: right on every
// layout, and an engine that is wrong is refuted.

#include <gtest/gtest.h>

#include "core/plan/layout_set.hpp"
#include "properties/claims/placed_adapter.hpp"
#include "tests/properties/edited_adapter.hpp"

namespace bv::lora {
namespace {

struct Golden {
  const char* name;
  std::vector<std::string> layouts;
};
const std::vector<Golden> kAdapters = {
    {"llama_all", {"tp1pp1ep1etp1", "tp2pp1ep1etp1", "tp4pp2ep1etp1"}},
    {"qwen35_dense", {"tp2pp1ep1etp1", "tp2pp2ep1etp1"}},
    {"qwen35_moe_down_only", {"tp1pp1ep4etp1", "tp2pp1ep2etp2"}},
    {"qwen3_moe_named_targets", {"tp2pp1ep1etp2", "tp2pp1ep2etp1", "tp4pp1ep1etp4"}},
    {"qwen3_moe_per_expert_legacy", {"tp2pp1ep1etp2"}},
    {"gptoss_transposed", {"tp2pp1ep2etp2", "tp2pp1ep4etp1"}},
    {"dora", {"tp2pp1ep1etp1", "tp4pp1ep1etp1"}},
    {"rank_alpha_pattern", {"tp2pp1ep1etp1"}},
    {"partial_qv", {"tp2pp1ep1etp1"}},
};

parallel::Layout layout_of(const std::string& id, const checkpoint::HfModel& base) {
  return plan::with_padding(base.model, parallel::layout_from_id(id).value());
}

struct Judged {
  std::int64_t proved = 0, all = 0;
  Codes refuted;
};
Judged judged(claims::AdapterPlacement& placement, const claims::PlacedAdapter& placed) {
  Judged out;
  for (const Verdict& verdict : placement.judge(placed)) {
    out.proved += verdict.outcome == Outcome::Proved ? verdict.cases : 0;
    out.all += verdict.cases;
    if (verdict.outcome == Outcome::Refuted) {
      out.refuted.insert(std::string(info(verdict.code).name));
    }
  }
  return out;
}

TEST(AdapterPlacement, EveryFactorOfEveryGoldenLiesWhereTheOracleWantsIt) {
  for (const Golden& golden : kAdapters) {
    const EditedAdapter one(golden.name);
    const Adapter adapter = one.read();
    const claims::AdapterSubject subject{&adapter, &one.base, &golden::kinds_of_build(), {}};
    claims::AdapterPlacement placement(subject);
    for (const std::string& id : golden.layouts) {
      SCOPED_TRACE(std::string(golden.name) + " " + id);
      const auto placed = claims::place_adapter(subject, layout_of(id, one.base));
      ASSERT_TRUE(placed) << placed.error().message;
      const Judged found = judged(placement, **placed);
      EXPECT_GT(found.proved, 0);
      EXPECT_EQ(found.proved, claims::factors_of((*placed)->files));
      EXPECT_EQ(found.all, found.proved);
    }
  }
}

/// Two boxes of one factor with their sources exchanged, in a place where that changes something.
bool exchange_sources(convert::OutputTensor& tensor) {
  std::vector<layout::Box> boxes = tensor.boxes();
  for (std::size_t i = 0; i + 1 < boxes.size(); ++i) {
    layout::Box& a = boxes[i];
    layout::Box& b = boxes[i + 1];
    const bool other = a.source != b.source || a.source_offset != b.source_offset;
    if (a.elements() == b.elements() && a.source >= 0 && b.source >= 0 && other) {
      std::swap(a.source, b.source);
      std::swap(a.source_offset, b.source_offset);
      tensor.boxes = [boxes] { return boxes; };
      return true;
    }
  }
  return false;
}

/// A factor that begins one element too late in its source.
bool shift_source(convert::OutputTensor& tensor) {
  std::vector<layout::Box> boxes = tensor.boxes();
  for (layout::Box& box : boxes) {
    if (box.source >= 0) {
      box.source_offset += 1;
      tensor.boxes = [boxes] { return boxes; };
      return true;
    }
  }
  return false;
}

TEST(AdapterPlacement, AnEngineThatPutsRowsElsewhereIsRefuted) {
  int planted = 0;
  for (const Golden& golden : kAdapters) {
    const EditedAdapter one(golden.name);
    const Adapter adapter = one.read();
    const claims::AdapterSubject subject{&adapter, &one.base, &golden::kinds_of_build(), {}};
    const auto layout = layout_of(golden.layouts.back(), one.base);
    const auto right = claims::place_adapter(subject, layout).value();
    for (std::size_t f = 0; f < right->files.files.size(); ++f) {
      for (std::size_t t = 0; t < right->files.files[f].tensors.size(); ++t) {
        for (const auto plant : {exchange_sources, shift_source}) {
          const auto wrong = claims::place_adapter(subject, layout).value();
          convert::OutputTensor& tensor = wrong->files.files[f].tensors[t];
          if (!plant(tensor)) {
            continue;
          }
          SCOPED_TRACE(std::string(golden.name) + " " + tensor.spec.name);
          claims::AdapterPlacement placement(subject);
          EXPECT_EQ(judged(placement, *right).refuted, Codes{});
          EXPECT_EQ(judged(placement, *wrong).refuted, Codes{"WrongPlacement"});
          ++planted;
        }
        t += 4;  // one of five: each is a whole judgement
      }
    }
  }
  EXPECT_GT(planted, 20);
}

TEST(AdapterPlacement, FactorsOfTwoLayersExchangedAreRefuted) {
  const EditedAdapter one("llama_all");
  const Adapter adapter = one.read();
  const claims::AdapterSubject subject{&adapter, &one.base, &golden::kinds_of_build(), {}};
  const auto placed = claims::place_adapter(subject, layout_of("tp2pp1ep1etp1", one.base)).value();
  auto& tensors = placed->files.files[0].tensors;
  const auto named = [&](const char* name) {
    return std::find_if(tensors.begin(), tensors.end(),
                        [&](const auto& tensor) { return tensor.spec.name == name; });
  };
  const auto first = named("decoder.layers.0.mlp.linear_fc1.adapter.linear_out.weight");
  const auto second = named("decoder.layers.1.mlp.linear_fc1.adapter.linear_out.weight");
  ASSERT_TRUE(first != tensors.end() && second != tensors.end());
  std::swap(first->sources, second->sources);
  claims::AdapterPlacement placement(subject);
  const auto verdicts = placement.judge(*placed);
  ASSERT_EQ(codes_of(verdicts), Codes{"WrongPlacement"});
  EXPECT_EQ(verdicts[0].cases, 4);
  ASSERT_EQ(verdicts[0].counterexamples.size(), 1u);
  EXPECT_EQ(verdicts[0].counterexamples[0].tensor, first->spec.name);
}

TEST(AdapterPlacement, AFactorThatIsMissingOrTooManyIsRefuted) {
  const EditedAdapter one("llama_all");
  const Adapter adapter = one.read();
  const claims::AdapterSubject subject{&adapter, &one.base, &golden::kinds_of_build(), {}};
  const auto layout = layout_of("tp2pp1ep1etp1", one.base);
  const auto less = claims::place_adapter(subject, layout).value();
  less->files.files[1].tensors.pop_back();
  claims::AdapterPlacement placement(subject);
  EXPECT_EQ(judged(placement, *less).refuted, Codes{"WrongPlacement"});
  const auto more = claims::place_adapter(subject, layout).value();
  convert::OutputTensor again = more->files.files[1].tensors.back();
  again.spec.name += "2";
  more->files.files[1].tensors.push_back(again);
  EXPECT_EQ(judged(placement, *more).refuted, Codes{"WrongPlacement"});
}

}  // namespace
}  // namespace bv::lora
