// docs/reference/semantics.md#gated-mlp; a single ungated linear is column parallel.
#include <algorithm>
#include <array>

#include "oracles/modules.hpp"

namespace bv::oracle {
namespace {

/// One tensor with as many rows as the config says: a gate would double them.
bool fills_the_ffn(const Question& question) {
  const auto width = question.numbers.find("intermediate_size");
  const bool dense = question.parameter.find(".mlp.linear_fc1.") != std::string::npos;
  return dense && width != question.numbers.end() && only_source(question).size(0) == width->second;
}

/// The projectors behind towers have no gate.
bool is_projector(const Question& question) {
  constexpr std::array<std::string_view, 3> kProjectors = {
      "vision_model.merger.", "vision_projection.encoder.", "sound_projection.encoder."};
  return std::ranges::any_of(kProjectors, [&](std::string_view one) {
    return question.parameter.find(one) != std::string::npos;
  });
}

/// "up_gate_proj": in some libraries the gate stands first all the same.
bool names_up_first(const Question& question) {
  const std::string_view part = part_of(question.hf_names.front());
  const std::size_t up = part.find("up");
  const std::size_t gate = part.find("gate");
  return up != std::string_view::npos && gate != std::string_view::npos && up < gate;
}

}  // namespace

bool holds_gate_and_up(const Question& question) {
  return has_part(question, "gate_up_proj") || has_part(question, "input_linear");  // Granite MoE
}

Tensor linear_fc1(const Question& question) {
  if (question.hf.size() == 1 && names_up_first(question)) {
    throw Unanswered("it is not known whether the gate stands first in " +
                     question.hf_names.front());
  }
  if (question.hf.size() == 1 && question.built.gated) {
    return *question.built.gated ? sections(only_source(question).chunk(2, 0), question)
                                 : block(only_source(question), 0, question);
  }
  if (question.hf.size() == 1) {
    if (holds_gate_and_up(question)) {
      return sections(only_source(question).chunk(2, 0), question);
    }
    if (fills_the_ffn(question)) {
      return block(only_source(question), 0, question);
    }
    constexpr std::array<std::string_view, 3> kUngated = {"linear_fc1", "fc1", "up_proj"};
    if (!is_projector(question) && std::ranges::none_of(kUngated, [&](std::string_view one) {
          return has_part(question, one);
        })) {
      throw Unanswered("it is not known whether " + question.hf_names.front() + " holds a gate");
    }
    return block(only_source(question), 0, question);
  }
  const bool by_number = has_part(question, "w1");     // Mixtral: w1 gate, w2 down, w3 up
  const bool by_form = has_part(question, "ff_proj");  // LLaDA: ff_proj gate, up_proj up
  const Tensor gate = part(question, by_number ? "w1" : by_form ? "ff_proj" : "gate_proj");
  const Tensor up = part(question, by_number ? "w3" : "up_proj");
  if (gate.sizes() != up.sizes()) {
    throw Unanswered("gate has " + std::to_string(gate.size(0)) + " rows and up " +
                     std::to_string(up.size(0)));
  }
  return sections({gate, up}, question);
}

}  // namespace bv::oracle
