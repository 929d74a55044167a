#include "core/model/prefixes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/family/expression.hpp"
#include "core/family/family.hpp"

namespace bv::model {
namespace {

/// Where known names start: a prefix of the family ("HF"), or the first part of a name without one
/// ("lm_head"). The names of one root stand under one prefix.
struct Root {
  std::string key;    // "HF"; "" for names without a prefix
  std::string first;  // "lm_head"; "" with a key
  auto operator<=>(const Root&) const = default;
};

/// A name of the checkpoint whose end is a name that the family knows.
struct Known {
  const std::string* name = nullptr;
  std::size_t prefix = 0;    // bytes before the known name
  bool distinctive = false;  // no other module has a tensor of this name
};
using Places = std::map<std::string, std::vector<Known>, std::less<>>;  // by prefix

struct Tail {
  Root root;
  bool distinctive = false;
};

/// What a name with '*' for its numbers ends in: a model has a few dozen of them.
struct KnownEnd {
  Places* places = nullptr;  // nullptr when the family knows none of its ends
  std::size_t part = 0;      // of the name, where the known end begins
  bool distinctive = false;
};

bool is_number(std::string_view part) {
  return !part.empty() &&
         std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// "model.language_model." of "model.language_model." and "model.visual." is "model.".
std::string common_parts(std::string_view a, std::string_view b) {
  std::size_t end = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()) && a[i] == b[i]; ++i) {
    end = a[i] == '.' ? i + 1 : end;
  }
  return std::string(a.substr(0, end));
}

/// True when `prefix` ends with the whole parts `end`.
bool ends_with_parts(std::string_view prefix, std::string_view end) {
  return prefix.ends_with(end) && (end.empty() || prefix.size() == end.size() ||
                                   prefix[prefix.size() - end.size() - 1] == '.');
}

/// "a.b.b." repeats a part.
bool repeats_a_part(std::string_view prefix) {
  std::string_view before;
  while (!prefix.empty()) {
    const std::string_view part = prefix.substr(0, prefix.find('.'));
    if (part == before) {
      return true;
    }
    before = part;
    prefix.remove_prefix(std::min(part.size() + 1, prefix.size()));
  }
  return false;
}

std::string in_quotes(std::string_view prefix) {
  return prefix.empty() ? "no prefix" : escaped(prefix);
}

class Finder {
 public:
  Finder(const family::Family& family, const Headers& headers)
      : family_(family), headers_(headers) {}

  FoundPrefixes run() {
    for (const auto& [name, text] : family_.prefixes) {
      out_.prefixes[name] = text;
    }
    out_.prefixes[""] = "";
    learn_tails();
    for (const auto& header : headers_) {
      if (!is_carried(header.first) &&
          !family::is_ignored(family_.ignore_hf, header.first, header.second.shape.size())) {
        place(header.first);
      }
    }
    if (!roots_.empty()) {
      choose_body();
      choose_top();
      describe();
      for (const auto& [root, places] : roots_) {
        report(root, places);
      }
    }
    return std::move(out_);
  }

 private:
  /// Names of a tower may end as those of the model do.
  [[nodiscard]] bool is_carried(std::string_view name) const {
    return std::any_of(
        family_.carried.begin(), family_.carried.end(), [&](const family::Carried& carried) {
          return std::any_of(carried.hf.begin(), carried.hf.end(), [&](std::string_view prefix) {
            const std::size_t at = name.find(prefix);
            return at == 0 || (at != std::string_view::npos && name[at - 1] == '.');
          });
        });
  }

  void learn_tails() {
    for (const family::Section& section : family_.sections) {
      for (std::size_t i = section.first_rule; i < section.end_rule; ++i) {
        for (const auto& [source, name] : family_.rules[i].hf) {
          learn(name, section.stage == family::Stage::Embedding);
        }
      }
      for (const family::Copy& copy : section.copies) {
        learn(copy.copy, false);
      }
    }
  }

  void learn(const std::string& text, bool distinctive) {
    const auto pieces = family::split_template(text);
    BV_ASSERT(pieces.has_value());  // check_family has split it before
    Root root{std::string(family::root_of(family_, text)), ""};
    std::string tail;
    for (const family::TemplatePiece& piece : *pieces) {
      if (piece.braces && piece.text == root.key && tail.empty()) {
        continue;
      }
      tail += piece.braces ? "*" : piece.text;
    }
    if (root.key.empty()) {
      root.first = tail.substr(0, tail.find('.'));
    }
    const bool numbered = tail.find('*') != std::string::npos;
    tails_.try_emplace(std::move(tail), Tail{std::move(root), distinctive || numbered});
  }

