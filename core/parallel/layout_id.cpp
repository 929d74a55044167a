// Names of layouts and shard files.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "core/base/text.hpp"
#include "core/parallel/parallel.hpp"

namespace bv::parallel {
namespace {

struct NamedSize {
  std::string_view name;
  std::int64_t size = 0;
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// Takes a decimal number off the front; no sign, no leading zero, at most kMaxSize.
std::optional<std::int64_t> take_number(std::string_view& rest) {
  std::size_t length = 0;
  while (length < rest.size() && is_digit(rest[length])) {
    ++length;
  }
  const std::string_view digits = rest.substr(0, length);
  std::int64_t number = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  const bool padded = digits.size() > 1 && digits.front() == '0';
  if (digits.empty() || parsed.ec != std::errc() || padded || number > kMaxSize) {
    return std::nullopt;
  }
  rest.remove_prefix(length);
  return number;
}

Error not_a_layout(std::string_view text, std::string why) {
  return fail(Code::BadValue, fmt::format("\"{}\" is not a layout: {}", escaped(text), why))
      .pair(escaped(text), "sizes like tp2pp1ep8etp1, with vpp and cp when above 1")
      .advise(
          "write each of tp, pp, ep, etp, vpp, cp at most once, followed by its size: "
          "tp2pp1ep8etp1");
}

}  // namespace

std::string layout_id(const Layout& layout) {
  std::string id = fmt::format("tp{}pp{}ep{}etp{}", layout.tp, layout.pp, layout.ep, layout.etp);
  if (layout.vpp > 1) {
    id += fmt::format("vpp{}", layout.vpp);
  }
  if (layout.cp > 1) {
    id += fmt::format("cp{}", layout.cp);
  }
  return id;
}

Result<Layout> layout_from_id(std::string_view text) {
  std::array<NamedSize, 6> sizes = {{{"tp"}, {"pp"}, {"ep"}, {"etp"}, {"vpp"}, {"cp"}}};
  std::string_view rest = text;
  if (text.empty()) {
    return not_a_layout(text, "it is empty");
  }
  while (!rest.empty()) {
    const auto letters =
        static_cast<std::size_t>(std::ranges::find_if(rest, is_digit) - rest.begin());
    const std::string_view name = rest.substr(0, letters);
    const auto found = std::ranges::find(sizes, name, &NamedSize::name);
    if (found == sizes.end()) {
      return not_a_layout(text, fmt::format("\"{}\" is not a parallel size", escaped(name)));
    }
    if (found->size != 0) {
      return not_a_layout(text, fmt::format("{} appears twice", name));
    }
    rest.remove_prefix(letters);
    const std::optional<std::int64_t> number = take_number(rest);
    if (!number || *number == 0) {
      return not_a_layout(
          text, fmt::format("the size of {} is not a number from 1 to {}", name, kMaxSize));
    }
    found->size = *number;
  }
  const auto given = [&](std::size_t at, std::int64_t otherwise) {
    return sizes.at(at).size == 0 ? otherwise : sizes.at(at).size;
  };
  Layout layout;
  layout.tp = given(0, 1);
  layout.pp = given(1, 1);
  layout.ep = given(2, 1);
  layout.etp = given(3, layout.tp);
  layout.vpp = given(4, 1);
  layout.cp = given(5, 1);
  return layout;
}

std::string shard_name(const ShardKey& key, const Layout& layout) {
  std::string shard = fmt::format("pp{}_tp{}_ep{}_etp{}", key.pp, key.tp, key.ep, key.etp);
  if (virtual_stages(layout) > 1) {
    shard += fmt::format("_vp{}", key.vp);
  }
  return shard;
}

std::optional<ShardKey> shard_from_name(std::string_view name) {
  ShardKey key;
  const std::array<std::pair<std::string_view, std::int64_t*>, 5> parts = {
      {{"pp", &key.pp}, {"_tp", &key.tp}, {"_ep", &key.ep}, {"_etp", &key.etp}, {"_vp", &key.vp}}};
  std::string_view rest = name;
  for (const auto& [prefix, slot] : parts) {
    if (rest.empty() && prefix == "_vp") {
      break;
    }
    if (!rest.starts_with(prefix)) {
      return std::nullopt;
    }
    rest.remove_prefix(prefix.size());
    const std::optional<std::int64_t> number = take_number(rest);
    if (!number) {
      return std::nullopt;
    }
    *slot = *number;
  }
  return rest.empty() ? std::optional(key) : std::nullopt;
}

}  // namespace bv::parallel
