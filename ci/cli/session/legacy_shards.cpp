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

/// mp_rank_00_001 is a pipeline or an expert rank: only the arguments of the run, or the options,
/// say which.
Result<Numbers> numbers_of(const std::vector<torch_dist::LegacyFile>& files,
                           const torch_dist::FileStore& first, const parallel::Layout& flags) {
  const std::size_t count = files.front().others.size();
  const bool alike =
      std::all_of(files.begin(), files.end(),
                  [&](const torch_dist::LegacyFile& one) { return one.others.size() == count; });
  const std::int64_t pp = first.argument("pipeline_model_parallel_size").value_or(flags.pp);
  const std::int64_t ep = first.argument("expert_model_parallel_size").value_or(flags.ep);
  if (!alike || (count == 1 && (pp > 1) == (ep > 1))) {
    return fail(Code::BadValue, "the names of the mp_rank folders do not say which rank is which")
        .at(io::printable_path(files.front().path))
        .pair(alike ? "a second number, and no arguments of the run" : "numbers of two lengths",
              "mp_rank_TP, mp_rank_TP_PP or mp_rank_TP_PP_EP")
        .advise("say what the second number counts with --pp N or --ep N");
  }
  if (count == 2) {
    return Numbers{true, true};
  }
  return count == 0 ? Numbers{} : Numbers{pp > 1, ep > 1};
}

/// The models of every file; `virtual_stages` is how many each holds.
Result<std::vector<std::vector<torch_dist::FileStore>>> models_of(
    const std::vector<torch_dist::LegacyFile>& files) {
  std::vector<std::vector<torch_dist::FileStore>> out;
  for (const torch_dist::LegacyFile& file : files) {
    BV_TRY(models, torch_dist::open_models(file.path));
    BV_CHECK(models.front().check_sums());
    if (!out.empty() && models.size() != out.front().size()) {
      return fail(Code::BadValue, "the mp_rank files hold different numbers of virtual stages")
          .at(io::printable_path(file.path))
          .pair(counted(models.size(), "model"), counted(out.front().size(), "model"))
          .advise("copy the files of one checkpoint only");
    }
    out.push_back(std::move(models));
  }
  return out;
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
  BV_TRY(models, models_of(files));
  BV_TRY(flags, one_layout(options));
  const torch_dist::FileStore& first = models.front().front();
  BV_TRY(numbers, numbers_of(files, first, flags));
  out.layout = flags;
  out.layout.tp = out.layout.pp = out.layout.ep = 1;
  out.layout.vpp = static_cast<std::int64_t>(models.front().size());
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
      has_experts ? first.argument("expert_tensor_parallel_size").value_or(out.layout.tp) : 1;
  BV_CHECK(parallel::check_sizes(out.layout));
  std::set<parallel::ShardKey> wanted;
  for (const parallel::ShardKey& key : parallel::shard_keys(out.layout)) {
    wanted.insert(key);
  }
  std::int64_t left_out = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    keys[i].etp = out.layout.etp > 1 ? keys[i].tp : 0;
    for (torch_dist::FileStore& model_of_stage : models[i]) {
      left_out += model_of_stage.left_out();
      wanted.erase(keys[i]);
      out.shards.emplace(keys[i],
                         std::make_unique<const torch_dist::FileStore>(std::move(model_of_stage)));
      ++keys[i].vp;
    }
  }
  if (!wanted.empty() || out.shards.size() != files.size() * models.front().size()) {
    return fail(Code::BadValue, fmt::format("the mp_rank folders are not those of one layout ({})",
                                            parallel::layout_id(out.layout)))
        .at(io::printable_path(files.front().path))
        .pair(counted(files.size(), "folder"),
              counted(parallel::shard_keys(out.layout).size() / models.front().size(), "folder"))
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
