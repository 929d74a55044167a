#include "ci/cli/session/legacy_shards.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "ci/cli/session/found_spelling.hpp"
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

/// What one file holds: the models of its virtual stages, in their order.
struct RankModels {
  std::vector<std::unique_ptr<const io::TensorStore>> stages;
  std::map<std::string_view, std::int64_t> arguments;  // sizes that the run was started with
  std::int64_t left_out = 0;                           // entries beside the weights

  [[nodiscard]] std::optional<std::int64_t> argument(std::string_view name) const {
    const auto found = arguments.find(name);
    return found == arguments.end() ? std::nullopt : std::optional(found->second);
  }
};

constexpr std::string_view kPipelineSize = "pipeline_model_parallel_size";
constexpr std::string_view kExpertSize = "expert_model_parallel_size";
constexpr std::string_view kExpertTensorSize = "expert_tensor_parallel_size";

/// mp_rank_00_001 is a pipeline or an expert rank: only the arguments of the run, or the options,
/// say which; a model without experts has pipeline ranks alone.
Result<Numbers> numbers_of(const std::vector<torch_dist::LegacyFile>& files,
                           const RankModels& first, const parallel::Layout& flags, bool experts) {
  const std::size_t count = files.front().others.size();
  const bool alike =
      std::all_of(files.begin(), files.end(),
                  [&](const torch_dist::LegacyFile& one) { return one.others.size() == count; });
  const std::int64_t pp = first.argument(kPipelineSize).value_or(flags.pp);
  const std::int64_t ep = first.argument(kExpertSize).value_or(flags.ep);
  if (alike && count == 1 && !experts && pp == 1 && ep == 1) {
    return Numbers{true, false};
  }
  if (!alike || (count == 1 && (pp > 1) == (ep > 1))) {
    return fail(alike ? Code::BadValue : Code::ShardContents,
                "the mp_rank names do not say which rank is which")
        .at(io::printable_path(files.front().path))
        .pair(alike ? "a second number, and no arguments of the run" : "numbers of two lengths",
              "mp_rank_TP, mp_rank_TP_PP or mp_rank_TP_PP_EP")
        .advise(alike ? "say what the second number counts with --pp N or --ep N"
                      : "copy the files of one checkpoint only");
  }
  if (count == 2) {
    return Numbers{true, true};
  }
  return count == 0 ? Numbers{} : Numbers{pp > 1, ep > 1};
}

/// The model of a safetensors file, which says nothing of the run; or those of a .pt file.
Result<RankModels> models_in(const torch_dist::LegacyFile& file, bool strict) {
  RankModels out;
  if (file.path.extension() == ".safetensors") {
    BV_TRY(checkpoint, io::Checkpoint::open(file.path, strict));
    out.stages.push_back(std::make_unique<const io::Checkpoint>(std::move(checkpoint)));
    return out;
  }
  BV_TRY(models, torch_dist::open_models(file.path));
  BV_CHECK(models.front().check_sums());
  for (const std::string_view name : {kPipelineSize, kExpertSize, kExpertTensorSize}) {
    if (const auto value = models.front().argument(std::string(name))) {
      out.arguments.emplace(name, *value);
    }
  }
  for (torch_dist::FileStore& model : models) {
    out.left_out += model.left_out();
    out.stages.push_back(std::make_unique<const torch_dist::FileStore>(std::move(model)));
  }
  return out;
}

/// In the order of the files, each with as many virtual stages.
Result<std::vector<RankModels>> models_of(const std::vector<torch_dist::LegacyFile>& files,
                                          bool strict) {
  std::vector<RankModels> out;
  for (const torch_dist::LegacyFile& file : files) {
    BV_TRY(models, models_in(file, strict));
    if (!out.empty() && models.stages.size() != out.front().stages.size()) {
      return fail(Code::ShardContents, "the mp_rank files hold different numbers of virtual stages")
          .at(io::printable_path(file.path))
          .pair(counted(models.stages.size(), "model"), counted(out.front().stages.size(), "model"))
          .advise("copy the files of one checkpoint only");
    }
    out.push_back(std::move(models));
  }
  return out;
}

