#include "core/quantised/said_modules.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <tuple>
#include <unordered_map>

#include "core/base/text.hpp"
#include "core/quantised/schemes.hpp"

namespace bv::quantised {
namespace {

constexpr std::string_view kExpressionLead = "re:";

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-';
}

/// Names and parts of names, without an operator of expressions or globs but ".".
bool is_plain(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return is_word(c) || c == '.'; });
}

/// "MoEGate": a class of modules that only the model's code knows.
bool is_class(std::string_view text) {
  return !text.empty() && text.front() >= 'A' && text.front() <= 'Z' && is_plain(text) &&
         text.find('.') == std::string_view::npos;
}

bool is_linear(std::string_view text) {
  return text == "Linear" || text == "Module";
}

/// The name without what versions of transformers put before it in different orders.
std::string_view without_lead(std::string_view name) {
  for (bool again = true; again;) {
    again = false;
    for (const std::string_view lead : {"model.", "language_model.", "text_model."}) {
      if (name.starts_with(lead)) {
        name.remove_prefix(lead.size());
        again = true;
      }
    }
  }
  return name;
}

/// Digits of a name can be matched by ".*" alone: names that differ in numbers match alike.
bool is_blind_to_digits(std::string_view expression) {
  for (std::size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    const char next = i + 1 < expression.size() ? expression[i + 1] : ' ';
    if ((c >= '0' && c <= '9') || c == '[' || c == '{' || (c == '.' && next != '*') ||
        (c == '\\' && (is_word(next) || next == '\\'))) {
      return false;
    }
    i += c == '\\' ? 1 : 0;
  }
  return true;
}

/// "layers.0.mlp" of layers.17.mlp.
std::string without_digits(std::string_view name) {
  std::string out;
  out.reserve(name.size());
  for (const char c : name) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit || out.empty() || out.back() != '0') {
      out += digit ? '0' : c;
    }
  }
  return out;
}

/// Expressions of a list, for up to a hundred thousand names.
class Expressions {
 public:
  void add(std::size_t entry, PathPattern pattern) {
    (is_blind_to_digits(pattern.text()) ? blind_ : others_).emplace_back(entry, std::move(pattern));
  }
  [[nodiscard]] std::optional<std::size_t> of(std::string_view name) const {
    if (!blind_.empty()) {
      std::string alike = without_digits(name);
      auto known = known_.find(alike);
      if (known == known_.end()) {
        const auto found = first_of(blind_, alike);
        known = known_.emplace(std::move(alike), found).first;
      }
      if (known->second) {
        return known->second;
      }
    }
    return first_of(others_, name);
  }

 private:
  using Patterns = std::vector<std::pair<std::size_t, PathPattern>>;
  static std::optional<std::size_t> first_of(const Patterns& patterns, std::string_view name) {
    const auto found = std::ranges::find_if(
        patterns, [name](const auto& one) { return one.second.matches(name); });
    return found == patterns.end() ? std::nullopt : std::optional(found->first);
  }

  Patterns blind_, others_;
  mutable std::unordered_map<std::string, std::optional<std::size_t>> known_;
};

/// Texts that are names, or their starts or ends, found by their lengths.
class Ends {
 public:
  enum class Where { Whole, Start, StartOrEnd };
  void add(const std::string& text, std::size_t entry) {
    entries_.try_emplace(text, entry);
    if (std::ranges::find(lengths_, text.size()) == lengths_.end()) {
      lengths_.push_back(text.size());
    }
  }
  [[nodiscard]] std::optional<std::size_t> of(std::string_view name, Where where) const {
    for (const std::size_t length : lengths_) {
      if (length > name.size() || (where == Where::Whole && length != name.size())) {
        continue;
      }
      auto found = entries_.find(name.substr(0, length));
      if (found == entries_.end() && where == Where::StartOrEnd) {
        found = entries_.find(name.substr(name.size() - length));
      }
      if (found != entries_.end()) {
        return found->second;
      }
    }
    return std::nullopt;
  }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  std::unordered_map<std::string, std::size_t, Hash, std::equal_to<>> entries_;
  std::vector<std::size_t> lengths_;
};

