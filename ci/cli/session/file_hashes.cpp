#include "ci/cli/session/file_hashes.hpp"

#include <fmt/format.h>

#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/torch_dist/integrity.hpp"

namespace bv::cli {
namespace {

constexpr std::size_t kShownFiles = 6;

Verdict changed_files(const std::vector<torch_dist::ChangedFile>& changed) {
  const torch_dist::ChangedFile& first = changed.front();
  Verdict out;
  out.claim = "contents";
  out.megatron = io::printable(first.name);
  out.outcome = Outcome::Refuted;
  out.code = Code::ContentsChanged;
  out.cases = std::ssize(changed);
  out.refuted_cases = out.cases;
  out.title =
      changed.size() == 1
          ? fmt::format("{} changed since the checkpoint was saved", io::in_quotes(first.name))
          : fmt::format("{} and {} changed since the checkpoint was saved",
                        io::in_quotes(first.name), counted(changed.size() - 1, "other file"));
  out.found = "SHA-256 " + first.found;
  out.wanted = fmt::format("SHA-256 {} ({})", first.wanted, torch_dist::kIntegrityName);
  std::vector<std::string> names;
  for (const torch_dist::ChangedFile& file : changed) {
    names.push_back(io::in_quotes(file.name));
  }
  if (names.size() > 1) {
    out.facts.push_back("changed: " + join(io::first_lines(names, kShownFiles), ", "));
  }
  out.facts.emplace_back("Megatron refuses this checkpoint when it loads with verify_integrity");
  out.help = "copy the file again from where it was saved, or save the checkpoint again";
  return out;
}

Verdict equal_files(std::int64_t count) {
  Verdict out;
  out.claim = "contents";
  out.megatron = torch_dist::kIntegrityName;
  out.outcome = Outcome::Held;
  out.evidence.bytes = true;
  out.cases = count;
  return out;
}

}  // namespace

Result<bool> add_file_hashes(const std::filesystem::path& iteration,
                             const torch_dist::DistCheckpoint& store, int jobs, Run& run) {
  BV_TRY(found, torch_dist::check_integrity(iteration, store.files(), jobs));
  run.notes.insert(run.notes.end(), found.notes.begin(), found.notes.end());
  if (found.compared == 0) {
    return true;
  }
  ClaimSummary summary;
  summary.claim = "contents";
  summary.title = "every file has the hash that integrity.json states";
  summary.noun = "files";
  summary.subjects = found.compared;
  run.claims.push_back(std::move(summary));
  if (const auto equal = found.compared - std::ssize(found.changed); equal > 0) {
    run.verdicts.push_back(equal_files(equal));
  }
  if (!found.changed.empty()) {
    run.verdicts.push_back(changed_files(found.changed));
  }
  return found.changed.empty();
}

}  // namespace bv::cli
