#include "tests/bench/judging.hpp"

#include "core/checkpoint/global_shard.hpp"
#include "core/compare/diff.hpp"
#include "core/torch_dist/store.hpp"

namespace bv::bench {

bool is_judged_equal(const checkpoint::HfModel& model, const kinds::Catalogue& kinds,
                     const std::filesystem::path& folder, int jobs) {
  const auto store = torch_dist::DistCheckpoint::open(folder).value();
  const parallel::Layout layout = checkpoint::global_layout(store, model.model);
  const auto plan = plan::Plan::make(model.model, kinds, layout).value();
  compare::Shards shards;
  shards.emplace(plan.files().front().key,
                 std::make_unique<const checkpoint::GlobalShard>(store, plan));
  const auto found =
      compare::diff(compare::compare_megatron(model, plan, shards, {}), {.jobs = jobs});
  return found.has_value() && found->differences.empty();
}

}  // namespace bv::bench
