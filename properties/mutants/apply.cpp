// Applies a mutant: to the text of a line, or to the moves of the program that it became.

#include <algorithm>
#include <cstdlib>
#include <deque>

#include "core/base/text.hpp"
#include "core/layout/notation.hpp"
#include "properties/mutants/mutant.hpp"

namespace bv::mutants {
namespace {

constexpr std::string_view kLine = "mutated_line";

bool hits(const Mutant& mutant, const Move& move) {
  return glob_match(mutant.parameter, move.global_name);
}

std::string parameter_of(const Mutant& mutant, std::string_view key, std::string fallback) {
  const auto found = mutant.parameters.find(key);
  return found == mutant.parameters.end() ? std::move(fallback) : found->second;
}

std::int64_t number_of(const Mutant& mutant, std::string_view key, std::int64_t fallback) {
  const auto found = mutant.parameters.find(key);
  return found == mutant.parameters.end() ? fallback
                                          : std::strtoll(found->second.c_str(), nullptr, 10);
}

/// The program with another line for the rules that are hit. Errors: RulesInvalid and what the plan
/// says.
Result<Program> with_line(const Case& one, const Program& right, const Mutant& mutant) {
  BV_TRY(line, layout::parse_rule(mutant.parameters.find("line")->second, "mutant"));
  line.name = kLine;
  BV_TRY(kinds,
         kinds::Catalogue::parse(
             std::string(kinds::builtin_text()) + "\n" + layout::print(line) + "\n", "mutant"));
  model::Model model = one.model;
  std::map<const model::Rule*, const model::Rule*> changed;
  std::deque<model::Rule> rules;
  for (const Move& move : right.moves) {
    const model::Rule* rule = model.mappings[move.mapping].rule;
    const bool ours =
        std::any_of(rules.begin(), rules.end(), [&](const auto& r) { return &r == rule; });
    if (!hits(mutant, move) || changed.contains(rule) || ours) {
      continue;
    }
    model::Rule copy = *rule;
    copy.kind = kLine;
    for (const auto& [key, value] : mutant.parameters) {
      if (key.starts_with("axis ")) {
        copy.axes[key.substr(5)] = value;
      }
    }
    if (mutant.parameters.contains("drops_rest")) {
      copy.rest.clear();
    }
    rules.push_back(std::move(copy));
    changed.emplace(rule, &rules.back());
  }
  for (model::Mapping& mapping : model.mappings) {
    if (const auto found = changed.find(mapping.rule); found != changed.end()) {
      mapping.rule = found->second;
    }
  }
  return compile(model, kinds, right.layout);
}

/// The move of the same rule at another place; nullptr when there is none.
const Move* sibling(const Program& program, const Move& like, std::int64_t index,
                    std::int64_t expert, std::int64_t t) {
  for (const Move& move : program.moves) {
    if (move.rule == like.rule && move.index == index && move.expert == expert && move.t == t) {
      return &move;
    }
  }
  return nullptr;
}

void take_content(Move& move, const Move& from) {
  move.hf = from.hf;
  move.boxes = from.boxes;
  move.mapping = from.mapping;
}

std::int64_t largest(const Program& program, const Move& like, std::int64_t Move::*member) {
  std::int64_t out = 0;
  for (const Move& move : program.moves) {
    out = move.rule == like.rule ? std::max(out, move.*member) : out;
  }
  return out;
}

/// RANK and LAYER: the content of another place of the same rule.
void move_place(const Program& right, const Mutant& mutant, Move& move) {
  const std::string map = parameter_of(mutant, "map", "zero");
  std::int64_t index = move.index;
  std::int64_t expert = move.expert;
  std::int64_t t = move.t;
  if (mutant.op == Operator::Layer) {
    const std::int64_t last = largest(right, move, &Move::index);
    index =
        map == "local" ? move.local_index : (move.index + number_of(mutant, "k", 1)) % (last + 1);
  } else if (map == "zero") {
    t = 0;
  } else if (map == "reverse") {
    t = largest(right, move, &Move::t) - t;
  } else if (map == "local_experts") {
    expert = move.local_expert;
  } else if (map == "reverse_experts") {
    expert = largest(right, move, &Move::expert) - expert;
  }
  if (const Move* from = sibling(right, move, index, expert, t)) {
    take_content(move, *from);
  }
}

/// DUP: one source is read where another should be: of the parameter `of`, of the same tensor, or
/// of a sibling.
void read_twice(const Program& right, const Mutant& mutant, Move& move) {
  if (const std::string of = parameter_of(mutant, "of", ""); !of.empty()) {
    for (const Move& other : right.moves) {
      if (glob_match(of, other.global_name) && other.t == move.t && other.shape == move.shape) {
        take_content(move, other);
        return;
      }
    }
  }
  if (move.hf.size() > 1) {
    move.hf[1] = move.hf[0];
    move.hf_shapes[1] = move.hf_shapes[0];
    return;
  }
  const Move* from = sibling(right, move, move.index == 0 ? 1 : 0, move.expert, move.t);
  if (from == nullptr) {
    from = sibling(right, move, move.index, move.expert == 0 ? 1 : 0, move.t);
  }
  if (from != nullptr) {
    take_content(move, *from);
  }
}

void shift_box(const Mutant& mutant, Move& move) {
  const std::int64_t k = number_of(mutant, "k", 1);
  for (layout::Box& box : move.boxes) {
    if (box.source < 0) {
      continue;
    }
    // Elements of the source that the box may still move by without leaving it.
    std::int64_t last = box.source_offset;
    for (const layout::BoxAxis& axis : box.axes) {
      last += (axis.extent - 1) * axis.source_stride;
    }
    std::int64_t elements = 1;
    for (const std::int64_t extent : move.hf_shapes[static_cast<std::size_t>(box.source)]) {
      elements *= extent;
    }
    if (last + k < elements) {
      box.source_offset += k;
      return;
    }
    if (box.source_offset >= k) {
      box.source_offset -= k;
      return;
    }
  }
}

void change_values(const Mutant& mutant, Move& move) {
  Arithmetic& a = move.arithmetic;
  if (mutant.op == Operator::Cast) {
    a.cast = dtype_from_name(parameter_of(mutant, "dtype", "BF16"));
  } else if (mutant.op == Operator::Scale) {
    a.scale = static_cast<double>(number_of(mutant, "by", 2));
  } else if (mutant.op == Operator::Alias) {
    a.in_place = true;
    a.add = a.add == 0 ? -1 : a.add;
  } else if (mutant.op == Operator::Order) {
    a.cast = dtype_from_name(parameter_of(mutant, "dtype", "BF16"));
    a.cast_first = true;
  } else {
    a.add += static_cast<double>(number_of(mutant, "add", 1));
  }
}

/// Faults of one move that need nothing but the move. False when it is to be left out.
bool change_move(const Program& right, const Mutant& mutant, Move& move) {
  switch (mutant.op) {
    case Operator::Drop:
      return false;
    case Operator::Rename:
      move.name =
          parameter_of(mutant, "to", "") + move.name + parameter_of(mutant, "suffix", "_renamed");
      return true;
    case Operator::Dup:
      read_twice(right, mutant, move);
      return true;
    case Operator::Offset:
      shift_box(mutant, move);
      return true;
    case Operator::Rank:
    case Operator::Layer:
      move_place(right, mutant, move);
      return true;
    case Operator::Cast:
    case Operator::Arith:
    case Operator::Scale:
    case Operator::Order:
    case Operator::Alias:
      change_values(mutant, move);
      return true;
    case Operator::Tie:
      return !move.copy;
    case Operator::Squeeze:
      move.squeezes = true;
      return true;
    case Operator::Overwrite:
      move.last_expert_wins = true;
      return true;
    case Operator::Poison:
      if (!move.boxes.empty()) {
        move.boxes.pop_back();
      }
      return true;
    case Operator::Swap:
      std::swap(move.hf[0], move.hf[move.hf.size() - 1]);
      std::swap(move.hf_shapes[0], move.hf_shapes[move.hf_shapes.size() - 1]);
      return true;
    case Operator::ReplShard:
      if (move.t == largest(right, move, &Move::t) && (move.t > 0 || move.copy)) {
        move.stale = number_of(mutant, "element", 0);
      }
      return true;
    case Operator::Pad:
      std::erase_if(move.boxes, [](const layout::Box& box) { return box.source < 0; });
      return true;
    case Operator::Perm:
    case Operator::Transpose:
    case Operator::Split:
    case Operator::FlatChunk:
      return true;
    case Operator::Cond:
      change_values(mutant, move);
      return true;
  }
  return true;
}

Program with_moves(const Program& right, const Mutant& mutant) {
  Program out = right;
  out.moves.clear();
  for (const Move& original : right.moves) {
    Move move = original;
    if (!hits(mutant, move) || change_move(right, mutant, move)) {
      out.moves.push_back(std::move(move));
    }
  }
  return out;
}

}  // namespace

Result<Attack> apply(const Library&, const Case& one, const Program& right, const Mutant& mutant) {
  if (std::none_of(right.moves.begin(), right.moves.end(),
                   [&](const Move& move) { return hits(mutant, move); })) {
    return fail(Code::BadValue, "no Megatron parameter matches " + escaped(mutant.parameter))
        .pair(escaped(mutant.parameter), "a glob over global names, as decoder.layers.*.mlp.*")
        .advise("bridge-verify rules show FAMILY lists the parameters");
  }
  Attack out;
  if (mutant.parameters.contains("line")) {
    auto program = with_line(one, right, mutant);
    if (!program) {
      out.refused = std::move(program).error();
      out.way_there = out.way_back = right;
      return out;
    }
    out.way_there = std::move(*program);
  } else {
    out.way_there = with_moves(right, mutant);
  }
  out.way_back = mutant.two_sided ? out.way_there : right;
  return out;
}

}  // namespace bv::mutants