/// The modules that config.json leaves as they are.
class LeftOut {
 public:
  explicit LeftOut(const Hints& hints)
      : entries_(hints.left_out),
        globs_count_(hints.method == "modelopt" || hints.method == "quark" ||
                     !hints.algorithm.empty()),
        is_whole_(globs_count_ || hints.method == "compressed-tensors") {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      add(entries_[i].text, i);
    }
  }

  /// The entry by which the quantiser leaves the module out.
  [[nodiscard]] const LeftOutEntry* entry_for(std::string_view module) const {
    if (all_) {
      return &entries_[*all_];
    }
    if (const auto found =
            texts_.of(module, is_whole_ ? Ends::Where::Whole : Ends::Where::StartOrEnd)) {
      return &entries_[*found];
    }
    if (const auto found = starts_.of(module, Ends::Where::Start)) {
      return &entries_[*found];
    }
    if (const auto found = expressions_.of(module)) {
      return &entries_[*found];
    }
    const auto glob = std::ranges::find_if(globs_, [&](std::size_t one) {
      return globs_count_ && glob_match(entries_[one].text, module);
    });
    return glob == globs_.end() ? nullptr : &entries_[*glob];
  }

  /// May an entry be meant for the module, whatever the version that wrote it calls it?
  [[nodiscard]] bool may_mean(std::string_view module) const {
    const std::string_view rest = without_lead(module);
    if (not_understood_ || entry_for(module) != nullptr || entry_for(rest) != nullptr ||
        starts_of_rests_.of(rest, Ends::Where::Start)) {
      return true;
    }
    if (std::ranges::any_of(globs_, [&](std::size_t one) {
          return glob_match(entries_[one].text, module) || glob_match(entries_[one].text, rest);
        })) {
      return true;
    }
    for (std::size_t dot = rest.find('.'); dot != std::string_view::npos;
         dot = rest.find('.', dot + 1)) {
      if (names_.contains(rest.substr(0, dot)) || names_.contains(rest.substr(dot + 1))) {
        return true;
      }
    }
    return names_.contains(rest);
  }

 private:
  void add(const std::string& text, std::size_t entry) {
    if (is_whole_ && is_linear(text)) {
      all_ = entry;
    } else if (is_class(text)) {
      not_understood_ = true;
    } else if (is_plain(text)) {
      texts_.add(text, entry);
      names_.insert(std::string(without_lead(text)));
    } else if (globs_count_ && text.ends_with('*') && is_plain(text.substr(0, text.size() - 1))) {
      const std::string start = text.substr(0, text.size() - 1);
      starts_.add(start, entry);
      starts_of_rests_.add(std::string(without_lead(start)), entry);
    } else if (is_whole_ && !text.starts_with(kExpressionLead)) {
      globs_.push_back(entry);
    } else {
      const std::size_t skipped = is_whole_ ? kExpressionLead.size() : 0;
      auto pattern = PathPattern::compile(text.substr(skipped), PathPattern::Extent::Start);
      if (pattern) {
        expressions_.add(entry, *std::move(pattern));
      } else {
        not_understood_ = true;
      }
    }
  }

  const std::vector<LeftOutEntry>& entries_;
  bool globs_count_;  // for the quantiser itself
  bool is_whole_;     // an entry is a name, an expression or a glob; else the start or end of names
  std::optional<std::size_t> all_;
  Ends texts_;
  Ends starts_;                               // globs that end in their only star
  Ends starts_of_rests_;                      // the same without what stands before them
  std::set<std::string, std::less<>> names_;  // without what stands before them
  Expressions expressions_;
  std::vector<std::size_t> globs_;
  bool not_understood_ = false;
};

/// Modules of one contradiction: the first, and how many.
struct Against {
  std::string first;
  std::size_t modules = 0;
  void add(const std::string& stored, const std::string& said) {
    if (modules++ == 0) {
      first = fmt::format("{}, although config.json {}", stored, said);
    }
  }
  void tell(std::vector<std::string>& out) const {
    if (modules > 0) {
      out.push_back(fmt::format(
          "{}{}. What is stored counts", first,
          modules > 1 ? fmt::format("; {} like it", counted(modules - 1, "more module")) : ""));
    }
  }
};

