#include "ci/cli/commands/convert_direction.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/megatron_iteration.hpp"

namespace bv::cli {
namespace {

/// What only the way to Megatron can follow: a Megatron folder has a layout, a dtype and a config
/// of its own.
constexpr std::array kToMegatron = {"set",
                                    "family",
                                    "revision",
                                    "tp",
                                    "pp",
                                    "ep",
                                    "etp",
                                    "vpp",
                                    "cp",
                                    "num-layers-per-virtual-pipeline-stage",
                                    "decoder-first-pipeline-num-layers",
                                    "decoder-last-pipeline-num-layers",
                                    "pipeline-model-parallel-layout",
                                    "account-for-embedding-in-pipeline-split",
                                    "account-for-loss-in-pipeline-split",
                                    "make-vocab-size-divisible-by",
                                    "layout",
                                    "transformer-impl",
                                    "moe-grouped-gemm",
                                    "no-moe-grouped-gemm",
                                    "drop-mtp",
                                    "expert-orientation",
                                    "exclude",
                                    "dtype",
                                    "seed",
                                    "adapter",
                                    "untie"};
/// What opens the model of --like as it was when the checkpoint was written: a torch_dist
/// checkpoint that training saved says none of it.
constexpr std::array kOfLike = {"set",
                                "family",
                                "revision",
                                "transformer-impl",
                                "moe-grouped-gemm",
                                "no-moe-grouped-gemm",
                                "drop-mtp",
                                "expert-orientation",
                                "exclude",
                                "adapter",
                                "untie"};
constexpr std::array kToHf = {"accept-changed", "like", "quantised"};

/// A torch_dist checkpoint is the same in every layout, and is not resumed.
Status check_dist(const Options& options) {
  for (const char* name : {"tp", "pp", "ep", "etp", "vpp", "cp", "layout", "resume"}) {
    if (options.to == "torch_dist" && options.has(name)) {
      return fail(Code::Conflict, fmt::format("--{} has no meaning with --to torch_dist", name))
          .advise("leave it out: Megatron-Core loads the checkpoint in every layout");
    }
  }
  return Done{};
}

}  // namespace

Status check_form(const Options& options, bool keeps_one) {
  if (keeps_one || !options.has("quantised") || options.quantised != "restore") {
    return Done{};
  }
  return fail(Code::Conflict, fmt::format("{} keeps no quantised form that could be restored",
                                          io::printable(options.model)))
      .pair("plain weights alone",
            "a folder that convert --to megatron --dtype wrote of a "
            "quantised model, with quantised/ in it")
      .advise("leave --quantised out");
}

Result<io::LocatedModel> megatron_of(io::LocatedModel located) {
  if (located.kind == io::ModelKind::HfFolder && located.weights == io::WeightsForm::None) {
    BV_TRY(below, io::megatron_below(located.path));
    if (below) {
      return std::move(*below);
    }
  }
  return located;
}

std::string layouts_line(const parallel::Layout& layout, const std::string& etp,
                         const std::string& padding) {
  return parallel::layout_id(layout) + (etp.empty() ? "" : ", " + etp) +
         (padding.empty() ? "" : ", " + padding);
}

void describe_checkpoint(const torch_dist::DistCheckpoint& store, const std::string& like,
                         Run& run) {
  run.tensors = std::ssize(store.headers());
  run.bytes = store.total_bytes();
  run.shards = std::ssize(store.files());
  run.family_reason += fmt::format("; names and files of --like {}", io::printable(like));
  run.layouts_note = "any: a torch_dist checkpoint is the same in every layout";
}

Error no_way_back(const io::LocatedModel& located) {
  const std::string shown = io::printable_path(located.folder);
  const auto listing = io::list_folder(located.path);
  const std::vector<std::string> ranks =
      listing ? io::rank_names(*listing) : std::vector<std::string>{};
  if (ranks.empty()) {
    return fail(Code::NoConfig, fmt::format("{} is not a Megatron checkpoint", shown))
        .at(shown)
        .pair(located.how, "a folder that convert --to megatron wrote, or a torch_dist checkpoint")
        .advise("give one of them with --model; to write one of this model: --to megatron");
  }
  constexpr std::string_view kOtherWay =
      "save a torch_dist checkpoint there (Megatron: --ckpt-format torch_dist), then bridge-verify "
      "convert --to hf --model CKPT_DIR --like HF_DIR --out DIR";
  const std::string check = fmt::format(
      "whether they hold a model as it should be: bridge-verify check --model HF_DIR --megatron {}",
      shell_quoted(located.folder.string()));
  if (ranks.front().starts_with("mp_rank_") && !ranks.front().ends_with(".safetensors")) {
    return fail(Code::NoConfig,
                fmt::format("{} is a legacy Megatron checkpoint ({}), which is checked against an "
                            "HF model and not converted to one",
                            shown, counted(ranks.size(), "mp_rank folder")))
        .at(shown)
        .fact("to get an HF model of it: " + std::string(kOtherWay))
        .pair(io::printable(join(io::first_lines(ranks, 3), ", ")),
              "a torch_dist checkpoint, or a folder that convert --to megatron wrote")
        .advise(check);
  }
  return fail(Code::NoConfig,
              fmt::format("{} holds {} without manifest.json, which names the model and the layout",
                          shown, counted(ranks.size(), "shard")))
      .at(shown)
      .fact("bridge-verify wrote the shards: copy manifest.json and the folder hf from beside them")
      .fact("another program wrote them: " + std::string(kOtherWay))
      .pair(io::printable(join(io::first_lines(ranks, 3), ", ")), "manifest.json beside them")
      .advise(check);
}

void tell_left_out(const Options& options, const std::vector<std::string>& names, Run& run) {
  if (!names.empty()) {
    run.notes.push_back(
        fmt::format("left out when {} was written: {}{}", io::printable(options.model),
                    io::in_quotes(names.front()),
                    names.size() == 1 ? "" : fmt::format(" and {} more", names.size() - 1)));
  }
}

Status check_direction(const Options& options, Run& run) {
  if (options.from == options.to) {
    return fail(Code::Conflict,
                fmt::format("--from {} and --to {} are one side", options.from, options.to))
        .advise("leave --from out");
  }
  const bool hf = options.to == "hf";
  const std::vector<std::string> others =
      hf ? std::vector<std::string>(kToMegatron.begin(), kToMegatron.end())
         : std::vector<std::string>(kToHf.begin(), kToHf.end());
  for (const Setting& given : options.given) {
    const bool of_like = hf && !options.like.empty() &&
                         std::find(kOfLike.begin(), kOfLike.end(), given.name) != kOfLike.end();
    if (of_like || std::find(others.begin(), others.end(), given.name) == others.end()) {
      continue;
    }
    if (given.origin != Origin::CommandLine) {
      run.notes.push_back(
          fmt::format("{} is not used by --to {}", io::printable(given.written), options.to));
      continue;
    }
    return fail(Code::UnknownOption,
                fmt::format("--{} belongs to --to {}", given.name, hf ? "megatron" : "hf"))
        .pair(io::printable(given.written),
              fmt::format("an option that --to {} can follow", options.to))
        .advise(hf ? "leave it out: layout, dtype and config are those of the Megatron folder"
                   : "leave it out");
  }
  return check_dist(options);
}

}  // namespace bv::cli
