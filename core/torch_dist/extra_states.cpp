#include "core/torch_dist/extra_states.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"

namespace bv::torch_dist {
namespace {

constexpr std::string_view kExtra = "._extra_state";
constexpr std::string_view kShard = "/shard_";
constexpr std::int64_t kPartsMax = 1'000'000;

/// "2.0" -> {2, 0}; nullopt for another text.
std::optional<Shape> numbers_in(std::string_view text) {
  Shape out;
  while (true) {
    const std::size_t end = std::min(text.find('.'), text.size());
    std::int64_t number = -1;
    const auto read = std::from_chars(text.data(), text.data() + end, number);
    if (read.ec != std::errc() || read.ptr != text.data() + end || number < 0) {
      return std::nullopt;
    }
    out.push_back(number);
    if (end == text.size()) {
      return out;
    }
    text.remove_prefix(end + 1);
  }
}

/// The parts of one extra state: "KEY/shard_OFFSETS_SIZES".
struct Parts {
  Shape sizes;
  std::set<Shape> there;
};

struct Extra {
  std::string module;
  std::optional<Shape> place;  // of a part
  Shape sizes;
};

std::optional<Extra> extra_of(std::string_view key) {
  const std::size_t shard = std::min(key.find(kShard), key.size());
  const std::string_view state = key.substr(0, shard);
  if (!state.ends_with(kExtra)) {
    return std::nullopt;
  }
  Extra out{std::string(state.substr(0, state.size() - kExtra.size())), std::nullopt, {}};
  const std::string_view part =
      shard == key.size() ? std::string_view() : key.substr(shard + kShard.size());
  const std::size_t middle = part.find('_');
  if (middle != std::string_view::npos) {
    out.place = numbers_in(part.substr(0, middle));
    out.sizes = numbers_in(part.substr(middle + 1)).value_or(Shape{});
  }
  return out;
}

/// The next place of a grid, the last axis first; false behind the last one.
bool advance(Shape& place, const Shape& sizes) {
  for (std::size_t axis = place.size(); axis-- > 0;) {
    if (++place[axis] < sizes[axis]) {
      return true;
    }
    place[axis] = 0;
  }
  return false;
}

std::string dotted(const Shape& numbers) {
  return fmt::format("{}", fmt::join(numbers, "."));
}

void add_absent_parts(const std::string& module, const Parts& parts,
                      std::vector<std::string>& out) {
  const auto count = element_count(parts.sizes);
  if (parts.sizes.empty() || !count || *count == 0 || *count > kPartsMax) {
    return;
  }
  Shape place(parts.sizes.size(), 0);
  do {
    if (!parts.there.contains(place)) {
      out.push_back(fmt::format("{}{}{}{}_{}", io::printable(module), kExtra, kShard, dotted(place),
                                dotted(parts.sizes)));
    }
  } while (advance(place, parts.sizes));
}

/// "decoder.layers.*.mlp.linear_fc1"; the norms that Megatron calls so are of one class in all of a
/// model: "decoder: layernorm".
std::string kind_of(std::string_view module) {
  if (module.ends_with("layernorm")) {
    return std::string(module.substr(0, module.find('.'))) + ": layernorm";
  }
  std::string out;
  for (const char c : module) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit || out.empty() || out.back() != '*') {
      out += digit && (out.empty() || out.back() == '.') ? '*' : c;
    }
  }
  return out;
}

}  // namespace

std::vector<std::string> absent_states(const Metadata& metadata) {
  std::map<std::string, Parts> found;
  std::set<std::string> kinds;
  for (const auto& [key, slice] : metadata.objects) {
    if (const auto extra = extra_of(key)) {
      Parts& parts = found[extra->module];
      kinds.insert(kind_of(extra->module));
      if (extra->place && extra->place->size() == extra->sizes.size()) {
        parts.sizes = extra->sizes;
        parts.there.insert(*extra->place);
      }
    }
  }
  std::set<std::string> modules;  // with a tensor of their own
  for (const auto& [key, tensor] : metadata.tensors) {
    if (const auto extra = extra_of(key)) {  // one that is stored as a tensor
      found[extra->module];
      kinds.insert(kind_of(extra->module));
    } else if (const std::size_t dot = key.rfind('.'); dot != std::string::npos) {
      modules.insert(key.substr(0, dot));
    }
  }
  std::vector<std::string> out;
  for (const auto& [module, parts] : found) {
    add_absent_parts(module, parts, out);
  }
  for (const std::string& module : modules) {
    if (!found.contains(module) && kinds.contains(kind_of(module))) {
      out.push_back(io::printable(module) + std::string(kExtra));
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace bv::torch_dist
