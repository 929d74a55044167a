#include "core/foreign/survey.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/family/symbols.hpp"
#include "core/foreign/parameter.hpp"
#include "core/foreign/pattern_index.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {
namespace {

constexpr std::size_t kMadeMax = 500000;
constexpr std::int64_t kExpertsMax = 65536;
/// Buffers that transformers computes from the config.
constexpr std::string_view kBuffers = "*rotary_emb.inv_freq";

class Surveyor {
 public:
  explicit Surveyor(const SurveyInput& input)
      : input_(input), index_(megatron_patterns(input.rules)), names_(input.headers) {}

  Result<Survey> run() {
    out_.prefix = text_prefix(input_.rules);
    if (input_.rules.parameters) {
      look_up_list();
    } else {
      for (const ForeignRule& rule : input_.rules.rules) {
        BV_CHECK(enumerate(rule));
      }
    }
    count_layers();
    leave_out();
    count_experts();
    find_ends();
    find_modules();
    look_at_unread();
    std::stable_sort(out_.made.begin(), out_.made.end(), [](const Made& a, const Made& b) {
      return std::tuple(a.parameter.stage, a.parameter.index) <
             std::tuple(b.parameter.stage, b.parameter.index);
    });
    return std::move(out_);
  }

 private:
  Made made_of(const std::string& name, const ForeignRule* rule) const {
    const Anatomy anatomy = anatomy_of(name, out_.prefix);
    Made out;
    out.parameter = from_name(name, out_.prefix);
    out.sequential = anatomy.sequential;
    out.usual = anatomy.usual;
    out.rows = input_.modules.find(anatomy.usual);
    if (rule == nullptr) {
      return out;
    }
    out.rule = rule->position;
    const ForeignKind* kind = input_.kinds.find(rule->kind);
    const auto captures = match_pattern(rule->megatron, name);
    for (const auto& roles :
         kind == nullptr ? std::vector<std::vector<std::string>>() : kind->sources) {
      const std::string* pattern = pattern_for(*rule, roles);
      out.hf.push_back(pattern == nullptr ? "" : fill_pattern(*pattern, *captures));
      out.stored = out.stored || input_.headers.contains(out.hf.back());
    }
    return out;
  }

  /// model.parameters says which parameters there are.
  void look_up_list() {
    for (const ListedParameter& listed : *input_.rules.parameters) {
      const std::size_t at = index_.first(listed.name);
      out_.made.push_back(
          made_of(listed.name, at == PatternIndex::kNone ? nullptr : &input_.rules.rules[at]));
      out_.made.back().parameter.listed = &listed;
    }
  }

  /// The parameters that a rule makes of the tensors that are there.
  Status enumerate(const ForeignRule& rule) {
    const ForeignKind* kind = input_.kinds.find(rule.kind);
    if (kind == nullptr) {
      return Done{};
    }
    const std::size_t wildcards_here = wildcards(rule.megatron);
    std::map<std::vector<std::string>, std::int64_t> instances;  // captures -> experts of a stack
    for (const auto& roles : kind->sources) {
      const std::string* pattern = pattern_for(rule, roles);
      for (NameIndex::Taken& taken :
           pattern == nullptr ? std::vector<NameIndex::Taken>() : names_.taken_by(*pattern)) {
        const Shape& shape = taken.entry->second.shape;
        instances.emplace(std::move(taken.captures), shape.empty() ? 0 : shape.front());
      }
    }
    for (const auto& [captures, stack] : instances) {
      const bool packed = kind->packed && captures.size() + 1 == wildcards_here;
      if (!packed && captures.size() != wildcards_here) {
        return Done{};  // wildcards that do not pair up: told as a fault of the rule
      }
      const std::int64_t count = packed ? std::min(stack, kExpertsMax) : 1;
      for (std::int64_t e = 0; e < count; ++e) {
        std::vector<std::string> filled = captures;
        if (packed) {
          filled.push_back(std::to_string(e));
        }
        BV_CHECK(add(fill_pattern(rule.megatron, filled), rule));
      }
    }
    return Done{};
  }

  Status add(const std::string& name, const ForeignRule& rule) {
    if (index_.first(name) != rule.position || name.find_first_of("{}") != std::string::npos) {
      return Done{};  // an earlier rule takes the name
    }
    if (out_.made.size() == kMadeMax) {
      return fail(Code::RulesInvalid, "the rules make more parameters than any model has")
          .at(input_.rules.file)
          .pair(fmt::format("more than {}", kMadeMax), fmt::format("at most {}", kMadeMax))
          .advise("use fewer rules with **");
    }
    out_.made.push_back(made_of(name, &rule));
    return Done{};
  }

