// Which mutants a rule has: every change of its line, and every fault of a move that can matter for
// it.

#include <algorithm>
#include <array>
#include <set>
#include <span>

#include "core/layout/notation.hpp"
#include "properties/attacks/mutants/mutant.hpp"
#include "properties/claims/subject.hpp"

namespace bv::mutants {
namespace {

using Parameters = std::map<std::string, std::string, std::less<>>;

/// Which ways an operator can be wrong on.
constexpr std::array kAllSides = {Side::There, Side::Both, Side::Back};
constexpr std::array kThereAndBoth = {Side::There, Side::Both};
constexpr std::array kThere = {Side::There};
constexpr std::array kBack = {Side::Back};  // what only an export does

/// The moves of one rule, and what can go wrong with them.
struct Subject {
  const family::Rule* rule = nullptr;
  family::Stage stage = family::Stage::Decoder;
  std::string pattern;
  std::vector<const Move*> moves;
  std::size_t places = 0;    // layers and experts
  bool replicated = false;   // the line says {*t}
  bool one_of_many = false;  // other rules make such parameters in other layers

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
      subject.stage = case_.model.mappings[use.mappings.front()].stage;
      subject.pattern = claims::megatron_pattern(use);
      for (const Move& move : right_.moves) {
        if (move.rule == use.rule->id) {
          subject.moves.push_back(&move);
        }
      }
      if (!subject.moves.empty()) {
        describe(subject);
        subjects_.push_back(std::move(subject));
      }
    }
    for (std::size_t i = 0; i < subjects_.size(); ++i) {
      lines(subjects_[i]);
      names(subjects_[i]);
      places(subjects_[i]);
      values(subjects_[i]);
      copies(subjects_[i]);
      stacks(subjects_[i]);
      exchanges(i);
    }
    return std::move(out_);
  }

 private:
  void add(const Subject& subject, Operator op, Parameters parameters,
           std::span<const Side> sides = kAllSides) {
    if (subject.one_of_many) {
      parameters.emplace("rule", subject.rule->id);
    }
    add_to(subject.pattern, op, parameters, sides);
  }

  void add_to(const std::string& pattern, Operator op, const Parameters& parameters,
              std::span<const Side> sides) {
    for (const Side side : sides) {
      out_.push_back({op, pattern, parameters, side == Side::Both, side == Side::Back});
    }
  }