  /// The longest end of the name that is known: what stands before is its prefix.
  void place(const std::string& name) {
    plain_.clear();
    starts_.clear();
    for (std::size_t at = 0; at <= name.size();) {
      const std::size_t end = std::min(name.find('.', at), name.size());
      const std::string_view part = std::string_view(name).substr(at, end - at);
      starts_.emplace_back(plain_.size(), at);
      plain_ += is_number(part) ? "*" : part;
      plain_ += end < name.size() ? "." : "";
      at = end + 1;
    }
    const auto [known, fresh] = ends_.try_emplace(plain_);
    if (fresh) {
      known->second = known_end();
    }
    if (const KnownEnd& end = known->second; end.places != nullptr) {
      const std::size_t prefix = starts_[end.part].second;
      auto place = end.places->find(std::string_view(name).substr(0, prefix));
      if (place == end.places->end()) {
        place = end.places->emplace(name.substr(0, prefix), std::vector<Known>()).first;
      }
      place->second.push_back({&name, prefix, end.distinctive});
    }
  }

  /// Of the name in `plain_`.
  KnownEnd known_end() {
    for (std::size_t part = 0; part < starts_.size(); ++part) {
      const auto tail = tails_.find(plain_.substr(starts_[part].first));
      if (tail != tails_.end()) {
        return {&roots_[tail->second.root], part, tail->second.distinctive};
      }
    }
    return {};
  }

  [[nodiscard]] const std::string& own(const std::string& key) const {
    return family_.prefixes.find(key)->second;
  }

  /// The prefix of most names; the family's own before others of equal count.
  [[nodiscard]] std::string most_common(const Root& root, std::string_view preferred) const {
    const Places& places = roots_.at(root);
    std::string best;
    std::size_t count = 0;
    for (const auto& [prefix, names] : places) {
      if (names.size() > count || (names.size() == count && prefix == preferred)) {
        best = prefix;
        count = names.size();
      }
    }
    return best;
  }

  /// The part that all prefixes of the family have in common ("model.") is replaced by what most
  /// names have there; where one root still has the family's own, that is right and the others are
  /// not.
  void choose_body() {
    std::optional<std::string> shared;
    for (const auto& [name, text] : family_.prefixes) {
      if (name != "M") {
        shared = shared ? common_parts(*shared, text) : text;
      }
    }
    shared_ = shared.value_or("");
    std::map<std::string, std::size_t> bodies;
    for (const auto& [root, places] : roots_) {
      if (root.key.empty()) {
        continue;
      }
      const std::string found = most_common(root, own(root.key));
      const std::string rest = own(root.key).substr(shared_.size());
      if (ends_with_parts(found, rest)) {
        bodies[found.substr(0, found.size() - rest.size())] += places.at(found).size();
      }
    }
    body_ = shared_;
    if (!bodies.empty() && !bodies.contains(shared_)) {
      body_ = std::max_element(bodies.begin(), bodies.end(), [](const auto& a, const auto& b) {
                return a.second < b.second;
              })->first;
    }
  }

  /// Names without a prefix stand at the top of what wraps the body.
  void choose_top() {
    const bool wrapped = ends_with_parts(body_, shared_);
    const std::string wrapper = wrapped ? body_.substr(0, body_.size() - shared_.size()) : "";
    std::map<std::string, std::size_t> tops;
    for (const auto& [root, places] : roots_) {
      if (root.key.empty()) {
        const std::string found = most_common(root, wrapper);
        tops[found] += places.at(found).size();
      }
    }
    top_ = wrapper;
    if (!tops.empty() && !(wrapped && tops.contains(wrapper))) {
      const std::string& around = wrapped ? wrapper : body_;
      std::size_t count = 0;
      for (const auto& [prefix, names] : tops) {
        if (around.starts_with(prefix) && names > count) {
          top_ = prefix;
          count = names;
        }
      }
    }
    const auto& also = family_.also_prefixes;
    if (repeats_a_part(std::string_view(body_).substr(top_.size())) &&
        std::find(also.begin(), also.end(), body_) == also.end()) {
      body_ = top_ + shared_;  // nested twice by mistake: no loader finds these names
    }
  }

  [[nodiscard]] std::string expected(const Root& root) const {
    return root.key.empty() ? top_ : body_ + own(root.key).substr(shared_.size());
  }

  [[nodiscard]] std::int64_t count(const std::string& key, const std::string& prefix) const {
    const auto places = roots_.find(Root{key, ""});
    if (places == roots_.end() || !places->second.contains(prefix)) {
      return 0;
    }
    return static_cast<std::int64_t>(places->second.at(prefix).size());
  }

