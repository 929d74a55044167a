#include "core/verdict/verdict_json.hpp"

#include <charconv>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/verdict/bounded_json.hpp"
#include "core/verdict/source_place.hpp"

namespace bv::as_json {
namespace {

constexpr std::int64_t kExactLimit = std::int64_t{1} << 53;  // beyond it a double loses integers

}  // namespace

Json number(std::int64_t value) {
  return value > kExactLimit || value < -kExactLimit ? Json(std::to_string(value)) : Json(value);
}
Json number(std::uint64_t value) {
  return value > std::uint64_t{1} << 53 ? Json(std::to_string(value)) : Json(value);
}
Json text_or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

Json name_json(const std::string& untrusted) {
  return bounded(untrusted, kNameKeptMax);
}

bool carries_code(Outcome outcome) {
  return outcome != Outcome::Proved && outcome != Outcome::Held;
}

namespace {

Json numbers(const std::vector<std::int64_t>& values) {
  Json out = Json::array();
  for (const std::int64_t value : values) {
    out.push_back(number(value));
  }
  return out;
}

Json names_json(const std::vector<std::string>& untrusted) {
  Json out = Json::array();
  for (const std::string& one : untrusted) {
    out.push_back(name_json(one));
  }
  return out;
}

Json subject_json(const Verdict& verdict) {
  Json out = {{"megatron", name_json(verdict.megatron)}, {"hf", names_json(verdict.hf)}};
  if (!verdict.subjects.empty()) {
    out["all"] = names_json(verdict.subjects);
  }
  return out;
}

Json source_json(const std::string& source) {
  if (source.empty()) {
    return nullptr;
  }
  const SourcePlace place = source_place(source);
  return {{"file", place.file},
          {"line", place.line > 0 ? Json(place.line) : Json(nullptr)},
          {"text", source}};
}

/// "tp0 pp1" -> {"tp":0,"pp":1}; any other text stays text.
Json rank_json(const std::string& rank) {
  if (rank.empty()) {
    return nullptr;
  }
  Json out = Json::object();
  std::size_t at = 0;
  while (at < rank.size()) {
    const std::size_t end = std::min(rank.find(' ', at), rank.size());
    const std::string word = rank.substr(at, end - at);
    const std::size_t digits = word.find_first_of("0123456789");
    std::int64_t value = 0;
    const char* stop = word.data() + word.size();
    if (digits == 0 || digits == std::string::npos ||
        std::from_chars(word.data() + digits, stop, value).ptr != stop ||
        out.contains(word.substr(0, digits))) {
      return rank;
    }
    out[word.substr(0, digits)] = value;
    at = end + 1;
  }
  return out;
}

Json element_json(const ElementRef& element) {
  return {{"tensor", name_json(element.tensor)}, {"index", numbers(element.index)}};
}

Json counterexample_json(const Counterexample& example) {
  Json bits = nullptr;
  if (!example.wanted_bits.empty() || !example.found_bits.empty()) {
    bits = {{"wanted", example.wanted_bits}, {"found", example.found_bits}};
  }
  return {{"tensor", name_json(example.tensor)},  {"rank", rank_json(example.rank)},
          {"index", numbers(example.index)},      {"wanted", element_json(example.wanted)},
          {"found", element_json(example.found)}, {"bits", bits}};
}

}  // namespace

Json verdict_json(const Verdict& verdict, const std::string& id, bool with_details) {
  const bool coded = carries_code(verdict.outcome);
  const bool has_example = with_details && !verdict.counterexamples.empty();
  return {
      {"id", name_json(id)},
      {"claim", verdict.claim},
      {"code", coded ? Json(label(verdict.code)) : Json(nullptr)},
      {"outcome", name(verdict.outcome)},
      {"severity", coded ? Json(name(info(verdict.code).severity)) : Json(nullptr)},
      {"rule",
       {{"id", name_json(verdict.rule)},
        {"kind", verdict.kind},
        {"class", text_or_null(verdict.rule_class)},
        {"source", source_json(verdict.rule_source)}}},
      {"subject", subject_json(verdict)},
      {"layout", text_or_null(verdict.layout)},
      {"evidence", letters(verdict.evidence)},
      {"cases", number(verdict.cases)},
      {"refuted_cases", number(verdict.refuted_cases)},
      {"title", verdict.title},
      {"facts", with_details ? Json(verdict.facts) : Json::array()},
      {"found", verdict.found},
      {"wanted", verdict.wanted},
      {"extent", verdict.extent},
      {"why", verdict.why},
      {"counterexample",
       has_example ? counterexample_json(verdict.counterexamples.front()) : Json(nullptr)},
      {"map", nullptr},
      {"help", verdict.help},
      {"replay", verdict.replay},
      {"waiver", text_or_null(verdict.waiver)},
      {"first_seen", nullptr},
  };
}

}  // namespace bv::as_json
