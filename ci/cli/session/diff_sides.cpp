#include "ci/cli/session/diff_sides.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "ci/cli/session/convert_verdicts.hpp"
#include "ci/cli/session/session.hpp"
#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/compare/diff.hpp"
#include "core/convert/fingerprints.hpp"
#include "core/io/checkpoint.hpp"
#include "core/io/entry.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/megatron_iteration.hpp"
#include "core/model/name_filter.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

std::map<std::string, fs::path> shards_in(const fs::path& folder) {
  std::map<std::string, fs::path> out;
  std::error_code error;
  fs::directory_iterator at(folder, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    const fs::path& path = at->path();
    if (path.extension() == ".safetensors" && parallel::shard_from_name(path.stem().string())) {
      out.emplace(path.stem().string(), path);
    }
  }
  return out;
}

Result<std::optional<io::LocatedModel>> megatron_in(const std::string& reference,
                                                    std::vector<std::string>& notes) {
  std::error_code ignored;
  if (!fs::is_directory(reference, ignored)) {
    return std::optional<io::LocatedModel>();
  }
  auto located = io::classify_path(reference);
  if (located && located->kind == io::ModelKind::HfFolder &&
      located->weights == io::WeightsForm::None) {
    BV_TRY(below, io::megatron_below(reference));  // beside a config.json
    if (below) {
      located = std::move(*below);
    }
  }
  if (!located && (located.error().code == Code::CacheIncomplete ||
                   io::has_entry(fs::path(reference) / io::kIterationTracker))) {
    return std::move(located).error();  // no iteration is named, or one that is not there
  }
  const bool megatron = located && (located->kind == io::ModelKind::TorchDist ||
                                    located->kind == io::ModelKind::RankFiles);
  if (!megatron) {
    return std::optional<io::LocatedModel>();
  }
  notes.insert(notes.end(), located->notes.begin(), located->notes.end());
  return std::optional(std::move(*located));
}

Status check_sides(const std::vector<std::string>& sides) {
  if (sides.size() != 2) {
    return fail(Code::BadValue, fmt::format("diff needs two checkpoints, not {}", sides.size()))
        .advise("bridge-verify diff HF_DIR OTHER_DIR");
  }
  if (!shards_in(sides[0]).empty()) {
    return fail(Code::BadValue,
                fmt::format("{} holds Megatron shards; the first checkpoint is the wanted one",
                            io::printable_path(sides[0])))
        .pair("Megatron shards", "an HF model")
        .advise("bridge-verify diff HF_DIR " + shell_quoted(sides[0]));
  }
  return Done{};
}

Status check_no_sizes(const Options& options) {
  for (const char* size : {"tp", "pp", "ep", "etp", "vpp", "cp"}) {
    if (options.has(size)) {
      return fail(Code::Conflict, fmt::format("--{} has no meaning here", size))
          .advise("leave it out: a torch_dist checkpoint is the same in every layout");
    }
  }
  return Done{};
}

Error no_megatron(const std::string& reference) {
  std::error_code ignored;
  if (!fs::exists(reference, ignored)) {
    return fail(Code::ModelNotFound, fmt::format("there is no {}", io::printable_path(reference)))
        .at(io::printable_path(reference))
        .advise("give the folder that --save named, or the iter_* folder in it");
  }
  const auto located = io::classify_path(reference);
  const bool hf = located && located->kind != io::ModelKind::MegatronFolder;
  const std::string shown = io::printable_path(reference);
  return (hf ? fail(Code::BadValue, fmt::format("{} is not a Megatron checkpoint", shown))
             : fail(Code::ModelNotFound, fmt::format("{} holds no Megatron checkpoint", shown)))
      .at(shown)
      .pair(hf ? "an HF model" : "none of its files",
            "*.distcp with .metadata, mp_rank_*/model_optim_rng.pt, or shards such as "
            "mp_rank_00.safetensors and "
            "pp0_tp0_ep0_etp0.safetensors; or a folder whose latest_checkpointed_iteration.txt "
            "names one with them")
      .advise(hf ? fmt::format("compare two HF models with --against {}", shell_quoted(reference))
                 : "give the folder that --save named, or the iter_* folder in it");
}

Result<compare::Shards> open_shards(const std::map<std::string, fs::path>& shards, bool strict) {
  compare::Shards out;
  for (const auto& [name, path] : shards) {
    BV_TRY(checkpoint, io::Checkpoint::open(path, strict));
    out.emplace(*parallel::shard_from_name(name),
                std::make_unique<const io::Checkpoint>(std::move(checkpoint)));
  }
  return out;
}

Result<parallel::Layout> layout_of(const std::map<std::string, fs::path>& shards,
                                   const Options& options) {
  std::vector<std::string> names;
  for (const auto& [name, path] : shards) {
    names.push_back(name);
  }
  BV_TRY(flags, one_layout(options));
  BV_TRY(layout, compare::layout_of_shards(names, flags));
  for (const auto& [option, stated, found] :
       {std::tuple("tp", flags.tp, layout.tp), std::tuple("pp", flags.pp, layout.pp),
        std::tuple("ep", flags.ep, layout.ep), std::tuple("etp", flags.etp, layout.etp)}) {
    if (options.has(option) && stated != found) {
      return fail(Code::Conflict,
                  fmt::format("--{} {} contradicts the names of the shards", option, stated))
          .pair(fmt::format("{} {} in the names", option, found),
                fmt::format("--{} {}", option, stated))
          .advise(fmt::format("leave --{} out: the names decide", option));
    }
  }
  return layout;
}

