// Which mutants a rule has: every change of its line, and every fault of a move that can matter for
// it.

#include <algorithm>

#include "core/layout/notation.hpp"
#include "properties/claims/subject.hpp"
#include "properties/mutants/mutant.hpp"

namespace bv::mutants {
namespace {

using Parameters = std::map<std::string, std::string, std::less<>>;

/// The moves of one rule, and what can go wrong with them.
struct Subject {
  const model::Rule* rule = nullptr;
  std::string pattern;
  std::vector<const Move*> moves;

  [[nodiscard]] bool any(bool (*says)(const Move&)) const {
    return std::any_of(moves.begin(), moves.end(), [&](const Move* move) { return says(*move); });
  }
};

class Listing {
 public:
  Listing(const Library& library, const Case& one, const Program& right)
      : library_(library), case_(one), right_(right) {}

  std::vector<Mutant> run() {
    for (const claims::RuleUse& use : claims::rule_uses(case_.model)) {
      Subject subject;
      subject.rule = use.rule;
      subject.pattern = claims::megatron_pattern(case_.model, use);
      for (const Move& move : right_.moves) {
        if (move.rule == use.rule->id) {
          subject.moves.push_back(&move);
        }
      }
      if (!subject.moves.empty()) {
        lines(subject);
        names(subject);
        places(subject);
        values(subject);
        copies(subject);
      }
    }
    return std::move(out_);
  }

 private:
  void add(const Subject& subject, Operator op, Parameters parameters, bool one_sided = true,
           bool two_sided = true) {
    if (one_sided) {
      out_.push_back({op, subject.pattern, parameters, false});
    }
    if (two_sided) {
      out_.push_back({op, subject.pattern, std::move(parameters), true});
    }
  }

  void lines(const Subject& subject) {
    const layout::Rule* line = library_.kinds.find(subject.rule->kind);
    if (line == nullptr) {
      return;
    }
    for (const LineChange& change : line_changes(*line, subject.rule->rest)) {
      Parameters parameters = {{"line", layout::print(change.line)}};
      for (const auto& [axis, expression] : change.axes) {
        parameters[std::string("axis ").append(axis)] = expression;
      }
      if (change.drops_rest) {
        parameters.emplace("drops_rest", "yes");
      }
      add(subject, change.op, parameters);
      if (change.op == Operator::Transpose && !subject.rule->orientation.empty()) {
        add(subject, Operator::Cond, std::move(parameters));
      }
    }
  }

  void names(const Subject& subject) {
    add(subject, Operator::Drop, {});
    add(subject, Operator::Rename, {{"suffix", "_renamed"}});
    if (subject.moves.front()->hf.size() > 1 ||
        subject.any([](const Move& move) { return move.index > 0 || move.expert > 0; })) {
      add(subject, Operator::Dup, {});
    }
  }

  void places(const Subject& subject) {
    add(subject, Operator::Offset, {{"k", "1"}});
    add(subject, Operator::Poison, {});
    if (subject.any([](const Move& move) { return move.t > 0; })) {
      add(subject, Operator::Rank, {{"map", "zero"}});
      add(subject, Operator::Rank, {{"map", "reverse"}});
    }
    if (subject.any([](const Move& move) { return move.expert != move.local_expert; })) {
      add(subject, Operator::Rank, {{"map", "local_experts"}});
    }
    if (subject.any([](const Move& move) { return move.expert > 0; })) {
      add(subject, Operator::Rank, {{"map", "reverse_experts"}});
    }
    if (subject.any([](const Move& move) { return move.index > 0; })) {
      add(subject, Operator::Layer, {{"k", "1"}});
    }
    if (subject.any([](const Move& move) { return move.index != move.local_index; })) {
      add(subject, Operator::Layer, {{"map", "local"}});
    }
  }

  void values(const Subject& subject) {
    const Move& move = *subject.moves.front();
    const DType dtype = case_.headers.find(move.hf.front())->second.dtype;
    if (dtype == DType::F32) {
      add(subject, Operator::Cast, {{"dtype", "BF16"}});
    }
    add(subject, Operator::Cast, {{"dtype", "F16"}});
    add(subject, Operator::Scale, {{"by", "2"}});
    if (move.arithmetic.add != 0) {
      add(subject, Operator::Arith, {{"add", "1"}});
      add(subject, Operator::Arith, {{"add", "-1"}});
      add(subject, Operator::Order, {{"dtype", "BF16"}});
      add(subject, Operator::Alias, {}, true, false);
    } else if (move.hf_shapes[0].size() == 1) {
      add(subject, Operator::Cond, {{"add", "-1"}});
    }
  }

  void copies(const Subject& subject) {
    if (subject.any([](const Move& move) { return move.copy; })) {
      add(subject, Operator::Tie, {});
    }
    const layout::Rule* line = library_.kinds.find(subject.rule->kind);
    const bool replicated =
        line != nullptr && !line->targets[0].grid.empty() && line->targets[0].grid.back().replica;
    if (subject.any([](const Move& move) { return move.copy; }) ||
        (replicated && subject.any([](const Move& move) { return move.t > 0; }))) {
      add(subject, Operator::ReplShard, {{"element", "0"}}, true, false);
    }
    if (subject.rule->vocabulary && subject.any([](const Move& move) {
          return std::any_of(move.boxes.begin(), move.boxes.end(),
                             [](const layout::Box& box) { return box.source < 0; });
        })) {
      add(subject, Operator::Pad, {{"zeros", "none"}});
    }
    if (subject.any([](const Move& move) {
          const Shape& shape = move.hf_shapes[0];
          return std::find(shape.begin(), shape.end(), 1) != shape.end();
        })) {
      add(subject, Operator::Squeeze, {}, false, true);
    }
    if (subject.any(
            [](const Move& move) { return move.expert > 0 && move.hf_shapes[0].size() == 3; })) {
      add(subject, Operator::Overwrite, {}, false, true);
    }
  }

  const Library& library_;
  const Case& case_;
  const Program& right_;
  std::vector<Mutant> out_;
};

}  // namespace

std::vector<Mutant> enumerate(const Library& library, const Case& one, const Program& right) {
  return Listing(library, one, right).run();
}

}  // namespace bv::mutants
