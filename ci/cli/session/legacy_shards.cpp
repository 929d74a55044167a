#include "ci/cli/session/legacy_shards.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"

namespace bv::cli {
namespace {

/// What the numbers behind the first one count.
struct Numbers {
  bool pp = false;
  bool ep = false;
};

/// mp_rank_00_001 is a pipeline or an expert rank: only the arguments of the run say which.
Result<Numbers> numbers_of(const std::vector<torch_dist::LegacyFile>& files,
                           const torch_dist::FileStore& first) {
  const std::size_t count = files.front().others.size();
  const bool alike =
      std::all_of(files.begin(), files.end(),
                  [&](const torch_dist::LegacyFile& one) { return one.others.size() == count; });
  const auto pp = first.argument("pipeline_model_parallel_size");
  const auto ep = first.argument("expert_model_parallel_size");
  if (!alike || (count == 1 && !pp && !ep)) {
    return fail(Code::BadValue, "the names of the mp_rank folders do not say which rank is which")
        .at(io::printable_path(files.front().path))
        .pair(alike ? "a second number, and no arguments of the run" : "numbers of two lengths",
              "mp_rank_TP, mp_rank_TP_PP or mp_rank_TP_PP_EP")
        .advise("save the checkpoint with its arguments, or as torch_dist");
  }
  if (count == 2) {
    return Numbers{true, true};
  }
  return count == 0 ? Numbers{} : Numbers{pp.value_or(1) > 1, pp.value_or(1) <= 1};
}

/// Rows of a vocabulary shard, when the shards hold more rows than the model has: Megatron pads
/// also where TP divides the vocabulary.
std::optional<std::int64_t> padded_rows(const LegacyShards& legacy, const model::Model& model) {
  const std::int64_t rows = model.geometry.get("vocab_size").value_or(0);
  for (const model::Mapping& mapping : model.mappings) {
    for (const auto& [rank, shard] : legacy.shards) {
      const TensorSpec* const found =
          mapping.rule->vocabulary ? shard->find(model.megatron_name(mapping)) : nullptr;
      if (found != nullptr && !found->shape.empty() &&
          checked_mul(found->shape[0], legacy.layout.tp).value_or(0) > rows) {
        return found->shape[0];
      }
    }
  }
  return std::nullopt;
}

}  // namespace

Result<LegacyShards> open_legacy(const std::vector<torch_dist::LegacyFile>& files,
                                 const Options& options, const model::Model& model) {
  LegacyShards out;
  std::vector<torch_dist::FileStore> stores;
  std::int64_t left_out = 0;
  for (const torch_dist::LegacyFile& file : files) {
    BV_TRY(store, torch_dist::FileStore::open(file.path, "model"));
    BV_CHECK(store.check_sums());
    left_out += store.left_out();
    stores.push_back(std::move(store));
  }
  BV_TRY(numbers, numbers_of(files, stores.front()));
  BV_TRY(flags, one_layout(options));
  out.layout = flags;
  out.layout.tp = out.layout.pp = out.layout.ep = out.layout.vpp = 1;
  std::vector<parallel::ShardKey> keys;
  for (const torch_dist::LegacyFile& file : files) {
    parallel::ShardKey key;
    key.tp = file.tp;
    key.pp = numbers.pp ? file.others.front() : 0;
    key.ep = numbers.ep ? file.others.back() : 0;
    out.layout.tp = std::max(out.layout.tp, key.tp + 1);
    out.layout.pp = std::max(out.layout.pp, key.pp + 1);
    out.layout.ep = std::max(out.layout.ep, key.ep + 1);
    keys.push_back(key);
  }
  const bool has_experts = model.geometry.get("num_experts").value_or(0) > 0;
  out.layout.etp =
      has_experts ? stores.front().argument("expert_tensor_parallel_size").value_or(out.layout.tp)
                  : 1;
  BV_CHECK(parallel::check_sizes(out.layout));
  std::set<parallel::ShardKey> wanted;
  for (const parallel::ShardKey& key : parallel::shard_keys(out.layout)) {
    wanted.insert(key);
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    keys[i].etp = out.layout.etp > 1 ? keys[i].tp : 0;
    wanted.erase(keys[i]);
    out.shards.emplace(keys[i],
                       std::make_unique<const torch_dist::FileStore>(std::move(stores[i])));
  }
  if (!wanted.empty() || out.shards.size() != files.size()) {
    return fail(Code::BadValue, fmt::format("the mp_rank folders are not those of one layout ({})",
                                            parallel::layout_id(out.layout)))
        .at(io::printable_path(files.front().path))
        .pair(counted(files.size(), "folder"),
              counted(parallel::shard_keys(out.layout).size(), "folder"))
        .advise("copy the missing folders beside the others");
  }
  if (!out.layout.vocab_divisor) {
    out.layout.vocab_divisor = padded_rows(out, model);
  }
  out.notes.push_back(fmt::format("{} entries beside the weights (extra states) are not looked at",
                                  thousands(left_out)));
  return out;
}

}  // namespace bv::cli