  void count_layers() {
    std::int64_t decoder = 0;
    for (const Made& made : out_.made) {
      const WantedParameter& parameter = made.parameter;
      if (parameter.stage == family::Stage::Mtp) {
        out_.mtp_layers = std::max(out_.mtp_layers, parameter.index + 1);
      } else if (parameter.stage == family::Stage::Decoder) {
        decoder = std::max(decoder, parameter.index + 1);
      }
    }
    const auto said = input_.usual.geometry.get(family::symbols::kLayers);
    out_.layers = said && !input_.rules.parameters ? *said : std::max<std::int64_t>(decoder, 1);
    out_.mtp_layers = input_.options.drop_mtp ? 0 : out_.mtp_layers;
  }

  using Place = std::tuple<family::Stage, std::int64_t, std::string>;

  /// Names of another setting, of layers that the model does not have, of norms that belong to a
  /// linear layer which is not there, and those whose tensor a fused norm takes.
  void leave_out() {
    if (input_.rules.parameters) {
      return;
    }
    std::set<Place> there;
    for (const Made& made : out_.made) {
      there.emplace(made.parameter.stage, made.parameter.index, made.usual);
      if (is_spelled(made)) {
        read_as_spelled_.insert(made.hf.begin(), made.hf.end());
      }
    }
    std::erase_if(out_.made, [&](const Made& made) {
      return is_elsewhere(made) || !may_be_fused(made, there);
    });
    std::set<std::string> fused;
    for (const Made& made : out_.made) {
      if (linear_of(made.usual)) {
        fused.insert(made.hf.front());
      }
    }
    std::erase_if(out_.made, [&](const Made& made) {
      return made.usual.ends_with("norm.weight") && made.hf.size() == 1 &&
             fused.contains(made.hf.front());
    });
  }

  bool is_elsewhere(const Made& made) {
    const WantedParameter& parameter = made.parameter;
    if (parameter.stage == family::Stage::Mtp && input_.options.drop_mtp) {
      dropped_.insert(made.hf.begin(), made.hf.end());
      return true;
    }
    const bool beyond = parameter.stage == family::Stage::Decoder && parameter.index >= out_.layers;
    // A registry may have one spelling alone: then the model that it is for has it.
    const bool other = !is_spelled(made) &&
                       std::all_of(made.hf.begin(), made.hf.end(), [this](const std::string& hf) {
                         return read_as_spelled_.contains(hf);
                       });
    return beyond || other;
  }

  [[nodiscard]] bool is_spelled(const Made& made) const {
    return made.parameter.expert < 0 || made.sequential != input_.options.spelling.grouped_experts;
  }

  /// "decoder.layers.*.mlp.linear_fc1.weight" for a norm that is fused into it.
  static std::optional<std::string> linear_of(const std::string& usual) {
    for (const std::string_view end : {"layer_norm_weight", "layer_norm_bias"}) {
      if (usual.ends_with(end)) {
        return usual.substr(0, usual.size() - end.size()) + "weight";
      }
    }
    return std::nullopt;
  }

  bool may_be_fused(const Made& made, const std::set<Place>& there) const {
    const auto linear = linear_of(made.usual);
    return !linear || (input_.options.spelling.transformer_engine &&
                       (there.contains({made.parameter.stage, made.parameter.index, *linear}) ||
                        is_left_unjudged(*linear_of(made.parameter.name))));
  }

  /// A rule of a kind that nobody knows takes the name: the parameter is there all the same.
  bool is_left_unjudged(const std::string& name) const {
    const std::size_t at = index_.first(name);
    return at != PatternIndex::kNone && input_.kinds.find(input_.rules.rules[at].kind) == nullptr;
  }

  /// As the config says, unless no layer has that many.
  void count_experts() {
    std::int64_t most = 0;
    for (const Made& made : out_.made) {
      most = std::max(most, made.parameter.expert + 1);
    }
    const std::int64_t said = input_.usual.geometry.experts();
    out_.experts = most;
    if (most > 0 && said > 0 && most != said && !input_.rules.parameters) {
      OpenQuestion question;
      question.code = Code::SizeInDoubt;
      question.subject = family::symbols::kExperts;
      question.message =
          fmt::format("config.json says {} experts, and no layer has that many", said);
      question.found = counted(most, "expert");
      question.wanted = counted(said, "expert");
      question.help = "correct the number of experts in config.json, or complete the checkpoint";
      out_.questions.push_back(std::move(question));
    }
  }

