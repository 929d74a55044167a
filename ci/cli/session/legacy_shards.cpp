#include "ci/cli/session/legacy_shards.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

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

/// Coordinates that the names of the folders state; the expert tensor rank is not among them.
std::vector<parallel::ShardKey> named_ranks(const std::vector<torch_dist::LegacyFile>& files,
                                            const Numbers& numbers, parallel::Layout& layout) {
  std::vector<parallel::ShardKey> out;
  for (const torch_dist::LegacyFile& file : files) {
    parallel::ShardKey& key = out.emplace_back();
    key.tp = file.tp;
    key.pp = numbers.pp ? file.others.front() : 0;
    key.ep = numbers.ep ? file.others.back() : 0;
    layout.tp = std::max(layout.tp, key.tp + 1);
    layout.pp = std::max(layout.pp, key.pp + 1);
    layout.ep = std::max(layout.ep, key.ep + 1);
  }
  return out;
}

/// Gives every named rank its expert tensor rank; false when the ranks are not those of `layout`.
bool fits(const parallel::Layout& layout, std::vector<parallel::ShardKey>& ranks) {
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t>, std::int64_t> etp_of;
  std::size_t wanted = 0;
  for (const parallel::ShardKey& key : parallel::shard_keys(layout)) {
    etp_of[{key.pp, key.tp, key.ep}] = key.etp;
    wanted += key.vp == 0 ? 1 : 0;
  }
  for (parallel::ShardKey& rank : ranks) {
    const auto found = etp_of.find({rank.pp, rank.tp, rank.ep});
    if (found == etp_of.end()) {
      return false;
    }
    rank.etp = found->second;
  }
  return wanted == ranks.size() && etp_of.size() == ranks.size();
}

/// The expert tensor size that the folders are of: as the run or the options state it, else the
/// first of TP (the default of Megatron) and its divisors that fits. TP when none does.
bool find_etp(std::optional<std::int64_t> stated, parallel::Layout& layout,
              std::vector<parallel::ShardKey>& ranks) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t size = layout.tp; !stated && size >= 1; --size) {
    if (layout.tp % size == 0) {
      sizes.push_back(size);
    }
  }
  if (stated) {
    sizes.push_back(*stated);
  }
  for (const std::int64_t size : sizes) {
    layout.etp = size;
    if (parallel::check_sizes(layout) && fits(layout, ranks)) {
      return true;
    }
  }
  layout.etp = sizes.front();
  return false;
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
  std::vector<parallel::ShardKey> keys = named_ranks(files, numbers, out.layout);
  std::optional<std::int64_t> etp = first.argument("expert_tensor_parallel_size");
  if (!etp && options.has("etp")) {
    etp = flags.etp;
  }
  if (model.geometry.get("num_experts").value_or(0) == 0) {
    etp = 1;
  }
  if (!find_etp(etp, out.layout, keys)) {
    BV_CHECK(parallel::check_sizes(out.layout));
    return fail(Code::BadValue, fmt::format("the mp_rank folders are not those of one layout ({})",
                                            parallel::layout_id(out.layout)))
        .at(io::printable_path(files.front().path))
        .pair(counted(files.size(), "folder"),
              counted(parallel::shard_keys(out.layout).size() / models.front().size(), "folder"))
        .advise("copy the missing folders beside the others");
  }
  std::int64_t left_out = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    for (torch_dist::FileStore& stage : models[i]) {
      left_out += stage.left_out();
      out.shards.emplace(keys[i], std::make_unique<const torch_dist::FileStore>(std::move(stage)));
      ++keys[i].vp;
    }
  }
  if (!out.layout.vocab_divisor) {
    out.layout.vocab_divisor = padded_rows(out, model);
  }
  out.notes.push_back(fmt::format("{} entries beside the weights (extra states) are not looked at",
                                  thousands(left_out)));
  return out;
}

}  // namespace bv::cli
