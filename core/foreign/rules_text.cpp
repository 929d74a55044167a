#include "core/foreign/rules_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/json_mistake.hpp"
#include "core/base/text.hpp"
#include "core/foreign/rules_file.hpp"

namespace bv::foreign {
namespace {

using nlohmann::json;

constexpr int kDepthMax = 32;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

Error not_json(std::string_view text, std::size_t byte, const std::string& file,
               std::string_view reason) {
  JsonMistake mistake = json_mistake(text, byte == 0 ? 0 : byte - 1, reason);
  Error error = fail(Code::RulesInvalid, fmt::format("{} is not JSON: {}", file, mistake.what))
                    .at(mistake.place(file))
                    .advise("fix that line, or export the rules again");
  error.facts = std::move(mistake.facts);
  return error;
}

Error unfit(const std::string& file, std::string message, std::string found, std::string wanted) {
  return fail(Code::RulesInvalid, std::move(message))
      .at(file)
      .pair(std::move(found), std::move(wanted))
      .advise("check that this is the rules file, or export the rules again");
}

}  // namespace

Result<json> parse_rules_json(std::string_view text, const std::string& file) {
  if (text.size() > kRulesFileBytesMax) {
    return unfit(file, fmt::format("{} is too large for a rules file", file),
                 human_bytes(text.size()),
                 fmt::format("at most {}", human_bytes(kRulesFileBytesMax)));
  }
  bool deep = false;
  try {
    auto out = json::parse(text, [&deep](int depth, json::parse_event_t, json&) {
      deep = deep || depth > kDepthMax;
      return depth <= kDepthMax;
    });
    if (deep) {
      return unfit(file, fmt::format("{} nests too many brackets", file),
                   fmt::format("more than {}", kDepthMax), fmt::format("at most {}", kDepthMax));
    }
    return out;
  } catch (const json::out_of_range& error) {
    return unfit(file, fmt::format("{} holds a number that is too large", file),
                 shortened(error.what(), 100, true), "numbers of at most 63 bits");
  } catch (const json::parse_error& error) {
    return not_json(text, error.byte, file, json_reason(error.what()));
  }
}

LineNumbers::LineNumbers(std::string_view text, std::string file)
    : file_(std::move(file)), starts_{0} {
  for (std::size_t at = text.find('\n'); at != std::string_view::npos;
       at = text.find('\n', at + 1)) {
    starts_.push_back(at + 1);
  }
}

std::string LineNumbers::at(std::size_t byte) const {
  const auto next = std::upper_bound(starts_.begin(), starts_.end(), byte);
  return fmt::format("{}:{}:{}", file_, next - starts_.begin(), byte - *std::prev(next) + 1);
}

std::size_t ListedPlace::of(std::string_view key) const {
  for (const auto& [name, at] : keys) {
    if (name == key) {
      return at;
    }
  }
  return begin;
}

namespace {

/// Walks over JSON that is known to be right.
class Walker {
 public:
  explicit Walker(std::string_view text)
      : text_(text), at_(text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0) {}

  /// Calls `use(key)` with the cursor at each value of the object here; it must go past the value.
  template <class Use>
  void members(Use use) {
    entries('}', [&] {
      const std::string_view key = string();
      skip_blanks();
      ++at_;  // ':'
      skip_blanks();
      use(key);
    });
  }

  template <class Use>
  void items(Use use) {
    entries(']', use);
  }

  [[nodiscard]] bool is_at(char c) {
    skip_blanks();
    return at_ < text_.size() && text_[at_] == c;
  }
  [[nodiscard]] std::size_t at() const { return at_; }

  void skip_value() {
    skip_blanks();
    int depth = 0;
    do {
      const char c = at_ < text_.size() ? text_[at_] : ']';
      if (c == '"') {
        string();
      } else {
        depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
        const bool scalar = depth == 0 && c != '}' && c != ']';
        at_ = scalar ? std::min(text_.find_first_of(",]}", at_), text_.size()) : at_ + 1;
      }
    } while (depth > 0 && at_ < text_.size());
  }

 private:
  void skip_blanks() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }

  std::string_view string() {
    const std::size_t begin = ++at_;
    while (at_ < text_.size() && text_[at_] != '"') {
      at_ += text_[at_] == '\\' ? 2U : 1U;
    }
    at_ = std::min(at_ + 1, text_.size());
    return text_.substr(begin, at_ - 1 - begin);
  }

  /// The entries of the object or list here, commas and brackets apart.
  template <class Use>
  void entries(char closing, Use use) {
    ++at_;
    while (!is_at(closing) && at_ < text_.size()) {
      const std::size_t before = at_;
      use();
      at_ += is_at(',') ? 1U : 0U;
      skip_blanks();
      if (at_ == before) {
        return;
      }
    }
    ++at_;
  }

  std::string_view text_;
  std::size_t at_;
};

}  // namespace

std::vector<ListedPlace> places_in_list(std::string_view text, std::string_view key) {
  std::vector<ListedPlace> out;
  Walker walker(text);
  if (!walker.is_at('{')) {
    return out;
  }
  walker.members([&](std::string_view name) {
    if (name != key || !walker.is_at('[')) {
      return walker.skip_value();
    }
    out.clear();  // of two keys of one name the last counts
    walker.items([&] {
      (void)walker.is_at('{');  // goes past the blanks
      out.push_back({walker.at(), {}});
      if (!walker.is_at('{')) {
        return walker.skip_value();
      }
      walker.members([&](std::string_view inner) {
        out.back().keys.emplace_back(inner, walker.at());
        walker.skip_value();
      });
    });
  });
  return out;
}

}  // namespace bv::foreign