  /// The two ends of the vocabulary, and whether they are one tensor.
  void find_ends() {
    const auto with = [this](std::string_view usual) {
      return std::find_if(out_.made.begin(), out_.made.end(),
                          [usual](const Made& made) { return made.usual == usual; });
    };
    const auto embedding = with(kEmbedding);
    const auto output = with(kOutput);
    out_.embedding = embedding != out_.made.end() && embedding->stored ? embedding->hf.front() : "";
    const bool listed = input_.rules.parameters.has_value();
    const bool has_output = output != out_.made.end() && (output->stored || listed);
    if (listed) {
      out_.tied = !has_output;
    } else if (input_.config.tie_is_said) {
      out_.tied = input_.usual.tied;
    } else {
      out_.tied = !has_output || output->hf.front() == out_.embedding;
    }
    if (has_output && out_.tied) {
      out_.made.erase(output);  // Megatron uses the embedding
    } else if (has_output) {
      out_.output = output->hf.empty() ? "" : output->hf.front();
    }
  }

  void find_modules() {
    for (const Made& made : out_.made) {
      const family::Stage stage = made.parameter.stage;
      const bool layer = stage == family::Stage::Decoder || stage == family::Stage::Mtp;
      if (layer && made.stored && made.rows.size() == 1 && !made.rows.front()->optional) {
        out_.modules[{stage, made.parameter.index}].insert(made.rows.front()->module);
      }
    }
  }

  /// Copies of the vocabulary's tensors, buffers, and what --drop-mtp leaves out.
  void look_at_unread() {
    std::set<std::string, std::less<>> read;
    for (const Made& made : out_.made) {
      read.insert(made.hf.begin(), made.hf.end());
    }
    for (const auto& [name, spec] : input_.headers) {
      if (read.contains(name)) {
        continue;
      }
      if (glob_match(kBuffers, name)) {
        out_.ignored.push_back(name);
      } else if (const std::string original = original_of(name, spec); !original.empty()) {
        out_.must_equal.emplace_back(name, original);
      } else if (input_.options.drop_mtp && (dropped_.contains(name) || is_mtp(name))) {
        out_.dropped.push_back(name);
      }
    }
  }

  /// The tensor that an unread one repeats, by its name and shape; the bytes are compared later.
  [[nodiscard]] std::string original_of(const std::string& name, const TensorSpec& spec) const {
    const bool embedding = name.ends_with("embed_tokens.weight");
    // A model that was built without an output layer does not make the checkpoint a tied one.
    const bool denied = input_.rules.parameters.has_value() && input_.config.untied_is_said;
    const bool head =
        name.ends_with("head.weight") && ((out_.tied && !denied) || !out_.output.empty());
    const std::string& original = head && !out_.output.empty() ? out_.output : out_.embedding;
    const auto found = input_.headers.find(original);
    return (embedding || head) && found != input_.headers.end() && found->second.shape == spec.shape
               ? original
               : "";
  }

  /// "mtp.", or a layer behind the last one of the decoder.
  [[nodiscard]] bool is_mtp(const std::string& name) const {
    if (name.starts_with("mtp.") || name.find(".mtp.") != std::string::npos) {
      return true;
    }
    constexpr std::string_view kNumbered = "layers.";
    const std::size_t at = name.find(kNumbered);
    if (at == std::string::npos) {
      return false;
    }
    const std::string digits = name.substr(
        at + kNumbered.size(), name.find('.', at + kNumbered.size()) - at - kNumbered.size());
    const bool number = !digits.empty() && digits.size() < 9 &&
                        digits.find_first_not_of("0123456789") == std::string::npos;
    return number && std::stoll(digits) >= out_.layers;
  }

  const SurveyInput& input_;
  PatternIndex index_;
  NameIndex names_;
  std::set<std::string, std::less<>> read_as_spelled_;  // HF tensors
  std::set<std::string, std::less<>> dropped_;  // read by the rules of MTP layers that are left out
  Survey out_;
};

}  // namespace

Result<Survey> survey(const SurveyInput& input) {
  return Surveyor(input).run();
}

}  // namespace bv::foreign