/// Rows of a vocabulary shard, when the shards hold more rows than the model has: Megatron pads
/// also where TP divides the vocabulary. Where no rank holds one, the names are wrong and not the
/// layout: the fewest rows that a legal one has.
std::optional<std::int64_t> padded_rows(const LegacyShards& legacy, const model::Model& model) {
  const std::int64_t rows = model.geometry.get("vocab_size").value_or(0);
  bool there = false;
  for (const model::Mapping& mapping : model.mappings) {
    for (const auto& [rank, shard] : legacy.shards) {
      const TensorSpec* const found =
          mapping.rule->vocabulary ? shard->find(model.megatron_name(mapping)) : nullptr;
      there = there || found != nullptr;
      if (found != nullptr && !found->shape.empty() &&
          checked_mul(found->shape[0], legacy.layout.tp).value_or(0) > rows) {
        return found->shape[0];
      }
    }
  }
  const std::int64_t tp = legacy.layout.tp;
  return there || rows % tp == 0 ? std::nullopt : std::optional((rows + tp - 1) / tp);
}

/// Coordinates that the names state; the expert tensor rank is not among them.
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

/// Where the last ranks are missing, their numbers are too: the run says how many there were of
/// what the names count. Its arguments are untrusted: so many ranks are counted, not listed.
Status count_stated(const RankModels& first, const Numbers& numbers,
                    const std::vector<torch_dist::LegacyFile>& files, parallel::Layout& layout) {
  if (numbers.pp) {
    layout.pp = std::max(layout.pp, first.argument(kPipelineSize).value_or(1));
  }
  if (numbers.ep) {
    layout.ep = std::max(layout.ep, first.argument(kExpertSize).value_or(1));
  }
  const auto least = checked_mul(layout.pp, layout.ep);
  if (least && *least <= parallel::kMaxSize) {
    return Done{};
  }
  return fail(Code::CacheIncomplete, "the mp_rank files are fewer than those of their run")
      .at(io::printable_path(files.front().path))
      .pair(counted(files.size(), "file"),
            fmt::format("PP {} times EP {}, as the arguments in it say", layout.pp, layout.ep))
      .advise("copy the missing files beside the others");
}

}  // namespace

Result<LegacyShards> open_legacy(const std::vector<torch_dist::LegacyFile>& files,
                                 const Options& options, model::Model& model) {
  LegacyShards out;
  BV_TRY(models, models_of(files, options.strict));
  BV_TRY(flags, one_layout(options));
  const RankModels& first = models.front();
  const bool experts = model.geometry.experts() > 0;
  BV_TRY(numbers, numbers_of(files, first, flags, experts));
  out.layout = flags;
  out.layout.tp = out.layout.pp = out.layout.ep = 1;
  out.layout.vpp = std::ssize(first.stages);
  std::vector<parallel::ShardKey> keys = named_ranks(files, numbers, out.layout);
  BV_CHECK(count_stated(first, numbers, files, out.layout));
  std::optional<std::int64_t> etp = first.argument(kExpertTensorSize);
  if (!etp && options.has("etp")) {
    etp = flags.etp;
  }
  if (!experts) {
    etp = 1;
  }
  if (!find_etp(etp, out.layout, keys)) {
    BV_CHECK(parallel::check_sizes(out.layout));
    const bool told = options.has("etp") || options.has("ep") || options.has("pp");
    return fail(told ? Code::BadValue : Code::CacheIncomplete,
                fmt::format("the mp_rank files are not those of one layout ({})",
                            parallel::layout_id(out.layout)))
        .at(io::printable_path(files.front().path))
        .pair(counted(files.size(), "file"),
              counted(parallel::shard_keys(out.layout).size() / first.stages.size(), "file"))
        .advise(told ? "copy the missing files beside the others, or leave --pp, --ep and --etp out"
                     : "copy the missing files beside the others");
  }
  std::int64_t left_out = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    left_out += models[i].left_out;
    for (auto& stage : models[i].stages) {
      out.shards.emplace(keys[i], std::move(stage));
      ++keys[i].vp;
    }
  }
  take_spelling(
      options,
      [&](const std::string& name) {
        return std::any_of(out.shards.begin(), out.shards.end(),
                           [&](const auto& one) { return one.second->find(name) != nullptr; });
      },
      model, out.notes);
  if (!out.layout.vocab_divisor) {
    out.layout.vocab_divisor = padded_rows(out, model);
  }
  if (left_out > 0) {
    out.notes.push_back(fmt::format(
        "{} entries beside the weights (extra states) are not looked at", thousands(left_out)));
  }
  return out;
}

}  // namespace bv::cli