std::string stored_as(const Weight& weight) {
  const std::string scale = weight.scale == nullptr
                                ? "companions"
                                : fmt::format("{} {}", name_of(weight.scale->name).parameter,
                                              shape_text(weight.scale->shape));
  return fmt::format("{} is stored as {} with {}", readable(weight.bits->name),
                     name(weight.bits->dtype), readable(scale));
}

/// By compressed-tensors, whose targets are names of the modules that hold the weights; modelopt
/// names the module that holds all experts.
bool surely_untargeted(const Hints& hints, std::string_view module) {
  return hints.method == "compressed-tensors" && !hints.targets.empty() &&
         kinds_named(hints.targets, module).empty() &&
         std::ranges::none_of(hints.targets, [](const Target& one) { return is_class(one.text); });
}

bool surely_targeted(const Hints& hints, std::string_view module) {
  return !hints.targets.empty() &&
         std::ranges::none_of(hints.targets, [](const Target& one) { return one.unknown; }) &&
         !kinds_named(hints.targets, module).empty();
}

/// Does config.json call every module quantised that it does not leave out?
bool calls_all_quantised(const Hints& hints) {
  constexpr std::array kMethods = {"fp8", "fbgemm_fp8", "mxfp4", "modelopt"};
  return hints.targets.empty() && std::ranges::find(kMethods, hints.method) != kMethods.end();
}

/// A weight by what its like in other layers shares: "down_proj", "weight", 2.
using Like = std::tuple<std::string_view, std::string_view, std::size_t>;

std::string_view last_of(std::string_view module) {
  return module.substr(module.rfind('.') + 1);  // all of it where there is no dot
}

void add_stored(std::span<const Group> groups, const Hints& hints, const LeftOut& left_out,
                std::vector<std::string>& out) {
  Against left;
  Against untargeted;
  for (const Group& group : groups) {
    for (const Weight& weight : group.weights) {
      const std::string_view module = name_of(weight.name).module;
      if (const LeftOutEntry* entry = left_out.entry_for(module)) {
        left.add(stored_as(weight), fmt::format("leaves its module as it is ({}: {})", entry->field,
                                                readable(entry->text)));
      } else if (surely_untargeted(hints, module)) {
        untargeted.add(stored_as(weight), "has no target in config_groups that takes its module");
      }
    }
  }
  left.tell(out);
  untargeted.tell(out);
}

void add_plain(std::span<const TensorSpec* const> tensors, std::span<const Group> groups,
               const Hints& hints, const LeftOut& left_out, std::vector<std::string>& out) {
  std::set<Like> quantised;
  for (const Group& group : groups) {
    for (const Weight& weight : group.weights) {
      const auto [module, parameter] = name_of(weight.name);
      quantised.emplace(last_of(module), parameter,
                        weight.form ? weight.form->shape.size() : weight.bits->shape.size());
    }
  }
  const std::string said = fmt::format(
      "says that its module is quantised ({}, and {})",
      hints.targets.empty() ? "quant_method " + hints.method : "targets of config_groups",
      hints.left_out.empty() ? "no module is left out"
                             : "no entry of " + hints.left_out.front().field + " names it");
  Against plain;
  for (const TensorSpec* spec : tensors) {
    if (spec->shape.size() < 2 || !holds_numbers(spec->dtype)) {
      continue;
    }
    const auto [module, parameter] = name_of(spec->name);
    if (quantised.contains(Like(last_of(module), parameter, spec->shape.size())) &&
        (calls_all_quantised(hints) || surely_targeted(hints, module)) &&
        !left_out.may_mean(module)) {
      plain.add(fmt::format("{} is stored as {} without a scale", readable(spec->name),
                            name(spec->dtype)),
                said);
    }
  }
  plain.tell(out);
}

}  // namespace

std::vector<std::string> contradictions(std::span<const TensorSpec* const> tensors,
                                        std::span<const Group> groups, const Hints& hints) {
  std::vector<std::string> out;
  if (hints.algorithm == "MIXED_PRECISION") {  // several quantisers, and the lists are of one
    return out;
  }
  const LeftOut left_out(hints);
  if (!hints.left_out.empty() || !hints.targets.empty()) {
    add_stored(groups, hints, left_out, out);
  }
  if (calls_all_quantised(hints) || !hints.targets.empty()) {
    add_plain(tensors, groups, hints, left_out, out);
  }
  return out;
}

}  // namespace bv::quantised
