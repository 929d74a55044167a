#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "core/base/workers.hpp"
#include "core/comm/agree.hpp"
#include "core/comm/frame.hpp"
#include "core/comm/grid.hpp"
#include "core/comm/shares.hpp"
#include "properties/claims/catalogue.hpp"
#include "properties/claims/dtypes.hpp"
#include "properties/claims/roundtrip.hpp"

namespace bv::claims {
namespace {

constexpr std::int64_t kWindowsBytes = std::int64_t{8} << 20;

constexpr std::int64_t kDeviceWindowsBytes = std::int64_t{512} << 20;

/// Bytes of shards that are held at once by one thread.
std::int64_t windows_bytes(const Budget& budget) {
  return (budget.device == nullptr ? kWindowsBytes : kDeviceWindowsBytes) /
         std::max(1, budget.jobs);
}

/// One verdict for all tensors of a part on one layout.
Verdict about_all(const Subject& subject, const Part& part, const std::string& id) {
  Verdict verdict;
  verdict.claim = "bytes";
  verdict.layout = id;
  verdict.rule = part.name.empty() ? "all" : part.name;
  verdict.replay = fmt::format("{} --only bytes --layout {}", subject.replay, id);
  for (const RuleUse& use : rule_uses(subject)) {
    verdict.cases += use.part == &part ? use.tensors : 0;
  }
  return verdict;
}

Verdict no_bytes(const Subject& subject, const Part& part, const std::string& id) {
  Verdict verdict = about_all(subject, part, id);
  verdict.outcome = Outcome::Inconclusive;
  verdict.code = Code::NoBytes;
  verdict.title = "there are no bytes to move: the model is headers only";
  verdict.help = "give the directory with the weights";
  return verdict;
}

Verdict no_plan(const Subject& subject, const Part& part, const std::string& id,
                const Error& error) {
  Verdict verdict = about_all(subject, part, id);
  verdict.outcome = Outcome::Refuted;
  verdict.code = error.code;
  verdict.refuted_cases = verdict.cases;
  verdict.title = error.message;
  verdict.help = error.help;
  return verdict;
}

/// The files changed while they were read: what was seen of them says nothing.
void distrust(std::vector<Verdict>& verdicts, const Error& error) {
  for (Verdict& verdict : verdicts) {
    verdict.outcome = Outcome::Inconclusive;
    verdict.evidence = {};
    verdict.code = error.code;
    verdict.title = error.message;
    verdict.help = error.help;
  }
}

/// The first fault of each mapping, and whether all were moved.
struct Moved {
  std::vector<std::optional<MoveFault>> faults;
  Status status = Done{};
};

/// Moves the mappings that `is_mine` takes.
Moved move_mappings(const Subject& subject, const Part& part, const plan::Plan& plan,
                    const std::function<bool(std::size_t)>& is_mine) {
  const model::Model& model = part.source->model;
  const Dtypes dtypes(subject);
  Moved out;
  out.faults.resize(model.mappings.size());
  out.status =
      for_each_parallel(model.mappings.size(), subject.budget.jobs, [&](std::size_t i) -> Status {
        if (!is_mine(i) || dtypes.refuses(part, model.mappings[i])) {
          return Done{};  // another process, or Unsupported below
        }
        claims::MoveCount count;
        BV_TRY(fault,
               check_round_trip(plan, i, *part.source->checkpoint, windows_bytes(subject.budget),
                                count, subject.budget.device));
        out.faults[i] = std::move(fault);
        if (subject.budget.progress != nullptr) {
          subject.budget.progress->advance(count.bytes, static_cast<std::uint64_t>(count.tensors),
                                           model.mappings[i].hf.front());
          if (subject.budget.progress->stop_requested()) {
            return fail(Code::Stopped, "stopped before every byte was compared")
                .advise("run it again");
          }
        }
        return Done{};
      });
  return out;
}

std::vector<std::string> as_texts(std::size_t mapping, const MoveFault& fault) {
  std::string index;
  for (const std::int64_t at : fault.index) {
    index += fmt::format("{} ", at);
  }
  return {std::to_string(mapping), fault.tensor, fault.rank, index, fault.what};
}

MoveFault fault_from(std::span<const std::string> texts) {
  MoveFault out{texts[1], texts[2], {}, texts[4]};
  std::istringstream index(texts[3]);
  for (std::int64_t at = 0; index >> at;) {
    out.index.push_back(at);
  }
  return out;
}

constexpr std::size_t kTextsOfFault = 5;

/// Why some processes could not go on: the first by name, and all the others. An error that all
/// have alike is that of one process.
Error error_of_world(const comm::Link& world, const std::map<int, Error>& stopped) {
  const auto& [first, why] = *stopped.begin();
  const auto said_by = [&](int rank, const Error& one) {
    return one.code == Code::Stopped
               ? world.name_of(rank) + " was stopped before every byte was compared"
               : fmt::format("{}: {}", world.name_of(rank), one.message);
  };
  const bool alike = std::all_of(stopped.begin(), stopped.end(), [&](const auto& one) {
    return one.second.code == why.code && one.second.message == why.message;
  });
  Error out = why;
  if (alike && std::ssize(stopped) == world.size()) {
    return out;
  }
  out.message = said_by(first, why);
  out.facts.clear();
  for (const auto& [rank, other] : stopped) {
    if (rank != first) {
      out.facts.push_back(said_by(rank, other));
    }
  }
  return out;
}

/// What all processes found: first why one could not go on, "" when it could, then its faults.
Moved unite(const comm::Link& world, const std::vector<std::vector<std::string>>& all,
            std::size_t mappings) {
  Moved out;
  out.faults.resize(mappings);
  std::map<int, Error> stopped;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    const std::vector<std::string>& texts = all[rank];
    if (!texts.empty() && !texts[0].empty()) {
      stopped.emplace(static_cast<int>(rank), comm::error_from(texts[0]));
    }
    for (std::size_t at = 1; at + kTextsOfFault <= texts.size(); at += kTextsOfFault) {
      const std::size_t mapping = std::strtoull(texts[at].c_str(), nullptr, 10);
      if (mapping < mappings) {
        out.faults[mapping] = fault_from(std::span(texts).subspan(at, kTextsOfFault));
      }
    }
  }
  if (!stopped.empty()) {
    out.status = error_of_world(world, stopped);
  }
  return out;
}

/// What the processes of a world are known to read alike: ranks by name of the tensor.
using Agreed = std::map<std::string, std::set<int>, std::less<>>;

/// What each process reads of a part, and did not read on the layouts before.
std::vector<comm::ReadTensor> new_readings(const Part& part, const std::vector<int>& process,
                                           Agreed& agreed) {
  std::map<std::string, comm::ReadTensor, std::less<>> found;
  const auto& mappings = part.source->model.mappings;
  for (std::size_t i = 0; i < mappings.size(); ++i) {
    for (const std::string& name : mappings[i].hf) {
      const TensorSpec* const spec = part.source->checkpoint->find(name);
      if (spec != nullptr && agreed[name].insert(process[i]).second) {
        comm::ReadTensor& one = found[name];
        one.tensor = {&*part.source->checkpoint, spec};
        one.ranks.insert(process[i]);
      }
    }
  }
  std::vector<comm::ReadTensor> out;
  for (auto& [name, one] : found) {
    out.push_back(std::move(one));
  }
  return out;
}

/// Each process moves the mappings of its ranks; all learn what all found.
Moved move_in_world(comm::Link& world, const Subject& subject, const Part& part,
                    const plan::Plan& plan, Agreed& agreed) {
  const std::vector<int> process =
      comm::processes_of_mappings(plan, part.source->headers, world.size());
  world.name_coordinates(comm::coordinates_of_processes(plan.layout(), world.size()));
  if (auto same = comm::agree_on_contents(world, new_readings(part, process, agreed),
                                          subject.budget.jobs, subject.budget.progress);
      !same) {
    world.fail_all(same.error());
    return {std::vector<std::optional<MoveFault>>(process.size()), std::move(same)};
  }
  world.work_untold(false);
  const Moved mine =
      move_mappings(subject, part, plan, [&](std::size_t i) { return process[i] == world.rank(); });
  world.work_untold(true);
  std::vector<std::string> texts = {mine.status ? "" : comm::error_fields(mine.status.error())};
  for (std::size_t i = 0; i < mine.faults.size(); ++i) {
    if (mine.faults[i]) {
      for (std::string& text : as_texts(i, *mine.faults[i])) {
        texts.push_back(std::move(text));
      }
    }
  }
  auto all = comm::exchanged(
      world, texts, fmt::format("faults of bytes on {}", parallel::layout_id(plan.layout())));
  if (!all) {
    return {std::vector<std::optional<MoveFault>>(mine.faults.size()), std::move(all).error()};
  }
  return unite(world, *all, mine.faults.size());
}

std::vector<Verdict> check_one_layout(const Subject& subject, const Part& part,
                                      const plan::Plan& plan, Agreed& agreed) {
  const std::string id = parallel::layout_id(plan.layout());
  const Dtypes dtypes(subject);
  const auto [faults, status] =
      subject.budget.world == nullptr
          ? move_mappings(subject, part, plan, [](std::size_t) { return true; })
          : move_in_world(*subject.budget.world, subject, part, plan, agreed);
  std::vector<Verdict> out;
  for (const RuleUse& use : rule_uses(subject)) {
    if (use.part != &part) {
      continue;
    }
    Verdict verdict = about(subject, "bytes", use, id);
    verdict.cases = use.tensors;
    verdict.outcome = status ? Outcome::Held : Outcome::Inconclusive;
    verdict.evidence.bytes = status.has_value();
    if (!status) {
      verdict.code = status.error().code;
      verdict.title = status.error().message;
      verdict.help = status.error().help;
      if (subject.budget.world != nullptr) {
        verdict.facts = status.error().facts;  // the other processes
      }
    }
    if (status && dtypes.refuses(use)) {
      dtypes.mark(part, verdict);
    }
    for (const std::uint32_t m : use.mappings) {
      if (!faults[m]) {
        continue;
      }
      if (verdict.refuted_cases++ > 0) {
        continue;
      }
      verdict.outcome = Outcome::Refuted;
      verdict.evidence = {};
      verdict.facts.clear();
      verdict.code = Code::BytesDiffer;
      verdict.title = fmt::format("{} {}", faults[m]->tensor, faults[m]->what);
      verdict.found = faults[m]->what;
      verdict.wanted = "every element back, bit for bit";
      verdict.help = "compare the kind's line with its inverse: bridge-verify rules show";
      Counterexample example;
      example.tensor = faults[m]->tensor;
      example.rank = faults[m]->rank;
      example.index = faults[m]->index;
      verdict.counterexamples.push_back(std::move(example));
    }
    out.push_back(std::move(verdict));
  }
  return out;
}

}  // namespace

std::int64_t count_bytes(const Subject& subject) {
  return std::ssize(subject.layouts) * sum_of(subject, &RuleUse::tensors);
}

std::vector<Verdict> check_bytes(const Subject& subject) {
  std::vector<Verdict> out;
  for (const Part& part : subject.parts) {
    std::vector<Verdict> of_part;
    Agreed agreed;
    for (const parallel::Layout& layout : subject.layouts) {
      const std::string id = parallel::layout_id(layout);
      auto plan = plan::Plan::make(part.source->model, *subject.kinds, layout);
      if (!part.source->checkpoint) {
        of_part.push_back(no_bytes(subject, part, id));
      } else if (!plan) {
        of_part.push_back(no_plan(subject, part, id, plan.error()));
      } else {
        auto moved = check_one_layout(subject, part, *plan, agreed);
        std::move(moved.begin(), moved.end(), std::back_inserter(of_part));
      }
    }
    if (part.source->checkpoint) {
      if (auto status = part.source->checkpoint->unchanged(); !status) {
        distrust(of_part, status.error());
      }
    }
    std::move(of_part.begin(), of_part.end(), std::back_inserter(out));
  }
  return out;
}

}  // namespace bv::claims
