#include "properties/attacks/mutants/matrix.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/base/workers.hpp"
#include "core/plan/legality.hpp"
#include "properties/attacks/mutants/forward.hpp"
#include "properties/attacks/mutants/museum.hpp"

namespace bv::mutants {
namespace {

std::size_t level_of(const Fate& fate) {
  std::size_t out = kLevels.size() - 1;
  for (const Finding& finding : fate.findings) {
    for (const ClaimRow& row : kClaims) {
      if (row.claim == finding.claim) {
        const auto level = std::find(kLevels.begin(), kLevels.end(), row.level);
        out = std::min(out, static_cast<std::size_t>(level - kLevels.begin()));
      }
    }
  }
  return out;
}

Row& row_of(Operator op, Side side, Matrix& matrix) {
  const auto behind = [&](const Row& one) {
    return std::pair(one.op, one.side) >= std::pair(op, side);
  };
  auto row = std::find_if(matrix.rows.begin(), matrix.rows.end(), behind);
  if (row == matrix.rows.end() || row->op != op || row->side != side) {
    Row fresh;
    fresh.op = op;
    fresh.side = side;
    row = matrix.rows.insert(row, fresh);
  }
  return *row;
}

void count(Fate&& fate, Matrix& matrix) {
  Row& row = row_of(fate.mutant.op, side(fate.mutant), matrix);
  ++row.mutants;
  ++matrix.mutants;
  row.forward_asked += fate.forward_asked ? 1 : 0;
  if (fate.equivalence) {
    ++row.equivalent;
    matrix.equivalents.push_back(std::move(fate));
    return;
  }
  for (std::size_t i = 0; i < kGateStds.size(); ++i) {
    row.by_gate[i] += fate.gate_red[i] ? 1 : 0;
  }
  if (fate.findings.empty()) {
    matrix.survivors.push_back(std::move(fate));
    return;
  }
  ++row.killed;
  ++matrix.killed;
  ++row.by_level[level_of(fate)];
  matrix.killed_somewhere.emplace(fate.family, text(fate.mutant));
  for (std::size_t i = 0; i < kClaims.size(); ++i) {
    row.by_claim[i] +=
        std::any_of(fate.findings.begin(), fate.findings.end(),
                    [&](const Finding& one) { return one.claim == kClaims[i].claim; })
            ? 1
            : 0;
  }
}

/// The mappings of the parameters that a mutant touches or reads.
std::set<std::uint32_t> touched(const Program& right, const Mutant& mutant) {
  std::vector<std::string> patterns = {mutant.parameter};
  for (const char* key : {"with", "of"}) {
    if (const auto found = mutant.parameters.find(key); found != mutant.parameters.end()) {
      patterns.push_back(found->second);
    }
  }
  std::set<std::uint32_t> out;
  for (const Move& move : right.moves) {
    if (std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
          return glob_match(pattern, move.global_name);
        })) {
      out.insert(move.mapping);
    }
  }
  return out;
}

/// The case with these mappings only, and the tensors that they are made of.
std::shared_ptr<const Case> with_mappings(const Case& whole, const std::set<std::uint32_t>& keep) {
  auto out = std::make_shared<Case>();
  out->sample = whole.sample;
  out->model_type = whole.model_type;
  out->resolve = whole.resolve;
  out->model = whole.model;
  out->model.mappings.clear();
  for (const std::uint32_t m : keep) {
    const model::Mapping& mapping = whole.model.mappings[m];
    out->model.mappings.push_back(mapping);
    for (const std::string& hf : mapping.hf) {
      out->headers.emplace(hf, whole.headers.find(hf)->second);
    }
  }
  return out;
}

Error stopped_early() {
  return fail(Code::Stopped, "stopped before every mutant was judged").advise("run it again");
}

/// One place: its mutants, in worlds of the parameters that they touch.
class Planting {
 public:
  Planting(const Library& library, const Place& place, const oracle::Entry& entry,
           const MatrixOptions& options)
      : library_(library), place_(place), entry_(entry), options_(options) {}

  Result<Matrix> run() {
    BV_TRY(made, make_case(library_, place_.sample));
    case_ = std::move(made);
    BV_TRY(layout, padded_layout(place_.layout));
    layout_ = layout;
    if (auto legal = plan::check_layout(case_->model, layout_); !legal) {
      return std::move(legal).error().fact(place_.sample.name + " " + place_.layout);
    }
    BV_TRY(right, compile(case_->model, library_.kinds, layout_));
    if (entry_.forward != nullptr) {
      auto forward = forward_of(*case_, right, *entry_.forward);
      if (!forward) {
        return std::move(forward).error().at(place_.sample.name + " " + place_.layout);
      }
      forward_ = std::move(*forward);
    }
    std::set<std::uint32_t> last;
    for (const Mutant& mutant : enumerate(library_, *case_, right)) {
      if (options_.stopped && options_.stopped()) {
        return stopped_early();
      }
      if (options_.wanted && !options_.wanted(place_, mutant)) {
        continue;
      }
      auto keep = touched(right, mutant);
      if (keep != last) {
        BV_CHECK(enter(keep));
        last = std::move(keep);
      }
      BV_TRY(fate, judge_mutant(library_, *world_, mutant, gates_));
      fate.family = family::name(*case_->model.family);
      fate.sample = place_.sample.name;
      fate.layout = place_.layout;
      count(std::move(fate), out_);
    }
    out_.places = 1;
    return std::move(out_);
  }

