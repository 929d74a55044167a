#include "core/verdict/source_place.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

namespace bv {
namespace {

/// What rules and settings are written in; "10:30" and "http://host:80" are no places.
constexpr std::array<std::string_view, 3> kEndings = {".py", ".json", ".toml"};

bool is_path_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-' || c == '.' || c == '/' || c == '+' || c == '@' || c == '~' ||
         static_cast<unsigned char>(c) >= 0x80;
}

bool is_file(std::string_view text) {
  return !text.starts_with("//") &&
         std::any_of(kEndings.begin(), kEndings.end(), [&](std::string_view ending) {
           return text.size() > ending.size() && text.ends_with(ending);
         });
}

}  // namespace

SourcePlace source_place(std::string_view text) {
  SourcePlace out;
  const std::size_t colon = text.find(':');
  out.file = text.substr(0, colon);
  if (colon == std::string_view::npos) {
    return out;
  }
  const char* begin = text.data() + colon + 1;
  int line = 0;
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), line);
  out.line = error == std::errc{} && end != begin && line > 0 ? line : 0;
  return out;
}

SourcePlace named_place(std::string_view sentence) {
  for (std::size_t colon = sentence.find(':'); colon != std::string_view::npos;
       colon = sentence.find(':', colon + 1)) {
    std::size_t begin = colon;
    while (begin > 0 && is_path_character(sentence[begin - 1])) {
      --begin;
    }
    const std::string_view file = sentence.substr(begin, colon - begin);
    const std::string_view rest = sentence.substr(colon + 1);
    const std::size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
    if (is_file(file) && digits > 0) {
      if (SourcePlace out = source_place(sentence.substr(begin)); out.line > 0) {
        return out;
      }
    }
  }
  return {};
}

SourcePlace source_place_of(const Verdict& verdict) {
  SourcePlace out = source_place(verdict.rule_source);
  if (out.line > 0) {
    return out;
  }
  std::vector<std::string_view> texts = {verdict.title};
  texts.insert(texts.end(), verdict.facts.begin(), verdict.facts.end());
  texts.insert(texts.end(), {verdict.found, verdict.wanted, verdict.why, verdict.help});
  for (const std::string_view text : texts) {
    if (SourcePlace named = named_place(text); named.line > 0) {
      return named;
    }
  }
  return out;
}

}  // namespace bv