Status shapes_right(const checkpoint::HfModel& hf, const plan::Plan& plan) {
  for (const model::Mapping& mapping : hf.model.mappings) {
    const auto& shapes = plan.hf_shapes(mapping);
    for (std::size_t i = 0; i < mapping.hf.size(); ++i) {
      const Shape& found = hf.headers.find(mapping.hf[i])->second.shape;
      if (found != shapes[i]) {
        return fail(Code::ConfigField,
                    fmt::format("{} of A does not have the shape that its config states",
                                escaped(mapping.hf[i])))
            .pair(shape_text(found), shape_text(shapes[i]))
            .advise("bridge-verify check --model " + shell_quoted(hf.folder.string()));
      }
    }
  }
  return Done{};
}

void tell_wrapper(const model::Model& model, const compare::Shards& found,
                  std::vector<std::string>& notes) {
  Headers all;
  for (const auto& [rank, shard] : found) {
    all.merge(shard->headers());
  }
  tell_wrapper(model, all, notes);
}

void tell_wrapper(const model::Model& model, const Headers& found,
                  std::vector<std::string>& notes) {
  constexpr std::array<std::string_view, 4> kStarts = {"embedding.", "decoder.", "output_layer.",
                                                       "mtp."};
  std::map<std::string, std::int64_t> behind;  // prefix -> names
  for (const auto& [name, spec] : found) {
    for (const std::string_view start : kStarts) {
      const std::size_t at = name.find("." + std::string(start));
      if (name.starts_with(start)) {
        ++behind[""];
        break;
      }
      if (at != std::string::npos) {
        ++behind[name.substr(0, at + 1)];
        break;
      }
    }
  }
  const auto most =
      std::max_element(behind.begin(), behind.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  const bool unexpected =
      most != behind.end() && !most->first.empty() &&
      std::none_of(model.mappings.begin(), model.mappings.end(), [&](const auto& mapping) {
        return model.megatron_name(mapping).starts_with(most->first);
      });
  if (unexpected) {
    notes.push_back(fmt::format(
        "{} of {} names of the checkpoint begin with {}: a wrapper was saved with the model; save "
        "the state_dict of the model itself (unwrap_model)",
        thousands(most->second), thousands(static_cast<std::int64_t>(found.size())),
        io::in_quotes(most->first)));
  }
}

std::string one_rank_note(const parallel::Layout& layout) {
  return layout.vocab_divisor
             ? fmt::format("the checkpoint as one rank, the vocabulary padded to {} rows as in it",
                           *layout.vocab_divisor)
             : "the checkpoint as one rank";
}

Status leave_out(const Options& options, Headers all, const Headers& found,
                 compare::Comparison& comparison, std::vector<std::string>& notes) {
  all.insert(found.begin(), found.end());
  BV_TRY(names, model::excluded_names({{}, options.exclude}, all));
  std::erase_if(comparison.subjects,
                [&](const compare::Subject& one) { return names.contains(one.tensor); });
  std::erase_if(comparison.strays,
                [&](const compare::Stray& one) { return names.contains(one.tensor); });
  for (const std::string& name : names) {
    notes.push_back("left out by --exclude: " + escaped(name));
  }
  return Done{};
}

namespace {

/// Every tensor of the plan has a fingerprint.
Status check_listed(const plan::Plan& plan, const io::Digests& digests) {
  for (const plan::ShardFile& file : plan.files()) {
    const auto listed = digests.find(file.name);
    for (const plan::Target& target : file.targets) {
      if (listed == digests.end() || !listed->second.contains(target.name)) {
        return fail(Code::ManifestDisagrees,
                    fmt::format("manifest.json of B has no fingerprint of {} in {}",
                                io::in_quotes(target.name), file.name))
            .advise("bring manifest and shards of one conversion together, or convert again");
      }
    }
  }
  return Done{};
}

}  // namespace

Result<std::vector<Verdict>> copy_verdicts(const plan::Plan& plan, compare::Shards shards,
                                           const checkpoint::MegatronFolder* written, int jobs) {
  checkpoint::Shards ranks;
  for (const plan::ShardFile& file : plan.files()) {
    const auto shard = shards.find(file.key);
    if (shard == shards.end()) {
      return std::vector<Verdict>();
    }
    ranks.push_back(std::move(shard->second));
  }
  convert::ConvertReport report;
  convert::Fingerprints prints;
  if (written != nullptr) {
    BV_CHECK(check_listed(plan, written->digests));
    BV_TRY(compared, convert::compare_fingerprints(ranks, plan, written->digests, jobs, nullptr));
    prints = std::move(compared);
    report.faults = convert::folder_faults(prints, true);
  }
  report.replicas = convert::compare_replicas(plan, ranks, prints.found);
  std::vector<Verdict> out = folder_verdicts(report);
  if (out.empty()) {
    Verdict& held = out.emplace_back();
    held.claim = "bytes";
    held.outcome = Outcome::Held;
    held.evidence.bytes = true;
    held.cases = std::ssize(ranks);
  }
  for (Verdict& verdict : out) {
    verdict.layout = parallel::layout_id(plan.layout());
    verdict.help = verdict.help.substr(0, verdict.help.rfind("; nothing was written"));
  }
  return out;
}

std::vector<Verdict> open_rules(const claims::Subject& subject) {
  std::vector<Verdict> out = claims::check_names(subject);
  std::erase_if(out, [](const Verdict& one) { return one.outcome == Outcome::Proved; });
  for (Verdict& one : out) {
    one.claim = "rules";
    one.replay = subject.replay;
  }
  return out;
}

std::vector<Verdict> name_faults(const checkpoint::HfModel& hf, const kinds::Catalogue& kinds) {
  claims::Subject subject;
  subject.parts = {{&hf}};
  subject.kinds = &kinds;
  return claims::check_names(subject);
}

}  // namespace bv::cli
