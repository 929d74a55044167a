#include "ci/cli/commands/convert_next.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <vector>

#include "ci/cli/options/command_text.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/folder_names.hpp"

namespace bv::cli {
namespace {

constexpr std::string_view kReadsBack = "reads what was written, and compares every element";

/// Neither file can say them: they name places of this machine, or what the user lets pass.
constexpr std::array<std::string_view, 6> kWithModel = {"revision", "families", "rules",
                                                        "adapter",  "strict",   "allow-partial"};
/// Of a checkpoint that no file of ours describes.
constexpr std::array<std::string_view, 8> kWithLike = {
    "allow-partial",       "families", "rules", "family", "transformer-impl", "moe-grouped-gemm",
    "no-moe-grouped-gemm", "strict"};

void add_check(const Options& options, const std::string& model, const std::string& megatron,
               std::span<const std::string_view> kept, Run& run) {
  const bool written = std::any_of(run.claims.begin(), run.claims.end(), [](const auto& one) {
    return one.claim == "bytes" && one.subjects > 0;
  });
  const bool faulty = std::any_of(run.verdicts.begin(), run.verdicts.end(), [](const auto& one) {
    return one.claim == "bytes" && one.outcome == Outcome::Refuted;
  });
  if (!written || faulty) {
    return;
  }
  Options check = options;
  check.command = "check";
  check.operands.clear();
  check.given = {{"model", model, Origin::CommandLine, ""},
                 {"megatron", megatron, Origin::CommandLine, ""}};
  for (const Setting& one : options.given) {
    if (std::find(kept.begin(), kept.end(), one.name) != kept.end()) {
      check.given.push_back(one);
    }
  }
  run.next = shell_line(command_words(check, [](const OptionSpec&) { return true; }));
  run.next_note = kReadsBack;
}

}  // namespace

void add_next_of_megatron(const Options& options, const checkpoint::HfModel& source, Run& run) {
  add_check(options, options.model, options.out, kWithModel, run);
  const bool told = source.resolve.drop_mtp || !source.settings.empty() ||
                    !source.resolve.left_out.empty() || !options.adapter.empty() ||
                    !source.resolve.spelling.transformer_engine || !options.family.empty() ||
                    !options.rules.empty();
  if (options.to == "torch_dist" && told && !run.next.empty()) {
    run.notes.push_back(fmt::format(
        "{} beside the tensors says what the checkpoint was written with; training saves without "
        "it, and the same options must then be given to check and to convert --to hf",
        checkpoint::kRecordName));
  }
}

void add_next_of_hf(const Options& options, Run& run) {
  add_check(options, options.out, options.model, kWithLike, run);
}

}  // namespace bv::cli
