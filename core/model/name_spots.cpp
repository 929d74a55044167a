#include "core/model/name_spots.hpp"

#include <algorithm>
#include <charconv>

#include "core/family/expression.hpp"

namespace bv::model {
namespace {

/// The number that a part of a name is, nullopt for other parts and for more than 18 digits.
std::optional<std::int64_t> number_in(std::string_view part) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
  const bool digits = !part.empty() && part.front() >= '0' && part.front() <= '9' &&
                      (part.size() == 1 || part.front() != '0');
  return digits && error == std::errc() && end == part.data() + part.size() ? std::optional(number)
                                                                            : std::nullopt;
}

struct PlainName {
  std::string text;  // numbers as '*'
  std::vector<std::int64_t> numbers;
};

/// Calls `at_part(start, end_there)` behind each part and its dot: the text until there, and how
/// far that is in the name.
template <class AtPart>
PlainName plain_name(std::string_view name, const AtPart& at_part) {
  constexpr std::size_t kUsualNumbers = 4;
  PlainName out;
  out.text.reserve(name.size());
  out.numbers.reserve(kUsualNumbers);
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t end = std::min(name.find('.', at), name.size());
    const std::string_view part = name.substr(at, end - at);
    if (const auto number = number_in(part)) {
      out.numbers.push_back(*number);
      out.text += '*';
    } else {
      out.text += part;
    }
    out.text += end < name.size() ? "." : "";
    at_part(std::string_view(out.text), std::min(end + 1, name.size()));
    at = end + 1;
  }
  return out;
}

}  // namespace

NameSpots::NameSpots(const Model& model) : model_(model) {
  for (const family::Section& section : model.family->sections) {
    for (std::size_t i = section.first_rule; i < section.end_rule; ++i) {
      for (const auto& [source, name] : model.family->rules[i].hf) {
        learn(section, &model.family->rules[i], name);
      }
    }
    for (const family::OneSided& row : section.one_sided) {
      learn(section, &row.rule, row.rule.hf.front().second);
    }
    for (const family::Copy& copy : section.copies) {
      if (!section.variable.empty()) {
        learn(section, nullptr, copy.copy);
      }
    }
  }
}

void NameSpots::learn(const family::Section& section, const family::Rule* rule,
                      const std::string& text) {
  const auto pieces = family::split_template(text);
  BV_ASSERT(pieces.has_value());  // check_family has split it before
  std::string name = family::root_of(*model_.family, text).empty() ? model_.prefixes.at("") : "";
  Pattern pattern{&section, rule, {}};
  std::vector<PatternNumber> braces;
  for (const family::TemplatePiece& piece : *pieces) {
    const auto prefix = model_.prefixes.find(piece.text);
    if (!piece.braces || prefix != model_.prefixes.end()) {
      name += piece.braces ? prefix->second : piece.text;
      continue;
    }
    const auto words = family::identifiers(piece.text);
    const bool index = std::find(words.begin(), words.end(), section.variable) != words.end();
    const auto number_at = [&](std::int64_t variable) {
      return family::evaluate_with(
          piece.text, [&](std::string_view word) -> std::optional<std::int64_t> {
            return word == section.variable || word == "e" ? variable : model_.geometry.get(word);
          });
    };
    const auto base = number_at(0);
    const auto next = number_at(1);
    const bool expert = std::find(words.begin(), words.end(), "e") != words.end();
    if (!base || !next || ((index || expert) && *next <= *base)) {
      return;  // a size that this config does not have: no such name can stand here
    }
    name += "\x01";  // marks a number: templates hold no control characters
    braces.push_back({expert  ? Number::Expert
                      : index ? Number::Index
                              : Number::Constant,
                      *base, *next - *base});
  }
  std::size_t brace = 0;
  std::string plain;
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t end = std::min(name.find('.', at), name.size());
    const std::string part = name.substr(at, end - at);
    if (part == "\x01") {
      pattern.numbers.push_back(braces[brace++]);
      plain += '*';
    } else if (const auto number = number_in(part)) {
      pattern.numbers.push_back({Number::Constant, *number, 1});
      plain += '*';
    } else {
      plain += part;
    }
    plain += end < name.size() ? "." : "";
    if (end < name.size()) {
      starts_.insert(plain);
    }
    at = end + 1;
  }
  if (brace == braces.size()) {  // a number inside a part is matched nowhere: no family has one
    patterns_[plain].push_back(std::move(pattern));
  }
}

std::vector<NameSpot> NameSpots::find(std::string_view hf) const {
  const PlainName plain = plain_name(hf, [](std::string_view, std::size_t) {});
  std::vector<NameSpot> out;
  const auto found = patterns_.find(plain.text);
  if (found == patterns_.end()) {
    return out;
  }
  for (const Pattern& pattern : found->second) {
    NameSpot spot{pattern.section, pattern.rule};
    bool fits = pattern.numbers.size() == plain.numbers.size();
    for (std::size_t i = 0; fits && i < plain.numbers.size(); ++i) {
      const auto [kind, offset, step] = pattern.numbers[i];
      switch (kind) {
        case Number::Index:
          spot.index = (plain.numbers[i] - offset) / step;
          fits = (plain.numbers[i] - offset) % step == 0;
          spot.numbered = true;
          break;
        case Number::Expert:
          spot.expert = plain.numbers[i];
          break;
        case Number::Constant:
          fits = plain.numbers[i] == offset;
          break;
      }
    }
    if (fits) {
      out.push_back(spot);
    }
  }
  return out;
}

std::string_view NameSpots::known_start(std::string_view hf) const {
  std::size_t known = 0;
  bool all = true;
  plain_name(hf, [&](std::string_view start, std::size_t end_there) {
    all = all && starts_.contains(std::string(start));
    known = all ? end_there : known;
  });
  return hf.substr(0, known);
}

}  // namespace bv::model