 private:
  Status enter(const std::set<std::uint32_t>& keep) {
    gates_.clear();
    BV_TRY(world, Reference::make(library_, with_mappings(*case_, keep), layout_, entry_));
    world_ = std::make_unique<Reference>(std::move(world));
    world_->set_forward(forward_);
    const auto findings = world_->judge({world_->right(), world_->right(), std::nullopt});
    if (!findings.empty()) {
      return fail(findings.front().code, "a right bridge is refuted: " + findings.front().title)
          .at(place_.sample.name + " " + place_.layout)
          .advise("correct the rule or the oracle before planting faults");
    }
    for (std::size_t i = 0; options_.gate && i < kGateStds.size(); ++i) {
      gates_.emplace_back(*world_, kGateStds[i], options_.seed);
    }
    return Done{};
  }

  const Library& library_;
  const Place& place_;
  const oracle::Entry& entry_;
  const MatrixOptions& options_;
  std::shared_ptr<const Case> case_;
  parallel::Layout layout_;
  std::unique_ptr<Reference> world_;
  std::vector<Gate> gates_;
  RunForward forward_;
  Matrix out_;
};

}  // namespace

Result<std::vector<Place>> places_of(const std::vector<Sample>& samples,
                                     const std::vector<std::string>& names,
                                     const std::vector<std::string>& layouts) {
  std::vector<Sample> chosen = names.empty() ? samples : std::vector<Sample>{};
  for (const std::string& name : names) {
    const std::size_t before = chosen.size();
    std::copy_if(samples.begin(), samples.end(), std::back_inserter(chosen),
                 [&](const Sample& one) { return one.family == name && one.name != name; });
    auto one = find_sample(samples, name);
    if (one) {
      chosen.push_back(std::move(*one));
    } else if (chosen.size() == before) {
      return std::move(one).error();
    }
  }
  std::vector<Place> out;
  for (const Sample& sample : chosen) {
    for (const std::string& layout : layouts.empty() ? sample.layouts : layouts) {
      out.push_back({sample, layout});
    }
  }
  return out;
}

Result<Fate> judge_mutant(const Library& library, const Reference& reference, const Mutant& mutant,
                          std::span<const Gate> gates) {
  BV_TRY(attack, apply(library, reference.model(), reference.right(), mutant));
  Fate fate;
  fate.mutant = mutant;
  fate.findings = reference.judge(attack);
  fate.forward_asked = reference.has_forward() && !attack.refused;
  if (fate.findings.empty()) {
    fate.equivalence = prove_equivalent(library, reference, mutant, attack);
  }
  for (std::size_t i = 0; i < gates.size(); ++i) {
    fate.gate_red[i] = gates[i].run(attack).red;
  }
  return fate;
}

void merge(Matrix&& more, Matrix& matrix) {
  for (const Row& row : more.rows) {
    Row& sum = row_of(row.op, row.side, matrix);
    sum.mutants += row.mutants;
    sum.equivalent += row.equivalent;
    sum.killed += row.killed;
    sum.forward_asked += row.forward_asked;
    const auto add = [](auto& into, const auto& from) {
      for (std::size_t i = 0; i < into.size(); ++i) {
        into[i] += from[i];
      }
    };
    add(sum.by_claim, row.by_claim);
    add(sum.by_level, row.by_level);
    add(sum.by_gate, row.by_gate);
  }
  std::move(more.survivors.begin(), more.survivors.end(), std::back_inserter(matrix.survivors));
  std::move(more.equivalents.begin(), more.equivalents.end(),
            std::back_inserter(matrix.equivalents));
  matrix.killed_somewhere.merge(more.killed_somewhere);
  matrix.mutants += more.mutants;
  matrix.killed += more.killed;
  matrix.places += more.places;
}

Result<Matrix> run_matrix(const Library& library, const std::vector<Place>& places,
                          const oracle::Entry& entry, const MatrixOptions& options) {
  std::vector<Matrix> parts(places.size());
  BV_CHECK(for_each_parallel(places.size(), options.jobs, [&](std::size_t i) -> Status {
    BV_TRY(part, Planting(library, places[i], entry, options).run());
    parts[i] = std::move(part);
    if (options.progress && !options.progress(places[i])) {
      return stopped_early();
    }
    return Done{};
  }));
  Matrix out;
  for (Matrix& part : parts) {
    merge(std::move(part), out);
  }
  return out;
}

std::vector<Fate> never_killed(const Matrix& matrix) {
  std::vector<Fate> out;
  for (const Fate& fate : matrix.equivalents) {
    if (!holds_everywhere(fate.equivalence->reason) &&
        !matrix.killed_somewhere.contains({fate.family, text(fate.mutant)})) {
      out.push_back(fate);
    }
  }
  return out;
}

}  // namespace bv::mutants