  void describe() {
    for (const auto& [name, text] : family_.prefixes) {
      const std::string found = body_ + text.substr(std::min(shared_.size(), text.size()));
      if (name == "M" || found == text) {
        continue;
      }
      out_.prefixes[name] = found;
      out_.detected.push_back(
          {"prefix_" + name, found.empty() ? "none" : found,
           fmt::format("{} names start {}; transformers writes {}", thousands(count(name, found)),
                       found.empty() ? "without one" : "with it", text)});
    }
    out_.prefixes[""] = top_;
    if (!top_.empty()) {
      out_.detected.push_back({"prefix", top_, "the whole model stands below it"});
    }
  }

  /// Names of one root that stand elsewhere than the others say.
  void report(const Root& root, const Places& places) {
    const std::string wanted = expected(root);
    for (const auto& [prefix, names] : places) {
      if (prefix == wanted) {
        continue;
      }
      std::vector<const Known*> moved, twice;
      for (const Known& one : names) {
        const std::string there = wanted + one.name->substr(one.prefix);
        if (!headers_.contains(there)) {
          moved.push_back(&one);
        } else if (one.distinctive) {
          twice.push_back(&one);
        }
      }
      if (!twice.empty()) {
        report_twice(prefix, wanted, twice);
      } else if (!moved.empty()) {
        report_moved(prefix, wanted, moved);
      }
    }
  }

  void report_moved(const std::string& prefix, const std::string& wanted,
                    const std::vector<const Known*>& names) {
    const Known& first = *names.front();
    NameFault fault;
    fault.code = Code::PrefixDiffers;
    fault.subject = escaped(*first.name);
    for (const Known* one : names) {
      fault.subjects.push_back(*one->name);
    }
    fault.message = fmt::format(
        "{} HF tensor{} under another prefix than the rest of the model: {}, wanted {}",
        thousands(static_cast<std::int64_t>(names.size())),
        names.size() == 1 ? " stands" : "s stand", in_quotes(prefix), in_quotes(wanted));
    fault.found = escaped(*first.name);
    fault.wanted = wanted + escaped(first.name->substr(first.prefix));
    fault.help =
        fmt::format("rename them to start with {}: a loader skips names that it does not expect",
                    in_quotes(wanted));
    for (const Known* one : names) {
      out_.stands_as.emplace(wanted + one->name->substr(one->prefix), *one->name);
    }
    out_.faults.push_back(std::move(fault));
  }

  void report_twice(const std::string& prefix, const std::string& wanted,
                    const std::vector<const Known*>& names) {
    const Known& first = *names.front();
    const std::string other = wanted + first.name->substr(first.prefix);
    NameFault fault;
    fault.code = Code::DuplicateClaim;
    fault.subject = escaped(*first.name);
    for (const Known* one : names) {
      fault.subjects.push_back(*one->name);
    }
    fault.message = fmt::format("{} HF tensor{} under the prefixes {} and {}: {} and {}",
                                thousands(static_cast<std::int64_t>(names.size())),
                                names.size() == 1 ? " stands" : "s stand", in_quotes(prefix),
                                in_quotes(wanted), escaped(*first.name), escaped(other));
    fault.found = fmt::format("{} and {}", escaped(*first.name), escaped(other));
    fault.wanted = "exactly one of them";
    fault.help = prefix.empty()
                     ? std::string("two models lie in one directory: keep the files of one")
                     : fmt::format(
                           "two models lie in one directory: keep the files of one, or leave this "
                           "one out with --exclude {}",
                           shell_quoted(prefix + "*"));
    for (const Known* one : names) {
      out_.explained.push_back(*one->name);
    }
    out_.faults.push_back(std::move(fault));
  }

  const family::Family& family_;
  const Headers& headers_;
  std::unordered_map<std::string, Tail> tails_;
  std::map<Root, Places> roots_;
  std::unordered_map<std::string, KnownEnd> ends_;
  std::string plain_;                                        // of a name: numbers as '*'
  std::vector<std::pair<std::size_t, std::size_t>> starts_;  // its parts: in `plain_`, in the name
  std::string shared_, body_, top_;
  FoundPrefixes out_;
};

}  // namespace

FoundPrefixes find_prefixes(const family::Family& family, const Headers& headers) {
  return Finder(family, headers).run();
}

std::string prefix_form(std::string_view prefix) {
  return prefix.empty() ? "prefix" : fmt::format("prefix_{}", prefix);
}

}  // namespace bv::model
