#include "core/foreign/sources_alone.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/base/text.hpp"
#include "core/family/families.hpp"
#include "core/family/family.hpp"
#include "core/foreign/parameter.hpp"
#include "core/foreign/pattern.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {
namespace {

/// One parameter of the text model and a tensor that it is made of.
struct Source {
  const model::Mapping* mapping;
  std::string megatron;
  std::string usual;  // Anatomy::usual behind "layers.*."
  std::string hf;
  bool alone = false;  // it is made of this tensor alone
};

/// "decoder.layers.*.mlp.router.weight" -> "mlp.router.weight"
std::string behind_layer(std::string_view name) {
  constexpr std::string_view kLayers = "layers.*.";
  const std::size_t at = name.find(kLayers);
  return std::string(at == std::string_view::npos ? name : name.substr(at + kLayers.size()));
}

/// "model.layers.3.self_attn.q_norm.weight" -> "q_norm.weight", "attn.to_out.0.bias" ->
/// "to_out.0.bias"
std::string leaf_of(std::string_view name) {
  std::size_t begin = name.rfind('.');
  while (begin != std::string_view::npos && begin > 0) {
    const std::size_t before = name.rfind('.', begin - 1);
    const std::size_t part = before == std::string_view::npos ? 0 : before + 1;
    const bool number = name.find_first_not_of("0123456789", part) == begin && part < begin;
    if (!number) {
      return std::string(name.substr(part));
    }
    begin = before;
  }
  return std::string(name);
}

/// The name up to and including its `count`th part that is a number; "" when it has fewer.
std::string up_to_number(std::string_view name, int count) {
  for (std::size_t begin = 0; begin < name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    const bool number =
        !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos;
    if (number && --count == 0) {
      return std::string(name.substr(0, end));
    }
    begin = end + 1;
  }
  return "";
}

/// A template of a family with `*` for its variables, without the prefix of the model.
std::string as_pattern(std::string_view name) {
  std::string out;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] != '{') {
      out += name[i];
      continue;
    }
    const std::size_t end = std::min(name.find('}', i), name.size() - 1);
    const bool number = end - i == 2 && std::islower(static_cast<unsigned char>(name[i + 1])) != 0;
    out += number ? "*" : "";
    i = end;
  }
  for (const std::string_view inner : {"mtp_model_layer.", "transformer_layer."}) {
    if (const std::size_t at = out.find(inner); at != std::string::npos) {
      out.erase(at, inner.size());
    }
  }
  return out;
}

/// What parameters are made of in the families: ends of names on both sides.
class Vocabulary {
 public:
  static Result<Vocabulary> of_families(const ForeignKinds& kinds) {
    Vocabulary out;
    for (const auto& [megatron, hf] : kinds.spellings) {
      for (const char* end : {"weight", "bias"}) {
        out.pairs_.emplace(megatron + end, hf + "." + end);
      }
    }
    BV_TRY(families, family::builtin_families());
    for (const family::FamilyPtr& one : families) {
      for (const family::Rule& rule : one->rules) {
        if (rule.hf.size() == 1) {
          out.pairs_.emplace(behind_layer(as_pattern(rule.megatron)),
                             leaf_of(as_pattern(rule.hf.front().second)));
        }
      }
    }
    return out;
  }
  [[nodiscard]] bool knows(const Source& parameter, const Source& tensor) const {
    return pairs_.contains({parameter.usual, leaf_of(tensor.hf)});
  }

 private:
  std::set<std::pair<std::string, std::string>> pairs_;
};

class SourceCheck {
 public:
  SourceCheck(const ForeignRules& rules, const Headers& headers, AppliedRules& applied)
      : headers_(headers), applied_(applied) {
    const std::string prefix = text_prefix(rules);
    for (const model::Mapping& mapping : applied.model.mappings) {
      if (mapping.stage == family::Stage::Vision) {
        continue;
      }
      const std::string name = applied.model.megatron_name(mapping, mapping.is_stack() ? 0 : -1);
      const std::string usual = behind_layer(anatomy_of(name, prefix).usual);
      for (const std::string& hf : mapping.hf) {
        sources_.push_back({&mapping, name, usual, hf, mapping.hf.size() == 1});
      }
    }
  }

  void run(const Vocabulary& vocabulary) {
    compare_layers();
    compare_experts();
    for (const auto& [place, group] : alike()) {
      compare_alike(vocabulary, group);
    }
  }

 private:
  using Place = std::pair<family::Stage, std::int64_t>;

  static Place place_of(const Source& source) {
    return {source.mapping->stage, source.mapping->index};
  }

