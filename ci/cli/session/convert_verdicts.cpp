#include "ci/cli/session/convert_verdicts.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"

namespace bv::cli {
namespace {

constexpr std::size_t kShownRecast = 6;

Verdict refuted(std::string rule, Code code, std::string subject, std::string title) {
  Verdict verdict;
  verdict.claim = "bytes";
  verdict.rule = std::move(rule);
  verdict.outcome = Outcome::Refuted;
  verdict.code = code;
  verdict.megatron = std::move(subject);
  verdict.title = std::move(title);
  verdict.cases = 1;
  verdict.refuted_cases = 1;
  return verdict;
}

/// One parameter that holds rows of an HF tensor twice.
Verdict repeated_verdict(const convert::ReplicaFault& fault, std::size_t number) {
  const convert::RepeatedElement& repeated = *fault.repeated;
  const std::string part = repeated.part.empty() ? "" : fmt::format(" of part {}", repeated.part);
  Verdict out =
      refuted(fmt::format("replica{}", number), Code::ReplicasDiffer, fault.tensor,
              fmt::format("{} holds {} more than once{}, and the copies differ", fault.tensor,
                          repeated.hf, part.empty() ? "" : ", as rows" + part));
  out.hf = {repeated.hf};
  out.found =
      fault.first_owner == fault.other_owner
          ? fmt::format("row {} differs from row {}{} in {} (element {})", repeated.other_row,
                        repeated.row, part, fault.other_owner, fault.element)
          : fmt::format("row {} of {} differs from row {} of {}{} (element {})", repeated.other_row,
                        fault.other_owner, repeated.row, fault.first_owner, part, fault.element);
  out.wanted = fmt::format("equal rows: {} has each of them once", repeated.hf);
  out.help = "find out which of the rows is right, and write it to both places";
  return out;
}

}  // namespace

std::vector<Verdict> folder_verdicts(const convert::ConvertReport& report) {
  std::vector<Verdict> out;
  for (const convert::FolderFault& fault : report.faults) {
    Verdict verdict =
        refuted(fmt::format("folder{}", out.size()), fault.code, fault.subject, fault.title);
    verdict.cases = fault.cases;
    verdict.refuted_cases = fault.cases;
    verdict.found = fault.found;
    verdict.wanted = fault.wanted;
    verdict.help = fault.help;
    out.push_back(std::move(verdict));
  }
  std::vector<Verdict> copies = replica_verdicts(report.replicas);
  for (Verdict& verdict : copies) {
    verdict.help += "; nothing was written";
  }
  std::move(copies.begin(), copies.end(), std::back_inserter(out));
  return out;
}

std::vector<Verdict> replica_verdicts(const std::vector<convert::ReplicaFault>& faults) {
  std::vector<Verdict> out;
  for (const convert::ReplicaFault& fault : faults) {
    if (fault.repeated) {
      out.push_back(repeated_verdict(fault, out.size()));
      continue;
    }
    Verdict verdict =
        refuted(fmt::format("replica{}", out.size()), Code::ReplicasDiffer, fault.tensor,
                fmt::format("two ranks hold different copies of {}", fault.tensor));
    verdict.found = fmt::format("{} differs from {} at element {}", fault.other_owner,
                                fault.first_owner, fault.element);
    verdict.wanted = "equal bytes on every owner";
    verdict.help = "find the rank that diverged";
    out.push_back(std::move(verdict));
  }
  return out;
}

Verdict written_verdict(const std::string& file, std::size_t tensors, bool verified) {
  Verdict verdict;
  verdict.claim = "bytes";
  verdict.rule = file;
  verdict.megatron = file;
  verdict.outcome = verified ? Outcome::Held : Outcome::Inconclusive;
  verdict.evidence.bytes = verified;
  verdict.cases = std::max<std::int64_t>(1, static_cast<std::int64_t>(tensors));
  if (!verified) {
    verdict.code = Code::WriteLost;
    verdict.title = file + " was written and not read back";
    verdict.help = "leave --no-verify out";
  }
  return verdict;
}

std::vector<Error> value_warnings(const convert::ConvertReport& report,
                                  const std::string& checkpoint, const std::string& hf) {
  std::vector<Error> out;
  for (const convert::DroppedRows& dropped : report.dropped_rows) {
    out.push_back(
        fail(Code::PaddingRowsDropped,
             fmt::format("{} of {}, not zero, {} dropped", counted(dropped.rows, "padding row"),
                         dropped.tensor, dropped.rows == 1 ? "is" : "are"))
            .pair(fmt::format("rows of norm {:.6g}", dropped.norm), "rows of zeros")
            .advise("correct vocab_size of config.json when these rows are tokens"));
  }
  for (const convert::RecastTensors& recast : report.recast) {
    Error& one = out.emplace_back(
        fail(Code::CastOnTheWayBack,
             fmt::format("{} {} {} in the checkpoint, {} in the HF model, and {} cast",
                         counted(recast.tensors.size(), "tensor"),
                         recast.tensors.size() == 1 ? "is" : "are", name(recast.stored),
                         name(recast.wanted), recast.tensors.size() == 1 ? "is" : "are"))
            .pair(std::string(name(recast.stored)), std::string(name(recast.wanted)))
            .advise(fmt::format("bridge-verify diff {} {} says which values the checkpoint holds",
                                shell_quoted(hf), shell_quoted(checkpoint))));
    for (std::size_t i = 0; i < std::min(recast.tensors.size(), kShownRecast); ++i) {
      one.facts.push_back(io::printable(recast.tensors[i]));
    }
    if (recast.tensors.size() > kShownRecast) {
      one.facts.push_back(fmt::format("and {} more", recast.tensors.size() - kShownRecast));
    }
  }
  return out;
}

std::int64_t weight_files(const std::filesystem::path& folder) {
  std::int64_t out = 0;
  std::error_code error;
  std::filesystem::recursive_directory_iterator at(folder, error);
  for (; !error && at != std::filesystem::recursive_directory_iterator(); at.increment(error)) {
    out += at->path().extension() == ".safetensors" ? 1 : 0;
  }
  return out;
}

std::string_view although_lossy(const Run& run) {
  const bool lossy = std::any_of(run.verdicts.begin(), run.verdicts.end(), [](const Verdict& one) {
    return one.outcome == Outcome::Refuted && one.code == Code::ValueRuleInexact;
  });
  return lossy ? ", although values lose bits" : "";
}

}  // namespace bv::cli
