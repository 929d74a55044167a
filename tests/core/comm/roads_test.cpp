// The road of collectives against the direct one, for every golden model and many layouts: equal
// bytes on every rank, and back to the bytes of the checkpoint.

#include <gtest/gtest.h>

#include "core/base/arith.hpp"
#include "core/comm/roads.hpp"
#include "core/comm/threads.hpp"
#include "core/kinds/values.hpp"
#include "core/move/tensor_maker.hpp"
#include "core/plan/layout_set.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::comm {
namespace {

constexpr Milliseconds kRoadPatience{20000};

using Held = std::map<std::string, TypedBytes>;  // by "file name"

std::span<const std::byte> stored(const checkpoint::HfModel& source, const std::string& hf) {
  return source.checkpoint->bytes(source.checkpoint->tensors().find(hf)->second);
}

/// A parameter made at once from the whole tensors.
TypedBytes direct(const checkpoint::HfModel& source, const plan::Plan& plan,
                  const plan::Target& target, const plan::DtypePolicy& policy) {
  const model::Mapping& mapping = plan.model().mappings[target.mapping];
  move::Recipe recipe;
  const layout::Shard shard = plan.shard(target);
  recipe.dtype =
      plan::target_dtype(*mapping.rule, plan::dtypes_of(source.headers, mapping), policy);
  recipe.elements = element_count(shard.shape).value();
  recipe.boxes = shard.boxes;
  recipe.add = mapping.rule->value.added_on_import();
  for (const std::string& hf : mapping.hf) {
    recipe.sources.push_back({stored(source, hf).data(), source.headers.at(hf).dtype});
  }
  TypedBytes out{recipe.dtype, shard.shape, {}};
  out.bytes.resize(static_cast<std::size_t>(recipe.elements * bytes(recipe.dtype)));
  move::TensorMaker maker(recipe);
  EXPECT_TRUE(maker.make(ElementOffset(0), ElementOffset(recipe.elements), out.bytes.data()));
  return out;
}

struct Case {
  const checkpoint::HfModel& source;
  const plan::Plan& plan;
  plan::DtypePolicy policy;
};

std::string key_of(const plan::ShardFile& file, const plan::Target& target) {
  return file.name + " " + target.name;
}

Status import_on(Link& link, const Case& one, Held& held) {
  return scatter_parameters(
      link, one.plan, one.source.headers, one.policy,
      [&](const std::string& hf) -> Result<std::span<const std::byte>> {
        return stored(one.source, hf);
      },
      [&](const plan::ShardFile& file, const plan::Target& target, TypedBytes made) -> Status {
        held[key_of(file, target)] = std::move(made);
        return Done{};
      });
}

/// What comes back of an HF tensor: its bytes, but for a norm that minus one and plus one round.
Bytes there_and_back(const Case& one, const std::string& hf) {
  const auto bytes = stored(one.source, hf);
  Bytes out(bytes.begin(), bytes.end());
  for (const model::Mapping& mapping : one.plan.model().mappings) {
    const double added = mapping.rule->value.added_on_import();
    if (added != 0 && std::find(mapping.hf.begin(), mapping.hf.end(), hf) != mapping.hf.end()) {
      const DType dtype = one.source.headers.at(hf).dtype;
      kinds::add_constant(out, dtype, added);
      kinds::add_constant(out, dtype, -added);
    }
  }
  return out;
}

Status export_on(Link& link, const Case& one, const Held& held, std::size_t& equal) {
  return gather_tensors(
      link, one.plan, one.source.headers, one.policy,
      [&](const plan::ShardFile& file, const plan::Target& target) -> Result<TypedBytes> {
        return held.at(key_of(file, target));
      },
      [&](const std::string& hf, TypedBytes made) -> Status {
        equal += made.bytes == there_and_back(one, hf) ? 1U : 0U;
        return Done{};
      });
}

/// Every rank of the world, `times` as large as the layout needs.
void expect_equal_roads(const Case& one, int times) {
  const std::string id = parallel::layout_id(one.plan.layout());
  const auto world = static_cast<int>(parallel::minimum_world(one.plan.layout())) * times;
  std::vector<Held> held(static_cast<std::size_t>(world));
  std::vector<std::size_t> equal(held.size(), 0);
  const auto ends = run_world(world, kRoadPatience, [&](Link& link) -> Status {
    const auto at = static_cast<std::size_t>(link.rank());
    BV_CHECK(import_on(link, one, held[at]));
    return export_on(link, one, held[at], equal[at]);
  });
  std::size_t tensors = 0;
  for (const model::Mapping& mapping : one.plan.model().mappings) {
    tensors += mapping.hf.size();
  }
  for (std::size_t rank = 0; rank < ends.size(); ++rank) {
    ASSERT_TRUE(ends[rank]) << id << " rank " << rank << ": " << ends[rank].error().message;
    EXPECT_EQ(equal[rank], tensors) << id << " rank " << rank;
  }
  std::set<std::string> seen;
  for (const plan::ShardFile& file : one.plan.files()) {
    for (const plan::Target& target : file.targets) {
      const TypedBytes wanted = direct(one.source, one.plan, target, one.policy);
      for (const Held& of_rank : held) {
        const auto found = of_rank.find(key_of(file, target));
        if (found != of_rank.end()) {
          EXPECT_TRUE(found->second == wanted) << id << " " << found->first;
          seen.insert(found->first);
        }
      }
      EXPECT_TRUE(seen.contains(key_of(file, target))) << id << " " << key_of(file, target);
    }
  }
}

class Roads : public ::testing::TestWithParam<std::string> {};

/// Layouts that use every axis that the model allows: each size alone, and the largest of all.
TEST_P(Roads, OfCollectivesGiveEveryRankTheBytesOfTheDirectOne) {
  const checkpoint::HfModel source = support::open_golden(GetParam());
  const auto all = plan::layouts_up_to(source.model, {}, 8, 0).layouts;
  ASSERT_FALSE(all.empty());
  constexpr std::size_t kLayouts = 7;
  const std::size_t step = std::max<std::size_t>(1, all.size() / kLayouts);
  for (std::size_t i = 0; i < all.size(); i += step) {
    const auto plan = plan::Plan::make(source.model, support::catalogue(), all[i]);
    ASSERT_TRUE(plan) << plan.error().message;
    expect_equal_roads({source, *plan, {}}, 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, Roads, ::testing::ValuesIn(support::golden_cases()),
                         [](const auto& one) { return one.param; });

}  // namespace
}  // namespace bv::comm
