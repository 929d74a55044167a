#include "core/checkpoint/config_edit.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/checkpoint/open_model.hpp"
#include "core/io/json_cursor.hpp"

namespace bv::checkpoint {
namespace {

constexpr std::string_view kDropped = "--drop-mtp";  // origin of a symbol that the option made 0

/// Where one member of an object stands in the text.
struct Member {
  std::string key;
  std::size_t key_begin = 0;    // of its opening quote
  std::size_t value_begin = 0;  // first byte
  std::size_t value_end = 0;    // behind the last
};

/// A walk over JSON that was parsed before: it finds ends and checks nothing. Words such as NaN,
/// which some writers of configs use, are values like numbers.
class Walk {
 public:
  Walk(std::string_view text, std::size_t at) : text_(text), at_(at) {}

  /// The members of the object that begins here.
  std::vector<Member> members() {
    std::vector<Member> out;
    skip_space();
    if (peek() != '{') {
      return out;
    }
    ++at_;
    for (skip_space(); at_ < text_.size() && peek() == '"'; skip_space()) {
      Member member;
      member.key_begin = at_;
      skip_string();
      io::JsonString key;
      key.raw = text_.substr(member.key_begin + 1, at_ - member.key_begin - 2);
      key.has_escape = key.raw.find('\\') != std::string_view::npos;
      member.key = io::unescaped(key);
      skip_space();
      ++at_;  // ':'
      skip_space();
      member.value_begin = at_;
      skip_value();
      member.value_end = at_;
      out.push_back(std::move(member));
      skip_space();
      at_ += peek() == ',' ? 1U : 0U;
    }
    return out;
  }

 private:
  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \n\r\t").find(peek()) != std::string::npos) {
      ++at_;
    }
  }
  void skip_string() {
    for (++at_; at_ < text_.size() && peek() != '"'; ++at_) {
      at_ += peek() == '\\' ? 1U : 0U;
    }
    at_ = std::min(at_ + 1, text_.size());
  }
  void skip_value() {
    int depth = 0;
    while (at_ < text_.size()) {
      const char c = peek();
      if (c == '"') {
        skip_string();
      } else if (c == '{' || c == '[') {
        ++depth;
        ++at_;
      } else if (c == '}' || c == ']') {
        if (depth == 0) {
          return;  // of the object around
        }
        --depth;
        ++at_;
      } else if (depth == 0 && std::string_view(", \n\r\t").find(c) != std::string::npos) {
        return;
      } else {
        ++at_;
        continue;  // inside a word or number
      }
      if (depth == 0) {
        return;
      }
    }
  }

  std::string_view text_;
  std::size_t at_;
};

std::string in_json(std::string_view text) {
  return nlohmann::json(std::string(text)).dump();
}

/// A new last member, with the white space that stands before the one that was last.
std::string with_added(std::string_view text, std::size_t object,
                       const std::vector<Member>& members, std::string_view key,
                       std::string_view value) {
  const std::string entry = in_json(key) + ": " + std::string(value);
  if (members.empty()) {
    const std::size_t brace = text.find('{', object);
    return std::string(text.substr(0, brace + 1)) + entry + std::string(text.substr(brace + 1));
  }
  const Member& last = members.back();
  const std::size_t space = text.find_last_not_of(" \n\r\t", last.key_begin - 1) + 1;
  return std::string(text.substr(0, last.value_end)) + "," +
         std::string(text.substr(space, last.key_begin - space)) + entry +
         std::string(text.substr(last.value_end));
}

}  // namespace

std::string with_member(std::string_view text, std::string_view path, std::string_view value) {
  std::size_t object = 0;
  while (true) {
    const std::size_t dot = std::min(path.find('.'), path.size());
    const std::string_view key = path.substr(0, dot);
    const bool is_last = dot == path.size();
    const std::vector<Member> members = Walk(text, object).members();
    const auto found = std::find_if(members.rbegin(), members.rend(),
                                    [&](const Member& one) { return one.key == key; });
    if (is_last && found == members.rend()) {
      return with_added(text, object, members, key, value);
    }
    if (found == members.rend() || (!is_last && text[found->value_begin] != '{')) {
      return "";
    }
    if (is_last) {
      return std::string(text.substr(0, found->value_begin)) + std::string(value) +
             std::string(text.substr(found->value_end));
    }
    object = found->value_begin;
    path.remove_prefix(dot + 1);
  }
}

std::string without_member(std::string_view text, std::string_view path) {
  std::size_t object = 0;
  std::string out(text);
  while (true) {
    const std::size_t dot = std::min(path.find('.'), path.size());
    const std::string_view key = path.substr(0, dot);
    const std::vector<Member> members = Walk(out, object).members();
    const auto found = std::find_if(members.rbegin(), members.rend(),
                                    [&](const Member& one) { return one.key == key; });
    if (found == members.rend()) {
      return out;
    }
    if (dot != path.size()) {
      object = found->value_begin;
      path.remove_prefix(dot + 1);
      continue;
    }
    const auto at = static_cast<std::size_t>(members.rend() - found) - 1;
    const std::size_t begin = at > 0 ? members[at - 1].value_end : found->key_begin;
    const std::size_t end = at > 0                    ? found->value_end
                            : at + 1 < members.size() ? members[at + 1].key_begin
                                                      : found->value_end;
    out.erase(begin, end - begin);  // again: a name may stand twice
  }
}

Result<std::string> carried_config(const HfModel& source, std::string text) {
  if (!source.resolve.drop_mtp || !source.base) {
    return text;
  }
  BV_TRY(config, parse_config(text, "config.json"));
  BV_TRY(before, model::read_geometry(*source.base, config));
  for (const auto& [symbol, origin] : source.model.geometry.origin) {
    const auto field = before.origin.find(symbol);
    if (origin != kDropped || field == before.origin.end() || before.get(symbol).value_or(0) == 0) {
      continue;
    }
    std::string changed = with_member(text, field->second, "0");
    text = changed.empty() ? std::move(text) : std::move(changed);
  }
  return text;
}

}  // namespace bv::checkpoint