  /// Tensors below one number of a HF name belong to one layer, but for a few that stand apart.
  void compare_layers() {
    std::map<std::string, std::map<Place, std::vector<const Source*>>> readers;
    for (const Source& source : sources_) {
      const std::string layer = up_to_number(source.hf, 1);
      if (!layer.empty()) {
        readers[layer][place_of(source)].push_back(&source);
      }
    }
    for (const auto& [layer, places] : readers) {
      const auto most = std::max_element(
          places.begin(), places.end(),
          [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
      for (const auto& [place, those] : places) {
        constexpr std::size_t kSome = 3;
        if (place != most->first && most->second.size() >= kSome * those.size()) {
          told(*those.front(), *most->second.front(), layer);
        }
      }
    }
  }

  void compare_experts() {
    std::map<std::string, std::vector<const Source*>> readers;
    std::map<std::int64_t, std::size_t> shifts;  // of the number in the HF name -> how often
    for (const Source& source : sources_) {
      const std::string expert =
          source.mapping->expert < 0 ? std::string() : up_to_number(source.hf, 2);
      if (!expert.empty()) {
        readers[expert].push_back(&source);
        ++shifts[shift_of(source, expert)];
      }
    }
    for (const auto& [expert, those] : readers) {
      const auto most = *std::max_element(those.begin(), those.end(), [&](auto* one, auto* other) {
        return shifts[shift_of(*one, expert)] < shifts[shift_of(*other, expert)];
      });
      for (const Source* one : those) {
        if (one->mapping->expert != most->mapping->expert) {
          told(*one, *most, expert);
        }
      }
    }
  }

  /// "...experts.9" for the expert 1: 8, as for a second pool of experts behind eight others.
  static std::int64_t shift_of(const Source& source, const std::string& expert) {
    const std::string digits = expert.substr(expert.rfind('.') + 1);
    return digits.size() > 9 ? -1 : std::stoll(digits) - source.mapping->expert;
  }

  void told(const Source& wrong, const Source& other, const std::string& part) {
    if (!told_.insert(wrong.megatron).second || told_.size() > kToldMax) {
      return;
    }
    applied_.model.faults.push_back(
        {Code::OtherSource, shown(wrong.megatron),
         fmt::format("{} is made of {}, while {} and others are made of tensors of {}",
                     shown(wrong.megatron), shown(wrong.hf), shown(other.megatron), shown(part)),
         shown(wrong.hf), fmt::format("tensors of {} for one layer or expert", shown(part)),
         "correct the number in the rule that makes " + shown(wrong.megatron)});
  }

  /// Parameters of one layer that could exchange their tensors unseen: of one shape and kind.
  [[nodiscard]] std::map<std::string, std::vector<const Source*>> alike() const {
    std::map<std::string, std::vector<const Source*>> out;
    for (const Source& source : sources_) {
      const auto header = headers_.find(source.hf);
      if (source.alone && header != headers_.end() && source.mapping->expert < 0 &&
          source.megatron != source.hf) {
        const auto [stage, index] = place_of(source);
        out[fmt::format("{} {} {} {}", static_cast<int>(stage), index, source.mapping->rule->kind,
                        shape_text(header->second.shape))]
            .push_back(&source);
      }
    }
    return out;
  }

  void compare_alike(const Vocabulary& vocabulary, const std::vector<const Source*>& group) {
    std::vector<const Source*> unknown;
    for (const Source* one : group) {
      if (!vocabulary.knows(*one, *one)) {
        unknown.push_back(one);
      }
    }
    for (const Source* one : unknown) {
      for (const Source* other : unknown) {
        if (one < other && vocabulary.knows(*one, *other) && vocabulary.knows(*other, *one)) {
          exchanged(*one, *other);
        }
      }
    }
    if (unknown.size() > 1) {
      unsaid_.insert(unsaid_.end(), unknown.begin(), unknown.end());
    }
  }

  void exchanged(const Source& one, const Source& other) {
    if (!exchanged_.insert({one.usual, other.usual}).second) {
      return;  // of another layer
    }
    applied_.model.faults.push_back({Code::OtherSource, shown(one.megatron),
                                     fmt::format("{} and {} read each other's tensors",
                                                 shown(one.megatron), shown(other.megatron)),
                                     fmt::format("{} and {}", shown(one.hf), shown(other.hf)),
                                     fmt::format("{} and {}, as every family that has these names",
                                                 shown(other.hf), shown(one.hf)),
                                     "exchange the HF names of the two rules"});
  }

  static constexpr std::size_t kToldMax = 20;
  const Headers& headers_;
  AppliedRules& applied_;
  std::vector<Source> sources_;
  std::set<std::string> told_;
  std::set<std::pair<std::string, std::string>> exchanged_;

 public:
  /// Tensors of one shape that no family knows under the parameters that read them.
  std::vector<const Source*> unsaid_;
};

OpenQuestion unsaid_question(const std::vector<const Source*>& unsaid) {
  constexpr std::size_t kShown = 6;
  OpenQuestion out;
  out.code = Code::NoTargetLayout;
  out.subject = shown(unsaid.front()->megatron);
  std::set<std::string> names;
  for (const Source* one : unsaid) {
    names.insert(fmt::format("{} of {}", shown(one->usual), shown(leaf_of(one->hf))));
  }
  out.message =
      "which of several tensors of one shape a parameter is made of is stated by the rules alone";
  std::vector<std::string> some(names.begin(), names.end());
  some.resize(std::min(some.size(), kShown));
  out.found = join(some, ", ");
  out.wanted = "names that a built-in family gives to these modules";
  out.help =
      "compute both models on the real weights, or write a family file that states "
      "facts.computes_like and run --level full";
  out.answer = OpenQuestion::Answer::Undecided;
  return out;
}

}  // namespace

Status check_sources(const ForeignRules& rules, const ForeignKinds& kinds, const Headers& headers,
                     AppliedRules& applied) {
  BV_TRY(vocabulary, Vocabulary::of_families(kinds));
  SourceCheck check(rules, headers, applied);
  check.run(vocabulary);
  const bool refuted =
      std::any_of(applied.model.faults.begin(), applied.model.faults.end(),
                  [](const model::NameFault& fault) { return fault.code == Code::OtherSource; });
  if (!check.unsaid_.empty() && !refuted) {
    applied.open.push_back(unsaid_question(check.unsaid_));
  }
  return Done{};
}

}  // namespace bv::foreign
