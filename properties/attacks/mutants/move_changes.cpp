#include "properties/attacks/mutants/move_changes.hpp"

#include <algorithm>
#include <cstdlib>
#include <set>

#include "core/base/text.hpp"

namespace bv::mutants {
namespace {

std::string parameter_of(const Mutant& mutant, std::string_view key, std::string fallback) {
  const auto found = mutant.parameters.find(key);
  return found == mutant.parameters.end() ? std::move(fallback) : found->second;
}

std::int64_t number_of(const Mutant& mutant, std::string_view key, std::int64_t fallback) {
  const auto found = mutant.parameters.find(key);
  return found == mutant.parameters.end() ? fallback
                                          : std::strtoll(found->second.c_str(), nullptr, 10);
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
  move.hf_shapes = from.hf_shapes;
  move.boxes = from.boxes;
  move.parts = from.parts;
  move.mapping = from.mapping;
}

/// The move of another parameter at the same place: what two names of one shape can be mistaken
/// for.
const Move* counterpart(const Program& program, const Move& like, std::string_view pattern) {
  for (const Move& move : program.moves) {
    if (glob_match(pattern, move.global_name) && move.index == like.index && move.t == like.t &&
        move.expert == like.expert && move.shape == like.shape && move.file == like.file) {
      return &move;
    }
  }
  return nullptr;
}

/// SWAP: two parameters get each other's content, or the first and the last source of one.
void exchange(const Program& right, const Mutant& mutant, Move& move) {
  const auto with = mutant.parameters.find("with");
  if (with == mutant.parameters.end()) {
    if (move.hf_shapes.front() == move.hf_shapes.back()) {
      std::swap(move.hf.front(), move.hf.back());
    }
    return;
  }
  const bool first = glob_match(mutant.parameter, move.global_name);
  if (const Move* other = counterpart(right, move, first ? with->second : mutant.parameter)) {
    take_content(move, *other);
  }
}

/// RENAME and COND: the parameter, or with "hf" a key of the checkpoint, is looked for under
/// another name: `by` stands for `replace`, or behind the name.
void rename(const Mutant& mutant, Move& move) {
  const std::string from = parameter_of(mutant, "replace", "");
  const auto key = mutant.parameters.find("hf");
  if (key == mutant.parameters.end()) {
    move.name = renamed(move.name, from, parameter_of(mutant, "by", "_renamed"));
    return;
  }
  for (std::string& hf : move.hf) {
    hf = renamed(hf, from, key->second);
  }
}

std::int64_t largest(const Program& program, const Move& like, std::int64_t Move::*member) {
  std::int64_t out = 0;
  for (const Move& move : program.moves) {
    out = move.rule == like.rule ? std::max(out, move.*member) : out;
  }
  return out;
}

/// The k-th layer behind this one of those that the rule has; behind the last comes the first.
std::int64_t layer_behind(const Program& program, const Move& like, std::int64_t k) {
  std::set<std::int64_t> layers;
  for (const Move& move : program.moves) {
    if (move.rule == like.rule) {
      layers.insert(move.index);
    }
  }
  const auto at = std::distance(layers.begin(), layers.find(like.index));
  const auto count = static_cast<std::int64_t>(layers.size());
  return *std::next(layers.begin(), (at + k) % count);
}

/// RANK and LAYER: the content of another place of the same rule.
void move_place(const Program& right, const Mutant& mutant, Move& move) {
  const std::string map = parameter_of(mutant, "map", "zero");
  std::int64_t index = move.index;
  std::int64_t expert = move.expert;
  std::int64_t t = move.t;
  if (mutant.op == Operator::Layer) {
    index =
        map == "local" ? move.local_index : layer_behind(right, move, number_of(mutant, "k", 1));
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

/// The content of the parameter `of`, wherever it lives.
void take_content_of(const Program& right, std::string_view of, Move& move) {
  for (const Move& other : right.moves) {
    if (glob_match(of, other.global_name) && other.t == move.t && other.shape == move.shape) {
      take_content(move, other);
      return;
    }
  }
}

/// DUP: one source is read where another should be: of the parameter `of`, of the same tensor, or
/// of a sibling.
void read_twice(const Program& right, const Mutant& mutant, Move& move) {
  if (const std::string of = parameter_of(mutant, "of", ""); !of.empty()) {
    take_content_of(right, of, move);
    return;
  }
  if (move.hf.size() >
      1) {  // the first source is the largest: every box of the second fits into it
    move.hf[1] = move.hf[0];
    move.hf_shapes[1] = move.hf_shapes[0];
    return;
  }
  for (const Move& other : right.moves) {  // the first layer, or the first expert
    if (other.rule == move.rule && other.t == move.t &&
        (other.index != move.index || other.expert != move.expert)) {
      take_content(move, other);
      return;
    }
  }
}

/// Elements from the first to the last that the box reads.
std::int64_t span_of(const layout::Box& box) {
  std::int64_t out = 0;
  for (const layout::BoxAxis& axis : box.axes) {
    out += (axis.extent - 1) * axis.source_stride;
  }
  return out;
}

/// OFFSET: the first box that can is moved by k elements of its source; when none has room, the
/// first skips an element and ends one early.
void shift_box(const Mutant& mutant, Move& move) {
  const std::int64_t k = number_of(mutant, "k", 1);
  for (layout::Box& box : move.boxes) {
    if (box.source < 0) {
      continue;
    }
    std::int64_t elements = 1;
    for (const std::int64_t extent : move.hf_shapes[static_cast<std::size_t>(box.source)]) {
      elements *= extent;
    }
    if (box.source_offset + span_of(box) + k < elements) {
      box.source_offset += k;
      return;
    }
    if (box.source_offset >= k) {
      box.source_offset -= k;
      return;
    }
  }
  for (layout::Box& box : move.boxes) {
    if (box.source >= 0 && !box.axes.empty() && box.axes.back().extent > 1) {
      box.source_offset += box.axes.back().source_stride;
      --box.axes.back().extent;
      return;
    }
  }
}

/// POISON: the last box that has a source is not copied.
void leave_unwritten(Move& move) {
  const auto last = std::find_if(move.boxes.rbegin(), move.boxes.rend(),
                                 [](const layout::Box& box) { return box.source >= 0; });
  if (last != move.boxes.rend()) {
    move.boxes.erase(std::next(last).base());
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
  } else if (mutant.op == Operator::Order && mutant.parameters.contains("through")) {
    a.through = dtype_from_name(parameter_of(mutant, "through", "BF16"));
  } else if (mutant.op == Operator::Order) {
    a.cast = dtype_from_name(parameter_of(mutant, "dtype", "BF16"));
    a.cast_first = true;
  } else {
    a.add += static_cast<double>(number_of(mutant, "add", 1));
  }
}

/// REPL<->SHARD: the last of the copies, or of the ranks that hold the same, has another value.
void make_stale(const Program& right, const Mutant& mutant, Move& move) {
  const bool copies = std::any_of(right.moves.begin(), right.moves.end(), [&](const Move& other) {
    return other.copy && hits(mutant, other);
  });
  std::size_t last = move.file;
  for (const Move& other : right.moves) {
    last = other.name == move.name && other.t == move.t ? std::max(last, other.file) : last;
  }
  const bool files = parameter_of(mutant, "of", "") == "files";  // the copies of expert ranks
  if (files ? move.file == last
            : move.t == largest(right, move, &Move::t) && (copies ? move.copy : move.t > 0)) {
    move.stale = number_of(mutant, "element", 0);
  }
}

}  // namespace

std::string renamed(const std::string& name, const std::string& from, const std::string& to) {
  const std::size_t at = from.empty() ? name.size() : name.find(from);
  if (at == std::string::npos) {
    return name;
  }
  return name.substr(0, at) + to + name.substr(at + from.size());
}

bool hits(const Mutant& mutant, const Move& move) {
  const auto rule = mutant.parameters.find("rule");  // of several that make such parameters
  if (glob_match(mutant.parameter, move.global_name)) {
    return rule == mutant.parameters.end() || rule->second == move.rule;
  }
  const auto with = mutant.parameters.find("with");  // the other half of an exchange
  return with != mutant.parameters.end() && glob_match(with->second, move.global_name);
}

bool change_move(const Program& right, const Mutant& mutant, Move& move) {
  switch (mutant.op) {
    case Operator::Drop:
      return false;
    case Operator::Rename:
      rename(mutant, move);
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
      if (const std::string of = parameter_of(mutant, "of", ""); !of.empty()) {
        take_content_of(right, of, move);
        return true;
      }
      return !move.copy;
    case Operator::Squeeze:
      move.squeezes = true;
      return true;
    case Operator::Overwrite:
      move.last_expert_wins = true;
      return true;
    case Operator::Poison:
      leave_unwritten(move);
      return true;
    case Operator::Swap:
      exchange(right, mutant, move);
      return true;
    case Operator::ReplShard:
      make_stale(right, mutant, move);
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
      if (mutant.parameters.contains("hf")) {
        rename(mutant, move);
      } else {
        change_values(mutant, move);
      }
      return true;
  }
  return true;
}

}  // namespace bv::mutants