  void describe(Subject& subject) const {
    std::set<std::pair<std::int64_t, std::int64_t>> places;
    for (const Move* move : subject.moves) {
      places.emplace(move->index, move->expert);
    }
    subject.places = places.size();
    subject.one_of_many =
        std::any_of(right_.moves.begin(), right_.moves.end(), [&](const Move& move) {
          return move.rule != subject.rule->id && glob_match(subject.pattern, move.global_name);
        });
    const layout::Rule* line = library_.kinds.find(subject.rule->kind);
    subject.replicated =
        line != nullptr && !line->targets[0].grid.empty() && line->targets[0].grid.back().replica;
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
      if (change.op == Operator::Transpose &&
          subject.rule->orientation != family::Orientation::ByShape) {
        add(subject, Operator::Cond, parameters);
      }
    }
  }

  void names(const Subject& subject) {
    add(subject, Operator::Drop, {});
    add(subject, Operator::Rename, {{"by", "_renamed"}});
    add(subject, Operator::Rename, {{"hf", "_renamed"}});
    if (!subject.rule->form_group.empty()) {
      add(subject, Operator::Cond, {{"hf", "_of_the_other_form"}});
    }
    if (subject.moves.front()->hf.size() > 1 || subject.places > 1) {
      add(subject, Operator::Dup, {});
    }
  }

  void places(const Subject& subject) {
    add(subject, Operator::Offset, {{"k", "1"}});
    add(subject, Operator::Poison, {});
    // Where the line says {*t} there are no ranks to mistake for each other.
    if (!subject.replicated && subject.any([](const Move& move) { return move.t > 0; })) {
      add(subject, Operator::Rank, {{"map", "zero"}});
      add(subject, Operator::Rank, {{"map", "reverse"}});
    }
    if (subject.any([](const Move& move) { return move.expert != move.local_expert; })) {
      add(subject, Operator::Rank, {{"map", "local_experts"}});
    }
    if (subject.any([](const Move& move) { return move.expert > 0; })) {
      add(subject, Operator::Rank, {{"map", "reverse_experts"}});
    }
    std::set<std::int64_t> layers;
    for (const Move* move : subject.moves) {
      layers.insert(move->index);
    }
    if (layers.size() > 1) {
      add(subject, Operator::Layer, {{"k", "1"}});
    }
    if (std::any_of(subject.moves.begin(), subject.moves.end(), [&](const Move* move) {
          return move->index != move->local_index && layers.contains(move->local_index);
        })) {
      add(subject, Operator::Layer, {{"map", "local"}});
    }
  }

  void values(const Subject& subject) {
    const Move& move = *subject.moves.front();
    const DType dtype = case_.headers.find(move.hf.front())->second.dtype;
    if (dtype == DType::F32) {
      add(subject, Operator::Cast, {{"dtype", "BF16"}}, kThereAndBoth);
    }
    add(subject, Operator::Cast, {{"dtype", "F16"}}, kThereAndBoth);
    add(subject, Operator::Scale, {{"by", "2"}});
    if (move.arithmetic.add != 0) {
      add(subject, Operator::Arith, {{"add", "1"}});
      add(subject, Operator::Arith, {{"add", "-1"}});
      add(subject, Operator::Order, {{"dtype", dtype == DType::F32 ? "BF16" : "F16"}},
          kThereAndBoth);
      if (dtype == DType::F32) {
        add(subject, Operator::Order, {{"through", "BF16"}}, kThereAndBoth);
      }
      add(subject, Operator::Alias, {}, kThere);
    } else if (move.hf_shapes[0].size() == 1) {
      add(subject, Operator::Cond, {{"add", "-1"}});
    }
  }

  void copies(const Subject& subject) {
    std::set<std::string> names;
    for (const Move* move : subject.moves) {
      if (move->copy) {
        names.insert(move->global_name);
      }
    }
    for (const std::string& copy : names) {
      add_to(copy, Operator::Tie, {}, kThereAndBoth);
      add_to(copy, Operator::ReplShard, {{"element", "0"}}, kThere);
    }
    const auto embedding =
        std::find_if(subjects_.begin(), subjects_.end(), [&](const Subject& other) {
          return other.stage == family::Stage::Embedding && other.rule->vocabulary &&
                 other.moves.front()->shape == subject.moves.front()->shape;
        });
    if (subject.stage == family::Stage::Output && subject.rule->vocabulary &&
        embedding != subjects_.end()) {
      add(subject, Operator::Tie, {{"of", embedding->pattern}});
    }
    if (subject.replicated && subject.any([](const Move& move) { return move.t > 0; })) {
      add(subject, Operator::ReplShard, {{"element", "0"}}, kThere);
    }
    if (subject.rule->vocabulary && subject.any([](const Move& move) {
          return std::any_of(move.boxes.begin(), move.boxes.end(),
                             [](const layout::Box& box) { return box.source < 0; });
        })) {
      add(subject, Operator::Pad, {{"zeros", "none"}}, kThereAndBoth);
    }
  }

  void stacks(const Subject& subject) {
    if (subject.any([](const Move& move) {
          const Shape& shape = move.hf_shapes[0];
          return std::find(shape.begin(), shape.end(), 1) != shape.end();
        })) {
      add(subject, Operator::Squeeze, {}, kBack);
    }
    if (subject.any(
            [](const Move& move) { return move.expert > 0 && move.hf_shapes[0].size() == 3; })) {
      add(subject, Operator::Overwrite, {}, kBack);
    }
  }

  /// Two parameters of one place and shape, each read where the other should be: the next one of
  /// the list will do.
  void exchanges(std::size_t at) {
    const Subject& subject = subjects_[at];
    for (std::size_t i = at + 1; i < subjects_.size(); ++i) {
      const Subject& other = subjects_[i];
      if (other.stage == subject.stage && other.rule->kind == subject.rule->kind &&
          other.moves.front()->index == subject.moves.front()->index &&
          other.moves.front()->expert == subject.moves.front()->expert &&
          other.moves.front()->shape == subject.moves.front()->shape) {
        add(subject, Operator::Swap, {{"with", other.pattern}});
        return;
      }
    }
  }

  const Library& library_;
  const Case& case_;
  const Program& right_;
  std::vector<Subject> subjects_;
  std::vector<Mutant> out_;
};

}  // namespace

std::vector<Mutant> enumerate(const Library& library, const Case& one, const Program& right) {
  return Listing(library, one, right).run();
}

}  // namespace bv::mutants
